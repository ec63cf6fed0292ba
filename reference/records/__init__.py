"""The records that every engine shares: model configuration, requests, sequences, limits, errors; no arithmetic."""
