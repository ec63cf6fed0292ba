"""Mirrored. What has been computed before: a radix tree of pages, so that requests that begin alike share it.

Each node is one page with its up to 16 token ids. A match ends inside the first page that differs, so it is exact to
the token. Leaves wait for eviction in a heap, the least recently used first, so that a full cache costs no walk a page.
"""

from heapq import heappop, heappush

from fastpath.cache import NO_PAGE, PAGE_SIZE


cdef class Node:
    """A page in the tree. `token_ids` are its 16, or fewer in a leaf where a sequence ended; `used` is a step count."""

    cdef readonly tuple token_ids
    cdef readonly object page
    cdef readonly Node parent
    cdef readonly dict children
    cdef public long used
    cdef public bint is_pinned
    cdef bint waits  # in the heap, perhaps with an older `used`

    def __cinit__(self, tuple token_ids=(), page=None, Node parent=None):
        self.token_ids, self.page, self.parent, self.children = token_ids, page, parent, {}


cdef class PrefixCache:
    """The tree over `cache`, one root a salt: requests with different salts never see each other's pages."""

    cdef readonly object cache
    cdef dict _roots
    cdef list _heap
    cdef long _clock, _count

    def __init__(self, cache):
        self.cache, self._roots, self._heap, self._clock, self._count = cache, {}, [], 0, 0

    def match(self, token_ids, str salt="") -> tuple[list[int], int]:
        """The longest known beginning: its pages, each with one more user, and how many tokens it is."""
        cdef Node node = self._roots.get(salt), child
        cdef long count = 0, agreeing = 0
        cdef list pages = []
        self._clock += 1
        while node is not None:
            child = _closest(node, tuple(token_ids[count : count + PAGE_SIZE]), &agreeing)
            if child is None:
                break
            child.used = self._clock
            pages.append(child.page)
            count += agreeing
            node = child if agreeing == PAGE_SIZE else None
        return self.cache.share(pages), count

    def insert(self, token_ids, pages, str salt="", *, bint is_pinned=False) -> None:
        """Remember computed tokens and the pages that hold them; what the tree knows already stays as it is."""
        cdef Node node = self._roots.setdefault(salt, Node()), child
        cdef long agreeing = 0, index
        cdef tuple part
        self._clock += 1
        for index in range(min(<long>len(pages), (<long>len(token_ids) + PAGE_SIZE - 1) // PAGE_SIZE)):
            part = tuple(token_ids[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])
            child = _closest(node, part, &agreeing)
            if child is None or agreeing < len(part):
                if pages[index] == NO_PAGE:
                    break
                child = Node(part, self.cache.share([pages[index]])[0], node)
                node.children[part] = child
                self.cache.keep(child.page, child)
            child.used = self._clock
            if is_pinned:
                child.is_pinned = True
                self.cache.unkeep(child.page)
            node = child

    def evict(self) -> bool:
        """Forget the least recently used page that nobody else uses and that is not pinned; False if there is none.

        Leaves go first. Below an inner node whose page is idle, as behind a sliding window, everything is forgotten,
        and pages in use stay with their users.
        """
        cdef Node node, oldest = self._oldest_leaf()
        if oldest is None:
            if self.num_idle == 0:
                return False
            for node in self._nodes():
                if self._is_idle(node) and (oldest is None or node.used < oldest.used):
                    oldest = node
        del oldest.parent.children[oldest.token_ids]
        self._forget(_below([oldest]))
        self._await_eviction(oldest.parent)
        return True

    cdef Node _oldest_leaf(self):
        """The least recently used leaf that is idle, taken out of the heap."""
        cdef Node node
        cdef long used
        for node in self.cache.let_go.values():
            self._await_eviction(node)
        self.cache.let_go.clear()
        while self._heap:
            used, _, node = heappop(self._heap)
            node.waits = False
            if node.used == used and self._is_leaf(node):
                return node
            self._await_eviction(node)
        return None

    cdef _await_eviction(self, Node node):
        if not node.waits and self._is_leaf(node):
            self._count += 1
            node.waits = True
            heappush(self._heap, (node.used, self._count, node))

    cdef bint _is_leaf(self, Node node):
        """Whether it could be evicted, and nothing hangs on it."""
        return node.page is not None and not node.children and self._is_idle(node)

    cdef _forget(self, list nodes):
        cdef Node node
        cdef list pages = [node.page for node in nodes]
        for node in nodes:
            self.cache.unkeep(node.page)
            node.page = None
        self.cache.release(pages)

    def clear(self) -> None:
        """Forget everything, pinned or not; pages in use stay with their users."""
        self._forget(self._nodes())
        self._roots.clear()
        self._heap.clear()

    @property
    def num_idle(self) -> int:
        """Pages that eviction could free: in the tree, not pinned, and used by nobody else."""
        return self.cache.num_idle

    def pages(self) -> list[int]:
        """Every page that the tree holds, for the books."""
        return [node.page for node in self._nodes()]

    def check(self) -> None:
        """Raise if the tree is not in order."""
        for node in self._nodes():
            assert node.parent.children[node.token_ids] is node, "a node is not where its parent looks for it"
            assert 0 < len(node.token_ids) <= PAGE_SIZE, "a node holds no page's worth of tokens"
            assert len(node.token_ids) == PAGE_SIZE or not node.children, "a short page has children"
            is_held = node.parent.page is None or node.parent.is_pinned
            assert is_held or not node.is_pinned, "a pin hangs on a loose page"
        pages = self.pages()
        assert len(set(pages)) == len(pages), "a page is in the tree twice"
        assert self.num_idle == sum([self._is_idle(node) for node in self._nodes()]), "idle pages are miscounted"
        awaited = {id(node) for _, _, node in self._heap} | {id(node) for node in self.cache.let_go.values()}
        leaves = [node for node in self._nodes() if self._is_leaf(node)]
        assert all([id(node) in awaited for node in leaves]), "a leaf would never be evicted"

    cdef bint _is_idle(self, Node node):
        return not node.is_pinned and not self.cache.is_shared(node.page)

    cdef list _nodes(self):
        """Every node but the roots."""
        return [node for node in _below(self._roots.values()) if node.page is not None]


cdef list _below(nodes):
    """These nodes and all that hang on them."""
    cdef list found = list(nodes)
    for node in found:  # which grows
        found.extend((<Node>node).children.values())
    return found


cdef Node _closest(Node node, tuple part, long *agreeing):
    """The child that agrees with `part` the longest from its start, and for how many tokens; None if not for one."""
    cdef Node child, best = node.children.get(part)
    cdef long count, longest = 0
    if best is not None:
        agreeing[0] = len(part)
        return best
    for child in node.children.values():
        count = 0
        while count < len(part) and count < len(child.token_ids) and part[count] == child.token_ids[count]:
            count += 1
        if count > longest:
            best, longest = child, count
    agreeing[0] = longest
    return best
