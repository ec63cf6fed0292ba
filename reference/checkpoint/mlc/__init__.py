"""MLC LLM's artifacts: mlc-chat-config.json, a list of tensors, and shards of their bytes; its libraries are not read."""
