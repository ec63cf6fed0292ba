"""Builds the Cython fast path, and puts the one-line `.pth` that lets `sanic` know our options into the wheel.

Everything else is declared in pyproject.toml. Extensions are optional: on a machine without a C compiler the
build goes on without them, and `--backend fastpath` then says which command builds it. Nothing here needs CUDA.
"""

import shutil
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

KERNELS = "fastpath/gpu/cuda"
STARTUP_HOOK = "zz_verbatim.pth"  # sorts after an editable install's own .pth, whose path it needs

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}

# N0: every product is rounded before it is added, so a compiler must never fuse the two or reorder a sum.
COMPILE_ARGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-fast-math", "-Wno-psabi"]


def built():
    """The extensions in C, each optional: `cythonize` makes new ones and forgets that of those it is given."""
    made = cythonize(extensions(), compiler_directives=DIRECTIVES, include_path=["."], build_dir="build/cython")
    for extension in made:
        extension.optional = True
    return made


def extensions():
    """One extension a .pyx; `dispatch` also holds the kernels, once for each instruction set, `threads` the team."""
    team = "fastpath/kernels/team.c"
    kernels = sorted(str(path) for path in Path("fastpath/kernels").glob("*.c") if str(path) != team)
    sources = {"dispatch": kernels, "threads": [team]}
    headers = sorted(str(path) for path in Path("fastpath/kernels").glob("*.h"))
    return [
        Extension(
            ".".join(path.with_suffix("").parts),
            [str(path), *sources.get(path.stem, [])],
            depends=headers,
            include_dirs=["fastpath/kernels"],
            extra_compile_args=COMPILE_ARGS,
            libraries=["dl"] if path.stem == "driver" else [],
        )
        for path in sorted(Path("fastpath").rglob("*.pyx"))
    ]


class BuildWithHook(build_py):
    """build_py, and the start-up hook beside the packages in an ordinary wheel."""

    def run(self):
        """Build, then copy the hook to the root of the wheel, and the GPU's kernels beside what compiles them."""
        super().run()
        if not self.editable_mode:
            shutil.copy(STARTUP_HOOK, Path(self.build_lib) / STARTUP_HOOK)
            shutil.copytree("cuda", Path(self.build_lib) / KERNELS, dirs_exist_ok=True)

    def get_outputs(self, include_bytecode=True):
        """Name the hook among the outputs, so that uninstalling removes it."""
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / STARTUP_HOOK)]


class EditableWithHook(editable_wheel):
    """editable_wheel, and the start-up hook in the wheel that points at the checkout."""

    def _select_strategy(self, name, tag, build_lib):
        return _StrategyWithHook(super()._select_strategy(name, tag, build_lib))


class _StrategyWithHook:
    def __init__(self, inner):
        self.inner = inner

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *exception):
        return self.inner.__exit__(*exception)

    def __call__(self, wheel, files, mapping):
        self.inner(wheel, files, mapping)
        wheel.writestr(STARTUP_HOOK, Path(STARTUP_HOOK).read_bytes())


setup(
    ext_modules=built(),
    cmdclass={"build_py": BuildWithHook, "editable_wheel": EditableWithHook},
)
