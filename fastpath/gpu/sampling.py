"""From logits on a device to tokens (N10): only tokens, and log-probabilities that were asked for, come back.

All rows of a step are drawn by one launch and waited for once (ahead.py). A row that is already on the host (a medusa
or eagle head's) is sampled by the CPU fast path, with the same bits.
"""

from typing import NamedTuple

import numpy as np

from verbatim.fastpath.gpu.logits import Row
from verbatim.fastpath.gpu.operations import ROOM_BYTES, parts_of_row
from verbatim.fastpath.gpu.requests import DrawSettings, draw_settings, joined
from verbatim.fastpath.sampling import rules as on_host
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import SamplingParams

EDITED = -2  # what the kernel answers where step 1 has made a number that is none; -1 is one that was none before
MOST_DRAWN = 64  # rows at once: each needs room for its edited logits and weights


class Wanted(NamedTuple):
    """A row with everything that its token depends on, and how many log-probabilities are asked for (None: none)."""

    row: Row
    sampling: SamplingParams
    prompt_ids: tuple[int, ...]
    output_ids: list[int]
    position: int
    choice: int
    excluded: object
    num_top: int | None


class Scored(NamedTuple):
    """A row of which the log-probability of a token is wanted, and those of the `num_top` most probable ones."""

    row: Row
    token_id: int
    num_top: int


class Known(NamedTuple):
    """What a row came to, already: a token with what was asked for beside it, or why there is none."""

    sampled: object
    error: NumericsError | None = None

    def take(self):
        """The token; raises if there is none."""
        if self.error:
            raise self.error
        return self.sampled


def sample(logits, sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()):
    """The token at `position`, as fastpath/sampling/rules.pyx says."""
    if isinstance(logits, Row):
        rest = (prompt_ids, output_ids, position, choice, excluded, sampling.logprobs)
        (logits,) = find_out([Wanted(logits, sampling, *rest)])
    if isinstance(logits, Known):
        return logits.take()
    rest = {"prompt_ids": prompt_ids, "output_ids": output_ids, "position": position, "choice": choice}
    return on_host.sample(logits, sampling, excluded=excluded, **rest)


def score(logits, token_id: int, num_top: int):
    """A token with its log-probability and those of the `num_top` most probable ones."""
    if isinstance(logits, Row):
        (logits,) = find_out([Scored(logits, token_id, num_top)])
    return logits.take() if isinstance(logits, Known) else on_host.score(logits, token_id, num_top)


def find_out(asked: list[Wanted | Scored]) -> list[Known]:
    """What is asked of rows of one pass."""
    pieces, room = [[]], MOST_DRAWN
    for one in asked:
        if isinstance(one, Wanted) and room == 0:
            pieces, room = [*pieces, []], MOST_DRAWN
        room -= isinstance(one, Wanted)
        pieces[-1].append(one)
    return [found for piece in pieces for found in _find_out(piece)]


def _find_out(asked: list[Wanted | Scored]) -> list[Known]:
    """One copy over, at most two launches, one wait."""
    settings, scores, tokens = {}, {}, []
    for at, one in enumerate(asked):
        tokens.append(one.token_id if isinstance(one, Scored) else one.row.peak)
        if not one.row.is_finite:
            continue
        if one.num_top is not None:
            scores[at] = min(one.num_top, len(one.row))
        if isinstance(one, Wanted):
            settings[at] = draw_settings(
                one.sampling, prompt_ids=one.prompt_ids, output_ids=one.output_ids, position=one.position,
                choice=one.choice, excluded=one.excluded,
            )  # fmt: skip
    draws, scored = {at: how for at, how in settings.items() if not how.is_plain}, {}
    if draws or scores:
        tokens, found = _run([one.row for one in asked], draws, tokens, scores)
        scored = dict(zip(scores, found, strict=True))
    return [
        Known(scored.get(at) or on_host.Sampled(token_id=token)) if one.row.is_finite and token >= 0
        else Known(None, NumericsError(_complaint(one, token)))
        for at, (one, token) in enumerate(zip(asked, tokens, strict=True))
    ]  # fmt: skip


def _complaint(one: Wanted | Scored, token: int) -> str:
    if isinstance(one, Scored):
        return "a logit of the prompt is not a finite number"
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
