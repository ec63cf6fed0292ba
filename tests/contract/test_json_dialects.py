"""Formats whose arguments are JSON, a row each: what is read, streamed, held by the grammar, and chosen."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from call_texts import SHOWN, accepts, check_cuts, check_written, compile_for, read_calls
from verbatim.reference.dialects import choose_dialect
from verbatim.reference.dialects.json_format import NUMBER
from verbatim.reference.dialects.json_formats import FORMATS

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "object"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
]
BERN, MORE = {"city": "Bern"}, {"city": 'Zü "🙂"\n{<b>} ] \\', "n": {"a": [1]}}
CALLS = {
    "single": [("look", BERN)],
    "none": [("now", {})],
    "parallel": [("look", MORE), ("now", {}), ("look", BERN)],
}
FORMS = {form.name: form for form, _ in FORMATS}
TRANSCRIPTS = {  # as models write them, in our words; each calls look(city="Bern")
    "granite": ['<|tool_call|>[{"name": "look", "arguments": {"city": "Bern"}}]',
                '<|tool_call|> [{"arguments": {"city": "Bern"}, "name": "look"}]'],
    "phi4_mini": ['<|tool_call|>[{"name":"look","arguments":{"city":"Bern"}}]<|/tool_call|>',
                  '<|tool_call|>[{"name": "look", "parameters": {"city": "Bern"}}]<|/tool_call|>'],
    "nemotron": ['<TOOLCALL>[{"name": "look", "arguments": {"city": "Bern"}}]</TOOLCALL>',
                 '<TOOLCALL>[{"name": "look", "arguments": "{\\"city\\": \\"Bern\\"}"}]</TOOLCALL>'],
    "jamba": ['<tool_calls>[\n  {"name": "look", "arguments": {"city": "Bern"}}\n]</tool_calls>'],
    "hunyuan_a13b": ['<tool_calls>[{"name": "look", "arguments": {"city": "Bern"}}]</tool_calls>'],
    "xlam": ['[{"name": "look", "arguments": {"city": "Bern"}}]', '[{"arguments": {"city": "Bern"}, "name": "look"}]'],
    "functools": ['functools[{"name": "look", "arguments": {"city": "Bern"}}]'],
    "ernie45": ['<tool_call>\n{"name": "look", "arguments": {"city": "Bern"}}\n</tool_call>'],
    "internlm": ['<|action_start|><|plugin|>\n{"name": "look", "parameters": {"city": "Bern"}}<|action_end|>',
                 '<|action_start|> <|plugin|>{"name": "look", "arguments": {"city": "Bern"}}<|action_end|>\n'],
    "command_r7b": ['<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "look", '
                    '"parameters": {"city": "Bern"}}\n]<|END_ACTION|>',
                    '<|START_ACTION|>[{"tool_name": "look", "parameters": {"city": "Bern"}}]<|END_ACTION|>'],
    "apertus": ['<|tools_prefix|>[{"look": {"city": "Bern"}}]<|tools_suffix|>'],
    "deepseek_v3": ["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n"
                    '{"city": "Bern"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'],
    "deepseek_v31": ["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>look<｜tool▁sep｜>"
                     '{"city": "Bern"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'],
    "kimi_k2": ["<|tool_calls_section_begin|><|tool_call_begin|>functions.look:12<|tool_call_argument_begin|>"
                '{"city": "Bern"}<|tool_call_end|><|tool_calls_section_end|>'],
    "harmony": ['<|channel|>commentary to=functions.look <|constrain|>json<|message|>{"city": "Bern"}<|call|>',
                '<|channel|>commentary to=functions.look<|message|>{"city": "Bern"}',
                '<|channel|>analysis to=functions.look code<|message|>{"city": "Bern"}<|call|>'],
    "llama3": ['{"type": "function", "name": "look", "parameters": {"city": "Bern"}}',
               '{"parameters": {"city": "Bern"}, "name": "look"}',
               '<|python_tag|>{"type": "function", "function": {"name": "look", "parameters": {"city": "Bern"}}}'],
    "mistral": ['[TOOL_CALLS]look[ARGS]{"city": "Bern"}', '[TOOL_CALLS]look[CALL_ID]abcdefghi[ARGS]{"city": "Bern"}',
                '[TOOL_CALLS] [{"name": "look", "arguments": {"city": "Bern"}, "id": "abcdefghi"}]'],
}  # fmt: skip


def parse(pieces, name, *, is_cut=False):
    """Text, and calls as (name, text of the arguments)."""
    return read_calls(pieces, name, TOOLS, is_cut=is_cut)


@pytest.fixture(scope="module")
def byte_model(tmp_path_factory):
    """A tokenizer of bytes alone, and its compiler."""
    return compile_for(tmp_path_factory.mktemp("bytes"), [])


def write(form, calls):
    """Calls as the row writes them."""

    def joined(pieces):
        return "".join("0" if piece == NUMBER else piece for piece in pieces)

    def call(name, arguments):
        text = json.dumps(arguments, ensure_ascii=False)
        return f"{joined(form.item.opening)}{name}{joined(form.item.named)}{text}{joined(form.item.closing)}"

    body = form.between.join(call(*each) for each in calls)
    return f"{form.block[0]}{form.begin}{body}{form.end}{form.block[1]}"


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", FORMS)
def test_calls_are_read_whole_and_cut_anywhere(name, calls):
    around = [("", ""), ("Let me see: 1 < 2.", ""), ("Sure.\n\n", "\nDone.")]
    # Without a mark calls stand where an answer begins; harmony's end an answer, with a mark that is no text.
    num_around = 1 if not FORMS[name].opening else 2 if name == "harmony" else 3
    check_written(write(FORMS[name], calls), calls, name, TOOLS, around[:num_around])


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TRANSCRIPTS.items() for text in texts])
def test_every_form_that_a_model_writes_is_read(name, text):
    content, found = check_cuts(text, name, TOOLS)
    assert (content, [(called, json.loads(read)) for called, read in found]) == ("", [("look", BERN)])


@pytest.mark.parametrize("name", FORMS)
def test_a_call_that_is_cut_shows_no_mark(name):
    text = write(FORMS[name], CALLS["parallel"])
    for length in range(len(text)):
        content, _ = parse([text[:length]], name, is_cut=True)
        assert content in ("", text[:1])


@pytest.mark.parametrize("name", FORMS)
def test_what_only_looks_like_a_call_is_text(name):
    form = FORMS[name]
    for text in (form.opening, f"{form.opening}[1, 2]", write(form, [("other", {})]), "{} [] <b> plain"):
        assert check_cuts(text, name, TOOLS) == (text, [])


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_pieces_do_not_matter(name, data):
    """Marks, objects and text in any order and cut anywhere: the same calls, and text to the last character."""
    form = FORMS[name]
    whole = [write(form, calls) for calls in CALLS.values()]
    words = [
        *form.marks,
        form.begin,
        form.between,
        form.end,
        '{"name": "look", "arguments": ',
        '{"city": "x"}',
        "}",
        "look",
    ]
    parts = st.sampled_from([*filter(None, words), *whole, "text", " ", "\n", '"', "<", "{", "["])
    text = data.draw(st.lists(parts, max_size=10).map("".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    content, calls = parse(text, name)
    assert parse(pieces, name) == parse([text], name) == (content, calls)
    if not calls:
        assert content == text


@pytest.mark.parametrize(("name", "mark"), [("granite", "<|tool_call|>"), ("mistral", "[TOOL_CALLS]")])
def test_a_mark_may_follow_a_block_that_was_not_closed(name, mark):
    call = mark + '[{"name": "look", "arguments": {}}'
    assert check_cuts(f"{call}\n{mark}[]", name, TOOLS) == (f"{mark}[]", [("look", "{}")])
    assert check_cuts(f"{call}\n{call}]", name, TOOLS) == ("", [("look", "{}")] * 2)


@pytest.mark.parametrize("name", FORMS)
def test_the_grammar_accepts_what_is_written(name, byte_model):
    dialect = choose_dialect("", name)
    forced = dialect.grammar(TOOLS, {}, is_forced=True, is_parallel=True)
    free = dialect.grammar(TOOLS, {}, is_forced=False, is_parallel=True)
    for calls in CALLS.values():
        text = write(FORMS[name], calls)
        assert accepts(byte_model, forced, text) == (text, True)
        before = "Sure.\n" if FORMS[name].opening else ""
        assert accepts(byte_model, free, before + text) == (before + text, True)
    wrong = write(FORMS[name], [("other", {})])
    assert accepts(byte_model, forced, wrong) != (wrong, True)
    alone = dialect.grammar(TOOLS, {}, is_forced=True, is_parallel=False)
    several = write(FORMS[name], CALLS["parallel"])
    assert accepts(byte_model, alone, several) != (several, True)


@pytest.mark.parametrize("name", SHOWN)
def test_a_template_shows_its_format(name):
    assert choose_dialect(SHOWN[name]).name == name


@pytest.mark.parametrize(
    ("text", "content", "num_calls"),
    [
        ('Sure: {"name": "look", "parameters": {"city": "Bern"}}', "Sure:", 1),
        ('Sure.\n{"type": "function", "name": "now", "parameters": {}}\nDone.', "Sure.Done.", 1),
        ('Use {"a": {"name": "look", "parameters": {}}} now', 'Use {"a": {"name": "look", "parameters": {}}} now', 0),
        ("if (x) { y }", "if (x) { y }", 0),
    ],
)
def test_text_around_a_call_of_llama3(text, content, num_calls):
    found = check_cuts(text, "llama3", TOOLS)
    assert (found[0], len(found[1])) == (content, num_calls)
