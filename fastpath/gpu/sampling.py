"""From logits on a device to tokens (N10): only tokens, and log-probabilities that were asked for, come back.

All rows of a step are drawn by one launch and waited for once. A row that is already on the host (a medusa or eagle
head's) is sampled by the CPU fast path, with the same bits.
"""

from itertools import takewhile
from typing import NamedTuple

import numpy as np

from fastpath import answer
from fastpath import sampling as on_host
from fastpath.gpu.logits import Logits, Row
from fastpath.gpu.operations import ROOM_BYTES, parts_of_row
from fastpath.gpu.requests import DrawSettings, draw_settings, joined
from reference.errors import NumericsError, RequestError
from reference.request import SamplingParams

EDITED = -2  # what the kernel answers where step 1 has made a number that is none; -1 is one that was none before
MOST_DRAWN = 64  # rows at once: each needs room for its edited logits and weights


class Wanted(NamedTuple):
    """A row with everything that its token depends on."""

    row: Row
    sampling: SamplingParams
    prompt_ids: tuple[int, ...]
    output_ids: list[int]
    position: int
    choice: int
    excluded: object = ()


class Drawn(NamedTuple):
    """A row whose token is drawn already, or cannot be; `sample` only takes it."""

    sampled: object
    error: NumericsError | None = None


def sample(logits, sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()):
    """The token at `position`, as fastpath/sampling.pyx says."""
    if isinstance(logits, Row):
        (logits,) = draw_rows([Wanted(logits, sampling, prompt_ids, output_ids, position, choice, excluded)])
    if not isinstance(logits, Drawn):
        rest = {"prompt_ids": prompt_ids, "output_ids": output_ids, "position": position, "choice": choice}
        return on_host.sample(logits, sampling, excluded=excluded, **rest)
    if logits.error:
        raise logits.error
    return logits.sampled


def score(logits, token_id: int, num_top: int):
    """A token with its log-probability and those of the `num_top` most probable ones."""
    if not isinstance(logits, Row):
        return on_host.score(logits, token_id, num_top)
    if not logits.is_finite:
        raise NumericsError("a logit of the prompt is not a finite number")
    _, (scored,) = _run([logits], {}, [token_id], {0: min(num_top, len(logits))})
    return scored


def extend_decoding(work, answers, logits):
    """What fastpath/answer.pyx says, with all draws ahead of it: one wait for the whole step."""
    if not isinstance(logits, Logits):
        return answer.extend_decoding(work, answers, logits)
    ready = list(takewhile(_simply_goes_on, work))
    rows, wanted = list(logits)[: len(ready)], {}
    for at, (sequence, _) in enumerate(ready):
        request, said = sequence.request, sequence.output_ids
        try:
            excluded = answers[sequence].excluded_ids()
        except (NumericsError, RequestError):
            continue  # the answer says so itself when its turn comes
        place = len(sequence), sequence.choice
        wanted[at] = Wanted(rows[at], request.sampling, request.prompt_ids, said, *place, excluded)
    for at, drawn in zip(wanted, draw_rows(list(wanted.values())), strict=True):
        rows[at] = drawn
    return answer.extend_decoding(ready, answers, rows)


def _simply_goes_on(one) -> bool:
    sequence, chunk = one
    return bool(chunk.num_logits == 1 and sequence.output_ids and not sequence.draft_ids)


def draw_rows(wanted: list[Wanted]) -> list[Drawn]:
    """The token of each row, all of one pass."""
    return [one for first in range(0, len(wanted), MOST_DRAWN) for one in _draw(wanted[first : first + MOST_DRAWN])]


def _draw(wanted: list[Wanted]) -> list[Drawn]:
    settings = {
        at: draw_settings(
            one.sampling, prompt_ids=one.prompt_ids, output_ids=one.output_ids, position=one.position,
            choice=one.choice, excluded=one.excluded,
        )
        for at, one in enumerate(wanted) if one.row.is_finite
    }  # fmt: skip
    draws = {at: how for at, how in settings.items() if not how.is_plain}
    scores = {at: min(num, len(wanted[at].row)) for at in settings if (num := wanted[at].sampling.logprobs) is not None}
    tokens = [one.row.peak for one in wanted]
    scored = {}
    if draws or scores:
        tokens, found = _run([one.row for one in wanted], draws, tokens, scores)
        scored = dict(zip(scores, found, strict=True))
    return [
        Drawn(scored.get(at) or on_host.Sampled(token_id=token)) if at in settings and token >= 0
        else Drawn(None, NumericsError(_complaint(one, token)))
        for at, (one, token) in enumerate(zip(wanted, tokens, strict=True))
    ]  # fmt: skip


def _complaint(one: Wanted, token: int) -> str:
    kind = "penalized logit" if one.row.is_finite and token == EDITED else "logit"
    return f"a {kind} for position {one.position} is not a finite number"


def _run(rows: list[Row], draws: dict[int, DrawSettings], tokens: list[int], scores: dict[int, int]):
    """Draw the tokens of some rows, look up log-probabilities of some, by their places in `rows`; one copy each way.

    `tokens` are those that are known already. Returns all tokens, and a Sampled for each that is scored.
    """
    model, vocab, count = rows[0].model, len(rows[0]), 1 + max(scores.values(), default=0)
    structs, lists = joined({at: (rows[at].index, how) for at, how in draws.items()})
    places = [[rows[at].index for at in scores], list(scores)]
    numbers = [structs.view(np.int32), lists, np.array(places, np.int32).ravel(), np.array(tokens, np.int32)]
    starts = np.cumsum([0, *[part.nbytes for part in numbers]])
    said = len(tokens) + 2 * len(scores) * count  # tokens, ids, logprobs
    start = model.scratch("draws", _rounded_up(int(starts[-1]) + 4 * said))
    _, at_lists, at_places, at_tokens, at_ids = (start + int(offset) for offset in starts)
    model.device.write(start, np.concatenate(numbers))
    if draws:
        room = _rounded_up(len(draws))
        edited, weights = model.scratch("edited", 4 * room * vocab), model.scratch("weights", 8 * room * vocab)
        between = model.scratch("rooms", ROOM_BYTES * room)
        model.device.clear(between, ROOM_BYTES * len(draws))
        places_of = (start, at_lists, edited, weights, between, at_tokens)
        parts = parts_of_row(len(draws), vocab, model.device.num_multiprocessors)
        model.operations.sample_rows(rows[0].start, *places_of, draws=len(draws), vocab=vocab, parts=parts)
    if scores:
        at_logprobs = at_ids + 4 * len(scores) * count
        places_of = (at_places, at_tokens, at_ids, at_logprobs)
        model.operations.score_rows(rows[0].start, *places_of, scores=len(scores), vocab=vocab, num_top=count - 1)
    found = model.device.read(at_tokens, said, np.int32)
    ids, logprobs = found[len(tokens) :].reshape(2, len(scores), count)
    scored = map(_scored, ids, logprobs.view(np.float32), scores.values())
    return found[: len(tokens)].tolist(), list(scored)


def _scored(ids, logprobs, num_top: int):
    pairs = tuple((int(i), float(value)) for i, value in zip(ids[1:], logprobs[1:], strict=True))
    return on_host.Sampled(token_id=int(ids[0]), logprob=float(logprobs[0]), top=pairs[:num_top])


def _rounded_up(count: int) -> int:
    """A power of two, so that scratch memory seldom moves."""
    return 1 << (count - 1).bit_length()
