"""`python -m benchmarks.block_errors`: the relative error of products in each format, and in formats that were weighed.

Relative RMS error of y = x w^T against float64, over 64 rows of activations: normal numbers, and the same with one
feature in a hundred 10 and 40 times larger, as trained models have them. Weights: the demo model's, stories260k's, and
normal numbers as float32 and as bfloat16 holds them. Writes results/block_errors.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from verbatim.demo import MODEL, STORIES
from verbatim.reference.checkpoint.families import load_config
from verbatim.reference.checkpoint.opening import open_checkpoint
from verbatim.reference.checkpoint.weights import load_weights
from verbatim.reference.numerics.arithmetic import linear, linear_quantized, narrow, widen
from verbatim.reference.numerics.block_products import linear_blocks
from verbatim.reference.numerics.block_weights import quantize_blocks
from verbatim.reference.numerics.quantization import BLOCKED_FORMATS, FORMATS, quantize

ROWS, BLOCK = 64, 256
FACTORS = {"plain": 1, "x10": 10, "x40": 40}  # of one feature in a hundred


def blocks_of(x: np.ndarray) -> np.ndarray:
    """Rows (n, inputs) as float64 (n, blocks, 256), with zeros at the end."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, -x.shape[1] % BLOCK)))
    return padded.reshape(len(x), -1, BLOCK)


def by_largest(x: np.ndarray, largest: float, power: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Integers of blocks up to `largest`, and their scales, powers of two or not."""
    blocks = blocks_of(x)
    scales = np.maximum(np.abs(blocks).max(axis=-1, keepdims=True), 1e-30) / largest
    scales = np.exp2(np.ceil(np.log2(scales))) if power else scales
    return np.rint(blocks / scales), scales


def product_of(x, w) -> np.ndarray:
    """The product of what integers and scales stand for."""
    (x, x_scales), (w, w_scales) = x, w
    return (x * x_scales).reshape(len(x), -1) @ (w * w_scales).reshape(len(w), -1).T


def in_slices(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """16 bits as two bytes, without the product of the low ones."""
    first, second = by_largest(x, 32512), by_largest(w, 32512)
    low = [(v - np.floor((v + 128) / 256) * 256, scales) for v, scales in (first, second)]
    return product_of(first, second) - product_of(*low)


def rounded(x: np.ndarray) -> np.ndarray:
    """As bfloat16 holds it."""
    return widen(narrow(x.astype(np.float32), "bfloat16"))


WEIGHED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "bf16 x bf16, as peers round": lambda x, w: rounded(x).astype(np.float64) @ rounded(w).astype(np.float64).T,
    "16 bits, four products": lambda x, w: product_of(by_largest(x, 32512), by_largest(w, 32512)),
    "16 bits, three products": in_slices,
    "14 bits": lambda x, w: product_of(by_largest(x, 8191), by_largest(w, 8191)),
    "13 bits": lambda x, w: product_of(by_largest(x, 4064), by_largest(w, 4064)),
    "float (N3)": linear,
}


def in_format(name: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The reference's product in a format of its own."""
    return (
        linear_quantized(x, quantize("w", w, name)) if name in FORMATS else linear_blocks(x, quantize_blocks(w, name))
    )


def weights() -> dict[str, np.ndarray]:
    """Matrices (outputs, inputs) by name."""
    found = {}
    for name, directory in (("demo", MODEL), ("stories260k", STORIES)):
        checkpoint = open_checkpoint(load_config(directory), load_weights(directory))
        found[name] = np.concatenate([layer.mlp.up.weight.float32() for layer in checkpoint.layers])
    random = np.random.default_rng(1).standard_normal((512, 1024)).astype(np.float32) * np.float32(0.02)
    return found | {"normal": random, "normal, bfloat16": rounded(random)}


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Relative, root mean square."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def measure(seeds: int) -> list[dict]:
    """Every format's error for every matrix and kind of activations, the mean over seeds."""
    functions = WEIGHED | {name: lambda x, w, name=name: in_format(name, x, w) for name in (*FORMATS, *BLOCKED_FORMATS)}
    rows = []
    for matrix, w in weights().items():
        for title, factor in FACTORS.items():
            errors: dict[str, list[float]] = {name: [] for name in functions}
            for seed in range(seeds):
                random = np.random.default_rng([seed, 7])
                x = random.standard_normal((ROWS, w.shape[1])).astype(np.float32)
                x[:, random.permutation(w.shape[1])[: max(1, w.shape[1] // 100)]] *= np.float32(factor)
                exact = x.astype(np.float64) @ w.astype(np.float64).T
                for name, function in functions.items():
                    errors[name].append(error(function(x, w), exact))
            rows += [
                {"weights": matrix, "activations": title, "format": name, "error": float(np.mean(each))}
                for name, each in errors.items()
            ]
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.block_errors", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "block_errors.json")
    arguments = parser.parse_args()
    rows = measure(arguments.seeds)
    for matrix in dict.fromkeys(row["weights"] for row in rows):
        table = Table("format", *FACTORS, title=f"relative error, weights: {matrix}")
        own = [row for row in rows if row["weights"] == matrix]
        for name in dict.fromkeys(row["format"] for row in own):
            table.add_row(name, *(f"{row['error']:.2e}" for row in own if row["format"] == name))
        Console().print(table)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
