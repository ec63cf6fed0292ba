"""How a chat template is applied: the fields of chats and of /tokenize, in the names of vLLM and transformers.

`continue_final_message` ends the prompt after the content of the last message, which the model then continues;
`add_generation_prompt` false ends it without the opening of an answer. Both true is an error. A last message of the
assistant with `prefix` (Mistral, DeepSeek) or `partial` (Qwen, Moonshot) true is continued, too. Without any of these
it is closed and an answer begins, as with OpenAI, vLLM and SGLang.
"""

from dataclasses import dataclass, field
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.text.template import RESERVED, ChatTemplate
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields
from verbatim.server.api.value_types import BOOLEAN, OBJECT, ValueType, array, of_type

VARIABLES = "chat_template_kwargs"
OPENED = ("prefix", "partial")  # of a last message


def _read_variables(value: Any, path: str) -> dict:
    if reserved := sorted(RESERVED & of_type(path, value, dict).keys()):
        where = f"{path}.{reserved[0]}"
        raise RequestError(f"{where} is not a variable of chat templates", field=where, code="invalid_value")
    return value


VARIABLE_FIELDS = (
    Field(
        VARIABLES,
        ValueType(_read_variables, {"type": "object", "propertyNames": {"not": {"enum": sorted(RESERVED)}}}),
        "Variables of the model's chat template.",
        example={"enable_thinking": False},
    ),
    Field(
        "documents", array(OBJECT), "Documents, for templates that show them.", (), example=[{"text": "Tea is hot."}]
    ),
)
FIELDS = (
    Field(
        "add_generation_prompt",
        BOOLEAN,
        "Open the assistant's answer; false with continue_final_message.",
        example=True,
    ),
    Field("continue_final_message", BOOLEAN, "Continue the last message instead of answering it.", default=False),
    *VARIABLE_FIELDS,
)


@dataclass(frozen=True, slots=True)
class Templating:
    """Settings of one rendering. A prompt is never both continued and opened."""

    is_opened: bool = True
    is_continued: bool = False
    variables: dict[str, Any] = field(default_factory=dict)

    def render(self, template: ChatTemplate, messages: list[dict], tools: list[dict] | None) -> list[str | int]:
        """The prompt in pieces. RequestError if the template refuses it."""
        return template.render(
            messages, tools, add_generation_prompt=self.is_opened, continue_final_message=self.is_continued,
            **self.variables,
        )  # fmt: skip


def take_templating(fields: Fields, messages: list[dict], template: ChatTemplate | None) -> Templating:
    """The settings in a body; takes the sign that a last message is to be continued out of it."""
    is_opened, is_continued = fields["add_generation_prompt"], fields["continue_final_message"]
    is_continued |= _take_sign(messages)
    if is_opened and is_continued:
        message = "add_generation_prompt and continue_final_message cannot both be true"
        raise RequestError(message, field="add_generation_prompt", code="invalid_parameter_combination")
    is_opened = not is_continued if is_opened is None else is_opened
    return Templating(is_opened, is_continued, take_variables(fields, template))


def take_variables(fields: Fields, template: ChatTemplate | None) -> dict[str, Any]:
    """The variables of the template in a body, its documents among them."""
    known = template.variables if template else frozenset()
    variables = fields[VARIABLES] or {}
    for name in variables:
        if name not in known:
            policy.note_without_effect(f"{VARIABLES}.{name}")
    if documents := list(fields["documents"]):
        if "documents" not in known:
            raise policy.unsupported("documents")
        variables = variables | {"documents": documents}
    return variables


def _take_sign(messages: list[dict]) -> bool:
    """Whether the last message says that it is to be continued. RequestError if another one does."""
    found = []
    for index, message in enumerate(messages):
        if {name for name in OPENED if message.pop(name, False)}:
            found.append(index)
    if any(index < len(messages) - 1 for index in found):
        path = f"messages[{found[0]}]"
        raise RequestError(f"{path}: only the last message can be continued", field=path, code="invalid_value")
    return bool(found)
