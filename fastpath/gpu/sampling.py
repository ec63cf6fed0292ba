"""From logits on a device to a token (N10): only the token, and log-probabilities that were asked for, come back.

A row that is already on the host (a medusa or eagle head's) is sampled by the CPU fast path, with the same bits.
"""

import numpy as np

from fastpath import sampling as on_host
from fastpath.gpu.logits import Row
from fastpath.gpu.requests import draw_settings
from reference.errors import NumericsError
from reference.request import SamplingParams

RAW, EDITED = -1, -2  # what the kernel answers where a logit is not finite, before or after step 1


def sample(logits, sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()):
    """The token at `position`, as fastpath/sampling.pyx says."""
    rest = {"prompt_ids": prompt_ids, "output_ids": output_ids, "position": position, "choice": choice}
    if not isinstance(logits, Row):
        return on_host.sample(logits, sampling, excluded=excluded, **rest)
    if not logits.is_finite:
        raise NumericsError(f"a logit for position {position} is not a finite number")
    settings = draw_settings(sampling, excluded=excluded, **rest)
    token_id = logits.peak if settings.is_plain else _draw(logits, settings)
    if token_id == EDITED:
        raise NumericsError(f"a penalized logit for position {position} is not a finite number")
    if sampling.logprobs is None:
        return on_host.Sampled(token_id=token_id)
    return score(logits, token_id, sampling.logprobs)


def score(logits, token_id: int, num_top: int):
    """A token with its log-probability and those of the `num_top` most probable ones."""
    if not isinstance(logits, Row):
        return on_host.score(logits, token_id, num_top)
    if not logits.is_finite:
        raise NumericsError("a logit of the prompt is not a finite number")
    model, count = logits.model, 1 + min(num_top, len(logits))
    at = model.scratch("scored", 4 * (1 + 2 * count))
    model.device.write(at, np.array([token_id], np.int32))
    ids, logprobs = at + 4, at + 4 + 4 * count
    model.operations.score_row(logits.address, at, ids, logprobs, vocab=len(logits), num_top=count - 1)
    found = model.device.read(ids, 2 * count, np.int32)
    values = found[count:].view(np.float32)
    top = tuple((int(i), float(value)) for i, value in zip(found[1:count], values[1:], strict=True))
    return on_host.Sampled(token_id=token_id, logprob=float(values[0]), top=top)


def _draw(logits: Row, settings) -> int:
    """The kernel's answer."""
    model, vocab = logits.model, len(logits)
    edited, weights = model.scratch("edited", 4 * vocab), model.scratch("weights", 8 * vocab)
    result = model.scratch("drawn", 4)
    lists = np.concatenate([settings.edits.ravel(), settings.biases.view(np.int32), settings.excluded])
    at, num_edits = model.scratch("lists", 20 * vocab), len(settings.edits)  # all the lists at their longest
    model.device.write(at, lists)
    model.operations.sample_row(
        logits.address, edited, weights, result, vocab, at, at + 12 * num_edits, num_edits, at + 16 * num_edits,
        len(settings.excluded), *settings.numbers,
    )  # fmt: skip
    return int(model.device.read(result, 1, np.int32)[0])
