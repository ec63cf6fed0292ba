"""Ollama's API at `/api`: chats, completions, embeddings and what tools ask about models, in Ollama's shapes."""
