"""Chat messages to a prompt: the model's own Jinja template, rendered in a sandbox.

The result is pieces: text as strings, control tokens as ids. A control token counts only where the template itself
wrote it. The same characters in a message or a tool stay text, so that no user can forge a turn of the conversation.
"""

import json
import re
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reference.errors import ModelError, RequestError
from reference.tokenizer import Tokenizer, read_settings, token_content

GUARD = "\ufdd0"  # a noncharacter, never in sensible text: it breaks up control tokens that a message spells out


class ChatTemplate:
    """One compiled template; `source` is its text. `bos_token` and `eos_token` are what it may ask for by name."""

    def __init__(self, source: str, control_ids: dict[str, int], *, bos_token: str = "", eos_token: str = ""):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
        self.source = source
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template does not compile: {error}") from None
        self._control_ids = control_ids
        marks = sorted(filter(None, control_ids), key=len, reverse=True)
        self._marks = re.compile("(" + "|".join(map(re.escape, marks)) + ")") if marks else None
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(self, messages: list[dict], tools: list[dict] | None = None) -> list[str | int]:
        """The prompt that asks for the assistant's next message, in pieces; RequestError if the template refuses."""
        try:
            text = self._template.render(
                messages=self._guard(messages),
                tools=self._guard(tools) or None,
                add_generation_prompt=True,
                **self._tokens,
            )
        except (jinja2.TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise RequestError(f"messages do not fit the model's chat template: {error}", field="messages") from None
        return self._split(text)

    def _guard(self, value):
        """The same value with every control token in its strings broken up."""
        if isinstance(value, str):
            return self._marks.sub(lambda mark: mark[0][:1] + GUARD + mark[0][1:], value) if self._marks else value
        if isinstance(value, dict):
            return {self._guard(key): self._guard(item) for key, item in value.items()}
        return [self._guard(item) for item in value] if isinstance(value, list) else value

    def _split(self, text: str) -> list[str | int]:
        parts = self._marks.split(text) if self._marks else [text]
        marked = [self._control_ids.get(part, part.replace(GUARD, "")) for part in parts]
        return [part for part in marked if part != ""]


def load_template(directory: str | Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The template of a model directory: `chat_template.jinja`, or the entry in tokenizer_config.json; None without."""
    directory = Path(directory)
    settings = read_settings(directory)
    path = directory / "chat_template.jinja"
    source = path.read_text(encoding="utf-8") if path.exists() else settings.get("chat_template")
    if isinstance(source, list):  # several named templates: the one called "default"
        source = {entry["name"]: entry["template"] for entry in source}.get("default")
    if not source:
        return None
    names = {name: token_content(settings.get(name)) or "" for name in ("bos_token", "eos_token")}
    return ChatTemplate(source, tokenizer.control_ids, **names)


def _to_json(value, indent: int | None = None, **options) -> str:
    """As transformers does it: plain JSON, no HTML escapes."""
    return json.dumps(value, ensure_ascii=options.get("ensure_ascii", False), indent=indent)


def _refuse(message: str):
    raise jinja2.TemplateError(message)
