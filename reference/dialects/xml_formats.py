"""Shared. The formats with parameters between marks, a row each."""

import re
from functools import partial

from verbatim.reference.dialects.dialect import Dialect
from verbatim.reference.dialects.xml_format import XmlFormat
from verbatim.reference.dialects.xml_grammar import XmlRules, xml_narrowed
from verbatim.reference.dialects.xml_parser import XmlParser
from verbatim.reference.records.grammar_text import Grammar

FUNCTION = {
    "call_open": ("<function=",), "call_named": (">",), "call_close": ("</function>",),
    "parameter_open": "<parameter=", "parameter_keyed": (">",), "parameter_close": "</parameter>",
}  # fmt: skip
ARGUMENT = {
    "call_close": ("</tool_call>",), "parameter_open": "<arg_key>", "parameter_keyed": ("</arg_key>", "<arg_value>"),
    "parameter_close": "</arg_value>",
}  # fmt: skip
INVOKE = {
    "call_open": ('<invoke name="',), "call_named": ('">',), "call_close": ("</invoke>",),
    "parameter_open": '<parameter name="', "parameter_keyed": ('">',), "parameter_close": "</parameter>",
}  # fmt: skip
DSML = {
    "call_open": ('<｜DSML｜invoke name="',), "call_named": ('">',), "call_close": ("</｜DSML｜invoke>",),
    "parameter_open": '<｜DSML｜parameter name="', "parameter_keyed": ('">',), "parameter_close": "</｜DSML｜parameter>",
    "string_keyed": '" string="true">', "json_keyed": '" string="false">',
}  # fmt: skip
STEP = {
    "call_open": ("<｜tool_call_begin｜>", "function", "<｜tool_sep｜>", '<steptml:invoke name="'), "call_named": ('">',),
    "call_close": ("</steptml:invoke>", "<｜tool_call_end｜>"), "parameter_open": '<steptml:parameter name="',
    "parameter_keyed": ('">',), "parameter_close": "</steptml:parameter>",
}  # fmt: skip

FORMATS: tuple[tuple[XmlFormat, tuple[str | re.Pattern[str], ...]], ...] = (
    (XmlFormat(name="step3", block_open="<｜tool_calls_begin｜>", block_close="<｜tool_calls_end｜>", **STEP),
     ("<steptml:invoke",)),
    (XmlFormat(name="deepseek_v32", block_open="<｜DSML｜function_calls>", block_close="</｜DSML｜function_calls>", **DSML),
     (re.compile(r"DSML｜?.{0,20}function_calls>", re.DOTALL),)),
    (XmlFormat(name="deepseek_v4", block_open="<｜DSML｜tool_calls>", block_close="</｜DSML｜tool_calls>", **DSML),
     ("｜DSML｜",)),
    (XmlFormat(name="hunyuan_v3", block_open="<tool_calls>", block_close="</tool_calls>", call_open=("<tool_call>",),
               call_named=("<tool_sep>",), **ARGUMENT),
     ("<tool_sep>",)),
    (XmlFormat(name="minimax_m2", block_open="<minimax:tool_call>", block_close="</minimax:tool_call>", **INVOKE),
     ("<minimax:tool_call>",)),
    (XmlFormat(name="seed_oss", block_open="<seed:tool_call>", block_close="</seed:tool_call>", **FUNCTION),
     ("<seed:tool_call>",)),
    (XmlFormat(name="qwen3_coder", block_open="<tool_call>", block_close="</tool_call>", is_padded=True,
               has_bare_calls=True, **FUNCTION),
     (re.compile(r"<function=.*<parameter=", re.DOTALL),)),
    (XmlFormat(name="glm47", call_open=("<tool_call>",), **ARGUMENT),
     (re.compile(r"<tool_call>\{[\w-]+\}<arg_key>"),)),
    (XmlFormat(name="glm45", call_open=("<tool_call>",), **ARGUMENT), ("<arg_key>",)),
)  # fmt: skip


def _grammar(form: XmlFormat, tools: list[dict], mark_ids: dict, *, is_forced: bool, is_parallel: bool) -> Grammar:
    return XmlRules(form, mark_ids).grammar(tools, is_forced=is_forced, is_parallel=is_parallel)


XML_DIALECTS = tuple(
    Dialect(
        name=form.name, parser=partial(XmlParser, form), grammar=partial(_grammar, form), signs=signs, marks=form.marks,
        narrowed=xml_narrowed,
    )
    for form, signs in FORMATS
)  # fmt: skip
