"""`POST /tokenize` and `/detokenize`, in the shapes that users of vLLM know: ids of a prompt or a chat, text of ids.

The ids are those that the same prompt or messages have in a request for an answer. The model may be left out.
"""

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import require_integer
from verbatim.server.api.fields import Fields, of_type
from verbatim.server.api.messages import take_messages
from verbatim.server.api.tools import take_tools
from verbatim.server.models.served import ServedModel


def tokenize(body: object, model: ServedModel) -> dict:
    """`count`, `max_model_len`, `tokens` and, if asked for, `token_strs`."""
    fields = Fields(body)
    fields.string("model")
    if fields.has("prompt") == fields.has("messages"):
        raise RequestError("Give either prompt or messages", field="prompt", code="invalid_parameter_combination")
    ids = _ids_of_prompt(fields, model) if fields.has("prompt") else _ids_of_chat(fields, model)
    wants_texts = fields.typed("return_token_strs", bool, False)
    fields.done()
    texts = [model.tokenizer.token_bytes(i).decode(errors="replace") for i in ids] if wants_texts else None
    return {"count": len(ids), "max_model_len": model.config.context_size, "tokens": ids, "token_strs": texts}


def detokenize(body: object, model: ServedModel) -> dict:
    """`prompt`, the text of `tokens`; control tokens have none."""
    fields = Fields(body)
    fields.string("model")
    ids = of_type("tokens", fields.required("tokens"), list)
    fields.done()
    for index, token_id in enumerate(ids):
        path = f"tokens[{index}]"
        require_integer(path, of_type(path, token_id, int), 0, model.config.vocab_size - 1)
    return {"prompt": model.tokenizer.decode(ids)}


def _ids_of_prompt(fields: Fields, model: ServedModel) -> list[int]:
    """With `add_special_tokens` false, without what a raw prompt starts with."""
    text = of_type("prompt", fields.required("prompt"), str)
    is_begun = fields.typed("add_special_tokens", bool, True)
    return model.tokenizer.encode_prompt(text) if is_begun else model.tokenizer.encode(text)


def _ids_of_chat(fields: Fields, model: ServedModel) -> list[int]:
    """The template opens the assistant's turn and writes the marks, always; other ways are refused."""
    messages, tools = take_messages(fields), take_tools(fields)
    fields.refuse("add_generation_prompt", True)
    fields.refuse("add_special_tokens", False)
    fields.refuse("continue_final_message", False)
    if model.template is None:
        raise RequestError("This model has no chat template; give a prompt.", field="messages")
    return model.tokenizer.encode_pieces(model.template.render(messages, list(tools.tools) or None))
