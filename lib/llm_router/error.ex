defmodule LLMRouter.Error do
  @moduledoc """
  What the functions of `LLMRouter` with a bang, and its streams, raise.

    * `code` - an atom such as `:rate_limited`; docs/errors.md has them all, and
      `:router_down` stands for a router that is not there
    * `message` - what happened, as the router says it
    * `details` - the map of the error: `message` and, where they are known,
      `provider`, `model`, `http_status`, ...
  """

  @type t :: %__MODULE__{
          code: :llm_router.code(),
          message: String.t(),
          details: :llm_router.details()
        }

  defexception [:code, :message, :details]

  @doc "Makes one of the reason in `{:error, reason}`."
  @impl true
  def exception({code, %{message: message} = details}) do
    %__MODULE__{code: code, message: message, details: details}
  end

  @impl true
  def message(%__MODULE__{code: code, message: message}), do: "#{code}: #{message}"
end
