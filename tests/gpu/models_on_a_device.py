"""Models on a device equal the reference, bit for bit: every family, states, pages; and what a device refuses.

Not collected by itself: test_fake_driver.py runs it where the device is the emulator. On a machine with a GPU,
`GPU_TESTS=device pytest tests/gpu/*_on_a_device.py` runs it with the real driver.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from small_models import stored_bits
from verbatim.demo import MODEL
from verbatim.fastpath import backend as fastpath_backend
from verbatim.fastpath.gpu import backend as fastpath_gpu_backend
from verbatim.fastpath.gpu.cache import DevicePagedCache
from verbatim.fastpath.gpu.device import Device, count_devices
from verbatim.fastpath.gpu.memory import make_plan
from verbatim.fastpath.gpu.probe import free_bytes_of
from verbatim.reference import backend as reference_backend
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.records.errors import BackendError, NumericsError
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import SamplingParams
from verbatim.reference.records.sequence import Chunk

REFERENCE = reference_backend.PARTS
SMALL = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "head_dim": 16, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 40}
GEMMA = {"query_pre_attn_scalar": 24, "sliding_window": 20, "hidden_activation": "gelu_pytorch_tanh"}
GRANITE = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0}
FAMILIES = {
    "llama": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "mistral, sinks": ("MistralForCausalLM", {"sliding_window": 20, "attention_sink_size": 3}),
    "qwen3": ("Qwen3ForCausalLM", {"tie_word_embeddings": True}),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": 33}),
    "smollm3": ("SmolLM3ForCausalLM", {"no_rope_layers": [1, 0]}),
    "olmo2": ("Olmo2ForCausalLM", {}),
    "granite": ("GraniteForCausalLM", GRANITE),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3 moe": ("Qwen3MoeForCausalLM", EXPERTS | {"norm_topk_prob": False}),
}  # fmt: skip
WIDE = {"hidden_size": 300, "intermediate_size": 530, "num_attention_heads": 3, "num_key_value_heads": 1}
TEXT = "Once upon a time there was a little dog who"


class RandomWeights(Weights):
    """Random tensors, the same for the same name."""

    def __init__(self, dtype):
        super().__init__({})
        self.dtype = dtype

    def __contains__(self, name):
        return True

    def get(self, name, shape, *, dtypes=()):
        random = np.random.default_rng(list(name.encode()))
        values = random.standard_normal(shape) * 0.3 + (len(shape) == 1 and "norm" in name)
        return Tensor(name, self.dtype, stored_bits(values.astype(np.float32), self.dtype))


@pytest.fixture(scope="module")
def device():
    return Device("cuda")  # closed when the process ends, as an engine's is


@pytest.fixture
def pair(device, tmp_path):
    """A function that makes a random model on both sides."""

    def make(family, dtype="BF16", quantization=None, kv_cache_dtype="float32", **changes):
        name, options = FAMILIES[family]
        raw = SMALL | options | changes | {"architectures": [name]}
        (tmp_path / "config.json").write_text(json.dumps(raw))
        config = load_config(tmp_path)
        checkpoint = open_checkpoint(config, RandomWeights(dtype))
        parts = fastpath_gpu_backend.make_parts(device)
        models = [engine.Model(config, checkpoint, quantization=quantization) for engine in (REFERENCE, parts)]
        return models, [engine.PagedCache(config, 24, kv_cache_dtype) for engine in (REFERENCE, parts)]

    return make


def passes(model, cache):
    """Logits of a prompt in two chunks, and of two sequences token by token, the second after a copied page."""
    ids = np.random.default_rng(0).integers(0, 96, 100).tolist()
    pages = [cache.allocate() for _ in range(7)]
    found = [model.forward([Chunk(token_ids=tuple(ids[:70]), start=0, pages=tuple(pages), num_logits=3)], cache)]
    found = [np.array(rows) for rows in found]
    fork = cache.fork(pages, 70, 90)
    for step in range(4):
        chunks = [
            Chunk(token_ids=(ids[70 + step],), start=70 + step, pages=tuple(pages)),
            Chunk(token_ids=(ids[80 - step],), start=70 + step, pages=tuple(fork)),
        ]
        found.append(np.array(model.forward(chunks, cache)))
    drafted = [Chunk(token_ids=tuple(ids[74:77]), start=74, pages=tuple(pages), num_logits=3), chunks[1]]
    found.append(np.array(model.forward(drafted, cache)))
    tail = [Chunk(token_ids=tuple(ids[74:90]), start=74, pages=tuple(pages)), chunks[1]]
    found.append(np.array(model.forward(tail, cache)))
    return np.concatenate(found)


def same(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("way", ["to the device", "from the device"])
def test_pages_move_between_processor_and_device(pair, dtype, way):
    """Decoding gives the same bits, whichever of the two computed the prompt."""
    models, caches = pair("llama", kv_cache_dtype=dtype)
    if way == "from the device":
        models, caches = models[::-1], caches[::-1]
    ids = tuple(np.random.default_rng(1).integers(0, 96, 40).tolist())
    pages = [[cache.allocate() for _ in range(5)] for cache in caches]
    pages[1].reverse()
    models[0].forward([Chunk(token_ids=ids, start=0, pages=tuple(pages[0]))], caches[0])
    data = caches[0].export_pages(pages[0][:3])
    caches[1].import_pages(pages[1][:3], data)
    assert data.flags.c_contiguous and np.array_equal(caches[1].export_pages(pages[1][:3]), data)
    for start in range(40, 50):
        rows = [
            np.array(model.forward([Chunk(token_ids=(start,), start=start, pages=tuple(own))], cache))
            for model, cache, own in zip(models, caches, pages, strict=True)
        ]
        assert np.array_equal(rows[0].view(np.uint32), rows[1].view(np.uint32)), start
    with pytest.raises(ValueError, match="pages of this cache are"):
        caches[1].import_pages(pages[1][:2], data)
    caches[1].share(pages[1][:1])
    with pytest.raises(ValueError, match="must have one user"):
        caches[1].import_pages(pages[1][:3], data)


@pytest.mark.parametrize(
    ("family", "quantization"),
    [*[(family, None) for family in FAMILIES], ("llama", "w8a8"), ("mixtral", "w4a8"), ("gemma2", "w4a8")],
)
def test_every_family(pair, family, quantization):
    (reference, model), (reference_cache, cache) = pair(family, quantization=quantization)
    same(passes(model, cache), passes(reference, reference_cache))
    assert model.num_replays == 5, "a step that only decodes is the replay of a graph"
    for layer in range(2):
        pages = zip(cache.read(layer, range(5), 70), reference_cache.read(layer, range(5), 70), strict=True)
        for found, expected in pages:
            used = np.array(expected)  # pages are given out in the same order on both sides
            same(np.ascontiguousarray(found), used)


@pytest.mark.parametrize(
    ("family", "kv_cache_dtype"), [("mistral, sinks", "float16"), ("llama", "bfloat16"), ("gemma2", "bfloat16")]
)
def test_narrower_pages(pair, family, kv_cache_dtype):
    (reference, model), (reference_cache, cache) = pair(family, kv_cache_dtype=kv_cache_dtype)
    same(passes(model, cache), passes(reference, reference_cache))
    assert model.num_replays == 5
    wide = DevicePagedCache(model.device, model.config, 24)
    assert wide.layer_bytes == 2 * cache.layer_bytes
    for found, expected in zip(cache.read(1, range(5), 70), reference_cache.read(1, range(5), 70), strict=True):
        same(np.ascontiguousarray(found), np.array(expected))


@pytest.mark.parametrize("dtype", ["F32", pytest.param("F16", marks=pytest.mark.slow), "BF16"])
def test_wider_than_a_block(pair, dtype):
    (reference, model), (reference_cache, cache) = pair("llama", dtype=dtype, head_dim=100, **WIDE)
    same(passes(model, cache), passes(reference, reference_cache))


def test_states_and_scores(pair):
    (reference, model), caches = pair("gemma2")
    chunk = Chunk(token_ids=(5, 6, 7), start=0, pages=(3,))
    states = [side.states([chunk], cache) for side, cache in zip((reference, model), caches, strict=True)]
    same(states[1], states[0])
    same(model.score(states[1]), reference.score(states[0]))
    with pytest.raises(ValueError, match="48 features"):
        model.score(states[0][:, :5])


def test_an_observer_sees_the_same_on_both_sides(pair):
    for family in ("qwen3", "mixtral"):
        (reference, model), (reference_cache, cache) = pair(family)
        seen = []
        for side in (reference, model):
            seen.append({})
            side.watch = lambda layer, name, rows, into=seen[-1]: into.__setitem__((layer, name), rows.copy())
        passes(reference, reference_cache)
        passes(model, cache)
        expected = {key: rows for key, rows in seen[0].items() if not key[1].startswith("cached")}
        assert list(seen[1]) == list(expected)
        for key, rows in expected.items():
            same(np.ascontiguousarray(seen[1][key]), np.ascontiguousarray(rows))


def test_a_change_by_who_watches_is_taken_on(pair):
    (_, model), (_, cache) = pair("llama")
    before = passes(model, cache)

    def double(layer, name, rows):
        if (layer, name) == (1, "value"):
            rows *= 2

    model.watch = double
    assert (passes(model, DevicePagedCache(model.device, model.config, 24)) != before).any()


def test_what_kernels_take_on_trust_is_checked(pair):
    (_, model), (_, cache) = pair("llama")
    for chunk, message in [
        (Chunk(token_ids=(96,), start=0, pages=(0,)), "token ids must"),
        (Chunk(token_ids=(1,), start=16, pages=(0,)), "outside the context"),
        (Chunk(token_ids=(1,), start=0, pages=(24,)), "pages must lie in 0..23"),
        (Chunk(token_ids=(1,), start=0, pages=(-1,)), "pages must lie in 0..23"),
    ]:
        with pytest.raises(IndexError, match=message):
            model.forward([chunk], cache)
    other = DevicePagedCache(model.device, replace(model.config, num_kv_heads=4), 2)
    with pytest.raises(ValueError, match="another model"):
        model.forward([Chunk(token_ids=(1,), start=0, pages=(0,))], other)
    with pytest.raises(NotImplementedError, match="kernels only"):
        cache.write(0, [0], 0, None, None)


def test_logits_of_an_earlier_pass_are_refused(pair):
    (_, model), (_, cache) = pair("llama")
    chunk = Chunk(token_ids=(1, 2), start=0, pages=(0,), num_logits=2)
    first = model.forward([chunk], cache)
    assert len(first) == 2 and len(first[-1]) == 96
    same(np.asarray(first)[1], np.asarray(first[1]))
    with pytest.raises(IndexError, match="row 2 of 2"):
        first[2]
    model.forward([chunk], cache)
    with pytest.raises(ValueError, match="are gone"):
        np.asarray(first)


def test_a_logit_that_is_no_number_ends_its_request_alone(pair):
    (_, model), (_, cache) = pair("llama")
    rows = model.forward([Chunk(token_ids=(1, 2), start=0, pages=(0,), num_logits=2)], cache)
    model.device.write(rows.address(0), np.array([np.inf], np.float32))
    rows.peaks[0, 1] = 0
    parts, rest = fastpath_gpu_backend.make_parts(model.device), {"prompt_ids": (1,), "output_ids": [], "choice": 0}
    for row in (rows[0], np.asarray(rows[0])):
        with pytest.raises(NumericsError, match="position 7"):
            parts.sample(row, SamplingParams(seed=0), position=7, **rest)
        with pytest.raises(NumericsError, match="prompt"):
            parts.score(row, 1, 0)
    assert parts.sample(rows[1], SamplingParams(seed=0), position=7, **rest).token_id >= 0
    model.device.write(rows.address(1), np.array([3e38, 3e38], np.float32))
    with pytest.raises(NumericsError, match="penalized"):
        parts.sample(rows[1], SamplingParams(seed=0, repetition_penalty=0.01), position=7, **rest)


def test_a_launch_whose_blocks_cannot_all_be_there_is_refused(device):
    """And arguments that do not fit the kernel. What is on the stream afterwards goes on as before."""
    count, held = 100 * device.num_multiprocessors, device.put(np.zeros(4, np.float32))
    memory = int(held)
    values = memory, memory, memory, memory, memory, memory, memory, 1
    with pytest.raises(BackendError, match="CUDA error 720 while launching blocks that wait for each other"):
        device.launch("sample_rows", (count, 1), 1024, 0, "PPPPPPPi", *values, is_cooperative=True)
    with pytest.raises(ValueError, match="8 arguments are wanted, not 7"):
        device.launch("sample_rows", (2, 1), 1024, 0, "PPPPPPPi", *values[1:], is_cooperative=True)
    with pytest.raises(ValueError, match="P or i, not Pf"):
        device.launch("add_scaled", (2, 1), 32, 0, "Pf", memory, 1.0, is_cooperative=True)
    with pytest.raises(BackendError, match="CUDA error 500 while looking for no_kernel"):
        device.launch("no_kernel", (2, 1), 32, 0, "P", memory, is_cooperative=True)
    assert device.read(memory, 4).tolist() == [0, 0, 0, 0]


def test_the_model_command_writes_the_same_logits(tmp_path):
    found = []
    for package, device in (("reference", "cpu"), ("fastpath", "cuda:0")):
        out = tmp_path / f"{package}.npz"
        command = [
            sys.executable,
            "-m",
            "verbatim",
            "logits",
            "--backend",
            package,
            "--device",
            device,
            "--ids",
            "1,5,9,300",
            "--out",
            out,
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        found.append(np.load(out)["logits"])
    same(found[1], found[0])


def test_a_device_that_is_not_there_is_one_clear_line():
    number = count_devices()
    with pytest.raises(BackendError, match=rf"cuda:{number}: PyCUDA finds {number} GPU"):
        fastpath_backend.load_model(MODEL, device=f"cuda:{number}")
    with pytest.raises(BackendError, match=f"no device cuda:{number}"):
        Device(f"cuda:{number}")
    with pytest.raises(BackendError, match="memory of cuda:99 cannot be asked"):
        free_bytes_of("cuda:99")


def test_the_memory_plan_says_what_each_part_needs(device):
    config, limits = load_config(MODEL), EngineLimits(max_total_seq_length=4096)
    free = free_bytes_of("cuda")
    assert min(free, device.free_bytes) > 1 << 28
    plan = make_plan(config, [MODEL], None, limits, free=free)
    assert plan.limit(limits, config).max_total_seq_length == 4096
    assert make_plan(config, [MODEL], "w8a8", limits, free=free).weights < plan.weights
    narrower = replace(limits, kv_cache_dtype="float16")
    assert 2 * make_plan(config, [MODEL], None, narrower, free=free).page == plan.page
    few = replace(limits, max_num_sequence=2)
    speculating = make_plan(config, [MODEL], None, replace(few, speculative_mode="ngram"), free=free)
    assert make_plan(config, [MODEL], None, few, free=free).scratch < speculating.scratch, "drafts are sampled, too"
    small = replace(plan, free=int((plan.weights + plan.scratch + 10 * plan.page) / plan.share) + 100)
    assert small.limit(EngineLimits(), config).max_total_seq_length == 160, "as many as fit, where nobody says how many"
    with pytest.raises(BackendError, match=r"weights .* MiB, scratch .* MiB, cache of 4096 tokens .* MiB; raise gpu"):
        small.limit(limits, config)
    with pytest.raises(BackendError, match=r"needs .* MiB of GPU memory, of which"):
        device.allocate(1 << 45, "a cache")


def test_weights_take_what_the_plan_says(device):
    model = fastpath_backend.load_model(MODEL, device="cuda")
    planned = make_plan(model.config, [MODEL], None, EngineLimits(), free=1).weights
    tables = 4 * model.config.context_size * model.config.head_dim
    assert abs(model.weights.num_bytes - tables - planned) < 0.02 * planned


def test_a_closed_device_is_closed_for_good():
    other = Device("cuda")
    memory = other.put(np.zeros(5, np.float32))
    other.close()
    other.close()
    assert other.stream is None
    with pytest.raises(Exception, match="free"):
        memory.free()
