"""Measures the demo model on words, numbers and tools it was not trained on: python -m demo.evaluate.

The questions are answered greedily by one of the project's engines, through the same template, tokenizer and, where
tools are listed, grammar as the server's; an answer counts only if it is exactly the expected one, to the letter.
"""

import argparse
import importlib
import re
from itertools import islice

from rich.console import Console
from rich.progress import track
from rich.table import Table

from verbatim.demo import DRAFT, HERE, MODEL
from verbatim.demo.corpus import SKILLS, Conversation, conversations
from verbatim.demo.dialogue import render
from verbatim.reference.dialects import choose_dialect
from verbatim.reference.records.request import Request, SamplingParams, StoppingParams
from verbatim.reference.text.template import load_template

README = HERE / "README.md"
SEED = 2026
BEGIN, END = "<!-- accuracy -->", "<!-- end of accuracy -->"


def expected(conversation):
    """The text of the last answer, as the model has to write it."""
    prompt = render(Conversation(conversation.messages[:-1], conversation.tools), prompt=True)
    return render(conversation)[len(prompt) :].removesuffix("<|im_end|>\n")


class Asker:
    """Answers conversations with an engine of the project, loaded with these settings."""

    def __init__(self, backend, folder, **settings):
        self.engine = importlib.import_module(f"verbatim.{backend}.backend").load_engine(folder, **settings)
        self.template = load_template(folder, self.engine.tokenizer)

    def answer(self, asked, temperature=0):
        """The texts that the engine answers to several conversations at once, whose last messages are left out."""
        texts = dict.fromkeys(map(str, range(len(asked))), "")
        for name, conversation in zip(texts, asked, strict=True):
            pieces = self.template.render(conversation.messages[:-1], conversation.tools or None)
            self.engine.add(
                Request(
                    request_id=name,
                    prompt_ids=tuple(self.engine.tokenizer.encode_pieces(pieces)),
                    sampling=SamplingParams(temperature=temperature, seed=SEED),
                    stopping=StoppingParams(max_tokens=200),
                    grammar=self.grammar(conversation.tools),
                )
            )
        while self.engine.has_work():
            for output in self.engine.step():
                texts[output.request_id] += output.text
        return list(texts.values())

    def grammar(self, tools):
        """What the server lets a model with these tools write; nothing is forced."""
        dialect = choose_dialect(self.template.source)
        marks = dialect.mark_ids(self.engine.tokenizer.control_ids)
        return dialect.grammar(tools, marks, is_forced=False, is_parallel=True) if tools else None


def measure(answer, limit, seed=SEED):
    """How many of `limit` questions of every skill get the right answer, and (skill, wanted, given) of the others."""
    right, wrong = dict.fromkeys(SKILLS, 0), []
    questions = conversations(seed, "heldout")
    for _ in track(range(limit), "asking"):
        asked = list(islice(questions, len(SKILLS)))
        for conversation, given in zip(asked, answer(asked), strict=True):
            wanted = expected(conversation)
            right[conversation.skill] += given == wanted
            if given != wanted:
                wrong.append((conversation.skill, wanted, given))
    return right, wrong


def table(right, limit):
    """The accuracy of every skill, and of all together."""
    shown = Table("skill", "right", "of", "accuracy", title="Held-out accuracy")
    for skill, count in {**right, "all": sum(right.values())}.items():
        total = limit * (len(right) if skill == "all" else 1)
        shown.add_row(skill, str(count), str(total), f"{count / total:.1%}", end_section=skill == SKILLS[-1])
    return shown


def markdown(right, limit, command):
    """The same as a table for the README."""
    rows = [f"| {skill} | {count / limit:.1%} |" for skill, count in right.items()]
    overall = sum(right.values()) / limit / len(right)
    return "\n".join(
        [
            f"`{command}`, {limit} questions per skill:",
            "",
            "| skill | accuracy |",
            "| --- | --- |",
            *rows,
            f"| **all** | **{overall:.1%}** |",
        ]
    )


def write(text, begin=BEGIN, end=END):
    """Puts the table between its marks in the README."""
    before = README.read_text(encoding="utf-8")
    if begin not in before or end not in before:
        raise SystemExit(f"{README} has no {begin} ... {end} to write the table to")
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    README.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", before), encoding="utf-8")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["reference", "fastpath"], default="fastpath")
    parser.add_argument("--draft", action="store_true", help="measure the draft model instead")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="questions per skill (default: 100)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the questions (default: {SEED})")
    parser.add_argument("--errors", action="store_true", help="show the wrong answers too")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    asker = Asker(options.backend, DRAFT if options.draft else MODEL)
    right, wrong = measure(asker.answer, options.limit, options.seed)
    console = Console(highlight=False, markup=False)
    for skill, wanted, given in wrong if options.errors else []:
        console.print(f"{skill}\n  wanted {wanted!r}\n  given  {given!r}")
    console.print(table(right, options.limit))
    if options.write:
        command = f"python -m demo.evaluate --backend {options.backend} --limit {options.limit}"
        command += f" --seed {options.seed}" if options.seed != SEED else ""
        write(markdown(right, options.limit, command))


if __name__ == "__main__":
    main()
