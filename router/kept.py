"""Where kept responses are: GET, DELETE and `previous_response_id` must go to the endpoint that has the response.

A response whose stream has moved has another id and another time there, and so have its items; the client still uses
what it saw first, and `KeptLocation` translates. The latest ten thousand are remembered; of others the endpoints are
asked.
"""

from collections import OrderedDict
from dataclasses import dataclass

from verbatim.router.endpoint import Endpoint

MAX_LOCATIONS = 10_000


@dataclass(frozen=True, slots=True)
class KeptLocation:
    """The endpoint of a response, and pairs of ids: the endpoint's own, and the client's.

    `created` is such a pair of its field `created_at`.
    """

    endpoint: Endpoint
    renames: tuple[tuple[bytes, bytes], ...] = ()
    created: tuple[bytes, bytes] | None = None

    def inward(self, text: bytes) -> bytes:
        """A client's text as the endpoint knows it."""
        for theirs, ours in self.renames:
            text = text.replace(ours, theirs)
        return text

    def outward(self, text: bytes, *, is_itself: bool) -> bytes:
        """The endpoint's text as the client knows it: the response itself, or another that is about it.

        Ids are random and long: nothing else resembles an id. Inside of a text the quotes of a field are escaped.
        """
        times = (self.created,) if is_itself and self.created else ()
        for theirs, ours in (*self.renames, *times):
            text = text.replace(theirs, ours)
        return text


class KeptLocations:
    """The locations of responses by the ids that clients know."""

    def __init__(self) -> None:
        self._locations: OrderedDict[str, KeptLocation] = OrderedDict()

    def put(self, response_id: str, location: KeptLocation) -> None:
        """Remember one, and evict the oldest if there are too many."""
        self._locations[response_id] = location
        self._locations.move_to_end(response_id)
        if len(self._locations) > MAX_LOCATIONS:
            self._locations.popitem(last=False)

    def get(self, response_id: str) -> KeptLocation | None:
        """The location, if it is remembered."""
        return self._locations.get(response_id)
