"""An OpenAI-compatible HTTP server over one engine process: Sanic in front, an engine behind a unix socket."""
