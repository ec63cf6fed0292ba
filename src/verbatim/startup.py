"""Lets the plain `sanic` command serve us: `sanic server.app --backend fastpath`.

`zz_verbatim.pth` imports this module at the start of any interpreter whose command line names one of the targets below.
It must stay light: nothing of Sanic is imported here. Nothing happens unless no other project offers an application by
that name; other Sanic applications run as if we were not installed. A broken installation of ours is silent, too.
"""

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

PARSER = "sanic.cli.arguments"
TARGETS = {
    "server.app": "verbatim.server.app:app",
    "server:app": "verbatim.server.app:app",
    "server.app:app": "verbatim.server.app:app",
    "server.app:create_app": "verbatim.server.app:create_app",
}


class ParserFinder(importlib.abc.MetaPathFinder):
    """Finds Sanic's parser module once; right after it has run, adds our options and names our application."""

    def find_spec(self, name, path=None, target=None):
        """The parser's own spec with one step added; None for every other module."""
        if name != PARSER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            with contextlib.suppress(Exception):
                from verbatim.server.settings.command_line import register

                register(module.Group)
                sys.argv[1:] = [TARGETS.get(word, word) for word in sys.argv[1:]]
                if "--factory" in sys.argv:
                    sys.argv[1:] = [word.replace("app:app", "app:create_app") for word in sys.argv[1:]]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # one step added
        return spec


def offers_app(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Whether another project's module `server`, or its submodule `server.app`, may hold a Sanic application.

    Reads the source and runs nothing. The `server` folder of a checkout of this project is not another project's.
    """
    if spec is None:
        return False
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = [path for folder in folders for path in (*folder.glob("app.*"), *folder.glob("app/__init__.*"))]
    files = [path for path in found if path.name.endswith(tuple(importlib.machinery.all_suffixes()))]
    if files:
        return not any("verbatim.server" in path.read_text(encoding="utf-8", errors="replace") for path in files)
    if spec.origin is None or not spec.origin.endswith(".py"):
        return spec.origin is not None
    return binds_app(Path(spec.origin).read_text(encoding="utf-8", errors="replace"))


def binds_app(source: str) -> bool:
    """Whether a module's source may give it an attribute `app`; not if it cannot be parsed."""
    try:
        return not {"app", "*", "__getattr__"}.isdisjoint(names_bound(ast.parse(source)))
    except (SyntaxError, ValueError):
        return False


def names_bound(node: ast.AST) -> Iterator[str]:
    """The names that a module's statements give it, those in functions only where they are declared global.

    A name for a constant is left out: no text or number is an application.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Assign) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name
            yield from (name for inner in ast.walk(child) if isinstance(inner, ast.Global) for name in inner.names)
            continue
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, ast.alias):
            yield child.asname or child.name
        yield from names_bound(child)


def install() -> None:
    """Put the finder in front if the command line means us; once, as a hook may be processed twice."""
    installed = any(type(finder).__name__ == ParserFinder.__name__ for finder in sys.meta_path)
    if installed or PARSER in sys.modules or TARGETS.keys().isdisjoint(sys.orig_argv):
        return
    here = importlib.machinery.PathFinder.find_spec("server", [str(Path.cwd())])
    if not offers_app(importlib.util.find_spec("server")) and not offers_app(here):
        sys.meta_path.insert(0, ParserFinder())


install()
