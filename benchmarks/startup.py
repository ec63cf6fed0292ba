"""`python -m benchmarks.startup`: the fast path's time to its first token, and its memory, start after start.

A random checkpoint of a well-known shape is written to a temporary directory. The first start packs it into a model
library; those after map it. Each is a process of its own, timed from before the interpreter starts until the first
token of a short prompt is there; one that only imports the engine stands beside them. Writes results/startup.json.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.models import SHAPES, config_of, num_bytes
from demo import MODEL

FORMATS = {"bf16": None, "w8a8": "w8a8", "w4a8": "w4a8"}
PROMPT, CACHE_TOKENS = 16, 1024
CHILD = f"""
import json, sys
from fastpath.backend import load_engine
from reference.limits import EngineLimits
from reference.request import Request, SamplingParams, StoppingParams
directory, quantization, lib = json.loads(sys.argv[1])
if directory:
    engine = load_engine(directory, device="cpu", quantization=quantization, model_lib=lib,
                         limits=EngineLimits(max_total_tokens={CACHE_TOKENS}))
    engine.add(Request(request_id="a", prompt_ids=(300,) * {PROMPT}, sampling=SamplingParams(temperature=0),
                       stopping=StoppingParams(max_tokens=1)))
    while engine.has_work():
        engine.step()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def write_checkpoint(directory: Path, shape: str) -> None:
    """A Llama of that shape with random weights in bfloat16, and the demo's words."""
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
    header, end = {}, 0
    for name, size in shapes.items():
        begin, end = end, end + 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, size in shapes.items():
            values = random.standard_normal(size, np.float32) * np.float32(size[-1] ** -0.5) + ("norm" in name)
            file.write((values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).data)
    settings = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim, "rms_norm_eps": 1e-5,
        "max_position_embeddings": config.context_size, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "eos_token_id": 2,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(settings))
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(MODEL / name, directory)


def start(*arguments) -> dict:
    """Seconds to the first token, and the most memory that the process held, in bytes."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD, json.dumps(arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"seconds": time.monotonic() - began, "peak_bytes": int(done.stdout) << 10}


def measure(shape: str, names: list[str], runs: int, console: Console) -> list[dict]:
    """Every format's first start, and the starts after it."""
    config, found = config_of(shape), []
    cache_bytes = CACHE_TOKENS * config.num_layers * config.num_kv_heads * 2 * config.head_dim * 4
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "model"
        directory.mkdir()
        write_checkpoint(directory, shape)
        for name in names:
            lib = Path(place) / f"{name}.packed"
            first = start(str(directory), FORMATS[name], str(lib))
            others = [(start(None, None, None), start(str(directory), FORMATS[name], str(lib))) for _ in range(runs)]
            bare = statistics.median(one["peak_bytes"] for one, _ in others)
            peaks = {"first": first["peak_bytes"], "later": max(one["peak_bytes"] for _, one in others)}
            needed = lib.stat().st_size + cache_bytes
            found.append({
                "shape": shape, "format": name, "packed_bytes": lib.stat().st_size, "cache_bytes": cache_bytes,
                "step_bytes": num_bytes(config, FORMATS[name]), "first": first, "later": [one for _, one in others],
                "only_imports": [one for one, _ in others],
                "peak_share": {when: (peak - bare) / needed for when, peak in peaks.items()},
            })  # fmt: skip
            lib.unlink()
            console.print(f"{shape} {name} done")
    return found


def show(console: Console, result: dict) -> None:
    """Print the table."""
    title = f"to the first token; medians of {result['runs']} (lowest-highest); peaks as shares of weights and cache"
    columns = ("shape", "format", "packed", "first start", "later starts", "imports alone", "first peak", "later peak")
    table = Table(*columns, title=title)
    for row in result["measurements"]:
        spans = []
        for which in ("later", "only_imports"):
            seconds = [one["seconds"] for one in row[which]]
            spans.append(f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f})")
        size, first = f"{row['packed_bytes'] / 1e9:.2f} GB", f"{row['first']['seconds']:.1f} s"
        peaks = [f"{share:.0%}" for share in row["peak_share"].values()]
        table.add_row(row["shape"], row["format"], size, first, *spans, *peaks)
    console.print(table)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="Llama-3.2-1B")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options, console = parser.parse_args(), Console()
    result = {"machine": describe_machine("numpy"), "runs": options.runs}
    result["measurements"] = measure(options.shape, options.formats, options.runs, console)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    show(console, result)


if __name__ == "__main__":
    main()
