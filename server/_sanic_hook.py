"""Lets the plain `sanic` command know our options: when it imports its parser, our group joins it.

`zz_verbatim.pth` imports this module at the start of any interpreter whose command line says `sanic`. It must stay
light: nothing of Sanic is imported here, and nothing happens unless Sanic's own command reaches its parser.
"""

import importlib.abc
import importlib.util
import sys

PARSER = "sanic.cli.arguments"


class ParserFinder(importlib.abc.MetaPathFinder):
    """Finds Sanic's parser module once, and registers our options right after it has run."""

    def find_spec(self, name, path=None, target=None):
        """The parser's own spec with one step added; None for every other module."""
        if name != PARSER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            from server.command_line import register

            register(module.Group)

        spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Put the finder in front, once: a start-up hook may be processed twice in a virtual environment."""
    installed = any(type(finder).__name__ == ParserFinder.__name__ for finder in sys.meta_path)
    if PARSER not in sys.modules and not installed:
        sys.meta_path.insert(0, ParserFinder())


install()
