"""Shared. Parameters that are written one by one: what of a function's schema such a form can hold, and its rules.

In these forms (keywords of Python, parameters between marks) the arguments as a whole are no JSON text. A grammar
holds names, the required ones among them and each value, in the order of the schema; it holds nothing that a schema
says of all arguments together.
"""

from collections.abc import Callable

from verbatim.reference.records.errors import RequestError, UnsupportedError

# What a schema may say of the arguments as a whole; anything else could not be held, so it is refused.
PLAIN = frozenset(("type", "title", "description", "default", "examples", "$comment"))
HELD = PLAIN | frozenset(("properties", "required", "additionalProperties", "$schema", "$defs", "definitions"))
IsHeld = Callable[[str], bool]  # whether a form can write this text


def narrowed(schema: dict, is_key: IsHeld, lost_of: Callable[[dict, str], list[str]]) -> tuple[dict, list[str]]:
    """What of a schema parameters can hold, and the paths of the keywords and properties that they cannot.

    `lost_of(value, path)` names the keywords of a property's schema that the form cannot hold.
    """
    named = schema.get("properties", {})
    properties = {key: value for key, value in named.items() if is_key(key)}
    required = [key for key in schema.get("required", []) if key in properties]
    kept = {key: value for key, value in schema.items() if key in HELD and key != "required"}
    kept |= {"properties": properties} | ({"required": required} if required else {})
    lost = [key for key in schema if key not in HELD]
    lost += [f"properties.{key}" for key in named if key not in properties]
    lost += ["required"] if len(required) < len(schema.get("required", [])) else []
    for key, value in properties.items():
        names = lost_of(value, f"properties.{key}") if isinstance(value, dict) else []
        if names:
            words = {name.rpartition(".")[2] for name in names}
            properties[key] = {word: part for word, part in value.items() if word not in words}
            lost += names
    return kept, lost


def check(function: dict, is_key: IsHeld, form: str) -> None:
    """Refuse by name what the parameters of a function cannot hold: UnsupportedError, RequestError for no schema."""
    schema, name = function.get("parameters", {}), function["name"]
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise RequestError(f"tools: the parameters of {name} are no JSON schema", field="tools", code="invalid_type")
    unknown = [key for key in schema if key not in HELD]
    for key in (*unknown, *(key for key in (*properties, *required) if key not in properties or not is_key(key))):
        refuse(key, name, form)


def refuse(keyword: str, name: str, form: str) -> None:
    """UnsupportedError that names a keyword of the parameters of a function."""
    message = f"tools: {keyword!r} in the parameters of {name} cannot be held with {form} tool calls"
    raise UnsupportedError(message, field="tools")


def chain_rules(name: str, function: dict, value: Callable[[str, dict | bool], str], comma: str = "") -> list[str]:
    """Rules for the parameters of a function in the order of its schema; those that are not required may be skipped.

    `value(key, schema)` is what a parameter looks like, `comma` what stands between two: `name_i_begun` is what may
    come from property i on, a comma in front of it.
    """
    schema = function.get("parameters", {})
    properties, required = schema.get("properties", {}), schema.get("required", [])
    rules = [f"{name}: {name}_0"]
    for index, (key, property_schema) in enumerate(properties.items()):
        rest, is_required = f"{name}_{index + 1}", key in required
        for state, separator in (("", ""), ("_begun", comma)):
            skipped = "" if is_required else f" | {rest}{state}"
            rules.append(f"{name}_{index}{state}: {separator} {name}_{index}_value {rest}_begun{skipped}")
        rules.append(f"{name}_{index}_value: {value(key, property_schema)}")
    last = f"{name}_{len(properties)}"
    return [*rules, f'{last}: ""', f'{last}_begun: ""']


def definitions(schema: dict) -> dict:
    """The schemas that others of the same function may refer to."""
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}
