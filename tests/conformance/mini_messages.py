"""Anthropic's Messages of the miniature server: text and tools, whole or as events, and the count of a prompt."""

import uuid

from mini_checks import check_common
from mini_model import THOUGHT, Sampling, as_json, encode, generate, instance

TYPES = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}


def shape(status: int, body: dict) -> dict:
    """An error in Anthropic's form, of OpenAI's."""
    if not isinstance(body.get("error"), dict):
        return body
    type_ = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": type_, "message": body["error"]["message"]}, "request_id": "req"}


def serve(handler, c) -> None:
    """Answer a POST /messages or /messages/count_tokens."""
    fault, body = handler.fault, c.body
    check_common(c, "mini/hash-1")
    c.refuse("refuse cache_control" in fault and "cache_control" in as_json(body), "Unknown field.", "cache_control")
    c.refuse("refuse context_management" in fault and "context_management" in body, "Unknown.", "context_management")
    tools, choice = body.get("tools") or [], body.get("tool_choice") or {"type": "auto"}
    ids = encode(prompt(c, tools if choice["type"] != "none" else []))
    if handler.path.endswith("/count_tokens"):
        handler.send_json({"input_tokens": len(ids) + ("counts wrong" in fault)})
        return
    c.refuse(body.get("max_tokens") is None, "max_tokens: Field required", "max_tokens")
    cap = c.number("max_tokens", 1, None, int, 64)
    called = next((t for t in tools if choice["type"] == "any" or t["name"] == choice.get("name")), None)
    forced = as_json(instance(called["input_schema"])) if called else None
    stops = tuple(body.get("stop_sequences") or ())
    temperature = c.number("temperature", 0, 2, default=1.0)
    answer = generate(ids, Sampling(max_tokens=cap, temperature=temperature, forced=forced, stops=stops))
    message = finished(ids, called, answer, stops)
    if (body.get("thinking") or {}).get("type") == "enabled":
        message["content"].insert(0, {"type": "thinking", "thinking": "".join(THOUGHT), "signature": ""})
    if body.get("stream") is True or ("streams unasked" in fault and "stream" not in body):
        chunks = fault.on_chunks(events(message, called, answer))
        handler.send_stream(chunks, done="messages done" in fault, names=True)
    else:
        handler.send_json(fault.on_body(message))


def prompt(c, tools: list) -> str:
    """The text that the model reads."""
    messages = c.body.get("messages")
    c.refuse(not isinstance(messages, list) or not messages, "messages: Field required", "messages")
    system = "" if "system ignored" in c.fault else text_of(c, c.body.get("system") or "")
    text = as_json(tools) if tools else ""
    return f"{text}[system]{system}\n" + "".join(f"[{m['role']}]{text_of(c, m['content'])}\n" for m in messages)


def text_of(c, content) -> str:
    """The text of blocks; results and calls as JSON."""
    if isinstance(content, str):
        return content
    text = ""
    for block in content:
        c.refuse("no tool results" in c.fault and block["type"] == "tool_result", "no tools", "messages")
        c.refuse("no thinking" in c.fault and block["type"] == "thinking", "no thinking", "messages")
        if block["type"] == "text":
            text += "" if "blocks dropped" in c.fault else block["text"]
        else:
            c.refuse(block["type"] == "image", "no images", "messages")
            text += as_json({name: item for name, item in block.items() if name != "cache_control"})
    return text


def finished(ids, called, answer, stops) -> dict:
    content = [{"type": "text", "text": answer.text}]
    reason = "max_tokens" if answer.finish == "length" else "end_turn"
    stopped = None
    if called:
        call_id = "toolu_" + uuid.uuid4().hex[:24]
        value = instance(called["input_schema"])
        content = [{"type": "tool_use", "id": call_id, "name": called["name"], "input": value}]
        reason = "tool_use"
    elif stops and answer.finish == "stop":
        reason, stopped = "stop_sequence", stops[0]
    return {
        "id": "msg_" + uuid.uuid4().hex,
        "type": "message",
        "role": "assistant",
        "model": "mini/hash-1",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stopped,
        "usage": {"input_tokens": len(ids), "output_tokens": answer.num_tokens},
    }


def events(message, called, answer) -> list[dict]:
    """The events of a message."""
    bare = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    block = message["content"][0] | ({"input": {}} if called else {"text": ""})
    named = ("input_json_delta", "partial_json") if called else ("text_delta", "text")
    deltas = [{"type": named[0], named[1]: delta} for delta in answer.deltas if delta]
    end = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    return [
        {"type": "message_start", "message": bare},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": message["usage"]["output_tokens"]}},
        {"type": "message_stop"},
    ]
