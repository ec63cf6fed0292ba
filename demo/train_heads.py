"""Trains Medusa or Eagle heads on the demo model and exports them: python -m demo.train_heads medusa --minutes 5.

The model stays as it is: the heads learn to predict its next tokens, from its states on the conversations that it was
trained on itself.
"""

import argparse
import json
import math
import time
from collections import deque
from random import Random

try:
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
except ModuleNotFoundError as missing:
    raise SystemExit(f"Training needs {missing.name}: pip install 'verbatim[train]'") from None

from verbatim.demo import EAGLE, MEDUSA, MODEL, vocabulary
from verbatim.demo.export import write, write_safetensors
from verbatim.demo.heads import Eagle, Medusa
from verbatim.demo.network import Network, Shape
from verbatim.demo.train import WINDOWS, batches, begin_with, optimizers_of, rate_at

HEADS = {"medusa": (Medusa, MEDUSA), "eagle": (Eagle, EAGLE)}
LEARNING_RATE = 1e-2
REUSES, POOL = 4, 64  # how many steps each pass of the model serves, and among how many passes they are chosen


def load_network():
    """The demo model as it ships, not to be trained."""
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    network = Network(Shape(**{name: config[name] for name in Shape.__dataclass_fields__}))
    begin_with(network, MODEL)
    return network.requires_grad_(False)


def examples(network, seed):
    """Ids, the model's states, and which words are the assistant's, without end: its passes are what costs most."""
    steps = batches(vocabulary.load(MODEL / "tokenizer.model"), f"{seed} heads", WINDOWS)
    pool, random = deque(maxlen=POOL), Random(seed)
    while True:
        ids, weights = next(steps)
        with torch.autocast("cpu", torch.bfloat16):
            pool.append((ids, network(ids).float(), weights == 1))
        for _ in range(REUSES):
            yield random.choice(pool)


def train(heads, network, minutes, rate=LEARNING_RATE, seed=1):
    """Trains the heads for so many minutes."""
    optimizers, step, average = optimizers_of(heads), 0, math.nan
    seen = examples(network, seed)
    columns = [BarColumn(), TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.4f}"), TimeRemainingColumn()]
    began = time.monotonic()
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=minutes * 60, step=step, loss=average)
        while (progress := (time.monotonic() - began) / (minutes * 60)) < 1:
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = rate_at(rate, step, progress)
            example = next(seen)
            with torch.autocast("cpu", torch.bfloat16):
                loss = heads.loss(network, *example)
            loss.backward()
            if torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0).isfinite():
                for optimizer in optimizers:
                    optimizer.step()
            heads.zero_grad()
            step += 1
            average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
            bar.update(task, completed=progress * minutes * 60, step=step, loss=average)
            if step % 100 == 0:
                bar.console.print(f"step {step:5d}  {progress:6.1%}  loss {average:.4f}")


def export(heads, folder):
    """Writes the directory that the engines load: config.json and the weights in bfloat16."""
    folder.mkdir(exist_ok=True)
    write(folder / "config.json", heads.config())
    weights = {name: weight.to(torch.bfloat16).contiguous() for name, weight in heads.state_dict().items()}
    write_safetensors(folder / "model.safetensors", weights)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", choices=list(HEADS))
    parser.add_argument("--minutes", type=float, default=5, help="how long to train (default: 5)")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus and the first weights")
    arguments = parser.parse_args()
    head_type, folder = HEADS[arguments.heads]
    torch.manual_seed(arguments.seed)
    network = load_network()
    heads = head_type(network.shape)
    train(heads, network, arguments.minutes, arguments.rate, arguments.seed)
    export(heads, folder)


if __name__ == "__main__":
    main()
