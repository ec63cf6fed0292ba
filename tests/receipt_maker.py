"""Makes receipts of what an engine answers in this process, and changes them as an accident or a cheat would."""

import copy
import json

from verbatim.reference.receipts.canonical import digest_of
from verbatim.reference.receipts.comparison import Recomputed
from verbatim.reference.receipts.receipt import Answer, EngineFacts, Receipt, bits_of, from_json, to_json

SEALS = ("digest", "signature")


def answers_of(engine, requests) -> list[Answer]:
    """What an engine answers, choice by choice."""
    found = {(request.request_id, choice): Recomputed() for request in requests for choice in range(request.n)}
    for request in requests:
        engine.add(request)
    while engine.has_work():
        for output in engine.step():
            found[output.request_id, output.choice].take(output)
        engine.check()
    numbers = {request.request_id: index for index, request in enumerate(requests)}
    return [
        Answer(
            request=numbers[name], choice=choice, token_ids=tuple(made.token_ids), logprob_bits=bits_of(made.logprobs),
            finish_reason=made.finish_reason, stop_reason=made.stop_reason,
        )
        for (name, choice), made in found.items()
    ]  # fmt: skip


def make_receipt(engine, requests, **facts) -> dict:
    """The receipt of an engine's answers, as JSON that has been written and read."""
    known = {"backend": "test", "device": "cpu", "version": "1", "fingerprint": "f", "files": "0" * 64}
    facts = EngineFacts(**known | {"context_size": engine.context_size} | facts)
    receipt = Receipt(
        answer_id="cmpl-1", model="test", created=1, body=None, engine=facts, requests=tuple(requests),
        answers=tuple(answers_of(engine, requests)),
    )  # fmt: skip
    return json.loads(json.dumps(to_json(receipt)))


def changed(receipt: dict, *path, value=None) -> dict:
    """The receipt with another value at a place, and with the digest that it would have had."""
    receipt = copy.deepcopy({name: item for name, item in receipt.items() if name not in SEALS})
    *places, last = path
    target = receipt
    for place in places:
        target = target[place]
    target[last] = value(target[last]) if callable(value) else value
    return receipt | {"digest": digest_of(receipt)}


def read(receipt: dict) -> Receipt:
    """The receipt in JSON."""
    return from_json(receipt)
