"""One HTTP request under way: a builder takes the engine's outputs and gives events, or the whole answer.

A stream and a whole answer are folded from the same outputs by the same choices, so they cannot disagree.
The form of a choice is the API's business; the envelope and usage of OpenAI's chunks are here.
"""

import json
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from verbatim.reference.records.request import FinishReason, Output, Request, TokenLogprob
from verbatim.reference.text.thoughts import ThoughtCounter
from verbatim.server.api.fields import answer, required
from verbatim.server.api.token_ids import TokenIds
from verbatim.server.api.value_types import ANYTHING, OBJECT, STRING, ValueType, integer, named, one_of
from verbatim.server.http.error_answers import describe
from verbatim.server.models.served import ServedModel

EXAMPLE = {
    "index": 0,
    "message": {"role": "assistant", "content": "Hello!"},
    "finish_reason": "stop",
    "logprobs": None,
}
FINGERPRINT = "verbatim-0.1.0-0123456789abcdef"
CHUNK_BYTES = 32  # padded chunks are some multiple of it longer than an empty one
ANSWER = "Answer"
OF_CHOICE = OBJECT.schema | {"required": ["index", "finish_reason", "logprobs"]}
CHOICES = ValueType(ANYTHING.read, {"type": "array", "items": OF_CHOICE})
CHUNK_SCHEMAS: dict[str, dict] = {
    "Usage": answer(
        required("prompt_tokens", integer(0), "Tokens of the prompt.", 21),
        required("completion_tokens", integer(0), "Tokens of all answers.", 17),
        required("total_tokens", integer(0), "The sum of both.", 38),
    ),
    ANSWER: answer(
        required("id", STRING, "The answer's id.", "chatcmpl-0123456789abcdef"),
        required("object", one_of("chat.completion", "text_completion"), "The type of the answer."),
        required("created", integer(0), "When it was made, in seconds since 1970.", 1764460800),
        required("model", STRING, "The id of the model.", "verbatim-demo"),
        required("choices", CHOICES, "The answers.", [EXAMPLE]),
        required("usage", named("Usage"), "How many tokens it took."),
        required("system_fingerprint", STRING, "What determines the bits: version, weights, settings.", FINGERPRINT),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """Whether to stream, whether the stream ends with a chunk of usage, or all chunks have the usage so far, and
    whether the size of chunks is hidden.
    """

    is_stream: bool = False
    wants_usage: bool = False
    is_usage_continuous: bool = False
    is_padded: bool = False


class Builder:
    """What routes ask of every builder: `requests` for the engine, and what their outputs become.

    `known_outputs` are there instead of the engine's where nothing needs to be computed. One that `wants_metrics`
    gives the engine's counts and nothing else.
    """

    requests: Sequence[Request] = ()
    known_outputs: Sequence[Output] = ()
    streaming = Streaming()
    wants_metrics = False
    wants_receipt = ""  # "digest" or "full", with which the receipt shows the request (receipts.py)

    def waves(self, max_queue: int) -> Iterable[Sequence[Request]]:
        """The requests, as many at a time as the engine should have to queue where it queues `max_queue` in all."""
        return [self.requests] if self.requests else []

    def take(self, output: Output) -> list[dict]:
        """The events that this output adds; must be called for streamed and whole answers alike."""
        raise NotImplementedError

    def whole(self) -> dict:
        """The whole answer, once every choice has finished."""
        raise NotImplementedError

    def last(self, stats: dict | None) -> list[dict]:
        """The events that end a stream beyond those of its outputs; `stats` are the engine's counts, if wanted."""
        return []

    def fail(self, error: BaseException) -> list[dict]:
        """The events that end a stream in which something went wrong, begun or not."""
        return [describe(error)[1]]


class Choice(Protocol):
    """One of the answers."""

    def take(self, output: Output) -> list[dict]:
        """What the output adds, as the `choices` items of zero or more chunks."""

    def whole(self) -> dict:
        """The finished choice."""

    def empty(self) -> dict:
        """An item that adds nothing."""


C = TypeVar("C", bound=Choice)


class ChunkBuilder(Builder, Generic[C]):
    """OpenAI's chunks. `choices` maps (request id, choice) to the choice, in the order of `index`."""

    is_prompt_in_choices: ClassVar[bool] = False  # where the ids of a prompt stand, if they are wanted

    def __init__(
        self,
        *,
        model: ServedModel,
        answer_id: str,
        requests: tuple[Request, ...],
        objects: tuple[str, str],
        streaming: Streaming,
        wants_metrics: bool = False,
        wants_ids: bool = False,
    ):
        self.requests = requests
        self.choices: dict[tuple[str, int], C] = {}
        self.whole_object, self.chunk_object = objects
        self.streaming, self.wants_metrics = streaming, wants_metrics
        self._envelope = {"id": answer_id, "created": int(time.time()), "model": model.model_id}
        self._envelope |= {"system_fingerprint": model.fingerprint, "object": self.chunk_object}
        self._num_prompt = sum(len(request.prompt_ids) for request in requests)
        self._ids = TokenIds(requests, is_prompt_in_choices=self.is_prompt_in_choices) if wants_ids else None
        self._latest: dict[tuple[str, int], Output] = {}  # of each choice: its counts are totals so far
        self.thoughts: dict[tuple[str, int], ThoughtCounter] = {}  # of the choices of a model that thinks

    def take(self, output: Output) -> list[dict]:
        """The chunks that this output adds."""
        key = output[:2]  # request id and choice
        is_first = not self._latest
        self._latest[key] = output
        if output.prompt_logprobs:
            self.add_prompt_logprobs(output.prompt_logprobs)
        if self.thoughts:
            self.thoughts[key].push(output.token_ids)
        items = self.choices[key].take(output)
        if self._ids is None:
            return [self.chunk([item]) for item in items]
        return self._with_ids(self._ids, self.choices[key], output, items, is_first=is_first)

    def add_prompt_logprobs(self, entries: Sequence[TokenLogprob]) -> None:
        """What the builder does with those of the prompt's tokens, if it shows them."""

    def _with_ids(
        self, token_ids: TokenIds, choice: C, output: Output, items: list[dict], *, is_first: bool
    ) -> list[dict]:
        if not (items or output.token_ids):
            return []
        items = items or [choice.empty()]
        token_ids.add(choice, output, items[-1])
        first, *others = [self.chunk([item]) for item in items]
        return [first | (token_ids.of_answer() if is_first else {}), *others]

    def chunk(self, choices: list[dict]) -> dict:
        """One chunk of a stream."""
        chunk = {**self._envelope, "choices": choices}
        if self.streaming.wants_usage:
            chunk["usage"] = self.usage() if self.streaming.is_usage_continuous else None
        if self.streaming.is_padded:
            chunk["obfuscation"] = padding(choices)
        return chunk

    def last(self, stats: dict | None) -> list[dict]:
        """The chunk of usage, if the stream was asked for it."""
        if not self.streaming.wants_usage:
            return []
        return [self.chunk([]) | {"usage": self.usage() | ({"extra": stats} if self.wants_metrics else {})}]

    def whole(self) -> dict:
        """The whole answer."""
        chosen = self.chosen()
        choices = [choice.whole() for choice in chosen]
        whole = self._envelope | {"object": self.whole_object, "choices": choices, "usage": self.usage()}
        if self._ids is None:
            return whole
        for choice, item in zip(chosen, choices, strict=True):
            item |= self._ids.of_choice(choice)
        return whole | self._ids.of_answer()

    def chosen(self) -> Sequence[C]:
        """The choices that are shown."""
        return list(self.choices.values())

    def usage(self) -> dict:
        """Tokens: the prompt counted once, the completions summed over choices."""
        outputs = self._latest.values()
        num_completion = sum(output.num_completion_tokens for output in outputs)
        num_cached = sum(output.num_cached_tokens for output in outputs if output.choice == 0)  # they share one prefill
        num_accepted = sum(output.num_accepted_tokens for output in outputs)
        num_drafted = sum(output.num_drafted_tokens for output in outputs)
        return {
            "prompt_tokens": self._num_prompt,
            "completion_tokens": num_completion,
            "total_tokens": self._num_prompt + num_completion,
            "prompt_tokens_details": {"cached_tokens": num_cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": sum(counter.num_tokens for counter in self.thoughts.values()),
                "audio_tokens": 0,
                "accepted_prediction_tokens": num_accepted,
                "rejected_prediction_tokens": num_drafted - num_accepted,
            },
        }


def is_cut(output: Output) -> bool:
    """Whether a choice ended at a bound or a stop string of the request, and not where the model ended it."""
    return output.finish_reason is FinishReason.LENGTH or isinstance(output.stop_reason, str)


def padding(value: object) -> str:
    """Random characters that even out the size of a chunk: its length must not reveal its text."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    return secrets.token_hex(CHUNK_BYTES)[: -size % CHUNK_BYTES]


def new_id(prefix: str) -> str:
    """An id that no other answer has."""
    return f"{prefix}-{uuid.uuid4().hex}"
