"""The mirrored names that make an engine, as one record: what reference/ and fastpath/ each fill in."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The mirrored names that make an engine, from one package."""

    name: str
    Model: type
    PagedCache: type
    PrefixCache: type
    Scheduler: type
    Stopper: type
    Detokenizer: type
    Answer: type
    sample_batch: Callable
    extend_decoding: Callable
    sample: Callable
    score: Callable
    adjust: Callable
    weigh: Callable
    NgramSpeculator: type
    DraftSpeculator: type
    MedusaHeads: type
    MedusaSpeculator: type
    EagleSpeculator: type
    adaptive_length: Callable
    page_size: int
