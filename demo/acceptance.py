"""Measures the demo model's acceptance rate of draft tokens by speculative mode: python -m demo.acceptance.

The questions are those of demo.evaluate, held out from training, asked greedily and at temperature 1. Every mode must
give the very texts that the model gives alone, or the command fails.
"""

import argparse
from itertools import islice

from rich.console import Console
from rich.progress import track
from rich.table import Table

from verbatim.demo import DRAFTS, MODEL
from verbatim.demo.corpus import SKILLS, conversations
from verbatim.demo.evaluate import SEED, Asker, write
from verbatim.reference.records.limits import EngineLimits

MODES = {
    "ngram": {"speculative_mode": "ngram"},
    "small_draft": {"speculative_mode": "small_draft"},
    "small_draft, tree width 2": {"speculative_mode": "small_draft", "spec_tree_width": 2},
    "medusa": {"speculative_mode": "medusa"},
    "eagle": {"speculative_mode": "eagle"},
}
TEMPERATURES = (0, 1)
BEGIN, END = "<!-- acceptance -->", "<!-- end of acceptance -->"


def ask(backend, questions, temperature, settings, name):
    """The texts of all answers, and the engine's counts; as many questions at a time as there are skills."""
    draft = DRAFTS.get(settings.get("speculative_mode"))
    asker = Asker(backend, MODEL, limits=EngineLimits(**settings), draft_directory=draft)
    texts = []
    for start in track(range(0, len(questions), len(SKILLS)), f"{name} at temperature {temperature}"):
        texts += asker.answer(questions[start : start + len(SKILLS)], temperature)
    return texts, asker.engine.stats()


def measure(backend, limit):
    """Rows of mode, temperature, draft tokens, accepted ones, and the share of the steps without speculation."""
    questions, rows = list(islice(conversations(SEED, "heldout"), limit * len(SKILLS))), []
    for temperature in TEMPERATURES:
        alone, counts = ask(backend, questions, temperature, {}, "alone")
        for name, settings in MODES.items():
            texts, speculative = ask(backend, questions, temperature, settings, name)
            if texts != alone:
                raise SystemExit(f"{name} at temperature {temperature} changes what the model says")
            drafted, accepted = speculative["drafted_tokens"], speculative["accepted_tokens"]
            rows.append((name, temperature, drafted, accepted, speculative["steps"] / counts["steps"]))
    return rows


def cells(name, temperature, drafted, accepted, steps):
    """A row as text."""
    return name, str(temperature), str(drafted), str(accepted), f"{accepted / max(1, drafted):.1%}", f"{steps:.1%}"


HEADINGS = ("mode", "temperature", "draft tokens", "accepted", "acceptance rate", "steps")


def markdown(rows, command, limit):
    """The table for the README."""
    lines = [f"`{command}`, {limit} questions per skill, {len(SKILLS)} at a time:", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "| --- |" + " --- |" * (len(HEADINGS) - 1)]
    return "\n".join(lines + [f"| {' | '.join(cells(*row))} |" for row in rows])


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["reference", "fastpath"], default="fastpath")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="questions per skill (default: 10)")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    rows = measure(options.backend, options.limit)
    shown = Table(*HEADINGS, title="Acceptance")
    for row in rows:
        shown.add_row(*cells(*row))
    Console(highlight=False, markup=False).print(shown)
    if options.write:
        command = f"python -m demo.acceptance --backend {options.backend} --limit {options.limit}"
        write(markdown(rows, command, options.limit), BEGIN, END)


if __name__ == "__main__":
    main()
