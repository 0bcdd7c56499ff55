# Calls a router in every way that an Elixir program does; run by calls_SUITE
# on a node of its own:
#
#     elixir --sname NAME --cookie COOKIE calls.exs ROUTER_NODE

[router] = System.argv()
node = String.to_atom(router)
messages = [%{role: :user, content: "Say hello to me"}]
prompt = "Add OAuth2 login. It must work with Google."

true = Node.connect(node)
:pong = Node.ping(node)
true = node in Node.list(:hidden)

named? = fn named?, tries ->
  case :global.whereis_name(:llm_router) do
    pid when is_pid(pid) -> pid
    _ when tries > 0 -> Process.sleep(50) && named?.(named?, tries - 1)
  end
end

pid = named?.(named?, 100)

:pong = GenServer.call({:global, :llm_router}, :ping)
:pong = GenServer.call(pid, :ping)
:pong = GenServer.call({:llm_router, node}, :ping)
:pong = GenServer.call({LLMRouter.Server, node}, :ping)
{[{^node, :pong}], []} = GenServer.multi_call([node], :llm_router, :ping)
:pong = :rpc.call(node, LLMRouter.Server, :ping, [])
:pong = :erpc.call(node, LLMRouter.Server, :ping, [])
true = :erpc.call(node, Process, :alive?, [pid])

{:ok, %{title: "Add OAuth2 login", priority: :high, test_strategy: <<_::binary>>}} =
  GenServer.call({:global, :llm_router}, {:generate_task, prompt}, 10_000)

{:ok, [%{id: 1}, %{id: 2, dependencies: [1]}]} =
  GenServer.call(
    {:global, :llm_router},
    {:parse_prd, "## Cart\nGoods must be kept.\n## Payment\nCards must be taken.\n", 2,
     timeout: 9_000},
    10_000
  )

{:ok, %{owner: "ann", subtasks: [%{id: 1}, %{id: 2}]}} =
  :rpc.call(node, LLMRouter.Server, :expand_task, [
    %{title: "Build the login page", owner: "ann"},
    %{num: 2}
  ])

{:ok, %{"title" => "Build it", "subtasks" => [%{"id" => 1} | _]}} =
  :erpc.call(node, LLMRouter.Server, :expand_task, [%{"title" => "Build it"}])

{:ok, %{text: "You wrote: Say hello to me", finish_reason: :stop}} =
  GenServer.call({:global, :llm_router}, {:call, :simple, messages}, 10_000)

{:ok, %{text: "You wrote: Say hello to me"}} =
  node
  |> :rpc.async_call(LLMRouter.Server, :call_with_prompt, [:medium, "Say hello to me"])
  |> :rpc.yield()

{:ok, [%{task_id: 7, complexity_score: 1}, %{task_id: nil, task_title: "Fix it"}]} =
  GenServer.call(
    {:global, :llm_router},
    {:analyze_complexity, [%{id: 7, title: "Build the login page"}, "Fix it"]},
    10_000
  )

{:ok, %{findings: "What is known of Which queue?", sources: [_, _]}} =
  :rpc.call(node, LLMRouter.Server, :research, ["Which queue?", nil, [timeout: 9_000]])

{:ok, %{embeddings: [[x, _, _], [y, _, _]], model: <<_::binary>>}} =
  :erpc.call(node, LLMRouter.Server, :embed, [["one", "three"]])

true = x < y

schema = %{
  "type" => "object",
  "properties" => %{age: %{type: [:integer, :null]}},
  "required" => ["age"]
}

{:error, {:invalid_output, %{message: "the answer holds no JSON"}}} =
  GenServer.call({:global, :llm_router}, {:call_with_prompt, :simple, "How old?", schema: schema})

{:ok, ref} = GenServer.call({:global, :llm_router}, {:stream, :simple, messages})

receive_all = fn receive_all, text ->
  receive do
    {:llm_stream, ^ref, {:delta, more}} -> receive_all.(receive_all, text <> more)
    {:llm_stream, ^ref, {:done, %{text: ^text}}} -> text
  after
    10_000 -> raise "no end of a stream"
  end
end

"You wrote: Say hello to me" = receive_all.(receive_all, "")

send(pid, {:research, "Which queue?", "For jobs", self(), ref})

receive do
  {:llm_response, ^ref, {:ok, %{sources: ["https://example.com/a" | _]}}} -> :ok
after
  10_000 -> raise "no answer to a message"
end

:ok = GenServer.cast({:llm_router, node}, {:generate_task, prompt, self()})

receive do
  {:llm_result, :generate_task, {:ok, %{title: "Add OAuth2 login"}}} -> :ok
after
  10_000 -> raise "no answer to a cast"
end

send(pid, {:prd_request, self(), self(), "## Cart\nGoods must be kept.\n", 1})

receive do
  {:prd_response, {:ok, [%{title: "Cart"}]}} -> :ok
after
  10_000 -> raise "no answer to a message"
end

answers =
  1..10
  |> Enum.map(fn n ->
    Task.async(fn ->
      GenServer.call({:global, :llm_router}, {:call_with_prompt, :simple, "I am #{n}"}, 10_000)
    end)
  end)
  |> Task.await_many(15_000)

for {{:ok, answer}, n} <- Enum.zip(answers, 1..10) do
  ^n = answer.text |> String.replace("You wrote: I am ", "") |> String.to_integer()
end

10 = length(answers)

{:error, {:unknown_request, %{message: <<_::binary>>}}} =
  GenServer.call({:global, :llm_router}, {:frobnicate, 1})

{:badrpc, {:EXIT, {:undef, [{LLMRouter.Server, :frobnicate, [], []} | _]}}} =
  :rpc.call(node, LLMRouter.Server, :frobnicate, [])

{:noproc, _} =
  try do
    GenServer.call({:nobody, node}, :ping)
  catch
    :exit, reason -> reason
  end

{:messages, []} = Process.info(self(), :messages)
IO.puts("all calls answered")
