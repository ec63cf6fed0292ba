"""A random checkpoint of a well-known shape on disk, for benchmarks that load a model."""

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.models import config_of
from verbatim.demo import MODEL


def write_checkpoint(directory: Path, shape: str) -> None:
    """A Llama of that shape with random weights in bfloat16, and the demo's words and template.

    It samples only those words: the rows of all other tokens are zeros.
    """
    config, random = config_of(shape), np.random.default_rng(0)
    hidden, inner, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for layer in range(config.num_layers):
        parts = {
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,), "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}.weight": size for name, size in parts.items()}
    num_words = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    header, end = {}, 0
    for name, size in shapes.items():
        begin, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, size in shapes.items():
            values = random.standard_normal(size, np.float32) * np.float32(size[-1] ** -0.5) + ("norm" in name)
            if "embed" in name:
                values[:num_words] *= np.float32(8)
                values[num_words:] = 0
            file.write((values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).data)
    settings = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim, "rms_norm_eps": 1e-5,
        "max_position_embeddings": config.context_size, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "eos_token_id": 2,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODEL / name, directory)
