"""The models that one server holds: names, tokenizers, templates, fingerprints."""
