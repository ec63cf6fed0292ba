"""`POST /v1/completions`: prompts as text or token ids in, what follows them out.

Several prompts make prompts times n choices, numbered prompt by prompt. `echo` puts the prompt in front of its
answer; with `max_tokens` 0 it is the whole answer, and nothing runs. Refused by name: `suffix`, `echo` together
with `logprobs`, and `best_of` other than `n`.
"""

from reference.errors import RequestError, UnsupportedError
from reference.request import FinishReason, Output, Request, require_integer
from server.protocol import parameters
from server.protocol.answer import Answer, new_id
from server.protocol.fields import Fields, of_type, type_error
from server.protocol.logprobs import CompletionLogprobs
from server.served import ServedModel

OBJECTS = ("text_completion", "text_completion")
DEFAULT_MAX_TOKENS = 16
MAX_LOGPROBS = 5
MAX_PROMPTS = 128
MAX_BEST_OF = 20


def read_completion(body: object, model: ServedModel) -> Answer:
    """The answer to be filled, with the engine's requests in it. RequestError for anything that cannot be done."""
    fields = Fields(body)
    prompts = _take_prompts(fields, model)
    model.check_name(parameters.take_model(fields))
    num_choices, echo = parameters.take_choices(fields), fields.typed("echo", bool, False)
    num_top = fields.integer("logprobs", 0, MAX_LOGPROBS)
    _refuse_combinations(fields, num_choices, echo, num_top)
    max_tokens = fields.integer("max_tokens", 0 if echo else 1, default=DEFAULT_MAX_TOKENS)
    vocab_size = model.config.vocab_size
    sampling = parameters.take_sampling(fields, vocab_size, num_top)
    stopping = parameters.take_stopping(fields, vocab_size, max_tokens or None)
    streaming = parameters.take_streaming(fields)
    parameters.take_harmless(fields)
    salt = parameters.take_cache_salt(fields)
    fields.done()
    answer_id = new_id("cmpl")
    common = {"sampling": sampling, "stopping": stopping, "n": num_choices, "cache_salt": salt}
    requests = tuple(
        Request(request_id=f"{answer_id}-{i}", prompt_ids=ids, **common) for i, (_, ids) in enumerate(prompts)
    )
    answer = Answer(model=model, answer_id=answer_id, requests=requests, objects=OBJECTS, streaming=streaming)
    for request, (text, _) in zip(requests, prompts, strict=True):
        for number in range(num_choices):
            choice = CompletionChoice(len(answer.choices), text if echo else "", num_top is not None)
            answer.choices[request.request_id, number] = choice
    if max_tokens == 0:
        answer.known_outputs = [_nothing(*key) for key in answer.choices]
    return answer


def _nothing(request_id: str, choice: int) -> Output:
    return Output(request_id=request_id, choice=choice, finish_reason=FinishReason.LENGTH)


def _refuse_combinations(fields: Fields, num_choices: int, echo: bool, num_top: int | None) -> None:
    if echo and num_top is not None:
        raise UnsupportedError("logprobs together with echo is not supported by this server", field="logprobs")
    best_of = fields.integer("best_of", 1, MAX_BEST_OF, default=num_choices)
    if best_of < num_choices:
        raise RequestError(f"best_of must be at least n ({num_choices}), not {best_of}", field="best_of")
    if best_of != num_choices:
        raise UnsupportedError("best_of other than n is not supported by this server", field="best_of")
    fields.refuse("suffix", "")


def _take_prompts(fields: Fields, model: ServedModel) -> list[tuple[str, tuple[int, ...]]]:
    prompt = fields.required("prompt")
    if type(prompt) is str:
        return [_read_prompt(prompt, "prompt", model)]
    if type(prompt) is not list:
        raise type_error("prompt", prompt, "a string, or an array of strings, token ids or arrays of token ids")
    if not prompt or (len(prompt) > MAX_PROMPTS and type(prompt[0]) is not int):
        raise RequestError(f"prompt must have 1 to {MAX_PROMPTS} items", field="prompt", code="invalid_value")
    if type(prompt[0]) is int:
        return [_read_prompt(prompt, "prompt", model)]
    return [_read_prompt(item, f"prompt[{index}]", model) for index, item in enumerate(prompt)]


def _read_prompt(prompt, path: str, model: ServedModel) -> tuple[str, tuple[int, ...]]:
    if type(prompt) is str:
        ids = tuple(model.tokenizer.encode_prompt(prompt))
        if not ids:
            raise RequestError(f"{path} must have at least one token", field=path, code="empty_prompt")
        model.check_prompt(ids, path)
        return prompt, ids
    ids = of_type(path, prompt, list)
    if not ids:
        raise RequestError(f"{path} must have at least one token", field=path, code="empty_prompt")
    model.check_prompt(ids, path)
    for index, token_id in enumerate(ids):
        require_integer(f"{path}[{index}]", of_type(f"{path}[{index}]", token_id, int), 0, model.config.vocab_size - 1)
    return b"".join(map(model.tokenizer.token_bytes, ids)).decode(errors="replace"), tuple(ids)


class CompletionChoice:
    """One continuation, built from outputs; gives each part as a streamed `choices` item."""

    def __init__(self, index: int, echo: str, wants_logprobs: bool):
        self.index = index
        self.echo = echo
        self.texts: list[str] = []
        self.logprobs = CompletionLogprobs() if wants_logprobs else None
        self.finish_reason: str | None = None

    def take(self, output: Output) -> list[dict]:
        """One item with the new text, or none if there is nothing to say."""
        text = output.text if self.texts else self.echo + output.text
        has_logprobs = self.logprobs is not None and output.logprobs
        if not (text or has_logprobs or output.finish_reason):
            return []
        self.texts.append(text)
        self.finish_reason = output.finish_reason and str(output.finish_reason)
        return [self._item(text, self.logprobs.add(output.logprobs) if has_logprobs else None)]

    def whole(self) -> dict:
        """The finished choice."""
        return self._item("".join(self.texts), self.logprobs and self.logprobs.arrays)

    def _item(self, text: str, logprobs: dict | None) -> dict:
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}
