"""`POST /v1/responses`: items in, items out. A conversation may continue from a response that was kept.

The model, its tools and its formats are those of chat completions, under this endpoint's names; the answer is written
as items, and streamed as the events of their making (events.py). Refused by name is what needs more than a
model that writes text: conversations, prompts kept elsewhere, background work. Tools that are no functions
are not offered to the model, and the `tools` of the response leave them out; a `tool_choice` that names it is refused.
"""

import time
import uuid
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import MAX_LOGPROBS, Request
from verbatim.reference.text.thoughts import ThoughtCounter
from verbatim.server.api import parameters, policy
from verbatim.server.api.builder import Streaming
from verbatim.server.api.chat.request import choose_grammar, encode_chat, visible_ids
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.foreign_fields import RESPONSE, STREAM_OPTIONS
from verbatim.server.api.guided import GUIDED, take_guided
from verbatim.server.api.response_format import TEXT, take_text_format
from verbatim.server.api.responses.conversation import to_messages
from verbatim.server.api.responses.events import ItemBuilder
from verbatim.server.api.responses.items import INPUT, REFERENCE, response_of_item
from verbatim.server.api.responses.store import ResponseStore
from verbatim.server.api.templating import VARIABLE_FIELDS, Templating, take_variables
from verbatim.server.api.thinking import OF_REASON, SHARED, Wishes, answer_parser, take_wishes, with_history
from verbatim.server.api.tools import FLAT_TOOL, take_tools, tool_fields
from verbatim.server.api.value_types import BOOLEAN, STRING, ValueType, array, integer, of_type, one_of
from verbatim.server.errors import ResponseNotFoundError
from verbatim.server.models.served import ServedModel

MIN_OUTPUT_TOKENS = 16  # OpenAI's own bound
LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (LOGPROBS, "reasoning.encrypted_content")  # thoughts are not encrypted: their text is there


def _read_includable(value: Any, path: str) -> str:
    if of_type(path, value, str) not in INCLUDABLE:
        policy.note_without_effect(path)
    return value


REPEATED = (
    "instructions", "previous_response_id", "max_output_tokens", "max_tool_calls", "user", "safety_identifier",
    "prompt_cache_key",
)  # fmt: skip
UNSAID = {"description": None, "parameters": None, "strict": None}  # of a tool, where a client left them out
NO_USAGE = "Without effect: the last event always has the usage."
OPTIONS = Object(
    Field("include_usage", BOOLEAN, NO_USAGE, default=False),
    Field("continuous_usage_stats", BOOLEAN, NO_USAGE, default=False),
    parameters.PADDING,
    foreign=STREAM_OPTIONS,
)
OUTPUT_TOKENS = parameters.max_tokens(MIN_OUTPUT_TOKENS)
INCLUDE = array(ValueType(_read_includable, one_of(*INCLUDABLE).schema))
BODY = Object(
    parameters.MODEL,
    Field("previous_response_id", STRING, "The kept response that the conversation continues from.",
          example="resp_0123456789abcdef"),
    INPUT,
    Field("instructions", STRING, "Stands in front of the conversation, for this answer alone.", example="Be brief."),
    *tool_fields(FLAT_TOOL),
    TEXT,
    *GUIDED,
    Field("include", INCLUDE, "What the answer has beyond the usual.", default=(), example=[LOGPROBS]),
    Field("top_logprobs", integer(0, MAX_LOGPROBS), "How many alternatives to report for each token.", default=0),
    *parameters.SAMPLING,
    Field("max_output_tokens", OUTPUT_TOKENS, "The answer has at most so many tokens.", example=64),
    *parameters.STOPPING,
    parameters.STREAM,
    Field("stream_options", OPTIONS, "What a stream holds beside the answer."),
    Field("store", BOOLEAN, "Keep the response, so that it can be asked for later.", default=True),
    *parameters.ACCOUNT,
    OF_REASON,
    *SHARED,
    *VARIABLE_FIELDS,
    foreign=RESPONSE,
)  # fmt: skip
EXAMPLES: dict[str, dict] = {
    "A short answer": {"input": "Hello!"},
    "Streamed": {"input": "What is 17 + 25?", "stream": True},
    "Instructed, not kept": {"instructions": "Be brief.", "input": "What is 17 + 25?", "store": False},
}


def read_response(body: Any, model: ServedModel, *, store: ResponseStore) -> ItemBuilder:
    """What builds the answer, with the engine's request in it. RequestError for anything that cannot be done."""
    fields = BODY.read(body)
    fields["model"]
    items, messages = _take_conversation(fields, store)
    tools = take_tools(fields, is_flat=True)
    text_format, text = take_text_format(fields, messages)
    grammar = choose_grammar(text_format, take_guided(fields), tools, model)
    num_top = _take_logprobs(fields)
    vocab_size = model.config.vocab_size
    sampling = parameters.take_sampling(fields, model, num_top)
    stopping = parameters.take_stopping(fields, vocab_size, fields["max_output_tokens"])
    streaming = _take_streaming(fields)
    is_kept, metadata, salt = fields["store"], fields["metadata"] or {}, fields["prompt_cache_key"]
    wishes, templating = _take_templating(fields, model)
    fields.done()
    response_id, prompt_ids = f"resp_{uuid.uuid4().hex}", encode_chat(messages, tools, model, "input", templating)
    thinking = wishes.thinking(model, prompt_ids, templating.variables)
    request = Request(
        request_id=response_id, prompt_ids=prompt_ids, sampling=sampling, stopping=stopping, grammar=grammar,
        thinking=thinking, cache_salt=salt, visible_ids=visible_ids(tools, model),
    )  # fmt: skip
    response = {"id": response_id, "model": model.model_id, "text": text, "metadata": metadata, "store": is_kept}
    response |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_logprobs": num_top or 0}
    response |= {name: getattr(sampling, name) for name in ("presence_penalty", "frequency_penalty")}
    response |= _blank(body) | {"parallel_tool_calls": tools.is_parallel}
    response["reasoning"] = {"effort": wishes.effort, "summary": None}
    return ItemBuilder(
        response=response, request=request, items=items, streaming=streaming, wants_logprobs=num_top is not None,
        parser=answer_parser(tools, model, thinking),
        thoughts=ThoughtCounter(model.tokenizer, thinking) if thinking else None, store=store if is_kept else None,
    )  # fmt: skip


def count_tokens(body: Any, model: ServedModel, *, store: ResponseStore) -> dict:
    """How many tokens the prompt of a response would have, also where that is too many."""
    fields = BODY.read(body)
    fields["model"]
    _, messages = _take_conversation(fields, store)
    tools = take_tools(fields, is_flat=True)
    _, templating = _take_templating(fields, model)
    fields.done()
    if model.template is None:
        raise RequestError("This model has no chat template.", field="input")
    messages = with_history(messages, model.template)
    prompt_ids = model.tokenizer.encode_pieces(templating.render(model.template, messages, list(tools.tools) or None))
    return {"object": "response.input_tokens", "input_tokens": len(prompt_ids)}


def _blank(body: dict) -> dict:
    """The fields of a response of which nothing is written yet; it repeats what it was asked for."""
    repeated = {name: body.get(name) for name in REPEATED}
    offered = [UNSAID | tool for tool in body.get("tools") or [] if tool.get("type") == "function"]
    repeated |= {"tools": offered, "tool_choice": body.get("tool_choice") or "auto"}
    return repeated | {
        "object": "response", "created_at": int(time.time()), "completed_at": None, "status": "in_progress",
        "background": False, "error": None, "incomplete_details": None, "output": [], "usage": None,
        "service_tier": "default", "truncation": "disabled",
    }  # fmt: skip


def _take_templating(fields: Fields, model: ServedModel) -> tuple[Wishes, Templating]:
    """How the model shall think, and the template's variables with that in them."""
    wishes = take_wishes(fields)
    return wishes, Templating(variables=wishes.variables(model, take_variables(fields, model.template)))


def _take_conversation(fields: Fields, store: ResponseStore) -> tuple[list[dict], list[dict]]:
    """The items that are to be answered, those of earlier responses included, and the messages that they are."""
    earlier = _take_previous(fields, store)
    items = earlier + [_resolved(item, earlier, store) for item in fields["input"]]
    return items, to_messages(fields["instructions"], items)


def _resolved(item: dict, earlier: list[dict], store: ResponseStore) -> dict:
    """The item; if it is a reference, the one that it names, of a kept response."""
    if item["type"] != REFERENCE:
        return item
    record = store.get(response_of_item(item["id"]))
    known = [*earlier, *(record["response"]["output"] if record else ())]
    found = next((other for other in known if other["id"] == item["id"]), None)
    if found is None:
        raise ResponseNotFoundError(f"There is no item {item['id'][:200]!r} here, or no longer.", field="input")
    return found


def _take_previous(fields: Fields, store: ResponseStore) -> list[dict]:
    """The items of an earlier response, and of what it answered."""
    name = "previous_response_id"
    if (response_id := fields[name]) is None:
        return []
    if (record := store.get(response_id)) is None:
        message = f"{name}: there is no response {response_id[:200]!r} here, or no longer"
        raise RequestError(message, field=name, code="previous_response_not_found")
    return record["items"] + record["response"]["output"]


def _take_logprobs(fields: Fields) -> int | None:
    """Log-probabilities come if they are included; `top_logprobs` is how many alternatives."""
    included, num_top = fields["include"], fields["top_logprobs"]
    if num_top and LOGPROBS not in included:
        raise RequestError(f"top_logprobs needs {LOGPROBS} in include", field="top_logprobs")
    return num_top if LOGPROBS in included else None


def _take_streaming(fields: Fields) -> Streaming:
    streaming = parameters.take_streaming(fields)
    wishes = {"include_usage": streaming.wants_usage, "continuous_usage_stats": streaming.is_usage_continuous}
    for path in (f"stream_options.{name}" for name, is_wished in wishes.items() if is_wished and policy.is_strict()):
        message = f"{path} is unknown here: the last event always has the usage"
        raise RequestError(message, field=path, code="unknown_parameter")
    return streaming
