"""Where kept responses are: GET, DELETE and `previous_response_id` must go to the endpoint that has the response.

A response whose stream has moved has another id and another time there, and so have its items; the client goes on using
what it saw first, and `Home` translates. The latest ten thousand are remembered; of others the endpoints are asked.
"""

from collections import OrderedDict
from dataclasses import dataclass

from verbatim.router.endpoint import Endpoint

MAX_HOMES = 10_000


@dataclass(frozen=True, slots=True)
class Home:
    """The endpoint of a response, and pairs of ids: what it is called there, and what by the client.

    `created` is such a pair of its field `created_at`.
    """

    endpoint: Endpoint
    renames: tuple[tuple[bytes, bytes], ...] = ()
    created: tuple[bytes, bytes] | None = None

    def inward(self, text: bytes) -> bytes:
        """A client's words as the endpoint knows them."""
        for theirs, ours in self.renames:
            text = text.replace(ours, theirs)
        return text

    def outward(self, text: bytes, *, is_itself: bool) -> bytes:
        """The endpoint's words as the client knows them: the response itself, or another that is about it.

        Ids are random and long: nothing else looks like one. Inside of a text the quotes of a field are escaped.
        """
        times = (self.created,) if is_itself and self.created else ()
        for theirs, ours in (*self.renames, *times):
            text = text.replace(theirs, ours)
        return text


class Homes:
    """The homes of responses by the ids that clients know."""

    def __init__(self):
        self._homes: OrderedDict[str, Home] = OrderedDict()

    def put(self, response_id: str, home: Home) -> None:
        """Remember one, and forget the oldest if there are too many."""
        self._homes[response_id] = home
        self._homes.move_to_end(response_id)
        if len(self._homes) > MAX_HOMES:
            self._homes.popitem(last=False)

    def get(self, response_id: str) -> Home | None:
        """The home, if it is remembered."""
        return self._homes.get(response_id)
