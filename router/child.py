"""`python -m verbatim.router.child`: a server that ends with the router that started it, however that ended."""

import sys

from verbatim.server.__main__ import run
from verbatim.server.engine.parent import end_with_parent

if __name__ == "__main__":
    end_with_parent(sys.stdin.fileno())
    run(sys.argv[1:])
