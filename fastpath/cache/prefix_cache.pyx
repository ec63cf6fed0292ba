"""Mirrored. A radix tree of computed pages, so that requests with the same prefix share them.

Each node is one page with its up to 16 token ids. A match ends inside the first page that differs, so it is exact to
the token. A heap orders the leaves by last use, so that eviction does not walk the tree; the reference does, which is
why this module has a text of its own.
"""

from heapq import heappop, heappush

from verbatim.fastpath.cache.nodes cimport PAGE_BYTES, Node, below, closest, ending, length_of, packed_ids, part_of
from verbatim.fastpath.cache.pages cimport PagedCache
from verbatim.fastpath.machine.dispatch cimport PACK

from verbatim.fastpath.cache.pages import NO_PAGE
from verbatim.reference.cache.snapshots import Snapshots
from verbatim.reference.cache.states import NO_STATE


cdef class PrefixCache:
    """The tree over `cache`, one root a salt: requests with different salts never see each other's pages.

    `max_ended` bounds how many ended sequences `trim` leaves in the tree; -1 is no bound.
    """

    cdef readonly PagedCache cache
    cdef readonly object snapshots
    cdef dict _roots
    cdef list _made, _heap  # the node of each page, None until the page is first inserted
    cdef long _clock, max_ended

    def __init__(self, PagedCache cache, long max_ended=-1):
        self.cache, self._roots, self._made, self._heap, self._clock = cache, {}, [None] * cache.num_pages, [], 0
        self.max_ended = max_ended
        self.snapshots = None if cache.states is None else Snapshots(cache.states)

    def match(self, token_ids, str salt="") -> tuple[list[int], int]:
        """Return the pages of the longest known prefix, each with one more user, and how many tokens it has."""
        cdef Node node = self._roots.get(salt), child
        cdef long count = 0, agreeing = 0
        cdef list pages = []
        cdef bytes packed = packed_ids(token_ids)
        self._clock += 1
        while node is not None:
            child = closest(node, part_of(packed, count // PACK), &agreeing)
            if child is None:
                break
            child.used = self._clock
            pages.append(child.page)
            count += agreeing
            node = child if agreeing == PACK else None
        return self.cache.share(pages), count

    def match_state(self, token_ids, str salt="") -> tuple[list[int], int, int, int]:
        """The same for a model with states: the match ends where a node owns a slot.

        Returns the pages, how many tokens they have, the slot, with one more user (NO_STATE for none), and how many
        tokens agree with the tree whether or not it has a state behind them.
        """
        cdef Node node = self._roots.get(salt), child
        cdef long known = 0, agreeing = 0, count = 0
        cdef list path = [], found = []
        cdef bytes packed = packed_ids(token_ids), part
        self._clock += 1
        while node is not None:
            part = part_of(packed, known // PACK)
            child = ending(node, part)
            if child is not None:
                found = [*path, child]
            child = closest(node, part, &agreeing)
            if child is None:
                break
            known += agreeing
            node = child if agreeing == PACK else None
            path.append(child)
        for child in found:
            child.used = self._clock
            count += length_of(child.token_ids)
        slot = self.snapshots.use(found[len(found) - 1]) if found else NO_STATE
        return self.cache.share([(<Node>each).page for each in found]), count, slot, known

    def insert(self, token_ids, pages, str salt="", *, bint is_pinned=False, states=()) -> None:
        """Insert computed tokens and the pages that hold them; nodes that exist already stay as they are.

        `states` are (tokens, slot): nodes that end after so many tokens own the slots from then on, if they have none.
        """
        cdef Node node = self._roots.setdefault(salt, Node()), child
        cdef long agreeing = 0, index, slot
        cdef bytes packed = packed_ids(token_ids), part
        cdef dict slots = dict(states)
        self._clock += 1
        for index in range(min(<long>len(pages), (len(packed) + PAGE_BYTES - 1) // PAGE_BYTES)):
            part = part_of(packed, index)
            child = closest(node, part, &agreeing)
            slot = slots.get(index * PACK + length_of(part), NO_STATE) if slots else NO_STATE
            if child is None or agreeing < length_of(part) or (slot >= 0 and len(child.token_ids) > len(part)):
                if pages[index] == NO_PAGE:
                    break
                child = self._add_child(node, part, pages[index])
            child.used = self._clock
            if is_pinned:
                child.is_pinned = True
                self.cache.unkeep(child.page)
            if slot >= 0 and self.snapshots is not None:
                self.snapshots.keep(child, slot)
            node = child

    def evict(self) -> bool:
        """Evict the least recently used page that has no other user and is not pinned; False if there is none.

        Leaves go first. With an inner node whose page is idle, as behind a sliding window, everything below it is
        evicted, and pages in use stay with their users.
        """
        cdef Node node, oldest = self._oldest_leaf()
        if oldest is None:
            if self.num_idle == 0:
                return False
            for node in self._nodes():
                if self._is_idle(node) and (oldest is None or node.used < oldest.used):
                    oldest = node
        node = oldest.parent
        del node.children[oldest.token_ids]
        self._release_nodes(below([oldest]))
        self._queue(node)
        return True

    def evict_state(self) -> bool:
        """Free the least recently used slot that has no other user; False if there is none. Pages stay."""
        return self.snapshots is not None and self.snapshots.evict()

    def trim(self) -> None:
        """Evict the least recently used of the ended sequences until `max_ended` are left.

        An ended sequence is a leaf that eviction could free, with those of the nodes above it that no other sequence
        needs. With a bound the tree holds little beside what runs, so it is walked.
        """
        cdef Node node, parent
        if self.max_ended < 0:
            return
        leaves = sorted([(-node.used, node.page) for node in self._nodes() if self._is_leaf(node)])
        for _, page in leaves[self.max_ended :]:
            node = self._made[page]
            while self._is_leaf(node):
                parent = node.parent
                del parent.children[node.token_ids]
                self._release_nodes([node])
                node = parent
            self._queue(node)

    cdef Node _add_child(self, Node parent, bytes token_ids, page):
        """Put a page's node under its parent; it is made when the page is first inserted."""
        cdef Node node = self._made[page]
        if node is None:
            node = self._made[page] = Node(page)
        node.token_ids, node.parent, node.is_pinned = token_ids, parent, False
        parent.children[token_ids] = node
        self.cache.keep(self.cache.share([page])[0], node)
        return node

    cdef Node _oldest_leaf(self):
        """Take the least recently used idle leaf out of the heap."""
        cdef Node node
        for node in self.cache.let_go.values():
            self._queue(node)
        self.cache.let_go.clear()
        while self._heap:
            node = heappop(self._heap)
            node.is_queued = False
            if node.used == node.rank and self._is_leaf(node):
                return node
            self._queue(node)
        return None

    cdef _queue(self, Node node):
        if not node.is_queued and self._is_leaf(node):
            node.is_queued, node.rank = True, node.used
            heappush(self._heap, node)

    cdef bint _is_leaf(self, Node node):
        """Whether it has no children and could be evicted."""
        return node.parent is not None and not node.children and self._is_idle(node)

    cdef _release_nodes(self, list nodes):
        cdef Node node
        cdef list pages = [node.page for node in nodes]
        for node in nodes:
            self.cache.unkeep(node.page)
            node.parent = None
            node.children.clear()
        self.cache.release(pages)
        if self.snapshots is not None:
            self.snapshots.drop(nodes)

    def clear(self) -> None:
        """Evict everything, pinned or not; pages in use stay with their users."""
        self._release_nodes(self._nodes())
        self._roots.clear()

    @property
    def num_idle(self) -> int:
        """Pages that eviction could free: in the tree, not pinned, and without another user."""
        return self.cache.num_idle

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
            assert 0 < len(node.token_ids) <= PAGE_BYTES, "a node holds no page's worth of tokens"
            assert len(node.token_ids) == PAGE_BYTES or not node.children, "a short page has children"
            is_held = node.parent.page is None or node.parent.is_pinned
            assert is_held or not node.is_pinned, "a pin hangs on a loose page"
        pages = self.pages()
        assert len(set(pages)) == len(pages), "a page is in the tree twice"
        if self.snapshots is not None:
            self.snapshots.check(self._nodes())
        assert self.num_idle == sum([self._is_idle(node) for node in self._nodes()]), "idle pages are miscounted"
        queued = {id(node) for node in self._heap} | {id(node) for node in self.cache.let_go.values()}
        leaves = [node for node in self._nodes() if self._is_leaf(node)]
        assert all([id(node) in queued for node in leaves]), "a leaf would never be evicted"

    cdef bint _is_idle(self, Node node):
        return not node.is_pinned and not self.cache.is_shared(node.page)

    cdef list _nodes(self):
        """Every node but the roots."""
        return [node for node in below(self._roots.values()) if node.page is not None]
