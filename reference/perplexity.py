"""`python -m reference.perplexity --model DIR --text FILE`: float against quantised weights, by the reference."""

import sys
from functools import partial

from reference import backend
from reference.cli import run
from reference.comparison import perplexity

if __name__ == "__main__":
    sys.exit(run(partial(perplexity, backend)))
