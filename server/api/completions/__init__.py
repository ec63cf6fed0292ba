"""`POST /v1/completions`: its fields, and the texts and chunks that answer them."""
