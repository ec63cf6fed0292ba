"""Shared. How models write tool calls in their text, one small streaming parser a dialect.

A parser takes text as it is generated and gives deltas: plain text, the start of a call, more of its arguments.
However the text is cut into pieces, the deltas joined are the same. What only looks like a call is text, to the last
character; white space around calls belongs to their marks. Arguments are JSON text, not parsed.
"""

import json
import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

from reference.grammar_text import PREAMBLE, Grammar, GrammarKind, json_rule


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """Text that is not part of a call."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStart:
    """A call begins: `index` counts calls from 0, `name` is one of the tools' names."""

    index: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallArguments:
    """More of a call's arguments; joined they are one JSON object, unless the answer was cut short."""

    index: int
    text: str


Delta = TextDelta | CallStart | CallArguments


class DialectParser(Protocol):
    """What every dialect implements; one parser reads one answer."""

    def push(self, text: str) -> list[Delta]:
        """What new text adds, as far as it can be told."""

    def finish(self) -> list[Delta]:
        """What was held back, once no more text can come."""


class HermesParser:
    """`<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, as Hermes and Qwen write it.

    A call counts from where its name, one of `names`, and the brace of its arguments are read. Keys in another
    order, or arguments written as a JSON string, are understood as well, but only once the closing mark has come.
    """

    OPEN, CLOSE = "<tool_call>", "</tool_call>"
    HEAD = re.compile(r'\s*<tool_call>\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"arguments"\s*:\s*(?=\{)')
    TAIL = re.compile(r"\s*\}\s*</tool_call>")

    def __init__(self, names: Set[str]):
        self._names = names
        self._buffer = ""
        self._num_calls = 0
        self._is_after_call = False
        self._read = self._read_text
        self._arguments = _ObjectEnd()

    def push(self, text: str) -> list[Delta]:
        """What new text adds, as far as it can be told."""
        self._buffer += text
        deltas: list[Delta] = []
        while (found := self._read()) is not None:
            deltas += found
        return _joined(deltas)

    def finish(self) -> list[Delta]:
        """A call that was cut short keeps what it has; anything else held back was text after all."""
        rest, self._buffer = self._buffer, ""
        return [TextDelta(text=rest)] if rest and self._read != self._read_close else []

    # Each reader takes what it can from the buffer, and returns None when it needs more text.

    def _read_text(self) -> list[Delta] | None:
        """Up to white space, and a mark, that may begin a call."""
        if self._is_after_call:
            self._buffer = self._buffer.lstrip()
        if (at := self._buffer.find(self.OPEN)) >= 0:
            start = len(self._buffer[:at].rstrip())
            self._read = self._read_head
            return self._text(start)
        safe = len(self._buffer) - _held_length(self._buffer, self.OPEN)
        return self._text(safe) if safe else None

    def _read_head(self) -> list[Delta] | None:
        """The name of a call, or the whole of it if it is written in another way."""
        if (head := self.HEAD.match(self._buffer)) and head[1] in self._names:
            self._buffer = self._buffer[head.end() :]
            self._read, self._arguments = self._read_arguments, _ObjectEnd()
            return [self._start(head[1])]
        if (end := self._buffer.find(self.CLOSE)) < 0:
            return None
        end += len(self.CLOSE)
        self._read = self._read_text
        call = _parse_call(self._buffer[:end].strip().removeprefix(self.OPEN).removesuffix(self.CLOSE), self._names)
        if call is None:
            return self._text(self._buffer.index(self.OPEN) + len(self.OPEN))
        self._buffer, self._is_after_call = self._buffer[end:], True
        return [self._start(call[0]), CallArguments(index=self._num_calls - 1, text=call[1])]

    def _read_arguments(self) -> list[Delta] | None:
        """The arguments, up to the brace that ends them."""
        if not self._buffer:
            return None
        end = self._arguments.find(self._buffer)
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        if self._arguments.is_complete:
            self._read = self._read_close
        return [CallArguments(index=self._num_calls - 1, text=text)]

    def _read_close(self) -> list[Delta] | None:
        """The end of a call; text in its place is text."""
        if tail := self.TAIL.match(self._buffer):
            self._buffer, self._is_after_call = self._buffer[tail.end() :], True
        elif _could_become_tail(self._buffer, self.CLOSE):
            return None
        self._read = self._read_text
        return []

    def _start(self, name: str) -> CallStart:
        self._num_calls += 1
        return CallStart(index=self._num_calls - 1, name=name)

    def _text(self, length: int) -> list[Delta]:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        self._is_after_call = self._is_after_call and not text
        return [TextDelta(text=text)] if text else []


def hermes_grammar(tools: list[dict], *, is_forced: bool, is_parallel: bool) -> Grammar:
    """What an assistant with these tools may write: text and then calls, or calls alone where they are forced.

    From the moment a call is opened, its name is one of the tools' and its arguments fit that tool's schema.
    """
    names = [f"call_{index}" for index in range(len(tools))]
    rules = [
        "start: " + ("OPEN call more*" if is_forced else "(open call)* TAIL?") if is_parallel
        else "start: " + ("OPEN call" if is_forced else "(open call | TAIL)?"),
        'OPEN: "<tool_call>"',
        "open[lazy]: /(?s:.*)<tool_call>/",
        'more: "\\n<tool_call>" call',
        "TAIL: /(?s:.+)/ & ~/(?s:.*)<tool_call>(?s:.*)/",
        f"call: {' | '.join(names)}",
    ]  # fmt: skip
    for name, tool in zip(names, tools, strict=True):
        function = tool["function"]
        head = json.dumps(f'\n{{"name": {json.dumps(function["name"])}, "arguments": ')
        rules.append(f'{name}: {head} arguments_{name} "}}\\n</tool_call>"')
        rules.append(f"arguments_{name}: {json_rule({'type': 'object'} | function.get('parameters', {}))}")
    return Grammar(kind=GrammarKind.LARK, source=PREAMBLE + "\n".join(rules), field="tools")


class _ObjectEnd:
    """Finds the end of one JSON object in text that comes in pieces (RFC 8259)."""

    def __init__(self):
        self.depth, self.is_string, self.is_escaped, self.is_complete = 0, False, False, False

    def find(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for index, character in enumerate(text):
            if self.is_string:
                self.is_string = self.is_escaped or character != '"'
                self.is_escaped = character == "\\" and not self.is_escaped
            elif character == '"':
                self.is_string = True
            elif character in "{[":
                self.depth += 1
            elif character in "}]":
                self.depth -= 1
                if self.depth == 0:
                    self.is_complete = True
                    return index + 1
        return len(text)


def _held_length(text: str, mark: str) -> int:
    """The length of the tail of `text` that is white space, then perhaps the beginning of `mark`."""
    length = next(n for n in range(len(mark) - 1, -1, -1) if text.endswith(mark[:n]))
    return len(text) - len(text[: len(text) - length].rstrip())


def _could_become_tail(text: str, mark: str) -> bool:
    rest = text.lstrip()
    return not rest or (rest[0] == "}" and mark.startswith(rest[1:].lstrip()))


def _parse_call(text: str, names: Set[str]) -> tuple[str, str] | None:
    """Name and arguments of a call that is there in full; None if it is none."""
    try:
        call = json.loads(text)
        arguments = call.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except (ValueError, AttributeError, RecursionError):
        return None
    if call.get("name") not in names or not isinstance(arguments, dict):
        return None
    return call["name"], json.dumps(arguments)


def _joined(deltas: list[Delta]) -> list[Delta]:
    """The same deltas with neighbouring texts in one."""
    joined: list[Delta] = []
    for delta in deltas:
        if joined and isinstance(delta, TextDelta) and isinstance(joined[-1], TextDelta):
            joined[-1] = TextDelta(text=joined[-1].text + delta.text)
        else:
            joined.append(delta)
    return joined
