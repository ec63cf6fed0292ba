"""transformers on PyTorch in bfloat16: the prefill of a prompt by a random model of the same shape.

`python -m benchmarks.cpu_torch SIZES FORMAT THREADS` works like cpu_peer.py, in a separate process, so that its threads
do not spin beside others. It ignores FORMAT and answers only `prompt 0 TOKENS`.
"""

import json
import sys
import time


def load(sizes: dict, num_threads: int):
    """The model; PyTorch with so many threads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(num_threads)
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(
        vocab_size=sizes["vocab_size"], hidden_size=sizes["hidden_size"], num_hidden_layers=sizes["num_layers"],
        intermediate_size=sizes["intermediate_size"], num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"], head_dim=sizes["head_dim"], tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def main() -> None:
    """Load, and answer line by line with seconds."""
    model = load(json.loads(sys.argv[1]), int(sys.argv[3]))
    import torch
    import transformers

    print(f"ready: torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    for line in sys.stdin:
        name, known, tokens = line.split()
        if name != "prompt" or known != "0":
            raise ValueError(f"only a prompt of which nothing is known, not {line!r}")
        ids = torch.full((1, int(tokens)), 5)
        start = time.perf_counter()
        with torch.inference_mode():
            model(ids, logits_to_keep=1)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
