"""How an engine recomputes the answers of a receipt: token by token, or all tokens of one in a pass or a few.

To verify an answer, its tokens are given to the engine as draft tokens. The engine computes the logits of all positions
at once and samples each token by the request's own rules and random bits: penalties, grammars and stops included. Draft
tokens change no answer (N11), so what comes out is what the engine would have written by itself.
"""

from dataclasses import replace

from verbatim.reference.receipts import requests
from verbatim.reference.receipts.receipt import Receipt
from verbatim.reference.records.limits import MAX_DRAFT_LENGTH, EngineLimits
from verbatim.reference.records.request import Request

MOST_AT_ONCE = 16  # sequences
CHUNK_TOKENS = 512


def requests_of(receipt: Receipt, vocab_size: int, *, verifies: bool) -> tuple[Request, ...]:
    """The engine's requests: with `verifies`, each has the answers' tokens as draft tokens.

    An answer ends one token behind the recorded one at the latest: by then it differs.
    """
    found = []
    for index, request in enumerate(receipt.requests):
        recorded = [answer.token_ids for answer in receipt.answers if answer.request == index]
        bounded = requests.with_bound(request, max(map(len, recorded)) + 1)
        drafts = tuple(_known(ids, vocab_size) for ids in recorded) if verifies else ()
        found.append(replace(bounded, draft_answers=drafts))
    return tuple(found)


def limits_for(receipt: Receipt) -> EngineLimits:
    """An engine that computes a receipt's answers, and no larger; it computes them as the receipt's engine did."""
    lengths = [
        len(receipt.requests[answer.request].prompt_ids) + len(answer.token_ids) + 2 for answer in receipt.answers
    ]
    at_once = min(len(lengths), MOST_AT_ONCE)
    largest = sorted(lengths)[-at_once:]
    return EngineLimits(
        max_num_sequence=at_once,
        max_queue=len(receipt.requests),
        max_history_size=MAX_DRAFT_LENGTH,
        prefill_chunk_size=CHUNK_TOKENS,
        max_total_seq_length=sum(largest) + at_once * 32,  # whole pages, and one to copy for each
        **receipt.engine.limits,
    )


def _known(token_ids: tuple[int, ...], vocab_size: int) -> tuple[int, ...]:
    """The tokens up to the first that the vocabulary does not have: there the answer will differ."""
    first = next((index for index, token_id in enumerate(token_ids) if token_id >= vocab_size), len(token_ids))
    return token_ids[:first]
