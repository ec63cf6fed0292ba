"""`python -m reference --model DIR "prompt"`: an answer, token by token, from the reference engine."""

import sys
from functools import partial

from verbatim.reference import backend
from verbatim.reference.commands.cli import generate, run

if __name__ == "__main__":
    sys.exit(run(partial(generate, backend)))
