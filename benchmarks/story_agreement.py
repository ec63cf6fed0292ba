"""`python -m benchmarks.story_agreement`: greedy stories that stay as they are, word for word, in each format.

stories260k continues 200 beginnings by 64 tokens, greedily, in floats and in every format of --quantization. Prints how
many continuations are the same, token for token, and after how many tokens the others part, by their median.
"""

import argparse
import statistics

import numpy as np
from rich.console import Console
from rich.table import Table

from verbatim.demo import STORIES
from verbatim.fastpath import backend
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.numerics.quantization import ALL_FORMATS
from verbatim.reference.records.sequence import Chunk

NAMES = ("Lily", "Tom", "Ben", "Mia", "Max", "Sue", "Tim", "Anna", "Sam", "Amy")
BEGINNINGS = (
    "Once upon a time, there was a girl named {}.", "{} went to the park with a", "One day, {} saw a big",
    "{} was sad because", "The cat and {} liked to", "{} had a red ball.", "{} and the dog ran",
    "It was a sunny day and {}", "{} wanted to eat", "Mom told {} to", "{} found a little", "The bird sang to {}",
    "{} lost a toy", "{} made a new friend", "In the garden {} saw", "{} was scared of", "Every night {} would",
    "{} gave the boy a", "When {} woke up,", "{} likes to play",
)  # fmt: skip
TOKENS, PAGES = 64, 8  # of a continuation; of a sequence, 16 tokens each


def continuations(quantization: str | None, prompts: list[list[int]]) -> np.ndarray:
    """Greedy continuations (prompts, tokens) in a format."""
    model = backend.load_model(STORIES, quantization=quantization)
    cache = backend.PARTS.PagedCache(model.config, PAGES * len(prompts))
    given, held, found = [list(ids) for ids in prompts], [0] * len(prompts), []
    for _ in range(TOKENS):
        chunks = [
            Chunk(token_ids=tuple(ids), start=start, pages=tuple(range(i * PAGES, i * PAGES + PAGES)), num_logits=1)
            for i, (ids, start) in enumerate(zip(given, held, strict=True))
        ]
        tokens = np.asarray(model.forward(chunks, cache)).argmax(axis=-1)
        held = [start + len(ids) for ids, start in zip(given, held, strict=True)]
        given = [[int(token)] for token in tokens]
        found.append(tokens)
    return np.array(found).T


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.story_agreement", description=__doc__.partition("\n")[0]
    )
    parser.parse_args()
    tokenizer = open_source(STORIES).tokenizer()
    texts = [beginning.format(name) for beginning in BEGINNINGS for name in NAMES]
    prompts = [[*tokenizer.bos_ids, *tokenizer.encode(text)] for text in texts]
    exact = continuations(None, prompts)
    table = Table(
        "format", "the same", "tokens until the others part", title=f"{len(prompts)} stories of {TOKENS} tokens"
    )
    for name in ALL_FORMATS:
        is_other = continuations(name, prompts) != exact
        parted = [int(row.argmax()) for row in is_other if row.any()]
        table.add_row(name, str(len(prompts) - len(parted)), f"{statistics.median(parted):.0f}" if parted else "-")
    Console().print(table)


if __name__ == "__main__":
    main()
