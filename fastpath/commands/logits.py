"""`python -m fastpath.logits --model DIR --ids 1,2,3 --out FILE.npz`: the fast engine's float32 logits."""

import sys

from verbatim.reference.commands.cli import logits, run


def main(arguments: list[str] | None = None) -> None:
    """The command; the engine is imported here, so that one that is not built is an error in one line."""
    from verbatim.fastpath import backend

    logits(backend, arguments)


if __name__ == "__main__":
    sys.exit(run(main))
