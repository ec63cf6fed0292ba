"""What an answer says and calls, and how much of a text a grammar accepts."""

import json
import re

import numpy as np

from small_models import write_byte_tokenizer
from verbatim.reference.dialects import CallArguments, CallStart, TextDelta, choose_dialect
from verbatim.reference.text.grammar import GrammarCompiler
from verbatim.reference.text.tokenizers import load_tokenizer

SHOWN = {  # what a template says of calls, of the formats whose arguments are JSON
    "granite": "<|tool_call|>[{{ calls }}]",
    "phi4_mini": "<|tool|>{{ tools }}<|/tool|>",
    "nemotron": "<TOOLCALL>[{{ call }}]</TOOLCALL>",
    "jamba": "<tool_calls>[{{ calls }}]</tool_calls>",
    "hunyuan_a13b": "<|extra_4|>{{ tools }}<tool_calls>[{{ calls }}]</tool_calls>",
    "xlam": '[{"name": "func_name1", "arguments": {}}]',
    "functools": "formatted as functools[{{ calls }}]",
    "internlm": "<|action_start|><|plugin|>",
    "command_r7b": "<|START_ACTION|>[{{ calls }}]<|END_ACTION|>",
    "apertus": "<|tools_prefix|>[",
    "deepseek_v3": "{{ '<｜tool▁call▁begin｜>' + type + '<｜tool▁sep｜>' + name + '\\n' + '```json' + arguments }}",
    "deepseek_v31": "{{ '<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>' + arguments + '<｜tool▁call▁end｜>' }}",
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>",
    "harmony": "{{ '<|start|>assistant to=functions.' + name + '<|channel|>commentary json<|message|>' }}",
    "hermes": "<tool_call>{{ call }}</tool_call>",
    "llama3": '{"name": function name, "parameters": dictionary}',
    "mistral": "[TOOL_CALLS]{{ calls }}",
}


def read_calls(pieces, name, tools, *, is_cut=False):
    """Text, and calls as (name, text of the arguments)."""
    parser = choose_dialect("", name).parser(tools)
    deltas = [delta for piece in pieces for delta in parser.push(piece)] + parser.finish(is_cut=is_cut)
    text, calls = "", []
    for delta in deltas:
        match delta:
            case TextDelta(text=new):
                text += new
            case CallStart(index=index, name=called):
                assert index == len(calls)
                calls.append([called, ""])
            case CallArguments(index=index, text=new):
                assert index == len(calls) - 1
                calls[index][1] += new
    return text, [(called, arguments) for called, arguments in calls]


def check_cuts(text, name, tools):
    """What is read of a text, which is the same whole, in two pieces cut anywhere, and character by character."""
    found = read_calls([text], name, tools)
    assert read_calls(text, name, tools) == found
    for cut in range(len(text)):
        assert read_calls([text[:cut], text[cut:]], name, tools) == found
    return found


def check_written(text, calls, name, tools, around):
    """Calls are read, and what stands around them is text; each of `around` is what stands before and behind."""
    for before, after in around:
        content, found = check_cuts(before + text + after, name, tools)
        assert content == before.rstrip() + after.strip()
        assert [(called, json.loads(arguments)) for called, arguments in found] == calls


def compile_for(directory, marks):
    write_byte_tokenizer(directory, ["<eos>", *marks])
    tokenizer = load_tokenizer(directory)
    return tokenizer, GrammarCompiler(tokenizer, 257 + len(marks), (256,))


def accepts(model, grammar, text):
    """How much of a text a grammar accepts, by tokens of bytes and marks, and whether it may end there."""
    tokenizer, compiler = model
    marks = "|".join(map(re.escape, sorted(set(tokenizer.control_ids) - {"<eos>"}, key=len, reverse=True)))
    guide, seen = compiler.compile(grammar), ""
    for part in re.split(f"({marks})", text) if marks else [text]:
        ids = [tokenizer.control_ids[part]] if part in tokenizer.control_ids else list(part.encode())
        for token_id in ids:
            if token_id in guide.excluded_ids():
                return seen, False
            is_over = guide.push(token_id)
        seen += part
    return seen, is_over or bool(np.isin(256, guide.excluded_ids(), invert=True))
