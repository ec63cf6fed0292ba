"""What is typed: lines with editing, history and completion in a terminal, else plain lines.

A message is sent by Enter. A line that ends with a backslash, and text between two lines of three quotes, continues on
the next line; Alt-Enter begins a new line, too.
"""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

QUOTES = '"""'


class Keyboard(Protocol):
    """Where messages come from."""

    def read(self, prompt: str, *, is_message: bool = True) -> str:
        """The next text. EOFError at the end, KeyboardInterrupt after Ctrl-C.

        What is no message is not kept in the history and gets no completion.
        """


def is_open(text: str) -> bool:
    """Whether text continues on the next line."""
    if text.lstrip().startswith(QUOTES):
        return not (text.rstrip().endswith(QUOTES) and len(text.strip()) >= 2 * len(QUOTES))
    return text.endswith("\\")


def content_of(text: str) -> str:
    """What typed text means: without the quotes around it, or without the backslashes at the ends of lines."""
    inner = text.strip()
    if inner.startswith(QUOTES) and not is_open(text):
        return inner[len(QUOTES) : -len(QUOTES)].strip("\n")
    return re.sub(r"\\\n", "\n", text)


class PlainKeyboard:
    """Lines of standard input; the prompts go to standard error, so that a file gets the answers alone."""

    def read(self, prompt: str, *, is_message: bool = True) -> str:
        """The next text."""
        text = self._line(prompt)
        while is_open(text):
            text += "\n" + self._line("... ")
        return content_of(text)

    @staticmethod
    def _line(prompt: str) -> str:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


def terminal_keyboard(words: dict[str, list[str] | None], *, has_history: bool) -> Keyboard:
    """A keyboard with editing; `words` are commands with the words that may follow, None where those are files."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_file() if has_history else None
    common = {"multiline": True, "key_bindings": _bindings(), "prompt_continuation": "... "}
    messages: PromptSession = PromptSession(
        history=FileHistory(str(path)) if path else InMemoryHistory(),
        completer=_completer(words), complete_while_typing=False, **common,
    )  # fmt: skip
    others: PromptSession = PromptSession(history=InMemoryHistory(), **common)

    class TerminalKeyboard:
        def read(self, prompt: str, *, is_message: bool = True) -> str:
            return content_of((messages if is_message else others).prompt(prompt))

    return TerminalKeyboard()


def _completer(words: dict[str, list[str] | None]):
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    files = PathCompleter(expanduser=True)

    class CommandCompleter(Completer):
        def get_completions(self, document, complete_event):
            command, space, rest = document.text_before_cursor.partition(" ")
            known = words.get(command, []) if space else list(words)
            if known is None:
                yield from files.get_completions(Document(rest), complete_event)
                return
            typed = rest if space else command
            for word in known if typed or space else ():
                if word.startswith(typed):
                    yield Completion(word, start_position=-len(typed))

    return CommandCompleter()


def _bindings():
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _(event) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def history_file() -> Path | None:
    """Where messages are kept, readable by its owner alone; None if that cannot be written."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "verbatim" / "chat_history"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        return path
    return None
