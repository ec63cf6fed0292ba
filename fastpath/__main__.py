"""`python -m fastpath --model DIR "prompt"`: an answer, token by token, from the fast engine."""

import sys

from verbatim.reference.commands.cli import generate, run


def main(arguments: list[str] | None = None) -> None:
    """The command; the engine is imported here, so that one that is not built is an error in one line."""
    from verbatim.fastpath import backend

    generate(backend, arguments)


if __name__ == "__main__":
    sys.exit(run(main))
