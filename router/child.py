"""`python -m verbatim.router.child`: a server that ends with the router that started it, however that ended."""

import sys

from verbatim.server.engine.parent import end_with_parent
from verbatim.server.settings.serving import serve

if __name__ == "__main__":
    end_with_parent(sys.stdin.fileno())
    serve(sys.argv[1:])
