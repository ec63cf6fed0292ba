"""Formats in which parameters stand one by one, between marks or as keywords: what is read, streamed and held."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_texts import accepts, check_written, compile_for, read_calls
from verbatim.reference.dialects import CallArguments, choose_dialect

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "exact": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "unit": {"enum": ["C", "F"]},
    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
}
LOOK = {"name": "look", "parameters": {"type": "object", "properties": PROPERTIES, "required": ["city"]}}
TOOLS = [{"type": "function", "function": LOOK}, {"type": "function", "function": {"name": "now"}}]
BERN, MORE = {"city": "Bern"}, {"city": 'Zürich "🙂"\n{<b>} \\', "days": 2, "exact": True, "tags": ["a, b", "c"]}


def parse(pieces, name, *, is_cut=False):
    """Text, and calls as (name, text of the arguments)."""
    return read_calls(pieces, name, TOOLS, is_cut=is_cut)


def functions(before, after, value, between="\n"):
    """Calls as `<function=...>` writes them; `value` writes one value."""

    def write(*calls):
        return between.join(
            before + f"<function={name}>\n"
            + "".join(f"<parameter={key}>{value(of)}</parameter>\n" for key, of in arguments.items())
            + "</function>" + after for name, arguments in calls
        )  # fmt: skip

    return write


def bare(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def glm(break_):
    def write(*calls):
        return "\n".join(
            f"<tool_call>{name}{break_}" + "".join(
                f"<arg_key>{key}</arg_key>{break_}<arg_value>{bare(of)}</arg_value>{break_}"
                for key, of in arguments.items()
            ) + "</tool_call>" for name, arguments in calls
        )  # fmt: skip

    return write


def invokes(opening, closing, prefix, *, is_typed=False, around=("", "")):
    def write(*calls):
        def attribute(of):
            return f' string="{"true" if isinstance(of, str) else "false"}"' if is_typed else ""

        return opening + "".join(
            f'{around[0]}<{prefix}invoke name="{name}">\n' + "".join(
                f'<{prefix}parameter name="{key}"{attribute(of)}>{bare(of)}</{prefix}parameter>\n'
                for key, of in arguments.items()
            ) + f"</{prefix}invoke>{around[1]}\n" for name, arguments in calls
        ) + closing  # fmt: skip

    return write


def hunyuan(*calls):
    return "<tool_calls>\n" + "".join(
        f"<tool_call>{name}<tool_sep>\n" + "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{bare(of)}</arg_value>\n" for key, of in arguments.items()
        ) + "</tool_call>\n" for name, arguments in calls
    ) + "</tool_calls>"  # fmt: skip


WRITERS = {
    "qwen3_coder": functions("<tool_call>\n", "\n</tool_call>", lambda of: f"\n{bare(of)}\n"),
    "seed_oss": functions("<seed:tool_call>\n", "\n</seed:tool_call>", bare),
    "glm45": glm("\n"),
    "glm47": glm(""),
    "minimax_m2": invokes("<minimax:tool_call>\n", "</minimax:tool_call>", ""),
    "deepseek_v32": invokes("<｜DSML｜function_calls>\n", "</｜DSML｜function_calls>", "｜DSML｜", is_typed=True),
    "deepseek_v4": invokes("<｜DSML｜tool_calls>\n", "</｜DSML｜tool_calls>", "｜DSML｜", is_typed=True),
    "step3": invokes("<｜tool_calls_begin｜>\n", "<｜tool_calls_end｜>", "steptml:",
                     around=("<｜tool_call_begin｜>function<｜tool_sep｜>", "<｜tool_call_end｜>")),
    "hunyuan_v3": hunyuan,
}  # fmt: skip


def python(opening, closing, between):
    def write(*calls):
        return opening + between.join(
            f"{name}({', '.join(f'{key}={python_value(of)}' for key, of in arguments.items())})"
            for name, arguments in calls
        ) + closing  # fmt: skip

    return write


def python_value(value):
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def braces(opening, closing, quote):
    def written(value):
        if isinstance(value, str):
            return quote + value + quote
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        if isinstance(value, dict):
            return "{" + ",".join(f"{key}:{written(value[key])}" for key in sorted(value)) + "}"
        return json.dumps(value)

    def write(*calls):
        return "".join(f"{opening}call:{name}{written(arguments)}{closing}" for name, arguments in calls)

    return write


WRITERS |= {
    "llama4": python("<|python_start|>[", "]<|python_end|>", ", "),
    "lfm2": python("<|tool_call_start|>[", "]<|tool_call_end|>", ", "),
    "olmo3": python("<function_calls>\n", "\n</function_calls>", "\n"),
    "gemma3": python("```tool_code\n", "\n```", "\n"),
    "gemma4": braces("<|tool_call>", "<tool_call|>", '<|"|>'),
    "functiongemma": braces("<start_function_call>", "<end_function_call>", "<escape>"),
}
CALLS = {
    "single": [("look", BERN)],
    "none": [("now", {})],
    "all": [("look", MORE | {"unit": "F", "note": None})],
    "parallel": [("look", BERN), ("now", {}), ("look", MORE)],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", WRITERS)
def test_calls_are_read_whole_and_cut_anywhere(name, calls):
    around = [("", ""), ("Let me see: 1 < 2.", ""), ("Sure.\n\n", "\nDone.")]
    check_written(WRITERS[name](*calls), calls, name, TOOLS, around)


@pytest.mark.parametrize("name", WRITERS)
def test_a_call_that_is_cut_keeps_what_it_has_and_shows_no_mark(name):
    text = WRITERS[name](("look", MORE), ("now", {}))
    whole = parse([text], name)[1]
    for length in range(len(text)):
        content, found = parse(text[:length], name, is_cut=True)
        assert content in ("", text[:1]) and parse([text[:length]], name, is_cut=True) == (content, found)
        assert all(arguments.startswith(cut) for (_, arguments), (_, cut) in zip(whole, found, strict=False))
        for _, arguments in parse(text[:length], name)[1]:
            json.loads(arguments)  # an answer that ends by itself leaves no half of an object


@pytest.fixture(scope="module")
def byte_model(tmp_path_factory):
    """A tokenizer of bytes alone, and its compiler."""
    return compile_for(tmp_path_factory.mktemp("bytes"), [])


@pytest.mark.parametrize("name", WRITERS)
def test_the_grammar_accepts_what_is_written_and_nothing_else(name, byte_model):
    dialect = choose_dialect("", name)
    grammar = dialect.grammar(TOOLS, {}, is_forced=True, is_parallel=True)
    free = dialect.grammar(TOOLS, {}, is_forced=False, is_parallel=True)
    for calls in CALLS.values():
        text = WRITERS[name](*calls)
        assert accepts(byte_model, grammar, text) == (text, True)
        assert accepts(byte_model, free, "Sure. <\n" + text) == ("Sure. <\n" + text, True)
    for wrong in ({}, {"city": "x", "days": "two"}, {"city": "x", "unit": "K"}, {"city": "x", "other": 1}):
        text = WRITERS[name](("look", wrong))
        assert not accepts(byte_model, grammar, text)[1]
    assert not accepts(byte_model, grammar, WRITERS[name](("other", {})))[1]
    once = dialect.grammar(TOOLS, {}, is_forced=True, is_parallel=False)
    assert accepts(byte_model, once, WRITERS[name](*CALLS["single"]))[1]
    assert not accepts(byte_model, once, WRITERS[name](*CALLS["parallel"]))[1]


@pytest.mark.parametrize("name", [name for name in WRITERS if choose_dialect("", name).marks])
def test_the_grammar_holds_marks_that_are_control_tokens(name, tmp_path):
    dialect = choose_dialect("", name)
    model = compile_for(tmp_path, list(dialect.marks))
    mark_ids = dialect.mark_ids(model[0].control_ids)
    for is_forced in (True, False):
        grammar = dialect.grammar(TOOLS, mark_ids, is_forced=is_forced, is_parallel=True)
        text = WRITERS[name](*CALLS["parallel"])
        assert accepts(model, grammar, text) == (text, True)


WRITTEN = [  # text of a value, its schema, the argument
    ("5", {"type": "string"}, "5"), ("5", {"type": "integer"}, 5), ("5.5", {"type": "number"}, 5.5),
    ("five", {"type": "integer"}, "five"), ("True", {"type": "boolean"}, True), ("FALSE", {"type": "boolean"}, False),
    ("None", {"type": "null"}, None), ("null", {"type": ["string", "null"]}, None),
    ("null", {"type": "string"}, "null"),
    ("['a', 1]", {"type": "array"}, ["a", 1]), ('{"a": [1]}', {"type": "object"}, {"a": [1]}), ("7", {}, 7),
    ('{"a": 1}', {"type": "string"}, '{"a": 1}'), ("Bern", {}, "Bern"), ('"x"', {}, '"x"'), ("true", True, True),
    ("3", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, 3), ("x", {"enum": [1, "x"]}, "x"),
    ("1", {"enum": [1, "x"]}, 1), ("2", {"$ref": "#/$defs/N"}, 2), ("2", {"allOf": [{"$ref": "#/$defs/S"}]}, "2"),
    ("true", {"type": "integer"}, "true"), ("[1", {"type": "array"}, "[1"), ("", {"type": "string"}, ""),
    ("NaN", {"type": "number"}, "NaN"), ("12345678901234567890.10", {"type": "number"}, 12345678901234567890.10),
]  # fmt: skip


@pytest.mark.parametrize(("text", "schema", "value"), WRITTEN)
def test_a_value_is_what_its_schema_says(text, schema, value):
    parameters = {"properties": {"a": schema}, "$defs": {"N": {"type": "integer"}, "S": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    ways = {
        "glm47": f"<tool_call>f<arg_key>a</arg_key><arg_value>{text}</arg_value></tool_call>",
        "qwen3_coder": f"<function=f>\n<parameter=a>\n{text}\n</parameter>\n</function>",
    }
    for name, written in ways.items():
        parser = choose_dialect("", name).parser([tool])
        deltas = [delta for piece in written for delta in parser.push(piece)] + parser.finish()
        found = json.loads("".join(delta.text for delta in deltas if isinstance(delta, CallArguments)))
        assert found == {"a": value} and type(found["a"]) is type(value)


FORMS = [  # other ways of a format, and what they say
    ("qwen3_coder", "<function=look>\n<parameter=city>\nBern\n</parameter>\n</function>\n</tool_call>", "", [BERN]),
    ("qwen3_coder", "<tool_call><function=look><parameter=city>Bern</parameter></function></tool_call>\n", "",
     [BERN]),
    ("qwen3_coder", "Well.\n<function=look><parameter=city>Bern</parameter></function>", "Well.", [BERN]),
    ("qwen3_coder", "<tool_call>\n<function=look>\n<parameter=city>\n\n Bern\n\n</parameter></function></tool_call>",
     "", [{"city": "\n Bern\n"}]),
    ("qwen3_coder", "<tool_call>\n<function=look>\n<parameter=city>\n</parameter>\n</function>", "", [{"city": ""}]),
    ("qwen3_coder", "<tool_call><function=look>Hm.</function></tool_call>", "Hm.</function></tool_call>", [{}]),
    ("glm45", "<tool_call>look\n<arg_key>city</arg_key><arg_value>\nBern</arg_value>\n</tool_call>", "",
     [{"city": "\nBern"}]),
    ("minimax_m2", '<minimax:tool_call><invoke name="look"><parameter name="city">Bern</parameter></invoke>', "",
     [BERN]),
    ("deepseek_v32", '<｜DSML｜function_calls><｜DSML｜invoke name="look"><｜DSML｜parameter name="city"'
     ' string="false">7</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>', "", [{"city": 7}]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "content", "arguments"), FORMS)
def test_other_ways_of_a_format(name, text, content, arguments):
    found = parse(text, name)
    assert (found[0], [json.loads(each) for _, each in found[1]]) == (content, arguments)
    assert parse([text], name) == found


TEXTS = {
    "qwen3_coder": ["<tool_call>", '<tool_call>{"name": "look"}</tool_call>', "<function=other></function>", "a <b",
                    "Say <function=look", "<tool_call>\n<function=nothing>\n</function>\n</tool_call>"],
    "glm45": ["<tool_call>other\n</tool_call>", "<arg_key>city</arg_key>", "<tool_call>look", "x <tool_ call>"],
    "minimax_m2": ["<minimax:tool_call>", '<invoke name="look">', '<minimax:tool_call><invoke name="x">'],
    "deepseek_v32": ["<｜DSML｜", "<｜DSML｜function_calls>\n", '<｜DSML｜invoke name="look">'],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_what_only_looks_like_a_call_is_text(name, text):
    assert parse([text], name) == parse(text, name) == (text, [])


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_pieces_do_not_matter(name, data):
    text = WRITERS[name](*CALLS["parallel"])
    words = [*re.findall(r"<[^>]*>|[^<]+", text), "<", "\n", " ", "look", "text", ",", "}"]
    text = data.draw(st.lists(st.sampled_from([*words, text]), max_size=14).map("".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    is_cut = data.draw(st.booleans())
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    content, calls = parse(text, name, is_cut=is_cut)
    assert parse(pieces, name, is_cut=is_cut) == parse([text], name, is_cut=is_cut) == (content, calls)
    if not calls and not is_cut:
        assert content == text


def test_a_string_is_streamed_before_it_has_ended():
    parser = choose_dialect("", "qwen3_coder").parser(TOOLS)
    parser.push("<tool_call>\n<function=look>\n<parameter=city>\nB")
    assert parser.push('er\n"') == [CallArguments(index=0, text='er\\n\\"')]
    assert parser.push("x\n</par") == [CallArguments(index=0, text="x")]
    parser.push("ameter>\n<parameter=days>\n1")
    assert parser.push("2\n</parameter>") == [CallArguments(index=0, text=', "days": 12')]
