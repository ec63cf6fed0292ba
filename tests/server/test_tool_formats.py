"""Served tool calls, a format a template: the template's own example decides, a forced call comes out as JSON."""

import json

import jsonschema
import pytest

from call_texts import SHOWN as JSON_SHOWN
from small_models import write_byte_tokenizer, write_model
from verbatim.reference.backend import load_engine
from verbatim.reference.records.errors import UnsupportedError
from verbatim.server.api.chat.request import read_chat
from verbatim.server.models.served import load_served_model
from verbatim.server.settings.options import Options

SHOWN = JSON_SHOWN | {  # what a template says of calls
    "functionary": "<function=name>{{ arguments }}</function>",
    "qwen3_coder": "<tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call>",
    "seed_oss": "<seed:tool_call>\n<function=name>\n<parameter=key>value</parameter>\n</function>\n</seed:tool_call>",
    "glm45": "<tool_call>{name}\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>",
    "glm47": "<tool_call>{name}<arg_key>{key}</arg_key><arg_value>{value}</arg_value></tool_call>",
    "minimax_m2": '{% set begin = "<minimax:tool_call>" %}{{ begin }}<invoke name="name">',
    "deepseek_v32": '{% set mark = "｜DSML｜" %}<{{ mark ~ "" }}invoke name="name"></｜DSML｜function_calls>',
    "deepseek_v4": '{% set dsml = "｜DSML｜" %}<{{ dsml }}tool_calls>',
    "step3": '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="name">',
    "hunyuan_v3": "<tool_calls>\n<tool_call>name<tool_sep>\n<arg_key>key</arg_key>",
    "llama4": "[func_name1(a=1), func_name2()] <|python_start|>",
    "pythonic": "[func_name1(params_name1=params_value1), func_name2(params)]",
    "lfm2": "List of tools: <|tool_list_start|>",
    "olmo3": "Write <function_calls>\nname(key=1)\n</function_calls>",
    "gemma3": "Write ```tool_code\nname(key=1)\n```",
    "gemma4": "{{ '<|tool_call>call:' + 'name' + '{' }}",
    "functiongemma": "<start_function_call>call:name{key:<escape>value<escape>}<end_function_call>",
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Ulm"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
                   "exact": {"type": "boolean"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model of bytes, with the marks of some formats as control tokens."""
    directory = tmp_path_factory.mktemp("model")
    marks = ["<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_call_start|>", "<|tool_call_end|>", "<arg_key>"]
    write_model(
        directory, vocab_size=257 + len(marks), eos_token_id=256, bos_token_id=None, max_position_embeddings=1024
    )
    write_byte_tokenizer(directory, ["<eos>", *marks])
    return directory


@pytest.fixture(scope="module")
def engine(directory):
    return load_engine(directory)


@pytest.mark.parametrize("name", SHOWN)
def test_a_template_chooses_and_a_forced_call_fits(name, directory, engine):
    source = "{% set name, type, arguments = 'name', 'function', '{}' %}" + SHOWN[name] + "{{ messages[0].content }}"
    (directory / "chat_template.jinja").write_text(source, encoding="utf-8")
    model = load_served_model(Options(backend="reference", model=directory, device="cpu", quantization=None))
    assert model.dialect.name == name
    tool = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
    body = {"model": model.model_id, "messages": [{"role": "user", "content": "Hi"}], "tools": [tool], "seed": 1}
    answer = read_chat(body | {"tool_choice": "required", "parallel_tool_calls": False}, model)
    engine.add(answer.requests[0])
    while engine.has_work():
        for output in engine.step():
            answer.take(output)
    [choice] = answer.whole()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "look"
    jsonschema.validate(json.loads(call["function"]["arguments"]), PARAMETERS)


@pytest.mark.parametrize(
    ("schema", "word"),
    [({"type": "string", "pattern": "^a"}, "pattern"), ({"type": "string", "minLength": 2}, "minLength")],
)
def test_what_text_between_marks_cannot_hold_is_named(schema, word, directory):
    options = Options(backend="reference", model=directory, device="cpu", quantization=None, tool_parser="qwen3_coder")
    model = load_served_model(options)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}
    kept, lost = model.dialect.narrowed(tool["function"]["parameters"])
    assert lost == [f"properties.a.{word}"] and kept["properties"] == {"a": {"type": "string"}}
    model.dialect.grammar([tool | {"function": tool["function"] | {"parameters": kept}}], {}, is_forced=True,
                          is_parallel=True)  # fmt: skip
    with pytest.raises(UnsupportedError, match=f"'{word}' in the parameters of f cannot be held with qwen3_coder"):
        model.dialect.grammar([tool], {}, is_forced=True, is_parallel=True)
