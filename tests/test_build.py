"""If a C compiler is installed, the fast path is built. Other tests skip without it, so this test must fail then."""

import importlib
import shutil
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNITS = {  # a .pxd without a .pyx gives C types to the reference's module of that name
    ".".join(("verbatim", *path.relative_to(ROOT).with_suffix("").parts))
    for path in (ROOT / "fastpath").rglob("*")
    if path.suffix in (".pyx", ".pxd")
}


@pytest.mark.parametrize("name", sorted(UNITS))
def test_every_extension_is_built_if_a_compiler_is_installed(name):
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"the C compiler that Python was built with, {compiler}, is not on this machine")
    importlib.import_module(name)
