"""The engine process: how it is started, watched, spoken to, measured."""
