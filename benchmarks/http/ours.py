"""Our server, whole and unchanged, but for the module that its supervisor starts as the engine."""

import os
import sys
from pathlib import Path

from verbatim.server.engine import supervise
from verbatim.server.settings.serving import serve

if __name__ == "__main__":
    supervise.ENGINE = "benchmarks.http.engine"
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # where that module is found
    serve(sys.argv[1:])
