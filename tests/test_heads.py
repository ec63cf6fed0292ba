"""Draft heads as PyTorch trains them give the states and logits of the engines' heads, within a tolerance."""

import numpy as np
import pytest

from small_models import SMALL, write_model
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.speculation.drafts import load_eagle_head, load_medusa_heads

torch = pytest.importorskip("torch", reason="torch is not installed")
from verbatim.demo.heads import Eagle, Medusa  # noqa: E402
from verbatim.demo.network import Shape  # noqa: E402
from verbatim.demo.train_heads import export  # noqa: E402

SHAPE = Shape(**{name: SMALL[name] for name in Shape.__dataclass_fields__})
IDS = np.random.default_rng(1).integers(0, SHAPE.vocab_size, 60)
STATES = np.random.default_rng(2).standard_normal((60, SHAPE.hidden_size)).astype(np.float32)


@pytest.fixture
def trained(tmp_path):
    """A function that makes heads of random weights, exports them, and returns them in float64 with their directory."""

    def make(head_class):
        torch.manual_seed(1)
        heads = head_class(SHAPE)
        with torch.no_grad():
            for weight in heads.parameters():
                weight.add_(torch.randn_like(weight) * 0.2).copy_(weight.bfloat16())
        export(heads, tmp_path / "heads")
        return heads.double(), tmp_path / "heads"

    return make


def near(found, expected):
    assert np.abs(found - expected.detach().numpy()).max() < 1e-4 * np.ptp(expected.detach().numpy())


def test_medusa(backend, trained, tmp_path):
    heads, directory = trained(Medusa)
    model = backend.load_model(write_model(tmp_path / "model"))
    found = load_medusa_heads(backend.PARTS, directory, model.config).score(STATES, len(heads.medusa_head), model)
    embedding = load_weights(tmp_path / "model").get("model.embed_tokens.weight", (96, 48)).float32()
    for scores, head in zip(found, heads.medusa_head, strict=True):
        near(scores, head(torch.from_numpy(STATES).double()) @ torch.from_numpy(embedding).double().T)


def test_eagle(backend, trained, tmp_path):
    heads, directory = trained(Eagle)
    config = load_config(write_model(tmp_path / "model"))
    checkpoint = open_checkpoint(config, load_weights(tmp_path / "model"))
    head = load_eagle_head(backend.PARTS, directory, config, checkpoint)
    chunk = Chunk(token_ids=tuple(IDS.tolist()), start=0, pages=(3, 0, 2, 1))
    found = head.states([chunk], backend.PARTS.PagedCache(head.config, 4), STATES)
    embedded = torch.from_numpy(checkpoint.embedding.float32()[IDS]).double()
    near(found, heads(embedded[None], torch.from_numpy(STATES).double()[None])[0])
