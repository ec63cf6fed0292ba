"""`POST /tokenize` and `/detokenize`, in the shapes that users of vLLM know: ids of a prompt or a chat, text of ids.

The ids are those that the same prompt or messages have in a request for an answer. The model may be left out.
"""

from dataclasses import replace
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.server.api.fields import Field, Fields, Object, answer, never, required
from verbatim.server.api.foreign_fields import EMBEDDING
from verbatim.server.api.messages import MESSAGES
from verbatim.server.api.templating import FIELDS as TEMPLATING
from verbatim.server.api.templating import take_templating
from verbatim.server.api.tools import TOOL, take_tools, tool_fields
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    MAX_IDS,
    STRING,
    TOKEN_ID,
    ValueType,
    array,
    check_token_ids,
    integer,
    neutral,
)
from verbatim.server.models.served import ServedModel

MODEL = Field("model", STRING, "The id of a model; the main one if absent.", example="verbatim-demo")
WANTS_TEXTS = Field("return_token_strs", BOOLEAN, "Give the text of each token, too.", default=False)
OF_PROMPT = Object(
    MODEL,
    required("prompt", STRING, "The text.", "Hello"),
    Field("add_special_tokens", BOOLEAN, "Begin a prompt as the model wants it.", default=True),
    WANTS_TEXTS,
    foreign=EMBEDDING,
)
OF_CHAT = Object(
    MODEL,
    MESSAGES,
    *tool_fields(TOOL),
    *TEMPLATING,
    Field("add_special_tokens", neutral(False), "Only false with messages."),
    WANTS_TEXTS,
    foreign=EMBEDDING,
)
EITHER: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: declared.fields[name].schema}}
        for name, declared in (("prompt", OF_PROMPT), ("messages", OF_CHAT))
    ]
}
BOTH = (OF_CHAT.fields | OF_PROMPT.fields).values()
TOKENIZE = Object(*(replace(field, is_needed=never) for field in BOTH), rules=EITHER)
DETOKENIZE = Object(MODEL, required("tokens", array(TOKEN_ID, MAX_IDS), "The ids.", [5, 6]), foreign=EMBEDDING)
TEXTS = ValueType(ANYTHING.read, {"anyOf": [array(STRING).schema, {"type": "null"}]})
SCHEMAS = {
    "Tokens": answer(
        required("count", integer(0), "How many ids there are.", 2),
        required("max_model_len", integer(1), "Tokens of an answer with its prompt, at most.", 2048),
        required("tokens", array(TOKEN_ID), "The ids.", [5, 6]),
        required("token_strs", TEXTS, "The text of each, where it was asked for.", ["Hello", "!"]),
    ),
    "Text": answer(required("prompt", STRING, "The text of the ids.", "Hello")),
}
EXAMPLES: dict[str, dict] = {
    "A text": {"prompt": "Hello!", "return_token_strs": True},
    "A chat": {"messages": [{"role": "user", "content": "Hello!"}]},
}


def tokenize(body: Any, model: ServedModel) -> dict:
    """`count`, `max_model_len`, `tokens` and, if asked for, `token_strs`."""
    either = TOKENIZE.read(body)
    either["model"]
    if either.has("prompt") == either.has("messages"):
        raise RequestError("Give either prompt or messages", field="prompt", code="invalid_parameter_combination")
    fields = (OF_PROMPT if either.has("prompt") else OF_CHAT).read(body)
    ids = _ids_of_prompt(fields, model) if either.has("prompt") else _ids_of_chat(fields, model)
    wants_texts = fields["return_token_strs"]
    fields.done()
    texts = [model.tokenizer.token_bytes(i).decode(errors="replace") for i in ids] if wants_texts else None
    return {"count": len(ids), "max_model_len": model.config.context_size, "tokens": ids, "token_strs": texts}


def detokenize(body: Any, model: ServedModel) -> dict:
    """`prompt`, the text of `tokens`; control tokens have none."""
    fields = DETOKENIZE.read(body)
    fields["model"]
    ids = fields["tokens"]
    fields.done()
    check_token_ids("tokens", ids, model.config.vocab_size)
    return {"prompt": model.tokenizer.decode(ids)}


def _ids_of_prompt(fields: Fields, model: ServedModel) -> list[int]:
    """With `add_special_tokens` false, without what a raw prompt starts with."""
    text = fields["prompt"]
    return model.tokenizer.encode_prompt(text) if fields["add_special_tokens"] else model.tokenizer.encode(text)


def _ids_of_chat(fields: Fields, model: ServedModel) -> list[int]:
    """The template writes all marks, so there are no other special tokens."""
    messages, tools = fields["messages"], take_tools(fields)
    templating = take_templating(fields, messages, model.template)
    fields["add_special_tokens"]
    if model.template is None:
        raise RequestError("This model has no chat template; give a prompt.", field="messages")
    return model.tokenizer.encode_pieces(templating.render(model.template, messages, list(tools.tools) or None))
