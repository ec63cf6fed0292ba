"""The functions a model may call, and whether it may: `tools`, `tool_choice`, `parallel_tool_calls`.

The model decides (`auto`), must not (`none`), must (`required`), or must call one function or one of a few. A grammar
in the engine holds it to that, and the arguments of every call to the function's schema, strict or not.
"""

import re
from dataclasses import dataclass

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api.fields import Fields, of_type, type_error

MAX_TOOLS = 128
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
NOT_OFFERED = {  # of responses: what such a tool needs is not here, so the model is not told of it
    "apply_patch", "code_interpreter", "computer", "computer_use_preview", "custom", "file_search", "image_generation",
    "local_shell", "mcp", "namespace", "programmatic_tool_calling", "shell", "tool_search", "web_search",
    "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """`tools` as the chat template wants them, those of them that may be called, and how."""

    tools: tuple[dict, ...] = ()
    callable_tools: tuple[dict, ...] = ()
    is_forced: bool = False
    is_parallel: bool = True

    @property
    def names(self) -> frozenset[str]:
        """The functions that may be called."""
        return frozenset(tool["function"]["name"] for tool in self.callable_tools)


def take_tools(fields: Fields, *, is_flat: bool = False) -> ToolUse:
    """What a request says of tools; under tool_choice "none" the model does not even see them.

    In `is_flat` tools, those of responses, a function's name and settings stand beside its type. There a tool of
    another type is left out, as if the model never chose it; a `tool_choice` that asks for it is refused.
    """
    values = fields.array("tools", MAX_TOOLS)
    read = [_read_tool(value, f"tools[{index}]", is_flat) for index, value in enumerate(values)]
    _check_names(read, is_flat)
    tools = tuple(tool for tool in read if tool is not None)
    names, is_forced = _take_choice(fields, tools, is_flat)
    if not tools and not is_flat and fields.has("parallel_tool_calls"):
        raise RequestError("parallel_tool_calls is only allowed when tools are given", field="parallel_tool_calls")
    is_parallel = fields.typed("parallel_tool_calls", bool, True)
    chosen = tuple(tool for tool in tools if tool["function"]["name"] in names)
    return ToolUse(tools=tools if chosen else (), callable_tools=chosen, is_forced=is_forced, is_parallel=is_parallel)


def _read_tool(value, path: str, is_flat: bool) -> dict | None:
    fields = Fields(value, path)
    kind = of_type(f"{path}.type", fields.required("type"), str)
    if is_flat and kind in NOT_OFFERED:
        return None
    if kind == "custom":
        raise UnsupportedError(f"{path}.type: only functions are supported", field=f"{path}.type")
    if kind != "function":
        raise RequestError(f"{path}.type must be function", field=f"{path}.type", code="invalid_value")
    function = _read_function(fields if is_flat else Fields(fields.required("function"), f"{path}.function"))
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
    fields.typed("strict", bool, False)  # arguments always fit their schema
    fields.done()
    return {key: value for key, value in function.items() if value is not None}


def _check_names(tools: list[dict | None], is_flat: bool) -> None:
    names = set()
    for index, tool in enumerate(tools):
        if tool is None:
            continue
        name = tool["function"]["name"]
        if name in names:
            path = f"tools[{index}].name" if is_flat else f"tools[{index}].function.name"
            raise RequestError(f"{path}: there are two functions named {name}", field=path, code="invalid_value")
        names.add(name)


def _take_choice(fields: Fields, tools: tuple[dict, ...], is_flat: bool) -> tuple[set[str], bool]:
    """The names that may be called, and whether one of them must be."""
    choice = fields.take("tool_choice", "auto")
    names = {tool["function"]["name"] for tool in tools}
    if type(choice) is dict:
        return _read_choice(Fields(choice, "tool_choice"), names, is_flat)
    if type(choice) is not str:
        raise type_error("tool_choice", choice, "a string or an object")
    if choice == "required" and not tools:
        raise RequestError("tool_choice requires a call, but there are no functions", field="tool_choice")
    if choice not in ("none", "auto", "required"):
        message = 'tool_choice must be "none", "auto" or "required"'
        raise RequestError(message, field="tool_choice", code="invalid_value")
    return (set() if choice == "none" else names), choice == "required"


def _read_choice(choice: Fields, names: set[str], is_flat: bool) -> tuple[set[str], bool]:
    """One function by name, or a few of them with a mode of their own."""
    kind = choice.one_of("type", ("function", "custom", "allowed_tools")) or choice.required("type")
    if kind == "custom":
        raise UnsupportedError("tool_choice of type custom is not supported by this server", field="tool_choice")
    if kind == "function":
        allowed, is_forced = {_named(choice, is_flat)}, True
    else:
        few = choice if is_flat else Fields(choice.required("allowed_tools"), "tool_choice.allowed_tools")
        is_forced = (few.one_of("mode", ("auto", "required")) or few.required("mode")) == "required"
        allowed = {_named(Fields(item, few.where("tools")), is_flat) for item in few.array("tools", MAX_TOOLS)}
    if not allowed or not allowed <= names:
        raise RequestError("tool_choice names a function that is not among the tools", field="tool_choice")
    return allowed, is_forced


def _named(fields: Fields, is_flat: bool) -> str:
    fields = fields if is_flat else Fields(fields.required("function"), fields.where("function"))
    return of_type(fields.where("name"), fields.required("name"), str)
