"""What OpenAI's bodies mean: JSON in, records for the engine out, and back. Knows no HTTP and no engine."""
