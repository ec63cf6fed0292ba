"""Links the parts of the repository into one package, `verbatim`, and says what is added to wheels and archives.

Everything else is declared in pyproject.toml; build_fastpath.py has the Cython part.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.command.sdist import sdist

sys.path.insert(0, str(Path(__file__).parent))  # an isolated build does not look here
from build_fastpath import PACKAGE, ParallelBuild, extensions, shared_sources

PARTS = ("reference", "fastpath", "server", "router", "conformance", "demo", "cuda")
STARTUP_HOOK = Path("src/zz_verbatim.pth")  # sorts after an editable install's own .pth, whose path it needs
REVISION = PACKAGE / "revision.txt"  # in source archives only


def link_parts() -> None:
    """Make src/verbatim/reference a link to reference/, and so on: the layout that Python and Cython expect."""
    for part in PARTS:
        link = PACKAGE / part
        if link.exists():
            continue
        try:
            link.symlink_to(os.path.relpath(part, PACKAGE), target_is_directory=True)
        except OSError:  # Windows without the right to make symbolic links has junctions
            import _winapi

            _winapi.CreateJunction(str(Path(part).resolve()), str(link))


def revision() -> str:
    """The git revision of this checkout, or the one that a source archive has written down; "unknown" without either.

    A repository further up, in which an archive may have been unpacked, is not asked.
    """
    if REVISION.is_file():
        return REVISION.read_text(encoding="utf-8")
    if Path(".git").exists():
        command = ["git", "rev-parse", "--short=12", "HEAD"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "unknown\n"


class BuildWithHook(build_py):
    """build_py, and in an ordinary wheel the start-up hook beside the package and the revision in it."""

    def run(self):
        """Build, then add the two files."""
        super().run()
        if not self.editable_mode:
            shutil.copy(STARTUP_HOOK, Path(self.build_lib) / STARTUP_HOOK.name)
            (Path(self.build_lib) / "verbatim" / REVISION.name).write_text(revision(), encoding="utf-8")

    def get_outputs(self, include_bytecode=True):
        """Name the two among the outputs, so that uninstalling removes them."""
        added = [Path(self.build_lib) / STARTUP_HOOK.name, Path(self.build_lib) / "verbatim" / REVISION.name]
        return [*super().get_outputs(include_bytecode), *map(str, added)]


class ArchiveWithRevision(sdist):
    """sdist, with the revision that it was made of."""

    def make_release_tree(self, base_dir, files):
        """Make the tree, then write the revision into it."""
        super().make_release_tree(base_dir, files)
        (Path(base_dir) / REVISION).write_text(revision(), encoding="utf-8")


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
        wheel.writestr(STARTUP_HOOK.name, STARTUP_HOOK.read_bytes())


if __name__ == "__main__":
    link_parts()
    setup(
        ext_modules=[*extensions(), *shared_sources()],
        cmdclass={
            "build_ext": ParallelBuild,
            "build_py": BuildWithHook,
            "editable_wheel": EditableWithHook,
            "sdist": ArchiveWithRevision,
        },
    )
