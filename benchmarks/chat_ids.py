"""Ids of whole chats beside those of transformers: `python -m benchmarks.chat_ids DIR...` (needs transformers).

Each DIR has a tokenizer and, if it likes, a chat template; one without gets a template of ours that writes the first
marks of the vocabulary around every message. The table says in how many chats all ids are equal. In further chats
the user spells the marks out: there no id of a mark may come from the user's text. It ends with 1 if anything differs.
"""

import sys
from pathlib import Path

from verbatim.reference.records.errors import RequestError
from verbatim.reference.text.template import ChatTemplate, load_template
from verbatim.reference.text.tokenizer import Tokenizer, read_settings, token_content
from verbatim.reference.text.tokenizers import load_tokenizer

CONTENTS = (
    "Hello!", "  two spaces before, two behind  ", "def f(x):\n    if x:\n        return  x\n\n\n",
    "\tTab\r\nand lines\n",
    "日本語と中文，한국어", "Ünïcödé: naïve café Ω", "👩‍👩‍👧 and 🏳️‍🌈", "a          b" + " " * 33 + "c",
    "<table><td>1</td></table>",
    "12345 6,789.0 1e-9", "", " ", "don't WE'LL it's",
)  # fmt: skip
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Its name."}}},
    },
}
Chat = tuple[list[dict], list[dict] | None]


def chats() -> list[Chat]:
    """Conversations of our own: one turn, several turns, a system message, and tools."""
    single: list[Chat] = [([_message("user", text)], None) for text in CONTENTS]
    turns = [_message(role, text) for text in CONTENTS for role in ("user", "assistant")]
    system = [_message("system", "Be brief. "), _message("user", "Hi")]
    return [*single, (turns, None), (turns[:-1], None), (system, None), ([_message("user", "Rain?")], [TOOL])]


def own_template(tokenizer: Tokenizer) -> str:
    """For a vocabulary without a template: its first marks around each message."""
    marks = [mark for mark in (*tokenizer.control_ids, *tokenizer.added_ids) if mark.strip(" \t\r\n▁")][:8] or ["\n"]
    before = "".join(f"{{% if message.role == {role!r} %}}{{{{ {marks[i % len(marks)]!r} }}}}{{% endif %}}"
                     for i, role in enumerate(("system", "user", "assistant"), 1))  # fmt: skip
    return f"{{% for message in messages %}}{before}{{{{ message.content }}}}{{{{ {marks[-1]!r} }}}}\n{{% endfor %}}"


def peer_of(directory: Path, source: str | None):
    """The tokenizer of the same folder in transformers."""
    import transformers

    settings = read_settings(directory)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    tokens = {name: token_content(settings[name]) for name in names if settings.get(name)}
    if (directory / "tokenizer.json").exists():
        path = str(directory / "tokenizer.json")
        peer = transformers.PreTrainedTokenizerFast(tokenizer_file=path, **tokens)
    else:
        peer = transformers.AutoTokenizer.from_pretrained(str(directory))
    peer.chat_template = source
    return peer


def compare(directory: Path) -> tuple[int, int, int, list[str]]:
    """The chats that are equal, all that both render, the forged ids, and the first difference in words."""
    tokenizer = load_tokenizer(directory)
    template = load_template(directory, tokenizer)
    if template is None:
        source = own_template(tokenizer)
        written = {name: i for name, i in tokenizer.added_ids.items() if name in source}
        template = ChatTemplate(source, tokenizer.control_ids | written, visible=frozenset(written))
    peer = peer_of(directory, template.source)
    equal = total = 0
    different: list[str] = []
    for messages, tools in chats():
        try:
            ours = tokenizer.encode_pieces(template.render(messages, tools))
            text = peer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        except (RequestError, Exception):  # a template that refuses a chat raises whatever it likes
            continue
        theirs = peer(text, add_special_tokens=False)["input_ids"]
        total, equal = total + 1, equal + (ours == theirs)
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), -1)
            different.append(f"{messages[-1]['content'][:20]!r} at {at}: {ours[at : at + 4]} for {theirs[at : at + 4]}")
    return equal, total, _num_forged(tokenizer, template), different


def _num_forged(tokenizer: Tokenizer, template: ChatTemplate) -> int:
    """How many marks come from a user's text that spells all of them, beyond those that the template writes."""
    marks = {name: i for name, i in tokenizer.control_ids.items() if name}
    marks |= {name: i for name, i in tokenizer.added_ids.items() if name.strip(" \t\r\n▁") and name in template.source}
    counts = []
    for text in ("x", "x" + "y".join(marks) + "z"):
        ids = tokenizer.encode_pieces(template.render([_message("user", text)]))
        counts.append(sum(i in marks.values() for i in ids))
    return counts[1] - counts[0]


def _message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def main(directories: list[str]) -> int:
    """Print the table; 1 if a chat differs or a mark was forged."""
    print("| tokenizer | vocabulary | equal chats | forged marks |\n|---|---|---|---|")
    is_wrong = False
    for name in directories:
        equal, total, forged, different = compare(Path(name))
        size = load_tokenizer(name).vocab_size
        print(f"| {Path(name).name} | {size:,} | {equal} of {total} | {forged} |", flush=True)
        print(*different[:3], sep="\n", end="\n" if different else "", file=sys.stderr, flush=True)
        is_wrong |= equal != total or forged != 0 or not total
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
