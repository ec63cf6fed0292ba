"""GGUF, the files of llama.cpp: reading the header, and what its metadata and tensor names mean here."""
