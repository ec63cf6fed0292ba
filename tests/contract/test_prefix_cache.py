"""The prefix cache on every engine: the longest known beginning to the token, and books that balance."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import write_model
from verbatim.reference.checkpoint.families import load_config

SIZE = 16


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return load_config(write_model(tmp_path_factory.mktemp("model"), num_hidden_layers=1, head_dim=8))


@pytest.fixture(scope="module")
def new_tree(part, config):
    cache, prefix_cache = part("cache.pages"), part("cache.prefix_cache")
    return lambda num_pages=64, max_ended=-1: prefix_cache.PrefixCache(cache.PagedCache(config, num_pages), max_ended)


def compute(tree, token_ids, salt="", **options):
    """What an engine does with a sequence that nobody needs any more."""
    pages = [tree.cache.allocate() for _ in range(-(-len(token_ids) // SIZE))]
    tree.insert(tuple(token_ids), pages, salt, **options)
    tree.cache.release(pages)
    check(tree)
    return pages


def check(tree, *holdings):
    tree.check()
    tree.cache.check([tree.pages(), *holdings])


def matched(tree, token_ids, salt="", *others):
    """How many tokens the tree knows; `others` are pages in use."""
    pages, count = tree.match(tuple(token_ids), salt)
    check(tree, pages, *others)
    assert len(pages) == -(-count // SIZE)
    tree.cache.release(pages)
    return count


def test_a_match_is_exact_to_the_token(new_tree):
    tree = new_tree()
    pages = compute(tree, range(40))
    found, _ = tree.match(tuple(range(40)))
    assert found == pages
    tree.cache.release(found)
    for count in (0, 1, 15, 16, 17, 32, 39, 40):
        assert matched(tree, [*range(count), 999, 998]) == count


def test_salts_do_not_see_each_other(new_tree):
    tree = new_tree()
    compute(tree, range(20), "mine")
    assert matched(tree, range(20), "yours") == 0
    assert matched(tree, range(20)) == 0
    assert matched(tree, range(20), "mine") == 20


def test_what_is_known_already_takes_no_second_page(new_tree):
    tree = new_tree()
    compute(tree, range(40))
    compute(tree, range(40))
    compute(tree, range(24))
    assert len(tree.pages()) == 3


def test_eviction_takes_the_least_recently_used_leaf(new_tree):
    tree = new_tree()
    compute(tree, range(32))
    compute(tree, range(100, 132))
    matched(tree, range(32))
    assert tree.evict()
    assert matched(tree, range(100, 132)) == 16
    assert matched(tree, range(32)) == 32
    while tree.evict():
        check(tree)
    assert tree.cache.num_free == 64


def test_a_page_in_use_and_a_pinned_one_stay(new_tree):
    tree = new_tree()
    compute(tree, range(20), is_pinned=True)
    compute(tree, range(50, 70))
    pages, _ = tree.match(tuple(range(50, 70)))
    assert tree.num_idle == 0
    assert not tree.evict()
    tree.cache.release(pages)
    assert tree.num_idle == 2
    while tree.evict():
        check(tree)
    assert matched(tree, range(20)) == 20
    assert matched(tree, range(50, 70)) == 0


@pytest.mark.parametrize("max_ended", [0, 1, 2])
def test_so_many_ended_sequences_are_kept(new_tree, max_ended):
    """The latest; of one that is let go, what another needs stays, and so does what is pinned."""
    tree = new_tree(max_ended=max_ended)
    compute(tree, range(300, 320), is_pinned=True)
    beginning = list(range(32))
    for last in (50, 60, 70):
        compute(tree, [*beginning, *range(last, last + 8)])
        tree.trim()
        check(tree)
    ended = [last for last in (50, 60, 70) if matched(tree, [*beginning, *range(last, last + 8)]) == 40]
    assert ended == [50, 60, 70][3 - max_ended :]
    assert matched(tree, beginning) == (32 if max_ended else 0)
    assert matched(tree, range(300, 320)) == 20
    assert tree.num_idle == {0: 0, 1: 3, 2: 4}[max_ended]


def test_what_is_in_use_has_not_ended(new_tree):
    tree = new_tree(max_ended=0)
    compute(tree, range(40))
    pages, count = tree.match(tuple(range(40)))
    tree.trim()
    check(tree, pages)
    assert (count, matched(tree, range(40), "", pages)) == (40, 40)
    tree.cache.release(pages)
    tree.trim()
    check(tree)
    assert tree.pages() == []


def test_a_sequence_that_another_continues_counts_with_it(new_tree):
    tree = new_tree(max_ended=1)
    for length in (20, 40, 70):
        compute(tree, range(length))
        tree.trim()
        check(tree)
    assert matched(tree, range(70)) == 70


def test_clear_forgets_everything(new_tree):
    tree = new_tree()
    compute(tree, range(20), is_pinned=True)
    compute(tree, range(20), "salt")
    tree.clear()
    check(tree)
    assert tree.cache.num_free == 64
    assert matched(tree, range(20)) == 0


sequences = st.lists(st.integers(0, 1), max_size=50)


@settings(deadline=None, print_blob=True)
@given(known=st.lists(st.tuples(sequences, st.sampled_from("ab")), max_size=6), asked=sequences)
def test_against_a_search_through_all_that_was_inserted(new_tree, known, asked):
    tree = new_tree()
    for token_ids, salt in known:
        compute(tree, token_ids, salt)
    for salt in "ab":
        expected = max((common(asked, token_ids) for token_ids, own in known if own == salt), default=0)
        assert matched(tree, asked, salt) == expected


def common(first, second):
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count
