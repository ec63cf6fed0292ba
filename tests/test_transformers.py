"""The forward pass compared with transformers in float64, on small random models.

The tolerance is 1e-4 of the range of the logits. transformers computes its rotary angles in float32
even then, which the tolerance has to cover.
"""

import numpy as np
import pytest

from small_models import SMALL, logits_of, write_model

LLAMA3 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}  # fmt: skip
SHAPES = {
    "grouped heads, tied": {},
    "one key-value head, separate head": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "as many key-value heads as heads, biases": {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
    "llama3 rotary scaling": {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "tie_word_embeddings": False},
    "sizes off every grid": {"hidden_size": 44, "intermediate_size": 101, "head_dim": 6, "vocab_size": 77},
    "all at once": {"attention_bias": True, "mlp_bias": True, "rope_scaling": LLAMA3, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_logits_agree_with_transformers(backend, tmp_path, name, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    write_model(tmp_path, dtype=dtype, seed=len(name), scale=0.15, **SHAPES[name])
    ids = np.random.default_rng(1).integers(0, (SMALL | SHAPES[name])["vocab_size"], 150).tolist()
    peer = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).logits[0].numpy()
    ours = logits_of(backend, tmp_path, ids)
    assert np.abs(ours - expected).max() < 1e-4 * np.ptp(expected)
