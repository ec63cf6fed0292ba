"""The interface between a case and the server: short requests, and the common outcomes of an answer.

A RecordedProbe returns saved exchanges instead of sending; the same case then judges them again.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

from verbatim.conformance.answers import Streamed, Whole
from verbatim.conformance.case import Case, FailError, SkipError, UnsupportedError, expect, shown
from verbatim.conformance.client import Client, Reading, Settings
from verbatim.conformance.exchange import Exchange

CHAT, COMPLETIONS = "/chat/completions", "/completions"
PROMPTS = (
    "Count from one to fifty in words.",
    "Tell me a long story about a lamp, a river and a bird.",
    "Write the alphabet, then the numbers, then the months.",
    "Repeat these words: lamp river bird stone green blue old new house tree wind rain moon star",
    "Reverse the words: lamp river bird stone green blue old new house tree wind rain moon star",
)


class Budget:
    """The number of requests that may still be sent, over all cases."""

    def __init__(self, requests: int | None):
        self.left = requests

    def spend(self) -> None:
        """Count a request, or skip the case when none is left."""
        if self.left is not None:
            if self.left <= 0:
                raise SkipError("requests left in the budget", "the budget is spent")
            self.left -= 1


class Probe:
    """Sends the requests of a case; every exchange is kept in `exchanges`."""

    def __init__(self, case: Case, client: Client, budget: Budget):
        self.case, self.client, self.budget = case, client, budget
        self.settings: Settings = client.settings
        self.exchanges: list[Exchange] = []

    def word(self, number: int = 0) -> str:
        """A word that no other case uses, the same in every run of this case."""
        return "k" + hashlib.sha256(f"{self.case.id} {number}".encode()).hexdigest()[:10]

    def send(self, method: str, path: str, body=None, **options) -> Exchange:
        """Send a request; the exchange is not judged yet."""
        self.budget.spend()
        exchange = self.client.send(method, path, body, **options)
        self.exchanges.append(exchange)
        return exchange

    def send_all(self, requests: list[dict]) -> list[Exchange]:
        """Many exchanges at once; each request is the arguments of `send`."""
        for _ in requests:
            self.budget.spend()
        with ThreadPoolExecutor(len(requests)) as pool:
            exchanges = list(pool.map(lambda request: self.client.send(**request), requests))
        self.exchanges += exchanges
        return exchanges

    # Bodies ----------------------------------------------------------------------------------------------------

    def chat_body(self, messages="Hello", **fields) -> dict:
        """A short greedy chat; a text stands for a single user message; a field of ... is left out."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = {"model": self.settings.model, "messages": messages, "temperature": 0, "max_tokens": 16}
        return self._finish(body | fields)

    def odd_chat(self, **fields) -> dict:
        """A chat whose fields are taken as they stand, messages too."""
        return self._finish(self.chat_body() | fields)

    def text_body(self, prompt="Hello", **fields) -> dict:
        """A short greedy completion."""
        return self._finish(
            {"model": self.settings.model, "prompt": prompt, "temperature": 0, "max_tokens": 16} | fields
        )

    def _finish(self, body: dict) -> dict:
        name = self.settings.max_tokens_field
        if "prompt" not in body and name != "max_tokens" and "max_tokens" in body and name not in body:
            body[name] = body.pop("max_tokens")
        return {key: value for key, value in body.items() if value is not ...}

    # Answers ---------------------------------------------------------------------------------------------------

    def accepted(self, exchange: Exchange) -> Exchange:
        """The exchange if it is a complete 200; else the outcome that it means for this case."""
        if exchange.status == 429:
            raise SkipError("the server accepts the request", f"it limits the rate: {exchange.summary()}")
        if self.case.is_optional and exchange.is_refusal():
            raise UnsupportedError("the feature, if the server has it", exchange.summary())
        if exchange.status != 200 or exchange.trouble:
            raise FailError("status 200 and a complete answer", exchange.summary())
        return exchange

    def post(self, path: str, body: object, **options) -> Exchange:
        """A POST that must succeed."""
        return self.accepted(self.send("POST", path, body, **options))

    def get(self, path: str) -> Whole:
        """A GET that must succeed."""
        return Whole(self.accepted(self.send("GET", path)))

    def chat(self, messages="Hello", **fields) -> Whole:
        """A whole chat completion."""
        return Whole(self.post(CHAT, self.chat_body(messages, **fields)))

    def chat_stream(self, messages="Hello", **fields) -> Streamed:
        """A streamed chat completion."""
        return Streamed(self.post(CHAT, self.chat_body(messages, stream=True, **fields)))

    def complete(self, prompt="Hello", **fields) -> Whole:
        """A whole completion of a prompt."""
        return Whole(self.post(COMPLETIONS, self.text_body(prompt, **fields)))

    def complete_stream(self, prompt="Hello", **fields) -> Streamed:
        """A streamed completion of a prompt."""
        return Streamed(self.post(COMPLETIONS, self.text_body(prompt, stream=True, **fields)))

    def refused(self, exchange: Exchange, *, statuses: tuple[int, ...] = (), param: str | None = None) -> dict:
        """The error object of a request that must be refused; {} where only the status is judged."""
        wanted = f"status {' or '.join(map(str, statuses))}" if statuses else "a status of 400 to 499"
        if exchange.status == 429:
            raise SkipError(wanted, f"the server limits the rate: {exchange.summary()}")
        is_good = exchange.status in statuses if statuses else exchange.status and 400 <= exchange.status < 500
        expect(is_good and not exchange.trouble, f"the request is refused with {wanted}", exchange.summary())
        error = exchange.error() or {}
        if param is not None:
            expect(str(error.get("param") or "").startswith(param), f"error.param names {param}", shown(error))
        return error

    def long_answer(self, min_words: int = 6, *, to_the_cap: bool = False, **fields) -> tuple[str, Whole]:
        """(prompt, greedy answer) of the first prompt that this model answers at length; else the case is skipped."""
        for prompt in PROMPTS:
            answer = self.chat(prompt, **{"max_tokens": 24} | fields)
            if len(answer.text().split()) >= min_words and (answer.finish == "length" or not to_the_cap):
                return prompt, answer
        raise SkipError(f"an answer of {min_words} words or more", "the model answers every prompt too briefly")


class RecordedProbe(Probe):
    """A probe that reads its answers from a report."""

    def __init__(self, case: Case, settings: Settings, exchanges: list[Exchange]):
        super().__init__(case, Client(settings), Budget(None))
        self._saved = iter(exchanges)

    def send(self, method: str, path: str, body=None, **options) -> Exchange:
        """The next saved exchange."""
        exchange = next(self._saved, None)
        if exchange is None or (exchange.method, exchange.path) != (method, path):
            raise SkipError("the evidence holds what this case requests", "the evidence ends here; run it again")
        self.exchanges.append(exchange)
        return exchange

    def send_all(self, requests: list[dict]) -> list[Exchange]:
        """The next saved exchanges, in the order of the requests."""
        return [self.send(**request) for request in requests]


__all__ = ["CHAT", "COMPLETIONS", "PROMPTS", "Budget", "Probe", "Reading", "RecordedProbe"]
