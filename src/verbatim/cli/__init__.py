"""The command `verbatim`: every declaration of an option; the work is done by the packages that it calls."""
