"""Builds the fast path's extensions: which there are, with which options, and how they become C and then machine code.

Extensions are optional: on a machine without a C compiler the build goes on without them and writes down why, and
`--backend fastpath` then repeats that. Nothing here needs CUDA. A line is printed for each module that is finished;
`pip install` shows them with -v only.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

from distutils import ccompiler, sysconfig  # isort: skip  # setuptools' own, which it puts in the place of Python's

PACKAGE = Path("src/verbatim")
NOT_BUILT = "not_built.txt"  # in the package: why it has no fast path
PROBE = "#include <Python.h>\nint probe(void) { return PY_VERSION_HEX; }\n"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}
# Modules of the reference that are compiled as they stand keep Python's meaning: -1 is the last index, // rounds down.
PYTHON_DIRECTIVES = {"language_level": 3, "annotation_typing": False, "freethreading_compatible": True}

# N0: every product is rounded before it is added, so a compiler must never fuse the two or reorder a sum.
COMPILE_ARGS = ["-g0", "-std=gnu11", "-ffp-contract=off", "-fno-fast-math", "-Wno-psabi", "-Wno-discarded-qualifiers"]
# Loops over numbers earn -O3. Modules that mostly call Python compile twice as fast with -O1, and cost 0.3 microseconds
# more a step (benchmarks/overhead.py).
OPTIMIZATION = {"machine/dispatch": "-O3", "machine/threads": "-O3", "numerics": "-O2", "sampling": "-O2"}
OTHERWISE = "-O1"


def shared_sources() -> list[Extension]:
    """One extension a .pxd that has no .pyx: it adds C types to the reference's own module of that name.

    What is compiled is a copy of that module in build/, which imports from the fast path what the original imports
    from the mirrored modules of the reference.
    """
    found = []
    for types in sorted((PACKAGE / "fastpath").glob("**/*.pxd")):
        if types.with_suffix(".pyx").exists():
            continue
        name = types.relative_to(PACKAGE / "fastpath").with_suffix(".py")
        source, text = Path("build/shared") / name, (PACKAGE / "reference" / name).read_text(encoding="utf-8")
        text = re.sub(r"^from verbatim\.reference\.([\w.]+) import", _import_of_the_fast_path, text, flags=re.MULTILINE)
        _write(source, text)
        _write(source.with_suffix(".pxd"), types.read_text(encoding="utf-8"))
        found.append(_extension(types, [str(source)]))
    return found


def _write(path: Path, text: str) -> None:
    """Write a file unless it has that text already, so that what depends on it is not compiled again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _import_of_the_fast_path(match: re.Match) -> str:
    """The beginning of an import from the fast path, where it has a module of that name; of pages as C sees them."""
    mirror = (PACKAGE / "fastpath").joinpath(*match[1].split("."))
    if not any(mirror.with_suffix(suffix).exists() for suffix in (".pyx", ".pxd")):
        return match[0]
    return f"from {'cython.cimports.' if match[1] == 'cache.pages' else ''}verbatim.fastpath.{match[1]} import"


def extensions() -> list[Extension]:
    """One extension a .pyx; `dispatch` also holds the kernels, once for each instruction set, `threads` the team."""
    fastpath = PACKAGE / "fastpath"
    team = str(fastpath / "kernels/team.c")
    kernels = sorted(str(path) for path in fastpath.glob("kernels/*.c") if str(path) != team)
    sources = {"dispatch": kernels, "threads": [team]}
    return [_extension(path, [str(path), *sources.get(path.stem, [])]) for path in sorted(fastpath.glob("**/*.pyx"))]


def _extension(path: Path, sources: list[str]) -> Extension:
    """The extension that stands in the place of `path`."""
    kernels = PACKAGE / "fastpath/kernels"
    return Extension(
        ".".join(path.with_suffix("").relative_to("src").parts),
        sources,
        depends=sorted(str(header) for header in kernels.glob("*.h")),
        include_dirs=[str(kernels)],
        extra_compile_args=[optimization(path), *COMPILE_ARGS],
        extra_link_args=["-s"] if os.name == "posix" and os.uname().sysname == "Linux" else [],
        libraries=["dl"] if path.stem == "driver" else [],
        optional=True,
    )


def optimization(path: Path) -> str:
    """The compiler's level for the extension that stands in the place of `path`."""
    name = path.relative_to(PACKAGE / "fastpath").with_suffix("").as_posix()
    return next((level for prefix, level in OPTIMIZATION.items() if name.startswith(prefix)), OTHERWISE)


class ParallelBuild(build_ext):
    """build_ext that compiles as many extensions at once as there are processors, the longest first.

    It prints a line for each. An editable install keeps its objects in build/, too, so that it compiles what changed;
    with pip that needs `--no-build-isolation`, since the Cython of an isolated build is newer than everything it made.
    """

    def finalize_options(self):
        """Set `parallel` where nobody has."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.num_built, self.lock = 0, threading.Lock()

    def run(self):
        """Translate to C, compile, and write down what stands against a fast path."""
        if self.editable_mode:
            usual = Distribution().get_command_obj("build")
            usual.finalize_options()
            self.build_lib, self.build_temp = usual.build_platlib, usual.build_temp
        why_not, self.failures = missing_compiler(), []
        if why_not is None:
            self._translate()
            self.extensions.sort(key=lambda extension: (not extension.name.endswith("dispatch"), -size_of(extension)))
            with quiet_unless(self.verbose > 1):
                super().run()
            why_not = "; ".join(self.failures)
        if why_not:
            print(f"verbatim: the fast path is not built: {why_not}. The reference serves without it.", file=sys.stderr)
        self._write_down(why_not)

    def build_extension(self, ext):
        """Compile one extension, if it is older than its sources, and print how long that took."""
        path, started = Path(self.get_ext_fullpath(ext.name)), time.monotonic()
        before = path.stat().st_mtime_ns if path.exists() else None
        try:
            super().build_extension(ext)
        except Exception as error:
            self.failures.append(f"{ext.name} cannot be compiled ({str(error).splitlines()[0]})")
            raise
        with self.lock:
            self.num_built += 1
            if path.stat().st_mtime_ns != before:
                self._say(f"[{self.num_built:2}/{len(self.extensions)}] {ext.name:44}", time.monotonic() - started)

    def _translate(self):
        """Make C of Cython; of the extensions that `cythonize` makes anew only the sources are taken."""
        started = time.monotonic()
        if self.verbose:
            print(f"The fast path: {len(self.extensions)} modules on {self.parallel} processors", flush=True)
        options = {
            "include_path": ["src"], "build_dir": "build/cython", "nthreads": os.cpu_count() or 1, "quiet": True,
            "force": bool(self.force),
        }  # fmt: skip
        shared = {extension.name for extension in shared_sources()}
        for directives, is_shared in ((DIRECTIVES, False), (PYTHON_DIRECTIVES, True)):
            ours = [extension for extension in self.extensions if (extension.name in shared) == is_shared]
            made = {c.name: c.sources for c in cythonize(ours, compiler_directives=directives, **options)}
            for extension in ours:
                extension.sources = made[extension.name]
        self._say(f"[ 0/{len(self.extensions)}] {'from Cython to C':44}", time.monotonic() - started)

    def _say(self, text, seconds):
        if self.verbose:
            print(f"{text} {seconds:5.1f} s", flush=True)

    def _write_down(self, why_not):
        """Keep the reason in the package, where fastpath/backend.py finds it; nothing if all is well."""
        folder = PACKAGE if self.inplace or self.editable_mode else Path(self.build_lib) / "verbatim"
        with contextlib.suppress(FileNotFoundError):
            (folder / NOT_BUILT).unlink()
        if why_not:
            _write(folder / NOT_BUILT, why_not)


def missing_compiler() -> str | None:
    """None if a C compiler works here and has Python's headers, else what is missing."""
    from setuptools.errors import CCompilerError

    with tempfile.TemporaryDirectory() as place, quiet_unless(False):
        source = Path(place) / "probe.c"
        source.write_text(PROBE, encoding="utf-8")
        command = Distribution().get_command_obj("build_ext")
        command.finalize_options()
        compiler = ccompiler.new_compiler()
        sysconfig.customize_compiler(compiler)
        try:
            compiler.compile([str(source)], output_dir=place, include_dirs=command.include_dirs)
        except (CCompilerError, OSError):
            name = getattr(compiler, "compiler_so", ["the system's"])[0]
            return f"no C compiler works here with Python's headers (tried {name})"
    return None


@contextlib.contextmanager
def quiet_unless(is_loud: bool):
    """Keep the compiler's command lines to ourselves: warnings and errors only."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(before if is_loud else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def size_of(extension: Extension) -> int:
    """The bytes of its sources in C: about how long it takes to compile."""
    return sum(Path(source).stat().st_size for source in extension.sources)
