# What a program of a cluster does with the router; started by scripts/demo:
#
#     elixir --sname NAME scripts/demo.exs ROUTER_NODE DOCUMENT [MODEL]

defmodule Demo do
  @width 78
  # A model that runs on a desk may take its time.
  @timeout 600_000

  def main([router, document, model]) do
    node = String.to_atom(router)
    true = Node.connect(node)
    :ok = await_name(100)
    opts = if model == "", do: %{timeout: @timeout}, else: %{timeout: @timeout, model: model}

    tasks =
      show("GenServer.call({:global, :llm_router}, {:parse_prd, document, 10, opts})", fn ->
        GenServer.call(
          {:global, :llm_router},
          {:parse_prd, File.read!(document), 10, opts},
          @timeout
        )
      end)

    largest = Enum.max_by(tasks, &(&1.estimated_hours || 0))

    show("GenServer.call({:global, :llm_router}, {:expand_task, task, opts})", fn ->
      GenServer.call(
        {:global, :llm_router},
        {:expand_task, largest, Map.put(opts, :num, 3)},
        @timeout
      )
    end)

    prompt = "Let skippers see tomorrow's weather and tides beside their booking."

    show(":rpc.call(node, LLMRouter.Server, :generate_task, [prompt, opts])", fn ->
      :rpc.call(node, LLMRouter.Server, :generate_task, [prompt, opts])
    end)
  end

  # The router registers its global name as soon as it is connected.
  defp await_name(0), do: raise("the global name :llm_router is not there")

  defp await_name(tries) do
    if :global.whereis_name(:llm_router) == :undefined do
      Process.sleep(50)
      await_name(tries - 1)
    else
      :ok
    end
  end

  defp show(call, fun) do
    IO.puts([String.duplicate("=", @width), "\n", call])
    {microseconds, answer} = :timer.tc(fun)

    case answer do
      {:ok, value} ->
        IO.puts("answered in #{Float.round(microseconds / 1.0e6, 2)} s\n")
        print(value)
        value

      other ->
        IO.puts(:stderr, "failed: #{inspect(other, pretty: true)}")
        System.halt(1)
    end
  end

  defp print(tasks) when is_list(tasks), do: Enum.each(tasks, &print(&1, 0))
  defp print(task), do: print(task, 0)

  defp print(task, indent) do
    number = task.id |> to_string() |> String.pad_leading(3)
    [first | rest] = wrap(String.split(task.title), @width - indent - 5)
    IO.puts([String.duplicate(" ", indent), number, ". ", first])
    paragraph(Enum.join(rest, " "), indent + 5)

    facts =
      [
        task[:priority] && "priority #{task.priority}",
        task.estimated_hours && "#{task.estimated_hours} h",
        task.dependencies != [] && "after #{Enum.join(task.dependencies, ", ")}"
      ]
      |> Enum.filter(& &1)
      |> Enum.join(", ")

    paragraph(facts, indent + 5)
    paragraph(task.description, indent + 5)
    if task.test_strategy, do: paragraph("Test: " <> task.test_strategy, indent + 5)
    IO.puts("")
    Enum.each(Map.get(task, :subtasks, []), &print(&1, indent + 5))
  end

  defp paragraph(text, _indent) when text in [nil, ""], do: :ok

  defp paragraph(text, indent) do
    for line <- wrap(String.split(text), @width - indent) do
      IO.puts([String.duplicate(" ", indent), line])
    end
  end

  # Lines of at most `width` characters, unless one word is longer.
  defp wrap(words, width) do
    words
    |> Enum.chunk_while(
      "",
      fn
        word, "" -> {:cont, word}
        word, line -> join(line, word, width)
      end,
      fn line -> {:cont, line, ""} end
    )
  end

  defp join(line, word, width) do
    longer = line <> " " <> word
    if String.length(longer) <= width, do: {:cont, longer}, else: {:cont, line, word}
  end
end

Demo.main(System.argv())
