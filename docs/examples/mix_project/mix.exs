defmodule Planner.MixProject do
  use Mix.Project

  def project do
    [
      app: :planner,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: [{:llm_router, path: "../../.."}]
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
