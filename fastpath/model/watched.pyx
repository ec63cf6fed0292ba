"""Intermediate results for an observer, under the names of reference/model/decoder.py; without one, an `if` each.

`watch` is called with (layer or None, operation, rows): rows float32 (tokens, features) are the model's own memory.
"""

import numpy as np

from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport PACK
from libc.stdint cimport int32_t


cdef class Watched:
    """A model that calls `watch`, once it is set, with each intermediate result."""

    cdef int show(self, long layer, const char *operation, float *x, long rows, long width) noexcept nogil:
        """Show rows in the model's memory; layer -1 stands for None."""
        if self.watch is None:
            return 0
        with gil:
            self._tell(None if layer < 0 else layer, operation.decode(), np.asarray(<float[:rows, :width]>x))
        return 0

    cdef int show_cached(self, long layer, long pages_at, const int32_t *pages, long num_tokens,
                         PagedCache cache) noexcept nogil:
        """Show copies of a sequence's cached keys and values; `pages` hold at least that many tokens.

        `pages_at` is the layer's place in the cache.
        """
        if self.watch is None:
            return 0
        with gil:
            numbers = [pages[i] for i in range((num_tokens + PACK - 1) // PACK)]
            for name, stored in zip(("cached keys", "cached values"), cache.read(pages_at, numbers, num_tokens)):
                self._tell(layer, name, stored.reshape(num_tokens, -1))
        return 0

    def _tell(self, layer, operation, rows):
        """Call the observer; its exception is kept until `raise_failure`, so that the step ends first."""
        if self.failure is None:
            try:
                self.watch(layer, operation, rows)
            except BaseException as error:
                self.failure = error

    cdef raise_failure(self):
        """Raise the observer's first exception."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
