"""Shared. A dialect: one way to write tool calls, as the server knows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from re import Pattern

from verbatim.reference.dialects.deltas import DialectParser
from verbatim.reference.records.grammar_text import Grammar


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to write calls. A chat template that contains one of its `signs` shows it.

    `parser(tools)` reads one answer that may call those tools, as OpenAI's API writes them.
    `grammar(tools, mark_ids, is_forced=, is_parallel=)` is what an assistant with these tools may write.
    """

    name: str
    parser: Callable[[Sequence[dict]], DialectParser]
    grammar: Callable[..., Grammar]
    signs: tuple[str | Pattern[str], ...]  # texts, or patterns to search for
    marks: tuple[str, ...] = ()
    narrowed: Callable[[dict], tuple[dict, list[str]]] | None = None  # a schema, to what the form of calls can hold

    def mark_ids(self, control_ids: Mapping[str, int]) -> dict[str, int]:
        """Those of its marks that are control tokens of a tokenizer."""
        return {mark: control_ids[mark] for mark in self.marks if mark in control_ids}

    def is_shown(self, template_source: str) -> bool:
        """Whether a chat template's source contains one of the signs."""
        return any(
            sign in template_source if isinstance(sign, str) else sign.search(template_source) is not None
            for sign in self.signs
        )
