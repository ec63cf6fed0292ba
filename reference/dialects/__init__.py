"""Shared. How models write tool calls in their text: one dialect a file, each a streaming parser and a grammar.

The parser takes text as it is generated and gives deltas. The grammar holds what is generated to calls of known names
with arguments that fit, from the moment a call is opened. `marks` are those parts of a dialect that may be control
tokens, whose text an answer does not show unless its request asks for it (`Request.visible_ids`).
"""

from collections.abc import Callable, Sequence, Set

from verbatim.reference.dialects.deltas import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.dialects.dialect import Dialect, names_of
from verbatim.reference.dialects.functionary import FunctionaryParser, functionary_grammar
from verbatim.reference.dialects.hermes import CLOSE, OPEN, HermesParser, hermes_grammar
from verbatim.reference.dialects.json_formats import JSON_DIALECTS
from verbatim.reference.dialects.llama3 import TAG, Llama3Parser, llama3_grammar
from verbatim.reference.dialects.mistral import MARKS, MistralParser, mistral_grammar
from verbatim.reference.dialects.python_formats import BRACE_DIALECTS, PYTHON_DIALECTS
from verbatim.reference.dialects.rules import calls_or_json
from verbatim.reference.dialects.xml_formats import XML_DIALECTS

__all__ = [
    "DIALECTS", "CallArguments", "CallStart", "Delta", "Dialect", "DialectParser", "TextDelta", "ThoughtDelta",
    "calls_or_json", "choose_dialect",
]  # fmt: skip


def _of_names(parser: Callable[[Set[str]], DialectParser]) -> Callable[[Sequence[dict]], DialectParser]:
    """A parser that needs no more than the tools' names."""
    return lambda tools: parser(names_of(tools))


DIALECTS = (  # the first is for templates without any sign; a template with signs of several speaks the earliest
    Dialect(
        name="hermes",
        parser=_of_names(HermesParser),
        grammar=hermes_grammar,
        signs=("<tool_call>",),
        marks=(OPEN, CLOSE),
    ),
    Dialect(
        name="mistral", parser=_of_names(MistralParser), grammar=mistral_grammar, signs=("[TOOL_CALLS]",), marks=MARKS
    ),
    Dialect(
        name="functionary", parser=_of_names(FunctionaryParser), grammar=functionary_grammar, signs=("<function=",)
    ),
    Dialect(
        name="llama3",
        parser=_of_names(Llama3Parser),
        grammar=llama3_grammar,
        signs=(TAG, '{"name": function name, "parameters":'),
        marks=(TAG,),
    ),
    *PYTHON_DIALECTS,
    *BRACE_DIALECTS,
    *XML_DIALECTS,
    *JSON_DIALECTS,
)
# A template with signs of several formats shows the earliest: those that are more special come first.
SPECIAL = (*XML_DIALECTS, *BRACE_DIALECTS, *PYTHON_DIALECTS, *JSON_DIALECTS)
CHOICE = (*SPECIAL, *DIALECTS[: -len(SPECIAL)])


def choose_dialect(template_source: str, name: str | None = None) -> Dialect:
    """The dialect of that name, or else the one that a chat template's source shows; hermes if it shows none."""
    if name is not None:
        return next(dialect for dialect in DIALECTS if dialect.name == name)
    return next((dialect for dialect in CHOICE if dialect.is_shown(template_source)), DIALECTS[0])
