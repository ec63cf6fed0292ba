"""Run the kernel tests on a device: every array is copied there and back around each launch.

`GPU_TESTS=device pytest tests/gpu/test_*kernels.py` on a machine with a GPU.
"""

import numpy as np

from verbatim.fastpath.gpu.device import Device


class OnDevice:
    """The interface of emulator.Emulator, with a device's memory."""

    def __init__(self, device: Device):
        self._device, self._kept, self._buffers = device, [], []

    def launch(self, name, grid, threads, shared, types, *values, **options) -> None:
        """Run a kernel to its end."""
        for array, memory in self._buffers:
            self._device.write(int(memory), array)
        self._device.launch(name, grid, threads, shared, types, *values, **options)
        for array, memory in self._buffers:
            array[...] = self._device.read(int(memory), array.shape, array.dtype)

    def put(self, array) -> int:
        """Copy an array; returns its address, 0 for None."""
        self._kept.append(self._device.put(array))
        return int(self._kept[-1])

    def buffer(self, *shape, dtype=np.float32) -> tuple[np.ndarray, int]:
        """An output array, full of garbage, and its address on the device."""
        array = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xCD, np.uint8).view(dtype).reshape(shape)
        self._buffers.append((array, self._device.allocate(array.nbytes, "a test")))
        return array, int(self._buffers[-1][1])

    def free(self) -> None:
        """Free every array."""
        self._kept.clear()
        self._buffers.clear()
