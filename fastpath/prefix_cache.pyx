"""Mirrored. What has been computed before: a radix tree of pages, so that requests that begin alike share it.

Each node is one page with its up to 16 token ids. A match ends inside the first page that differs, so it is exact to
the token. Eviction and counting walk the tree; they run when pages are short, or when somebody asks.
"""

from fastpath.cache import NO_PAGE, PAGE_SIZE


cdef class Node:
    """A page in the tree. `token_ids` are its 16, or fewer in a leaf where a sequence ended; `used` is a step count."""

    cdef readonly tuple token_ids
    cdef readonly object page
    cdef readonly Node parent
    cdef readonly dict children
    cdef public long used
    cdef public bint is_pinned

    def __cinit__(self, tuple token_ids=(), page=None, Node parent=None):
        self.token_ids, self.page, self.parent, self.children = token_ids, page, parent, {}


cdef class PrefixCache:
    """The tree over `cache`, one root a salt: requests with different salts never see each other's pages."""

    cdef readonly object cache
    cdef dict _roots
    cdef long _clock

    def __init__(self, cache):
        self.cache, self._roots, self._clock = cache, {}, 0

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
            child.used = self._clock
            child.is_pinned |= is_pinned
            node = child

    def evict(self) -> bool:
        """Forget the least recently used page that nobody else uses and that is not pinned; False if there is none.

        Leaves go first. Below an inner node whose page is idle, as behind a sliding window, everything is forgotten,
        and pages in use stay with their users.
        """
        cdef Node node, oldest = None
        for node in self._nodes():
            if self._is_idle(node) and (oldest is None or _rank(node) < _rank(oldest)):
                oldest = node
        if oldest is None:
            return False
        del oldest.parent.children[oldest.token_ids]
        self.cache.release([node.page for node in _below([oldest])])
        return True

    def clear(self) -> None:
        """Forget everything, pinned or not; pages in use stay with their users."""
        self.cache.release(self.pages())
        self._roots.clear()

    @property
    def num_idle(self) -> int:
        """Pages that eviction could free: in the tree, not pinned, and used by nobody else."""
        return sum([self._is_idle(node) for node in self._nodes()])

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


cdef tuple _rank(Node node):
    return bool(node.children), node.used


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
