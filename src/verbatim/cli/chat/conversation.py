"""A conversation: messages, settings, tools and model; what of it goes into a request, and onto disk."""

import json
from pathlib import Path
from typing import Any

from verbatim.cli.chat.settings import SETTINGS, check_setting
from verbatim.reference.records.errors import RequestError


class Conversation:
    """Messages in the form of the API, a system message first if there is one."""

    def __init__(self, model: str):
        self.model = model
        self.messages: list[dict] = []
        self.settings: dict[str, Any] = {}
        self.tools: list[dict] = []

    def body(self, messages: list[dict] | None = None) -> dict:
        """The body of a request that asks for the answer to these messages (default: all)."""
        body = {"model": self.model, "messages": self.messages if messages is None else messages} | self.settings
        if self.tools:
            return body | {"tools": self.tools}
        return {name: value for name, value in body.items() if name not in ("tool_choice", "parallel_tool_calls")}

    @property
    def system(self) -> str | None:
        """The text of the system message."""
        first = self.messages[0] if self.messages else {}
        return first.get("content") if first.get("role") == "system" else None

    def set_system(self, text: str) -> None:
        """Begin with this system message, or with none for an empty text."""
        rest = self.messages[self.system is not None :]
        self.messages = [{"role": "system", "content": text}, *rest] if text else rest

    def clear(self) -> None:
        """Remove all messages but the system message."""
        self.messages = self.messages[: self.system is not None]

    def undo(self) -> dict:
        """Remove the last user message and all after it; returns it. RequestError if there is none."""
        for index in reversed(range(len(self.messages))):
            if self.messages[index]["role"] == "user":
                message = self.messages[index]
                self.messages = self.messages[:index]
                return message
        raise RequestError("there is no turn yet")

    def save(self, path: Path) -> None:
        """Write a body of `POST /v1/chat/completions` that continues the conversation."""
        text = json.dumps(self.body(), indent=2, ensure_ascii=False)
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise RequestError(f"{path} cannot be written: {error.strerror}") from None

    def load(self, path: Path) -> None:
        """Take messages, settings and tools of such a body, or a bare list of messages; the model stays.

        RequestError names what is wrong with the file; then nothing has changed.
        """
        body = read_json_file(path)
        body = {"messages": body} if isinstance(body, list) else body
        if not isinstance(body, dict):
            raise RequestError(f"{path} must hold a JSON object with messages, or a list of messages")
        messages = check_messages(body.get("messages"), path)
        settings = {name: check_setting(name, body[name]) for name in SETTINGS if body.get(name) is not None}
        tools = check_tools(body["tools"], path) if body.get("tools") else []
        self.messages, self.settings, self.tools = messages, settings, tools


def check_messages(messages: Any, path: Path) -> list[dict]:
    """The messages, if they are a list of objects with roles."""
    if not isinstance(messages, list):
        raise RequestError(f"{path}: messages must be a list")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError(f"{path}: messages[{index}] must be an object with a role")
    return messages


def load_tools(path: Path) -> list[dict]:
    """The tools of a JSON file: OpenAI's list, an object with `tools`, or functions without the envelope."""
    content = read_json_file(path)
    if isinstance(content, dict):
        content = content.get("tools", [content])
    return check_tools(content, path)


def check_tools(tools: Any, path: Path) -> list[dict]:
    """The tools in OpenAI's form; RequestError names the first that is none."""
    if not isinstance(tools, list) or not tools:
        raise RequestError(f"{path} must hold tools: a list of objects with a function, as the API takes them")
    found = []
    for index, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestError(f"{path}: tools[{index}] must have a function with a name")
        found.append(tool if "function" in tool else {"type": "function", "function": tool})
    return found


def read_json_file(path: Path) -> Any:
    """The value in a JSON file; RequestError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {error}") from None
