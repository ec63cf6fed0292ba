"""Lets the plain `sanic` command serve us: `sanic server.app --backend fastpath`.

`zz_verbatim.pth` imports this module at the start of any interpreter whose command line says `sanic`. It must stay
light: nothing of Sanic is imported here. Nothing happens unless the command line names `server.app` and no other
project offers an application by that name; other Sanic applications run as if we were not installed.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path

PARSER = "sanic.cli.arguments"
TARGETS = ("server.app", "server:app", "server.app:app")
APP = "verbatim.server.app:app"
BINDS_APP = re.compile(r"^\s*(?:app\s*(?::[^=]*)?=[^=]|(?:async\s+)?def\s+app\b|.*\bimport\b.*\bapp\b)", re.MULTILINE)


class ParserFinder(importlib.abc.MetaPathFinder):
    """Finds Sanic's parser module once; right after it has run, adds our options and names our application."""

    def find_spec(self, name, path=None, target=None):
        """The parser's own spec with one step added; None for every other module."""
        if name != PARSER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            from verbatim.server.settings.command_line import register

            register(module.Group)
            sys.argv[1:] = [APP if word in TARGETS else word for word in sys.argv[1:]]

        spec.loader.exec_module = exec_module
        return spec


def offers_app(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Whether another project's module `server`, or its submodule `server.app`, may hold a Sanic application.

    Reads the source and runs nothing. The `server` folder of a checkout of this project is not another project's.
    """
    if spec is None:
        return False
    files = [Path(folder) / "app.py" for folder in spec.submodule_search_locations or ()]
    files = [path for path in files if path.is_file()]
    if any("verbatim.server" in path.read_text(encoding="utf-8", errors="replace") for path in files):
        return False
    if files or spec.origin is None or not spec.origin.endswith(".py"):
        return bool(files or spec.origin)
    return bool(BINDS_APP.search(Path(spec.origin).read_text(encoding="utf-8", errors="replace")))


def install() -> None:
    """Put the finder in front if the command line means us; once, as a hook may be processed twice."""
    installed = any(type(finder).__name__ == ParserFinder.__name__ for finder in sys.meta_path)
    if installed or PARSER in sys.modules or not any(word in TARGETS for word in sys.orig_argv):
        return
    here = importlib.machinery.PathFinder.find_spec("server", [str(Path.cwd())])
    if not offers_app(importlib.util.find_spec("server")) and not offers_app(here):
        sys.meta_path.insert(0, ParserFinder())


install()
