"""An interactive conversation: reads a message or a command, shows the answer, and again, until it is left.

The history changes only when a turn has succeeded: a turn that is refused, breaks off or is stopped before its first
word leaves it as it was.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from verbatim.cli.chat.answer import Answer
from verbatim.cli.chat.client import Client, ServerError
from verbatim.cli.chat.conversation import Conversation
from verbatim.cli.chat.keyboard import Keyboard
from verbatim.cli.chat.screen import Screen, visible
from verbatim.reference.records.errors import VerbatimError

PROMPT = ">>> "
TOO_LONG = "context_length_exceeded"


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C raises KeyboardInterrupt as ever and is also noted, since Python ignores it in a destructor."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class Session:
    """The parts of a conversation, and the turns between them. `answer` is the latest one."""

    def __init__(self, client: Client, models: list[str], conversation: Conversation, screen: Screen):
        self.client, self.models, self.conversation, self.screen = client, models, conversation, screen
        self.answer: Answer | None = None
        self.num_answers = self.num_tokens = 0

    def run(self, keyboard: Keyboard, command: Callable[[str], bool]) -> None:
        """Talk until Ctrl-D, or until `command`, which gets what begins with a slash, gives False."""
        while True:
            try:
                text = keyboard.read(PROMPT)
                if text.startswith("/"):
                    if not command(text):
                        return
                elif text.strip():
                    self.exchange({"role": "user", "content": text.strip()}, keyboard)
            except EOFError:
                return
            except KeyboardInterrupt:
                self.screen.note("Ctrl-D or /bye leaves")
            except VerbatimError as error:
                self.screen.error(str(error))

    def exchange(self, message: dict, keyboard: Keyboard | None = None) -> bool:
        """Send a user message, show the answer, and keep both; results of tool calls come from the keyboard.

        False if the user has stopped it, so that nothing is kept; ServerError if it is refused or breaks off.
        """
        messages = [*self.conversation.messages, message]
        while True:
            answer, is_stopped = self._ask(messages)
            if is_stopped and (answer.calls or not answer.text):
                self.screen.note("stopped; the turn is not kept")
                return False
            messages.append(answer.message())
            if not answer.calls or keyboard is None:
                break
            try:
                messages += self._results(answer.calls, keyboard)
            except (EOFError, KeyboardInterrupt):
                self.screen.note("no result; the turn is not kept")
                return False
        self.conversation.messages = messages
        return True

    def answer_alone(self, text: str) -> None:
        """Print the answer to a prompt by itself, and nothing else but its tool calls; keeps nothing."""
        answer = Answer()
        messages = [*self.conversation.messages, {"role": "user", "content": text}]
        try:
            for text, _ in self._pieces(answer, messages):
                self.screen.text(text)
        finally:
            self.screen.end_line()
        for call in answer.calls:
            self.screen.call(call)

    def _ask(self, messages: list[dict]) -> tuple[Answer, bool]:
        """The answer to these messages, shown as it comes, and whether Ctrl-C has stopped it."""
        answer, is_stopped = Answer(), False
        try:
            with interrupts() as seen:
                for text, thoughts in self._pieces(answer, messages):
                    self.screen.text(thoughts, is_thought=True)
                    self.screen.text(text)
                    if seen:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            is_stopped = True
            self.screen.interrupt()
        except ServerError as error:
            if error.code == TOO_LONG:
                raise ServerError(f"{error} /undo removes the last turn, /clear all of them.") from None
            raise
        finally:
            self.screen.end_line()
            self.answer = answer if answer.num_chunks else self.answer
        self.num_answers, self.num_tokens = self.num_answers + 1, self.num_tokens + answer.num_tokens
        for call in answer.calls:
            self.screen.call(call)
        if self.client.continues_text and self.num_answers == 1:
            self.screen.note("this model has no chat template: it continues each text by itself")
        self.screen.note(f"{answer.summary()}{', stopped' if is_stopped else ''}")
        return answer, is_stopped

    def _pieces(self, answer: Answer, messages: list[dict]) -> Iterator[tuple[str, str]]:
        """Text and thoughts as they come; the answer grows with them."""
        with closing(self.client.stream(self.conversation.body(messages))) as chunks:
            yield from map(answer.add, chunks)

    def _results(self, calls: list[dict], keyboard: Keyboard) -> list[dict]:
        """The messages that answer tool calls, as the user types them."""
        results = []
        for call in calls:
            text = keyboard.read(f"result of {visible(call['function']['name'])}: ", is_message=False)
            results.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        return results
