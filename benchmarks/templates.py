"""`python -m benchmarks.templates FOLDER...`: chat templates rendered by us and by transformers, byte for byte.

A folder is searched for `*.jinja`. Each template renders conversations of ours: several turns, a system message, calls
with and without text, results, no tools, no generation prompt. A rendering is equal, or different, or refused by both,
by us alone, or by transformers alone. Where only transformers refuses, we have filled in what the template needs
(reference/text/template.py). transformers 5 has to be installed; the templates are the user's own.
"""

import argparse
import contextlib
import json
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track

from verbatim.reference.dialects import choose_dialect
from verbatim.reference.dialects.thoughts import choose_thoughts
from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.text.template import ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "look", "description": "The weather", "parameters": PARAMETERS}}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "look", "arguments": {"city": "Bern"}}}
USER, SYSTEM = {"role": "user", "content": "How is the weather?\n"}, {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": " It is <b>cold</b> & é 日本 🙂."}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "look", "content": '{"sky": "grey"}'}
THOUGHT = {"role": "assistant", "content": "Cold.", "reasoning_content": "Hm."}
CONVERSATIONS = {
    "one turn": [USER],
    "turns": [USER, ANSWER, USER],
    "system": [SYSTEM, USER, ANSWER, USER],
    "call": [USER, CALLED, RESULT],
    "call with text": [SYSTEM, USER, CALLED | {"content": "I look."}, RESULT, ANSWER, USER],
    "two calls": [USER, CALLED | {"tool_calls": [CALL, CALL | {"id": "jklmnopqr"}]}, RESULT,
                  RESULT | {"tool_call_id": "jklmnopqr"}, ANSWER],
    "thought": [USER, THOUGHT, USER],
    "content null": [USER, {key: value for key, value in CALLED.items() if key != "content"}, RESULT],
}  # fmt: skip
SETTINGS = [
    (tools, opens, variables)
    for tools in (None, [TOOL])
    for opens in (True, False)
    for variables in ({}, {"enable_thinking": False}, {"thinking": True})
]


def ours(template: ChatTemplate, messages: list[dict], tools, opens: bool, variables: dict) -> str | None:
    """The text, None where the template refuses."""
    with contextlib.suppress(RequestError):
        return "".join(map(str, template.render(messages, tools, add_generation_prompt=opens, **variables)))
    return None


def theirs(source: str, messages: list[dict], tools, opens: bool, variables: dict) -> str | None:
    """The same by transformers."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with contextlib.suppress(Exception):
        found = render_jinja_template(
            conversations=[messages],
            tools=tools,
            chat_template=source,
            add_generation_prompt=opens,
            **TOKENS,
            **variables,
        )
        return found[0][0]
    return None


def compare(path: Path) -> tuple[Counter, list[str]]:
    """How many renderings came out how, and which differ."""
    source, counts, differing = path.read_text(encoding="utf-8"), Counter(), []
    template = ChatTemplate(source, {}, **TOKENS)
    for name, messages in CONVERSATIONS.items():
        for tools, opens, variables in SETTINGS:
            messages = json.loads(json.dumps(messages))
            mine = ours(template, messages, tools, opens, variables)
            other = theirs(source, messages, tools, opens, variables)
            outcome = "equal" if mine == other else "different"
            if None in (mine, other):
                outcome = "both refuse" if mine == other else "filled in" if other is None else "we refuse"
            counts[outcome] += 1
            if outcome in ("different", "we refuse"):
                differing.append(f"{name}, tools {bool(tools)}, opens {opens}, {variables}")
    return counts, differing


OUTCOMES = ("equal", "both refuse", "filled in", "different", "we refuse")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.templates", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--verbose", action="store_true", help="name each rendering that differs")
    arguments = parser.parse_args()
    console, total = Console(width=200, highlight=False), Counter()
    paths = sorted({path.name: path for folder in arguments.folders for path in folder.rglob("*.jinja")}.values())
    console.print(
        f"| template | tool calls | thoughts | {' | '.join(OUTCOMES)} |\n| --- | --- | --- |{' --- |' * len(OUTCOMES)}"
    )
    for path in track(paths, "rendering", console=Console(stderr=True)):
        source = path.read_text(encoding="utf-8")
        try:
            counts, differing = compare(path)
        except ModelError as error:
            console.print(f"| {path.stem} | {error} |")
            continue
        total += counts
        thoughts = choose_thoughts(source)
        dialect = choose_dialect(source)
        cells = [path.stem, dialect.name if dialect.is_shown(source) else "", thoughts.name if thoughts else ""]
        console.print("| " + " | ".join([*cells, *(str(counts[outcome]) for outcome in OUTCOMES)]) + " |", markup=False)
        if arguments.verbose:
            for text in differing:
                console.print(f"    {text}", markup=False)
    console.print("| all | | | " + " | ".join(str(total[outcome]) for outcome in OUTCOMES) + " |")


if __name__ == "__main__":
    main()
