"""States that the prefix cache keeps for later requests (N14): which node owns which slot, and which go first."""

from collections.abc import Iterable
from typing import Protocol

from verbatim.reference.cache.states import NO_STATE, StateCache


class Node(Protocol):
    """A node of the tree; `state` is the slot with the states after its last token, NO_STATE for none."""

    state: int
    is_pinned: bool


class Snapshots:
    """The slots that nodes own, in the order of their last use; each node is one user of its slot."""

    def __init__(self, states: StateCache):
        self.states = states
        self._owners: dict[int, Node] = {}  # the least recently used first

    @property
    def num_idle(self) -> int:
        """Slots that eviction could free: of nodes that are not pinned, and without another user."""
        return sum(self._is_idle(slot) for slot in self._owners)

    def keep(self, node: Node, slot: int) -> None:
        """Let a node own a slot, with one more user; a node that has one keeps that."""
        if node.state == NO_STATE:
            node.state = self.states.share([slot])[0]
            self._owners[slot] = node

    def use(self, node: Node) -> int:
        """The slot of a node that has one, for one more user; it counts as the most recently used."""
        self._owners[node.state] = self._owners.pop(node.state)
        return self.states.share([node.state])[0]

    def drop(self, nodes: Iterable[Node]) -> None:
        """Take the slots from nodes that leave the tree."""
        for node in nodes:
            if node.state != NO_STATE:
                del self._owners[node.state]
                self.states.release([node.state])
                node.state = NO_STATE

    def evict(self) -> bool:
        """Free the least recently used idle slot; False if there is none. Its node keeps its page."""
        slot = next((slot for slot in self._owners if self._is_idle(slot)), NO_STATE)
        if slot == NO_STATE:
            return False
        self.drop([self._owners[slot]])
        return True

    def slots(self) -> list[int]:
        """Every slot that a node owns."""
        return list(self._owners)

    def check(self, nodes: Iterable[Node]) -> None:
        """Raise AssertionError unless exactly these nodes own the slots."""
        owned = {node.state: node for node in nodes if node.state != NO_STATE}
        assert owned == self._owners, "nodes and slots differ"

    def _is_idle(self, slot: int) -> bool:
        return not self._owners[slot].is_pinned and not self.states.is_shared(slot)
