"""The table of options on the command line of `sanic`: each value goes into the environment as it is parsed."""

import argparse
import contextlib
import os
from dataclasses import fields
from pathlib import Path

from verbatim.server.settings.file import LISTENING, listening
from verbatim.server.settings.kinds import FLAG, to_text
from verbatim.server.settings.options import PREFIX, Options, settings_of_file


class ToEnvironment(argparse.Action):
    """Stores a value in the namespace, and in the environment where the other processes look."""

    repeats = False

    def __call__(self, parser, namespace, value, option_string=None):
        """Called by argparse for each use of the option; a flag has no value."""
        if self.nargs == 0:
            value = True
        if self.repeats:
            value = (*(getattr(namespace, self.dest) or ()), *value)
        setattr(namespace, self.dest, value)
        os.environ[PREFIX + self.dest.upper()] = to_text(value)


class AddToEnvironment(ToEnvironment):
    """The same for an option that may be given several times."""

    repeats = True


class FileToEnvironment(ToEnvironment):
    """The same for `--config`, which also says where to listen if the command line does not."""

    def __call__(self, parser, namespace, value, option_string=None):
        """Called by argparse; what is wrong with the file ends the command."""
        super().__call__(parser, namespace, value, option_string)
        try:
            for name, setting in listening(settings_of_file()).items():
                if getattr(namespace, name, None) is None:
                    setattr(namespace, name, setting)
        except ValueError as error:
            parser.error(str(error))


ACTIONS = {"api_key": AddToEnvironment, "additional_models": AddToEnvironment, "config": FileToEnvironment}


def register(group_class) -> None:
    """Add our groups to Sanic's parser; `group_class` is `sanic.cli.arguments.Group`."""
    for title in filter(None, dict.fromkeys(row.metadata["group"] for row in fields(Options))):
        type(title, (group_class,), {"name": f"Verbatim: {title}", "attach": _attach, "title": title})


def _attach(group, short=False) -> None:
    """Add the rows of one group to Sanic's parser; host and port have defaults in the environment, too."""
    for row in fields(Options):
        if row.metadata["group"] == group.title:
            kind = row.metadata["kind"]
            value = {"nargs": 0} if kind is FLAG else {"type": kind.read, "metavar": kind.metavar}
            action = ACTIONS.get(row.name, ToEnvironment)
            flag = "--" + row.name.replace("_", "-")
            group.container.add_argument(flag, action=action, help=_help(row), **value)
    with contextlib.suppress(ValueError):  # reported on starting, with all else that is wrong
        named = {name: os.environ[PREFIX + name.upper()] for name in LISTENING if PREFIX + name.upper() in os.environ}
        group.parser.set_defaults(**listening(settings_of_file() | named))


def _help(row) -> str:
    text, default = row.metadata["help"], row.default
    if default is None or default is False or default == () or isinstance(default, Path):
        return text
    return f"{text} (default: {','.join(default) if isinstance(default, tuple) else default})"
