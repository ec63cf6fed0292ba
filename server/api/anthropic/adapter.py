"""Messages as an API: named events without a mark at the end, errors in Anthropic's form, and the count of a prompt."""

from verbatim.server.api.adapter import Adapter, Page, Resumption
from verbatim.server.api.anthropic import blocks, conversation
from verbatim.server.api.anthropic.errors import shape
from verbatim.server.api.anthropic.events import MessageBuilder
from verbatim.server.api.anthropic.models import HEADER
from verbatim.server.api.anthropic.request import BODY, COUNT, count_tokens, read_message
from verbatim.server.api.anthropic.resume import MessageResumption
from verbatim.server.api.anthropic.tools import TOOL
from verbatim.server.api.fields import answer, required
from verbatim.server.api.value_types import ANYTHING, NULLABLE_STRING, OBJECT, STRING, ValueType, integer, one_of
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe
from verbatim.server.models.served import ServedModel

PATH = "/v1/messages"
REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded")
COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
USAGE = answer(*(required(name, integer(0), f"How many {name.replace('_', ' ')}.", 12) for name in COUNTS))
CONTENT = ValueType(ANYTHING.read, {"type": "array", "items": OBJECT.schema | {"required": ["type"]}})
ANSWER = answer(
    required("id", STRING, "The id of the message.", "msg_0123456789abcdef"),
    required("type", one_of("message"), "The type of the answer."),
    required("role", one_of("assistant"), "The speaker."),
    required("content", CONTENT, "Blocks of text and calls of tools.", [{"type": "text", "text": "Hello!"}]),
    required("model", STRING, "The id of the model.", "verbatim-demo"),
    required("stop_reason", one_of(*REASONS), "Why the answer ended."),
    required("stop_sequence", NULLABLE_STRING, "The stop sequence that ended it.", "\n\n"),
    required("usage", ValueType(ANYTHING.read, USAGE), "How many tokens were read, and how many written."),
)
COUNTED = answer(required("input_tokens", integer(0), "How many tokens the prompt has.", 12))
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
EXAMPLES: dict[str, dict] = {
    "A short answer": HELLO | {"max_tokens": 64, "temperature": 0},
    "Streamed": HELLO | {"max_tokens": 64, "stream": True},
    "With a tool": {
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [WEATHER],
    },
}
PAGES = (
    Page(name="count_tokens", method="POST", path=f"{PATH}/count_tokens", summary="The tokens of a message's prompt",
         answer="InputTokens", codes=("400", "401", "404", "408", "413"), handle=count_tokens, body=COUNT,
         examples={"A question": HELLO}),
)  # fmt: skip


class MessageAdapter(Adapter):
    """Messages."""

    name, path, prompt_field = "messages", PATH, "messages"
    summary = "Answer a conversation in Anthropic's form"
    header = HEADER
    body, examples = BODY, EXAMPLES
    answer, pages = "MessageAnswer", PAGES
    write, end = staticmethod(sse.named_event), b""

    @property
    def schemas(self) -> dict[str, dict]:  # type: ignore[override]  # made anew, as they depend on --unknown-fields
        """The schemas of the answers, and of messages, content blocks and tools."""
        own = {"MessageAnswer": ANSWER, "MessageParam": conversation.schema(), "InputTokens": COUNTED}
        return own | {"ClientTool": TOOL.schema} | blocks.schemas()

    def read(self, body: object, model: ServedModel) -> MessageBuilder:
        """The builder of a message."""
        return read_message(body, model)

    def shape_error(self, body: dict) -> dict:
        """The body of an error in Anthropic's form."""
        return shape(body)

    def resume(self, emitted: list[bytes]) -> Resumption:
        """Events, with the ids of the first stream."""
        return MessageResumption(emitted)

    def is_last(self, event: bytes) -> bool:
        """Whether the message is complete."""
        return event.startswith(b"event: message_stop\n")

    def error_event(self, error: Exception, emitted: list[bytes]) -> bytes:
        """An event of type error."""
        return sse.named_event(shape(describe(error)[1]))
