"""Shared. How models write tool calls in their text: one dialect a file, each a streaming parser and a grammar.

The parser takes text as it is generated and gives deltas. The grammar holds what is generated to calls of known names
with arguments that fit, from the moment a call is opened. `marks` are those parts of a dialect that may be control
tokens, whose text an answer does not show unless its request asks for it (`Request.visible_ids`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from verbatim.reference.dialects.call_parser import CallParser
from verbatim.reference.dialects.deltas import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.dialects.functionary import FunctionaryParser, functionary_grammar
from verbatim.reference.dialects.hermes import CLOSE, OPEN, HermesParser, hermes_grammar
from verbatim.reference.dialects.llama3 import TAG, Llama3Parser, llama3_grammar
from verbatim.reference.dialects.mistral import MARKS, MistralParser, mistral_grammar
from verbatim.reference.dialects.pythonic import PythonicParser, keyword_arguments, pythonic_grammar
from verbatim.reference.dialects.rules import calls_or_json
from verbatim.reference.records.grammar_text import Grammar

__all__ = [
    "DIALECTS", "CallArguments", "CallStart", "Delta", "Dialect", "DialectParser", "TextDelta", "ThoughtDelta",
    "calls_or_json", "choose_dialect",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to write calls. A chat template that contains one of its `signs` speaks it.

    `grammar(tools, mark_ids, is_forced=, is_parallel=)` is what an assistant with these tools may write.
    """

    name: str
    parser: type[CallParser]
    grammar: Callable[..., Grammar]
    signs: tuple[str, ...]
    marks: tuple[str, ...] = ()
    narrowed: Callable[[dict], tuple[dict, list[str]]] | None = None  # a schema, to what the form of calls can hold

    def mark_ids(self, control_ids: Mapping[str, int]) -> dict[str, int]:
        """Those of its marks that are control tokens of a tokenizer."""
        return {mark: control_ids[mark] for mark in self.marks if mark in control_ids}


DIALECTS = (  # the first is for templates without any sign; a template with signs of several speaks the earliest
    Dialect(name="hermes", parser=HermesParser, grammar=hermes_grammar, signs=("<tool_call>",), marks=(OPEN, CLOSE)),
    Dialect(name="mistral", parser=MistralParser, grammar=mistral_grammar, signs=("[TOOL_CALLS]",), marks=MARKS),
    Dialect(name="functionary", parser=FunctionaryParser, grammar=functionary_grammar, signs=("<function=",)),
    Dialect(
        name="pythonic",
        parser=PythonicParser,
        grammar=pythonic_grammar,
        signs=("[func_name1(",),
        narrowed=keyword_arguments,
    ),
    Dialect(
        name="llama3",
        parser=Llama3Parser,
        grammar=llama3_grammar,
        signs=(TAG, '{"name": function name, "parameters":'),
        marks=(TAG,),
    ),
)


def choose_dialect(template_source: str, name: str | None = None) -> Dialect:
    """The dialect of that name, or else the one that a chat template's source shows; hermes if it shows none."""
    if name is not None:
        return next(dialect for dialect in DIALECTS if dialect.name == name)
    spoken = (dialect for dialect in DIALECTS if any(sign in template_source for sign in dialect.signs))
    return next(spoken, DIALECTS[0])
