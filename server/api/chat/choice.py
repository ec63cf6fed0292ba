"""Chats as they are built from outputs: the message of each choice, whole and as streamed chunks.

Text between the markers of a tool call is parsed only if the request has tools and may call them.
"""

from collections.abc import Sequence
from typing import Any

from verbatim.reference.dialects import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.records.request import FinishReason, Output, TokenLogprob
from verbatim.server.api.builder import ChunkBuilder, is_cut
from verbatim.server.api.logprobs import chat_entry

CALL_DIGITS = 20  # of a chat's id that the ids of its calls begin with


def call_prefix(answer_id: str) -> str:
    """What the ids of an answer's calls begin with."""
    return f"call_{answer_id.rpartition('-')[2][:CALL_DIGITS]}"


class ChatBuilder(ChunkBuilder["ChatChoice"]):
    """A chat's chunks; whole ones may hold the log-probabilities of the prompt's tokens."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self._scores: list[dict] = []

    def add_prompt_logprobs(self, entries: Sequence[TokenLogprob]) -> None:
        """Keep them for the whole answer."""
        self._scores += map(chat_entry, entries)

    def whole(self) -> dict:
        """The whole answer. Nothing comes before the prompt's first token, so that one has no probability."""
        wants_scores = any(request.prompt_logprobs is not None for request in self.requests)
        return super().whole() | ({"prompt_logprobs": [None, *self._scores]} if wants_scores else {})


class ChatChoice:
    """One assistant message, built from outputs; gives each part as a streamed `choices` item.

    `echo` is the text that goes in front of it.
    """

    def __init__(
        self, index: int, answer_id: str, parser: DialectParser | None, wants_logprobs: bool, echo: str = "",
        shows_thought: bool = True,
    ):  # fmt: skip
        self.index = index
        self.echo = echo
        self.call_prefix = f"{call_prefix(answer_id)}_{index}_"
        self.parser = parser
        self.logprobs: list[dict] | None = [] if wants_logprobs else None
        self.has_begun = False
        self.is_text_only = parser is None and not wants_logprobs
        self.shows_thought = shows_thought
        self.content: list[str] = []
        self.thought = ""
        self.calls: list[dict] = []
        self.finish_reason: str | None = None

    def take(self, output: Output) -> list[dict]:
        """The role first, then text and calls as they come, at last an empty item with the finish reason."""
        if self.is_text_only and self.has_begun and not output.finish_reason:  # as nearly always: no call to spare
            if not (text := output.text):
                return []
            self.content.append(text)
            return [{"index": self.index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]
        if self.echo and not self.has_begun:
            return self._begin_with_echo(output)
        deltas = self._deltas(output)
        if self.has_begun and self.logprobs is None and not output.finish_reason:
            return [self._item(delta) for delta in deltas]
        items = [] if self.has_begun else [self._item({"role": "assistant", "content": "", "refusal": None})]
        self.has_begun = True
        entries: list[dict] = []
        if self.logprobs is not None and output.logprobs:
            entries = [chat_entry(entry) for entry in output.logprobs]
            self.logprobs += entries
            deltas = deltas or [{"content": ""}]
        for delta in deltas:
            items.append(self._item(delta, entries))
            entries = []
        if output.finish_reason:
            self.finish_reason = self._finish_reason(output)
            items.append(self._item({}))
        return items

    def _begin_with_echo(self, output: Output) -> list[dict]:
        text, self.echo = self._add_text(self.echo), ""
        first, *others = self.take(output)
        return [first, self._item(text) | {"finish_reason": None}, *others]

    def whole(self) -> dict:
        """The finished choice: content is null when there are only calls."""
        content = "".join(self.content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not content else content,
            "refusal": None,
        }
        if self.thought:
            message |= _reasoning(self.thought)
        if self.calls:
            message["tool_calls"] = self.calls
        item = {"index": self.index, "message": message, "finish_reason": self.finish_reason}
        return item | {"logprobs": self._logprobs(self.logprobs)}

    def empty(self) -> dict:
        """An item that adds nothing."""
        return self._item({})

    def _item(self, delta: dict, entries: list[dict] | None = None) -> dict:
        logprobs = self._logprobs(entries) if entries else None
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": self.finish_reason}

    @staticmethod
    def _logprobs(entries: list[dict] | None) -> dict | None:
        return None if entries is None else {"content": entries, "refusal": None}

    def _deltas(self, output: Output) -> list[dict]:
        if self.parser is None:
            return [self._add_text(output.text)] if output.text else []
        parsed = self.parser.push(output.text)
        if output.finish_reason:
            parsed += self.parser.finish(is_cut=is_cut(output))
        if not self.shows_thought:
            parsed = [delta for delta in parsed if not isinstance(delta, ThoughtDelta)]
        return [self._apply(delta) for delta in parsed]

    def _add_text(self, text: str) -> dict:
        self.content.append(text)
        return {"content": text}

    def _apply(self, delta: Delta) -> dict:
        match delta:
            case TextDelta(text=text):
                return self._add_text(text)
            case ThoughtDelta(text=text):
                self.thought += text
                return _reasoning(text)
            case CallStart(index=index, name=name):
                call = {"id": f"{self.call_prefix}{index}", "type": "function"}
                self.calls.append(call | {"function": {"name": name, "arguments": ""}})
                return {"tool_calls": [{"index": index} | call | {"function": {"name": name, "arguments": ""}}]}
            case CallArguments(index=index, text=text):
                self.calls[index]["function"]["arguments"] += text
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    def _finish_reason(self, output: Output) -> str:
        has_called = self.calls and output.finish_reason is FinishReason.STOP
        return "tool_calls" if has_called else str(output.finish_reason)


def _reasoning(text: str) -> dict:
    """A thought under both of the names by which clients look for it."""
    return {"reasoning": text, "reasoning_content": text}
