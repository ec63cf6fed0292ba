"""Draft tokens are equal on both engines: the logits that they are drawn from, and how many are accepted."""

import numpy as np
import pytest

from small_models import Letters, write_eagle, write_medusa, write_model
from verbatim.reference import backend as reference_backend
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.engine.loop import Engine
from verbatim.reference.records.limits import EngineLimits
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.speculation.drafts import load_eagle_head, load_medusa_heads

pytest.importorskip("verbatim.fastpath.model.decoder", reason="the fast path is not built")
from verbatim.fastpath import backend as fastpath_backend

BOTH = reference_backend, fastpath_backend
SHAPE = {"hidden_size": 300, "head_dim": 36, "vocab_size": 131, "eos_token_id": None}  # past a block of 256
STATES = np.random.default_rng(3).standard_normal((70, 300)).astype(np.float32)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    def make(name, write, **settings):
        return write(tmp_path_factory.mktemp(name), scale=0.1, **settings)

    sizes = {"hidden_size": 300, "vocab_size": 131}
    return {
        "model": make("model", write_model, dtype="BF16", **SHAPE),
        "small_draft": make("draft", write_model, dtype="F16", **SHAPE),
        "medusa": make("medusa", write_medusa, dtype="BF16", **sizes),
        "outputs": make("outputs", write_medusa, dtype="F16", has_outputs=True, **sizes),
        "eagle": make("eagle", write_eagle, dtype="BF16", **SHAPE),
    }


def same(a, b):
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(b).view(np.uint32))


@pytest.mark.parametrize("quantization", [None, "w8a8"])
@pytest.mark.parametrize("name", ["medusa", "outputs"])
def test_medusa_heads_score_alike(level, directories, name, quantization):
    found = []
    for backend in BOTH:
        model = backend.load_model(directories["model"], quantization=quantization)
        heads = load_medusa_heads(backend.PARTS, directories[name], model.config)
        found.append(heads.score(STATES[:7], 3, model))
    same(*found)


def test_eagle_heads_go_from_state_to_state_alike(level, directories):
    found, config = [], load_config(directories["model"])
    for backend in BOTH:
        checkpoint = open_checkpoint(config, load_weights(directories["model"]))
        head = load_eagle_head(backend.PARTS, directories["eagle"], config, checkpoint)
        cache = backend.PARTS.PagedCache(head.config, 8)
        ids = tuple(range(70))
        chunks = [Chunk(token_ids=ids[:66], start=0, pages=(3, 1, 0, 2, 4)),
                  Chunk(token_ids=ids[66:], start=0, pages=(5,))]  # fmt: skip
        found.append(head.states(chunks, cache, STATES))
    same(*found)


@pytest.mark.parametrize("mode", ["small_draft", "tree", "medusa", "eagle"])
def test_as_many_draft_tokens_are_accepted(directories, mode):
    found = []
    for backend in BOTH:
        config = load_config(directories["model"])
        checkpoint = open_checkpoint(config, load_weights(directories["model"]))
        if mode == "medusa":
            draft = load_medusa_heads(backend.PARTS, directories[mode], config)
        elif mode == "eagle":
            draft = load_eagle_head(backend.PARTS, directories[mode], config, checkpoint)
        else:
            draft = backend.load_model(directories["small_draft"])
        limits = EngineLimits(speculative_mode="small_draft" if mode == "tree" else mode, spec_draft_length=3,
                              spec_tree_width=3 if mode == "tree" else 1, max_total_seq_length=160)  # fmt: skip
        model = backend.PARTS.Model(config, checkpoint)
        engine = Engine(backend.PARTS, config, model, Letters(), limits=limits, draft_model=draft)
        found.append(list(lives(engine)))
        assert engine.stats()["accepted_tokens"] > 0
    assert found[0] == found[1]


def lives(engine):
    """Every output of some requests whose logit bias favours a few tokens."""
    for number in range(6):
        engine.add(Request(
            request_id=str(number), prompt_ids=tuple(range(number, 10 + 5 * number)), n=1 + number % 2,
            sampling=SamplingParams(temperature=number % 3, seed=number, logit_bias=dict.fromkeys(range(40, 44), 30.0)),
            stopping=StoppingParams(max_tokens=20),
        ))  # fmt: skip
    while engine.has_work():
        yield from engine.step()
        engine.check()
        yield engine.stats()
