"""Who computes a step: the executor stands between the engine's loop and the model with its pages.

The loop decides what is computed and keeps the books; the executor computes it. `LocalExecutor` has one model in this
process. One over several ranks would send each call to all of them, and give the same results.
"""

from typing import Any

from verbatim.reference.records.page_data import SealedPages, sealed
from verbatim.reference.records.protocols import Model, PagedCache
from verbatim.reference.records.sequence import Chunk


class LocalExecutor:
    """One model and the cache that holds its keys and values, in this process."""

    def __init__(self, model: Model, cache: PagedCache):
        self.model, self.cache = model, cache

    def forward(self, batch: list[Chunk]) -> Any:
        """Logits float32 (wanted rows, vocab) of every chunk, one after the other; keys and values go to the pages."""
        return self.model.forward(batch, self.cache)

    def states(self, batch: list[Chunk]) -> Any:
        """Instead of logits the last layer's normed states, float32 (tokens, hidden)."""
        return self.model.states(batch, self.cache)

    def score(self, states) -> Any:
        """Logits float32 (rows, vocab) of normed states (rows, hidden)."""
        return self.model.score(states)

    def export_pages(self, pages) -> SealedPages:
        """The content of these pages, as `PagedCache.export_pages` describes it, with a checksum of each."""
        return sealed(self.cache.export_pages(pages))

    def import_pages(self, pages, exported: SealedPages) -> None:
        """Fill these pages, which the caller alone holds, with what `export_pages` gave; ValueError if damaged."""
        self.cache.import_pages(pages, exported.unsealed())

    def copy_page(self, page: int) -> int:
        """A new page with the same content; gives up one use of the old one."""
        return self.cache.copy(page)
