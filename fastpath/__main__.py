"""`python -m fastpath "prompt"`, in a checkout, is `verbatim run --backend fastpath "prompt"`."""

import sys

from verbatim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "--backend", "fastpath", *sys.argv[1:]]))
