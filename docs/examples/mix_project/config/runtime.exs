import Config

# Nothing of this is needed: with a provider's key in the environment
# (OPENAI_API_KEY, ...) the router starts without any configuration.
config :llm_router,
  config: %{
    routes: %{medium: ["openai/gpt-5.6-luna"]},
    limits: %{in_flight: 100}
  }
