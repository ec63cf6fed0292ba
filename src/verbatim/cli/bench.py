"""`verbatim bench`: the commands of benchmarks/, which is no part of an installed package."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from verbatim.cli.main import complain, suggestion
from verbatim.cli.version import CHECKOUT, PACKAGE

FOLDER = CHECKOUT / "benchmarks"
BEGINNING = "`python -m benchmarks."
HELP = """Usage: verbatim bench [NAME [OPTION ...]]

Run a benchmark, with the options that it has: verbatim bench NAME --help shows them."""


def bench(words: list[str]) -> int:
    """List the benchmarks, or run the one that is named; returns its exit code."""
    if not (FOLDER / "__init__.py").is_file() or not (CHECKOUT / "setup.py").is_file():
        return complain("bench", "benchmarks/ is not installed: run it with an editable install of a checkout")
    found = benchmarks()
    if not words or words[0] in ("-h", "--help"):
        print(HELP + "\n")
        for name, text in found.items():
            print(f"  {name:<12} {text}")
        return 0
    if words[0] not in found:
        return complain("bench", f"{words[0]}: {suggestion(words[0], found)}")
    command = [sys.executable, "-P", "-m", f"benchmarks.{words[0]}", *words[1:]]
    paths = [str(CHECKOUT), str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}).returncode


def benchmarks() -> dict[str, str]:
    """Name -> what it measures, for every module that says in its first line how it is called."""
    found = {}
    for path in sorted({*FOLDER.glob("*.py"), *FOLDER.glob("*/__main__.py")}):
        line = first_line(path)
        if line.startswith(BEGINNING):
            name, _, text = line.removeprefix(BEGINNING).partition("`")
            found[name.split()[0]] = text.removeprefix(": ")
    return found


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
