"""Trains the demo model (or its draft) on the made-up conversations and exports it: python -m demo.train.

Everything comes from one seed except the number of steps: that is as many as fit into the minutes given.
"""

import argparse
import math
import time
from itertools import islice
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
except ModuleNotFoundError as missing:
    raise SystemExit(f"Training needs {missing.name}: pip install 'verbatim[train]'") from None

from demo import DRAFT, HERE, MODEL, vocabulary
from demo.corpus import conversations
from demo.dialogue import encode_with_weights, render
from demo.export import export
from demo.network import DRAFT_SIZES, Network, Shape

BUILD = HERE / "build"
TOKENS = 4096  # in one step
WINDOWS = [512, 512, 512, 1024]  # lengths of a step's rows, in turn
LEARNING_RATE = 3e-3
WARMUP = 100  # steps


def samples(processor, seed):
    """Token ids and loss weights of one conversation after the other; too long ones are left out."""
    for conversation in conversations(seed):
        ids, weights = encode_with_weights(processor, render(conversation))
        if len(ids) <= max(WINDOWS):
            yield ids, weights


def windows(stream, length, rows, pool):
    """Fills `rows` rows of `length` with whole conversations, padded where no other one fits."""
    ids, weights = torch.zeros(rows, length + 1, dtype=torch.long), torch.zeros(rows, length + 1)
    for row in range(rows):
        at = 0
        pool += islice(stream, max(0, 48 - len(pool)))
        # The oldest conversation that fits comes first, so none waits for ever.
        while (fitting := next((i for i, (found, _) in enumerate(pool) if len(found) <= length + 1 - at), None)) is not None:
            found, weighed = pool.pop(fitting)
            ids[row, at : at + len(found)], weights[row, at : at + len(found)] = torch.tensor(found), torch.tensor(weighed)
            at += len(found)
    return ids, weights


def batches(processor, seed):
    """Steps of about TOKENS tokens, in rows of changing length, so that far positions are trained too."""
    stream, pool = samples(processor, seed), []
    while True:
        for length in WINDOWS:
            yield windows(stream, length, TOKENS // length, pool)


def loss_of(network, ids, weights, other):
    """Cross-entropy of the assistant's words, plus a little (`other`) of everybody else's."""
    with torch.autocast("cpu", torch.bfloat16):
        states = network(ids[:, :-1])
        counted = (weights[:, 1:] > 0).flatten()
        scores = network.score(states.flatten(0, 1)[counted]).float()
    targets, spoken = ids[:, 1:].flatten()[counted], weights[:, 1:].flatten()[counted] == 1
    losses = F.cross_entropy(scores, targets, reduction="none")
    said = losses[spoken].mean()
    return said + other * losses[~spoken].mean(), said.item()


def optimizer_of(network):
    matrices = [weight for weight in network.parameters() if weight.dim() == 2]
    norms = [weight for weight in network.parameters() if weight.dim() < 2]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}],
                             lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, fused=True)


def rate_at(step, progress):
    """Warm up, hold, then fall linearly to nothing over the last two thirds."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARMUP, (1 - progress) * 1.5)


def save(path, network, optimizer, step, seconds):
    path.parent.mkdir(exist_ok=True)
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def train(shape, processor, checkpoint, minutes, resume=False, seed=1):
    """Trains for `minutes` in all, counting those before a resume; returns the network."""
    torch.manual_seed(seed)
    network = Network(shape)
    optimizer, step, spent = optimizer_of(network), 0, 0.0
    if resume:
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]


    columns = [BarColumn(), TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.4f}  "
                                       "{task.fields[speed]:.0f} tokens/s"), TimeRemainingColumn()]
    began = last = saved = time.monotonic()
    average = math.nan
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=minutes * 60, step=step, loss=average, speed=0)
        for ids, weights in batches(processor, f"{seed} from step {step}"):
            progress = (spent + time.monotonic() - began) / (minutes * 60)
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, progress)
            loss, said = loss_of(network, ids, weights, 0.05 * (1 - progress))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step, now = step + 1, time.monotonic()
            average = said if step < 2 or math.isnan(average) else 0.98 * average + 0.02 * said
            bar.update(task, completed=progress * minutes * 60, step=step, loss=average, speed=ids.numel() / (now - last))
            if step % 100 == 0:
                bar.console.print(f"step {step:5d}  {progress:6.1%}  loss {average:.4f}  {ids.numel() / (now - last):.0f} tokens/s")
            if now - saved > 180:
                save(checkpoint, network, optimizer, step, spent + now - began)
                saved = now
            last = time.monotonic()
    save(checkpoint, network, optimizer, step, minutes * 60.0)
    return network


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draft", action="store_true", help="train the small draft model instead")
    parser.add_argument("--minutes", type=float, default=60, help="how long to train, in all")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--threads", type=int, default=2, help="threads for PyTorch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    words = BUILD / "tokenizer.model"
    if not words.exists():
        BUILD.mkdir(exist_ok=True)
        vocabulary.train(words)
    processor = vocabulary.load(words)
    name, sizes, folder = ("draft", DRAFT_SIZES, DRAFT) if arguments.draft else ("model", {}, MODEL)
    checkpoint = BUILD / f"{name}.pt"
    if arguments.resume and not checkpoint.exists():
        raise SystemExit(f"Nothing to resume: {checkpoint} does not exist")
    shape = Shape(vocab_size=processor.vocab_size(), **sizes)
    network = train(shape, processor, checkpoint, arguments.minutes, arguments.resume)
    export(network, words, folder)


if __name__ == "__main__":
    main()
