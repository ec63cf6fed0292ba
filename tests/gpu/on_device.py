"""The kernel tests' other place: the same launches on a device, every array brought over and back around each of them.

`GPU_TESTS=device pytest tests/gpu/test_kernels.py tests/gpu/test_sampling_kernels.py` on a machine with a GPU.
"""

import numpy as np

from verbatim.fastpath.gpu.device import Device


class OnDevice:
    """What emulator.Emulator is, with memory of a device."""

    def __init__(self, device: Device):
        self._device, self._kept, self._rooms = device, [], []

    def launch(self, name, grid, threads, shared, types, *values, **how) -> None:
        """Run one kernel to its end."""
        for array, memory in self._rooms:
            self._device.write(int(memory), array)
        self._device.launch(name, grid, threads, shared, types, *values, **how)
        for array, memory in self._rooms:
            array[...] = self._device.read(int(memory), array.shape, array.dtype)

    def put(self, array) -> int:
        """The address of a copy of an array; 0 for None."""
        self._kept.append(self._device.put(array))
        return int(self._kept[-1])

    def room(self, *shape, dtype=np.float32) -> tuple[np.ndarray, int]:
        """An array that a kernel is to fill, full of rubbish, and its address on the device."""
        array = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xCD, np.uint8).view(dtype).reshape(shape)
        self._rooms.append((array, self._device.allocate(array.nbytes, "a test")))
        return array, int(self._rooms[-1][1])

    def forget(self) -> None:
        """Let go of every array."""
        self._kept.clear()
        self._rooms.clear()
