"""`POST /v1/messages` and `/v1/messages/count_tokens`: their fields, and what the engine gets.

Fields that tune Anthropic's own service are accepted without effect. Refused by name is what would change the answer
and is not here: Anthropic's tools, MCP servers, images and files. Beyond Anthropic's fields there are the extensions of
chat.
"""

import uuid
from dataclasses import replace
from typing import Any

from verbatim.reference.records.errors import ContextLengthError, RequestError
from verbatim.reference.records.grammar_text import Grammar, json_schema
from verbatim.reference.records.request import Request
from verbatim.reference.records.thinking import Thinking
from verbatim.server.api import parameters
from verbatim.server.api.anthropic import foreign_fields
from verbatim.server.api.anthropic.blocks import OF_SYSTEM, content_schema
from verbatim.server.api.anthropic.conversation import MESSAGES, read_system, to_messages
from verbatim.server.api.anthropic.events import MessageBuilder
from verbatim.server.api.anthropic.tools import TOOL_CHOICE, TOOLS, take_tools
from verbatim.server.api.builder import Streaming
from verbatim.server.api.chat.request import choose_grammar, visible_ids
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.guided import GUIDED, only_one, take_guided
from verbatim.server.api.schemas import held_schema
from verbatim.server.api.templating import VARIABLE_FIELDS, Templating, take_variables
from verbatim.server.api.thinking import SHARED, THINKING, Wishes, answer_parser, take_wishes, with_history
from verbatim.server.api.tools import ToolUse
from verbatim.server.api.value_types import (
    OBJECT,
    ValueType,
    array,
    integer,
    one_of,
)
from verbatim.server.models.served import ServedModel


def _read_stop(value: Any, path: str) -> str:
    if not parameters.STOP_TEXT.read(value, path):
        raise RequestError(f"{path} must not be empty", field=path, code="invalid_value")
    return value


STOP = ValueType(_read_stop, parameters.STOP_TEXT.schema | {"minLength": 1})
SYSTEM = Field("system", ValueType(read_system, content_schema(*OF_SYSTEM)), "Instructions.", example="Be brief.")
FORMAT = Object(
    required("type", one_of("json_schema"), "The type of the format."),
    required("schema", OBJECT, "The JSON schema that the answer fits.", example={"type": "object"}),
)
USUAL_EFFORT = "high"
OUTPUT_CONFIG = Object(
    Field("format", FORMAT, "What the answer must be."),
    Field(
        "effort", one_of("low", "medium", USUAL_EFFORT, "xhigh", "max"), "How much it thinks, where `thinking` is on."
    ),
    foreign=foreign_fields.OUTPUT_CONFIG,
)
PROMPT = (
    parameters.MODEL,
    MESSAGES,
    SYSTEM,
    TOOLS,
    TOOL_CHOICE,
    Field(
        "thinking",
        THINKING,
        "Whether the model thinks before it answers, and for how long.",
        example={"type": "disabled"},
    ),
    *SHARED,
    Field("output_config", OUTPUT_CONFIG, "What the answer must be.", example={"effort": "high"}),
    Field("output_format", FORMAT, "The older place of `output_config.format`."),
    *VARIABLE_FIELDS,
)
BODY = Object(
    *PROMPT,
    required("max_tokens", integer(1), "The answer has at most so many tokens.", example=64),
    Field("stop_sequences", array(STOP), "Texts that end the answer.", default=(), example=["\n\n"]),
    *parameters.SAMPLING,
    *parameters.STOPPING,
    *GUIDED,
    parameters.STREAM,
    parameters.CACHE_KEY,
    foreign=foreign_fields.REQUEST,
)  # fmt: skip
COUNT = Object(*PROMPT, foreign=foreign_fields.PROMPT)


def read_message(body: Any, model: ServedModel) -> MessageBuilder:
    """What builds the answer, with the engine's request in it. RequestError for anything that cannot be done."""
    fields = BODY.read(body)
    prompt_ids, tools, content, thinking = _take_prompt(fields, model)
    if len(prompt_ids) >= model.config.context_size:
        message = f"prompt is too long: {len(prompt_ids)} tokens > {model.config.context_size - 1} maximum"
        raise ContextLengthError(message, field="messages")
    grammar = choose_grammar(content, take_guided(fields), tools, model)
    vocab_size, max_tokens = model.config.vocab_size, fields["max_tokens"]
    sampling = parameters.take_sampling(fields, model, None)
    stopping = parameters.take_stopping(fields, vocab_size, max_tokens)
    stopping = replace(stopping, strings=(*fields["stop_sequences"], *stopping.strings))
    streaming, salt = Streaming(is_stream=fields["stream"]), fields["prompt_cache_key"]
    fields.done()
    message_id = f"msg_{uuid.uuid4().hex}"
    request = Request(
        request_id=message_id, prompt_ids=prompt_ids, sampling=sampling, stopping=stopping, grammar=grammar,
        thinking=thinking, cache_salt=salt, visible_ids=visible_ids(tools, model),
    )  # fmt: skip
    parser = answer_parser(tools, model, thinking)
    return MessageBuilder(request=request, model_id=model.model_id, streaming=streaming, parser=parser)


def count_tokens(body: Any, model: ServedModel) -> dict:
    """How many tokens the prompt of a message has."""
    fields = COUNT.read(body)
    prompt_ids, *_ = _take_prompt(fields, model)
    fields.done()
    return {"input_tokens": len(prompt_ids)}


def _take_prompt(
    fields: Fields, model: ServedModel
) -> tuple[tuple[int, ...], ToolUse, Grammar | None, Thinking | None]:
    """The ids of the prompt, the tools, the grammar of the answer's text, and the thought in front of it."""
    messages = to_messages(fields["system"], fields["messages"])
    fields["model"]
    config = fields["output_config"]
    wishes, tools = with_effort(take_wishes(fields), config), take_tools(fields)
    variables = wishes.variables(model, take_variables(fields, model.template))
    prompt_ids = encode(messages, tools, model, variables)
    return prompt_ids, tools, _take_format(fields, config), wishes.thinking(model, prompt_ids, variables)


def with_effort(wishes: Wishes, config: Fields | None) -> Wishes:
    """The wishes with `output_config.effort`, which does not make a model think: `thinking` does that."""
    effort = config["effort"] if config is not None else None
    if config is None or effort is None:
        return wishes
    named = {} if effort == USUAL_EFFORT else {"effort": config.where("effort")}
    return replace(wishes, effort=effort, paths=wishes.paths | named)


def encode(messages: list[dict], tools: ToolUse, model: ServedModel, variables: dict[str, Any]) -> tuple[int, ...]:
    """The prompt of a conversation; the answer continues the text of an assistant's message at its end."""
    is_continued = bool(messages) and messages[-1]["role"] == "assistant"
    if is_continued and not messages[-1]["content"]:  # there is nothing to continue
        messages, is_continued = messages[:-1], False
    if model.template is None:
        raise RequestError("This model has no chat template; use /v1/completions.", field="messages")
    messages = with_history(messages, model.template)
    templating = Templating(is_opened=not is_continued, is_continued=is_continued, variables=variables)
    pieces = templating.render(model.template, messages, list(tools.tools) or None)
    model.check_text(pieces, "messages")
    return tuple(model.tokenizer.encode_pieces(pieces))


def _take_format(fields: Fields, config: Fields | None) -> Grammar | None:
    """The grammar of `output_config.format`, or of the field that it was before."""
    of_config = _read_format(config["format"]) if config is not None else None
    if config is not None:
        config.done()
    return only_one(of_config, _read_format(fields["output_format"]))


def _read_format(fields: Fields | None) -> Grammar | None:
    if fields is None:
        return None
    fields["type"]
    schema = fields["schema"]
    fields.done()
    path = fields.where("schema")
    return json_schema(held_schema(schema, path, must_hold=True), path)
