"""`python -m verbatim` is the command `verbatim`, wherever it is typed."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
        del sys.path[0]  # the current directory, whose files have no say here
    from verbatim.cli.main import main

    sys.exit(main())
