"""`python -m server`, in a checkout, is `sanic server.app`."""

import sys

from sanic.__main__ import main
from sanic.cli.arguments import Group

from verbatim.server.settings.command_line import register


def run(arguments: list[str]) -> None:
    """Serve with Sanic's own command line, our options among its own."""
    known = {group.name for group in Group._registry}
    if not any(str(name).startswith("Verbatim") for name in known):
        register(Group)
    sys.argv = ["sanic", "verbatim.server.app:app", *arguments]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
