"""`verbatim serve`: Sanic's own command line, with our options first and our application as its target."""

import os
import sys
from typing import Any

APP = "verbatim.server.app:app"
GENERAL = ("Socket binding", "Worker")  # Sanic's groups that the short help shows
PROG = "verbatim serve"
ACTIONS = ("serve", "exec", "status", "restart", "stop")  # of Sanic's command, where it takes a word without dashes


def serve(words: list[str]) -> None:
    """Serve as the words say until told to stop; ends with SystemExit if that cannot be. The first may be the model.

    The current directory has no say in what is imported, here and in all processes that are started.
    """
    from sanic.cli.arguments import Group

    from verbatim.server.settings.command_line import register

    sanics = list(Group._registry)
    ours = register(Group, PROG)
    if {"-h", "--help", "--help-all"} & {*words}:
        general = sanics[1:] if "--help-all" in words else [group for group in sanics if group.name in GENERAL]
        print(help_text([*ours, *general]))
        return
    from sanic.__main__ import main

    os.environ["PYTHONSAFEPATH"] = "1"
    sys.argv[1:] = [APP, *name_model(words)]
    main()


def name_model(words: list[str]) -> list[str]:
    """The words with `--model` in front of a model that comes first without it, as other servers' commands have it."""
    if not words or words[0].startswith("-") or words[0] in ACTIONS:
        return words
    if any(word.partition("=")[0] == "--model" for word in words):
        raise SystemExit(f"{PROG}: the model is named twice: {words[0]!r}, and by --model")
    return ["--model", *words]


def help_text(groups: list[Any]) -> str:
    """The help of these groups of options, ours before Sanic's."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=PROG, usage=f"{PROG} [MODEL] [OPTION ...]", add_help=False,
        description="Serve a model behind OpenAI's API.",
        formatter_class=lambda prog: argparse.RawTextHelpFormatter(prog, max_help_position=36),
        epilog="Sanic's other options (TLS, development, output, daemon) work, too: --help-all shows them.",
    )  # fmt: skip
    for group in groups:
        group.create(parser).attach()
    return parser.format_help()
