"""`POST /v1/completions`: prompts as text or token ids in, what follows them out.

Several prompts make prompts times n choices, numbered prompt by prompt. `echo` puts the prompt in front of its
answer, and with `logprobs` the prompt's own beside the answer's; with `max_tokens` 0 it is the whole answer. With
`best_of` more candidates are written than are shown. With `suffix`, which needs a model that was trained for it, the
answer is what is between the prompt and the suffix.
"""

from dataclasses import replace
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import MAX_LOGPROBS, FinishReason, Output, Request
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import ANSWER, CHUNK_SCHEMAS, Streaming, new_id
from verbatim.server.api.completions.choice import CompletionBuilder, CompletionChoice, Prompt
from verbatim.server.api.debug_config import DEBUG_CONFIG, take_debug_config
from verbatim.server.api.fields import Field, Fields, Object, required
from verbatim.server.api.foreign_fields import REQUEST
from verbatim.server.api.guided import GUIDED, only_one, take_guided
from verbatim.server.api.receipts import RECEIPT
from verbatim.server.api.response_format import RESPONSE_FORMAT, take_response_format
from verbatim.server.api.texts import texts
from verbatim.server.api.value_types import BOOLEAN, STRING, Extended, check_token_ids, integer, of_type
from verbatim.server.models.served import ServedModel

OBJECTS = ("text_completion", "text_completion")
DEFAULT_MAX_TOKENS = 16
LOGPROBS = Extended(integer(0, 5), integer(0, MAX_LOGPROBS))  # OpenAI's bound, and the engine's
MAX_PROMPTS = 128
MAX_BEST_OF = 20


BODY = Object(
    required("prompt", texts(MAX_PROMPTS, shows_length=False), "What is to be continued.", "Once upon a time"),
    parameters.MODEL,
    parameters.CHOICES,
    Field(
        "suffix",
        STRING,
        "What follows the answer, for models that fill in the middle; with prompts of text.",
        default="",
    ),
    Field("echo", BOOLEAN, "Put the prompt in front of the answer.", default=False),
    Field("logprobs", LOGPROBS, "Report each token's log-probability, and so many alternatives.", example=2),
    Field(
        "prompt_logprobs",
        integer(0, MAX_LOGPROBS),
        "Report so many alternatives for each token of the prompt.",
        example=2,
    ),
    Field(
        "max_tokens", parameters.max_tokens(0), "The answer has at most so many tokens.", DEFAULT_MAX_TOKENS, example=64
    ),
    *parameters.SAMPLING,
    *parameters.STOPPING,
    *parameters.STREAMING,
    parameters.TOKEN_IDS,
    RECEIPT,
    Field(
        "best_of",
        integer(1, MAX_BEST_OF),
        "Write so many and give the `n` likeliest; as many as `n` if absent.",
        example=4,
    ),
    DEBUG_CONFIG,
    RESPONSE_FORMAT,
    *GUIDED,
    *parameters.ACCOUNT,
    foreign=REQUEST,
)
EXAMPLES = {
    "A text": {"prompt": "Once upon a time", "max_tokens": 32},
    "Several texts": {"prompt": ["One", "Two two"], "max_tokens": 8, "temperature": 0},
    "Scored, not continued": {"prompt": "Hello!", "max_tokens": 0, "echo": True, "logprobs": 2},
}


class CompletionAdapter(Adapter):
    """Completions."""

    name, path, prompt_field = "completions", "/v1/completions", "prompt"
    summary = "Continue a text"
    body, examples = BODY, EXAMPLES
    answer, schemas = ANSWER, CHUNK_SCHEMAS

    def read(self, body: object, model: ServedModel) -> CompletionBuilder:
        """The builder of the answers to all prompts."""
        return read_completion(body, model)


def read_completion(body: Any, model: ServedModel) -> CompletionBuilder:
    """What builds the answer, with the engine's requests in it. RequestError for anything that cannot be done."""
    fields = BODY.read(body)
    echo = fields["echo"]
    suffix = _take_suffix(fields, echo, model)
    prompts = [_read_prompt(item, path, model, suffix) for path, item in fields["prompt"]]
    fields["model"]
    num_choices, num_top = fields["n"], fields["logprobs"]
    num_prompt_top = fields["prompt_logprobs"]
    is_scored = num_prompt_top is not None
    max_tokens = fields.read_as("max_tokens", parameters.max_tokens(0 if echo or is_scored else 1))
    vocab_size = model.config.vocab_size
    sampling = parameters.take_sampling(fields, model, num_top)
    of_prompt = [num_prompt_top, num_top if echo else None]
    scored = max((number for number in of_prompt if number is not None), default=None)
    stopping = parameters.take_stopping(fields, vocab_size, max_tokens if max_tokens or scored is not None else None)
    if suffix and model.infill:
        stopping = replace(stopping, token_ids=(*stopping.token_ids, *model.infill.stop_ids))
    streaming = parameters.take_streaming(fields)
    if is_scored and streaming.is_stream:
        raise RequestError("prompt_logprobs is only allowed when stream is false", field="prompt_logprobs")
    num_candidates = _take_best_of(fields, num_choices, streaming)
    debug, grammar = take_debug_config(fields, streaming), only_one(take_response_format(fields), take_guided(fields))
    salt, wants_ids, wants_receipt = fields["prompt_cache_key"], fields["return_token_ids"], fields["receipt"]
    fields.done()
    answer_id = new_id("cmpl")
    if num_candidates > num_choices and num_top is None:
        sampling = replace(sampling, logprobs=0)  # the best are those with the highest
    common = {"sampling": sampling, "stopping": debug.apply(stopping), "n": num_candidates, "cache_salt": salt}
    common |= {"prompt_logprobs": scored, "grammar": grammar}
    requests = tuple(
        Request(request_id=f"{answer_id}-{i}", prompt_ids=prompt.ids, **common) for i, prompt in enumerate(prompts)
    )
    builder = CompletionBuilder(
        num_choices, model=model, answer_id=answer_id, requests=() if debug.wants_metrics else requests,
        objects=OBJECTS, streaming=streaming, wants_metrics=debug.wants_metrics, wants_ids=wants_ids,
    )  # fmt: skip
    builder.wants_receipt = wants_receipt
    for request, prompt in zip(requests, prompts, strict=True):
        for number in range(num_candidates):
            builder.choices[request.request_id, number] = CompletionChoice(
                len(builder.choices), prompt, is_echoed=echo, num_top=num_top, num_prompt_top=num_prompt_top
            )
    if max_tokens == 0 and scored is None:
        builder.known_outputs = [_nothing(*key) for key in builder.choices]
    return builder


def _nothing(request_id: str, choice: int) -> Output:
    return Output(request_id=request_id, choice=choice, finish_reason=FinishReason.LENGTH)


def _take_best_of(fields: Fields, num_choices: int, streaming: Streaming) -> int:
    """How many candidates to write for the `n` that are shown; which ones these are is known only in the end."""
    best_of = fields["best_of"] or num_choices
    if best_of < num_choices:
        raise RequestError(f"best_of must be at least n ({num_choices}), not {best_of}", field="best_of")
    if best_of > num_choices and streaming.is_stream:
        raise RequestError("best_of above n is only allowed when stream is false", field="best_of")
    return best_of


def _take_suffix(fields: Fields, echo: bool, model: ServedModel) -> str:
    """What follows the answer. RequestError where the model cannot have it, or the answer would not come after it."""
    if not (suffix := fields["suffix"]):
        return ""
    if model.infill is None:
        message = "suffix: this model's tokenizer has none of the tokens that models use to fill in the middle"
        raise UnsupportedError(message, field="suffix")
    if echo:
        raise RequestError("echo and suffix exclude each other", field="echo", code="invalid_parameter_combination")
    return suffix


def _read_prompt(prompt: Any, path: str, model: ServedModel, suffix: str = "") -> Prompt:
    if type(prompt) is str:
        model.check_text((prompt, suffix), path)
    if suffix and model.infill:
        ids = tuple(model.infill.encode(model.tokenizer, of_type(path, prompt, str), suffix))
        model.check_prompt(ids, path)
        return Prompt(prompt, ids, [])
    is_text = type(prompt) is str
    ids = tuple(model.tokenizer.encode_prompt(prompt) if is_text else of_type(path, prompt, list))
    if not ids:
        raise RequestError(f"{path} must have at least one token", field=path, code="empty_prompt")
    model.check_prompt(ids, path)
    if not is_text:
        check_token_ids(path, prompt, model.config.vocab_size)
    tokens = [model.tokenizer.token_bytes(i) for i in ids]
    if not is_text:
        return Prompt(b"".join(tokens).decode(errors="replace"), ids, tokens)
    if model.tokenizer.strips_first_space:
        first = next((i for i, token in enumerate(tokens) if token), 0)
        tokens[first] = tokens[first].removeprefix(b" ")
    return Prompt(prompt, ids, tokens)
