"""`verbatim router`: the command."""

import sys

from verbatim.router.command_line import read_command_line
from verbatim.router.serving import CannotStartError, run


def main(arguments: list[str]) -> None:
    """Serve; what cannot be ends the command with one line."""
    settings = read_command_line(arguments)
    try:
        run(settings)
    except CannotStartError as error:
        sys.exit(f"verbatim router: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
