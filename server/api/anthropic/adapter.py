"""Messages as an API: named events without a mark at the end, errors in Anthropic's form, and the count of a prompt."""

from verbatim.server.api.adapter import Adapter, Page, Resumption
from verbatim.server.api.anthropic import blocks, conversation
from verbatim.server.api.anthropic.errors import shape
from verbatim.server.api.anthropic.events import MessageBuilder
from verbatim.server.api.anthropic.models import HEADER
from verbatim.server.api.anthropic.request import BODY, COUNT, count_tokens, read_message
from verbatim.server.api.anthropic.resume import MessageResumption
from verbatim.server.api.anthropic.tools import TOOL
from verbatim.server.api.value_types import OBJECT, STRING, integer, one_of
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe
from verbatim.server.models.served import ServedModel

PATH = "/v1/messages"
REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded")
USAGE = {"type": "object", "required": ["input_tokens", "output_tokens"]}
ANSWER = {
    "type": "object",
    "required": ["id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"],
    "properties": {
        "id": STRING.schema,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "content": {"type": "array", "items": OBJECT.schema | {"required": ["type"]}},
        "model": STRING.schema,
        "stop_reason": one_of(*REASONS).schema,
        "usage": USAGE,
    },
}
COUNTED = {"type": "object", "required": ["input_tokens"], "properties": {"input_tokens": integer(0).schema}}
PAGES = (
    Page(name="count_tokens", method="POST", path=f"{PATH}/count_tokens", summary="The tokens of a message's prompt",
         answer="InputTokens", codes=("400", "401", "404", "408", "413"), handle=count_tokens, body=COUNT),
)  # fmt: skip


class MessageAdapter(Adapter):
    """Messages."""

    name, path, prompt_field = "messages", PATH, "messages"
    summary = "Answer a conversation in Anthropic's form"
    header = HEADER
    body = BODY
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
