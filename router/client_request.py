"""A client's request, as far as the router has to know: which model, which API, which kept response it is about.

A body is passed on byte for byte, but for a field: a request to generate without a `seed` gets a seed, so that another
endpoint gives the same answer. It is added for verbatim servers only; others may not know it.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from sanic import Request

from verbatim.reference.records.errors import RequestError
from verbatim.router.kept import KeptLocation
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.registry import adapter_of
from verbatim.server.http.json_body import check_shape
from verbatim.server.models.served import TAG

SEED_BITS = 63
MODELS = "/v1/models/"
MOST_VALUES = 1 << 19  # of a body; each server has a bound of its own, mostly a lower one
HOP_BY_HOP = frozenset({  # headers that hold between two neighbours only (RFC 9110, section 7.6.1)
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "expect", "x-request-id",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """One request. `response_id` is that of a kept response which it is about; `kept_at` is where that is, if known."""

    method: str
    path: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    adapter: Adapter | None = None
    model: str | None = None
    is_seeded: bool = True
    response_id: str | None = None
    kept_at: KeptLocation | None = None
    seed: int = 0

    @property
    def is_resumable(self) -> bool:
        """Whether another endpoint could continue the answer."""
        api = self.adapter
        return api is not None and api.is_resumable and self.method == "POST" and self.path == api.path

    @property
    def is_for_kept(self) -> bool:
        """Whether the answer is the kept response itself."""
        return self.adapter is not None and self.adapter.is_kept_itself(self.path)

    @property
    def target_there(self) -> str:
        """Path and query, as the endpoint knows them."""
        return self.kept_at.inward(self.target.encode()).decode() if self.kept_at else self.target

    def body_for(self, fingerprint: str | None) -> bytes:
        """The body for an endpoint of that fingerprint: the client's own, perhaps with a seed and with its ids."""
        body = self.kept_at.inward(self.body) if self.kept_at else self.body
        if fingerprint is None or self.is_seeded or self.adapter is None or not self.is_resumable:
            return body
        return self.adapter.with_seed(body, self.seed)


def read_request(request: Request, request_id: str) -> ClientRequest:
    """The request as it came. A body that is no JSON object is passed on as it is, for an endpoint to refuse."""
    path = request.path
    _check_headers(request)
    fields = _fields_of(request) if request.method == "POST" else {}
    headers = [pair for pair in request.headers.items() if pair[0].lower() not in HOP_BY_HOP]
    model = unquote(path.removeprefix(MODELS)) if path.startswith(MODELS) else fields.get("model")
    if path.startswith("/api/") and isinstance(model, str):  # an Ollama client's
        model = model.removesuffix(TAG)
    adapter = adapter_of(path)
    return ClientRequest(
        method=request.method, path=path, target=request.raw_url.decode("latin-1"), body=request.body,
        headers=(*headers, ("x-request-id", request_id)), adapter=adapter,
        model=model if isinstance(model, str) and model else None,
        is_seeded=not fields or adapter is None or adapter.has_seed(fields), seed=secrets.randbits(SEED_BITS),
        response_id=adapter.kept_id(path, fields) if adapter else None,
    )  # fmt: skip


def _check_headers(request: Request) -> None:
    """Bytes that are no UTF-8 cannot be passed on."""
    try:
        "".join(request.headers.values()).encode()
    except UnicodeEncodeError:
        raise RequestError("The headers must be UTF-8.", code="invalid_header") from None


def _fields_of(request: Request) -> dict[str, Any]:
    """Those of a JSON object. RequestError if it is beyond the bounds of all servers here, and takes long to read."""
    try:
        check_shape(request.body, MOST_VALUES)
    except RequestError:
        if "json" in request.headers.get("content-type", ""):
            raise
        return {}
    try:
        fields = orjson.loads(request.body)
    except ValueError:  # it has no integers beyond 64 bits
        try:
            fields = json.loads(request.body.decode())
        except (ValueError, RecursionError):
            return {}
    return fields if isinstance(fields, dict) else {}
