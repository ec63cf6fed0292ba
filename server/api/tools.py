"""The functions a model may call, and whether it may: `tools`, `tool_choice`, `parallel_tool_calls`.

The model decides (`auto`), must not (`none`), must (`required`), or must call a function or any of a few. A grammar
in the engine holds it to that, and the arguments of every call to the function's schema: to all of it where the tool is
`strict` or must be called, else to as much of it as can be held (schemas.py).
"""

from dataclasses import dataclass
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.api import policy
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import TOOL as TOOL_FIELDS
from verbatim.server.api.schemas import fitted, held_schema, read_schema
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NAME,
    OBJECT,
    STRING,
    ValueType,
    array,
    of_type,
    one_of,
    type_error,
)

MAX_TOOLS = 128
NOT_OFFERED = {  # of responses: what such a tool needs is not here, so the model does not see it
    "apply_patch", "code_interpreter", "computer", "computer_use_preview", "custom", "file_search", "image_generation",
    "local_shell", "mcp", "namespace", "programmatic_tool_calling", "shell", "tool_search", "web_search",
    "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11",
}  # fmt: skip


def _read_parameters(value: Any, path: str) -> dict:
    if of_type(path, value, dict).get("type") not in (None, "object"):
        raise RequestError(f"{path} must be a JSON schema of type object", field=path, code="invalid_value")
    read_schema(value, path)
    return value  # as it came: the template shows it to the model


EXAMPLE: dict[str, Any] = {
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TYPE = required("type", one_of("function"), "The type of the tool; only functions are supported.")
FUNCTION = (
    required("name", NAME, "What the model calls it.", example="get_time"),
    Field("description", STRING, "What it does, for the model.", example="The time in a city"),
    Field(
        "parameters",
        ValueType(_read_parameters, OBJECT.schema),
        "A JSON schema of its arguments.",
        example=EXAMPLE["parameters"],
    ),
    Field(
        "strict",
        BOOLEAN,
        "Whether all of the schema must hold; else as much of it as a grammar can hold.",
        example=True,
    ),
)
OF_TOOL = Object(*FUNCTION, foreign=TOOL_FIELDS)
TOOL = Object(TYPE, required("function", OF_TOOL, "The function.", example=EXAMPLE), foreign=TOOL_FIELDS)
FLAT_TOOL = Object(TYPE, *FUNCTION, foreign=TOOL_FIELDS)
NAMED = Object(required("name", STRING, "The function's name."))
OF_FUNCTION = required("function", NAMED, "The function.")
NAMED_TOOL = Object(OF_FUNCTION)
FEW = (
    required("mode", one_of("auto", "required"), "Whether one of them must be called."),
    Field("tools", array(ANYTHING, MAX_TOOLS), "Those that may be called.", default=()),
)
CHOICE_TYPE = required("type", one_of("function", "custom", "allowed_tools"), "One function, or a few.")
CHOICE = Object(
    CHOICE_TYPE,
    OF_FUNCTION,
    required("allowed_tools", Object(*FEW), "Those that may be called."),
)
FLAT_CHOICE = Object(CHOICE_TYPE, *NAMED.fields.values(), *FEW)


def _read_choice_value(value: Any, path: str) -> Any:
    if type(value) not in (str, dict):
        raise type_error(path, value, "a string or an object")
    return value


def tool_fields(tool: Object) -> tuple[Field, ...]:
    """The three fields, with tools of that shape."""
    modes = {"anyOf": [one_of("auto", "none", "required").schema, OBJECT.schema]}
    tools = ValueType(array(ANYTHING, MAX_TOOLS).read, array(tool, MAX_TOOLS).schema)
    return (
        Field("tools", tools, "The functions that the model may call.", default=(),
              example=[{"type": "function", **(EXAMPLE if tool is FLAT_TOOL else {"function": EXAMPLE})}]),
        Field("tool_choice", ValueType(_read_choice_value, modes), "Whether it must call one, and which.", "auto"),
        Field("parallel_tool_calls", BOOLEAN, "Whether it may call several at once.", default=True),
    )  # fmt: skip


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
    """The tools of a request; under tool_choice "none" the model does not even see them.

    In `is_flat` tools, those of responses, a function's name and settings stand beside its type. There a tool of
    another type is left out, as if the model never chose it; a `tool_choice` that asks for it is refused.
    """
    read = [_read_tool(value, f"tools[{index}]", is_flat) for index, value in enumerate(fields["tools"])]
    _check_names(read, is_flat)
    strict = [tool is not None and tool["function"].pop("strict", False) for tool in read]
    tools = tuple(tool for tool in read if tool is not None)
    names, is_forced, is_single = _take_choice(fields, tools, is_flat)
    if not tools and not is_flat and fields.has("parallel_tool_calls") and policy.is_strict():
        raise RequestError("parallel_tool_calls is only allowed when tools are given", field="parallel_tool_calls")
    is_parallel = fields["parallel_tool_calls"] and not is_single
    place = "parameters" if is_flat else "function.parameters"
    chosen = {
        f"tools[{index}].{place}": (tool, is_forced or strict[index])
        for index, tool in enumerate(read)
        if tool is not None and tool["function"]["name"] in names
    }
    return ToolUse(
        tools=tools if chosen else (), callable_tools=held_tools(chosen), is_forced=is_forced, is_parallel=is_parallel
    )


def held_tools(chosen: dict[str, tuple[dict, bool]]) -> tuple[dict, ...]:
    """Tools by the paths of their parameters, with whether these must hold: as the grammar gets them."""
    schemas = {}
    for path, (tool, must_hold) in chosen.items():
        function = tool["function"]
        if "parameters" in function:
            owner = function["name"]
            schemas[path] = held_schema(function["parameters"], path, must_hold=must_hold, owner=owner)
    schemas = fitted(schemas)
    held = []
    for path, (tool, _) in chosen.items():
        parameters = {"parameters": schemas[path]} if path in schemas else {}
        held.append(tool | {"function": tool["function"] | parameters})
    return tuple(held)


def _read_tool(value: Any, path: str, is_flat: bool) -> dict | None:
    type_ = of_type(path, value, dict).get("type")
    if type_ is not None and of_type(f"{path}.type", type_, str) != "function":
        if is_flat and type_ in NOT_OFFERED:
            return None
        if is_flat and not policy.is_strict():
            policy.note_without_effect(f"{path}.type")
            return None
        if type_ == "custom":
            raise UnsupportedError(f"{path}.type: only functions are supported", field=f"{path}.type")
        raise RequestError(f"{path}.type must be function", field=f"{path}.type", code="invalid_value")
    fields = (FLAT_TOOL if is_flat else TOOL).read(value, path)
    type_ = fields["type"]
    function = _read_function(fields if is_flat else fields["function"])
    fields.done()
    return {"type": type_, "function": function}


def _read_function(fields: Fields) -> dict:
    function = {name: fields[name] for name in ("name", "description", "parameters", "strict")}
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


def _take_choice(fields: Fields, tools: tuple[dict, ...], is_flat: bool) -> tuple[set[str], bool, bool]:
    """The names that may be called, whether one of them must be, and whether no second call may follow."""
    choice = fields["tool_choice"]
    names = {tool["function"]["name"] for tool in tools}
    if type(choice) is dict:
        return _read_choice(choice, names, is_flat)
    if choice == "required" and not tools:
        raise RequestError("tool_choice requires a call, but there are no functions", field="tool_choice")
    if choice not in ("none", "auto", "required"):
        message = 'tool_choice must be "none", "auto" or "required"'
        raise RequestError(message, field="tool_choice", code="invalid_value")
    return (set() if choice == "none" else names), choice == "required", False


def _read_choice(value: dict, names: set[str], is_flat: bool) -> tuple[set[str], bool, bool]:
    """One function by name, which is called once, or a few of them with a mode of their own."""
    choice = (FLAT_CHOICE if is_flat else CHOICE).read(value, "tool_choice")
    type_ = choice["type"]
    if type_ == "custom":
        raise UnsupportedError("tool_choice of type custom is not supported by this server", field="tool_choice")
    if type_ == "function":
        allowed, is_forced = {(choice if is_flat else choice["function"])["name"]}, True
    else:
        few = choice if is_flat else choice["allowed_tools"]
        is_forced = few["mode"] == "required"
        allowed = {_named(item, few.where("tools"), is_flat) for item in few["tools"]}
    if not allowed or not allowed <= names:
        raise RequestError("tool_choice names a function that is not among the tools", field="tool_choice")
    return allowed, is_forced, type_ == "function"


def _named(value: Any, path: str, is_flat: bool) -> str:
    return NAMED.read(value, path)["name"] if is_flat else NAMED_TOOL.read(value, path)["function"]["name"]
