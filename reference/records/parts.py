"""The mirrored names that make an engine, as one record: what reference/ and fastpath/ each fill in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verbatim.reference.records import protocols


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The mirrored names that make an engine, from one package; classes as what makes their objects."""

    name: str
    Model: Callable[..., protocols.Model]
    PagedCache: Callable[..., protocols.PagedCache]
    PrefixCache: Callable[..., protocols.PrefixCache]
    Scheduler: Callable[..., protocols.Scheduler]
    Stopper: Callable[..., protocols.Stopper]
    Detokenizer: Callable[[], Any]
    Answer: Callable[..., protocols.Answer]
    sample_batch: protocols.SampleBatch
    extend_decoding: protocols.ExtendDecoding
    sample: protocols.Sample
    score: Callable[[Any, int, int], Any]
    adjust: Callable
    weigh: Callable
    NgramSpeculator: Callable[..., protocols.Speculator]
    DraftSpeculator: Callable[..., protocols.Speculator]
    MedusaHeads: Callable
    MedusaSpeculator: Callable[..., protocols.Speculator]
    EagleSpeculator: Callable[..., protocols.Speculator]
    adaptive_length: Callable[[int], int]
    page_size: int
