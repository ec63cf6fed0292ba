"""The fields that several APIs share: sampling, stopping, streaming, and those accepted without effect.

Beyond OpenAI's own there are extensions: top_k, min_p, repetition_penalty, min_tokens, ignore_eos, stop_token_ids,
include_stop_str_in_output. Bounds are those of the engine's own records, which check them once more.
"""

from dataclasses import fields as fields_of
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import BOUNDS, MAX_CHOICES, SamplingParams, StoppingParams
from verbatim.server.api import foreign_fields, policy
from verbatim.server.api.builder import Streaming
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.value_types import (
    BOOLEAN,
    STRING,
    TOKEN_ID,
    Extended,
    ValueType,
    array,
    check_length,
    check_token_ids,
    integer,
    number,
    of_type,
    or_none,
    text,
    type_error,
)
from verbatim.server.models.served import ServedModel

OPENAI_STOP_STRINGS, MAX_STOP_STRINGS = 4, 128
OPENAI_TEMPERATURE = 2
NO_BOUND = -1  # of tokens: how other servers write it
MAX_TOKEN_ID_DIGITS = 12
MAX_STOP_IDS = 1024
NAME_TEXT, STOP_TEXT = text(1 << 10), text(1 << 12)
METADATA_LIMITS = (16, 64, 512)  # pairs, characters of a key, characters of a value
DEFAULTS = {row.name: row.default for row in fields_of(SamplingParams)}


def _is_model_needed() -> bool:
    return not policy.current().is_model_optional


def _read_model(value: Any, path: str) -> str:
    if not NAME_TEXT.read(value, path) and _is_model_needed():
        raise RequestError(f"{path} must not be empty", field=path, code="missing_required_parameter")
    return value


def _stop(max_strings: int) -> ValueType:
    def read(value: Any, path: str) -> tuple[str, ...]:
        if type(value) is str:
            return (STOP_TEXT.read(value, path),)
        if type(value) is not list:
            raise type_error(path, value, "a string or an array of strings")
        if len(value) > max_strings:
            message = f"{path} must have at most {max_strings} strings, not {len(value)}"
            raise RequestError(message, field=path, code="array_above_max_length")
        return tuple(STOP_TEXT.read(item, f"{path}[{index}]") for index, item in enumerate(value))

    some = ValueType(STOP_TEXT.read, STOP_TEXT.schema | {"minLength": 1})
    return ValueType(read, {"anyOf": [some.schema, array(some, max_strings).schema]})


def _some_stops(type_: ValueType) -> ValueType:
    """The same without empty strings, which other servers take for none."""
    schema = {"anyOf": [STOP_TEXT.schema, array(STOP_TEXT, MAX_STOP_STRINGS).schema]}
    return ValueType(lambda value, path: tuple(filter(None, type_.read(value, path))), schema)


def _read_metadata(value: Any, path: str) -> dict:
    most, key_length, value_length = METADATA_LIMITS
    if len(of_type(path, value, dict)) > most:
        message = f"{path} must have at most {most} pairs"
        raise RequestError(message, field=path, code="object_above_max_properties")
    if any(len(key) > key_length for key in value):
        message = f"{path} keys must have at most {key_length} characters"
        raise RequestError(message, field=path, code="property_name_above_max_length")
    for key, item in value.items():
        where = f"{path}.{key}"
        if item is not None:
            check_length(where, of_type(where, item, str), value_length)
    return value


def _number(name: str, description: str, example: float) -> Field:
    return Field(name, number(*BOUNDS[name]), description, default=DEFAULTS[name], example=example)


MODEL = Field(
    "model", ValueType(_read_model, NAME_TEXT.schema), "The name of a model; it may be left out where one is served.",
    example="verbatim-demo", is_needed=_is_model_needed,
)  # fmt: skip
CHOICES = Field("n", integer(1, MAX_CHOICES), "How many answers to give.", default=1, example=2)
LOW, HIGH = BOUNDS["logit_bias"]
BIASES = {
    "type": "object",
    "propertyNames": {"pattern": f"^[0-9]{{1,{MAX_TOKEN_ID_DIGITS}}}$"},
    "additionalProperties": {"type": "number", "minimum": LOW, "maximum": HIGH},
}
SAMPLING = (
    Field("seed", integer(*BOUNDS["seed"]), "Makes an answer repeatable; random if absent.", example=7),
    Field(
        "temperature",
        Extended(number(0, OPENAI_TEMPERATURE), number(*BOUNDS["temperature"])),
        "0 always takes the likeliest token; the higher, the more varied.",
        DEFAULTS["temperature"],
        example=0.7,
    ),
    _number("top_p", "Sample among the likeliest tokens that have this share of probability.", 0.9),
    Field(
        "top_k",
        Extended(integer(*BOUNDS["top_k"]), or_none(integer(*BOUNDS["top_k"]), 0, -1)),
        "Sample among so many of the likeliest tokens.",
        example=40,
    ),
    _number("min_p", "Leave out tokens below this share of the likeliest one's probability.", 0.05),
    _number("repetition_penalty", "Above 1, tokens that occurred get less likely.", 1.1),
    _number("frequency_penalty", "Above 0, tokens get less likely with each time that they occurred.", 0.5),
    _number("presence_penalty", "Above 0, tokens that occurred in the answer get less likely.", 0.5),
    Field(
        "logit_bias",
        ValueType(lambda value, path: of_type(path, value, dict), BIASES),
        "Added to logits, by token id.",
        example={"5": -100},
    ),
)
STOPS = Extended(_stop(OPENAI_STOP_STRINGS), _some_stops(_stop(MAX_STOP_STRINGS)))
STOPPING = (
    Field("stop_token_ids", array(TOKEN_ID, MAX_STOP_IDS), "Tokens that end the answer.", default=(), example=[2]),
    Field("min_tokens", integer(0), "Nothing ends the answer before so many tokens.", default=0),
    Field("stop", STOPS, "Texts that end the answer.", default=(), example=["\n\n"]),
    Field("ignore_eos", BOOLEAN, "The model's own end does not end the answer.", default=False),
    Field("include_stop_str_in_output", BOOLEAN, "The answer includes the stop text.", default=False),
)
STREAM = Field("stream", BOOLEAN, "Send the answer as server-sent events as it is made.", default=False)
PADDING = Field("include_obfuscation", BOOLEAN, "Pad events, to hide the length of their text.", default=False)
STREAM_OPTIONS = Object(
    Field("include_usage", BOOLEAN, "End with a chunk of usage.", default=False),
    Field("continuous_usage_stats", BOOLEAN, "With include_usage: each chunk has the usage so far.", default=False),
    PADDING,
    foreign=foreign_fields.STREAM_OPTIONS,
)
STREAMING = (STREAM, Field("stream_options", STREAM_OPTIONS, "What a stream holds beside the answer."))
TOKEN_IDS = Field("return_token_ids", BOOLEAN, "Give the ids of the prompt and of the answer, too.", default=False)
USER = Field("user", NAME_TEXT, "Without effect.", example="ada")
CACHE_KEY = Field(
    "prompt_cache_key", NAME_TEXT, "Prompts with another key share no cached beginning.", default="", example="ada"
)
PAIRS = ValueType(_read_metadata, {
    "type": "object", "additionalProperties": STRING.schema, "maxProperties": METADATA_LIMITS[0],
})  # fmt: skip
ACCOUNT = (
    USER,
    Field("safety_identifier", NAME_TEXT, "Without effect.", example="ada"),
    Field("metadata", PAIRS, "Without effect; responses repeat it.", example={"topic": "demo"}),
    CACHE_KEY,
)


def max_tokens(low: int) -> Extended:
    """The type of a bound of tokens; -1 is none."""
    return Extended(integer(low), or_none(integer(min(low, 1)), NO_BOUND))


def take_sampling(fields: Fields, model: ServedModel, logprobs: int | None) -> SamplingParams:
    """Everything between logits and a token; what is absent is as the model's authors recommend, a seed is random."""
    recommended = {name: value for name, value in model.sampling_defaults.items() if not fields.has(name)}
    values = {field.name: fields[field.name] for field in SAMPLING} | recommended
    vocab_size = model.config.vocab_size
    values["logit_bias"] = _read_logit_bias(values["logit_bias"] or {}, vocab_size)
    if values["seed"] is None:
        del values["seed"]
    return SamplingParams(**values, logprobs=logprobs)


def take_stopping(fields: Fields, vocab_size: int, max_tokens: int | None) -> StoppingParams:
    """When the answer ends."""
    token_ids = fields["stop_token_ids"]
    check_token_ids("stop_token_ids", token_ids, vocab_size)
    return StoppingParams(
        max_tokens=max_tokens,
        min_tokens=fields["min_tokens"],
        strings=fields["stop"],
        token_ids=tuple(token_ids),
        ignore_eos=fields["ignore_eos"],
        include_stop_string=fields["include_stop_str_in_output"],
    )


def take_streaming(fields: Fields) -> Streaming:
    """Whether to stream, and what a stream holds beside the answer."""
    is_stream = fields["stream"]
    if not fields.has("stream_options"):
        return Streaming(is_stream=is_stream)
    options = fields["stream_options"]
    if not is_stream:
        raise RequestError("stream_options is only allowed when stream is true", field="stream_options")
    wants_usage, is_padded = options["include_usage"], options["include_obfuscation"]
    is_continuous = options["continuous_usage_stats"]
    options.done()
    return Streaming(is_stream=True, wants_usage=wants_usage, is_usage_continuous=is_continuous, is_padded=is_padded)


def _read_logit_bias(biases: dict, vocab_size: int) -> dict[int, float]:
    result = {}
    if len(biases) > vocab_size:
        message = f"logit_bias must have at most {vocab_size} tokens, as many as there are, not {len(biases)}"
        raise RequestError(message, field="logit_bias", code="invalid_value")
    for key, value in biases.items():
        if value is None:
            continue
        if not (key.isascii() and key.isdigit() and len(key) <= MAX_TOKEN_ID_DIGITS and int(key) < vocab_size):
            message = f"logit_bias keys must be token ids below {vocab_size}"
            raise RequestError(message, field="logit_bias", code="invalid_value")
        if type(value) not in (int, float):
            raise type_error(f"logit_bias.{key}", value, "a number")
        result[int(key)] = value  # its bounds are checked by SamplingParams
    return result
