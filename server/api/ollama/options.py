"""What chats and completions of Ollama share: `options` with their names for sampling, and `format`.

They become fields of OpenAI's bodies, which the adapters of chats and completions read. `num_predict` below 1 is no
bound. Options about memory, threads and the context's size (`num_ctx`) are accepted without effect.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import BOUNDS
from verbatim.server.api import parameters, policy
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.foreign_fields import REQUEST
from verbatim.server.api.thinking import EFFORT
from verbatim.server.api.value_types import (
    BOOLEAN,
    NUMBER,
    OBJECT,
    STRING,
    ValueType,
    integer,
    of_type,
    or_none,
    type_error,
)

OWN = {field.name: field.type for field in parameters.SAMPLING}
SAMPLING = {  # Ollama's names, and ours
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "seed": "seed",
    "repeat_penalty": "repetition_penalty", "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty", "stop": "stop",
}  # fmt: skip
EXAMPLES: dict[str, Any] = {
    "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "seed": 7, "repeat_penalty": 1.1,
    "presence_penalty": 0.5, "frequency_penalty": 0.5, "stop": ["\n\n"],
}  # fmt: skip
TYPES = OWN | {
    "top_k": or_none(integer(*BOUNDS["top_k"]), 0, -1),
    "seed": or_none(integer(*BOUNDS["seed"]), -1),
    "stop": parameters.STOPS,
}
OPTIONS = Object(
    Field("num_predict", integer(-2), "The answer has at most so many tokens; below 1 no bound.", example=64),
    *(Field(name, TYPES[ours], f"As `{ours}` of chats.", example=EXAMPLES[name]) for name, ours in SAMPLING.items()),
    foreign=REQUEST,
)


def _read_format(value: Any, path: str) -> dict | None:
    if type(value) is dict:
        return value
    if value in ("", "json"):
        return {"type": "object"} if value else None
    if type(value) is str:
        raise RequestError(f"{path} must be json or a JSON schema", field=path, code="invalid_value")
    raise type_error(path, value, "a string or an object")


FORMAT = Field(
    "format",
    ValueType(_read_format, {"anyOf": [{"enum": ["", "json"]}, OBJECT.schema]}),
    "`json` for any JSON object, or a JSON schema that the answer must fit.",
    example="json",
)
TIME = ValueType(lambda value, _: value, {"anyOf": [STRING.schema, NUMBER.schema]})


def _read_think(value: Any, path: str) -> str | bool:
    if type(value) is bool:
        return value
    return EFFORT.type.read(of_type(path, value, str), path)


THINK = Field(
    "think",
    ValueType(_read_think, {"anyOf": [BOOLEAN.schema, EFFORT.type.schema]}),
    "Whether the model thinks before it answers, or how much.",
    example=False,
)
COMMON = (
    Field("options", OPTIONS, "Settings of sampling.", example={"temperature": 0, "num_predict": 64}),
    FORMAT,
    THINK,
    Field("stream", parameters.STREAM.type, "Send the answer as lines of JSON as it is made.", default=True),
    Field("keep_alive", TIME, "Without effect: models stay loaded.", example="5m"),
)


def take_common(fields: Fields, context_size: int) -> dict:
    """The fields of an OpenAI body that `options` and `format` stand for; `stream` is left to the caller."""
    fields["keep_alive"]
    body: dict[str, Any] = {"max_tokens": context_size}
    if (options := fields["options"]) is not None:
        if (num_predict := options["num_predict"] or 0) > 0:
            body["max_tokens"] = num_predict
        found = {ours: options[name] for name, ours in SAMPLING.items()}
        options.done()
        body |= {name: value for name, value in found.items() if value is not None}
        body["stop"] = list(body.get("stop", ()))
    if (think := fields["think"]) is not None:
        body["enable_thinking" if type(think) is bool else "reasoning_effort"] = think
    if (schema := fields["format"]) is not None:
        body["response_format"] = {"type": "json_object", "schema": schema}
    return body


@contextmanager
def own_names() -> Iterator[None]:
    """Errors of a body that was made from Ollama's name Ollama's fields, and so does what had no effect."""
    try:
        yield
        ignored = policy.current().ignored
        if {"enable_thinking", "reasoning_effort"} & ignored.keys():
            names = [name for name in ignored if name not in ("enable_thinking", "reasoning_effort")]
            ignored.clear()
            ignored.update(dict.fromkeys([*names, "think"]))
    except RequestError as error:
        if error.field and error.field.startswith("response_format"):
            error.field = "format"
            error.args = (str(error).replace("response_format.schema", "format"),)
        raise
