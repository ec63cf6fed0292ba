"""A request and its answer, byte for byte and with times: the evidence of every verdict.

A judge reads evidence only, so a saved run can be judged again without the server.
"""

import base64
import json
import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT_REQUEST_BYTES = 20_000


@dataclass
class Exchange:
    """If no answer came, `status` is None and `trouble` gives the reason; `arrivals` are (seconds, bytes so far)."""

    method: str
    path: str
    request_headers: dict[str, str] = field(default_factory=dict)
    request_body: bytes = b""
    status: int | None = None
    headers: list[list[str]] = field(default_factory=list)
    body: bytes = b""
    arrivals: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    trouble: str | None = None

    def header(self, name: str) -> str:
        """All values of a header, joined; empty if it is absent."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower())

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body's value; ValueError if it is not strict JSON in UTF-8."""

        def refuse(name: str):
            raise ValueError(f"{name} is not JSON")

        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=refuse)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def error(self) -> dict | None:
        """The error object of the body, if it has one with a message."""
        try:
            error = self.json()["error"]
        except (ValueError, KeyError, TypeError, IndexError):
            return None
        return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None

    def is_refusal(self) -> bool:
        """A clean refusal: a 4xx with an error object, or an endpoint that does not exist."""
        if self.status in (404, 405, 501):
            return True
        return self.status is not None and 400 <= self.status < 500 and self.error() is not None

    def summary(self) -> str:
        """Status and the beginning of the body, or what went wrong instead."""
        start = self.body[:200].decode("utf-8", "replace")
        if self.status is None:
            return self.trouble or "no answer"
        return f"status {self.status}: {start}" + (f" ({self.trouble})" if self.trouble else "")

    def curl(self, base_url: str) -> str:
        """A shell command that sends the request again; the reader supplies the key."""
        parts = ["curl", "-sS", "-i", "-X", self.method, base_url.rstrip("/") + self.path]
        for name, value in self.request_headers.items():
            parts += ["-H", f"{name}: {value}"]
        line = shlex.join(parts)
        if not self.request_body:
            return line
        if len(self.request_body) > 4000:
            return f"{line} --data-binary @body  # {len(self.request_body)} bytes, see the evidence"
        return f"{line} --data-binary {shlex.quote(self.request_body.decode('utf-8', 'backslashreplace'))}"

    def to_json(self) -> dict:
        """The exchange as a JSON value of a report: bodies as text if they are UTF-8, else as base64."""
        record = asdict(self)
        record["request_body"] = _pack(self.request_body[:KEPT_REQUEST_BYTES])
        record["body"] = _pack(self.body)
        return record

    @classmethod
    def from_json(cls, record: dict) -> "Exchange":
        """Read an exchange from a report."""
        bodies = {name: _unpack(record[name]) for name in ("request_body", "body")}
        return cls(**record | bodies)


def _pack(data: bytes) -> str | dict:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _unpack(value: str | dict) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["base64"])
