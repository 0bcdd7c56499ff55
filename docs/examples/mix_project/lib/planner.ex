defmodule Planner do
  @moduledoc """
  All that a project needs: the router is started, supervised and stopped by the
  application `llm_router`.
  """

  @doc "A task from a sentence."
  def plan(sentence) do
    with {:ok, task} <- LLMRouter.generate_task(sentence, timeout: 60_000) do
      {:ok, task.title}
    end
  end
end
