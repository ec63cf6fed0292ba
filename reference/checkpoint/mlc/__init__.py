"""MLC LLM's artifacts: mlc-chat-config.json, a list of tensors, and shards of bytes; its libraries are not read."""
