"""The table of options on the command line of `sanic`: each value goes into the environment as it is parsed.

What is wrong with a command line that is ours ends it with one line: no usage, no traceback.
"""

import argparse
import contextlib
import errno
import os
import re
import socket
from dataclasses import fields
from functools import partial
from pathlib import Path

from verbatim.server.settings.file import LISTENING, listening
from verbatim.server.settings.options import PREFIX, Options, settings_of_file
from verbatim.server.settings.spelling import closest
from verbatim.server.settings.value_types import FLAG, to_text


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


DEFAULT_HOST = "127.0.0.1"
ACTIONS = {
    "api_key": AddToEnvironment,
    "additional_models": AddToEnvironment,
    "lora": AddToEnvironment,
    "served_model_name": AddToEnvironment,
    "config": FileToEnvironment,
}


def register(group_class, prog: str | None = None) -> list[type]:
    """Add our groups to Sanic's parser, whose class `sanic.cli.arguments.Group` is given; returns their classes.

    `prog` is what messages call the command, if not what Sanic calls it.
    """
    titles = filter(None, dict.fromkeys(row.metadata["group"] for row in fields(Options)))
    methods = {"attach": _attach, "prepare": _check_address, "prog": prog}
    return [type(title, (group_class,), {"name": f"Verbatim: {title}", "title": title, **methods}) for title in titles]


def _attach(group, short=False) -> None:
    """Add the rows of one group to Sanic's parser; host and port have defaults in the environment, too."""
    for row in fields(Options):
        if row.metadata["group"] == group.title:
            type_ = row.metadata["type"]
            value = {"nargs": 0} if type_ is FLAG else {"type": type_.read, "metavar": type_.metavar}
            action = ACTIONS.get(row.name, ToEnvironment)
            group.container.add_argument(flag_of(row.name), action=action, help=help_of(row), **value)
    group.parser.set_defaults(motd=False)  # models/start_lines.py says more
    group.parser.prog = group.prog or group.parser.prog
    group.parser.error = partial(complain, group.parser)
    with contextlib.suppress(ValueError):  # reported on starting, with all else that is wrong
        named = {name: os.environ[PREFIX + name.upper()] for name in LISTENING if PREFIX + name.upper() in os.environ}
        group.parser.set_defaults(**listening(settings_of_file() | named))


def complain(parser: argparse.ArgumentParser, message: str):
    """End the command with one line and code 2; a misspelt option is told the closest there is."""
    unknown = re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message, re.DOTALL)
    known = re.findall(r"--[a-z][\w-]+", parser.format_help())
    if meant := unknown and closest(unknown[1], known):
        message = f"{unknown[1]}: did you mean {meant}?"
    parser.exit(2, f"{parser.prog}: {message}\n")


def _check_address(group, arguments) -> None:
    """Complain of a port that cannot be, or that is taken. Sanic calls this before it starts anything."""
    host, port = arguments.host or DEFAULT_HOST, arguments.port
    if port is not None and not 0 <= port <= 65535:
        complain(group.parser, f"argument --port: invalid number: '{port}' (choose from 0 to 65535; 0: any free port)")
    if arguments.action != "serve" or arguments.unix or getattr(arguments, "is_checked", False):
        return
    arguments.is_checked = True
    if port is None:
        port = 8443 if arguments.cert or arguments.tls or arguments.auto_tls else 8000
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
            arguments.port = found.getsockname()[1]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            complain(group.parser, f"argument --port: {port} of {host} is in use: choose another")
        complain(group.parser, f"argument --host: {host} port {port} cannot be listened at: {error.strerror or error}")


def flag_of(name: str) -> str:
    """The option of a row's name: --kv-cache-dtype for kv_cache_dtype."""
    return "--" + name.replace("_", "-")


def help_of(row) -> str:
    """A row's help text, with its default where that is a plain value."""
    text, default = row.metadata["help"], row.default
    if default is None or default is False or default == () or isinstance(default, Path):
        return text
    return f"{text} (default: {','.join(default) if isinstance(default, tuple) else default})"
