"""From logits on a device to tokens (N10): only tokens, and log-probabilities that were asked for, come back.

All rows of a step are drawn by one launch and waited for once (draws.py). A row that is already on the host (a medusa
or eagle head's) is sampled by the CPU fast path, with the same bits.
"""

from typing import NamedTuple

import numpy as np

from verbatim.fastpath.gpu.logits import Row
from verbatim.fastpath.gpu.operations import ROW_STATE_BYTES, parts_of_row
from verbatim.fastpath.gpu.requests import DrawSettings, draw_settings, joined
from verbatim.fastpath.sampling import rules as on_host
from verbatim.reference.records.drawn import Drawn
from verbatim.reference.records.errors import NumericsError
from verbatim.reference.records.request import SamplingParams

EDITED = -2  # what the kernel answers where step 1 has made a number that is none; -1 is one that was none before
MOST_DRAWN = 64  # rows at once: each needs scratch for its edited logits and weights


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


def sample(logits, sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()):
    """The token at `position`, as fastpath/sampling/rules.pyx describes it."""
    rest = {"prompt_ids": prompt_ids, "output_ids": output_ids, "position": position, "choice": choice}
    if isinstance(logits, Row):
        wanted = Wanted(logits, sampling, **rest, excluded=excluded, num_top=sampling.logprobs)
        return draw_rows([wanted])[0].take()
    return on_host.sample(logits, sampling, excluded=excluded, **rest)


def score(logits, token_id: int, num_top: int):
    """A token with its log-probability and those of the `num_top` most probable ones."""
    if isinstance(logits, Row):
        return draw_rows([Scored(logits, token_id, num_top)])[0].take()
    return on_host.score(logits, token_id, num_top)


def draw_rows(asked: list[Wanted | Scored]) -> list[Drawn]:
    """What is asked of rows of one pass."""
    batches, num_free = [[]], MOST_DRAWN
    for item in asked:
        if isinstance(item, Wanted) and num_free == 0:
            batches, num_free = [*batches, []], MOST_DRAWN
        num_free -= isinstance(item, Wanted)
        batches[-1].append(item)
    return [drawn for batch in batches for drawn in _draw_batch(batch)]


def _draw_batch(asked: list[Wanted | Scored]) -> list[Drawn]:
    """One copy over, at most two launches, one wait."""
    settings, scores, tokens = {}, {}, []
    for at, item in enumerate(asked):
        tokens.append(item.token_id if isinstance(item, Scored) else item.row.peak)
        if not item.row.is_finite:
            continue
        if item.num_top is not None:
            scores[at] = min(item.num_top, len(item.row))
        if isinstance(item, Wanted):
            settings[at] = draw_settings(
                item.sampling, prompt_ids=item.prompt_ids, output_ids=item.output_ids, position=item.position,
                choice=item.choice, excluded=item.excluded,
            )  # fmt: skip
    draws, scored = {at: setting for at, setting in settings.items() if not setting.is_plain}, {}
    if draws or scores:
        tokens, found = _run([item.row for item in asked], draws, tokens, scores)
        scored = dict(zip(scores, found, strict=True))
    return [_drawn(item, token, scored.get(at)) for at, (item, token) in enumerate(zip(asked, tokens, strict=True))]


def _drawn(item: Wanted | Scored, token: int, scored) -> Drawn:
    excluded = item.excluded if isinstance(item, Wanted) else ()
    if not item.row.is_finite or token < 0:
        return Drawn(None, NumericsError(_complaint(item, token)), item.row, excluded)
    return Drawn(scored or on_host.Sampled(token_id=token), None, item.row, excluded)


def _complaint(item: Wanted | Scored, token: int) -> str:
    if isinstance(item, Scored):
        return "a logit of the prompt is not a finite number"
    name = "penalized logit" if item.row.is_finite and token == EDITED else "logit"
    return f"a {name} for position {item.position} is not a finite number"


def _run(rows: list[Row], draws: dict[int, DrawSettings], tokens: list[int], scores: dict[int, int]):
    """Draw the tokens of some rows, look up log-probabilities of some, by their places in `rows`; one copy each way.

    `tokens` are those that are known already. Returns all tokens, and a Sampled for each that is scored.
    """
    model, vocab, count = rows[0].model, len(rows[0]), 1 + max(scores.values(), default=0)
    structs, lists = joined({at: (rows[at].index, setting) for at, setting in draws.items()})
    places = [[rows[at].index for at in scores], list(scores)]
    numbers = [structs.view(np.int32), lists, np.array(places, np.int32).ravel(), np.array(tokens, np.int32)]
    starts = np.cumsum([0, *[part.nbytes for part in numbers]])
    num_words = len(tokens) + 2 * len(scores) * count  # tokens, ids, logprobs
    start = model.scratch("draws", _rounded_up(int(starts[-1]) + 4 * num_words))
    _, at_lists, at_places, at_tokens, at_ids = (start + int(offset) for offset in starts)
    model.device.write(start, np.concatenate(numbers))
    if draws:
        capacity = _rounded_up(len(draws))
        edited, weights = model.scratch("edited", 4 * capacity * vocab), model.scratch("weights", 8 * capacity * vocab)
        states = model.scratch("rooms", ROW_STATE_BYTES * capacity)
        model.device.clear(states, ROW_STATE_BYTES * len(draws))
        places_of = (start, at_lists, edited, weights, states, at_tokens)
        parts = parts_of_row(len(draws), vocab, model.device.num_multiprocessors)
        model.operations.sample_rows(rows[0].start, *places_of, draws=len(draws), vocab=vocab, parts=parts)
    if scores:
        at_logprobs = at_ids + 4 * len(scores) * count
        places_of = (at_places, at_tokens, at_ids, at_logprobs)
        model.operations.score_rows(rows[0].start, *places_of, scores=len(scores), vocab=vocab, num_top=count - 1)
    found = model.device.read(at_tokens, num_words, np.int32)
    ids, logprobs = found[len(tokens) :].reshape(2, len(scores), count)
    scored = map(_scored, ids, logprobs.view(np.float32), scores.values())
    return found[: len(tokens)].tolist(), list(scored)


def _scored(ids, logprobs, num_top: int):
    pairs = tuple((int(i), float(value)) for i, value in zip(ids[1:], logprobs[1:], strict=True))
    return on_host.Sampled(token_id=int(ids[0]), logprob=float(logprobs[0]), top=pairs[:num_top])


def _rounded_up(count: int) -> int:
    """A power of two, so that scratch memory seldom moves."""
    return 1 << (count - 1).bit_length()
