"""What a client asks, as far as the router has to know: which model, which endpoint's own response, streamed how.

A body goes on byte for byte, but for one field: a request to generate without a `seed` gets one, so that it can be
asked again elsewhere with the same answer. It goes to verbatim servers only; others may not know it.
"""

import json
import secrets
from dataclasses import dataclass
from urllib.parse import unquote

import orjson
from sanic import Request

from verbatim.reference.records.errors import RequestError
from verbatim.router.homes import Home

SEED_BITS = 63
RESPONSES = "/v1/responses"
GENERATING = ("/v1/chat/completions", "/v1/completions", RESPONSES)
MODELS = "/v1/models/"
HOP_BY_HOP = frozenset({  # headers that hold between two neighbours only (RFC 9110, section 7.6.1)
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect", "x-request-id",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. `response_id` is that of a kept response which it is about; `home` is where that is, if known."""

    method: str
    path: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    model: str | None = None
    is_seeded: bool = True
    response_id: str | None = None
    home: Home | None = None
    seed: int = 0

    @property
    def is_generating(self) -> bool:
        """Whether the answer is words, which another endpoint could go on with."""
        return self.method == "POST" and self.path in GENERATING

    def body_for(self, fingerprint: str | None) -> bytes:
        """The body for an endpoint of that fingerprint: the client's own, perhaps with a seed and with its ids."""
        body = self.home.inward(self.body) if self.home else self.body
        if fingerprint is None or self.is_seeded or not self.is_generating:
            return body
        return body.rstrip()[:-1] + b',"seed":%d}' % self.seed  # of two seeds (one may be null) the last counts

    @property
    def is_for_kept(self) -> bool:
        """Whether the answer is the kept response itself."""
        return self.path != RESPONSES

    @property
    def target_there(self) -> str:
        """Path and query, as the endpoint knows them."""
        return self.home.inward(self.target.encode()).decode() if self.home else self.target


def read_ask(request: Request, request_id: str) -> Ask:
    """The request as it came. A body that is no JSON object is passed on as it is, for an endpoint to refuse."""
    path = request.path
    _check_headers(request)
    fields = _fields_of(request.body) if request.method == "POST" else {}
    headers = [pair for pair in request.headers.items() if pair[0].lower() not in HOP_BY_HOP]
    model = unquote(path.removeprefix(MODELS)) if path.startswith(MODELS) else fields.get("model")
    previous = fields.get("previous_response_id") if path == RESPONSES else None
    if path.startswith(RESPONSES + "/"):
        previous = path.split("/")[3]
    return Ask(
        method=request.method, path=path, target=request.raw_url.decode("latin-1"), body=request.body,
        headers=(*headers, ("x-request-id", request_id)), model=model if isinstance(model, str) and model else None,
        is_seeded=not fields or fields.get("seed") is not None, seed=secrets.randbits(SEED_BITS),
        response_id=previous if isinstance(previous, str) and previous else None,
    )  # fmt: skip


def _check_headers(request: Request) -> None:
    """Bytes that are no UTF-8 cannot be passed on."""
    try:
        "".join(request.headers.values()).encode()
    except UnicodeEncodeError:
        raise RequestError("The headers must be UTF-8.", code="invalid_header") from None


def _fields_of(body: bytes) -> dict:
    try:
        fields = orjson.loads(body)
    except ValueError:  # it has no integers beyond 64 bits
        try:
            fields = json.loads(body.decode())
        except (ValueError, RecursionError):
            return {}
    return fields if isinstance(fields, dict) else {}
