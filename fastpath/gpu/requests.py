"""A request's sampling parameters in the layout of cuda/draws.cu (N10)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from verbatim.reference.records.request import SamplingParams

# `draw` of cuda/draws.cu
DRAW = np.dtype(
    [*[(name, np.uint64) for name in ("top_p", "min_p", "seed")], ("position", np.uint32), ("choice", np.uint32)]
    + [(name, np.int32) for name in ("row", "place", "edits", "num_edits", "num_excluded", "top_k")]
    + [(name, np.float32) for name in ("repetition", "frequency", "presence", "factor")]
)  # fmt: skip

FIXED_POINT_ONE = 1 << 32  # 1 with 32 binary places
MASK_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """`edits` int32 (tokens, 3): id, whether prompt or answer contain it, times in the answer; `biases` (tokens,)."""

    edits: np.ndarray
    biases: np.ndarray
    excluded: np.ndarray
    numbers: dict[str, float]  # fields of DRAW that the request sets

    @property
    def is_plain(self) -> bool:
        """Whether the token is that of the largest raw logit."""
        return self.numbers["factor"] == 0 and not len(self.edits) and not len(self.excluded)


def draw_settings(
    sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()
) -> DrawSettings:
    """All parameters of a draw, without the logits."""
    counts = Counter(output_ids) if sampling.frequency_penalty or sampling.presence_penalty else {}
    seen = {*prompt_ids, *output_ids} if sampling.repetition_penalty != 1 else ()
    ids = sorted({*sampling.logit_bias, *seen, *counts})
    edits = np.array([(i, i in seen, counts.get(i, 0)) for i in ids], np.int32).reshape(-1, 3)
    factor = 0.0 if sampling.temperature == 0 else float(_factor(sampling.temperature))
    return DrawSettings(
        edits=edits,
        biases=np.array([sampling.logit_bias.get(i, 0.0) for i in ids], np.float32),
        excluded=np.asarray(excluded, np.int32),
        numbers={
            "repetition": sampling.repetition_penalty, "frequency": sampling.frequency_penalty,
            "presence": sampling.presence_penalty, "factor": factor, "top_k": sampling.top_k or 0,
            "top_p": round(sampling.top_p * FIXED_POINT_ONE), "min_p": round(sampling.min_p * FIXED_POINT_ONE),
            "seed": sampling.seed & MASK_64, "position": position, "choice": choice,
        },
    )  # fmt: skip


def joined(draws: dict[int, tuple[int, DrawSettings]]) -> tuple[np.ndarray, np.ndarray]:
    """DRAW records and the int32 lists that they refer to; `draws` maps a place to its row and settings."""
    records, lists, length = np.zeros(len(draws), DRAW), [np.zeros(0, np.int32)], 0
    for record, (place, (row, params)) in zip(records, draws.items(), strict=True):
        lists += [params.edits.ravel(), params.biases.view(np.int32), params.excluded]
        own = {"row": row, "place": place, "edits": length, "num_edits": len(params.edits)}
        for name, value in (own | {"num_excluded": len(params.excluded)} | params.numbers).items():
            record[name] = value
        length += 4 * len(params.edits) + len(params.excluded)
    return records, np.concatenate(lists)


def _factor(temperature: float) -> np.float32:
    """log2(e) / temperature, at most 2^100 (N10)."""
    return np.float32(min(1.4426950408889634 / temperature, 2.0**100))
