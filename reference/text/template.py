"""Chat messages to a prompt: the model's own Jinja template, rendered in a sandbox.

The result is pieces: text as strings, control tokens as ids. A control token counts only where the template itself
wrote it. The same characters in a message or a tool stay text, so that no user can forge a turn of the conversation. So
do added tokens that are visible text elsewhere, such as `<think>`, if the template has them.

A final message that is to be continued is marked at its end, and the rendered text is cut at the mark, as transformers
does it (`continue_final_message` of `apply_chat_template`).
"""

import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import jinja2
from jinja2.meta import find_undeclared_variables

from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.text.sandbox import Sandbox
from verbatim.reference.text.template_values import (
    PROBE,
    PROBE_TOOL,
    PROBED,
    PROBED_AS_PYTHON,
    with_description,
    with_text_arguments,
    work_for,
)
from verbatim.reference.text.tokenizer import Tokenizer, read_settings, token_content

GUARD = "\ufdd0"  # a noncharacter, never in sensible text: it breaks up control tokens that a message spells out
ESCAPED = "\\ufdd0"  # the same where a template prints a dictionary or plain ASCII

OPEN_END = "\ufdd1 "  # marks the end of a message to be continued; a template that trims messages drops the space
RESERVED = frozenset(  # names that are no variables of a conversation
    ("self", "messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
)
BLANKS = " \t\r\n▁"
MAX_MESSAGE = 500  # characters of an error, which a template may write itself


class ChatTemplate:
    """A model's compiled template, or several by name: `default`, and `tool_use` for a conversation with tools.

    `source` is their text, `sources` each by its name, `variables` the names that it reads and does not set itself.
    `tokens` are the special tokens that it may name, such as `bos_token`. `control_ids` are its marks; those that are
    `visible` are text elsewhere.
    """

    def __init__(
        self, source: str | dict[str, str], control_ids: dict[str, int], *, visible: frozenset[str] = frozenset(),
        **tokens: str,
    ):  # fmt: skip
        sources = {"default": source} if isinstance(source, str) else source
        self.sources, self.source = sources, "\n".join(sources.values())
        try:
            self._codes = {name: Sandbox().compile(text) for name, text in sources.items()}
            read = (find_undeclared_variables(Sandbox().parse(text)) for text in sources.values())
            self.variables = frozenset().union(*read)
        except (jinja2.TemplateError, ValueError, RecursionError, MemoryError) as error:
            raise ModelError(f"the chat template does not compile: {error}") from None
        self._control_ids, self._visible = control_ids, visible
        marks = sorted(filter(None, control_ids), key=len, reverse=True)
        self._marks = re.compile("(" + "|".join(map(re.escape, marks)) + ")") if marks else None
        turns = [mark for mark in marks if not (mark in visible and _is_tag(mark, visible))]
        self._turns = re.compile("(" + "|".join(map(re.escape, turns)) + ")") if turns else None
        self._escaped = re.compile("|".join(re.escape(mark[:1] + ESCAPED + mark[1:]) for mark in marks))
        self._tokens = tokens
        self.defaults: dict = {}  # of its variables, where a rendering does not set them
        self.context_size = 0  # in tokens, of the model; a large one allows more work for many messages

    def render(
        self,
        messages: list[dict],
        tools: list[dict] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables,
    ) -> list[str | int]:
        """The prompt that asks for the assistant's next message, in pieces; RequestError if the template refuses.

        What is None in a message is left out of it: a template shall not print "None". Where a template fails for want
        of it, as well as of a function's description or parameters, it gets them empty. Arguments of calls come as the
        template prints them: as objects, or as their JSON text. `variables` are what a template knows besides:
        `documents`, `enable_thinking`, `date_string`, ... With `continue_final_message` (then without
        `add_generation_prompt`) the prompt ends within the last message, after its content, which the model continues.
        """
        name = "tool_use" if tools and "tool_use" in self._codes else "default"
        if not messages:
            raise RequestError("messages do not fit the model's chat template: there are none", field="messages")
        messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
        if continue_final_message:
            messages[-1] = _opened(messages[-1])
        if any(message.get("tool_calls") for message in messages) and self._prints_arguments_as_python:
            messages = [with_text_arguments(message) for message in messages]
        known = {"messages": messages, "tools": tools or None, "documents": None, **self.defaults, **variables}
        text = self._filled(name, known, add_generation_prompt=add_generation_prompt)
        return self._split(_cut(text) if continue_final_message else text)

    @cached_property
    def _prints_arguments_as_python(self) -> bool:
        """Whether the template prints a call's arguments as they are, so that they have to be JSON text already."""
        for messages in (PROBE, PROBE[:-1]):
            text = self._probed(messages)
            if PROBED_AS_PYTHON in text and PROBED in self._probed(list(map(with_text_arguments, messages))):
                return True
        return False

    def _probed(self, messages: list[dict]) -> str:
        try:
            return self._filled("default", {"messages": messages, "tools": [PROBE_TOOL]}, add_generation_prompt=False)
        except RequestError:
            return ""

    def _filled(self, name: str, known: dict, **settings: bool) -> str:
        """The rendered text, with what is absent and cannot be, filled in with nothing. The first error counts."""
        try:
            return self._text(name, known, **settings)
        except RequestError:
            contents = known | {"messages": [{"content": ""} | message for message in known["messages"]]}
            tools = {"tools": known["tools"] and list(map(with_description, known["tools"]))}
            for filled in (contents, known | tools, contents | tools):
                if filled != known:
                    with suppress(RequestError):
                        return self._text(name, filled, **settings)
            raise

    def _text(self, name: str, known: dict, **settings: bool) -> str:
        """The rendered text; `known` are values from outside, in which no control token counts."""
        try:
            values = self._tokens | self._guard(known) | settings
            sandbox = Sandbox(work_for(known["messages"], self.context_size))
            template = jinja2.Template.from_code(sandbox, self._codes[name], sandbox.globals)
            return template.render(values)
        except RecursionError:
            raise RequestError("the model's chat template calls itself too deeply", field="messages") from None
        except (
            jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError,
        ) as error:  # fmt: skip
            message = f"messages do not fit the model's chat template: {error}"
            raise RequestError(message[:MAX_MESSAGE], field="messages") from None

    def _guard(self, known: dict) -> dict:
        """The same values with every mark in their strings broken up.

        An assistant's message keeps the visible tags that open and close (`<think>`): the model has written them, and
        templates find thoughts by them.
        """
        values = {name: _broken(value, self._marks) for name, value in known.items() if name != "messages"}
        messages = [
            _broken(message, self._turns if message.get("role") == "assistant" else self._marks)
            for message in known["messages"]
        ]
        return values | {"messages": messages}

    def _split(self, text: str) -> list[str | int]:
        parts = self._marks.split(text) if self._marks else [text]
        found: list[str | int] = []
        for part in parts:
            found += [self._control_ids[part]] if part in self._control_ids else self._apart(self._mended(part))
        return found

    def _apart(self, text: str) -> list[str | int]:
        """The text, cut behind the first character of each visible mark in it, which nobody else would see as text."""
        cuts = (
            [0, *(at.start() + 1 for at in self._marks.finditer(text) if at[0] in self._visible)]
            if self._marks
            else [0]
        )
        return [piece for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True) if (piece := text[a:b])]

    def _mended(self, text: str) -> str:
        """Text with its control tokens put together again."""
        text = text.replace(GUARD, "")
        return self._escaped.sub(lambda mark: mark[0].replace(ESCAPED, ""), text) if ESCAPED in text else text


def _is_tag(mark: str, marks: frozenset[str]) -> bool:
    """Whether a mark opens or closes something, as `<think>` and `</think>`, and its counterpart is a mark, too."""
    other = mark[:1] + mark[2:] if mark[1:2] == "/" else mark[:1] + "/" + mark[1:]
    return other in marks


def _broken(value, marks: re.Pattern | None):
    """The same value with each of these marks in its strings broken up."""
    if isinstance(value, str):
        return marks.sub(lambda mark: mark[0][:1] + GUARD + mark[0][1:], value) if marks else value
    if isinstance(value, dict):
        return {_broken(key, marks): _broken(item, marks) for key, item in value.items()}
    return [_broken(item, marks) for item in value] if isinstance(value, list) else value


def _opened(message: dict) -> dict:
    """A final message with a mark where it is to be continued."""
    if not isinstance(message.get("content"), str) or message.get("tool_calls"):
        error = "continue_final_message needs a last message of text, without tool calls"
        raise RequestError(error, field="messages")
    return message | {"content": message["content"] + OPEN_END}


def _cut(text: str) -> str:
    """What was rendered before the mark, without the spaces before it where the template trims messages."""
    before, mark, after = text.rpartition(OPEN_END.strip())
    if not mark:
        error = "continue_final_message: the model's chat template does not show the last message"
        raise RequestError(error, field="messages")
    return before if after.startswith(" ") else before.rstrip()


def load_template(directory: str | Path, tokenizer: Tokenizer, file: Path | None = None) -> ChatTemplate | None:
    """The template of a model directory, `file` instead of it if the user has one of their own; None without."""
    directory = Path(directory)
    settings = read_settings(directory)
    if file:
        return make_template({"default": read_template_file(file)}, settings, tokenizer)
    try:
        sources = _sources(directory, settings)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the chat template of {directory} cannot be read: {error}") from None
    return make_template(sources, settings, tokenizer)


def read_template_file(file: Path) -> str:
    """The text of a template's file; ModelError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the chat template of {file} cannot be read: {error}") from None


def make_template(sources: dict[str, str], settings: dict, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The template of these texts by name, None without a default; `settings` name special tokens."""
    if not sources.get("default"):
        return None
    contents = {name: token_content(value) for name, value in settings.items() if name.endswith("_token")}
    tokens = {name: content for name, content in contents.items() if isinstance(content, str)}
    text = "\n".join(sources.values())
    written = {name: i for name, i in tokenizer.added_ids.items() if name.strip(BLANKS) and name in text}
    return ChatTemplate(sources, tokenizer.control_ids | written, visible=frozenset(written), **tokens)


def _sources(directory: Path, settings: dict) -> dict[str, str]:
    """`chat_template.jinja` and what lies in `additional_chat_templates`, or the entry in tokenizer_config.json."""
    path = directory / "chat_template.jinja"
    if path.exists():
        others = sorted((directory / "additional_chat_templates").glob("*.jinja"))
        return {file.stem: file.read_text(encoding="utf-8") for file in others} | {"default": path.read_text("utf-8")}
    entry = settings.get("chat_template") or {}
    if isinstance(entry, list):
        return {template["name"]: template["template"] for template in entry}
    return {"default": entry} if isinstance(entry, str) else entry
