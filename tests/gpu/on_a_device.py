"""The whole GPU path on a device equals the reference, bit for bit: models of many shapes, engines, sampling.

Not collected by itself: test_fake_driver.py runs it where the device is the emulator. On a machine with a GPU,
`GPU_TESTS=device pytest tests/gpu/on_a_device.py` runs it with the real driver.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from small_models import stored_bits
from verbatim.demo import DRAFTS, MODEL
from verbatim.fastpath import backend as fastpath_backend
from verbatim.fastpath.gpu import backend as fastpath_gpu_backend
from verbatim.fastpath.gpu import sampling as fastpath_gpu_sampling
from verbatim.fastpath.gpu.cache import DevicePagedCache
from verbatim.fastpath.gpu.device import Device, count_devices
from verbatim.fastpath.gpu.memory import make_plan
from verbatim.fastpath.gpu.probe import free_bytes_of
from verbatim.reference import backend as reference_backend
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.records.errors import BackendError, NumericsError
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
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


@pytest.mark.parametrize("kv_cache_dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "mistral, sinks", "gemma2"])
def test_narrower_pages(pair, family, kv_cache_dtype):
    (reference, model), (reference_cache, cache) = pair(family, kv_cache_dtype=kv_cache_dtype)
    same(passes(model, cache), passes(reference, reference_cache))
    assert model.num_replays == 5
    wide = DevicePagedCache(model.device, model.config, 24)
    assert wide.layer_bytes == 2 * cache.layer_bytes
    for found, expected in zip(cache.read(1, range(5), 70), reference_cache.read(1, range(5), 70), strict=True):
        same(np.ascontiguousarray(found), np.array(expected))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
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


def requests(engine, **options):
    """Greedy, sampled in several ways, with a grammar, and with two choices; some prompts begin alike."""
    ids = tuple(engine.tokenizer.encode_prompt(TEXT))
    samplings = [
        {"temperature": 0}, {"top_p": 0.9, "logprobs": 3}, {"top_k": 20, "min_p": 0.01, "logprobs": 0},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "logit_bias": {300: 2.0}}, {"temperature": 1.5},
    ]  # fmt: skip
    made = [
        Request(
            request_id=str(i), prompt_ids=ids[: len(ids) - i], sampling=SamplingParams(seed=i, **sampling),
            stopping=StoppingParams(max_tokens=8), **options,
        )
        for i, sampling in enumerate(samplings)
    ]  # fmt: skip
    made[1] = replace(made[1], prompt_logprobs=2)
    return [*made[:4], replace(made[4], n=2)]


def answers(engine, wanted):
    """An engine's outputs for some requests, joined."""
    for request in wanted:
        engine.add(request)
    found = {}
    while engine.has_work():
        for output in engine.step():
            entry = found.setdefault((output.request_id, output.choice), ([], [], []))
            entry[0].extend(output.token_ids or output.embedding or ())
            entry[1].append(output.text)
            entry[2].extend([*output.prompt_logprobs, *output.logprobs] if output.prompt_logprobs else output.logprobs)
        engine.check()
    return {key: (ids, "".join(texts), logprobs) for key, (ids, texts, logprobs) in found.items()}


@pytest.fixture(scope="module")
def expected():
    """The reference's outputs, float and quantised."""
    found = {}
    for quantization in (None, "w4a8"):
        engine = reference_backend.load_engine(MODEL, quantization=quantization)
        found[quantization] = answers(engine, requests(engine))
    return found


@pytest.mark.parametrize(
    "limits",
    [
        {}, {"prefill_chunk_size": 7, "max_num_sequence": 2},
        {"prefix_cache_mode": "disable", "max_total_seq_length": 2048}, {"speculative_mode": "ngram"},
        {"speculative_mode": "small_draft", "spec_tree_width": 2, "spec_draft_length": 3},
        {"speculative_mode": "medusa"}, {"speculative_mode": "eagle"},
    ],
    ids=str,
)  # fmt: skip
def test_the_demo_model_says_the_same(expected, limits):
    draft = DRAFTS.get(limits.get("speculative_mode"))
    engine = fastpath_backend.load_engine(MODEL, device="cuda", limits=EngineLimits(**limits), draft_directory=draft)
    assert answers(engine, requests(engine)) == expected[None]
    assert engine.model.num_replays > 0 or engine.drafts.speculator is not None


def test_a_step_draws_all_its_rows_with_one_launch():
    """With a grammar, penalties and log-probabilities; it waits once for tokens and scores."""
    engine = fastpath_backend.load_engine(MODEL, device="cuda", limits=EngineLimits(max_num_sequence=8))
    wanted, steps, ops = requests(engine), [], engine.model.operations
    grammar = Grammar(syntax=GrammarSyntax.REGEX, source="[a-z ]{30}")
    wanted.append(replace(wanted[4], request_id="9", n=1, grammar=grammar))
    for request in wanted:
        engine.add(request)
    launch, read = ops._launch, engine.model.device.read

    def counting(name, *arguments):
        steps[-1][name] += 1
        launch(name, *arguments)

    def reading(*arguments):
        steps[-1]["reads"] += 1
        return read(*arguments)

    ops._launch, engine.model.device.read = counting, reading
    while engine.has_work():
        steps.append(Counter())
        engine.step()
    decoding = [step for step in steps if not step["attend_rows_float32"]]  # the others prefill
    assert len(decoding) >= 6 and engine.model.latest_graph.num_overlaps > 0
    found = {(step["sample_rows"], step["score_rows"], step["reads"]) for step in decoding}
    assert found <= {(1, 1, 1), (1, 0, 1), (0, 1, 1)} and (1, 1, 1) in found


@pytest.mark.parametrize("mode", ["disable", "ngram", "small_draft"])
def test_a_step_waits_once_for_all_that_it_draws_and_scores(mode):
    """Draft tokens of a sequence, the scores of a prompt, and several prompts' first tokens."""
    limits = EngineLimits(max_num_sequence=8, speculative_mode=mode, spec_draft_length=0 if mode == "disable" else 4)
    rest = {"limits": limits, "draft_directory": DRAFTS.get(mode)}
    engine = fastpath_backend.load_engine(MODEL, device="cuda", **rest)
    reference = reference_backend.load_engine(MODEL, **rest)
    ids = tuple(engine.tokenizer.encode_prompt("one two three one two three one two three one"))
    asked = [
        {"temperature": 0}, {"temperature": 0.5, "logprobs": 1}, {"repetition_penalty": 1.05}, {"logit_bias": {5: 1.0}},
    ]  # fmt: skip
    wanted = [
        Request(
            request_id=str(i), prompt_ids=ids, sampling=SamplingParams(seed=i, **params),
            prompt_logprobs=2 if i % 2 else None, stopping=StoppingParams(max_tokens=12),
        )
        for i, params in enumerate(asked)
    ]  # fmt: skip
    reads, read = [], engine.model.device.read
    engine.model.device.read = lambda *arguments: reads.append(1) or read(*arguments)
    step, waits = engine.step, []

    def stepping():
        reads.clear()
        found = step()
        waits.append(len(reads))
        return found

    engine.step = stepping
    assert answers(engine, wanted) == answers(reference, wanted)
    assert max(waits) == (5 if mode == "small_draft" else 1), "and one for each token that a draft model writes ahead"
    assert mode == "disable" or engine.drafts.num_accepted > 0


def test_blocks_that_share_a_row_draw_the_same(expected, monkeypatch):
    """By a cooperative launch, and two draws at most in one. Neither happens to the demo otherwise: it is too small."""
    monkeypatch.setattr(fastpath_gpu_sampling, "MOST_DRAWN", 2)
    monkeypatch.setattr(fastpath_gpu_sampling, "parts_of_row", lambda rows, vocab, blocks: min(3, blocks // rows))
    engine = fastpath_backend.load_engine(MODEL, device="cuda")
    assert answers(engine, requests(engine)) == expected[None]


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


def test_the_demo_model_in_integers_says_the_same(expected):
    engine = fastpath_backend.load_engine(MODEL, device="auto", quantization="w4a8")
    assert type(engine.model).__module__ == "verbatim.fastpath.gpu.model", "auto takes a GPU where there is one"
    assert answers(engine, requests(engine)) == expected["w4a8"]


def test_a_grammar_and_a_pooled_prompt():
    found = []
    for backend, device in ((reference_backend, "cpu"), (fastpath_backend, "cuda")):
        engine = backend.load_engine(MODEL, device=device)
        first, second, *_ = requests(engine)
        grammar = Grammar(syntax=GrammarSyntax.REGEX, source="(yes, of course|no)")
        yes_or_no = replace(first, grammar=grammar, stopping=StoppingParams(max_tokens=20))
        pooled = replace(second, pooling="mean", prompt_logprobs=None, sampling=SamplingParams(seed=0))
        found.append(answers(engine, [yes_or_no, pooled]))
    assert found[0] == found[1]
    assert found[0][("0", 0)][1] in ("yes, of course", "no")


def test_an_engine_whose_pages_and_its_draft_s_are_narrower():
    found = []
    limits = EngineLimits(kv_cache_dtype="bfloat16", speculative_mode="small_draft", spec_draft_length=2)
    for backend, device in ((reference_backend, "cpu"), (fastpath_backend, "cuda")):
        engine = backend.load_engine(MODEL, device=device, limits=limits, draft_directory=DRAFTS["small_draft"])
        assert engine.cache.dtype == engine.drafts.speculator.cache.dtype == "bfloat16"
        found.append(answers(engine, requests(engine)[:2]))
    assert found[0] == found[1]


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
