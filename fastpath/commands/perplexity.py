"""`python -m fastpath.perplexity --model DIR --text FILE`: float against quantised weights, by the fast engine."""

import sys

from verbatim.reference.commands.cli import run
from verbatim.reference.commands.comparison import perplexity


def main(arguments: list[str] | None = None) -> None:
    """The command; the engine is imported here, so that one that is not built is an error in one line."""
    from verbatim.fastpath import backend

    perplexity(backend, arguments)


if __name__ == "__main__":
    sys.exit(run(main))
