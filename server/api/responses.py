"""`POST /v1/responses`: items in, items out. A conversation may go on from a response that was kept.

The model, its tools and its formats are those of chat completions, under this endpoint's names; the answer is written
as items, and streamed as the events of their making (response_events.py). Refused by name is what needs more than a
model that writes text: conversations, prompts kept elsewhere, background work, reasoning. Tools that are no functions
are not offered to the model, and the `tools` of the response leave them out; a `tool_choice` of one is refused.
"""

import time
import uuid

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import MAX_LOGPROBS, Request
from verbatim.server.api import parameters
from verbatim.server.api.answer import Streaming
from verbatim.server.api.chat import choose_grammar, encode_chat, visible_ids
from verbatim.server.api.fields import Fields, of_type
from verbatim.server.api.guided import take_guided
from verbatim.server.api.response_events import ResponseAnswer
from verbatim.server.api.response_format import take_text_format
from verbatim.server.api.response_items import take_input, to_messages
from verbatim.server.api.response_store import ResponseStore
from verbatim.server.api.tools import take_tools
from verbatim.server.models.served import ServedModel

MIN_OUTPUT_TOKENS = 16  # OpenAI's own bound
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (LOGPROBS, "reasoning.encrypted_content")  # of reasoning there is none, so nothing of it is left out
REFUSED = {
    "background": (False,),
    "context_management": (),
    "conversation": (),
    "max_tool_calls": (),
    "prompt": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning": ({}, {"effort": "none"}),
    "truncation": ("disabled",),
}


def read_response(body: object, model: ServedModel, *, store: ResponseStore) -> ResponseAnswer:
    """The answer to be filled, with the engine's request in it. RequestError for anything that cannot be done."""
    fields = Fields(body)
    parameters.take_model(fields)
    items = _take_previous(fields, store) + take_input(fields)
    messages = to_messages(fields.string("instructions"), items)
    tools = take_tools(fields, is_flat=True)
    text_format, text = take_text_format(fields, messages)
    grammar = choose_grammar(text_format, take_guided(fields), tools, model)
    num_top = _take_logprobs(fields)
    vocab_size = model.config.vocab_size
    sampling = parameters.take_sampling(fields, vocab_size, num_top)
    max_tokens = fields.integer("max_output_tokens", MIN_OUTPUT_TOKENS)
    stopping = parameters.take_stopping(fields, vocab_size, max_tokens)
    streaming = _take_streaming(fields)
    is_kept = fields.typed("store", bool, True)
    metadata = parameters.take_harmless(fields)
    for name, neutral in REFUSED.items():
        fields.refuse(name, *neutral)
    salt = parameters.take_cache_salt(fields)
    fields.done()
    response_id = f"resp_{uuid.uuid4().hex}"
    request = Request(
        request_id=response_id, prompt_ids=encode_chat(messages, tools, model, "input"), sampling=sampling,
        stopping=stopping, grammar=grammar, cache_salt=salt, visible_ids=visible_ids(tools, model),
    )  # fmt: skip
    response = {"id": response_id, "model": model.model_id, "text": text, "metadata": metadata, "store": is_kept}
    response |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_logprobs": num_top or 0}
    response |= _blank(body) | {"parallel_tool_calls": tools.is_parallel}
    return ResponseAnswer(
        response=response, request=request, items=items, streaming=streaming, wants_logprobs=num_top is not None,
        parser=model.dialect.parser(tools.names) if tools.names else None, store=store if is_kept else None,
    )  # fmt: skip


def _blank(body: dict) -> dict:
    """The fields of a response of which nothing is written yet; it repeats what it was asked for."""
    repeated = {name: body.get(name) for name in ("instructions", "previous_response_id", "max_output_tokens", "user")}
    offered = [tool for tool in body.get("tools") or [] if tool["type"] == "function"]
    repeated |= {"tools": offered, "tool_choice": body.get("tool_choice") or "auto"}
    return repeated | {
        "object": "response", "created_at": int(time.time()), "status": "in_progress", "background": False,
        "error": None, "incomplete_details": None, "output": [], "reasoning": {"effort": None, "summary": None},
        "service_tier": "default", "truncation": "disabled", "usage": None,
    }  # fmt: skip


def _take_previous(fields: Fields, store: ResponseStore) -> list[dict]:
    """What an earlier response answered and said."""
    name = "previous_response_id"
    if (response_id := fields.string(name)) is None:
        return []
    if (record := store.get(response_id)) is None:
        message = f"{name}: there is no response {response_id[:200]!r} here, or no longer"
        raise RequestError(message, field=name, code="previous_response_not_found")
    return record["items"] + record["response"]["output"]


def _take_logprobs(fields: Fields) -> int | None:
    """Log-probabilities come if they are included; how many alternatives, says `top_logprobs`."""
    included = fields.array("include")
    for index, value in enumerate(included):
        path = f"include[{index}]"
        if of_type(path, value, str) not in INCLUDABLE:
            raise UnsupportedError(f"{path} must be one of {', '.join(INCLUDABLE)} on this server", field=path)
    num_top = fields.integer("top_logprobs", 0, MAX_LOGPROBS, default=0)
    if num_top and LOGPROBS not in included:
        raise RequestError(f"top_logprobs needs {LOGPROBS} in include", field="top_logprobs")
    return num_top if LOGPROBS in included else None


def _take_streaming(fields: Fields) -> Streaming:
    streaming = parameters.take_streaming(fields)
    if streaming.wants_usage:
        message = "stream_options.include_usage is unknown here: the last event always has the usage"
        raise RequestError(message, field="stream_options.include_usage", code="unknown_parameter")
    return streaming
