"""What was recomputed beside what a receipt says: equal to the bit, or the first position that differs, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from verbatim.reference.receipts.receipt import BIT_DIGITS, Answer, EngineFacts, Receipt, bits_of, logprobs_of
from verbatim.reference.records.request import Output

Key = tuple[str, int]  # a request's id, and the choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first thing that is not the same. `position` counts an answer's tokens from 0; None if it is about none."""

    what: str
    receipt: str
    computed: str
    request: int | None = None
    choice: int | None = None
    position: int | None = None

    def __str__(self) -> str:
        """All of it in a line."""
        names = {"request": self.request, "choice": self.choice, "token": self.position}
        where = ", ".join(f"{name} {number}" for name, number in names.items() if number is not None)
        return f"{where}{where and ': '}{self.what}: {self.receipt} in the receipt, {self.computed} here"


@dataclass(slots=True)
class Recomputed:
    """One choice as it is recomputed: its tokens with their log-probabilities, and its end once it has come."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    error: str | None = None

    def take(self, output: Output) -> None:
        """Append an output of this choice."""
        self.token_ids += output.token_ids
        self.logprobs += output.token_logprobs
        if output.finish_reason is not None:
            self.finish_reason, self.stop_reason = str(output.finish_reason), output.stop_reason
            self.error = output.error


def compare_engines(receipt: EngineFacts, here: EngineFacts) -> Difference | None:
    """The first setting on which bits depend that is not the same; None if an answer must be."""
    for name, value in receipt.settings.items():
        if here.settings[name] != value:
            shown = (str(value)[:64], str(here.settings[name])[:64])
            what = "the model's files" if name == "files" else name
            return Difference(what=what, receipt=shown[0], computed=shown[1])
    return None


def compare(receipt: Receipt, found: Mapping[Key, Recomputed]) -> Difference | None:
    """The first difference in the order of the receipt's answers."""
    for answer in receipt.answers:
        key = receipt.requests[answer.request].request_id, answer.choice
        if difference := compare_answer(answer, found.get(key) or Recomputed()):
            return difference
    return None


def compare_answer(answer: Answer, found: Recomputed) -> Difference | None:
    """The first difference of one choice: a token, the bits of its log-probability, or the end."""
    recorded, bits = answer.token_ids, bits_of(found.logprobs)
    for position, (ours, theirs) in enumerate(zip(found.token_ids, recorded, strict=False)):
        digits = slice(BIT_DIGITS * position, BIT_DIGITS * (position + 1))
        if ours != theirs:
            return _at(answer, position, "token", str(theirs), str(ours))
        if bits[digits] != answer.logprob_bits[digits]:
            return _at(answer, position, "log-probability", _shown(answer.logprob_bits[digits]), _shown(bits[digits]))
    if len(found.token_ids) > len(recorded):
        return _at(
            answer,
            len(recorded),
            "length",
            f"the end ({answer.finish_reason})",
            f"token {found.token_ids[len(recorded)]}",
        )
    if len(found.token_ids) < len(recorded):
        end = found.error or f"the end ({found.finish_reason})"
        return _at(answer, len(found.token_ids), "length", f"token {recorded[len(found.token_ids)]}", end)
    if found.error or found.finish_reason != answer.finish_reason:
        return _at(answer, None, "finish reason", answer.finish_reason, found.error or str(found.finish_reason))
    if found.stop_reason != answer.stop_reason:
        return _at(answer, None, "stop reason", repr(answer.stop_reason), repr(found.stop_reason))
    return None


def _at(answer: Answer, position: int | None, what: str, receipt: str, computed: str) -> Difference:
    return Difference(
        what=what, receipt=receipt, computed=computed, request=answer.request, choice=answer.choice, position=position
    )


def _shown(bits: str) -> str:
    """A log-probability with its bits."""
    return f"{logprobs_of(bits)[0]} (0x{bits})"
