"""Faults of the miniature server, given as a line in the header X-Fault.

    drop NAME            the request's field NAME (dotted) is ignored        ask NAME=JSON    it is replaced
    accept PARAM         validation accepts any value of PARAM            error NAME=JSON  a field of error objects
    status N [PARAM]     refusals (of PARAM) have status N                   late             streams fail after the 200
    body PATH=JSON       a value in every whole answer; `body -PATH` removes it
    chunk[@N] PATH=JSON  the same in chunks, all or the Nth; `chunk[@N] -PATH`; `double@N`, `without@N` whole chunks
    wire OLD=>NEW        bytes of event streams, with escapes                header NAME=VALUE or header -NAME

Any other line names a fault that the server's own code tests for.
"""

import copy
import json


class Fault:
    """A parsed line of the language above; the empty line is no fault."""

    def __init__(self, line: str):
        self.line = line
        self.verb, _, self.rest = line.partition(" ")

    def __contains__(self, word: str) -> bool:
        return self.line == word

    def on_request(self, body):
        """The request as the faulty server reads it: without a field, or with another value."""
        if self.verb == "drop" and isinstance(body, dict):
            body = copy.deepcopy(body)
            for name in self.rest.split(","):
                edit(body, "-" + name)
        elif self.verb == "ask" and isinstance(body, dict):
            body = copy.deepcopy(body)
            name = self.rest.partition("=")[0].split(".")[0]
            if body.get(name) is not None:
                edit(body, self.rest)
        return body

    def accepts(self, param: str | None) -> bool:
        """Whether the fault turns off the check of `param`."""
        return self.verb == "accept" and (self.rest == "*" or str(param).startswith(self.rest))

    def on_error(self, status: int, error: dict):
        """(status, body) of a refusal."""
        if self.verb == "status":
            number, _, param = self.rest.partition(" ")
            if str(error["param"]).startswith(param) or not param:
                status = int(number)
        body = {"error": error}
        if self.verb == "error":
            edit(error, self.rest)
        elif self.verb == "error-body":
            body = json.loads(self.rest)
        elif self.verb == "raw-error":
            body = self.rest
        return status, body

    def on_body(self, body: dict) -> dict:
        """A whole answer."""
        if self.verb == "body":
            edit(body, self.rest)
        return body

    def on_chunks(self, chunks: list[dict]) -> list[dict]:
        """All chunks of a stream."""
        verb, _, number = self.verb.partition("@")
        if verb in ("double", "without", "chunk"):
            chunks = copy.deepcopy(chunks)
            some = range(len(chunks)) if not number else [range(len(chunks))[int(number)]]
            for at in reversed(some):
                if verb == "chunk":
                    edit(chunks[at], self.rest)
                elif verb == "double":
                    chunks.insert(at, copy.deepcopy(chunks[at]))
                else:
                    del chunks[at]
        return chunks

    def on_wire(self, data: bytes) -> bytes:
        """The bytes of a stream."""
        if self.verb == "wire":
            old, _, new = self.rest.encode().decode("unicode_escape").partition("=>")
            data = data.replace(old.encode("latin-1"), new.encode("latin-1"))
        return data

    def on_headers(self, headers: dict) -> dict:
        """The headers of every answer."""
        if self.verb == "header":
            if self.rest.startswith("-"):
                headers.pop(self.rest[1:], None)
            else:
                name, _, value = self.rest.partition("=")
                headers[name] = value
        return headers


def edit(value, line: str) -> None:
    """PATH=JSON sets and -PATH removes a value if its path exists; * is every item of an array."""
    path, _, text = line.removeprefix("-").partition("=")
    *steps, last = path.split(".")
    _edit(value, steps, last, line.startswith("-"), json.loads(text) if text else None)


def _edit(value, steps, last, is_removal, new) -> None:
    if steps:
        for child in _children(value, steps[0]):
            _edit(child, steps[1:], last, is_removal, new)
    elif isinstance(value, dict) and is_removal:
        value.pop(last, None)
    elif isinstance(value, dict):
        value[last] = new
    elif isinstance(value, list):
        for at in range(len(value)) if last == "*" else [int(last)]:
            if at < len(value):
                value[at] = new


def _children(value, step) -> list:
    if isinstance(value, list):
        return value if step == "*" else value[int(step) : int(step) + 1 or None]
    return [value[step]] if isinstance(value, dict) and value.get(step) is not None else []
