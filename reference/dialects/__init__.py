"""Shared. How models write tool calls in their text: a row for each format, of which parser and grammar are made.

The parser takes text as it is generated and gives deltas. The grammar holds what is generated to calls of known names
with arguments that fit, from the moment a call is opened. Rows are gathered by how calls are written: arguments as JSON
(json_formats.py), parameters between marks (xml_formats.py), calls of Python and braces (python_formats.py); llama3 and
mistral have files of their own. thoughts.py has the formats of what models think before they answer.
"""

from verbatim.reference.dialects.deltas import CallArguments, CallStart, Delta, DialectParser, TextDelta, ThoughtDelta
from verbatim.reference.dialects.dialect import Dialect
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

DIALECTS = (  # a template with signs of several formats shows the earliest: those that are more special come first
    *XML_DIALECTS,
    *BRACE_DIALECTS,
    *PYTHON_DIALECTS,
    *JSON_DIALECTS,
    Dialect(name="mistral", parser=MistralParser, grammar=mistral_grammar, signs=("[TOOL_CALLS]",), marks=MARKS),
    Dialect(
        name="llama3",
        parser=Llama3Parser,
        grammar=llama3_grammar,
        signs=(TAG, '{"name": function name, "parameters":'),
        marks=(TAG,),
    ),
)
DEFAULT = "hermes"


def choose_dialect(template_source: str, name: str | None = None) -> Dialect:
    """The dialect of that name, or else the one that a chat template's source shows; hermes if it shows none."""
    if name is None:
        shown = (dialect.name for dialect in DIALECTS if dialect.is_shown(template_source))
        name = next(shown, DEFAULT)
    return next(dialect for dialect in DIALECTS if dialect.name == name)
