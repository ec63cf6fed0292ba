"""The functions a model may call, and whether it may: `tools`, `tool_choice`, `parallel_tool_calls`.

The model decides (`auto`) or must not (`none`). Forcing a call, or holding its arguments to a schema, needs a
grammar inside the engine: until there is one, `required`, a named function and `strict` are refused by name.
"""

import re

from reference.errors import RequestError, UnsupportedError
from server.protocol.fields import Fields, of_type, type_error

MAX_TOOLS = 128
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def take_tools(fields: Fields) -> list[dict]:
    """The tools that this request may call, as the chat template wants them; none under tool_choice "none"."""
    values = fields.array("tools", MAX_TOOLS)
    tools = [_read_tool(value, f"tools[{index}]") for index, value in enumerate(values)]
    _check_names(tools)
    choice = _take_choice(fields, tools)
    if not tools and fields.has("parallel_tool_calls"):
        raise RequestError("parallel_tool_calls is only allowed when tools are given", field="parallel_tool_calls")
    fields.refuse("parallel_tool_calls", True)
    return tools if choice == "auto" else []


def _read_tool(value, path: str) -> dict:
    fields = Fields(value, path)
    kind = of_type(f"{path}.type", fields.required("type"), str)
    if kind == "custom":
        raise UnsupportedError(f"{path}.type: only functions are supported", field=f"{path}.type")
    if kind != "function":
        raise RequestError(f"{path}.type must be function", field=f"{path}.type", code="invalid_value")
    function = _read_function(Fields(fields.required("function"), f"{path}.function"))
    fields.done()
    return {"type": "function", "function": function}


def _read_function(fields: Fields) -> dict:
    path = fields.where("name")
    name = of_type(path, fields.required("name"), str)
    if not NAME_PATTERN.fullmatch(name):
        message = f"{path} must be 1 to 64 letters, digits, underscores or hyphens"
        raise RequestError(message, field=path, code="invalid_value")
    function = {"name": name, "description": fields.string("description")}
    function["parameters"] = fields.typed("parameters", dict)
    if (function["parameters"] or {}).get("type", "object") != "object":
        path = fields.where("parameters")
        raise RequestError(f"{path} must be a JSON schema of type object", field=path, code="invalid_value")
    fields.refuse("strict", False)
    fields.done()
    return {key: value for key, value in function.items() if value is not None}


def _check_names(tools: list[dict]) -> None:
    names = set()
    for index, tool in enumerate(tools):
        name = tool["function"]["name"]
        if name in names:
            path = f"tools[{index}].function.name"
            raise RequestError(f"{path}: there are two functions named {name}", field=path, code="invalid_value")
        names.add(name)


def _take_choice(fields: Fields, tools: list[dict]) -> str:
    choice = fields.take("tool_choice", "auto")
    if choice in ("none", "auto"):
        return choice
    if choice == "required" and tools:
        raise UnsupportedError('tool_choice "required" is not supported by this server', field="tool_choice")
    if choice == "required":
        raise RequestError("tool_choice requires a call, but there are no tools", field="tool_choice")
    if type(choice) is dict:
        _refuse_named(Fields(choice, "tool_choice"), {tool["function"]["name"] for tool in tools})
    if type(choice) is not str:
        raise type_error("tool_choice", choice, "a string or an object")
    raise RequestError('tool_choice must be "none" or "auto"', field="tool_choice", code="invalid_value")


def _refuse_named(choice: Fields, names: set[str]) -> None:
    kind = choice.one_of("type", ("function", "custom", "allowed_tools")) or choice.required("type")
    if kind == "function":
        name = Fields(choice.required("function"), "tool_choice.function").required("name")
        if name not in names:
            raise RequestError("tool_choice names a function that is not among the tools", field="tool_choice")
    raise UnsupportedError(f"tool_choice of type {kind} is not supported by this server", field="tool_choice")
