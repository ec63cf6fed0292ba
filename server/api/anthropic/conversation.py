"""A conversation as Anthropic writes it, made into the plain messages that a chat template expects.

Turns of the same speaker that follow each other are one turn. The texts of a user's blocks stand on lines of their own,
an assistant's are joined as they were written. Results of tools come before the text of their turn. `system` is the
first message; a system message in the middle becomes part of the user's turn, since many templates allow no other.
"""

from dataclasses import dataclass
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.anthropic.blocks import (
    CALL,
    OF_ASSISTANT,
    OF_SYSTEM,
    OF_USER,
    REASONING,
    RESULT,
    TEXT,
    Block,
    content_schema,
    join,
    read_blocks,
)
from verbatim.server.api.anthropic.foreign_fields import MESSAGE as FOREIGN
from verbatim.server.api.fields import Object, required
from verbatim.server.api.value_types import ANYTHING, ValueType, array, items_of, of_type, one_of, reference

BILLING = "x-anthropic-billing-header:"  # Claude Code sends this header as a block; it would change every prompt
ALLOWED = {"user": OF_USER, "assistant": OF_ASSISTANT, "system": OF_SYSTEM}
ROLE = one_of(*ALLOWED)


def read_system(value: Any, path: str) -> str:
    """The text of the field `system`, without what is meant for Anthropic's billing."""
    blocks = read_blocks(value, path, OF_SYSTEM)
    return join([block for block in blocks if not block.value.startswith(BILLING)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a speaker said, in blocks."""

    role: str
    path: str
    blocks: list[Block]

    def of_type(self, type_: str) -> list[Block]:
        """Its blocks of one type."""
        return [block for block in self.blocks if block.type == type_]


def _message(role: str) -> Object:
    content = ValueType(ANYTHING.read, content_schema(*ALLOWED[role]))
    return Object(
        required("role", one_of(role), "The speaker.", example=role),
        required("content", content, "Text, or content blocks.", example="Hello"),
        foreign=FOREIGN,
    )


MESSAGE = {role: _message(role) for role in ALLOWED}


def schema() -> dict:
    """The schema of a message."""
    return {"anyOf": [message.schema for message in MESSAGE.values()]}


def read_turns(value: Any, path: str) -> list[Turn]:
    """The turns, checked. RequestError names the message, the block and the field at fault."""
    if not items_of(path, value):
        raise RequestError(f"{path} must have at least one item", field=path, code="empty_array")
    return [_read_turn(item, f"{path}[{index}]") for index, item in enumerate(value)]


def _read_turn(value: Any, path: str) -> Turn:
    role = of_type(path, value, dict).get("role")
    if role is not None:
        ROLE.read(role, f"{path}.role")
    fields = MESSAGE[role or "user"].read(value, path)
    role = fields["role"]
    blocks = read_blocks(fields["content"], fields.where("content"), ALLOWED[role])
    fields.done()
    return Turn(role=role, path=path, blocks=blocks)


MESSAGES = required(
    "messages",
    ValueType(read_turns, array(ANYTHING, min_length=1).schema | {"items": reference("MessageParam")}),
    "The conversation, oldest message first; an assistant's at the end is continued.",
    example=[{"role": "user", "content": "Hello"}],
)


def to_messages(system: str | None, turns: list[Turn]) -> list[dict]:
    """The messages for the chat template. RequestError unless every call is answered in the turn after it."""
    num_leading = next((index for index, spoken in enumerate(turns) if spoken.role != "system"), len(turns))
    texts = [system or "", *(join(spoken.blocks) for spoken in turns[:num_leading])]
    first = "\n".join(filter(None, texts))
    messages: list[dict] = [{"role": "system", "content": first}] if first else []
    unanswered: dict[str, str] = {}  # ids of calls, and where they are
    for spoken in _joined(turns[num_leading:]):
        if spoken.role == "user":
            messages += _of_user(spoken, unanswered)
            unanswered = {}
        else:
            messages.append(_of_assistant(spoken))
            unanswered = {block.value["id"]: block.path for block in spoken.of_type(CALL)}
    _require_answered(unanswered)
    return messages


def _joined(turns: list[Turn]) -> list[Turn]:
    """The turns with speakers that alternate."""
    result: list[Turn] = []
    for spoken in turns:
        role = "assistant" if spoken.role == "assistant" else "user"
        if result and result[-1].role == role:
            spoken = Turn(role=role, path=spoken.path, blocks=[*result.pop().blocks, *spoken.blocks])
        result.append(Turn(role=role, path=spoken.path, blocks=spoken.blocks))
    return result


def _of_user(spoken: Turn, unanswered: dict[str, str]) -> list[dict]:
    results = spoken.of_type(RESULT)
    for block in results:
        if unanswered.pop(block.value["tool_call_id"], None) is None:
            path = f"{block.path}.tool_use_id"
            message = f"{path} must be the id of a tool_use block of the assistant's message before it"
            raise RequestError(message, field=path, code="invalid_value")
    _require_answered(unanswered)
    messages = [block.value for block in results]
    if spoken.of_type(TEXT) or not messages:
        messages.append({"role": "user", "content": join(spoken.blocks)})
    return messages


def _require_answered(unanswered: dict[str, str]) -> None:
    for call_id, path in unanswered.items():
        message = f"{path}: the tool_use block {call_id[:200]!r} needs a tool_result block in the message after it"
        raise RequestError(message, field=path, code="invalid_value")


def _of_assistant(spoken: Turn) -> dict:
    texts, calls = spoken.of_type(TEXT), [block.value for block in spoken.of_type(CALL)]
    content = "".join(block.value for block in texts)
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    if reasoning := spoken.of_type(REASONING):
        message["reasoning_content"] = "".join(block.value for block in reasoning)
    return message
