[
  inputs: [
    "{mix,.formatter}.exs",
    "{lib,erlang_test,scripts}/**/*.{ex,exs}",
    "docs/examples/mix_project/mix.exs",
    "docs/examples/mix_project/{config,lib}/**/*.{ex,exs}"
  ]
]
