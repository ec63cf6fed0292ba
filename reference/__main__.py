"""`python -m reference "prompt"`, in a checkout, is `verbatim run --backend reference "prompt"`."""

import sys

from verbatim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", "--backend", "reference", *sys.argv[1:]]))
