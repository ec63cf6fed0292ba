"""`python -m router`, in a checkout, is `verbatim router`."""

import sys

from verbatim.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["router", *sys.argv[1:]]))
