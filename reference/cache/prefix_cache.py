"""Mirrored. A radix tree of computed pages, so that requests with the same prefix share them.

Each node is one page: up to 16 token ids and the page that holds their keys and values. A match follows whole pages
while they agree and ends inside the first that does not, so it is exact to the token. Keys and values do not depend on
the batch they were computed in (N8), so a hit never changes a bit of an answer. In a model with states (N14) some nodes
own a slot with the states after their last token, and a match ends at the deepest of these.
(SGLang, https://arxiv.org/abs/2312.07104.)
"""

from dataclasses import dataclass, field

from verbatim.reference.cache.pages import NO_PAGE, PAGE_SIZE
from verbatim.reference.cache.snapshots import Snapshots
from verbatim.reference.cache.states import NO_STATE


@dataclass(slots=True, eq=False)
class Node:
    """A page in the tree. `token_ids` are its 16, or fewer in a leaf where a sequence ended; `used` is a step count."""

    token_ids: tuple[int, ...] = ()
    page: int | None = None
    parent: "Node | None" = None
    children: dict[tuple[int, ...], "Node"] = field(default_factory=dict)
    used: int = 0
    is_pinned: bool = False
    state: int = NO_STATE


class PrefixCache:
    """The tree over `cache`, one root a salt: requests with different salts never see each other's pages.

    `max_ended` bounds how many ended sequences `trim` leaves in the tree; -1 is no bound.
    """

    def __init__(self, cache, max_ended: int = -1):
        self.cache, self.max_ended = cache, max_ended
        self.snapshots = Snapshots(cache.states) if cache.states is not None else None
        self._roots: dict[str, Node] = {}
        self._clock = 0

    def match(self, token_ids: tuple[int, ...], salt: str = "") -> tuple[list[int], int]:
        """Return the pages of the longest known prefix, each with one more user, and how many tokens it has.

        The last page may reach further than the match. It is shared, so it is copied before anything is written to it.
        """
        self._clock += 1
        node, pages, count = self._roots.get(salt, Node()), [], 0
        while True:
            following = tuple(token_ids[count : count + PAGE_SIZE])
            child, agreeing = _closest(node, following)
            if child is None:
                break
            child.used = self._clock
            pages.append(child.page)
            count += agreeing
            if agreeing < PAGE_SIZE:
                break
            node = child
        return self.cache.share(pages), count

    def match_state(self, token_ids: tuple[int, ...], salt: str = "") -> tuple[list[int], int, int, int]:
        """The same for a model with states: the match ends where a node owns a slot.

        Returns the pages, how many tokens they have, the slot, with one more user (NO_STATE for none), and how many
        tokens agree with the tree whether or not it has a state behind them.
        """
        assert self.snapshots is not None
        self._clock += 1
        node: Node | None = self._roots.get(salt)
        path: list[Node] = []
        found: list[Node] = []
        known = 0
        while node is not None:
            following = tuple(token_ids[known : known + PAGE_SIZE])
            if (ending := _ending(node, following)) is not None:
                found = [*path, ending]
            child, agreeing = _closest(node, following)
            if child is None:
                break
            known += agreeing
            node = child if agreeing == PAGE_SIZE else None
            path.append(child)
        for each in found:
            each.used = self._clock
        slot = self.snapshots.use(found[-1]) if found else NO_STATE
        count = sum(len(each.token_ids) for each in found)
        return self.cache.share([each.page for each in found]), count, slot, known

    def insert(
        self, token_ids: tuple[int, ...], pages: list[int], salt: str = "", *, is_pinned: bool = False,
        states: tuple[tuple[int, int], ...] = (),
    ) -> None:  # fmt: skip
        """Insert computed tokens and the pages that hold them; nodes that exist already stay as they are.

        Insertion ends at a released page for which the tree has no node either. `states` are (tokens, slot): nodes that
        end after so many tokens own the slots from then on, if they have none.
        """
        self._clock += 1
        node, slots = self._roots.setdefault(salt, Node()), dict(states)
        for start, page in zip(range(0, len(token_ids), PAGE_SIZE), pages, strict=False):
            part = tuple(token_ids[start : start + PAGE_SIZE])
            child, agreeing = _closest(node, part)
            slot = slots.get(start + len(part), NO_STATE)
            if child is None or agreeing < len(part) or (slot != NO_STATE and len(child.token_ids) > len(part)):
                if page == NO_PAGE:
                    break
                child = self._add_child(node, part, page)
            child.used = self._clock
            child.is_pinned |= is_pinned
            if slot != NO_STATE and self.snapshots is not None:
                self.snapshots.keep(child, slot)
            node = child

    def evict(self) -> bool:
        """Evict the least recently used page that has no other user and is not pinned; False if there is none.

        Leaves go first. With an inner node whose page is idle, as behind a sliding window, everything below it is
        evicted, and pages in use stay with their users.
        """
        idle = [node for node in self._nodes() if self._is_idle(node)]
        if not idle:
            return False
        oldest = min(idle, key=lambda node: (bool(node.children), node.used))
        del oldest.parent.children[oldest.token_ids]
        self._release(list(_below([oldest])))
        return True

    def evict_state(self) -> bool:
        """Free the least recently used slot that has no other user; False if there is none. Pages stay."""
        return self.snapshots is not None and self.snapshots.evict()

    def trim(self) -> None:
        """Evict the least recently used of the ended sequences until `max_ended` are left.

        An ended sequence is a leaf that eviction could free, with those of the nodes above it that no other sequence
        needs. One that another continues is a part of that one, and counts once with it.
        """
        if self.max_ended < 0:
            return
        leaves = [node for node in self._nodes() if not node.children and self._is_idle(node)]
        leaves.sort(key=lambda node: node.used, reverse=True)
        for node in leaves[self.max_ended :]:
            while node.page is not None and not node.children and self._is_idle(node):
                del node.parent.children[node.token_ids]
                self._release([node])
                node = node.parent

    def clear(self) -> None:
        """Evict everything, pinned or not; pages in use stay with their users."""
        self._release(list(self._nodes()))
        self._roots.clear()

    @property
    def num_idle(self) -> int:
        """Pages that eviction could free: in the tree, not pinned, and without another user."""
        return sum(map(self._is_idle, self._nodes()))

    @property
    def num_idle_states(self) -> int:
        """Slots that `evict_state` could free."""
        return 0 if self.snapshots is None else self.snapshots.num_idle

    def pages(self) -> list[int]:
        """Every page that the tree holds."""
        return [node.page for node in self._nodes()]

    def check(self) -> None:
        """Raise AssertionError if the tree is inconsistent."""
        for node in self._nodes():
            assert node.parent.children[node.token_ids] is node, "a node is not where its parent looks for it"
            assert 0 < len(node.token_ids) <= PAGE_SIZE, "a node holds no page's worth of tokens"
            assert len(node.token_ids) == PAGE_SIZE or not node.children, "a short page has children"
            assert not node.is_pinned or node.parent.page is None or node.parent.is_pinned, (
                "a pin hangs on a loose page"
            )
        pages = self.pages()
        assert len(set(pages)) == len(pages), "a page is in the tree twice"
        if self.snapshots is not None:
            self.snapshots.check(self._nodes())

    def _add_child(self, node: Node, part: tuple[int, ...], page: int) -> Node:
        child = Node(token_ids=part, page=self.cache.share([page])[0], parent=node)
        node.children[part] = child
        return child

    def _release(self, nodes: list[Node]) -> None:
        """Give up the pages and slots of nodes that leave the tree."""
        self.cache.release([node.page for node in nodes])
        if self.snapshots is not None:
            self.snapshots.drop(nodes)

    def _is_idle(self, node: Node) -> bool:
        return not node.is_pinned and not self.cache.is_shared(node.page)

    def _nodes(self):
        return (node for node in _below(self._roots.values()) if node.page is not None)


def _below(nodes):
    """Yield these nodes and their descendants."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children.values())
        yield node


def _closest(node: Node, part: tuple[int, ...]) -> tuple[Node | None, int]:
    """Return the child with the longest common prefix with `part`, and its length in tokens; None if there is none."""
    if part in node.children:
        return node.children[part], len(part)
    best, longest = None, 0
    for token_ids, child in node.children.items():
        agreeing = 0
        for wanted, found in zip(part, token_ids, strict=False):
            if wanted != found:
                break
            agreeing += 1
        if agreeing > longest:
            best, longest = child, agreeing
    return best, longest


def _ending(node: Node, part: tuple[int, ...]) -> Node | None:
    """Return the child with a state whose tokens are the longest beginning of `part`; None if there is none."""
    found = [each for each in node.children.values() if each.state != NO_STATE]
    ending = [each for each in found if part[: len(each.token_ids)] == each.token_ids]
    return max(ending, key=lambda each: len(each.token_ids), default=None)
