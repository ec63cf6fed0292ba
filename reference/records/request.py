"""What goes into an engine and what comes out: frozen records that check themselves.

A `Request` is a prompt in token ids with its sampling and stopping parameters; an `Output` is what one step adds
to one choice of it. Everything an answer depends on is in the request (the seed too), so any answer can be
replayed. Text, chat messages and HTTP are not here: they are made into requests elsewhere.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from verbatim.reference.records.errors import ContextLengthError, RequestError
from verbatim.reference.records.grammar_text import Grammar
from verbatim.reference.records.thinking import Thinking

SEED_BITS = 64
MAX_CHOICES = 128
MAX_LOGPROBS = 20
POOLINGS = ("mean", "last")
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
BOUNDS: dict[str, tuple] = {  # both included: OpenAI's, or the widest sensible ones for extensions
    "temperature": (0, 100), "top_p": (0, 1), "min_p": (0, 1), "top_k": (1, None), "repetition_penalty": (0.01, 100),
    "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2), "logit_bias": (-100, 100),
    "seed": (-(1 << 63), (1 << 64) - 1),
}  # fmt: skip


def require(condition: bool, name: str, value, bound: str, code: str = "invalid_value") -> None:
    """Raise a RequestError that names the field, the value and the bound, unless `condition` holds."""
    if not condition:
        raise RequestError(f"{name} must be {bound}, not {value!r}", field=name, code=code)


def require_number(name: str, value, low: float, high: float) -> None:
    """A finite number in [low, high]; NaN fails, since it compares false with both."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    require(is_number, name, value, "a number", "invalid_type")
    require(value >= low, name, value, f"at least {low}", "decimal_below_min_value")
    require(value <= high, name, value, f"at most {high}", "decimal_above_max_value")


def require_integer(name: str, value, low: int, high: int | None = None) -> None:
    """An integer in [low, high]; a bool is not an integer here."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    require(is_integer, name, value, "an integer", "invalid_type")
    require(value >= low, name, value, f"at least {low}", "integer_below_min_value")
    require(high is None or value <= high, name, value, f"at most {high}", "integer_above_max_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """From logits to a token (docs/numerics.md, N10). The defaults change nothing and sample at temperature 1.

    `logprobs` is None for none, or how many alternatives to report beside each chosen token.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = field(default_factory=lambda: secrets.randbits(SEED_BITS))
    logprobs: int | None = None

    def __post_init__(self):
        """Refuse what lies outside BOUNDS."""
        for name in ("temperature", "top_p", "min_p"):
            require_number(name, getattr(self, name), *BOUNDS[name])
        if self.top_k is not None:
            require_integer("top_k", self.top_k, *BOUNDS["top_k"])
        for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
            require_number(name, getattr(self, name), *BOUNDS[name])
        for token_id, bias in self.logit_bias.items():
            require_integer("logit_bias", token_id, 0)
            require_number("logit_bias", bias, *BOUNDS["logit_bias"])
        require_integer("seed", self.seed, *BOUNDS["seed"])
        if self.logprobs is not None:
            require_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingParams:
    """When an answer ends (docs/semantics.md, "Stopping"). `max_tokens` None means until the context is full."""

    max_tokens: int | None = None
    min_tokens: int = 0
    strings: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_string: bool = False

    def __post_init__(self):
        """Refuse empty stop strings and impossible counts."""
        if self.max_tokens is not None:
            require_integer("max_tokens", self.max_tokens, 0)
            require(
                self.min_tokens <= self.max_tokens,
                "min_tokens",
                self.min_tokens,
                f"at most max_tokens ({self.max_tokens})",
            )
        require_integer("min_tokens", self.min_tokens, 0)
        for string in self.strings:
            require(isinstance(string, str) and string != "", "stop", string, "a non-empty string")
        for token_id in self.token_ids:
            require_integer("stop_token_ids", token_id, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt and how to answer it, `n` times. `request_id` is the caller's and must be new to the engine.

    `grammar` bounds what may be generated; with `thinking` it does so behind the thought. The prefix cache keeps
    requests with different `cache_salt` apart, and never evicts what a pinned one computed. `visible_ids` are control
    tokens whose name is part of the answer's text. `prompt_logprobs` is how many alternatives to report beside each
    token of the prompt, None for nothing of the kind; with it `max_tokens` may be 0. With `pooling` nothing is
    generated: the answer is a vector (pooling.py). After `timeout` seconds the request is given up. `adapter` is the
    key of the LoRA adapter that answers, "" for the model itself. Requests of different `owner`s take turns.
    `draft_answers` are token ids that the choices are said to have: they are verified as draft tokens are, and change
    no answer.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stopping: StoppingParams = field(default_factory=StoppingParams)
    n: int = 1
    cache_salt: str = ""
    is_pinned: bool = False
    grammar: Grammar | None = None
    thinking: Thinking | None = None
    visible_ids: tuple[int, ...] = ()
    prompt_logprobs: int | None = None
    pooling: str | None = None
    timeout: float | None = None
    adapter: str = ""
    owner: str = ""
    draft_answers: tuple[tuple[int, ...], ...] = ()

    @property
    def page_salt(self) -> str:
        """What keeps its pages apart from others': the adapter that computes them, and what the caller says."""
        return f"{self.adapter}/{self.cache_salt}"

    @property
    def needs_guide(self) -> bool:
        """Whether it bounds which tokens may come next."""
        return self.grammar is not None or (self.thinking is not None and self.thinking.budget is not None)

    def __post_init__(self):
        """Refuse an empty prompt, a count of choices outside 1..128, and what asks for nothing."""
        require(len(self.prompt_ids) > 0, "prompt", self.prompt_ids, "at least one token", "empty_prompt")
        require_integer("n", self.n, 1, MAX_CHOICES)
        if self.pooling is not None:
            require(self.pooling in POOLINGS, "pooling", self.pooling, f"one of {', '.join(POOLINGS)}")
            require(self.n == 1, "n", self.n, "1 with pooling")
            require(self.prompt_logprobs is None, "prompt_logprobs", self.prompt_logprobs, "absent with pooling")
        elif self.prompt_logprobs is not None:
            require_integer("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        elif self.stopping.max_tokens is not None:
            require_integer("max_tokens", self.stopping.max_tokens, 1)
        if self.timeout is not None:
            require_number("timeout", self.timeout, 0, MAX_TIMEOUT_SECONDS)


def check_request(request: Request, vocab_size: int, context_size: int) -> None:
    """What can only be checked with the model at hand: the context, the vocabulary."""
    num_prompt = len(request.prompt_ids)
    if num_prompt >= context_size:
        message = f"the prompt has {num_prompt} tokens, but the context holds {context_size} with the answer"
        raise ContextLengthError(message, field="prompt")
    for name, ids in (
        ("prompt", request.prompt_ids),
        ("logit_bias", request.sampling.logit_bias),
        ("stop_token_ids", request.stopping.token_ids),
        ("visible_ids", request.visible_ids),
        *(("draft_answers", ids) for ids in request.draft_answers),
    ):
        for token_id in ids:
            require(0 <= token_id < vocab_size, name, token_id, f"token ids below the vocabulary's size, {vocab_size}")


class FinishReason(StrEnum):
    """Why a choice ended. STOP and LENGTH are OpenAI's words; the others carry a message in `Output.error`."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One token that the model could have said, with its log-probability (natural log, of the raw logits)."""

    token_id: int
    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """The chosen token of one position, and the most probable ones there, best first."""

    chosen: Candidate
    top: tuple[Candidate, ...] = ()


class Output(NamedTuple):
    """What one step adds to one choice of a request. A tuple, since one is made for every token; fields go by name.

    `text` is new text only: deltas joined are the whole answer. `token_ids` are the tokens sampled in this step,
    also those whose text is still held back or was cut. `logprobs` cover the tokens of the returned text, so they
    may come a step late. `prompt_logprobs` are those of the next tokens of the prompt, from its second one on, and
    hold for all choices. `embedding` is the vector of a request with pooling. `token_logprobs` are those of
    `token_ids`, also of tokens without text, where the request sets `logprobs`. The counts are totals so far, of this
    choice.
    """

    request_id: str
    choice: int
    text: str = ""
    token_ids: tuple[int, ...] = ()
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None  # the stop string or stop token id that ended it
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    embedding: tuple[float, ...] = ()
    token_logprobs: tuple[float, ...] = ()


def joined(outputs: list[Output], **counts: Any) -> Output:
    """Several outputs of one choice in one step as one."""
    return outputs[-1]._replace(
        text="".join(output.text for output in outputs),
        token_ids=tuple(token_id for output in outputs for token_id in output.token_ids),
        logprobs=tuple(entry for output in outputs for entry in output.logprobs),
        token_logprobs=tuple(logprob for output in outputs for logprob in output.token_logprobs),
        **counts,
    )
