"""Receipts of answers: `"receipt": true` in a body, or the header `x-verbatim-receipt`, for every API that makes text.

The receipt is beside the answer, as its field `receipt`; in a stream it is in the last event that has JSON. It holds
the request's digest, or with "full" the request itself.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from verbatim.reference.receipts.canonical import digest_of
from verbatim.reference.receipts.comparison import Key, Recomputed
from verbatim.reference.receipts.receipt import Answer, Receipt, bits_of, to_json
from verbatim.reference.receipts.signing import Signer
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import Output
from verbatim.reference.records.request import Request as EngineRequest
from verbatim.server.api.builder import Builder
from verbatim.server.api.fields import Field
from verbatim.server.api.value_types import BOOLEAN, ValueType, one_of
from verbatim.server.errors import EngineUnavailableError
from verbatim.server.models.served import ServedModel

NAME, HEADER = "receipt", "x-verbatim-receipt"
NONE, DIGEST, FULL = "", "digest", "full"
OF_HEADER = {"true": DIGEST, "full": FULL, "false": NONE}


def _read(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return DIGEST if value else NONE
    return FULL if one_of(FULL).read(value, path) else NONE


RECEIPT = Field(
    NAME,
    ValueType(_read, {"anyOf": [BOOLEAN.schema, one_of(FULL).schema]}),
    "Give a receipt of the answer, which anybody can recompute; `full` holds this request as it is.",
    default=NONE,
    example=True,
)


def wanted(headers: Mapping[str, str]) -> str:
    """Which receipt the header names; RequestError for a value that it cannot have."""
    text = headers.get(HEADER, "false").strip().lower()
    if text not in OF_HEADER:
        raise RequestError(f"{HEADER} must be one of {', '.join(OF_HEADER)}", field=HEADER, code="invalid_value")
    return OF_HEADER[text]


class ReceiptBuilder(Builder):
    """Builds an answer as `inner` does, and its receipt: of what the engine gives, whatever an API makes of it."""

    def __init__(self, inner: Builder, body: Any, model: ServedModel, *, has_body: bool, sign: Signer):
        if not inner.requests or inner.known_outputs or not all(map(_generates, inner.requests)):
            raise RequestError("receipt is for answers that are generated", field=NAME)
        self.streaming, self.wants_metrics = inner.streaming, inner.wants_metrics
        self.inner, self.model, self.sign = inner, model, sign
        self._asked = tuple(inner.requests)
        self._shows_logprobs = {each.request_id: each.sampling.logprobs is not None for each in self._asked}
        self.requests = tuple(map(_with_logprobs, self._asked))
        self._body = {"request": body} if has_body else {"request_sha256": digest_of(body)}
        self._made: dict[Key, Recomputed] = {
            (each.request_id, choice): Recomputed() for each in self._asked for choice in range(each.n)
        }
        self._is_given = False

    def take(self, output: Output) -> list[dict]:
        """The events that this output adds; if it is the last, the last of them has the receipt."""
        self._made[output.request_id, output.choice].take(output)
        shown = output if self._shows_logprobs[output.request_id] else output._replace(logprobs=())
        events = self.inner.take(shown)
        is_last = output.finish_reason is not None and all(made.finish_reason for made in self._made.values())
        if self.streaming.is_stream and is_last and events and not self.streaming.wants_usage:
            self._is_given = True
            events[-1] = events[-1] | {NAME: self.receipt()}
        return events

    def whole(self) -> dict:
        """The whole answer with its receipt."""
        return self.inner.whole() | {NAME: self.receipt()}

    def last(self, stats: dict | None) -> list[dict]:
        """The events that end a stream; the last of them has the receipt if it was not given before."""
        events = self.inner.last(stats)
        if self._is_given:
            return events
        return [*events[:-1], (events[-1] if events else {}) | {NAME: self.receipt()}]

    def fail(self, error: BaseException) -> list[dict]:
        """There is no receipt of an answer that has failed."""
        return self.inner.fail(error)

    def receipt(self) -> dict[str, Any]:
        """The receipt of all choices, signed if the server has a key."""
        facts = self.model.loaded.facts
        if facts is None:  # the engine has gone in this very moment
            raise EngineUnavailableError("The engine died; it is being restarted.")
        receipt = Receipt(
            answer_id=self._asked[0].request_id,
            model=self.model.model_id,
            created=int(time.time()),
            body=self._body,
            engine=replace(facts, fingerprint=self.model.fingerprint),
            requests=tuple(replace(each, adapter=self.model.adapter) for each in self._asked),
            answers=tuple(self._answers()),
        )
        return self.sign(to_json(receipt))

    def _answers(self) -> Sequence[Answer]:
        numbers = {each.request_id: index for index, each in enumerate(self._asked)}
        return [
            Answer(
                request=numbers[request_id],
                choice=choice,
                token_ids=tuple(made.token_ids),
                logprob_bits=bits_of(made.logprobs),
                finish_reason=made.finish_reason or "",
                stop_reason=made.stop_reason,
            )
            for (request_id, choice), made in self._made.items()
        ]


def _generates(request: EngineRequest) -> bool:
    return request.pooling is None and request.stopping.max_tokens != 0


def _with_logprobs(request: EngineRequest) -> EngineRequest:
    """The request with the log-probability of each token, which changes none of them."""
    if request.sampling.logprobs is not None:
        return request
    return replace(request, sampling=replace(request.sampling, logprobs=0))
