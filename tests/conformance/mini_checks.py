"""The refusals of the miniature server, with the statuses, params and codes observed at api.openai.com."""

import json
import re

from mini_checker import Checker, RefusedError
from mini_model import EOS

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ROLES = ("developer", "system", "user", "assistant", "tool")


def check_common(c: Checker, model: str) -> None:
    body = c.body
    text = str(body.get("messages") or "")
    for word, is_so in (
        ("huge caps 500", body.get("max_tokens") == 10**9),
        ("nul 500", "\\x00" in text),
        ("long words 500", "a" * 1000 in text),
        ("many 500", text.count("role") > 100),
        ("many biases 500", str(body.get("logit_bias")).count(":") > 100),
        ("hangs without cap", "max_tokens" not in body),
    ):
        if word in c.fault and is_so:
            raise RuntimeError(word)
    if c.fault.verb == "refuse" and "input" in body and c.fault.rest in body:
        raise RefusedError("not here", c.fault.rest)
    if "no developer items" in c.fault and "developer" in str(body.get("input")):
        raise RefusedError("no developer", "input")
    if "default model" in c.fault:
        body.setdefault("model", model)
    c.refuse(type(body.get("model")) is not str or not body["model"], "you must provide a model parameter", "model")
    c.refuse(body.get("model") != model, "The model does not exist.", None, "model_not_found", 404)
    stop = c.typed("stop", str, list)
    if isinstance(stop, list):
        c.refuse(len(stop) > 4, "stop has too many items.", "stop", "array_above_max_length")
        c.refuse(any(type(s) is not str for s in stop), "stop must hold strings.", "stop", "invalid_type")
    bias = c.typed("logit_bias", dict) or {}
    for key, value in bias.items():
        c.refuse(not key.isdigit() or int(key) > EOS, "Invalid key in 'logit_bias'.", "logit_bias")
        c.refuse(type(value) not in (int, float), "Invalid type in 'logit_bias'.", "logit_bias", "invalid_type")
        c.refuse(type(value) in (int, float) and abs(value) > 100, "Invalid value in 'logit_bias'.", "logit_bias")
    stream = c.typed("stream", bool)
    options = c.typed("stream_options", dict)
    if options is not None:
        c.refuse(not stream, "stream_options needs stream.", "stream_options")
        c.typed("include_usage", bool, body=options, path="stream_options.")
    c.typed("user", str)
    c.typed("seed", int)


def check_messages(c: Checker) -> list[dict]:
    """The messages, each with a plain text content."""
    messages = c.body.get("messages")
    c.refuse(messages is None, "Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if c.refuse(type(messages) is not list, "Invalid type for 'messages'.", "messages", "invalid_type"):
        return []
    c.refuse(not messages, "messages is too short.", "messages", "empty_array")
    plain, open_calls = [], set()
    roles = [m.get("role") for m in messages if type(m) is dict]
    if "order 500" in c.fault and (
        roles != sorted(roles, reverse=True) or len(roles) == 1 or roles[-1] != "user" or len(set(roles)) < len(roles)
    ):
        raise RuntimeError("order")
    for at, message in enumerate(messages):
        path = f"messages[{at}]"
        if c.refuse(type(message) is not dict, f"Invalid type for '{path}'.", path, "invalid_type"):
            continue
        role = message.get("role")
        for word, is_so in _flaws(message, role):
            if word in c.fault and is_so:
                raise RefusedError(f"{word}: not here", path)
        if ("no system" in c.fault and role == "system") or ("developer dropped" in c.fault and role == "developer"):
            continue
        c.refuse(role is None, f"Missing '{path}.role'.", f"{path}.role", "missing_required_parameter")
        c.refuse(role not in ROLES, f"Invalid value for '{path}.role'.", f"{path}.role", "invalid_value")
        calls = message.get("tool_calls") or []
        content = message.get("content")
        missing = content is None and not (role == "assistant" and (calls or message.get("refusal")))
        c.refuse(missing, f"Missing '{path}.content'.", f"{path}.content", "missing_required_parameter")
        c.refuse(open_calls and role != "tool", "tool calls are not answered.", "messages.unanswered")
        if role == "tool":
            c.refuse("tool_call_id" not in message, f"Missing '{path}.tool_call_id'.", f"{path}.tool_call_id")
            key = message.get("tool_call_id")
            c.refuse(key is not None and key not in open_calls, "no such tool call.", f"{path}.role")
            open_calls.discard(key)
        else:
            open_calls = {call["id"] for call in calls}
        called = "".join(json.dumps([call["function"].get(name) for name in ("name", "arguments")]) for call in calls)
        plain.append({"role": role, "text": _text(c, content, f"{path}.content") + called})
    c.refuse(open_calls, "tool calls are not answered.", "messages.unanswered")
    return plain


def _flaws(message, role):
    content = message.get("content")
    return (
        ("no developer", role == "developer"),
        ("no empty content", content == ""),
        ("no system parts", role == "system" and isinstance(content, list)),
        ("no null content", role == "assistant" and content is None),
        ("no names", "name" in message),
        ("no annotations", "annotations" in message),
        ("no parsed messages", "parsed" in message),
        ("no provider fields", "provider_specific_fields" in message),
    )


def _text(c: Checker, content, path: str) -> str:
    if "ascii only" in c.fault and isinstance(content, str):
        content = content.encode("ascii", "ignore").decode()
    if content is None or type(content) is str:
        return content or ""
    if c.refuse(type(content) is not list, f"Invalid type for '{path}'.", path, "invalid_type"):
        return ""
    c.refuse(not content, f"{path} is empty.", path, "empty_array")
    text = ""
    if "parts dropped" in c.fault:
        return ""
    for at, part in enumerate(content):
        where = f"{path}[{at}]"
        part_type = part.get("type") if type(part) is dict else None
        c.refuse(
            part_type in ("image_url", "input_audio", "file"),
            "this model reads text only.",
            f"{where}.type",
            "invalid_value",
        )
        known = part_type in ("text", "refusal", "image_url", "input_text", "output_text")
        c.refuse(not known, f"Invalid value for '{where}.type'.", f"{where}.type", "invalid_value")
        value = part.get("text") if known else ""
        missing = c.refuse(
            type(value) is not str, f"Missing '{where}.text'.", f"{where}.text", "missing_required_parameter"
        )
        text += "" if missing else value
    return text


def check_chat(c: Checker) -> None:
    """Check the other fields of a chat."""
    body = c.body
    if c.fault.verb == "refuse" and body.get(c.fault.rest) is not None:
        raise RefusedError(f"{c.fault.rest} is not here", c.fault.rest)
    if "tools and logprobs 500" in c.fault and body.get("tools") and body.get("logprobs"):
        raise RuntimeError("both")
    if "unknown 500" in c.fault and any(len(name) == 11 and name[0] == "k" for name in body):
        raise RuntimeError("unknown")
    if "no extras" in c.fault and "metadata" in body:
        raise RefusedError("Unknown parameter: metadata", "metadata")
    both = body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None
    c.refuse(both, "both caps are set.", "max_tokens", "invalid_parameter_combination")
    logprobs = c.typed("logprobs", bool)
    top = c.number("top_logprobs", 0, 20, int)
    c.refuse(top is not None and not logprobs, "top_logprobs needs logprobs.", "top_logprobs")
    wanted = c.typed("response_format", dict)
    if wanted is not None:
        format_type = wanted.get("type")
        known = format_type in ("text", "json_object", "json_schema")
        c.refuse(not known, "Invalid 'response_format.type'.", "response_format.type", "invalid_value")
        if format_type == "text" and "no text format" in c.fault:
            raise RefusedError("no text", "response_format")
        mentions_json = "json" in json.dumps(body.get("messages")).lower() or "json word not needed" in c.fault
        c.refuse(format_type == "json_object" and not mentions_json, "messages must say json.", "messages")
        if "deep schemas 500" in c.fault and json.dumps(wanted).count("properties") > 50:
            raise RuntimeError("deep")
        if format_type == "json_schema":
            described = wanted.get("json_schema")
            if not c.refuse(type(described) is not dict, "Missing schema.", "response_format.json_schema"):
                name = described.get("name")
                c.refuse(
                    type(name) is not str or not NAME.fullmatch(name), "Bad name.", "response_format.json_schema.name"
                )
                check_schema(c, described.get("schema"), "response_format.json_schema.schema")
    check_tools(c)
    if body.get("metadata") is not None:
        c.typed("metadata", dict)


def check_schema(c: Checker, schema, path: str) -> None:
    if schema is None:
        return
    if c.refuse(type(schema) is not dict, f"Invalid schema for '{path}'.", path, "invalid_type"):
        return
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    is_valid = set(types) <= {"object", "array", "string", "number", "integer", "boolean", "null"}
    c.refuse(not is_valid, f"Invalid schema for '{path}'.", path, "invalid_value")
    for name, sub in (schema.get("properties") or {}).items():
        check_schema(c, sub, path if c.fault.accepts(path) else f"{path}.{name}")


def check_tools(c: Checker) -> None:
    tools = c.typed("tools", list) or []
    for word, is_so in (
        ("no empty tools", c.body.get("tools") == []),
        ("no null tools", "tools" in c.body and c.body["tools"] is None),
        ("history needs tools", not tools and '"tool"' in json.dumps(c.body.get("messages"))),
    ):
        if word in c.fault and is_so:
            raise RefusedError(word, "tools")
    if "choice alone 500" in c.fault and not tools:
        raise RuntimeError("choice")
    c.refuse(len(tools) > 128, "too many tools.", "tools.length", "array_above_max_length")
    names = []
    for at, tool in enumerate(tools):
        path = f"tools[{at}]"
        tool_type = tool.get("type") if type(tool) is dict else None
        if c.refuse(tool_type != "function", f"Invalid value for '{path}.type'.", f"{path}.type", "invalid_value"):
            continue
        function = tool.get("function")
        if c.refuse(type(function) is not dict, f"Missing '{path}.function'.", f"{path}.function"):
            continue
        name = function.get("name")
        is_valid = type(name) is str and NAME.fullmatch(name)
        c.refuse(not is_valid, f"Invalid '{path}.function.name'.", f"{path}.function.name", "invalid_value")
        names.append(name)
        check_schema(c, function.get("parameters"), f"{path}.function.parameters")
    c.typed("parallel_tool_calls", bool)
    choice = c.typed("tool_choice", str, dict)
    if choice is None:
        return
    if isinstance(choice, str):
        c.refuse(choice not in ("none", "auto", "required"), "Invalid 'tool_choice'.", "tool_choice", "invalid_value")
        c.refuse(choice == "required" and not tools, "tool_choice needs tools.", "tool_choice")
        return
    if choice.get("type") == "allowed_tools":
        return
    name = choice["function"].get("name") if type(choice.get("function")) is dict else None
    c.refuse(choice.get("type") != "function" or type(name) is not str, "Invalid 'tool_choice'.", "tool_choice")
    c.refuse(name is not None and name not in names, "tool_choice names no tool.", "tool_choice")
