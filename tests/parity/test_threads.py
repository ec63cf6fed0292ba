"""The number of threads changes no bit; they survive a fork, a failed step, two callers at once, and rest when idle."""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.test_dispatch import run
from small_models import SMALL, random_tensors, write_model, write_safetensors
from verbatim.reference.records.errors import BackendError
from verbatim.reference.records.sequence import Chunk

threads = pytest.importorskip("verbatim.fastpath.machine.threads", reason="the fast path is not built")
from verbatim.fastpath import backend  # noqa: E402

NUMBERS = (1, 2, 3)


@pytest.fixture(autouse=True)
def _chosen():
    chosen = threads.count()
    yield
    threads.use(chosen)


@pytest.fixture(scope="module", params=[None, "w8a8", "w4a8", "experts"])
def model(request, tmp_path_factory):
    """A model wide enough that every product has several strips; its keys and values are those of eight heads."""
    directory = tmp_path_factory.mktemp("threads")
    shape = {"hidden_size": 200, "intermediate_size": 1300, "num_attention_heads": 8, "num_key_value_heads": 4}
    if request.param == "experts":
        shape |= {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4,
                  "num_experts_per_tok": 2}  # fmt: skip
    write_model(directory, dtype="BF16", scale=0.1, vocab_size=300, head_dim=24, **shape)
    if request.param == "experts":
        add_experts(directory, SMALL | shape | {"vocab_size": 300, "head_dim": 24})
    return backend.load_model(directory, quantization=None if request.param == "experts" else request.param)


def add_experts(directory, config):
    """Write the tensors again, each feed-forward network as four experts with a router, as Mixtral names them."""
    tensors, hidden = {}, config["hidden_size"]
    for name, values in random_tensors(config, seed=3, scale=0.1).items():
        at = name.find("mlp.")
        if at < 0:
            tensors[name] = values
            continue
        matrix = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}[name.split(".")[-2]]
        for expert in range(4):
            tensors[f"{name[:at]}block_sparse_moe.experts.{expert}.{matrix}.weight"] = np.roll(values, expert, axis=0)
        router = np.random.default_rng(len(tensors)).standard_normal((4, hidden)) * 0.1
        tensors[f"{name[:at]}block_sparse_moe.gate.weight"] = router.astype(np.float32)
    write_safetensors(directory / "model.safetensors", tensors, "BF16")


def logits(model, lengths, seed=0):
    """A step of that many tokens of several sequences, then one more token of each."""
    random, cache = np.random.default_rng(seed), backend.PARTS.PagedCache(model.config, 16 * len(lengths))
    found = []
    starts = [0] * len(lengths)
    for step in (lengths, [1] * len(lengths)):
        chunks = []
        for i, length in enumerate(step):
            ids = tuple(random.integers(0, 300, length).tolist())
            pages = tuple(range(16 * i, 16 * i + 16))
            chunks.append(Chunk(token_ids=ids, start=starts[i], pages=pages, num_logits=length))
            starts[i] += length
        found.append(np.array(model.forward(chunks, cache)).view(np.uint32))
    return np.concatenate(found)


@settings(deadline=None, max_examples=15, print_blob=True)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_the_number_of_threads_changes_no_bit(model, lengths, seed):
    threads.use(1)
    expected = logits(model, lengths, seed)
    for number in NUMBERS[1:]:
        threads.use(number)
        for _ in range(2):
            np.testing.assert_array_equal(logits(model, lengths, seed), expected)


def test_two_callers_at_once_get_what_one_gets(model, tmp_path):
    threads.use(2)
    write_model(tmp_path, dtype="BF16", scale=0.1, vocab_size=300)
    models = [model, backend.load_model(tmp_path)]
    expected = [logits(model, [40, 3]) for model in models]
    found = [[], []]

    def call(i):
        for _ in range(20):
            found[i].append(logits(models[i], [40, 3]))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for i in range(2):
        assert len(found[i]) == 20
        for rows in found[i]:
            np.testing.assert_array_equal(rows, expected[i])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(model):
    threads.use(3)
    expected = logits(model, [30, 20])
    child = os.fork()
    if child == 0:
        os._exit(0 if (logits(model, [30, 20]) == expected).all() and _num_tasks() in (3, None) else 1)
    assert os.waitstatus_to_exitcode(_wait(child)) == 0
    np.testing.assert_array_equal(logits(model, [30, 20]), expected)


def _num_tasks():
    return len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else None


def _wait(child, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail(f"the child hung for {seconds} seconds")


def test_a_step_that_failed_leaves_the_threads_as_they_were(model):
    threads.use(2)
    expected = logits(model, [30, 20])

    def fail(layer, operation, rows):
        raise ZeroDivisionError(operation)

    model.watch = fail
    with pytest.raises(ZeroDivisionError, match="embedding"):
        logits(model, [30, 20])
    model.watch = None
    with pytest.raises(IndexError, match=r"token ids must lie in 0\.\.299, not"):
        model.forward([Chunk(token_ids=(300,), start=0, pages=(0,))], backend.PARTS.PagedCache(model.config, 1))
    np.testing.assert_array_equal(logits(model, [30, 20]), expected)


def test_idle_threads_take_no_time(model):
    threads.use(3)
    logits(model, [30, 20])
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


@pytest.mark.parametrize("number", ["0", "-1", "two", "257", "1.5", ""])
def test_what_is_no_number_of_threads_is_refused(number):
    with pytest.raises(BackendError, match=f"VERBATIM_THREADS must be a whole number from 1 to 256, not {number!r}"):
        threads.use(number)


def test_the_environment_says_how_many():
    code = "from verbatim.fastpath.machine import threads; print(threads.count())"
    assert run(code, VERBATIM_THREADS="5").stdout.strip() == "5"
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kept = os.environ.pop("VERBATIM_THREADS", None)
    try:
        assert run(code).stdout.strip() == str(min(allowed, 256))
    finally:
        if kept is not None:
            os.environ["VERBATIM_THREADS"] = kept
    assert "VERBATIM_THREADS must be" in run(code, VERBATIM_THREADS="many").stderr
