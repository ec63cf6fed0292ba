"""`POST /v1/messages`: Anthropic's API, for Claude Code and Anthropic's own clients."""
