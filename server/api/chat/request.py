"""`POST /v1/chat/completions`: a conversation in, an assistant's message out, perhaps with tool calls.

What OpenAI or other servers know and this server does not have is in foreign_fields.py.
"""

from dataclasses import replace
from typing import Any

from verbatim.reference.dialects import calls_or_json
from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.request import MAX_LOGPROBS, Request
from verbatim.reference.text.thoughts import ThoughtCounter
from verbatim.server.api import parameters, policy
from verbatim.server.api.adapter import Adapter, Resumption
from verbatim.server.api.builder import ANSWER, CHUNK_SCHEMAS, Streaming, new_id
from verbatim.server.api.chat.choice import ChatBuilder, ChatChoice, call_prefix
from verbatim.server.api.chunk_resume import ChunkResumption
from verbatim.server.api.debug_config import DEBUG_CONFIG, take_debug_config
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import REQUEST
from verbatim.server.api.guided import GUIDED, only_one, take_guided
from verbatim.server.api.messages import CONTENT, MESSAGES, SCHEMA
from verbatim.server.api.receipts import RECEIPT
from verbatim.server.api.response_format import RESPONSE_FORMAT, take_response_format
from verbatim.server.api.templating import FIELDS as TEMPLATING
from verbatim.server.api.templating import Templating, take_templating
from verbatim.server.api.thinking import FIELDS as THINKING
from verbatim.server.api.thinking import answer_parser, take_wishes, with_history
from verbatim.server.api.tools import TOOL, ToolUse, take_tools, tool_fields
from verbatim.server.api.value_types import BOOLEAN, integer, one_of
from verbatim.server.models.served import ServedModel

OBJECTS = ("chat.completion", "chat.completion.chunk")
PREDICTION = Object(
    required("type", one_of("content"), "The type of the prediction."),
    required("content", CONTENT, "What the answer is likely to be.", "17 + 25 = 42"),
)
MAX_TOKENS = parameters.max_tokens(1)
BODY = Object(
    MESSAGES,
    parameters.MODEL,
    *tool_fields(TOOL),
    *TEMPLATING,
    *THINKING,
    Field("echo", BOOLEAN, "Begin the answer with the last message, if that is the assistant's.", default=False),
    RESPONSE_FORMAT,
    *GUIDED,
    Field("logprobs", BOOLEAN, "Report the log-probability of each token.", default=False),
    Field("top_logprobs", integer(0, MAX_LOGPROBS), "How many alternatives to report with it.", example=2),
    parameters.CHOICES,
    *parameters.SAMPLING,
    Field("max_tokens", MAX_TOKENS, "The answer has at most so many tokens.", example=64),
    Field("max_completion_tokens", MAX_TOKENS, "The same by its newer name; give one of them.", example=64),
    *parameters.STOPPING,
    *parameters.STREAMING,
    parameters.TOKEN_IDS,
    RECEIPT,
    DEBUG_CONFIG,
    Field("prompt_logprobs", integer(0, MAX_LOGPROBS), "Report so many alternatives for each token of the prompt.",
          example=2),
    *parameters.ACCOUNT,
    Field("prediction", PREDICTION, "Without effect: what the answer is likely to be."),
    foreign=REQUEST,
)  # fmt: skip
HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
EXAMPLES: dict[str, dict] = {
    "A short answer": {"messages": HELLO, "temperature": 0},
    "Streamed": {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}},
    "With a tool": {
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [{"type": "function", "function": WEATHER}],
    },
    "Probabilities": {
        "messages": [{"role": "user", "content": "What is 17 + 25?"}], "logprobs": True, "top_logprobs": 3,
    },
}  # fmt: skip


class ChatAdapter(Adapter):
    """Chats."""

    name, path, prompt_field = "chat", "/v1/chat/completions", "messages"
    summary = "Answer a chat"
    body, examples = BODY, EXAMPLES
    answer, schemas = ANSWER, CHUNK_SCHEMAS | {"Message": SCHEMA}

    def read(self, body: object, model: ServedModel) -> ChatBuilder:
        """The builder of a chat's answer."""
        return read_chat(body, model)

    def resume(self, emitted: list[bytes]) -> Resumption:
        """Chunks, with the ids of tool calls that follow from the chat's own."""
        return ChunkResumption(emitted, call_prefix)


def read_chat(body: Any, model: ServedModel) -> ChatBuilder:
    """What builds the answer, with the engine's request in it. RequestError for anything that cannot be done."""
    fields = BODY.read(body)
    messages = fields["messages"]
    fields["model"]
    tools, templating = take_tools(fields), take_templating(fields, messages, model.template)
    wishes = take_wishes(fields)
    templating = replace(templating, variables=wishes.variables(model, templating.variables))
    echo = _take_echo(fields, messages)
    grammar = choose_grammar(take_response_format(fields, messages), take_guided(fields), tools, model)
    wants_logprobs, num_top = _take_logprobs(fields)
    vocab_size, num_choices = model.config.vocab_size, fields["n"]
    sampling = parameters.take_sampling(fields, model, num_top)
    stopping = parameters.take_stopping(fields, vocab_size, _take_max_tokens(fields))
    streaming = parameters.take_streaming(fields)
    debug = take_debug_config(fields, streaming)
    prompt_logprobs = _take_prompt_logprobs(fields, streaming)
    salt, wants_ids, wants_receipt = fields["prompt_cache_key"], fields["return_token_ids"], fields["receipt"]
    if (prediction := fields["prediction"]) is not None:
        prediction.read_all()
    fields.done()
    answer_id, prompt_ids = new_id("chatcmpl"), encode_chat(messages, tools, model, "messages", templating)
    continued = messages[-1].get("content") or "" if templating.is_continued else ""
    thinking = wishes.thinking(model, prompt_ids, templating.variables, continued)
    request = Request(
        request_id=answer_id, prompt_ids=prompt_ids, sampling=sampling, stopping=debug.apply(stopping), n=num_choices,
        grammar=grammar, thinking=thinking, cache_salt=salt, visible_ids=visible_ids(tools, model),
        prompt_logprobs=prompt_logprobs,
    )  # fmt: skip
    builder = ChatBuilder(
        model=model, answer_id=answer_id, requests=() if debug.wants_metrics else (request,), objects=OBJECTS,
        streaming=streaming, wants_metrics=debug.wants_metrics, wants_ids=wants_ids,
    )  # fmt: skip
    builder.wants_receipt = wants_receipt
    for index in range(num_choices):
        parser = answer_parser(tools, model, thinking, is_apart=wishes.is_apart)
        choice = ChatChoice(index, answer_id, parser, wants_logprobs, echo, shows_thought=wishes.is_shown)
        builder.choices[answer_id, index] = choice
        if thinking:
            builder.thoughts[answer_id, index] = ThoughtCounter(model.tokenizer, thinking)
    return builder


def choose_grammar(
    response_format: Grammar | None, guided: Grammar | None, tools: ToolUse, model: ServedModel
) -> Grammar | None:
    """What the answer must fit: a schema binds text, tools bind calls; with both it is calls or text of the schema."""
    content = only_one(response_format, guided)
    if not tools.callable_tools:
        return content
    if content is not None and content.syntax is not GrammarSyntax.JSON_SCHEMA:
        raise UnsupportedError(f"{content.field} together with tools is not supported", field=content.field)
    is_forced = tools.is_forced or content is not None
    calls = model.dialect.grammar(
        _narrowed(tools, model), model.mark_ids, is_forced=is_forced, is_parallel=tools.is_parallel
    )
    return calls if content is None or tools.is_forced else calls_or_json(calls, content)


def _narrowed(tools: ToolUse, model: ServedModel) -> list[dict]:
    """The tools, without what this form of calls cannot hold unless it must."""
    narrowed = model.dialect.narrowed
    if narrowed is None or tools.is_forced:
        return list(tools.callable_tools)
    found = []
    for tool in tools.callable_tools:
        parameters, lost = narrowed(tool["function"].get("parameters", {}))
        for name in lost:
            policy.note_without_effect(f"tools.{tool['function']['name']}.parameters.{name}")
        found.append(tool | {"function": tool["function"] | {"parameters": parameters}} if lost else tool)
    return found


def visible_ids(tools: ToolUse, model: ServedModel) -> tuple[int, ...]:
    """Parsers have to see their marks, also where they are control tokens."""
    of_calls = model.mark_ids.values() if tools.names else ()
    return tuple(sorted({*of_calls, *model.thought_ids}))


def encode_chat(
    messages: list[dict], tools: ToolUse, model: ServedModel, field: str, templating: Templating | None = None
) -> tuple[int, ...]:
    """The prompt of a conversation, which came in that field; it asks for an answer unless `templating` differs."""
    if model.template is None:
        raise RequestError("This model has no chat template; use /v1/completions.", field=field)
    messages = with_history(messages, model.template)
    pieces = (templating or Templating()).render(model.template, messages, list(tools.tools) or None)
    model.check_text(pieces, field)
    prompt_ids = tuple(model.tokenizer.encode_pieces(pieces))
    model.check_prompt(prompt_ids, field)
    return prompt_ids


def _take_echo(fields: Fields, messages: list[dict]) -> str:
    """What comes before the answer: the text of a last message by the same speaker."""
    is_own = fields["echo"] and messages[-1]["role"] == "assistant"
    return messages[-1]["content"] or "" if is_own else ""


def _take_logprobs(fields: Fields) -> tuple[bool, int | None]:
    wants_logprobs, num_top = fields["logprobs"], fields["top_logprobs"]
    if num_top is not None and not wants_logprobs and (num_top or policy.is_strict()):
        raise RequestError("top_logprobs is only allowed when logprobs is true", field="top_logprobs")
    return wants_logprobs, (num_top or 0) if wants_logprobs else None


def _take_prompt_logprobs(fields: Fields, streaming: Streaming) -> int | None:
    num_top = fields["prompt_logprobs"]
    if num_top is not None and streaming.is_stream:
        raise RequestError("prompt_logprobs is only allowed when stream is false", field="prompt_logprobs")
    return num_top


def _take_max_tokens(fields: Fields) -> int | None:
    """Of both names the newer one counts, as with peers; OpenAI refuses both at once."""
    are_both = fields.has("max_tokens") and fields.has("max_completion_tokens")
    if are_both and policy.is_strict():
        message = "max_tokens and max_completion_tokens mean the same; give one of them"
        raise RequestError(message, field="max_tokens", code="invalid_parameter_combination")
    older, newer = fields["max_tokens"], fields["max_completion_tokens"]
    if are_both and older != newer:
        policy.note_without_effect("max_tokens")
    return newer if are_both else older or newer
