"""The reports of a run: a table for the terminal, JSON for programs and for judging again, JUnit, and HTML pages."""
