"""A GPU: PyCUDA's primary context, a stream, memory, and the kernels' module. Only this file imports PyCUDA."""

import atexit
from contextlib import contextmanager
from weakref import ref

import numpy as np

from verbatim.fastpath.gpu.building import architecture, build_kernels
from verbatim.fastpath.gpu.driver import CooperativeKernel, Graph, is_driver_there
from verbatim.fastpath.gpu.formats import SHARED_BYTES
from verbatim.reference.records.errors import BackendError

INSTALL = "`pip install 'verbatim[cuda]'` installs PyCUDA, which needs NVIDIA's driver and a C++ compiler"

FREE_SHARED_BYTES = 48 << 10  # a kernel must opt in to more shared memory


def import_pycuda():
    """PyCUDA's driver module; BackendError says what is missing and how to install it."""
    if not is_driver_there():
        raise BackendError("no NVIDIA driver: libcuda.so.1 cannot be loaded; use --device cpu on this machine")
    try:
        import pycuda.driver
    except ImportError as error:
        raise BackendError(f"PyCUDA is not there: {error}; {INSTALL}") from error
    return pycuda.driver


def count_devices() -> int:
    """The number of GPUs that PyCUDA can use; 0 also if it cannot be loaded."""
    try:
        driver = import_pycuda()
        driver.init()
        return driver.Device.count()
    except Exception:  # without a GPU the driver raises errors of its own
        return 0


def device_index(name: str) -> int:
    """The index of a device name: 1 for `cuda:1`, 0 for `cuda`."""
    return int(name.partition(":")[2] or 0)


class Device:
    """A GPU with its stream, memory and kernels. Only the thread that opened it may use it."""

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
        # Do the kernels use programmatic dependent launch (cuda/common.cuh)? PTX of the oldest chip does not.
        self.overlaps_kernels = chip.compute_capability() >= (9, 0) and image.startswith(b"\x7fELF")
        self.context = self._enter(chip)
        atexit.register(self.close)
        self.stream = self.driver.Stream()
        self._module, self._image = self.driver.module_from_buffer(image), image
        self._held = []  # weak references to memory

    def close(self) -> None:
        """Free everything and leave the context: PyCUDA aborts a process that exits inside one."""
        atexit.unregister(self.close)
        if self.stream is None:
            return
        self.synchronize()
        for memory in filter(None, (reference() for reference in self._held)):
            memory.free()
        self._held.clear()
        self._close_kernels()
        self._module = self.stream = None
        if self.context is not None:
            self.context.pop()
            self.context.detach()
            self.context = None

    def _enter(self, chip):
        """Enter the chip's primary context; returns None if an earlier Device of this process has entered it."""
        if self.driver.Context.get_current() is None:
            context = chip.retain_primary_context()
            context.push()
            return context
        if self.driver.Context.get_device() != chip:
            raise BackendError(f"this process computes on another GPU than {chip.name()} already")
        return None

    @property
    def free_bytes(self) -> int:
        """Free memory in bytes."""
        return self.driver.mem_get_info()[0]

    def launch(
        self, name: str, grid, threads: int, shared: int, types: str, *values, is_cooperative: bool = False
    ) -> None:  # fmt: skip
        """Launch a kernel on the stream; a cooperative one may use `group_barrier`, but no dynamic shared memory."""
        if is_cooperative:
            if name not in self._together:
                self._together[name] = CooperativeKernel(self._image, name, types)
            self._together[name].launch(grid, threads, self.stream.handle, *values)
            return
        attributes = self.driver.function_attribute
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name).prepare(types)
            # Equal for all kernels: a multiprocessor drains before it changes its carve-out.
            self._functions[name].set_attribute(attributes.PREFERRED_SHARED_MEMORY_CARVEOUT, 100)
        if shared > FREE_SHARED_BYTES:
            self._functions[name].set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_BYTES)
        grid = (*grid, *[1] * (3 - len(grid)))
        self._functions[name].prepared_async_call(grid, (threads, 1, 1), self.stream, *values, shared_size=shared)

    def use_kernels(self, flags: tuple[str, ...]) -> None:
        """Use kernels built with other flags from now on (for benchmarks)."""
        self._close_kernels()
        self._image = build_kernels(self._target, flags)
        self._module = self.driver.module_from_buffer(self._image)

    def _close_kernels(self) -> None:
        self._functions.clear()
        for kernel in self._together.values():
            kernel.close()
        self._together.clear()

    def allocate(self, num_bytes: int, purpose: str):
        """Allocate memory, freed with the returned object; int() of it is the address."""
        try:
            return self._hold(self.driver.mem_alloc(max(int(num_bytes), 16)))
        except self.driver.MemoryError as error:
            raise BackendError(
                f"{purpose} needs {num_bytes >> 20} MiB of GPU memory, of which {self.free_bytes >> 20} MiB are free"
            ) from error

    def _hold(self, memory):
        if len(self._held) % 256 == 255:
            self._held = [reference for reference in self._held if reference() is not None]
        self._held.append(ref(memory))
        return memory

    def put(self, array: np.ndarray | None, purpose: str = "a weight"):
        """Upload an array to new memory; 0 for None."""
        if array is None:
            return 0
        memory = self.allocate(array.nbytes, purpose)
        if array.nbytes:
            self.driver.memcpy_htod(memory, np.ascontiguousarray(array))
        return memory

    def write(self, address: int, array: np.ndarray) -> None:
        """Copy an array to an address, after all work on the stream."""
        self.synchronize()
        if array.nbytes:
            self.driver.memcpy_htod(address, np.ascontiguousarray(array))

    def read(self, address: int, shape, dtype=np.float32) -> np.ndarray:
        """Copy an array from an address, after all work on the stream."""
        self.synchronize()
        array = np.empty(shape, dtype)
        if array.nbytes:
            self.driver.memcpy_dtoh(array, address)
        return array

    def pinned(self, count: int) -> np.ndarray:
        """Pinned host memory, int32, for copies within a graph."""
        array = self.driver.pagelocked_empty(count, np.int32)
        self._hold(array.base)
        return array

    def send(self, address: int, pinned: np.ndarray) -> None:
        """Enqueue a copy to the device."""
        self.driver.memcpy_htod_async(address, pinned, self.stream)

    def fetch(self, pinned: np.ndarray, address: int) -> None:
        """Enqueue a copy from the device."""
        self.driver.memcpy_dtoh_async(pinned, address, self.stream)

    def clear(self, address: int, num_bytes: int) -> None:
        """Enqueue a fill with zeros."""
        self.driver.memset_d8_async(address, 0, num_bytes, self.stream)

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        self.stream.synchronize()

    @contextmanager
    def captured(self):
        """Capture what the `with` block enqueues as a graph."""
        graph = Graph(self.stream.handle)
        graph.begin()
        try:
            yield graph
        finally:
            graph.end(self.overlaps_kernels)
