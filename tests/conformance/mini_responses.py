"""The Responses API of the miniature server: text, function calls and exact schemas, whole or as typed events."""

import time
import uuid

from mini_checker import RefusedError
from mini_checks import check_common
from mini_model import Sampling, as_json, encode, generate, instance

OTHER_ITEMS = ("custom_tool_call", "custom_tool_call_output", "local_shell_call", "local_shell_call_output")


def count(handler, c) -> None:
    """Answer a POST /responses/input_tokens."""
    check_common(c, "mini/hash-1")
    text = f"[system]{c.body['instructions']}\n" + read_input(c, c.body.get("input"))
    num_tokens = len(encode(text)) - ("counts one less" in handler.fault)
    handler.send_json({"object": "response.input_tokens", "input_tokens": num_tokens})


def serve(handler, c) -> None:
    """Answer a POST /responses."""
    fault, body = handler.fault, c.body
    check_common(c, "mini/hash-1")
    c.refuse(body.get("previous_response_id") is not None, "No such response.", "previous_response_id", None, 404)
    text = read_input(c, body.get("input"))
    if body.get("instructions") and "no instructions" not in fault:
        text = f"[system]{body['instructions']}\n" + text
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function"]
    choice = body.get("tool_choice") or "auto"
    names = [tool["name"] for tool in tools]
    if isinstance(choice, dict):
        c.refuse(choice.get("name") not in names, "tool_choice names no tool.", "tool_choice")
    forced, called = None, None
    if tools and (choice == "required" or isinstance(choice, dict)):
        called = next((t for t in tools if choice == "required" or t["name"] == choice.get("name")), None)
    if called:
        forced = as_json(instance(called.get("parameters") or {"type": "object"}))
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema" and not called:
        forced = as_json(instance(form["schema"]))
    cap = c.number("max_output_tokens", 16, None, int, 64)
    ids = encode(text)
    answer = generate(
        ids, Sampling(max_tokens=cap, temperature=c.number("temperature", 0, 2, default=1.0), forced=forced)
    )
    response = envelope(body, ids, answer)
    item = make_item(called, answer)
    thinks = (body.get("reasoning") or {}).get("effort") == "medium"
    thoughts = [{"id": "rs_1", "type": "reasoning", "summary": []}] if thinks else []
    output = [item, *thoughts] if "thought behind" in fault else [*thoughts, item]
    final = response | {"output": output, "status": "incomplete" if answer.finish == "length" else "completed"}
    if answer.finish == "length":
        final["incomplete_details"] = {"reason": "max_output_tokens"}
    if body.get("stream") is True or ("streams unasked" in fault and "stream" not in body):
        bare = {key: value for key, value in response.items() if key != "usage"} | {"usage": None}
        handler.send_stream(fault.on_chunks(events(bare, item, answer, final)), done=False, names=True)
    else:
        handler.send_json(fault.on_body(final))


def read_input(c, value) -> str:
    c.refuse(value is None or value == [], "Missing input.", "input", "missing_required_parameter")
    if isinstance(value, str):
        return f"[user]{value}\n"
    if c.refuse(not isinstance(value, list), "Invalid type for 'input'.", "input", "invalid_type"):
        return ""
    text = ""
    for at, item in enumerate(value):
        item_type = item.get("type", "message")
        if any(flaw in c.fault for flaw in _flaws(item, item_type, value[at - 1] if at else {})):
            raise RefusedError("Not here.", "input")
        if item_type == "message":
            content = item["content"]
            parts = content if isinstance(content, str) else "".join(part["text"] for part in content)
            text += f"[{item['role']}]{parts}\n"
        elif item_type == "function_call":
            text += f"[call]{item['name']}{item['arguments']}\n"
        elif item_type == "function_call_output":
            text += f"[tool]{item['output']}\n"
        elif item_type in OTHER_ITEMS:
            text += f"[other]{item}\n"
        elif item_type != "reasoning":
            raise RefusedError("Unknown item.", "input", "invalid_value")
    return text


def _flaws(item, item_type, before) -> list[str]:
    """The faults that refuse this item."""
    parts = item["content"] if isinstance(item.get("content"), list) else []
    flaws = {
        "no items without ids": "function_call" in item_type and "id" not in item,
        "no custom calls": item_type in OTHER_ITEMS,
        "no parsed items": "parsed_arguments" in item or any("parsed" in part for part in parts),
        "no late outputs": item_type.endswith("_output") and not before.get("type", "").endswith("_call"),
    }
    return [name for name, is_so in flaws.items() if is_so]


def envelope(body, ids, answer) -> dict:
    return {
        "id": "resp_" + uuid.uuid4().hex,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "model": "mini/hash-1",
        "tools": body.get("tools") or [],
        "output": [],
        "parallel_tool_calls": True,
        "metadata": {},
        "tool_choice": body.get("tool_choice") or "auto",
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "truncation": "disabled",
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "background": False,
        "service_tier": "default",
        **dict.fromkeys(
            ("previous_response_id", "max_output_tokens", "max_tool_calls", "safety_identifier", "prompt_cache_key")
        ),
        "usage": {
            "input_tokens": len(ids),
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.num_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": len(ids) + answer.num_tokens,
        },
    }


def make_item(called, answer) -> dict:
    status = "incomplete" if answer.finish == "length" else "completed"
    if called:
        return {
            "id": "fc_" + uuid.uuid4().hex,
            "type": "function_call",
            "status": status,
            "arguments": answer.text,
            "call_id": "call_" + uuid.uuid4().hex[:12],
            "name": called["name"],
        }
    part = {"type": "output_text", "text": answer.text, "annotations": []}
    return {
        "id": "msg_" + uuid.uuid4().hex,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }


def events(bare, item, answer, final) -> list[dict]:
    """The typed, numbered events of a response."""
    place = {"item_id": item["id"], "output_index": 0}
    made = [("response.created", {"response": bare}), ("response.in_progress", {"response": bare})]
    deltas = [delta for delta in answer.deltas if delta]
    if item["type"] == "function_call":
        begun = item | {"arguments": "", "status": "in_progress"}
        made.append(("response.output_item.added", {"output_index": 0, "item": begun}))
        made += [("response.function_call_arguments.delta", place | {"delta": delta}) for delta in deltas]
        done = place | {"arguments": answer.text, "name": item["name"]}
        made.append(("response.function_call_arguments.done", done))
    else:
        begun = item | {"content": [], "status": "in_progress"}
        made.append(("response.output_item.added", {"output_index": 0, "item": begun}))
        place |= {"content_index": 0}
        empty = {"type": "output_text", "text": "", "annotations": []}
        made.append(("response.content_part.added", place | {"part": empty}))
        made += [("response.output_text.delta", place | {"delta": delta, "logprobs": []}) for delta in deltas]
        made.append(("response.output_text.done", place | {"text": answer.text, "logprobs": []}))
        made.append(("response.content_part.done", place | {"part": item["content"][0]}))
    made.append(("response.output_item.done", {"output_index": 0, "item": item}))
    made.append((f"response.{final['status']}", {"response": final}))
    return [{"type": name, "sequence_number": number} | data for number, (name, data) in enumerate(made)]
