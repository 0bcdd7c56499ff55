# A program that uses the queue without a database library; started by
# scripts/demo-queue:
#
#     elixir --sname NAME scripts/demo-queue.exs ROUTER_NODE [MODEL]

[node, model] = System.argv()
router = {:llm_router, String.to_atom(node)}
true = Node.connect(String.to_atom(node))

opts = if model == "", do: %{}, else: %{model: model}
prompt = "Let the harbour master choose the language of each message."

task = {:generate_task, prompt, opts}
{:ok, id} = GenServer.call(router, {:enqueue, task, %{}})
IO.puts("request #{id} is stored")

{:ok, task} = GenServer.call(router, {:await, id, 600_000}, 601_000)
IO.puts("its answer: #{task.title}")
