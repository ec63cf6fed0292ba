"""Replays captured event streams through the rules by which well-known clients read them: which client fails, and why.

These are the rules in our own words, not the clients' code. Each function gives the client's first complaint or None.
"""

import json

from verbatim.conformance.sse import lines_of


def _load(text: str):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _load


def openai_python(body: bytes) -> str | None:
    """Strict UTF-8 per line; a blank line dispatches even if only `id:` or `retry:` came; all data must be JSON."""
    name, data, last_id, retry = "", [], "", None
    acc: dict = {}
    for raw, _, _ in lines_of(body):
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            return f"cannot decode the line {raw[:60]!r}"
        if line:
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "event":
                name = value
            elif key == "data":
                data.append(value)
            elif key == "id":
                last_id = value
            elif key == "retry" and value.isdigit():
                retry = int(value)
            continue
        if not (name or data or last_id or retry is not None):
            continue
        text, name, data, retry = "\n".join(data), "", [], None
        if text.startswith("[DONE]"):
            return None
        if (value := _load(text)) is _load:
            return f"raises JSONDecodeError on {text[:60]!r}"
        if isinstance(value, dict) and value.get("error"):
            return f"raises APIError: {str(value['error'])[:80]}"
        if complaint := _accumulate(value, acc):
            return complaint
    return None


def _accumulate(chunk, acc: dict) -> str | None:
    """openai-python adds deltas up: strings concatenate, items of lists need an integer index."""
    choices = chunk.get("choices") if isinstance(chunk, dict) else None
    if chunk.get("object") == "chat.completion.chunk" and not isinstance(choices, list):
        return "chunk.choices is no list, so user code that loops over it raises"
    for choice in choices or []:
        for fragment in (choice.get("delta") or {}).get("tool_calls") or []:
            if not isinstance(fragment, dict) or "index" not in fragment:
                return "raises RuntimeError: a fragment of a tool call has no index"
            if not isinstance(fragment["index"], int):
                return "raises TypeError: a fragment's index is no integer"
            key = (choice.get("index"), fragment["index"])
            is_repeated, acc[key] = bool(acc.get(key)), acc.get(key, "") + (fragment.get("id") or "")
            if is_repeated and len(acc[key]) > 40 and fragment.get("id"):
                return "a repeated id of a tool call grows beyond 40 characters"
    return None


def openai_node(body: bytes) -> str | None:
    """All data must be JSON; a choice must get a role and, in the end, a finish_reason; calls need all their parts."""
    choices: dict[int, dict] = {}
    num_chunks = 0
    for text in _data(body):
        if text.startswith("[DONE]"):
            break
        if not isinstance(value := _load(text), dict):
            return f"cannot parse {text[:60]!r} as a chunk"
        if value.get("error"):
            return f"throws APIError: {str(value['error'])[:80]}"
        num_chunks += 1
        if not isinstance(value.get("choices"), list):
            return "throws: chunk.choices is not iterable"
        for part in value["choices"]:
            if complaint := _node_choice(part, choices):
                return complaint
    if not num_chunks:
        return "throws: the request ended without sending any chunks"
    for index, choice in choices.items():
        if not choice["finish"]:
            return f"throws: missing finish_reason for choice {index}"
        if choice["role"] != "assistant":
            return f"throws: missing role for choice {index}"
        for call in choice["calls"].values():
            if missing := [name for name in ("id", "type", "name") if not call.get(name)]:
                return f"throws: a tool call of choice {index} has no {missing[0]}"
            if call.get("arguments") is None:
                return f"throws: a tool call of choice {index} has no arguments"
    return None


def _node_choice(part, choices: dict) -> str | None:
    if not isinstance(part, dict) or not isinstance(part.get("delta"), dict):
        return None if isinstance(part, dict) and "text" in part else "throws: a choice has no delta"
    choice = choices.setdefault(part.get("index"), {"finish": None, "role": None, "calls": {}})
    delta = part["delta"]
    choice["finish"] = part.get("finish_reason") or choice["finish"]
    choice["role"] = delta.get("role") or choice["role"]
    for fragment in delta.get("tool_calls") or []:
        if not isinstance(fragment, dict):
            return "throws: a fragment of a tool call is no object"
        call = choice["calls"].setdefault(fragment.get("index"), {})
        function = fragment.get("function") or {}
        for name, value in (("id", fragment.get("id")), ("type", fragment.get("type")), ("name", function.get("name"))):
            call[name] = value or call.get(name)
        if isinstance(function.get("arguments"), str):
            call["arguments"] = (call.get("arguments") or "") + function["arguments"]
    return None


def vercel_ai(body: bytes) -> str | None:
    """Every event's data is parsed and held against a schema of chunks; anything else ends the stream in an error."""
    for text in _data(body):
        if text == "[DONE]":
            continue
        if not isinstance(value := _load(text), dict):
            return f"cannot parse {text[:60]!r}"
        if value.get("error"):
            return f"reports an error: {str(value['error'])[:80]}"
        if not isinstance(value.get("choices"), list):
            return "fails its schema: choices must be an array"
        for part in value["choices"]:
            if complaint := _vercel_delta(part.get("delta")):
                return f"fails its schema: {complaint}"
    return None


def _vercel_delta(delta) -> str | None:
    if delta is None:
        return None
    if delta.get("role") not in (None, "", "assistant"):
        return "delta.role must be assistant"
    if not isinstance(delta.get("content"), str | None):
        return "delta.content must be text"
    for fragment in delta.get("tool_calls") or []:
        function = fragment.get("function")
        if not isinstance(function, dict):
            return "a fragment of a tool call needs its function"
        if not isinstance(function.get("arguments"), str | None) or not isinstance(function.get("name"), str | None):
            return "name and arguments must be text"
    return None


def langchain(body: bytes) -> str | None:
    """Reads through openai-python, takes the first choice of each chunk, and raises where choices is null."""
    if complaint := openai_python(body):
        return complaint
    for text in _data(body):
        value = _load(text)
        if isinstance(value, dict) and value.get("choices") is None:
            return "raises TypeError: a chunk without choices"
    return None


def codex(body: bytes) -> str | None:
    """Responses only: `type` in every event, items that parse, and response.completed with an id and integer usage."""
    for text in _data(body):
        if text == "[DONE]":
            continue
        if not isinstance(value := _load(text), dict) or not isinstance(value.get("type"), str):
            return f"skips an event without a type: {text[:60]!r}"
        if value["type"] in ("response.output_item.added", "response.output_item.done"):
            item = value.get("item")
            if not isinstance(item, dict) or not isinstance(item.get("type"), str):
                return "cannot read an output item"
        if value["type"] == "response.completed":
            response = value.get("response") or {}
            usage = response.get("usage") or {}
            numbers = [usage.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")]
            if not isinstance(response.get("id"), str) or (usage and not all(type(n) is int for n in numbers)):
                return "cannot read response.completed"
            return None
        if value["type"] == "response.failed":
            return "reports a failure"
    return "stream closed before response.completed"


def _data(body: bytes) -> list[str]:
    """The data of every event that has a data line, an empty one too."""
    found, data = [], []
    for raw, _, _ in lines_of(body):
        key, _, value = raw.decode("utf-8", "replace").partition(":")
        if key == "data":
            data.append(value.removeprefix(" "))
        elif not raw:
            found += ["\n".join(data)] if data else []
            data = []
    return found


CHAT_CLIENTS = {
    "openai_python": openai_python,
    "openai_node": openai_node,
    "vercel_ai": vercel_ai,
    "langchain": langchain,
}
