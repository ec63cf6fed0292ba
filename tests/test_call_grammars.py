"""Grammars of tool calls: what a model writes under them are calls of known names with arguments that fit."""

import json
import re

import jsonschema
import numpy as np
import pytest

from small_models import write_byte_tokenizer
from verbatim.reference.dialects import DIALECTS, CallStart, TextDelta
from verbatim.reference.dialects.rules import argument_rules
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.grammar_text import PREAMBLE
from verbatim.reference.text.grammar import GrammarCompiler
from verbatim.reference.text.tokenizers import load_tokenizer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"enum": ["Ulm", "Zürich"]},
                    "days": {"type": "integer", "minimum": 0, "maximum": 9},
                    "is_long": {"type": "boolean"},
                    "tags": {"type": "array", "maxItems": 2, "items": {"type": ["boolean", "null"]}},
                },
                "required": ["city", "is_long"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "get-time", "parameters": {"type": "object", "additionalProperties": False}},
    },
]
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    """A compiler and a tokenizer whose control tokens include the marks of all dialects."""
    names = list(dict.fromkeys(mark for dialect in DIALECTS for mark in dialect.marks))
    tokenizer = load_tokenizer(write_byte_tokenizer(tmp_path_factory.mktemp("marks"), ["<eos>", *names]))
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, (tokenizer.control_ids["<eos>"],)), tokenizer


def read(dialect, text):
    """Text, and calls as (name, arguments)."""
    parser = dialect.parser(TOOLS)
    content, calls = "", []
    for delta in parser.push(text) + parser.finish():
        if isinstance(delta, TextDelta):
            content += delta.text
        elif isinstance(delta, CallStart):
            calls.append([delta.name, ""])
        else:
            calls[-1][1] += delta.text
    return content, [(name, json.loads(arguments)) for name, arguments in calls]


def generate_text(compiler, tokenizer, grammar, begin="", seed=0, max_tokens=1500):
    """Text that begins with `begin`, then has random allowed tokens, with marks as text; None without an end."""
    random, guide = np.random.default_rng(seed), compiler.compile(grammar)
    eos_ids = {tokenizer.control_ids[name] for name in ("<eos>", "<|im_end|>", "</s>") if name in tokenizer.control_ids}
    controls = {i: name.encode() for name, i in tokenizer.control_ids.items()}
    marks = re.compile("|".join(map(re.escape, sorted(tokenizer.control_ids, key=len, reverse=True))))
    pieces, at = [], 0
    for mark in marks.finditer(begin):
        pieces += [begin[at : mark.start()], tokenizer.control_ids[mark[0]]]
        at = mark.end()
    prefix, ids = tokenizer.encode_pieces([*pieces, begin[at:]]), []
    for step in range(max_tokens):
        allowed = np.setdiff1d(np.arange(guide.vocab_size), guide.excluded_ids())
        token_id = prefix[step] if step < len(prefix) else int(random.choice(allowed))
        assert token_id in allowed, (b"".join(ids), token_id)
        if token_id in eos_ids:
            return b"".join(ids).decode(errors="replace")
        ids.append(controls.get(token_id) or tokenizer.token_bytes(token_id))
        if guide.push(token_id):
            return b"".join(ids).decode(errors="replace")
    return None


OPENINGS = {
    "hermes": ["<tool_call>", "Sure. <tool_call>"],
    "mistral": [
        "[TOOL_CALLS]",
        "Sure. [TOOL_CALLS] [",
        "[TOOL_CALLS]get_weather[ARGS]",
        "[TOOL_CALLS]get-time[CALL_ID]",
    ],
    "functionary": ["<function=", "Sure. <function=get"],
    "pythonic": ["[get_weather(", "\n[get-time("],
    "llama3": [
        "<|python_tag|>",
        'Sure. {} <|python_tag|>{"name',
        '{"name": "get_weather", "parameters":',
        '\n{"name": "get-time", "parameters": {',
    ],
    "llama4": ["<|python_start|>[get_weather(", "Sure. <|python_start|>", "\n[get-time("],
    "lfm2": ["<|tool_call_start|>"],
    "olmo3": ["Sure.\n<function_calls>\n"],
    "gemma3": ["```tool_code\n"],
    "gemma4": ["Sure.<|tool_call>call:get_weather{"],
    "functiongemma": ["<start_function_call>"],
    "step3": ["<｜tool_calls_begin｜>"],
    "deepseek_v32": ["Sure.\n\n<｜DSML｜function_calls>\n"],
    "deepseek_v4": ["<｜DSML｜tool_calls>"],
    "hunyuan_v3": ["<tool_calls><tool_call>get_weather<tool_sep>"],
    "minimax_m2": ["<minimax:tool_call>\n"],
    "seed_oss": ["<seed:tool_call><function=get"],
    "qwen3_coder": ["Sure. <tool_call>\n<function=get_weather>"],
    "glm47": ["<tool_call>get_weather"],
    "glm45": ["Sure. <tool_call>get-time\n"],
    "granite": ["<|tool_call|>["],
    "phi4_mini": ["Sure. <|tool_call|>"],
    "nemotron": ['<TOOLCALL>[{"name": "get'],
    "jamba": ["<tool_calls>"],
    "hunyuan_a13b": ["<tool_calls>["],
    "xlam": ['[{"name": "'],
    "functools": ["functools["],
    "ernie45": ["<tool_call>\n"],
    "internlm": ["Sure. <|action_start|><|plugin|>"],
    "command_r7b": ["<|START_ACTION|>"],
    "apertus": ["<|tools_prefix|>["],
    "deepseek_v3": ["<｜tool▁calls▁begin｜>"],
    "deepseek_v31": ["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"],
    "kimi_k2": ["<|tool_calls_section_begin|>"],
    "harmony": ["Sure.<|channel|>commentary to=functions."],
}


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize(
    ("dialect", "begin"), [(dialect, text) for dialect in DIALECTS for text in OPENINGS[dialect.name]]
)
def test_calls_that_are_opened_fit_their_tools(marks, dialect, begin, is_parallel):
    mark_ids = dialect.mark_ids(marks[1].control_ids)
    grammar = dialect.grammar(TOOLS, mark_ids, is_forced=False, is_parallel=is_parallel)
    check_calls([generate_text(*marks, grammar, begin, seed) for seed in range(4)], dialect, is_parallel)


@pytest.mark.parametrize("has_marks", [False, True])
@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_forced_calls_fit_their_tools(marks, compiler, tokenizer, dialect, is_parallel, has_marks):
    mark_ids = dialect.mark_ids(marks[1].control_ids) if has_marks else {}
    grammar = dialect.grammar(TOOLS, mark_ids, is_forced=True, is_parallel=is_parallel)
    texts = [generate_text(*(marks if has_marks else (compiler, tokenizer)), grammar, "", seed) for seed in range(4)]
    for content, _ in check_calls(texts, dialect, is_parallel):
        assert content == ""


def check_calls(texts, dialect, is_parallel):
    """Every text that ended has calls that fit their tools, and not more calls than allowed."""
    found = [read(dialect, text) for text in texts if text is not None]
    assert found
    for _, calls in found:
        assert len(calls) >= 1 if is_parallel else len(calls) == 1
        for name, arguments in calls:
            jsonschema.validate(arguments, SCHEMAS[name])
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_is_free_where_no_call_is_forced(marks, dialect):
    compiler, tokenizer = marks
    grammar = dialect.grammar(TOOLS, dialect.mark_ids(tokenizer.control_ids), is_forced=False, is_parallel=True)
    for text in (
        "Hello, 日本!",
        '{"name": "Ada"}',
        "[1, 2, 3]",
        "a < b <b>\n",
        '{"name": "f", "parameters": {}}',
        "[f(a=1)]",
    ):
        guide = compiler.compile(grammar)
        for token_id in tokenizer.encode(text):
            assert token_id not in guide.excluded_ids(), (text, token_id)
            guide.push(token_id)
        assert tokenizer.control_ids["<eos>"] not in guide.excluded_ids()


@pytest.mark.parametrize(
    ("begin", "refused"), [("[TOOL_CALLS", "]"), ("say [TOOL_CALLS", "]"), ("\n", "<tool_call>"), ("", "[ARGS]")]
)
def test_marks_that_are_tokens_are_not_spelled_nor_used_elsewhere(marks, begin, refused):
    compiler, tokenizer = marks
    (mistral,) = (dialect for dialect in DIALECTS if dialect.name == "mistral")
    mark_ids = mistral.mark_ids(tokenizer.control_ids)
    guide = compiler.compile(mistral.grammar(TOOLS, mark_ids, is_forced=False, is_parallel=True))
    for token_id in tokenizer.encode(begin):
        guide.push(token_id)
    (token_id,) = tokenizer.encode_pieces([tokenizer.control_ids.get(refused, refused)])
    assert token_id in guide.excluded_ids()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, "'anyOf' in the parameters of f"),
        ({"properties": {"a b": {}}}, "'a b' in the parameters of f"),
        ({"required": ["a"]}, "'a' in the parameters of f"),
        ({"properties": 5}, "no JSON schema"),
    ],
)
def test_pythonic_refuses_by_name_what_it_cannot_hold(parameters, message):
    (pythonic,) = (dialect for dialect in DIALECTS if dialect.name == "pythonic")
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with pytest.raises(RequestError, match=message):
        pythonic.grammar(tools, {}, is_forced=True, is_parallel=True)


def allows(schema, arguments):
    """Whether the rule of a tool with these parameters lets a model write these arguments."""
    from llguidance import LLMatcher, LLTokenizer

    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    (rule,) = argument_rules([tool])
    matcher = LLMatcher(LLTokenizer("byte"), PREAMBLE + "start: arguments_0\n" + rule)
    tokens = list(json.dumps(arguments).encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("more", "arguments", "expected"),
    [
        ({}, {"a": 1}, True),
        ({}, {"a": 1, "b": 2}, False),
        ({"additionalProperties": True}, {"a": 1, "b": 2}, True),
        ({"patternProperties": {"^b": {}}}, {"a": 1, "b": 2}, True),
        ({"required": ["b"]}, {"a": 1, "b": 2}, True),
        ({"required": ["a"]}, {}, False),
    ],
)
def test_a_tool_accepts_no_undeclared_parameter(more, arguments, expected):
    assert allows({"type": "object", "properties": {"a": {"type": "integer"}}} | more, arguments) == expected
    assert allows({"type": "object"}, arguments)
