"""Text to token ids and back: tokenizer, chat template and its sandbox, grammars, stopping, detokenizing."""
