"""`POST /v1/chat/completions`: its fields, and the messages and chunks that answer them."""
