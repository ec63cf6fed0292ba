"""`POST /v1/responses`: its fields, its items and events, the responses that are kept, and how a stream is resumed."""
