"""What all HTTP answers share: errors, server-sent events, keys, CORS, logging, metrics."""
