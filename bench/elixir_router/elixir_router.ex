defmodule ElixirRouter do
  @moduledoc """
  What an Elixir team writes before it looks for something else, and what the
  router is compared with (bench/README.md): a GenServer that spawns a process
  for each call; the process asks the provider by `:httpc`, with connections
  that are kept, and replies to the caller itself, so that the server never
  waits. JSON is jiffy's, a NIF.

  It is as fast as that can be, not as complete: no retries, limits, choice of
  model, cancellation or check of what it is asked.

  Two operations, as the router answers them:

    * `{:call_with_prompt, complexity, prompt}` -> `{:ok, response}`
    * `{:stream, complexity, messages}` -> `{:ok, ref}`, and then the messages
      `{:llm_stream, ref, {:delta, text}}` and `{:llm_stream, ref, {:done,
      response}}`
  """
  use GenServer

  @compile {:no_warn_undefined, :jiffy}
  @model "gpt-5.4-mini"
  @answer_ms 300_000
  # Each connection has one request at a time, and there is always one more.
  @httpc [
    max_sessions: 100_000,
    max_keep_alive_length: 0,
    max_pipeline_length: 0,
    pipeline_timeout: 0,
    keep_alive_timeout: 120_000
  ]

  @doc """
  `base_url`: the provider's, such as "http://127.0.0.1:8080/v1"; `ca_file`: the
  authorities that are trusted for https, or `nil`.
  """
  @spec start(%{base_url: String.t(), ca_file: charlist | nil}) :: GenServer.on_start()
  def start(options) do
    GenServer.start(__MODULE__, options, name: __MODULE__)
  end

  @doc "For `erl -run`: the base URL and perhaps the file; says when it is ready."
  @spec main([charlist]) :: :ok
  def main([base_url]), do: main([base_url, nil])

  def main([base_url, ca_file]) do
    {:ok, _} = start(%{base_url: List.to_string(base_url), ca_file: ca_file})
    IO.puts("ready")
  end

  @impl true
  def init(options) do
    {:ok, _} = Application.ensure_all_started(:inets)
    {:ok, _} = Application.ensure_all_started(:ssl)
    :ok = :httpc.set_options(@httpc)
    {:ok, provider(options)}
  end

  @impl true
  def handle_call({:call_with_prompt, _complexity, prompt}, from, provider) do
    spawn(fn -> GenServer.reply(from, complete(provider, prompt)) end)
    {:noreply, provider}
  end

  def handle_call({:stream, _complexity, messages}, {caller, _} = from, provider) do
    spawn(fn ->
      ref = make_ref()
      GenServer.reply(from, {:ok, ref})
      stream(provider, messages, caller, ref)
    end)

    {:noreply, provider}
  end

  defp provider(options) do
    %{
      url: String.to_charlist(options.base_url <> "/chat/completions"),
      headers: [{~c"authorization", ~c"Bearer sk-bench"}],
      http: [timeout: @answer_ms, autoredirect: false] ++ tls(options)
    }
  end

  defp tls(%{ca_file: nil}), do: []
  defp tls(%{ca_file: file}), do: [ssl: [verify: :verify_peer, cacertfile: file]]

  # ------------------------------------------------------------ whole answers

  defp complete(provider, prompt) do
    messages = [%{role: "user", content: prompt}]

    case post(provider, messages, false, body_format: :binary) do
      {:ok, {{_, 200, _}, headers, body}} -> {:ok, read(content_type(headers), body)}
      {:ok, {{_, status, _}, _, _}} -> {:error, {:provider_error, %{http_status: status}}}
      {:error, reason} -> {:error, {:unreachable, %{message: inspect(reason)}}}
    end
  end

  defp post(provider, messages, stream, options) do
    body = :jiffy.encode(%{model: @model, messages: messages, stream: stream})
    request = {provider.url, provider.headers, ~c"application/json", body}
    :httpc.request(:post, request, provider.http, options)
  end

  defp content_type(headers),
    do: List.to_string(:proplists.get_value(~c"content-type", headers, ~c""))

  defp read("text/event-stream" <> _, body) do
    {events, ""} = events(body)
    events |> Enum.reduce({[], %{}}, &collect/2) |> response()
  end

  defp read(_, body) do
    %{"model" => model, "usage" => usage, "choices" => [choice | _]} = decode(body)

    %{
      text: choice["message"]["content"],
      model: model,
      finish_reason: choice["finish_reason"],
      usage: usage(usage)
    }
  end

  defp usage(usage) do
    %{
      input_tokens: usage["prompt_tokens"],
      output_tokens: usage["completion_tokens"],
      total_tokens: usage["total_tokens"]
    }
  end

  # ------------------------------------------------------------------ streams

  defp stream(provider, messages, caller, ref) do
    {:ok, request} = post(provider, messages, true, sync: false, stream: :self)
    tell = fn text -> send(caller, {:llm_stream, ref, {:delta, text}}) end
    receive_events(request, "", {[], %{}}, tell, {caller, ref})
  end

  defp receive_events(request, rest, answer, tell, {caller, ref} = to) do
    receive do
      {:http, {^request, :stream_start, _headers}} ->
        receive_events(request, rest, answer, tell, to)

      {:http, {^request, :stream, data}} ->
        {events, rest} = events(rest <> data)
        answer = Enum.reduce(events, answer, &(&1 |> told(tell) |> collect(&2)))
        receive_events(request, rest, answer, tell, to)

      {:http, {^request, :stream_end, _headers}} ->
        send(caller, {:llm_stream, ref, {:done, response(answer)}})

      {:http, {^request, {:error, reason}}} ->
        send(caller, {:llm_stream, ref, {:error, {:unreachable, %{message: inspect(reason)}}}})
    end
  end

  defp told(event, tell) do
    with text when text not in [nil, ""] <- text(event), do: tell.(text)
    event
  end

  # The decoded events of whole blocks, and what is not whole yet.
  defp events(data) do
    {blocks, [rest]} = data |> :binary.split("\n\n", [:global]) |> Enum.split(-1)
    {for("data: " <> json when json != "[DONE]" <- blocks, do: decode(json)), rest}
  end

  defp text(%{"choices" => [%{"delta" => delta} | _]}), do: delta["content"]
  defp text(_), do: nil

  defp collect(event, {texts, last}) do
    texts = if text = text(event), do: [texts | text], else: texts
    {texts, Map.merge(last, noted(event))}
  end

  defp noted(%{"choices" => [%{"finish_reason" => reason} | _]} = event) when is_binary(reason),
    do: %{finish_reason: reason, model: event["model"]}

  defp noted(%{"usage" => %{} = usage}), do: %{usage: usage(usage)}
  defp noted(_), do: %{}

  defp response({texts, last}), do: Map.put(last, :text, IO.iodata_to_binary(texts))

  defp decode(json), do: :jiffy.decode(json, [:return_maps, :use_nil])
end
