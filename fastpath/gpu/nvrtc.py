"""NVRTC, NVIDIA's compiler library, from its wheel or the system: only the calls that building.py needs."""

import ctypes
import ctypes.util
import importlib.util
from pathlib import Path


class Nvrtc:
    """A loaded libnvrtc."""

    def __init__(self, path: str):
        for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))  # NVRTC would search for it elsewhere
        self._library = ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"NVRTC {major.value}.{minor.value}"

    @classmethod
    def find(cls) -> "Nvrtc | None":
        """Load the wheel's library, else the system's; None without either."""
        for path in (*_wheel_libraries(), ctypes.util.find_library("nvrtc")):
            try:
                return cls(str(path)) if path else None
            except OSError:
                continue
        return None

    def compile(self, source: bytes, options: list[str], *, is_ptx: bool = False) -> tuple[bytes | None, str]:
        """Compile; returns the code, None for errors, and the compiler's log."""
        program, library = ctypes.c_void_p(), self._library
        library.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
        words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        status = library.nvrtcCompileProgram(program, len(options), words)
        log = self._text(program, "ProgramLog")
        image = None if status else self._text(program, "PTX" if is_ptx else "CUBIN")
        library.nvrtcDestroyProgram(ctypes.byref(program))
        return image, log.decode(errors="replace")

    def _text(self, program, name: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(self._library, f"nvrtcGet{name}")(program, text)
        return text.raw


def _wheel_libraries() -> list[Path]:
    """Paths of the library in NVIDIA's wheels: nvidia/cu13/lib, or nvidia/cuda_nvrtc/lib."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    found = [path for folder in folders for path in folder.glob("*/lib/libnvrtc.so.*")]
    return sorted(path for path in found if "alt" not in path.name)
