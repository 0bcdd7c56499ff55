# The doctests of LLMRouter and the examples of docs/beam.md, against a router
# with a scripted model, and what must hold for its documentation; run by
# client_SUITE on a node of its own:
#
#     elixir --sname NAME --cookie COOKIE -pa DIR client.exs ROUTER_NODE

ExUnit.start(autorun: false, colors: [enabled: false])

[router] = System.argv()
true = Node.connect(String.to_atom(router))

named? = fn named?, tries ->
  case :global.whereis_name(:llm_router) do
    pid when is_pid(pid) -> pid
    _ when tries > 0 -> Process.sleep(50) && named?.(named?, tries - 1)
  end
end

named?.(named?, 100)

defmodule LLMRouterTest do
  use ExUnit.Case

  doctest LLMRouter

  # What Elixir's streams are made of.
  @not_in_elixir [:stream_open, :stream_next, :stream_close]

  # Streams raise by themselves; of the others an error is no failure.
  @without_bang [:stream, :stream_fold, :result, :cancel, :watch_task, :unwatch_task, :ping] ++
                  [:whereis, :child_spec]

  test "every function of the Erlang module is there" do
    for {name, arity} <- :llm_router.module_info(:exports),
        name not in [:module_info | @not_in_elixir] do
      assert function_exported?(LLMRouter, name, arity), "#{name}/#{arity} is missing"
    end
  end

  test "every function that can fail has one with a bang" do
    names = for {name, _arity} <- functions(), do: name

    for name <- Enum.uniq(names), name not in @without_bang do
      bang = :"#{name}!"
      assert bang in names or bang?(name), "#{bang} is missing"
    end
  end

  test "every function has documentation and a specification" do
    {:docs_v1, _, :elixir, _, %{"en" => _}, _, docs} = Code.fetch_docs(LLMRouter)
    {:ok, specs} = Code.Typespec.fetch_specs(LLMRouter)
    specified = for {{name, _arity}, _} <- specs, do: name

    for {{:function, name, _arity}, _, _, doc, _} <- docs do
      assert %{"en" => _} = doc, "#{name} has no documentation"
      assert name in specified, "#{name} has no specification"
    end
  end

  test "an error shows its code and message" do
    error = LLMRouter.Error.exception({:no_route, %{message: "none", provider: "x"}})
    assert %{code: :no_route, message: "none", details: %{provider: "x"}} = error
    assert Exception.message(error) == "no_route: none"
    assert_raise LLMRouter.Error, ~r/^invalid_request: /, fn -> LLMRouter.embed!(7) end
  end

  test "the examples of docs/beam.md run" do
    doc = File.read!(Path.join(__DIR__, "../docs/beam.md"))
    [_, client] = String.split(doc, "\n## Client\n")
    [section | _] = String.split(client, "\n## ")
    blocks = Regex.scan(~r/^```elixir\n(.*?)^```/ms, section, capture: :all_but_first)
    assert length(blocks) >= 2

    for [block] <- blocks do
      ExUnit.CaptureIO.capture_io(fn -> Code.eval_string(block, document: "# Cart\n") end)
    end
  end

  test "it is a child of a supervisor" do
    for opts <- [[mode: :external], %{mode: :external}] do
      assert %{id: _, start: {:llm_router_sup, :start_link, [_]}, type: :supervisor} =
               Supervisor.child_spec({LLMRouter, opts}, [])
    end
  end

  test "nothing is left in the mailbox" do
    Enum.take(LLMRouter.stream(:simple, [%{role: :user, content: "Hi"}]), 1)
    refute_receive _, 50
  end

  defp functions do
    for {name, _arity} = function <- LLMRouter.__info__(:functions), do: function
  end

  defp bang?(name), do: String.ends_with?(Atom.to_string(name), "!")
end

%{failures: failures} = ExUnit.run()
System.halt(min(failures, 1))
