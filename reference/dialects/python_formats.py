"""Shared. The formats in which calls are written as in Python, or with keys and values in braces, a row each."""

import re
from functools import partial

from verbatim.reference.dialects.brace_format import BraceFormat, BraceParser
from verbatim.reference.dialects.brace_grammar import brace_grammar, brace_narrowed, quotes
from verbatim.reference.dialects.dialect import Dialect
from verbatim.reference.dialects.python_format import PythonFormat, PythonParser
from verbatim.reference.dialects.python_grammar import keyword_arguments, python_grammar

FORMATS: tuple[tuple[PythonFormat, tuple[str | re.Pattern[str], ...]], ...] = (
    (PythonFormat(name="llama4", opening="<|python_start|>", closing="<|python_end|>", is_bare=True),
     ("<|python_start|>",)),
    (PythonFormat(name="lfm2", opening="<|tool_call_start|>", closing="<|tool_call_end|>"),
     ("<|tool_call_start|>", "<|tool_list_start|>")),
    (PythonFormat(name="olmo3", opening="<function_calls>", closing="</function_calls>", is_listed=False),
     ("<function_calls>",)),
    (PythonFormat(name="gemma3", opening="```tool_code", closing="```", is_listed=False), ("```tool_code",)),
    (PythonFormat(name="pythonic", is_bare=True), ("[func_name1(",)),
)  # fmt: skip
BRACES = (
    (BraceFormat(name="gemma4", opening="<|tool_call>", closing="<tool_call|>", quote='<|"|>'), ("<|tool_call>",)),
    (BraceFormat(name="functiongemma", opening="<start_function_call>", closing="<end_function_call>",
                 quote="<escape>"),
     ("<start_function_call>",)),
)  # fmt: skip

PYTHON_DIALECTS = tuple(
    Dialect(
        name=form.name, parser=partial(PythonParser, form), grammar=partial(python_grammar, form), signs=signs,
        marks=tuple(mark for mark in (form.opening, form.closing) if mark.startswith("<")), narrowed=keyword_arguments,
    )
    for form, signs in FORMATS
)  # fmt: skip
BRACE_DIALECTS = tuple(
    Dialect(
        name=form.name, parser=partial(BraceParser, form), grammar=partial(brace_grammar, form), signs=signs,
        marks=quotes(form), narrowed=brace_narrowed,
    )
    for form, signs in BRACES
)  # fmt: skip
