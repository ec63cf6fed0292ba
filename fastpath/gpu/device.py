"""One GPU: PyCUDA's primary context, one stream, memory, and the kernels' module. The only file that imports PyCUDA."""

import atexit
from contextlib import contextmanager
from weakref import ref

import numpy as np

from verbatim.fastpath.gpu.building import architecture, build_kernels
from verbatim.fastpath.gpu.driver import CooperativeKernel, Graph, is_driver_there
from verbatim.fastpath.gpu.operations import SHARED_BYTES
from verbatim.reference.records.errors import BackendError

INSTALL = "`pip install 'verbatim[cuda]'` installs PyCUDA, which needs NVIDIA's driver and a C++ compiler"

FREE_SHARED_BYTES = 48 << 10  # shared memory beyond it has to be asked for


def import_pycuda():
    """PyCUDA's driver module; BackendError says what is missing and how to get it."""
    if not is_driver_there():
        raise BackendError("no NVIDIA driver: libcuda.so.1 cannot be loaded; use --device cpu on this machine")
    try:
        import pycuda.driver
    except ImportError as error:
        raise BackendError(f"PyCUDA is not there: {error}; {INSTALL}") from error
    return pycuda.driver


def count_devices() -> int:
    """How many GPUs PyCUDA can use here; 0 for whatever reason."""
    try:
        driver = import_pycuda()
        driver.init()
        return driver.Device.count()
    except Exception:  # without a GPU the driver raises errors of its own
        return 0


def device_index(name: str) -> int:
    """The number in `cuda:1`; 0 in `cuda`."""
    return int(name.partition(":")[2] or 0)


class Device:
    """A GPU with everything that lives on it. Used by the thread that opened it."""

    def __init__(self, name: str = "cuda"):
        self.driver, index = import_pycuda(), device_index(name)
        try:
            self.driver.init()
            chip = self.driver.Device(index)
        except self.driver.Error as error:
            raise BackendError(f"NVIDIA's driver has no device {name}: {error}; use --device cpu") from error
        self.name = chip.name()
        self._target, self._functions, self._together = architecture(chip.compute_capability()), {}, {}
        self.num_multiprocessors = chip.multiprocessor_count
        image = build_kernels(self._target)
        # Do kernels wait for each other themselves (cuda/common.cuh)? PTX of the oldest chip, the fallback, does not.
        self.overlaps_kernels = chip.compute_capability() >= (9, 0) and image.startswith(b"\x7fELF")
        self.context = self._enter(chip)
        atexit.register(self.close)
        self.stream = self.driver.Stream()
        self._module, self._image = self.driver.module_from_buffer(image), image
        self._held = []  # weak references to memory

    def close(self) -> None:
        """Free everything, leave the context: PyCUDA ends a process that is still in one at its end."""
        atexit.unregister(self.close)
        if self.stream is None:
            return
        self.synchronize()
        for memory in filter(None, (reference() for reference in self._held)):
            memory.free()
        self._held.clear()
        self._forget_kernels()
        self._module = self.stream = None
        if self.context is not None:
            self.context.pop()
            self.context.detach()
            self.context = None

    def _enter(self, chip):
        """The chip's primary context, entered; None where an earlier Device of this process is in it already."""
        if self.driver.Context.get_current() is None:
            context = chip.retain_primary_context()
            context.push()
            return context
        if self.driver.Context.get_device() != chip:
            raise BackendError(f"this process computes on another GPU than {chip.name()} already")
        return None

    @property
    def free_bytes(self) -> int:
        """Memory that nothing uses."""
        return self.driver.mem_get_info()[0]

    def launch(
        self, name: str, grid, threads: int, shared: int, types: str, *values, is_cooperative: bool = False
    ) -> None:  # fmt: skip
        """Put a kernel on the stream; the blocks of a cooperative one, without dynamic shared memory, may meet."""
        if is_cooperative:
            if name not in self._together:
                self._together[name] = CooperativeKernel(self._image, name, types)
            self._together[name].launch(grid, threads, self.stream.handle, *values)
            return
        attributes = self.driver.function_attribute
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name).prepare(types)
            # The same for all kernels: where they differ, a multiprocessor empties before it takes in the next one.
            self._functions[name].set_attribute(attributes.PREFERRED_SHARED_MEMORY_CARVEOUT, 100)
        if shared > FREE_SHARED_BYTES:
            self._functions[name].set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_BYTES)
        grid = (*grid, *[1] * (3 - len(grid)))
        self._functions[name].prepared_async_call(grid, (threads, 1, 1), self.stream, *values, shared_size=shared)

    def use_kernels(self, flags: tuple[str, ...]) -> None:
        """From here on, kernels that are built with other flags: a benchmark compares them."""
        self._forget_kernels()
        self._image = build_kernels(self._target, flags)
        self._module = self.driver.module_from_buffer(self._image)

    def _forget_kernels(self) -> None:
        self._functions.clear()
        for kernel in self._together.values():
            kernel.close()
        self._together.clear()

    def allocate(self, num_bytes: int, purpose: str):
        """Memory, which lives as long as what is returned; int() of it is the address."""
        try:
            return self._hold(self.driver.mem_alloc(max(int(num_bytes), 16)))
        except self.driver.MemoryError as error:
            raise BackendError(
                f"{purpose} needs {num_bytes >> 20} MiB of GPU memory, of which {self.free_bytes >> 20} MiB are free"
            ) from error

    def _hold(self, memory):
        self._held = [one for one in self._held if one() is not None] if len(self._held) % 256 == 255 else self._held
        self._held.append(ref(memory))
        return memory

    def put(self, array: np.ndarray | None, purpose: str = "a weight"):
        """An array's bytes in new memory; 0 for None."""
        if array is None:
            return 0
        memory = self.allocate(array.nbytes, purpose)
        if array.nbytes:
            self.driver.memcpy_htod(memory, np.ascontiguousarray(array))
        return memory

    def write(self, address: int, array: np.ndarray) -> None:
        """Copy an array to an address, after all work that is on the stream."""
        self.synchronize()
        if array.nbytes:
            self.driver.memcpy_htod(address, np.ascontiguousarray(array))

    def read(self, address: int, shape, dtype=np.float32) -> np.ndarray:
        """The array at an address, after all work that is on the stream."""
        self.synchronize()
        array = np.empty(shape, dtype)
        if array.nbytes:
            self.driver.memcpy_dtoh(array, address)
        return array

    def pinned(self, count: int) -> np.ndarray:
        """Host memory, int32, that copies within a graph can read and write."""
        array = self.driver.pagelocked_empty(count, np.int32)
        self._hold(array.base)
        return array

    def send(self, address: int, pinned: np.ndarray) -> None:
        """Put a copy to the device on the stream."""
        self.driver.memcpy_htod_async(address, pinned, self.stream)

    def fetch(self, pinned: np.ndarray, address: int) -> None:
        """Put a copy from the device on the stream."""
        self.driver.memcpy_dtoh_async(pinned, address, self.stream)

    def clear(self, address: int, num_bytes: int) -> None:
        """Put zeros on the stream."""
        self.driver.memset_d8_async(address, 0, num_bytes, self.stream)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        self.stream.synchronize()

    @contextmanager
    def captured(self):
        """A graph of what is put on the stream inside of the block."""
        graph = Graph(self.stream.handle)
        graph.begin()
        try:
            yield graph
        finally:
            graph.end(self.overlaps_kernels)
