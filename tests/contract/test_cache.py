"""Pages: counted by reference, copied before a shared one is written, and read back bit for bit."""

from types import SimpleNamespace

import numpy as np
import pytest

CONFIG = SimpleNamespace(num_layers=2, num_kv_heads=3, head_dim=10)


@pytest.fixture
def cache(part):
    return part("cache.pages").PagedCache(CONFIG, 8)


def random(tokens, seed=0):
    return np.random.default_rng(seed).standard_normal((2, tokens, 3, 10)).astype(np.float32)


def test_pages_hold_sixteen_tokens(part):
    cache = part("cache.pages")
    assert cache.PAGE_SIZE == 16
    assert [cache.pages_for(n) for n in (0, 1, 16, 17, 160)] == [0, 1, 1, 2, 10]


def test_what_is_written_is_read(cache):
    keys, values = random(40)
    pages = [cache.allocate() for _ in range(3)]
    cache.write(1, pages, 0, keys[:25], values[:25])
    cache.write(1, pages, 25, keys[25:], values[25:])
    found_keys, found_values = cache.read(1, pages, 40)
    np.testing.assert_array_equal(found_keys, keys)
    np.testing.assert_array_equal(found_values, values)
    assert not cache.read(0, pages, 40)[0].any(), "layers are apart"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrower_pages_hold_what_was_rounded_once_in_half_the_memory(part, cache, dtype):
    narrower, numerics = part("cache.pages").PagedCache(CONFIG, 8, dtype), part("numerics.arithmetic")
    assert (cache.dtype, narrower.dtype) == ("float32", dtype)
    assert 2 * narrower.keys.nbytes == cache.keys.nbytes
    assert 2 * narrower.values.nbytes == cache.values.nbytes
    keys, values = random(40)
    keys[3, 1, 2], values[30, 0, 0] = 1e-7, 1e30
    pages = [narrower.allocate() for _ in range(3)]
    narrower.write(1, pages, 0, keys[:25], values[:25])
    narrower.write(1, pages, 25, keys[25:], values[25:])
    own = narrower.fork(pages, 30, 40)
    narrower.write(1, own, 30, keys[30:], values[30:])
    for held in (pages, own):
        for found, written in zip(narrower.read(1, held, 40), (keys, values), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, numerics.widen(numerics.narrow(written, dtype)))
            assert (found != written).any()


def test_a_page_is_free_when_its_last_user_leaves(cache):
    pages = [cache.allocate(), cache.allocate()]
    assert len(set(pages)) == 2
    assert cache.num_free == 6
    shared = cache.share(pages)
    assert shared == pages
    assert cache.is_shared(pages[0])
    cache.check([pages, shared])
    cache.release(pages)
    assert not cache.is_shared(pages[0])
    assert cache.num_free == 6
    cache.release(shared)
    assert cache.num_free == 8
    cache.check([])


def test_a_copy_is_ones_own(cache):
    keys, values = random(16)
    page = cache.allocate()
    other = cache.share([page])
    for layer in range(2):
        cache.write(layer, [page], 0, keys + layer, values)
    own = cache.copy(page)
    assert own != page
    assert not cache.is_shared(page)
    np.testing.assert_array_equal(cache.read(1, [own], 16)[0], keys + 1)
    cache.write(1, [own], 3, values[:1], keys[:1])
    np.testing.assert_array_equal(cache.read(1, other, 16)[0], keys + 1)
    np.testing.assert_array_equal(cache.read(1, [own], 16)[0][3], values[0])
    cache.check([[own], other])


@pytest.mark.parametrize("start", [20, 32])
def test_another_way_on_shares_what_lies_before_it(cache, start):
    keys, values = random(40)
    pages = [cache.allocate() for _ in range(3)]
    cache.write(1, pages, 0, keys, values)
    own = cache.fork(pages, start, 40)
    assert own[: start // 16] == pages[: start // 16]
    assert not {*own[start // 16 :]} & {*pages}
    cache.check([pages, own])
    cache.write(1, own, start, values[start:], keys[start:])
    np.testing.assert_array_equal(cache.read(1, pages, 40)[0], keys)
    np.testing.assert_array_equal(cache.read(1, own, 40)[0], [*keys[:start], *values[start:]])
    free = cache.num_free
    assert cache.fork(pages, start, (start // 16 + free + 1) * 16) is None
    assert cache.num_free == free
    cache.check([pages, own])


def test_check_sees_wrong_books(cache):
    pages = [cache.allocate()]
    with pytest.raises(AssertionError):
        cache.check([])
    with pytest.raises(AssertionError):
        cache.check([pages, pages])
