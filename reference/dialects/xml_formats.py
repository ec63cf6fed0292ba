"""Shared. The formats with parameters between marks, a row each."""

import re
from dataclasses import replace
from functools import partial

from verbatim.reference.dialects.dialect import Dialect
from verbatim.reference.dialects.rules import MarkIds
from verbatim.reference.dialects.xml_format import XmlFormat
from verbatim.reference.dialects.xml_grammar import XmlRules, xml_narrowed
from verbatim.reference.dialects.xml_parser import XmlParser
from verbatim.reference.records.grammar_text import Grammar

QWEN3_CODER = XmlFormat(
    name="qwen3_coder",
    block_open="<tool_call>",
    block_close="</tool_call>",
    call_open=("<function=",),
    call_named=(">",),
    call_close=("</function>",),
    parameter_open="<parameter=",
    parameter_keyed=(">",),
    parameter_close="</parameter>",
    is_padded=True,
    has_bare_calls=True,
)
SEED_OSS = replace(
    QWEN3_CODER,
    name="seed_oss",
    block_open="<seed:tool_call>",
    block_close="</seed:tool_call>",
    is_padded=False,
    has_bare_calls=False,
)
GLM45 = XmlFormat(
    name="glm45",
    call_open=("<tool_call>",),
    call_close=("</tool_call>",),
    parameter_open="<arg_key>",
    parameter_keyed=("</arg_key>", "<arg_value>"),
    parameter_close="</arg_value>",
)
HUNYUAN_V3 = replace(
    GLM45, name="hunyuan_v3", block_open="<tool_calls>", block_close="</tool_calls>", call_named=("<tool_sep>",)
)
MINIMAX_M2 = XmlFormat(
    name="minimax_m2",
    block_open="<minimax:tool_call>",
    block_close="</minimax:tool_call>",
    call_open=('<invoke name="',),
    call_named=('">',),
    call_close=("</invoke>",),
    parameter_open='<parameter name="',
    parameter_keyed=('">',),
    parameter_close="</parameter>",
)
STEP3 = XmlFormat(
    name="step3",
    block_open="<｜tool_calls_begin｜>",
    block_close="<｜tool_calls_end｜>",
    call_open=("<｜tool_call_begin｜>", "function", "<｜tool_sep｜>", '<steptml:invoke name="'),
    call_named=('">',),
    call_close=("</steptml:invoke>", "<｜tool_call_end｜>"),
    parameter_open='<steptml:parameter name="',
    parameter_keyed=('">',),
    parameter_close="</steptml:parameter>",
)
DEEPSEEK_V32 = XmlFormat(
    name="deepseek_v32",
    block_open="<｜DSML｜function_calls>",
    block_close="</｜DSML｜function_calls>",
    call_open=('<｜DSML｜invoke name="',),
    call_named=('">',),
    call_close=("</｜DSML｜invoke>",),
    parameter_open='<｜DSML｜parameter name="',
    parameter_keyed=('">',),
    parameter_close="</｜DSML｜parameter>",
    string_keyed='" string="true">',
    json_keyed='" string="false">',
)
DEEPSEEK_V4 = replace(
    DEEPSEEK_V32, name="deepseek_v4", block_open="<｜DSML｜tool_calls>", block_close="</｜DSML｜tool_calls>"
)
FORMATS: tuple[tuple[XmlFormat, tuple[str | re.Pattern[str], ...]], ...] = (  # each with what a template shows of it
    (STEP3, ("<steptml:invoke",)),
    (DEEPSEEK_V32, (re.compile(r"(?i)dsml.{0,20}function_calls>"),)),
    (DEEPSEEK_V4, (re.compile(r"(?i)dsml.{0,20}tool_calls>"), "｜DSML｜")),
    (HUNYUAN_V3, ("<tool_sep>",)),
    (MINIMAX_M2, ("<minimax:tool_call>",)),
    (SEED_OSS, ("<seed:tool_call>",)),
    (QWEN3_CODER, (re.compile(r"<function=.*<parameter=", re.DOTALL),)),
    (replace(GLM45, name="glm47"), (re.compile(r"<tool_call>\{[\w-]+\}<arg_key>"),)),
    (GLM45, ("<arg_key>",)),
)


def _grammar(form: XmlFormat, tools: list[dict], mark_ids: MarkIds, *, is_forced: bool, is_parallel: bool) -> Grammar:
    return XmlRules(form, mark_ids).grammar(tools, is_forced=is_forced, is_parallel=is_parallel)


XML_DIALECTS = tuple(
    Dialect(
        name=form.name,
        parser=partial(XmlParser, form),
        grammar=partial(_grammar, form),
        signs=signs,
        marks=form.marks,
        narrowed=xml_narrowed,
    )
    for form, signs in FORMATS
)
