"""Where there is a C compiler the fast path is there: its tests skip without it, so its absence must fail somewhere."""

import importlib
import shutil
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNITS = [
    ".".join(("verbatim", *path.relative_to(ROOT).with_suffix("").parts)) for path in (ROOT / "fastpath").rglob("*.pyx")
]


@pytest.mark.parametrize("name", sorted(UNITS))
def test_every_extension_is_built_where_there_is_a_compiler(name):
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"the C compiler that Python was built with, {compiler}, is not on this machine")
    importlib.import_module(name)
