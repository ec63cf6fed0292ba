"""`python -m reference.perplexity --model DIR --text FILE`: float against quantised weights, by the reference."""

import sys
from functools import partial

from verbatim.reference import backend
from verbatim.reference.commands.cli import run
from verbatim.reference.commands.comparison import perplexity

if __name__ == "__main__":
    sys.exit(run(partial(perplexity, backend)))
