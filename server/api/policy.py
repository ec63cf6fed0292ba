"""What becomes of a field that has no effect: `--unknown-fields`, and the names that the reading of one body collects.

`ignore` answers and says nothing, `warn` answers and names the field in the header `x-verbatim-ignored` and in the log,
`refuse` is a 400. Declarations read bodies far from the option, so the policy is a context variable, which holds for
the request under way, also on the thread that reads a long body.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import quote

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.server.settings.options import UNKNOWN_FIELDS

IGNORE, WARN, REFUSE = UNKNOWN_FIELDS
HEADER = "x-verbatim-ignored"
MAX_NAMES = 32  # that the header and the log show; more become a count
MAX_PATH_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of one body: its policy, and the paths of what had no effect, each once, in the order they came."""

    policy: str = WARN
    is_model_optional: bool = True  # as there is only one
    ignored: dict[str, None] = field(default_factory=dict)

    def names(self) -> str:
        """The value of the header, "" for none: percent-encoded paths with commas between, at most MAX_NAMES."""
        if self.policy != WARN or not self.ignored:
            return ""
        names = [quote(path, safe="[]._-$:/") for path in list(self.ignored)[:MAX_NAMES]]
        num_more = len(self.ignored) - len(names)
        return ", ".join([*names, f"and {num_more} more"] if num_more else names)


_READING: ContextVar[Reading | None] = ContextVar("reading", default=None)


def current() -> Reading:
    """The reading under way. Outside of one: the default policy, and names that nobody sees."""
    return _READING.get() or Reading()


@contextmanager
def reading(policy: str, *, is_model_optional: bool = True) -> Iterator[Reading]:
    """Within it, bodies are read under `policy`; under `refuse` they never leave out the model."""
    token = _READING.set(Reading(policy, is_model_optional and policy != REFUSE))
    try:
        yield current()
    finally:
        _READING.reset(token)


def is_strict() -> bool:
    """Whether what OpenAI's API does not have is refused."""
    return current().policy == REFUSE


def note_unknown(path: str) -> None:
    """A field that nobody has declared; RequestError under `refuse`."""
    path = path[:MAX_PATH_CHARACTERS]
    if is_strict():
        raise RequestError(f"Unknown parameter: {path}", field=path, code="unknown_parameter")
    current().ignored[path] = None


def note_without_effect(path: str) -> None:
    """A known field whose value asks for what this server does not do; UnsupportedError under `refuse`."""
    if is_strict():
        raise unsupported(path)
    current().ignored[path] = None


def unsupported(path: str) -> UnsupportedError:
    """The error for a field whose value changes the answer in a way that this server does not have."""
    return UnsupportedError(f"{path} is not supported by this server with this value", field=path)
