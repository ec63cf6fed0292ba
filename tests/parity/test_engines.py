"""Engines return the same tokens, texts and log-probabilities, bit for bit, at every level and for every batch.

Hypothesis draws small models of many shapes (grouped heads, biases, tied or own head, stretched rotary positions, each
stored dtype, float or quantised). The reference answers each request alone; the fast path answers it alone, in a batch,
and with chunked prefill.
"""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_models import SMALL, Letters, random_tensors, stored_bits, write_chat_model, write_model
from verbatim.reference import backend as reference_backend
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import Tensor, Weights
from verbatim.reference.engine.loop import Engine
from verbatim.reference.numerics.quantization import ALL_FORMATS
from verbatim.reference.records.limits import KV_CACHE_DTYPES, EngineLimits
from verbatim.reference.records.request import POOLINGS, Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Chunk

dispatch = pytest.importorskip("verbatim.fastpath.machine.dispatch", reason="the fast path is not built")
from verbatim.fastpath import backend as fastpath_backend  # noqa: E402

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
MODELS = st.fixed_dictionaries({
    "hidden_size": st.sampled_from([8, 40, 48, 100, 300]),
    "intermediate_size": st.sampled_from([17, 64, 172, 290]),
    "num_hidden_layers": st.integers(1, 2),
    "heads": st.sampled_from([(1, 1), (4, 2), (6, 1), (3, 3), (5, 1)]),
    "head_dim": st.sampled_from([2, 8, 10, 16, 36]),
    "vocab_size": st.sampled_from([50, 96, 131]),
    "tie_word_embeddings": st.booleans(),
    "attention_bias": st.booleans(),
    "mlp_bias": st.booleans(),
    "rope_scaling": st.sampled_from([None, LLAMA3]),
    "dtype": st.sampled_from(["F32", "F16", "BF16"]),
    "quantization": st.sampled_from([None, *ALL_FORMATS]),
    "kv_cache_dtype": st.sampled_from(list(KV_CACHE_DTYPES)),
    "seed": st.integers(0, 2**32 - 1),
})  # fmt: skip
CUTS = (  # the prompt in one piece, and in chunks of 64, 7 and 1
    {},
    {"prefill_chunk_size": 64},
    {"prefill_chunk_size": 7, "max_num_sequence": 7},
    {"prefill_chunk_size": 1, "max_num_sequence": 1},
)


def build(drawn, directory):
    """The configuration and checkpoint of a drawn model, read from a config.json."""
    drawn = dict(drawn)
    heads, kv_heads = drawn.pop("heads")
    dtype, seed, *_ = (drawn.pop(name) for name in ("dtype", "seed", "quantization", "kv_cache_dtype"))
    raw = SMALL | drawn | {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "eos_token_id": None}
    (directory / "config.json").write_text(json.dumps(raw))
    tensors = random_tensors(raw, seed=seed, scale=0.4)
    weights = Weights({name: Tensor(name, dtype, stored_bits(values, dtype)) for name, values in tensors.items()})
    config = load_config(directory)
    return config, open_checkpoint(config, weights)


def requests(drawn):
    """Sixteen requests; the first four, two greedy and two sampled, and two pooled ones are compared."""
    random = np.random.default_rng(drawn["seed"])
    everyone = []
    for i in range(16):
        prompt = tuple(random.integers(0, drawn["vocab_size"], int(random.integers(1, 80 if i < 4 else 20))).tolist())
        sampling = SamplingParams(temperature=i % 2, seed=i, logprobs=3, top_p=0.95, repetition_penalty=1.1)
        stopping = StoppingParams(max_tokens=5 if i < 4 else 8)
        everyone.append(Request(request_id=str(i), prompt_ids=prompt, sampling=sampling, stopping=stopping))
    pooled = [
        replace(everyone[i], request_id=pooling, pooling=pooling, sampling=SamplingParams(seed=0))
        for i, pooling in enumerate(POOLINGS)
    ]
    return everyone[:4] + pooled + everyone[4:]


def answers(parts, config, model, wanted, **limits):
    """An engine's outputs for some requests, joined."""
    return answers_of(Engine(parts, config, model, Letters(), limits=EngineLimits(**limits)), wanted)


def answers_of(engine, wanted):
    """A given engine's outputs for some requests, joined."""
    for request in wanted:
        engine.add(request)
    outputs_of = {request.request_id: ([], [], []) for request in wanted}
    while engine.has_work():
        for output in engine.step():
            ids, texts, logprobs = outputs_of[output.request_id]
            ids.extend(output.token_ids or output.embedding)
            texts.append(output.text)
            logprobs.extend(output.logprobs)
        engine.check()
    assert engine.stats()["used_pages"] == 0
    return {name: (ids, "".join(texts), logprobs) for name, (ids, texts, logprobs) in outputs_of.items()}


@settings(deadline=None, max_examples=8, print_blob=True)
@given(drawn=MODELS)
def test_engines_agree_at_every_level_however_the_work_is_cut_up(drawn, tmp_path_factory):
    check_agreement(drawn, tmp_path_factory)


@pytest.mark.slow
@settings(deadline=None, max_examples=200, print_blob=True)
@given(drawn=MODELS)
def test_so_they_do_for_many_more_models(drawn, tmp_path_factory):
    check_agreement(drawn, tmp_path_factory)


def check_agreement(drawn, tmp_path_factory):
    """The fast path gives the reference's bits, at every level and in every cut."""
    config, checkpoint = build(drawn, tmp_path_factory.mktemp("model"))
    everyone, stored = requests(drawn), {"kv_cache_dtype": drawn["kv_cache_dtype"]}
    alone = everyone[:6]
    reference = reference_backend.PARTS
    model = reference.Model(config, checkpoint, quantization=drawn["quantization"])
    expected = {}
    for request in alone:
        expected |= answers(reference, config, model, [request], **stored)
    assert len(expected["mean"][0]) == len(expected["last"][0]) == config.hidden_size
    fast = fastpath_backend.PARTS
    model, chosen = fast.Model(config, checkpoint, quantization=drawn["quantization"]), dispatch.level()
    try:
        for level in dispatch.available():
            dispatch.use(level)
            for limits in CUTS:
                assert answers(fast, config, model, alone, **limits, **stored) == expected, (level, limits)
            among = answers(fast, config, model, everyone, max_num_sequence=16, **stored)
            assert {name: among[name] for name in expected} == expected, (level, "among strangers")
    finally:
        dispatch.use(chosen)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("small"), eos_token_id=None)


@pytest.mark.parametrize("dtype", KV_CACHE_DTYPES)
def test_narrower_pages_equal_the_reference_s_also_shared_and_freed(level, dtype, small_model):
    """A beginning from the prefix cache, which was rounded already, and a sequence that lost its pages on the way."""
    prompts = {name: tuple(range(300, 340 + count)) for count, name in enumerate("abc")}
    stopping = StoppingParams(max_tokens=12)
    wanted = [
        Request(request_id=name, prompt_ids=ids, sampling=SamplingParams(seed=1, logprobs=2), stopping=stopping)
        for name, ids in prompts.items()
    ]

    def say(backend, batches, **limits):
        limits = EngineLimits(kv_cache_dtype=dtype, **limits)
        engine, found = backend.load_engine(small_model, limits=limits), {}
        for batch in batches:
            found |= answers_of(engine, batch)
        return found

    apart = [[request] for request in wanted]
    expected = say(reference_backend, apart, prefix_cache_mode="disable")
    assert say(reference_backend, apart) == expected, "behind a beginning that is known"
    assert say(fastpath_backend, apart) == expected, "behind a beginning that is known"
    assert say(fastpath_backend, [wanted], max_total_seq_length=96, prefill_chunk_size=16) == expected, (
        "after a preemption"
    )


@cache
def law_logits(directory, quantization, ids):
    return logits(reference_backend, directory, quantization, ids)


def logits(backend, directory, quantization, ids):
    model = backend.load_model(directory, quantization=quantization)
    pages = backend.PARTS.PagedCache(model.config, 16)
    chunk = Chunk(token_ids=ids, start=0, pages=tuple(range(16)), num_logits=len(ids))
    return np.array(model.forward([chunk], pages))


@pytest.mark.parametrize("quantization", [None, *ALL_FORMATS])
def test_logits_of_a_wider_model(level, quantization, tmp_path_factory):
    """More inputs than a block of 256, more keys than a block of 64, and every logit compared."""
    shape = {"hidden_size": 600, "intermediate_size": 1100, "num_attention_heads": 10, "head_dim": 64}
    directory = tmp_path_factory.getbasetemp() / "wider"
    if not directory.exists():
        write_model(directory, dtype="BF16", scale=0.05, vocab_size=300, **shape)
    ids = tuple(int(i) for i in np.random.default_rng(2).integers(0, 300, 150))
    found = logits(fastpath_backend, directory, quantization, ids)
    np.testing.assert_array_equal(found.view(np.uint32), law_logits(directory, quantization, ids).view(np.uint32))
