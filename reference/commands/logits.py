"""`python -m reference.logits --model DIR --ids 1,2,3 --out FILE.npz`: the reference's float32 logits."""

import sys
from functools import partial

from verbatim.reference import backend
from verbatim.reference.commands.cli import logits, run

if __name__ == "__main__":
    sys.exit(run(partial(logits, backend)))
