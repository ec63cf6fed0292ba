"""The tools that a model may call, as Anthropic declares them, and whether it must.

Tools that run at Anthropic, or whose schema only Anthropic's models know (`web_search_20250305`, `bash_20250124`, ...),
are refused by name.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.anthropic.foreign_fields import TOOL as FOREIGN
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.tools import ToolUse, held_tools
from verbatim.server.api.value_types import BOOLEAN, OBJECT, STRING, ValueType, items_of, of_type, one_of, reference

NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,128}")
CUSTOM = "custom"
MAX_TOOLS = 1024


def _read_name(value: Any, path: str) -> str:
    if not NAME_PATTERN.fullmatch(of_type(path, value, str)):
        message = f"{path} must be 1 to 128 letters, digits, underscores or hyphens"
        raise RequestError(message, field=path, code="invalid_value")
    return value


def _read_schema(value: Any, path: str) -> dict:
    if of_type(path, value, dict).get("type", "object") != "object":
        raise RequestError(f"{path} must be a JSON schema of type object", field=path, code="invalid_value")
    return value


NAME = ValueType(_read_name, {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"})
INPUT = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = Object(
    Field("type", one_of(CUSTOM), "The type of the tool; only custom tools are supported.", default=CUSTOM),
    required("name", NAME, "What the model calls it.", example="get_time"),
    Field("description", STRING, "What it does, for the model.", example="The time in a city"),
    required("input_schema", ValueType(_read_schema, OBJECT.schema), "A JSON schema of its input.", example=INPUT),
    Field(
        "strict",
        BOOLEAN,
        "Whether all of the schema must hold; else as much of it as a grammar can hold.",
        default=False,
    ),
    foreign=FOREIGN,
)
CHOICE = Object(
    required("type", one_of("auto", "any", "tool", "none"), "Whether a tool must be called, and which."),
    Field("name", STRING, "The tool that must be called, with the type tool.", example="get_time"),
    Field("disable_parallel_tool_use", BOOLEAN, "Whether it may call one tool at most.", default=False),
)


class Tool(NamedTuple):
    """A tool as chat templates want it, the path of its schema, and whether all of that must hold."""

    path: str
    plain: dict
    is_strict: bool

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.plain["function"]["name"]


Tools = Sequence[Tool]


def _read_tool(value: Any, path: str) -> Tool:
    type_ = of_type(path, value, dict).get("type")
    if type_ is not None and of_type(f"{path}.type", type_, str) != CUSTOM:
        message = f"{path}.type: {type_[:100]} is a tool of Anthropic's; this server supports custom tools only"
        raise UnsupportedError(message, field=f"{path}.type")
    fields = TOOL.read(value, path)
    fields["type"]
    function = {"name": fields["name"], "description": fields["description"], "parameters": fields["input_schema"]}
    is_strict = fields["strict"]
    fields.done()
    function = {name: item for name, item in function.items() if item is not None}
    return Tool(f"{path}.input_schema", {"type": "function", "function": function}, is_strict)


def _read_tools(value: Any, path: str) -> list[Tool]:
    tools = [_read_tool(item, f"{path}[{index}]") for index, item in enumerate(items_of(path, value, MAX_TOOLS))]
    names: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"{path}[{index}].name"
        if tool.name in names:
            raise RequestError(f"{where}: there are two tools named {tool.name}", field=where, code="invalid_value")
        names.add(tool.name)
    return tools


TOOLS = Field(
    "tools",
    ValueType(_read_tools, {"type": "array", "items": reference("ClientTool")}),
    "The tools that the model may call.",
    default=(),
)
TOOL_CHOICE = Field("tool_choice", CHOICE, "Whether it must call one, and which.", example={"type": "auto"})


def take_tools(fields: Fields) -> ToolUse:
    """The tools of a request. With the choice `none` the model does not see them; with `tool` it calls one once."""
    tools: Tools = fields["tools"]
    choice = fields["tool_choice"]
    if choice is None:
        return _use(tools, tools)
    type_, name, is_single = choice["type"], choice["name"], choice["disable_parallel_tool_use"]
    choice.done()
    if type_ == "none":
        return ToolUse()
    if type_ == "any" and not tools:
        raise RequestError("tool_choice requires a call, but there are no tools", field="tool_choice")
    chosen = [tool for tool in tools if type_ != "tool" or tool.name == name]
    if type_ == "tool" and not chosen:
        raise RequestError("tool_choice.name must be the name of one of the tools", field="tool_choice.name")
    return _use(tools, chosen, is_forced=type_ in ("any", "tool"), is_parallel=not is_single and type_ != "tool")


def _use(
    tools: Sequence[Tool], chosen: Sequence[Tool], *, is_forced: bool = False, is_parallel: bool = True
) -> ToolUse:
    """All tools for the template; of those that may be called, what a grammar can hold of their schemas."""
    held = held_tools({tool.path: (tool.plain, is_forced or tool.is_strict) for tool in chosen})
    plain = tuple(tool.plain for tool in tools)
    return ToolUse(tools=plain, callable_tools=held, is_forced=is_forced, is_parallel=is_parallel)
