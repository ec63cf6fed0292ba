"""MLC LLM's conversation template (`conv_template` of mlc-chat-config.json) as a Jinja template, rendered as MLC does.

The prompt is the system text, then each message: role, `role_content_sep`, the content in the role's own template, a
separator; at the end the assistant's role and `role_empty_sep`. `seps` are one separator, or one behind users and one
behind the assistant.
"""

from typing import Any

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer

SYSTEM, FUNCTIONS = "{system_message}", "{function_string}"
ROLES = ("user", "assistant", "tool")
TEXTS = ("system_template", "system_message", "role_content_sep", "role_empty_sep")
BEGINNING = (
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% set functions = (tools | map(attribute='function') | list | tojson) if tools else '' %}"
    "{% set place = namespace(last=-1) %}"
    "{% for message in turns %}{% if message.role == 'user' %}{% set place.last = loop.index0 %}{% endif %}{% endfor %}"
)
EACH = (
    "{% for message in turns %}{% set content = message.content %}"
    "{% if message.tool_calls %}{{ raise_exception('conv_template has no place for tool_calls') }}{% endif %}"
)
THOUGHTS = (
    "{% if message.role == 'assistant' and loop.index0 < place.last and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
)
REFUSED = "{% else %}{{ raise_exception('conv_template has no role ' ~ message.role) }}{% endif %}{% endfor %}"


def conversation_template(found: dict[str, Any], tokenizer: Tokenizer) -> str:
    """The Jinja text; ModelError names a field that is missing or wrong."""
    texts = {name: _text(found, name, SYSTEM if name == "system_template" else "") for name in TEXTS}
    roles = _texts(found, "roles")
    templates = {role: f"{{{role}_message}}" for role in ROLES} | _texts(found, "role_templates", may_lack=True)
    separators = _list(found, "seps", str)
    if len(separators) not in (1, 2) or not {"user", "assistant"} <= roles.keys():
        raise ModelError("conv_template needs one or two seps, and the roles user and assistant")
    has_functions = any(FUNCTIONS in templates[role] for role in roles if role in templates)
    lead = _filled(texts["system_template"], SYSTEM, "system", "''" if has_functions else "functions")
    usual = _quoted(texts["system_message"])
    text = f"{{% set system = messages[0].content if messages[0].role == 'system' else {usual} %}}{BEGINNING}"
    text += f"{{% set lead = {lead} %}}{{{{ {_quoted(_prefix(found, tokenizer))} ~ lead }}}}{EACH}"
    text += THOUGHTS if found.get("strip_reasoning_in_history") is True else ""
    condition = "if"
    for role in (role for role in ROLES if role in roles):
        opening = _quoted(roles[role] + texts["role_content_sep"])
        if found.get("add_role_after_system_message") is False:
            opening = f"('' if lead and loop.first else {opening})"
        functions = "(functions if loop.index0 == place.last else '')" if role == "user" else "''"
        content = _filled(templates[role], f"{{{role}_message}}", "content", functions)
        closing = _quoted(separators[-1] if role == "assistant" else separators[0])
        text += f"{{% {condition} message.role == '{role}' %}}{{{{ {opening} ~ {content} ~ {closing} }}}}"
        condition = "elif"
    asking = _quoted(roles["assistant"] + texts["role_empty_sep"])
    return f"{text}{REFUSED}{{% if add_generation_prompt %}}{{{{ {asking} }}}}{{% endif %}}"


def _filled(template: str, place: str, value: str, functions: str) -> str:
    """A Jinja expression of a text with places for a value and for functions."""
    parts = [f" ~ {value} ~ ".join(_quoted(text) for text in part.split(place)) for part in template.split(FUNCTIONS)]
    return f"({f' ~ {functions} ~ '.join(parts)})"


def _prefix(found: dict[str, Any], tokenizer: Tokenizer) -> str:
    """The names of `system_prefix_token_ids`, which are marks in a template."""
    ids = found.get("system_prefix_token_ids")
    names = []
    for token_id in _list(found, "system_prefix_token_ids", int) if ids else []:
        if token_id not in tokenizer.control_names:
            raise ModelError(f"conv_template.system_prefix_token_ids: {token_id} is no control token of the vocabulary")
        names.append(tokenizer.control_names[token_id].decode())
    return "".join(names)


def _quoted(text: str) -> str:
    """A Jinja string of plain ASCII."""
    return ascii(text)


def _text(found: dict[str, Any], name: str, default: str) -> str:
    value = found.get(name, default)
    if not isinstance(value, str):
        raise ModelError(f"conv_template.{name} must be a text, not {str(value)[:100]!r}")
    return value


def _texts(found: dict[str, Any], name: str, *, may_lack: bool = False) -> dict[str, str]:
    value = found.get(name, {} if may_lack else None)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ModelError(f"conv_template.{name} must hold a text for each role, not {str(value)[:100]!r}")
    return value


def _list(found: dict[str, Any], name: str, element: type) -> list[Any]:
    value = found.get(name)
    if not isinstance(value, list) or not all(type(item) is element for item in value):
        wanted = "texts" if element is str else "whole numbers"
        raise ModelError(f"conv_template.{name} must be a list of {wanted}, not {str(value)[:100]!r}")
    return value
