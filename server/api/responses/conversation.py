"""The plain messages that a chat template expects, made of items.

Consecutive calls, or an assistant's text and its calls, belong to the same message. Outputs stand behind the message
with their call, also where items stand between the two.
"""

from verbatim.reference.records.errors import RequestError
from verbatim.server.api import policy
from verbatim.server.api.messages import check_tool_turns, parse_arguments
from verbatim.server.api.responses.content import text_of
from verbatim.server.api.responses.other_items import CALLS, OUTPUTS, function_of, text_of_output, text_of_result


def to_messages(instructions: str | None, items: list[dict]) -> list[dict]:
    """The conversation that the items are; the instructions come first. An output without `call_id` gets one."""
    conversation = Conversation(instructions)
    for item in items:
        conversation.add(item)
    messages = conversation.messages()
    if not messages:
        raise RequestError("input must have at least one item", field="input", code="empty_array")
    check_tool_turns(messages, "input")
    return messages


class Conversation:
    """Groups of messages: one message each, with the outputs of its calls."""

    def __init__(self, instructions: str | None):
        self._groups: list[list[dict]] = []
        self._group_of: dict[str, list[dict]] = {}  # by the id of a call
        self._unanswered: dict[str, None] = {}
        self._reasoning = ""  # of the assistant's next message
        if instructions is not None:
            self._groups.append([{"role": "system", "content": instructions}])

    def messages(self) -> list[dict]:
        """All messages in order."""
        return [message for group in self._groups for message in group]

    def add(self, item: dict) -> None:
        """Take the next item."""
        match item["type"]:
            case "message":
                self._add_message(item)
            case "reasoning":
                self._reasoning += "".join(part["text"] for part in item["content"])
            case "function_call":
                self._add_call(item, {"name": item["name"], "arguments": parse_arguments(item["arguments"])})
            case "function_call_output":
                self._add_output(item, item["output"])
            case type_ if type_ in CALLS:
                self._add_call(item, function_of(item))
                if type_ == "mcp_call":
                    self._add_output(item, text_of_result(item))
            case type_ if type_ in OUTPUTS:
                self._add_output(item, text_of_output(item))

    def _add_message(self, item: dict) -> None:
        role = "system" if item["role"] == "developer" else item["role"]
        message = {"role": role, "content": text_of(item["content"])}
        self._groups.append([message])
        if role == "assistant":
            self._add_reasoning(message)
        self._reasoning = ""

    def _add_call(self, item: dict, function: dict) -> None:
        if not self._groups or self._groups[-1][-1]["role"] != "assistant":
            self._groups.append([{"role": "assistant", "content": None}])
        group, call_id = self._groups[-1], item["call_id"]
        self._add_reasoning(group[-1])
        group[-1].setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
        self._group_of[call_id] = group
        self._unanswered[call_id] = None

    def _add_output(self, item: dict, text: str) -> None:
        """A second output of a call belongs to the first."""
        if item["call_id"] is None:
            item["call_id"] = self._next_unanswered()
        call_id = item["call_id"]
        group = self._group_of.get(call_id)
        if group is None:
            self._groups.append(group := [])
        elif call_id not in self._unanswered and not policy.is_strict():
            answered = next(message for message in group if message.get("tool_call_id") == call_id)
            answered["content"] += f"\n{text}"
            return
        group.append({"role": "tool", "content": text, "tool_call_id": call_id})
        self._unanswered.pop(call_id, None)

    def _next_unanswered(self) -> str:
        if not self._unanswered:
            message = "An output without call_id needs a call before it that has no output yet"
            raise RequestError(message, field="input", code="missing_required_parameter")
        return next(iter(self._unanswered))

    def _add_reasoning(self, message: dict) -> None:
        if self._reasoning:
            message["reasoning_content"] = message.get("reasoning_content", "") + self._reasoning
        self._reasoning = ""
