"""Where kept responses are: GET, DELETE and `previous_response_id` must go to the endpoint that has the response.

A response whose stream has moved has another id there, and so have its items; the client goes on using those that it
saw first, and `Home` translates. The latest ten thousand are remembered; of others the endpoints are asked.
"""

from collections import OrderedDict
from dataclasses import dataclass

from server.router.endpoint import Endpoint

MAX_HOMES = 10_000


@dataclass(frozen=True, slots=True)
class Home:
    """The endpoint of a response, and pairs of ids: what it is called there, and what by the client."""

    endpoint: Endpoint
    renames: tuple[tuple[bytes, bytes], ...] = ()

    def inward(self, text: bytes) -> bytes:
        """A client's words as the endpoint knows them."""
        for theirs, ours in self.renames:
            text = text.replace(ours, theirs)
        return text

    def outward(self, text: bytes) -> bytes:
        """The endpoint's words as the client knows them. Ids are random and long: nothing else looks like one."""
        for theirs, ours in self.renames:
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
