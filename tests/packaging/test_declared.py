"""What `pip install verbatim` brings: every package that a command imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDERS = ("reference", "fastpath", "server", "router", "conformance", "src/verbatim")
WITHOUT = {  # named by a clear error where they are absent: package -> the extra that brings it
    "pycuda": "cuda",
    "gguf": "gguf",
    "pytest": None,  # the conformance suite as a plug-in of pytest, for those who have it
    "tiktoken": None,  # for models whose only tokenizer is a tekken.json
}


def imported(folder):
    """The packages that a folder's modules import."""
    for path in (ROOT / folder).rglob("*.py"):
        if any(parent.is_symlink() for parent in path.parents):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_imported_package_is_declared(folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=\[ ]", line)[0] for line in project["dependencies"]}
    names = set(imported(folder)) - set(sys.stdlib_module_names) - {"verbatim"} - set(WITHOUT)
    distributions = packages_distributions()
    brought = {name: {canonicalize_name(each) for each in distributions.get(name, [name])} for name in names}
    assert [name for name, by in brought.items() if not by & declared] == []
