"""Read a GPU's free memory in a separate process, so that the caller creates no context.

`python -m verbatim.fastpath.gpu.probe cuda:0` prints the number of bytes.
"""

import subprocess
import sys

from verbatim.fastpath.gpu.device import device_index, import_pycuda
from verbatim.reference.records.errors import BackendError


def free_bytes_of(name: str) -> int:
    """The free bytes of a device; BackendError if they cannot be read."""
    command = [sys.executable, "-m", "verbatim.fastpath.gpu.probe", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise BackendError(f"the memory of {name} cannot be asked for: {reason[-1]}")
    return int(done.stdout)


def main(name: str) -> None:
    """Print the free bytes of that device."""
    driver = import_pycuda()
    driver.init()
    context = driver.Device(device_index(name)).retain_primary_context()
    context.push()
    print(driver.mem_get_info()[0])
    context.pop()
    context.detach()


if __name__ == "__main__":
    main(sys.argv[1])
