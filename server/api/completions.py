"""`POST /v1/completions`: prompts as text or token ids in, what follows them out.

Several prompts make prompts times n choices, numbered prompt by prompt. `echo` puts the prompt in front of its
answer, and with `logprobs` the prompt's own beside the answer's; with `max_tokens` 0 it is the whole answer. With
`best_of` more candidates are written than are shown. `suffix` is refused by name.
"""

from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import FinishReason, Output, Request, TokenLogprob, require_integer
from verbatim.server.api import parameters
from verbatim.server.api.answer import Answer, Streaming, new_id
from verbatim.server.api.debug_config import take_debug_config
from verbatim.server.api.fields import Fields, of_type, type_error
from verbatim.server.api.guided import take_guided
from verbatim.server.api.logprobs import CompletionLogprobs, entries_of, prompt_entries
from verbatim.server.models.served import ServedModel

OBJECTS = ("text_completion", "text_completion")
DEFAULT_MAX_TOKENS = 16
MAX_LOGPROBS = 5
MAX_PROMPTS = 128
MAX_BEST_OF = 20


def read_completion(body: object, model: ServedModel) -> Answer:
    """The answer to be filled, with the engine's requests in it. RequestError for anything that cannot be done."""
    fields = Fields(body)
    prompts = _take_prompts(fields, model)
    parameters.take_model(fields)
    num_choices, echo = parameters.take_choices(fields), fields.typed("echo", bool, False)
    num_top = fields.integer("logprobs", 0, MAX_LOGPROBS)
    fields.refuse("suffix", "")
    max_tokens = fields.integer("max_tokens", 0 if echo else 1, default=DEFAULT_MAX_TOKENS)
    vocab_size = model.config.vocab_size
    sampling = parameters.take_sampling(fields, vocab_size, num_top)
    scores_prompt = echo and num_top is not None
    stopping = parameters.take_stopping(fields, vocab_size, max_tokens if max_tokens or scores_prompt else None)
    streaming = parameters.take_streaming(fields)
    num_candidates = _take_best_of(fields, num_choices, streaming)
    debug, grammar = take_debug_config(fields, streaming), take_guided(fields)
    parameters.take_harmless(fields)
    salt = parameters.take_cache_salt(fields)
    fields.done()
    answer_id = new_id("cmpl")
    if num_candidates > num_choices and num_top is None:
        sampling = replace(sampling, logprobs=0)  # the best are those with the highest
    common = {"sampling": sampling, "stopping": debug.apply(stopping), "n": num_candidates, "cache_salt": salt}
    common |= {"prompt_logprobs": num_top if scores_prompt else None, "grammar": grammar}
    requests = tuple(
        Request(request_id=f"{answer_id}-{i}", prompt_ids=prompt.ids, **common) for i, prompt in enumerate(prompts)
    )
    answer = CompletionAnswer(
        num_choices, model=model, answer_id=answer_id, requests=() if debug.wants_metrics else requests,
        objects=OBJECTS, streaming=streaming, wants_metrics=debug.wants_metrics,
    )  # fmt: skip
    for request, prompt in zip(requests, prompts, strict=True):
        for number in range(num_candidates):
            choice = CompletionChoice(len(answer.choices), prompt if echo else None, num_top is not None)
            answer.choices[request.request_id, number] = choice
    if max_tokens == 0 and not scores_prompt:
        answer.known_outputs = [_nothing(*key) for key in answer.choices]
    return answer


def _nothing(request_id: str, choice: int) -> Output:
    return Output(request_id=request_id, choice=choice, finish_reason=FinishReason.LENGTH)


def _take_best_of(fields: Fields, num_choices: int, streaming: Streaming) -> int:
    """How many candidates to write for the `n` that are shown; which ones these are is known only in the end."""
    best_of = fields.integer("best_of", 1, MAX_BEST_OF, default=num_choices)
    if best_of < num_choices:
        raise RequestError(f"best_of must be at least n ({num_choices}), not {best_of}", field="best_of")
    if best_of > num_choices and streaming.is_stream:
        raise RequestError("best_of above n is only allowed when stream is false", field="best_of")
    return best_of


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text, as ids and as their bytes; `scores` fills with its log-probabilities from the second id on."""

    text: str
    ids: tuple[int, ...]
    tokens: list[bytes]
    scores: list[TokenLogprob] = field(default_factory=list)


def _take_prompts(fields: Fields, model: ServedModel) -> list[Prompt]:
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


def _read_prompt(prompt, path: str, model: ServedModel) -> Prompt:
    if type(prompt) is str:
        ids = tuple(model.tokenizer.encode_prompt(prompt))
        if not ids:
            raise RequestError(f"{path} must have at least one token", field=path, code="empty_prompt")
        model.check_prompt(ids, path)
        tokens = [model.tokenizer.token_bytes(i) for i in ids]
        if model.tokenizer.strips_first_space:
            first = next((i for i, token in enumerate(tokens) if token), 0)
            tokens[first] = tokens[first].removeprefix(b" ")
        return Prompt(prompt, ids, tokens)
    ids = of_type(path, prompt, list)
    if not ids:
        raise RequestError(f"{path} must have at least one token", field=path, code="empty_prompt")
    model.check_prompt(ids, path)
    for index, token_id in enumerate(ids):
        require_integer(f"{path}[{index}]", of_type(f"{path}[{index}]", token_id, int), 0, model.config.vocab_size - 1)
    tokens = [model.tokenizer.token_bytes(i) for i in ids]
    return Prompt(b"".join(tokens).decode(errors="replace"), tuple(ids), tokens)


class CompletionAnswer(Answer):
    """Answers to every prompt, or of more candidates the `num_shown` best ones."""

    def __init__(self, num_shown: int, **settings):
        super().__init__(**settings)
        self._num_shown = num_shown

    def chosen(self) -> list["CompletionChoice"]:
        """Prompt by prompt the best, best first where there were more; all in their order where there were not."""
        shown = []
        for _, group in groupby(self.choices.items(), key=lambda item: item[0][0]):
            candidates = [choice for _, choice in group]
            if len(candidates) > self._num_shown:
                candidates.sort(key=lambda choice: -choice.mean_logprob)  # stable: of equals the first
            shown += candidates[: self._num_shown]
        for index, choice in enumerate(shown):
            choice.index = index
        return shown


class CompletionChoice:
    """One continuation, built from outputs; gives each part as a streamed `choices` item.

    `echo` is the prompt that goes in front of it, one record for all choices of that prompt.
    """

    def __init__(self, index: int, echo: Prompt | None, wants_logprobs: bool):
        self.index = index
        self.echo = echo
        self.texts: list[str] = []
        self.logprobs = CompletionLogprobs() if wants_logprobs else None
        self.finish_reason: str | None = None
        self._scores: list[float] = []

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of the text's tokens, where they were scored; a text of none comes last."""
        return sum(self._scores) / len(self._scores) if self._scores else -inf

    def take(self, output: Output) -> list[dict]:
        """One item with the new text, or none if there is nothing to say."""
        if self.echo is not None:
            self.echo.scores.extend(output.prompt_logprobs)
        self._scores += [entry.chosen.logprob for entry in output.logprobs]
        if not (output.text or output.logprobs or output.finish_reason):
            return []
        text, entries = output.text, entries_of(output.logprobs)
        if self.echo is not None and not self.texts:
            text, entries = self.echo.text + text, prompt_entries(self.echo.tokens, self.echo.scores) + entries
        self.texts.append(text)
        self.finish_reason = output.finish_reason and str(output.finish_reason)
        return [self._item(text, self.logprobs.add(entries) if self.logprobs and entries else None)]

    def whole(self) -> dict:
        """The finished choice."""
        return self._item("".join(self.texts), self.logprobs and self.logprobs.arrays)

    def _item(self, text: str, logprobs: dict | None) -> dict:
        return {"index": self.index, "text": text, "logprobs": logprobs, "finish_reason": self.finish_reason}
