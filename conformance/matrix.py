"""The rows of the invalid matrix: a flaw, requests that have it, and the field that the error should name.

Besides the bounds themselves some values are drawn by hypothesis, the same ones in every run.
"""

from collections.abc import Callable
from functools import cache

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

NUM_DRAWN = 2
WORDS = st.text("abcdefgh", min_size=1, max_size=6)


def draw(strategy: st.SearchStrategy, count: int = NUM_DRAWN) -> list:
    """Some values of a strategy, the same in every run."""
    found: list = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value):
        found.append(value)

    take()
    return found[:count]


def message(**fields) -> dict:
    """A request with a single message."""
    return {"messages": [fields]}


def user(content: object) -> dict:
    """A request with a single user message."""
    return message(role="user", content=content)


def tool(**function) -> dict:
    """A request with a single tool."""
    return {"tools": [{"type": "function", "function": function}]}


def schema(**described) -> dict:
    """A request for a JSON schema."""
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def field(name: str, *values: object, drawn: st.SearchStrategy | None = None) -> Callable[[], list[dict]]:
    """Bodies, each with one of the values of a field."""

    @cache
    def bodies() -> list[dict]:
        return [{name: value} for value in (*values, *(draw(drawn) if drawn is not None else ()))]

    return bodies


def bodies(*fixed: dict) -> Callable[[], list[dict]]:
    """The given bodies, unchanged."""
    return lambda: list(fixed)


BELOW, ABOVE = st.floats(-1e6, -0.01), st.floats(2.01, 1e6)
NOT_NUMBERS = st.one_of(WORDS, st.booleans(), st.lists(st.integers(), max_size=2))
CALL = {"type": "function", "function": {"name": "probe"}}
VALID_FUNCTION = {"name": "probe", "parameters": {"type": "object", "properties": {}}}

# name: (the requirement, its bodies, the field that the error should name, whether OpenAI was observed to do so)
CHAT_ROWS = {
    "messages_missing": ("A request without messages", bodies({"messages": ...}), "messages"),
    "messages_empty": ("An empty list of messages", bodies({"messages": []}), "messages"),
    "messages_type": (
        "Messages that are no list of objects",
        field("messages", "hi", 3, {}, [1], ["hi"], drawn=WORDS),
        "messages",
    ),
    "role_unknown": ("A role that does not exist", bodies(message(role="banana", content="hi")), "messages"),
    "role_missing": ("A message without a role", bodies(message(content="hi")), "messages"),
    "content_missing": ("A user message without content", bodies(message(role="user"), user(None)), "messages"),
    "content_type": ("Content that is neither text nor parts", bodies(user(123), user({}), user(True)), "messages"),
    "part_type_unknown": (
        "A content part of unknown type",
        bodies(user([{"type": "riddle", "riddle": "?"}])),
        "messages",
    ),
    "part_text_missing": ("A text part without text", bodies(user([{"type": "text"}])), "messages"),
    "temperature_range": ("A negative temperature", field("temperature", -0.1, drawn=BELOW), "temperature"),
    "temperature_type": (
        "A temperature that is no number",
        field("temperature", "0.5", True, [], drawn=NOT_NUMBERS),
        "temperature",
    ),
    "top_p_range": ("A top_p outside 0 to 1", field("top_p", -0.1, 1.1, drawn=BELOW | ABOVE), "top_p"),
    "top_p_type": ("A top_p that is no number", field("top_p", "1", {}, drawn=NOT_NUMBERS), "top_p"),
    "presence_penalty_range": (
        "A presence_penalty outside -2 to 2",
        field("presence_penalty", -2.5, 2.5, drawn=ABOVE),
        "presence_penalty",
    ),
    "frequency_penalty_range": (
        "A frequency_penalty outside -2 to 2",
        field("frequency_penalty", -2.5, 2.5, drawn=ABOVE),
        "frequency_penalty",
    ),
    "frequency_penalty_type": (
        "A penalty that is no number",
        field("frequency_penalty", "1", [1], drawn=NOT_NUMBERS),
        "frequency_penalty",
    ),
    "n_below": ("An n below 1", field("n", 0, -1, drawn=st.integers(-1000, -1)), "n"),
    "n_above": ("An n above 128", field("n", 129, drawn=st.integers(129, 10**6)), "n"),
    "n_type": ("An n that is no integer", field("n", "2", 1.5, [], drawn=WORDS), "n"),
    "max_tokens_negative": (
        "A negative max_tokens that is not -1, some servers' word for no bound",
        field("max_tokens", -2, drawn=st.integers(-(10**9), -2)),
        "max_tokens",
    ),
    "max_tokens_type": (
        "A max_tokens that is no integer",
        field("max_tokens", "16", 1.5, [], drawn=WORDS),
        "max_tokens",
    ),
    "max_completion_tokens_negative": (
        "A negative max_completion_tokens that is not -1",
        bodies({"max_tokens": ..., "max_completion_tokens": -2}),
        "max_completion_tokens",
    ),
    "max_completion_tokens_type": (
        "A max_completion_tokens that is no integer",
        bodies({"max_tokens": ..., "max_completion_tokens": "16"}),
        "max_completion_tokens",
    ),
    "logprobs_type": ("A chat's logprobs that is no boolean", field("logprobs", "foo", 5, []), "logprobs"),
    "top_logprobs_range": (
        "A top_logprobs outside 0 to 20",
        bodies({"logprobs": True, "top_logprobs": -1}, {"logprobs": True, "top_logprobs": 21}),
        "top_logprobs",
    ),
    "top_logprobs_type": (
        "A top_logprobs that is no integer",
        bodies({"logprobs": True, "top_logprobs": "2"}),
        "top_logprobs",
    ),
    "stop_type": ("A stop that is neither text nor texts", field("stop", 123, [1], {}, drawn=st.integers()), "stop"),
    "logit_bias_type": (
        "A logit_bias that is no object of numbers",
        field("logit_bias", "foo", [1], {"5": "foo"}),
        "logit_bias",
    ),
    "logit_bias_range": ("A bias outside -100 to 100", field("logit_bias", {"5": 101}, {"5": -101}), "logit_bias"),
    "logit_bias_key": ("A bias for what is no token id", field("logit_bias", {"abc": 1}), "logit_bias"),
    "seed_type": ("A seed that is no integer", field("seed", "foo", 1.5, [], drawn=WORDS), "seed"),
    "stream_options_type": (
        "Stream options that are no object of flags",
        bodies({"stream": True, "stream_options": {"include_usage": "x"}}, {"stream": True, "stream_options": "x"}),
        "stream_options",
    ),
    "response_format_type": (
        "A response_format of no known type",
        field("response_format", "foo", {"type": "sound"}, {}),
        "response_format",
    ),
    "response_format_no_schema": (
        "A json_schema format without its schema",
        field("response_format", {"type": "json_schema"}),
        "response_format",
    ),
    "response_format_bad_schema": (
        "A schema that is none",
        bodies(schema(name="x", schema=123), schema(name="x", schema={"type": "hiccup"})),
        "response_format",
    ),
    "tools_type": ("Tools that are no list of tools", field("tools", "x", [1], [{}], [{"type": "function"}]), "tools"),
    "tool_schema": (
        "Tool parameters that are no schema",
        bodies(tool(name="probe", parameters="x"), tool(name="probe", parameters={"type": "hiccup"})),
        "tools",
    ),
    "tool_choice_malformed": (
        "A tool_choice of no known form",
        bodies(
            *(
                {"tools": [{"type": "function", "function": VALID_FUNCTION}], "tool_choice": c}
                for c in ("banana", {}, {"type": "function"})
            )
        ),
        "tool_choice",
    ),
    "tool_choice_absent_name": (
        "A tool_choice that names no given tool",
        bodies(
            {
                "tools": [{"type": "function", "function": VALID_FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "other"}},
            }
        ),
        "tool_choice",
    ),
    "tool_choice_required_empty": (
        "A required tool_choice without tools",
        bodies({"tools": [], "tool_choice": "required"}, {"tool_choice": "required"}),
        "tool_choice",
    ),
    "tool_call_id_missing": (
        "A tool message without its tool_call_id",
        bodies(
            {
                "messages": [
                    {"role": "user", "content": "hi"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "call_1", **CALL, "function": {"name": "probe", "arguments": "{}"}}],
                    },
                    {"role": "tool", "content": "5"},
                ]
            }
        ),
        "messages",
    ),
}
