"""Options of the server: one table, read from the command line, the environment and a file."""
