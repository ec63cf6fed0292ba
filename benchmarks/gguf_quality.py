"""`python -m benchmarks.gguf_quality`: stories260k in the formats of GGUF, beside llama.cpp on the same files.

The model is made four times as wide, by repeating its features, so that its rows are whole blocks of 256: it computes
what the original computes. llama.cpp quantises it, and both continue 50 beginnings greedily. Prints, for each format,
the perplexity of a text of our own, and how many continuations are the same, token for token.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from verbatim.demo import EMBEDDED
from verbatim.fastpath import backend
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.sequence import Chunk

PEER = Path(__file__).with_name("gguf_quality_peer.py")
TIMES, INNER, TOKENS = 4, 768, 48
NAMES = ("Lily", "Tom", "Ben", "Mia", "Max", "Sue", "Tim", "Anna", "Sam", "Amy")
BEGINNINGS = (
    "Once upon a time, there was a girl named {}.", "{} went to the park with a", "One day, {} saw a big",
    "{} was sad because", "The cat and {} liked to",
)  # fmt: skip
PAGES = tuple(range(16))


def widened() -> dict[str, np.ndarray]:
    """The float tensors of the wide model, under GGUF's names; queries and keys in pairs of rows."""
    tensors = {name: tensor.float32() for name, tensor in open_source(EMBEDDED["stories260k"]).tensors().items()}
    share = np.float32(1 / TIMES)
    columns = lambda values: np.tile(values, (1, TIMES)) * share  # noqa: E731
    rows = lambda values: np.tile(values, (TIMES, *[1] * (values.ndim - 1)))  # noqa: E731
    found = {"token_embd.weight": np.tile(tensors["model.embed_tokens.weight"], (1, TIMES))}
    found["output.weight"] = columns(tensors["model.embed_tokens.weight"])
    found["output_norm.weight"] = rows(tensors["model.norm.weight"])
    for layer in range(sum("input_layernorm" in name for name in tensors)):
        theirs, ours = f"blk.{layer}.", f"model.layers.{layer}."
        found[f"{theirs}attn_norm.weight"] = rows(tensors[f"{ours}input_layernorm.weight"])
        found[f"{theirs}ffn_norm.weight"] = rows(tensors[f"{ours}post_attention_layernorm.weight"])
        for name in ("q", "k", "v"):
            values = tensors[f"{ours}self_attn.{name}_proj.weight"]
            if name != "v":
                values = values.reshape(-1, 2, 4, 64).swapaxes(1, 2).reshape(values.shape)
            values = values if name == "q" else np.repeat(values.reshape(4, 8, 64), 2, axis=0).reshape(64, 64)
            found[f"{theirs}attn_{name}.weight"] = rows(columns(values))
        found[f"{theirs}attn_output.weight"] = rows(columns(tensors[f"{ours}self_attn.o_proj.weight"]))
        for name in ("gate", "up"):
            values = columns(tensors[f"{ours}mlp.{name}_proj.weight"])
            found[f"{theirs}ffn_{name}.weight"] = np.pad(values, ((0, INNER - len(values)), (0, 0)))
        down = tensors[f"{ours}mlp.down_proj.weight"]
        found[f"{theirs}ffn_down.weight"] = np.pad(rows(down), ((0, 0), (0, INNER - down.shape[1])))
    return found


def continuations(file: Path, prompts: list[str]) -> list[list[list[int]]]:
    """Of each prompt its ids, and the greedy continuation up to an end of sequence."""
    model, tokenizer = backend.load_model(file), open_source(file).tokenizer()
    found = []
    for prompt in prompts:
        ids, made = tokenizer.encode_prompt(prompt), []
        cache = backend.PARTS.PagedCache(model.config, len(PAGES))
        logits = model.forward([Chunk(token_ids=tuple(ids), start=0, pages=PAGES)], cache)
        for place in range(len(ids), len(ids) + TOKENS):
            made.append(int(logits[-1].argmax()))
            if made[-1] in model.config.eos_ids:
                break
            logits = model.forward([Chunk(token_ids=(made[-1],), start=place, pages=PAGES)], cache)
        found.append([ids, made])
    return found


def perplexity(file: Path, windows: list[list[int]]) -> float:
    """Of texts of at most 256 tokens."""
    model, losses = backend.load_model(file), []
    for ids in windows:
        cache = backend.PARTS.PagedCache(model.config, len(PAGES))
        logits = model.forward([Chunk(token_ids=tuple(ids[:-1]), start=0, pages=PAGES, num_logits=len(ids) - 1)], cache)
        wide = logits.astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        losses += list(np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(len(ids) - 1), ids[1:]])
    return math.exp(np.mean(losses))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gguf_quality", description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", default=sys.executable)
    arguments = parser.parse_args()
    prompts = [beginning.format(name) for name in NAMES for beginning in BEGINNINGS]
    with tempfile.TemporaryDirectory() as directory:
        np.savez(Path(directory) / "floats.npz", **widened())
        work = json.dumps({"prompts": prompts, "tokens": TOKENS, "vocabulary": vocabulary()})
        command = [arguments.peer_python, str(PEER), directory]
        answer = subprocess.run(command, input=work, capture_output=True, text=True, check=True).stdout
        theirs = json.loads(answer.splitlines()[-1])
        show(Path(directory), prompts, theirs)


def vocabulary() -> dict:
    """Pieces, scores and types of stories260k."""
    import sentencepiece

    words = sentencepiece.SentencePieceProcessor(model_file=str(EMBEDDED["stories260k"] / "tokenizer.model"))
    every = range(words.get_piece_size())
    types = [2 if words.is_unknown(i) else 3 if words.is_control(i) else 6 if words.is_byte(i) else 1 for i in every]
    return {"pieces": [words.id_to_piece(i) for i in every], "scores": [words.get_score(i) for i in every],
            "types": types}  # fmt: skip


def show(directory: Path, prompts: list[str], theirs: dict[str, list]) -> None:
    """The table. The text is what the float model itself wrote: each format is asked how likely it finds that."""
    table = Table("file", "bytes", "perplexity", "ids alike", "texts alike", "first parted at")
    windows: list[list[int]] = []
    for name, texts in theirs.items():
        file = directory / f"{name}.gguf"
        ours = continuations(file, prompts)
        windows = windows or [ids + made for ids, made in ours]
        parted = [
            next((i for i, pair in enumerate(zip(mine[1], other[1], strict=False)) if pair[0] != pair[1]), TOKENS)
            for mine, other in zip(ours, texts, strict=True)
            if mine[1] != other[1]
        ]
        same_ids = sum(mine[0] == other[0] for mine, other in zip(ours, texts, strict=True))
        table.add_row(
            name, str(file.stat().st_size), f"{perplexity(file, windows):.3f}", f"{same_ids} of {len(ours)}",
            f"{len(ours) - len(parted)} of {len(ours)}", str(sorted(parted)[:6]),
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
