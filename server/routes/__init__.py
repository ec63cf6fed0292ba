"""Thin handlers: each reads a body, asks the engine, and answers."""
