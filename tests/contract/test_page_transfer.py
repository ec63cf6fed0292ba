"""Pages leave one cache and enter another, of the same engine or of another: decoding gives the same bits."""

import importlib

import numpy as np
import pytest

from small_models import write_model
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.limits import KV_CACHE_DTYPES
from verbatim.reference.records.sequence import Chunk

PROMPT = tuple((7 * i + 3) % 96 for i in range(37))  # two full pages and a part of the third
FOLLOWING = (5, 90, 12, 40, 41, 8, 60, 2, 33, 71, 19, 4)  # up to the fourth page


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """head_dim 10 is no multiple of a vector's lanes: the fast path pads its values."""
    return write_model(tmp_path_factory.mktemp("model"), head_dim=10)


@pytest.fixture(scope="module")
def engines():
    """Every engine that is built, by name."""
    found = {}
    for name in ("reference", "fastpath"):
        try:
            found[name] = importlib.import_module(f"verbatim.{name}.backend")
        except BackendError:
            continue
    return found


def new_cache(backend, directory, dtype, num_pages=9):
    model = backend.load_model(directory, device="cpu")
    return model, backend.PARTS.PagedCache(model.config, num_pages, dtype)


def prefill(model, cache, pages, ids, start):
    chunk = Chunk(token_ids=tuple(ids), start=start, pages=tuple(pages), num_logits=len(ids))
    return np.asarray(model.forward([chunk], cache)).copy()


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
@pytest.mark.parametrize("other", ["reference", "fastpath"])
def test_decoding_gives_the_same_bits(backend, other, engines, directory, dtype):
    if other not in engines:
        pytest.skip(f"{other} is not built")
    model, cache = new_cache(backend, directory, dtype)
    pages = [cache.allocate() for _ in range(4)]
    prefill(model, cache, pages, PROMPT, 0)
    data = cache.export_pages(pages[:3])
    assert data.dtype == KV_CACHE_DTYPES[dtype] and data.flags.c_contiguous

    receiver, into = new_cache(engines[other], directory, dtype, num_pages=20)
    own = [into.allocate() for _ in range(9)][4:8]  # other page numbers, in another order
    own.reverse()
    into.import_pages(own[:3], data)
    assert np.array_equal(into.export_pages(own[:3]), data)
    for i, token_id in enumerate(FOLLOWING):
        expected = prefill(model, cache, pages, (token_id,), len(PROMPT) + i)
        found = prefill(receiver, into, own, (token_id,), len(PROMPT) + i)
        assert np.array_equal(expected.view(np.uint32), found.view(np.uint32)), i


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
def test_engines_export_the_same_bytes(engines, directory, dtype):
    exported = []
    for backend in engines.values():
        model, cache = new_cache(backend, directory, dtype)
        pages = [cache.allocate() for _ in range(2)]
        prefill(model, cache, pages, PROMPT[:32], 0)
        exported.append(cache.export_pages(pages).tobytes())
    assert len(set(exported)) == 1 and len(exported) == len(engines)


def test_what_does_not_fit_is_refused(backend, directory):
    model, cache = new_cache(backend, directory, "float16")
    pages = [cache.allocate() for _ in range(3)]
    prefill(model, cache, pages, PROMPT, 0)
    data = cache.export_pages(pages)
    before = cache.export_pages(pages).tobytes()
    with pytest.raises(ValueError, match="the cache stores float16, the pages to be imported are float32"):
        cache.import_pages(pages, data.astype(np.float32))
    with pytest.raises(ValueError, match="2 pages of this cache are"):
        cache.import_pages(pages[:2], data)
    with pytest.raises(ValueError, match="3 pages of this cache are"):
        cache.import_pages(pages, data[:, :, :1])
    with pytest.raises(IndexError, match=r"pages must lie in 0\.\.8, not 9"):
        cache.import_pages([*pages[:2], 9], data)
    with pytest.raises(IndexError, match=r"pages must lie in 0\.\.8, not -1"):
        cache.export_pages([-1])
    cache.share(pages[:1])
    with pytest.raises(ValueError, match=f"page {pages[0]} must have one user"):
        cache.import_pages(pages, data)
    cache.release(pages[:1])
    cache.release(pages[1:2])
    with pytest.raises(ValueError, match=f"page {pages[1]} must have one user"):
        cache.import_pages(pages, data)
    with pytest.raises(ValueError, match="imports into it once"):
        cache.import_pages([pages[0], pages[0], pages[2]], data)
    assert cache.export_pages(pages).tobytes() == before, "nothing was written"
    cache.check([[pages[0], pages[2]]])


def test_the_executor_moves_pages(backend, directory):
    """What a connector between two engines will call."""
    from verbatim.reference.engine.executor import LocalExecutor

    source, target = (LocalExecutor(*new_cache(backend, directory, "float32")) for _ in range(2))
    pages = tuple(source.cache.allocate() for _ in range(3))
    source.forward([Chunk(token_ids=PROMPT, start=0, pages=pages)])
    own = [target.cache.allocate() for _ in range(3)]
    exported = source.export_pages(pages)
    target.import_pages(own, exported)
    copied = source.copy_page(pages[1])
    assert np.array_equal(source.export_pages([copied]).data[0], target.export_pages(own).data[1])
    before = target.export_pages(own)
    exported.data[1].reshape(-1).view(np.uint8)[99] ^= 16
    with pytest.raises(ValueError, match="page 1 of 3 is damaged"):
        target.import_pages(own, exported)
    with pytest.raises(ValueError, match="2 pages have 3 checksums"):
        target.import_pages(own[:2], exported._replace(data=exported.data[:2]))
    assert target.export_pages(own).checksums == before.checksums, "nothing was written"
