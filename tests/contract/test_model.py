"""The forward pass: a token's logits are its own, whatever shares the batch, the chunk, or the pages (N3 to N8)."""

import json
from functools import partial

import numpy as np
import pytest

from family_models import write_family
from small_models import write_model
from verbatim.reference.records.sequence import Chunk

IDS = tuple(int(i) for i in np.random.default_rng(5).integers(0, 96, 90))
MODELS = {
    "float32": {},
    "bfloat16 with biases": {"dtype": "BF16", "attention_bias": True, "mlp_bias": True},
    "float16, own head": {"dtype": "F16", "tie_word_embeddings": False},
    "small heads": {"head_dim": 8, "hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1},
    "w8a8": {"quantization": "w8a8"},
    "w4a8": {"quantization": "w4a8", "hidden_size": 40},
    "layer norms, parallel, no gate": {"family": "phi"},
    "a shared expert, w8a8": {"family": "qwen2_moe", "quantization": "w8a8"},
    "queries scaled by position": {"family": "ministral3"},
    "norms after rotation": {"family": "hunyuan"},
    "chunks, weights of experts' inputs": {"family": "llama4"},
    "norms of heads with weights of their own": {"family": "cohere"},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, part, tmp_path_factory):
    changes = dict(MODELS[request.param])
    quantization = changes.pop("quantization", None)
    write = partial(write_family, name=changes.pop("family")) if "family" in changes else write_model
    directory = write(tmp_path_factory.mktemp("model"), **changes)
    return part("backend").load_model(directory, quantization=quantization)


@pytest.fixture
def cache(part, model):
    return part("cache.pages").PagedCache(model.config, 32)


def pages_for(cache, num_tokens):
    return tuple(cache.allocate() for _ in range(-(-num_tokens // 16)))


def whole(model, cache, ids=IDS):
    chunk = Chunk(token_ids=ids, start=0, pages=pages_for(cache, len(ids)), num_logits=len(ids))
    return np.array(model.forward([chunk], cache))


def same(a, b):
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_logits_are_float32_one_row_for_each_wanted_token(model, cache):
    pages = pages_for(cache, 20)
    wanted = {0: 0, 1: 1, 5: 5}
    for count, rows in wanted.items():
        logits = model.forward([Chunk(token_ids=IDS[:5], start=0, pages=pages, num_logits=count)], cache)
        assert (logits.dtype, logits.shape) == (np.float32, (rows, 96))


def test_states_scored_are_the_logits(model, cache):
    chunk = Chunk(token_ids=IDS, start=0, pages=pages_for(cache, len(IDS)))
    states = model.states([chunk], cache)
    assert (states.dtype, states.shape) == (np.float32, (len(IDS), model.config.hidden_size))
    expected = whole(model, cache)
    same(np.array(model.score(states)), expected)
    same(np.array(model.score(states[[3, 80]])), expected[[3, 80]])
    assert model.score(states[:0]).shape == (0, 96)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_of_a_prompt_give_the_bits_of_the_whole(model, cache, size):
    expected, pages, found = whole(model, cache), pages_for(cache, len(IDS)), []
    for start in range(0, len(IDS), size):
        ids = IDS[start : start + size]
        chunk = Chunk(token_ids=ids, start=start, pages=pages, num_logits=len(ids))
        found.append(np.array(model.forward([chunk], cache)))
    same(np.concatenate(found), expected)


def test_strangers_in_the_batch_change_nothing(model, cache):
    expected = whole(model, cache, IDS[:30])
    strangers = [
        Chunk(token_ids=IDS[i : 2 * i + 5], start=0, pages=pages_for(cache, i + 5), num_logits=i % 2) for i in range(6)
    ]
    mine = Chunk(token_ids=IDS[:30], start=0, pages=pages_for(cache, 30), num_logits=30)
    logits = np.array(model.forward([*strangers, mine, strangers[0]], cache))
    before = sum(chunk.num_logits for chunk in strangers)
    same(logits[before : before + 30], expected)


def test_pages_may_lie_anywhere_and_hold_old_values(model, cache):
    expected = whole(model, cache)
    dirty = [cache.allocate() for _ in range(12)][::-1]
    old = np.full((192, model.config.num_kv_heads, model.config.head_dim), np.nan, np.float32)
    for layer in range(model.config.num_layers):
        cache.write(layer, dirty, 0, old, old)
    pages = tuple(dirty[i] for i in (5, 0, 9, 3, 8, 1))
    same(np.array(model.forward([Chunk(token_ids=IDS, start=0, pages=pages, num_logits=90)], cache)), expected)


def test_a_shared_prefix_is_as_good_as_ones_own(model, cache):
    expected, pages = whole(model, cache), pages_for(cache, len(IDS))
    model.forward([Chunk(token_ids=IDS[:50], start=0, pages=pages)], cache)
    shared = (*cache.share(pages[:3]), cache.copy(cache.share([pages[3]])[0]), *pages_for(cache, 32))
    found = model.forward([Chunk(token_ids=IDS[50:], start=50, pages=shared, num_logits=40)], cache)
    same(np.array(found), expected[50:])


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(token_ids=(96,), start=0, pages=(0,)),
        Chunk(token_ids=(1,), start=256, pages=tuple(range(17))),
        Chunk(token_ids=(1,), start=16, pages=(0,)),
        Chunk(token_ids=(1,), start=0, pages=(32,)),
    ],
)
def test_what_lies_outside_is_refused(model, cache, chunk):
    with pytest.raises(IndexError):
        model.forward([chunk], cache)


def test_the_published_text_of_a_real_model(part, stories):
    """stories260k's own greedy text, token by token (llama2.c)."""
    engine = part("backend").load_engine(stories)
    expected = json.loads((stories / "expected.json").read_text())[1]
    ids = engine.tokenizer.encode_prompt(expected["prompt"])
    cache = part("cache.pages").PagedCache(engine.config, 32)
    pages = pages_for(cache, 512)
    chunk = Chunk(token_ids=tuple(ids), start=0, pages=pages)
    for _ in range(80):
        ids.append(int(np.argmax(np.asarray(engine.model.forward([chunk], cache))[0])))
        chunk = Chunk(token_ids=(ids[-1],), start=len(ids) - 1, pages=pages)
    text = engine.tokenizer.decode(ids).strip()
    assert len(text) > 150
    assert expected["text"].startswith(text)
