defmodule LLMRouter do
  @moduledoc """
  The router's client for Elixir.

      iex> {:ok, task} = LLMRouter.generate_task("Add a login with OAuth2")
      iex> {task.id, task.status, is_binary(task.title)}
      {1, :pending, true}

  Every function finds the router, asks it, and returns `{:ok, value}` or
  `{:error, {code, details}}`: values are maps with atoms as keys, as
  docs/calling.md describes them, and docs/errors.md has the codes. Nothing
  exits: without a router the code is `:router_down`, and `:timeout` when it does
  not answer in time. The functions with a bang return the value itself and
  raise `LLMRouter.Error`.

  Options are a keyword list or a map. The router checks them and refuses what it
  does not know:

      iex> {:error, {code, details}} = LLMRouter.generate_task("Add it", langauge: :de)
      iex> {code, details.path}
      {:invalid_request, "opts.langauge"}

  A request takes at most what its option `timeout` says, in milliseconds, else
  what the router is configured with (5 minutes); what asks no provider, such as
  `stats/0`, 5 seconds. No message is ever left behind.

  As a child of a supervisor it runs the router: see `child_spec/1`.
  """

  alias LLMRouter.Error

  @type reason :: :llm_router.reason()
  @type options :: :llm_router.options()
  @type text :: :llm_router.text()
  @type complexity :: :llm_router.complexity()
  @type message :: :llm_router.message()
  @type result(value) :: {:ok, value} | {:error, reason}

  @typedoc """
  A value, what `keys: :strings` makes of it, or what `return: :full` puts around
  it.
  """
  @type answer(value) :: value | :llm_router.strings() | :llm_router.full(value)

  @doc """
  Runs a router below a supervisor:

      children = [{LLMRouter, config: %{limits: %{in_flight: 100}}}]

  Options go before those of `config :llm_router`; docs/beam.md has them.

      iex> LLMRouter.child_spec(start_timeout: 5000).id
      LLMRouter
  """
  @spec child_spec(keyword | map) :: :supervisor.child_spec()
  def child_spec(opts), do: %{:llm_router_sup.child_spec(opts) | id: __MODULE__}

  # ------------------------------------------------------------------- tasks

  @doc """
  A task made of a request in plain words.

      iex> {:ok, task} = LLMRouter.generate_task("It must be fast", language: :en)
      iex> task.dependencies
      []
  """
  @spec generate_task(text, options) :: result(answer(:llm_router.task()))
  defdelegate generate_task(prompt, opts \\ []), to: :llm_router

  @doc "As `generate_task/2`, but returns the task or raises."
  @spec generate_task!(text, options) :: answer(:llm_router.task())
  def generate_task!(prompt, opts \\ []), do: value!(generate_task(prompt, opts))

  @doc """
  The tasks that a requirements document asks for: `num_tasks` of them, or as many
  as the model thinks right when it is 0.

      iex> {:ok, tasks} = LLMRouter.parse_prd("# Cart\\nGoods must be kept.", 2)
      iex> Enum.map(tasks, & &1.id)
      [1, 2]
  """
  @spec parse_prd(text, 0..100, options) :: result(answer([:llm_router.task()]))
  defdelegate parse_prd(content, num_tasks, opts \\ []), to: :llm_router

  @doc "As `parse_prd/3`, but returns the tasks or raises."
  @spec parse_prd!(text, 0..100, options) :: answer([:llm_router.task()])
  def parse_prd!(content, num_tasks, opts \\ []) do
    value!(parse_prd(content, num_tasks, opts))
  end

  @doc """
  The task as it was given, with `subtasks` filled: 5 of them, or as many as the
  option `num` says.

      iex> {:ok, task} = LLMRouter.expand_task(%{title: "Build it", owner: "ann"}, num: 2)
      iex> {task.owner, length(task.subtasks)}
      {"ann", 2}
  """
  @spec expand_task(map | text, options) :: result(answer(map))
  defdelegate expand_task(task_or_title, opts \\ []), to: :llm_router

  @doc "As `expand_task/2`, but returns the task or raises."
  @spec expand_task!(map | text, options) :: answer(map)
  def expand_task!(task_or_title, opts \\ []), do: value!(expand_task(task_or_title, opts))

  @doc """
  How hard each of the tasks is, in their order.

      iex> {:ok, [analysis]} = LLMRouter.analyze_complexity([%{id: 7, title: "Fix it"}])
      iex> {analysis.task_id, analysis.complexity_score in 1..10}
      {7, true}
  """
  @spec analyze_complexity([map | text], options) ::
          result(answer([:llm_router.analysis()]))
  defdelegate analyze_complexity(tasks, opts \\ []), to: :llm_router

  @doc "As `analyze_complexity/2`, but returns the analyses or raises."
  @spec analyze_complexity!([map | text], options) :: answer([:llm_router.analysis()])
  def analyze_complexity!(tasks, opts \\ []), do: value!(analyze_complexity(tasks, opts))

  @doc """
  What is known of a topic. `context` may be empty or `nil`.

      iex> {:ok, research} = LLMRouter.research("Which queue?", "For jobs")
      iex> is_binary(research.findings) and is_list(research.sources)
      true
  """
  @spec research(text, text | nil, options) :: result(answer(:llm_router.findings()))
  defdelegate research(topic, context, opts \\ []), to: :llm_router

  @doc "As `research/3`, but returns the findings or raises."
  @spec research!(text, text | nil, options) :: answer(:llm_router.findings())
  def research!(topic, context, opts \\ []), do: value!(research(topic, context, opts))

  # ------------------------------------------------------------------ models

  @doc """
  A model's answer to a conversation. `complexity` is `:simple`, `:medium`,
  `:complex`, or the id of a model.

      iex> messages = [%{role: :user, content: "Say hello"}]
      iex> {:ok, response} = LLMRouter.call(:simple, messages, max_tokens: 100)
      iex> response.finish_reason
      :stop
  """
  @spec call(complexity, [message], options) :: result(answer(:llm_router.response()))
  defdelegate call(complexity, messages, opts \\ []), to: :llm_router

  @doc "As `call/3`, but returns the response or raises."
  @spec call!(complexity, [message], options) :: answer(:llm_router.response())
  def call!(complexity, messages, opts \\ []), do: value!(call(complexity, messages, opts))

  @doc """
  A model's answer to one message.

      iex> LLMRouter.call_with_prompt!(:simple, "Say hello").text |> is_binary()
      true
  """
  @spec call_with_prompt(complexity, text, options) ::
          result(answer(:llm_router.response()))
  defdelegate call_with_prompt(complexity, prompt, opts \\ []), to: :llm_router

  @doc "As `call_with_prompt/3`, but returns the response or raises."
  @spec call_with_prompt!(complexity, text, options) :: answer(:llm_router.response())
  def call_with_prompt!(complexity, prompt, opts \\ []) do
    value!(call_with_prompt(complexity, prompt, opts))
  end

  @doc "A model's answer to one message under a system message."
  @spec call_with_system(complexity, text, text, options) ::
          result(answer(:llm_router.response()))
  defdelegate call_with_system(complexity, system, user, opts \\ []), to: :llm_router

  @doc "As `call_with_system/4`, but returns the response or raises."
  @spec call_with_system!(complexity, text, text, options) ::
          answer(:llm_router.response())
  def call_with_system!(complexity, system, user, opts \\ []) do
    value!(call_with_system(complexity, system, user, opts))
  end

  @doc "A model's answer to the messages that a Lua script makes of `context`."
  @spec call_with_script(text, term, options) :: result(answer(:llm_router.response()))
  defdelegate call_with_script(path, context, opts \\ []), to: :llm_router

  @doc "As `call_with_script/3`, but returns the response or raises."
  @spec call_with_script!(text, term, options) :: answer(:llm_router.response())
  def call_with_script!(path, context, opts \\ []) do
    value!(call_with_script(path, context, opts))
  end

  @doc """
  A vector for each text, in their order.

      iex> {:ok, %{embeddings: vectors}} = LLMRouter.embed(["one", "two"])
      iex> length(vectors)
      2
  """
  @spec embed(text | [text], options) :: result(answer(:llm_router.embeddings()))
  defdelegate embed(texts, opts \\ []), to: :llm_router

  @doc "As `embed/2`, but returns the embeddings or raises."
  @spec embed!(text | [text], options) :: answer(:llm_router.embeddings())
  def embed!(texts, opts \\ []), do: value!(embed(texts, opts))

  @doc """
  Which model would be asked. No provider is.

      iex> {:ok, %{model: model}} = LLMRouter.select_model(:simple, :chat)
      iex> is_binary(model)
      true
  """
  @spec select_model(complexity, atom | text, options) ::
          result(answer(:llm_router.selection()))
  defdelegate select_model(complexity, task_type, opts \\ []), to: :llm_router

  @doc "As `select_model/3`, but returns the selection or raises."
  @spec select_model!(complexity, atom | text, options) :: answer(:llm_router.selection())
  def select_model!(complexity, task_type, opts \\ []) do
    value!(select_model(complexity, task_type, opts))
  end

  # ----------------------------------------------------------------- streams

  @doc """
  A model's answer as a lazy enumerable of its parts, which come as the model
  writes them.

      iex> LLMRouter.stream(:simple, [%{role: :user, content: "Hi"}]) |> Enum.join()
      "You wrote: Hi"

  Nothing is asked before the first part is taken; each enumeration asks anew. Who
  stops taking parts (`Enum.take/2`, an exception) cancels the request, and no
  message is left behind. A failure raises `LLMRouter.Error`, also after parts
  were taken. For the whole response, with its usage and cost, see
  `stream_fold/5`.
  """
  @spec stream(complexity, [message], options) :: Enumerable.t()
  def stream(complexity, messages, opts \\ []) do
    Stream.resource(
      fn -> value!(:llm_router.stream_open(complexity, messages, opts)) end,
      &next_part/1,
      &:llm_router.stream_close/1
    )
  end

  defp next_part(stream) do
    case :llm_router.stream_next(stream) do
      {:delta, text} -> {[text], stream}
      {:done, _response} -> {:halt, stream}
      {:error, reason} -> raise Error, reason
    end
  end

  @doc """
  Calls `fun` with each part of an answer and what it returned for the part before
  (at first `acc`). Returns the whole response and what `fun` returned last.

      iex> {:ok, response, size} =
      ...>   LLMRouter.stream_fold(&(byte_size(&1) + &2), 0, :simple, [
      ...>     %{role: :user, content: "Hi"}
      ...>   ])
      iex> byte_size(response.text) == size
      true
  """
  @spec stream_fold((String.t(), acc -> acc), acc, complexity, [message], options) ::
          {:ok, answer(:llm_router.response()), acc} | {:error, reason}
        when acc: term
  defdelegate stream_fold(fun, acc, complexity, messages, opts \\ []), to: :llm_router

  # ------------------------------------------------------------------- queue

  @doc """
  Puts an operation into the PostgreSQL queue (docs/queue.md). Returns its request
  id when it is stored.

      {:ok, id} = LLMRouter.enqueue({:parse_prd, text, 5})
      {:ok, tasks} = LLMRouter.await(id, 60_000)
  """
  @spec enqueue(:llm_router.operation(), options) :: result(String.t())
  defdelegate enqueue(op, opts \\ []), to: :llm_router

  @doc "As `enqueue/2`, but returns the request id or raises."
  @spec enqueue!(:llm_router.operation(), options) :: String.t()
  def enqueue!(op, opts \\ []), do: value!(enqueue(op, opts))

  @doc """
  Waits for the result of an operation in the queue, for `timeout` milliseconds at
  most (`:infinity` is an hour).
  """
  @spec await(:llm_router.request_id(), timeout) :: result(term)
  defdelegate await(request_id, timeout \\ :infinity), to: :llm_router

  @doc "As `await/2`, but returns the value or raises."
  @spec await!(:llm_router.request_id(), timeout) :: term
  def await!(request_id, timeout \\ :infinity), do: value!(await(request_id, timeout))

  @doc "The result of an operation in the queue, or `:pending` when there is none."
  @spec result(:llm_router.request_id()) :: result(term) | :pending
  defdelegate result(request_id), to: :llm_router

  # ----------------------------------------------------------------- control

  @doc """
  Takes a request back, by its `request_id`. Who waits for it gets the error
  `:cancelled`.

      iex> LLMRouter.cancel("nothing of that id")
      false
  """
  @spec cancel(reference | :llm_router.request_id()) :: boolean
  defdelegate cancel(ref_or_request_id), to: :llm_router

  @doc """
  From now on the calling process gets `{:task_update, id, update}` and
  `{:task_completed, id}` for the requests with the option `task_id: id`.
  """
  @spec watch_task(:llm_router.task_id()) :: :ok | {:error, reason}
  defdelegate watch_task(task_id), to: :llm_router

  @doc "Ends what `watch_task/1` began."
  @spec unwatch_task(:llm_router.task_id()) :: :ok | {:error, reason}
  defdelegate unwatch_task(task_id), to: :llm_router

  @doc "The router's figures."
  @spec stats() :: result(map)
  defdelegate stats(), to: :llm_router

  @doc "As `stats/0`, but returns the figures or raises."
  @spec stats!() :: map
  def stats!, do: value!(stats())

  @doc "What the router's status page shows, as JSON text."
  @spec status() :: result(binary)
  defdelegate status(), to: :llm_router

  @doc "As `status/0`, but returns the text or raises."
  @spec status!() :: binary
  def status!, do: value!(status())

  @doc "How the router and its providers are."
  @spec health() :: result(map)
  defdelegate health(), to: :llm_router

  @doc "As `health/0`, but returns the map or raises."
  @spec health!() :: map
  def health!, do: value!(health())

  @doc "The router's version."
  @spec version() :: result(map)
  defdelegate version(), to: :llm_router

  @doc "As `version/0`, but returns the map or raises."
  @spec version!() :: map
  def version!, do: value!(version())

  @doc "The models that it can ask."
  @spec models() :: result(map)
  defdelegate models(), to: :llm_router

  @doc "As `models/0`, but returns the map or raises."
  @spec models!() :: map
  def models!, do: value!(models())

  @doc """
  Is there a router that answers?

      iex> LLMRouter.ping()
      :pong
  """
  @spec ping() :: :pong | :pang
  defdelegate ping(), to: :llm_router

  @doc """
  The router that is asked: that of the global name `:llm_router`, else of the
  configured node, else of a Horde registry.
  """
  @spec whereis() :: {:ok, :llm_router.server()} | {:error, :router_down}
  defdelegate whereis(), to: :llm_router

  @doc """
  Asks any operation of docs/calling.md, its options in it.

      iex> LLMRouter.request({:determine_complexity_for_task, :qa})
      {:ok, :complex}
  """
  @spec request(:llm_router.operation()) :: result(term)
  defdelegate request(op), to: :llm_router

  @doc "The same with options to be put behind the operation's arguments."
  @spec request(:llm_router.operation(), options) :: result(term)
  defdelegate request(op, opts), to: :llm_router

  @doc "As `request/1`, but returns the value or raises."
  @spec request!(:llm_router.operation()) :: term
  def request!(op), do: value!(request(op))

  @doc "As `request/2`, but returns the value or raises."
  @spec request!(:llm_router.operation(), options) :: term
  def request!(op, opts), do: value!(request(op, opts))

  defp value!({:ok, value}), do: value
  defp value!({:error, reason}), do: raise(Error, reason)
end
