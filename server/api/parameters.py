"""The parameters that both endpoints share: sampling, stopping, streaming, and those accepted without effect.

Beyond OpenAI's own there are extensions: top_k, min_p, repetition_penalty, min_tokens, ignore_eos, stop_token_ids,
include_stop_str_in_output. Bounds are checked where the engine's own records check them, too.
"""

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import MAX_CHOICES, SamplingParams, StoppingParams, require_integer
from verbatim.server.api.answer import Streaming
from verbatim.server.api.fields import Fields, of_type, type_error

MAX_STOP_STRINGS = 4
MAX_TOKEN_ID_DIGITS = 12
METADATA_LIMITS = (16, 64, 512)  # pairs, characters of a key, characters of a value


def take_sampling(fields: Fields, vocab_size: int, logprobs: int | None) -> SamplingParams:
    """Everything between logits and a token; a request without a seed gets a random one."""
    seed = fields.integer("seed", -(1 << 63), (1 << 64) - 1)
    return SamplingParams(
        temperature=fields.number("temperature", 1.0, 0, 2),
        top_p=fields.number("top_p", 1.0, 0, 1),
        top_k=fields.integer("top_k", 1),
        min_p=fields.number("min_p", 0.0, 0, 1),
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0.01, 100),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        logit_bias=_take_logit_bias(fields, vocab_size),
        logprobs=logprobs,
        **({} if seed is None else {"seed": seed}),
    )


def take_stopping(fields: Fields, vocab_size: int, max_tokens: int | None) -> StoppingParams:
    """When the answer ends."""
    token_ids = fields.array("stop_token_ids")
    for index, token_id in enumerate(token_ids):
        path = f"stop_token_ids[{index}]"
        require_integer(path, of_type(path, token_id, int), 0, vocab_size - 1)
    return StoppingParams(
        max_tokens=max_tokens,
        min_tokens=fields.integer("min_tokens", 0, default=0),
        strings=_take_stop_strings(fields),
        token_ids=tuple(token_ids),
        ignore_eos=fields.typed("ignore_eos", bool, False),
        include_stop_string=fields.typed("include_stop_str_in_output", bool, False),
    )


def take_model(fields: Fields) -> str:
    """The name of the model, which must not be empty."""
    name = of_type("model", fields.required("model"), str)
    if not name:
        raise RequestError("model must not be empty", field="model", code="missing_required_parameter")
    return name


def take_choices(fields: Fields) -> int:
    """`n`, how many answers to give."""
    return fields.integer("n", 1, MAX_CHOICES, default=1)


def take_streaming(fields: Fields) -> Streaming:
    """Whether to stream, and what a stream holds beside the answer."""
    is_stream = fields.typed("stream", bool, False)
    if not fields.has("stream_options"):
        return Streaming(is_stream=is_stream)
    options = Fields(fields.take("stream_options"), "stream_options")
    if not is_stream:
        raise RequestError("stream_options is only allowed when stream is true", field="stream_options")
    wants_usage = options.typed("include_usage", bool, False)
    is_padded = options.typed("include_obfuscation", bool, False)
    options.done()
    return Streaming(is_stream=True, wants_usage=wants_usage, is_padded=is_padded)


def take_harmless(fields: Fields) -> dict:
    """Fields about OpenAI's accounts: checked for their type, without effect on the answer. Returns the metadata."""
    fields.string("user")
    fields.string("safety_identifier")
    fields.refuse("store", False)
    fields.refuse("service_tier", "auto", "default")
    most, key_length, value_length = METADATA_LIMITS
    metadata = fields.typed("metadata", dict, {})
    if len(metadata) > most:
        message = f"metadata must have at most {most} pairs"
        raise RequestError(message, field="metadata", code="object_above_max_properties")
    if any(len(key) > key_length for key in metadata):
        message = f"metadata keys must have at most {key_length} characters"
        raise RequestError(message, field="metadata", code="property_name_above_max_length")
    values = Fields(metadata, "metadata")
    for key in metadata:
        values.string(key, value_length)
    return metadata


def take_cache_salt(fields: Fields) -> str:
    """`prompt_cache_key` keeps the cached beginnings of prompts apart from those with another key."""
    return fields.string("prompt_cache_key") or ""


def _take_stop_strings(fields: Fields) -> tuple[str, ...]:
    if not fields.has("stop"):
        return ()
    value = fields.take("stop")
    if type(value) is str:
        return (value,)
    if type(value) is not list:
        raise type_error("stop", value, "a string or an array of strings")
    if len(value) > MAX_STOP_STRINGS:
        message = f"stop must have at most {MAX_STOP_STRINGS} strings, not {len(value)}"
        raise RequestError(message, field="stop", code="array_above_max_length")
    return tuple(of_type(f"stop[{index}]", item, str) for index, item in enumerate(value))


def _take_logit_bias(fields: Fields, vocab_size: int) -> dict[int, float]:
    biases = Fields(fields.typed("logit_bias", dict, {}), "logit_bias")
    result = {}
    for key in biases.names():
        if not (key.isascii() and key.isdigit() and len(key) <= MAX_TOKEN_ID_DIGITS and int(key) < vocab_size):
            message = f"logit_bias keys must be token ids below {vocab_size}"
            raise RequestError(message, field="logit_bias", code="invalid_value")
        value = biases.take(key)
        if type(value) not in (int, float):
            raise type_error(biases.where(key), value, "a number")
        result[int(key)] = value  # its bounds are checked by SamplingParams
    return result
