"""A request's sampling settings as the numbers that cuda/sampling.cu takes (N10)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from reference.request import SamplingParams

ONE = 1 << 32  # 1 with 32 binary places
MASK_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """`edits` int32 (tokens, 3): id, whether prompt or answer have it, times in the answer; `biases` beside them."""

    edits: np.ndarray
    biases: np.ndarray
    excluded: np.ndarray
    numbers: tuple  # repetition, frequency, presence, temperature's factor, top_k, top_p, min_p, seed, position, choice

    @property
    def is_plain(self) -> bool:
        """Whether the token is the largest raw logit."""
        return self.numbers[3] == 0 and not len(self.edits) and not len(self.excluded)


def draw_settings(
    sampling: SamplingParams, *, prompt_ids, output_ids, position: int, choice: int, excluded=()
) -> DrawSettings:
    """Everything that one draw depends on but the logits."""
    counts = Counter(output_ids) if sampling.frequency_penalty or sampling.presence_penalty else {}
    seen = {*prompt_ids, *output_ids} if sampling.repetition_penalty != 1 else ()
    ids = sorted({*sampling.logit_bias, *seen, *counts})
    edits = np.array([(i, i in seen, counts.get(i, 0)) for i in ids], np.int32).reshape(-1, 3)
    factor = 0.0 if sampling.temperature == 0 else float(_factor(sampling.temperature))
    return DrawSettings(
        edits=edits,
        biases=np.array([sampling.logit_bias.get(i, 0.0) for i in ids], np.float32),
        excluded=np.asarray(excluded, np.int32),
        numbers=(
            sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty, factor,
            sampling.top_k or 0, round(sampling.top_p * ONE), round(sampling.min_p * ONE),
            sampling.seed & MASK_64, position, choice,
        ),
    )  # fmt: skip


def _factor(temperature: float) -> np.float32:
    """log2(e) / temperature, held at 2^100 (N10)."""
    return np.float32(min(1.4426950408889634 / temperature, 2.0**100))
