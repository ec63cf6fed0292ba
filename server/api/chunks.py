"""The answers that chats and completions have in common, as JSON schemas."""

from verbatim.server.api.value_types import OBJECT, STRING, integer, one_of, reference

ANSWER = "Answer"
OF_CHOICE = OBJECT.schema | {"required": ["index", "finish_reason", "logprobs"]}
SCHEMAS: dict[str, dict] = {
    "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"]},
    ANSWER: {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
        "properties": {
            "id": STRING.schema,
            "object": one_of("chat.completion", "text_completion").schema,
            "created": integer(0).schema,
            "model": STRING.schema,
            "choices": {"type": "array", "items": OF_CHOICE},
            "usage": reference("Usage"),
        },
    },
}
