defmodule Mix.Tasks.Compile.LlmRouterProgram do
  @moduledoc false
  # Runs make for the C program, as `mix compile` of this project and of those
  # that depend on it. All that is made goes below _build/ENV/lib/llm_router.
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    File.mkdir_p!(Path.join(app_path(), "make/priv"))
    link_priv()
    renew_app_file()
    before = built()

    case make(["-j#{System.schedulers_online()}", "WERROR=", "dependency"]) do
      0 -> {if(built() == before, do: :noop, else: :ok), []}
      _ -> {:error, []}
    end
  end

  @impl true
  def clean do
    make(["clean"])
    :ok
  end

  # Mix has just made priv a link to the sources' own, where nothing is to be
  # written: others may use them, and they may be read-only.
  defp link_priv do
    priv = Path.join(app_path(), "priv")
    File.rm_rf!(priv)
    File.ln_s!("make/priv", priv)
  end

  # Mix looks only at whether mix.exs is newer, and that reads the other.
  defp renew_app_file do
    app_file = Path.join(app_path(), "ebin/llm_router.app")
    app_src = Path.join(__DIR__, "src/llm_router.app.src")
    if Mix.Utils.stale?([app_src], [app_file]), do: File.rm(app_file)
  end

  defp built, do: File.stat(Path.join(app_path(), "make/priv/llm_router"))

  # MAKEFLAGS: mix may have been called by another make, with other variables.
  defp make(args) do
    env = [{"MIX_APP_PATH", app_path()}, {"MIX_ENV", to_string(Mix.env())}, {"MAKEFLAGS", nil}]

    options = [
      cd: __DIR__,
      env: env ++ erl_interface(),
      into: IO.stream(),
      stderr_to_stdout: true
    ]

    case System.find_executable("make") do
      nil -> Mix.raise("llm_router: to build it, install make (docs/beam.md says more)")
      make -> System.cmd(make, args, options) |> elem(1)
    end
  end

  # That of the Erlang that runs, unless the environment names another (when
  # cross-compiling); make looks for itself when there is none.
  defp erl_interface do
    case :code.lib_dir(:erl_interface) do
      {:error, :bad_name} ->
        []

      dir ->
        for {name, part} <- [{"ERL_EI_INCLUDE_DIR", "include"}, {"ERL_EI_LIBDIR", "lib"}],
            System.get_env(name) == nil,
            do: {name, Path.join(to_string(dir), part)}
    end
  end

  defp app_path, do: Mix.Project.app_path()
end

defmodule LLMRouter.MixProject do
  use Mix.Project

  # What Mix and rebar3 both say of the application is said there, once.
  app_src = Path.join(__DIR__, "src/llm_router.app.src")
  {:ok, [{:application, :llm_router, app}]} = :file.consult(app_src)
  @app app

  def project do
    [
      app: :llm_router,
      version: to_string(@app[:vsn]),
      description: to_string(@app[:description]),
      elixir: "~> 1.14",
      compilers: [:llm_router_program | Mix.compilers()],
      deps: [],
      package: package()
    ]
  end

  def application do
    [
      mod: @app[:mod],
      registered: @app[:registered],
      extra_applications: for(name <- @app[:optional_applications], do: {name, :optional})
    ]
  end

  defp package do
    [
      licenses: @app[:licenses],
      links: %{},
      files:
        ~w(Makefile include lib mix.exs priv/*.json priv/prompts priv/schemas priv/scripts) ++
          ~w(priv/sql rebar.config scripts/check-libraries src .formatter.exs) ++
          ~w(CHANGELOG.md LICENSE README.md docs/*.md) ++
          (Path.wildcard("c_src/*") -- ~w(c_src/tests c_src/fuzz))
    ]
  end
end
