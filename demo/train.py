"""Trains the demo model (or its draft) on the made-up conversations and exports it: python -m demo.train.

Everything comes from one seed except the number of steps: that is as many as fit into the minutes given.
"""

import argparse
import math
import shutil
import time
from pathlib import Path

try:
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from torch.nn import functional
except ModuleNotFoundError as missing:
    raise SystemExit(f"Training needs {missing.name}: pip install 'verbatim[train]'") from None

from verbatim.demo import DRAFT, HERE, MODEL, vocabulary
from verbatim.demo.corpus import conversations
from verbatim.demo.dialogue import encode_with_weights, render
from verbatim.demo.export import export
from verbatim.demo.network import DRAFT_SIZES, Network, Shape
from verbatim.reference.checkpoint.weights import load_weights

BUILD = HERE / "build"
TOKENS = 4096  # in one step
# Lengths of a step's rows, in turn. The first steps are on short conversations: there copying is learned sooner.
# Long rows take half of them, as long conversations do: those that no row has room for would wait for ever.
EASY, WINDOWS = [256], [512, 1024]
EASY_PART = 0.35
LEARNING_RATE = 2e-3
WARMUP = 100  # steps


def samples(processor, seed, longest, short):
    """Token ids and loss weights of one conversation after the other; too long ones are left out."""
    for conversation in conversations(seed, short=short):
        ids, weights = encode_with_weights(processor, render(conversation))
        if len(ids) <= longest:
            yield ids, weights


def windows(stream, length, rows, pool):
    """Fills `rows` rows of `length` with whole conversations, padded where no other one fits."""
    ids, weights = torch.zeros(rows, length + 1, dtype=torch.long), torch.zeros(rows, length + 1)
    for row in range(rows):
        at = 0
        # Those too long for this row stay in the pool for a longer one, and must not be all that is there.
        while sum(len(found) <= length for found, _ in pool) < 32:
            pool.append(next(stream))
        # The oldest conversation that fits comes first, so none waits for ever.
        while fitting := next((sample for sample in pool if len(sample[0]) <= length + 1 - at), None):
            pool.remove(fitting)
            end = at + len(fitting[0])
            ids[row, at:end], weights[row, at:end] = map(torch.tensor, fitting)
            at = end
    return ids, weights


def batches(processor, seed, lengths, short=False):
    """Steps of about TOKENS tokens, in rows of changing length, so that far positions are trained too."""
    stream, pool = samples(processor, seed, max(lengths), short), []
    while True:
        for length in lengths:
            yield windows(stream, length, TOKENS // length, pool)


def loss_of(network, ids, weights, other):
    """Cross-entropy of the assistant's words, plus a little (`other`) of everybody else's."""
    with torch.autocast("cpu", torch.bfloat16):
        states = network(ids[:, :-1])
        counted = (weights[:, 1:] > 0).flatten()
        scores = network.score(states.flatten(0, 1)[counted]).float()
    targets, weights = ids[:, 1:].flatten()[counted], weights[:, 1:].flatten()[counted]
    losses, spoken = functional.cross_entropy(scores, targets, reduction="none"), weights >= 1
    said = (losses * weights)[spoken].sum() / weights[spoken].sum()
    return said + other * losses[~spoken].mean(), said.item()


def optimizers_of(network):
    """Muon for the matrices of the layers, AdamW for the embeddings and norms; one learning rate suits both."""
    matrices = [weight for name, weight in network.named_parameters() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in network.named_parameters() if weight.dim() < 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98), eps=1e-9, fused=True),
    ]


def rate_at(peak, step, progress):
    """Warm up, hold, then fall linearly to nothing over the last two thirds."""
    return peak * min(1.0, (step + 1) / WARMUP, (1 - progress) * 1.5)


def save(path, network, optimizers, step, seconds):
    """A checkpoint, replaced in one go."""
    path.parent.mkdir(exist_ok=True)
    state = {
        "network": network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def begin_with(network, folder):
    """Takes over the weights of an exported model directory."""
    weights = load_weights(folder)
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    values = {name: weights.get(f"model.{name}", shape).float32() for name, shape in shapes.items()}
    network.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})


def train(network, processor, checkpoint, minutes, resume=False, rate=LEARNING_RATE, easy_part=EASY_PART, seed=1):
    """Trains for `minutes` in all, counting those before a resume; returns the network."""
    torch.manual_seed(seed)
    optimizers, step, spent = optimizers_of(network), 0, 0.0
    if resume:
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step, spent = state["step"], state["seconds"]

    columns = [
        BarColumn(),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.4f}  {task.fields[speed]:.0f} tokens/s"),
        TimeRemainingColumn(),
    ]
    began = last = saved = time.monotonic()
    average = math.nan
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=minutes * 60, step=step, loss=average, speed=0)
        easy = batches(processor, f"{seed} {step}", EASY, short=True)
        full = batches(processor, f"{seed} {step}", WINDOWS)
        while True:
            progress = (spent + time.monotonic() - began) / (minutes * 60)
            if progress >= 1:
                break
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = rate_at(rate, step, progress)
            ids, weights = next(easy if progress < easy_part else full)
            loss, said = loss_of(network, ids, weights, 0.05 * (1 - progress))
            loss.backward()
            # A step whose gradients overflow teaches nothing and would spoil everything.
            if torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0).isfinite():
                for optimizer in optimizers:
                    optimizer.step()
            network.zero_grad()
            step, now = step + 1, time.monotonic()
            average = said if step < 2 or math.isnan(average) else 0.98 * average + 0.02 * said
            speed = ids.numel() / (now - last)
            bar.update(task, completed=progress * minutes * 60, step=step, loss=average, speed=speed)
            if step % 100 == 0:
                bar.console.print(f"step {step:5d}  {progress:6.1%}  loss {average:.4f}  {speed:.0f} tokens/s")
            if now - saved > 180:
                save(checkpoint, network, optimizers, step, spent + now - began)
                saved = now
            last = time.monotonic()
    save(checkpoint, network, optimizers, step, minutes * 60.0)
    return network


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draft", action="store_true", help="train the small draft model instead")
    parser.add_argument("--minutes", type=float, default=60, help="how long to train, in all")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--start", type=Path, metavar="DIR", help="begin with the weights that ship: demo/model")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--compile", action="store_true", help="faster by a sixth, but needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=2, help="threads for PyTorch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    words = BUILD / "tokenizer.model"
    BUILD.mkdir(exist_ok=True)
    if arguments.start:
        shutil.copyfile(arguments.start / "tokenizer.model", words)
    elif not words.exists():
        vocabulary.train(words)
    processor = vocabulary.load(words)
    name, sizes, folder = ("draft", DRAFT_SIZES, DRAFT) if arguments.draft else ("model", {}, MODEL)
    checkpoint = BUILD / f"{name}.pt"
    if arguments.resume and not checkpoint.exists():
        raise SystemExit(f"Nothing to resume: {checkpoint} does not exist")
    shape = Shape(vocab_size=processor.vocab_size(), **sizes)
    torch.manual_seed(1)
    network = Network(shape)
    if arguments.start:
        begin_with(network, arguments.start)
    if arguments.compile:
        network.compile(dynamic=False)
    # Weights that ship have had their short conversations.
    network = train(
        network,
        processor,
        checkpoint,
        arguments.minutes,
        arguments.resume,
        arguments.rate,
        0.0 if arguments.start else EASY_PART,
        arguments.seed,
    )
    export(network, words, folder, is_softened=not arguments.draft)


if __name__ == "__main__":
    main()
