"""What a conversation shows: text as it comes, notes in dim lines, tables; plain where there are no colours.

Text of models, servers and files passes `visible`, so that none of it can steer the terminal.
"""

import math
import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from verbatim.cli.chat.answer import Answer
from verbatim.reference.records.errors import RequestError

IMPOSSIBLE = -9999.0  # OpenAI's log-probability of what cannot happen
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # all but newline and tab; what UTF-8 cannot hold


def visible(text: str) -> str:
    """Text with control characters written out, as Python writes them in strings."""
    return CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


class Screen:
    """Writes to a rich console, which knows whether there are colours."""

    def __init__(self, console: Console):
        self.console = console
        self._is_thinking = self._is_in_line = False

    def text(self, text: str, *, is_thought: bool = False) -> None:
        """A piece of an answer, as it is (a file gets its control characters, too); thoughts are dim."""
        if not text:
            return
        if self._is_thinking and not is_thought:
            self.end_line()
        self._is_thinking = is_thought
        shown = visible(text) if self.console.is_terminal else text
        if is_thought:
            self.console.print(shown, style="dim", end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            self.console.file.write(shown)
        self.console.file.flush()
        self._is_in_line = not shown.endswith("\n")

    def end_line(self) -> None:
        """Begin a new line, unless the last piece of text has ended its own."""
        if self._is_in_line:
            self.console.file.write("\n")
        self._is_in_line = self._is_thinking = False

    def interrupt(self) -> None:
        """Ctrl-C: the terminal has shown ^C where the text ended."""
        self._is_in_line = True

    def note(self, text: str) -> None:
        """A dim line."""
        self._print(text, "dim")

    def error(self, text: str) -> None:
        """What went wrong, in a line."""
        self._print(f"error: {text}", "red")

    def line(self, text: str) -> None:
        """A line as it is."""
        self._print(text, "")

    def call(self, call: dict) -> None:
        """A tool call."""
        function = call["function"]
        self._print(f"calls {function['name']}({function['arguments']})", "cyan")

    def _print(self, text: str, style: str) -> None:
        self.end_line()
        self.console.print(
            visible(text), style=style or None, markup=False, highlight=False, emoji=False, soft_wrap=True
        )

    def pairs(self, rows: list[tuple[str, str]]) -> None:
        """Two columns."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in rows:
            table.add_row(*map(_cell, (name, text)))
        self.end_line()
        self.console.print(table, highlight=False)

    def candidates(self, answer: Answer, number: int) -> None:
        """The candidates for token `number` of an answer, from 1 on. RequestError if there is none to show."""
        entries = answer.entries
        if not entries:
            raise RequestError("the server reported no log-probabilities for this answer")
        if not 1 <= number <= len(entries):
            raise RequestError(f"the token must be 1 to {len(entries)}, not {number}")
        entry = entries[number - 1]
        candidates = list(entry.get("top_logprobs") or ())
        if not any(_key(candidate) == _key(entry) for candidate in candidates):
            candidates.append(entry)
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("candidate", no_wrap=True)
        table.add_column("probability", justify="right")
        table.add_column("log-probability", justify="right")
        for candidate in candidates:
            is_chosen = _key(candidate) == _key(entry)
            logprob = candidate.get("logprob", IMPOSSIBLE)
            numbers = f"{math.exp(logprob):.4f}", f"{round(logprob, 3) + 0:.3f}"
            name = repr(candidate.get("token", "")) + (" *" if is_chosen else "")
            table.add_row(_cell(name), *numbers, style="bold" if is_chosen else "")
        self.end_line()
        before = "".join(str(item.get("token", "")) for item in entries[max(0, number - 9) : number - 1])
        self.note(f"token {number} of {len(entries)}, {f'after {before!r}' if before else 'the first of the answer'}")
        self.console.print(table, highlight=False)
        self.note("* the token of the answer; probabilities are the model's, before temperature and other settings")


def _key(candidate: dict) -> tuple:
    return candidate.get("token"), tuple(candidate.get("bytes") or ())


def _cell(text: str) -> Text:
    """A cell of a table: no markup in it."""
    return Text(visible(text))
