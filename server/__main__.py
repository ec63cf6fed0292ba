"""`python -m server`, in a checkout, is `verbatim serve`."""

import sys

from verbatim.server.settings.serving import serve

if __name__ == "__main__":
    serve(sys.argv[1:])
