"""A case, its possible outcomes, and the registry that all sections write into.

A case is a function of a Probe. It returns if the requirement holds and raises one of the outcomes below otherwise; any
other exception is a defect of the suite and is reported as `broken`, never as a failure of the server.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

Wanted = TypeVar("Wanted")
MUST, SHOULD, MAY = "MUST", "SHOULD", "MAY"
LEVELS = (MUST, SHOULD, MAY)
VERDICTS = ("pass", "fail", "warn", "unsupported", "skipped", "broken")
PROFILES = {
    "chat-core": [
        "transport",
        "errors",
        "invalid",
        "models",
        "chat",
        "stream",
        "sampling",
        "stop",
        "logprobs",
        "usage",
        "limits",
        "determinism",
        "unicode",
        "concurrency",
        "auth",
    ],
    "tools": ["tools"],
    "structured": ["structured"],
    "thinking": ["thinking"],
    "completions": ["completions"],
    "embeddings": ["embeddings"],
    "responses": ["responses"],
    "messages": ["messages"],
}
SPEC = "OpenAI's API description 2.3.0"
OBSERVED = "observed at api.openai.com"


class OutcomeError(Exception):
    """The outcome of a case that does not pass."""

    verdict = "broken"

    def __init__(self, expected: str, actual: str = ""):
        super().__init__(expected, actual)
        self.expected, self.actual = expected, actual


class FailError(OutcomeError):
    """The server does not meet the requirement."""

    verdict = "fail"


class WarnError(OutcomeError):
    """The answer is allowed, but some client fails on it."""

    verdict = "warn"


class UnsupportedError(OutcomeError):
    """The server refused the feature cleanly."""

    verdict = "unsupported"


class SkipError(OutcomeError):
    """The case could not be judged on this server or model; `actual` gives the reason."""

    verdict = "skipped"


@dataclass(frozen=True)
class Case:
    """A requirement and the code that judges it. `fault` is a defect of a server that must make the case fail."""

    id: str
    requirement: str
    source: str
    level: str
    fault: str
    judge: Callable
    is_optional: bool = False
    is_alone: bool = False
    is_harsh: bool = False

    @property
    def section(self) -> str:
        """The first word of the id; the file in cases/ that holds it has the same name."""
        return self.id.partition(".")[0]

    @property
    def profile(self) -> str:
        """The profile that the section belongs to; what is about tools belongs to `tools` in any section."""
        if self.id.startswith("stream.tool"):
            return "tools"
        return next(profile for profile, sections in PROFILES.items() if self.section in sections)


REGISTRY: dict[str, Case] = {}


def case(
    id: str,
    requirement: str,
    *,
    source: str,
    level: str,
    fault: str,
    optional: bool = False,
    alone: bool = False,
    harsh: bool = False,
):
    """Register the decorated function.

    `optional`: a clean refusal is no failure. `alone`: it measures time. `harsh`: some servers crash or hang on it.
    """

    def register(judge: Callable) -> Callable:
        assert id not in REGISTRY, f"two cases are called {id}"
        assert level in LEVELS, f"{id}: the level is one of {LEVELS}"
        REGISTRY[id] = Case(
            id, requirement, source, level, fault, judge, optional, alone, harsh or id.startswith("limits.")
        )
        return judge

    return register


def shown(value: object, limit: int = 300) -> str:
    """A value as evidence shows it: JSON, cut when long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def expect(is_so: object, expected: str, actual: object = "") -> None:
    """The server fails unless `is_so`."""
    if not is_so:
        raise FailError(expected, actual if isinstance(actual, str) else shown(actual))


def equal(actual: object, wanted: object, what: str) -> None:
    """The server fails unless both are the same."""
    expect(type(actual) is type(wanted) and actual == wanted, f"{what} is {shown(wanted)}", f"it is {shown(actual)}")


TYPE_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
}


@overload
def dig(value: Any, path: str, wanted: type[Wanted]) -> Wanted: ...


@overload
def dig(value: Any, path: str) -> Any: ...


def dig(value: Any, path: str, wanted: type | None = None) -> Any:
    """The value at a dotted path of keys and indices; the server fails if it is missing or of another type."""
    for step in path.split(".") if path else ():
        at = int(step) if isinstance(value, list) and step.lstrip("-").isdigit() else step
        try:
            value = value[at]
        except (KeyError, IndexError, TypeError):
            raise FailError(f"the answer has {path}", f"no {step} in {shown(value)}") from None
    if wanted is not None:
        is_right = type(value) is wanted or (wanted is float and type(value) is int)
        expect(is_right, f"{path or 'the body'} is {TYPE_NAMES.get(wanted)}", f"it is {shown(value)}")
    return value
