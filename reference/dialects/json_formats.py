"""Shared. The formats whose arguments are JSON, a row each; llama3 and mistral have files of their own."""

import re
from dataclasses import replace
from functools import partial

from verbatim.reference.dialects.dialect import Dialect
from verbatim.reference.dialects.json_format import NUMBER, Item, JsonFormat
from verbatim.reference.dialects.json_grammar import json_grammar
from verbatim.reference.dialects.json_parser import JsonParser

HERMES = JsonFormat(
    name="hermes",
    item=Item(
        opening=("<tool_call>", '\n{"name": "'), named=('", "arguments": ',), closing=("}", "\n", "</tool_call>")
    ),
    between="\n",
)
ERNIE45 = replace(HERMES, name="ernie45")
FUNCTIONARY = JsonFormat(name="functionary", item=Item(opening=("<function=",), named=(">",), closing=("</function>",)))
OBJECT = Item(opening=('{"name": "',), named=('", "arguments": ',), closing=("}",))
WITH_PARAMETERS = Item(opening=('{"name": "',), named=('", "parameters": ',), closing=("}",))
XLAM = JsonFormat(name="xlam", item=OBJECT, read=(WITH_PARAMETERS,), begin="[", between=", ", end="]")
GRANITE = replace(XLAM, name="granite", block=("<|tool_call|>", ""))
PHI4_MINI = replace(XLAM, name="phi4_mini", block=("<|tool_call|>", "<|/tool_call|>"))
NEMOTRON = replace(XLAM, name="nemotron", block=("<TOOLCALL>", "</TOOLCALL>"))
JAMBA = replace(XLAM, name="jamba", block=("<tool_calls>", "</tool_calls>"))
FUNCTOOLS = replace(XLAM, name="functools", block=("functools", ""))
HUNYUAN_A13B = replace(JAMBA, name="hunyuan_a13b")
INTERNLM = JsonFormat(
    name="internlm",
    item=Item(
        opening=("<|action_start|>", "<|plugin|>", '\n{"name": "'), named=('", "parameters": ',),
        closing=("}", "<|action_end|>"),
    ),
    read=(
        Item(opening=("<|action_start|>", "<|plugin|>", '{"name": "'), named=('", "arguments": ',),
             closing=("}", "<|action_end|>")),
    ),
)  # fmt: skip
COMMAND_R7B = JsonFormat(
    name="command_r7b",
    item=Item(
        opening=('{"tool_call_id": "', NUMBER, '", "tool_name": "'), named=('", "parameters": ',), closing=("}",)
    ),
    read=(Item(opening=('{"tool_name": "',), named=('", "parameters": ',), closing=("}",)),),
    block=("<|START_ACTION|>", "<|END_ACTION|>"),
    begin="[\n    ",
    between=",\n    ",
    end="\n]",
)
APERTUS = JsonFormat(
    name="apertus",
    item=Item(opening=('{"',), named=('": ',), closing=("}",)),
    block=("<|tools_prefix|>", "<|tools_suffix|>"),
    begin="[",
    between=", ",
    end="]",
)
CALLS = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
BEGIN, SEPARATOR, END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
DEEPSEEK_V3 = JsonFormat(
    name="deepseek_v3",
    item=Item(opening=(BEGIN, "function", SEPARATOR), named=("\n```json\n",), closing=("\n```", END)),
    block=CALLS,
    between="\n",
)
DEEPSEEK_V31 = JsonFormat(
    name="deepseek_v31", item=Item(opening=(BEGIN,), named=(SEPARATOR,), closing=(END,)), block=CALLS
)
KIMI_K2 = JsonFormat(
    name="kimi_k2",
    item=Item(
        opening=("<|tool_call_begin|>", "functions."), named=(":", NUMBER, "<|tool_call_argument_begin|>"),
        closing=("<|tool_call_end|>",),
    ),
    block=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
)  # fmt: skip
CHANNEL, TO, MESSAGE = "<|channel|>", " to=functions.", "<|message|>"
CALLED = ("<|call|>",)
HARMONY = JsonFormat(  # its `<|call|>` is an end-of-sequence token, which no grammar has to write
    name="harmony",
    item=Item(opening=(CHANNEL, "commentary", TO), named=(" ", "<|constrain|>", "json", MESSAGE)),
    read=tuple(
        Item(opening=(CHANNEL, channel, TO), named=named, closing=CALLED)
        for channel in ("commentary", "analysis")
        for named in (("<|constrain|>", "json", MESSAGE), (MESSAGE,), ("json", MESSAGE), ("code", MESSAGE))
    ),
)
FORMATS: tuple[tuple[JsonFormat, tuple[str | re.Pattern[str], ...]], ...] = (  # each with what a template shows of it
    (HARMONY, ("to=functions.", "<|channel|>commentary")),
    (KIMI_K2, ("<|tool_calls_section_begin|>",)),
    (DEEPSEEK_V3, (re.compile("tool▁sep.*?```json", re.DOTALL),)),
    (DEEPSEEK_V31, ("<｜tool▁sep｜>",)),
    (COMMAND_R7B, ("<|START_ACTION|>",)),
    (APERTUS, ("<|tools_prefix|>",)),
    (INTERNLM, ("<|action_start|>",)),
    (PHI4_MINI, ("<|/tool_call|>", "<|/tool|>")),
    (GRANITE, ("<|tool_call|>",)),
    (NEMOTRON, ("<TOOLCALL>",)),
    (HUNYUAN_A13B, (re.compile(r"<\|extra_\d\|>.*<tool_calls>", re.DOTALL),)),
    (JAMBA, ("<tool_calls>",)),
    (FUNCTOOLS, ("functools[",)),
    (XLAM, ('[{"name": "func_name1"', '[{"name": "tool_call_name"')),
    (HERMES, ("<tool_call>",)),
    (FUNCTIONARY, ("<function=",)),
    (ERNIE45, ()),
)
JSON_DIALECTS = tuple(
    Dialect(name=form.name, parser=partial(JsonParser, form), grammar=partial(json_grammar, form), signs=signs,
            marks=form.marks)
    for form, signs in FORMATS
)  # fmt: skip
