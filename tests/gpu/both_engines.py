"""A model directory or file on the reference and on a device: logits, intermediate results, and memory."""

import numpy as np

from verbatim.fastpath import backend as fastpath_backend
from verbatim.fastpath.gpu.memory import weights_bytes
from verbatim.reference import backend as reference_backend
from verbatim.reference.records.sequence import Chunk


def logits_of(engine, directory, seen=None, **options):
    """A prompt of 30 tokens in one piece, then four tokens one by one; what an observer sees goes into `seen`."""
    model = engine.load_model(directory, **options)
    if seen is not None:
        model.watch = lambda layer, name, rows: seen.__setitem__((layer, name), rows.copy())
    parts = model.parts if hasattr(model, "parts") else engine.PARTS
    cache = parts.PagedCache(model.config, 3)
    pages, ids = tuple(cache.allocate() for _ in range(3)), np.random.default_rng(0).integers(0, 96, 34).tolist()
    found = [model.forward([Chunk(token_ids=tuple(ids[:30]), start=0, pages=pages, num_logits=2)], cache)]
    found = [np.array(found[0])]
    for at in range(30, 34):
        found.append(np.array(model.forward([Chunk(token_ids=(ids[at],), start=at, pages=pages)], cache)))
    return np.concatenate(found), model


def check(directory):
    """Assert equal bits; returns the model on the device."""
    expected, _ = logits_of(reference_backend, directory)
    found, model = logits_of(fastpath_backend, directory, device="cuda")
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    return model


def check_memory(directory, model):
    """Assert that the weights take the memory that was planned for them."""
    planned, tables = weights_bytes(directory, model.config.quantization), 4 * 256 * model.config.head_dim
    assert abs(model.weights.num_bytes - tables - planned) < 0.05 * planned


def check_observed(directory):
    """Assert that an observer sees the same intermediate results on both."""
    expected, found = {}, {}
    logits_of(reference_backend, directory, expected)
    logits_of(fastpath_backend, directory, found, device="cuda")
    expected = {key: rows for key, rows in expected.items() if not key[1].startswith("cached")}
    assert list(found) == list(expected)
    for key, rows in expected.items():
        np.testing.assert_array_equal(np.ascontiguousarray(found[key]), rows, err_msg=str(key))
