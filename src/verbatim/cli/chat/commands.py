"""What begins with a slash: each command is a method whose docstring is its line in /help."""

import json
from pathlib import Path

from verbatim.cli.chat.conversation import load_tools
from verbatim.cli.chat.keyboard import Keyboard
from verbatim.cli.chat.session import Session
from verbatim.cli.chat.settings import SETTINGS, check_name, read_setting
from verbatim.reference.records.errors import RequestError
from verbatim.server.settings.spelling import closest

FORMS = {  # command -> what follows it
    "help": "", "set": "NAME VALUE", "unset": "NAME", "system": "TEXT|off", "tools": "FILE|off", "explain": "[N]",
    "stats": "", "retry": "", "undo": "", "clear": "", "save": "FILE", "load": "FILE", "model": "NAME", "bye": "",
}  # fmt: skip
KEYS = [
    ("Alt-Enter", "a new line; so do \\ at the end of a line, and lines between two lines of "
     '"""'),
    ("Ctrl-C", "stops the answer"),
    ("Ctrl-D", "leaves"),
]  # fmt: skip


class Commands:
    """The commands of a session."""

    def __init__(self, session: Session, keyboard: Keyboard):
        self.session, self.keyboard = session, keyboard
        self.conversation, self.screen = session.conversation, session.screen

    def run(self, text: str) -> bool:
        """Do what a line says; False after /bye. RequestError if it cannot be done."""
        name, _, rest = text[1:].partition(" ")
        if name not in FORMS:
            meant = closest(name, list(FORMS))
            hint = f"did you mean /{meant}?" if meant else "/help shows what there is"
            raise RequestError(f"/{name}: {hint} (a space before the slash sends the text)")
        if rest.strip() and not FORMS[name]:
            raise RequestError(f"/{name} takes nothing after it, not {rest.strip()!r}")
        return getattr(self, name)(rest.strip()) is not False

    def help(self, _rest: str) -> None:
        """Show this list."""
        rows = [(f"/{name} {form}".strip(), getattr(self, name).__doc__.strip()) for name, form in FORMS.items()]
        self.screen.pairs([*rows, *KEYS])

    def set(self, rest: str) -> None:
        """Change a setting of requests, as /set temperature 0.7; alone: show all."""
        name, _, text = rest.partition(" ")
        if not name:
            values = {name: f" = {_json(value)}" for name, value in self.conversation.settings.items()}
            self.screen.pairs([(name + values.get(name, ""), row.description) for name, row in SETTINGS.items()])
            return
        if not text.strip():
            field = check_name(name)
            value = self.conversation.settings.get(name)
            self.screen.line(f"{name}: {'not set' if value is None else _json(value)}. {field.description}")
            return
        self.conversation.settings[name] = read_setting(name, text.strip())
        self.screen.note(f"{name} is {_json(self.conversation.settings[name])}")

    def unset(self, rest: str) -> None:
        """Leave a setting to the server again."""
        check_name(rest)
        self.conversation.settings.pop(rest, None)
        self.screen.note(f"{rest} is not set")

    def system(self, rest: str) -> None:
        """Set the system message; alone: show it; off: remove it."""
        if rest:
            self.conversation.set_system("" if rest == "off" else rest)
        self.screen.note(f"system: {self.conversation.system or 'none'}")

    def tools(self, rest: str) -> None:
        """Offer the tools of a JSON file to the model; you type their results."""
        if rest:
            self.conversation.tools = [] if rest == "off" else load_tools(_path(rest))
        names = ", ".join(tool["function"]["name"] for tool in self.conversation.tools)
        self.screen.note(f"tools: {names or 'none'}")

    def explain(self, rest: str) -> None:
        """Show the candidates for the last token of the answer, or for its token N."""
        if self.session.answer is None:
            raise RequestError("there is no answer yet")
        if rest and not rest.isdecimal():
            raise RequestError(f"/explain: the token must be a number, not {rest!r}")
        self.screen.candidates(self.session.answer, int(rest) if rest else len(self.session.answer.entries))

    def stats(self, _rest: str) -> None:
        """Show tokens, times and acceptance of the last answer."""
        if self.session.answer is None:
            raise RequestError("there is no answer yet")
        total = ("answers in all", f"{self.session.num_answers}, {self.session.num_tokens} tokens")
        self.screen.pairs([*self.session.answer.stats(), total])

    def retry(self, _rest: str) -> None:
        """Answer the last message again."""
        before, is_kept = self.conversation.messages, False
        try:
            is_kept = self.session.exchange(self.conversation.undo(), self.keyboard)
        finally:
            if not is_kept:
                self.conversation.messages = before

    def undo(self, _rest: str) -> None:
        """Remove the last message and its answer."""
        self.screen.note(f"removed: {self.conversation.undo()['content']}")

    def clear(self, _rest: str) -> None:
        """Begin anew, with the same system message, settings and tools."""
        self.conversation.clear()
        self.screen.note("cleared")

    def save(self, rest: str) -> None:
        """Write the conversation as the body of an API request."""
        self.conversation.save(_path(rest))
        self.screen.note(f"saved {_count(self.conversation.messages)} to {rest}")

    def load(self, rest: str) -> None:
        """Continue a conversation that /save has written."""
        self.conversation.load(_path(rest))
        self.screen.note(f"loaded {_count(self.conversation.messages)} from {rest}")

    def model(self, rest: str) -> None:
        """Answer with another model of the server; alone: list them."""
        if rest and rest not in self.session.models:
            raise RequestError(f"the server has no model {rest!r}; it has {', '.join(self.session.models)}")
        self.conversation.model = rest or self.conversation.model
        for model in self.session.models:
            self.screen.line(f"{'*' if model == self.conversation.model else ' '} {model}")

    def bye(self, _rest: str) -> bool:
        """Leave."""
        return False


def completions(models: list[str]) -> dict[str, list[str] | None]:
    """Each command with the words that may follow it; None stands for names of files."""
    arguments: dict = {"set": list(SETTINGS), "unset": list(SETTINGS), "model": models}
    return {f"/{name}": None if "FILE" in form else arguments.get(name, []) for name, form in FORMS.items()}


def _path(text: str) -> Path:
    if not text:
        raise RequestError("name a file")
    return Path(text).expanduser()


def _count(messages: list[dict]) -> str:
    return f"{len(messages)} message{'' if len(messages) == 1 else 's'}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
