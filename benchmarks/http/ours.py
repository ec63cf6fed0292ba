"""Our server, whole and unchanged, but for the module that its supervisor starts as the engine."""

import sys

from server import supervise
from server.__main__ import run

if __name__ == "__main__":
    supervise.ENGINE = "benchmarks.http.engine"
    run(sys.argv[1:])
