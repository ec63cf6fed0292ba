"""A receipt: what was asked and answered, in JSON that anybody can check (docs/receipts.md).

Everything stands under one digest, and under a signature where the server has a key. An answer's log-probabilities are
its float32 bits, eight hexadecimal digits a token.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from verbatim.reference.receipts import requests
from verbatim.reference.receipts.canonical import digest_of
from verbatim.reference.receipts.json_values import Values, fail
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import MAX_CHOICES, FinishReason, Request

FORMAT = "verbatim-receipt-1"
DIGEST, SIGNATURE = "digest", "signature"
BIT_DIGITS = 8
MAX_REQUESTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine has loaded, and what beside a request its answers depend on; the engine itself says so.

    `files` is the digest of the model's files. The windows are options that differ from the model's own, or None.
    `context_size` is how many tokens an answer has with its prompt, at most. `backend`, `device` and `version` change
    no bit.
    """

    backend: str
    device: str
    version: str
    fingerprint: str
    files: str
    context_size: int
    quantization: str | None = None
    kv_cache_dtype: str = "float32"
    context_window_size: int | None = None
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None

    @property
    def limits(self) -> dict[str, Any]:
        """The settings that change bits, by their names in EngineLimits."""
        names = {limit.name for limit in fields(EngineLimits)}
        return {row.name: getattr(self, row.name) for row in fields(self) if row.name in names}

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for the same bits: the files, and how they are read."""
        return self.limits | {"files": self.files, "quantization": self.quantization}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One choice of a request: its tokens, the bits of their log-probabilities, and how it ended."""

    request: int
    choice: int
    token_ids: tuple[int, ...]
    logprob_bits: str
    finish_reason: str
    stop_reason: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """`body` is the request as it came over HTTP, or its digest. `created` is in Unix seconds."""

    answer_id: str
    model: str
    created: int
    body: Any
    engine: EngineFacts
    requests: tuple[Request, ...]
    answers: tuple[Answer, ...]
    signature: dict[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Everything but digest and signature."""
        size = self.engine.context_size
        return {
            "format": FORMAT,
            "id": self.answer_id,
            "model": self.model,
            "created": self.created,
            "body": self.body,
            "engine": asdict(self.engine),
            "requests": [requests.to_json(request, size) for request in self.requests],
            "answers": [asdict(answer) | {"token_ids": list(answer.token_ids)} for answer in self.answers],
        }


def to_json(receipt: Receipt) -> dict[str, Any]:
    """The receipt with its digest, without a signature."""
    content = receipt.content()
    return content | {DIGEST: digest_of(content)}


def from_json(value: Any, path: str = "receipt") -> Receipt:
    """The receipt in a JSON value; RequestError names the field that is wrong, or says that it was changed."""
    values = Values(value, path)
    if values.take("format", str) != FORMAT:
        raise RequestError(f"{path}.format must be {FORMAT}", field=f"{path}.format", code="invalid_receipt")
    digest, signature = values.take(DIGEST, str), values.take_any(SIGNATURE)
    wanted = digest_of({name: item for name, item in value.items() if name not in (DIGEST, SIGNATURE)})
    if digest != wanted:
        message = f"{path}.digest is {digest[:16]}, that of its content {wanted[:16]}: it was changed after it was made"
        raise RequestError(message, field=f"{path}.digest", code="invalid_receipt")
    receipt = Receipt(
        answer_id=values.take("id", str),
        model=values.take("model", str),
        created=values.take("created", int),
        body=values.take_any("body"),
        engine=_engine(values),
        requests=_requests(values),
        answers=tuple(_answer(item, where) for item, where in values.take_list("answers")),
        signature=_signature(signature, f"{path}.{SIGNATURE}"),
    )
    values.done()
    _check_answers(receipt, path)
    return receipt


def bits_of(logprobs: Sequence[float]) -> str:
    """Log-probabilities, which are float32 numbers, as their bits in hexadecimal."""
    return "".join(f"{bits:08x}" for bits in np.asarray(logprobs, np.float32).view(np.uint32).tolist())


def logprobs_of(bits: str) -> np.ndarray:
    """The same bits as float32 numbers (tokens,)."""
    return np.frombuffer(bytes.fromhex(bits), ">u4").astype(np.uint32).view(np.float32)


def _engine(values: Values) -> EngineFacts:
    engine = Values(values.take("engine", dict), values.where("engine"))
    found: dict[str, Any] = {}
    for row in fields(EngineFacts):
        type_ = int if row.name.endswith("_size") else str
        is_optional = row.default is None
        found[row.name] = engine.take_or_none(row.name, type_) if is_optional else engine.take(row.name, type_)
    engine.done()
    return EngineFacts(**found)


def _requests(values: Values) -> tuple[Request, ...]:
    items = values.take_list("requests")
    if not 1 <= len(items) <= MAX_REQUESTS:
        raise fail(values.where("requests"), f"1 to {MAX_REQUESTS} requests", len(items))
    return tuple(requests.from_json(item, path, f"receipt-{index}") for index, (item, path) in enumerate(items))


def _answer(item: Any, path: str) -> Answer:
    answer = Values(item, path)
    stop_reason = answer.take_any("stop_reason")
    if type(stop_reason) not in (str, int, type(None)):
        raise fail(f"{path}.stop_reason", "a string, a token id or null", stop_reason)
    found = Answer(
        request=answer.take("request", int),
        choice=answer.take("choice", int),
        token_ids=answer.take_ids("token_ids"),
        logprob_bits=answer.take("logprob_bits", str),
        finish_reason=answer.take("finish_reason", str),
        stop_reason=stop_reason,
    )
    answer.done()
    if found.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise fail(f"{path}.finish_reason", "stop or length", found.finish_reason)
    if len(found.logprob_bits) != BIT_DIGITS * len(found.token_ids) or set(found.logprob_bits) - set(
        "0123456789abcdef"
    ):
        expected = f"{BIT_DIGITS} hexadecimal digits for each of {len(found.token_ids)} tokens"
        raise fail(f"{path}.logprob_bits", expected, found.logprob_bits)
    return found


def _signature(value: Any, path: str) -> dict[str, str]:
    if value is None:
        return {}
    signature = Values(value, path)
    found = {name: signature.take(name, str) for name in ("algorithm", "public_key", "value")}
    signature.done()
    return found


def _check_answers(receipt: Receipt, path: str) -> None:
    """Raise RequestError unless there is one answer for each choice of each request, in their order."""
    wanted = [
        (index, choice) for index, each in enumerate(receipt.requests) for choice in range(min(each.n, MAX_CHOICES))
    ]
    if [(answer.request, answer.choice) for answer in receipt.answers] != wanted:
        message = f"{path}.answers must be one for each choice of each request, in their order: {len(wanted)} in all"
        raise RequestError(message, field=f"{path}.answers", code="invalid_receipt")
