"""Hugging Face transformers on the same GPU and the same shape: static cache, torch.compile, greedy, bfloat16.

`python -m benchmarks.gpu_peer SHAPE BATCH STEPS` prints a line of JSON; it is a separate process so that its memory is
freed. The weights are those of models.random_checkpoint. It prints a line if something is missing.
"""

import json
import sys
import time

import numpy as np

from benchmarks.models import config_of, random_checkpoint


def missing() -> str | None:
    """What the comparison lacks here, if anything."""
    try:
        import torch
        import transformers
    except ImportError as error:
        return str(error)
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return None if int(transformers.__version__.split(".")[0]) >= 4 else "transformers is older than 4"


def load(shape: str, device: str = "cuda"):
    """The model with our random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = config_of(shape)
    checkpoint = random_checkpoint(config)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_layers,
                intermediate_size=config.intermediate_size, num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim, rms_norm_eps=config.norm_epsilon,
                max_position_embeddings=config.context_size, tie_word_embeddings=config.tie_embeddings,
                rope_theta=500000.0,
            )
        )  # fmt: skip
    layer = checkpoint.layers[0]
    sources = {
        "embed_tokens": checkpoint.embedding, "lm_head": checkpoint.head.weight, "q_proj": layer.query.weight,
        "k_proj": layer.key.weight, "v_proj": layer.value.weight, "o_proj": layer.output.weight,
        "gate_proj": layer.mlp.gate.weight, "up_proj": layer.mlp.up.weight, "down_proj": layer.mlp.down.weight,
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            source = name.split(".")[-2]
            if source in sources:
                bits = torch.from_numpy(sources[source].bits.view(np.int16)).view(torch.bfloat16)
                parameter.copy_(bits)
            else:
                parameter.fill_(1.0)
    return model.eval()


def decode(shape: str, batch: int, steps: int) -> dict:
    """Tokens a second, after a first run that compiles."""
    import torch

    model = load(shape)
    model.generation_config.cache_implementation = "static"
    model.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)
    ids = torch.ones((batch, 128), dtype=torch.long, device="cuda")
    settings = {"do_sample": False, "min_new_tokens": steps, "max_new_tokens": steps, "pad_token_id": 0}
    for _ in range(2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    own = {"batch": batch, "tokens_per_second": batch * steps / seconds, "step_ms": 1000 * seconds / steps}
    return own | {"products": products(model)}


def products(model) -> dict[str, float]:
    """Milliseconds of each of a layer's products by torch's library, as benchmarks/gpu_measure.py's for one row."""
    import torch

    layers, found = model.model.layers, {}
    names = {
        "query, key, value": [("self_attn", name) for name in ("q_proj", "k_proj", "v_proj")],
        "output": [("self_attn", "o_proj")], "gate and up": [("mlp", "gate_proj"), ("mlp", "up_proj")],
        "down": [("mlp", "down_proj")],
    }  # fmt: skip
    for name, parts in names.items():
        stack = [[getattr(getattr(layer, half), part) for half, part in parts] for layer in layers]
        stack = [torch.cat([module.weight for module in modules]) for modules in stack]
        x = torch.ones((1, stack[0].shape[1]), dtype=torch.bfloat16, device=stack[0].device)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.no_grad():
            for _ in range(2):
                start.record()
                for weight in stack:
                    torch.nn.functional.linear(x, weight)
                stop.record()
                stop.synchronize()
        found[name] = start.elapsed_time(stop) / len(stack)
    return found


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    print(json.dumps(decode(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
