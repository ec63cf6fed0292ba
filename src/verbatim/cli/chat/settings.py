"""The fields of a request that /set changes; types, bounds and descriptions are those that the server declares."""

import json
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.chat.request import BODY
from verbatim.server.settings.spelling import closest

SETTINGS = {
    name: BODY.fields[name]
    for name in (
        "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "max_completion_tokens", "stop",
        "stop_token_ids", "min_tokens", "ignore_eos", "include_stop_str_in_output", "repetition_penalty",
        "frequency_penalty", "presence_penalty", "logit_bias", "response_format", "guided_json", "guided_regex",
        "guided_choice", "guided_grammar", "tool_choice", "parallel_tool_calls",
    )
}  # fmt: skip
NOUNS = {"number": "a number", "integer": "an integer", "boolean": "true or false"}


def read_setting(name: str, text: str) -> Any:
    """The value that `text` stands for: JSON, or the text itself. RequestError names field, value and bound."""
    check_name(name)
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        value = text
    try:
        return check_setting(name, value)
    except RequestError:
        if isinstance(value, str):
            raise
    try:
        return check_setting(name, text)  # text that happens to be JSON, as in /set stop 5
    except RequestError:
        return check_setting(name, value)


def check_setting(name: str, value: Any) -> Any:
    """The value, if the field may have it; RequestError if not."""
    type_ = check_name(name).type
    try:
        type_.read(value, name)
    except RequestError as error:
        if (allowed := _allowed(type_.schema)) is None:
            raise
        raise RequestError(f"{name} must be {allowed}, not {_shown(value)}", field=name) from error
    return value


def check_name(name: str) -> Any:
    """The declaration of a field; RequestError suggests another name for one that is unknown."""
    if name not in SETTINGS:
        meant = closest(name, list(SETTINGS))
        raise RequestError(f"{name}: " + (f"did you mean {meant}?" if meant else f"choose from {', '.join(SETTINGS)}"))
    return SETTINGS[name]


def _allowed(schema: dict) -> str | None:
    """The values of a simple schema in words; None for objects, lists and text, whose errors say more."""
    if "anyOf" in schema:
        parts = [_allowed(part) for part in schema["anyOf"]]
        return None if None in parts else " or ".join(filter(None, parts))
    if "enum" in schema:
        return " or ".join(map(_shown, schema["enum"]))
    if schema.get("type") not in NOUNS:
        return None
    noun, low, high = NOUNS[schema["type"]], schema.get("minimum"), schema.get("maximum")
    if low is None:
        return noun
    return f"{noun} from {low} to {high}" if high is not None else f"{noun} of at least {low}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
