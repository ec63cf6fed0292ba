"""Which web pages may use the server from a browser: cross-origin resource sharing, by `--allow-*`.

A browser asks first (a preflight, answered here for any URL), then sends the request itself; what comes back it shows
to the page only if the answer names the page's origin. (WHATWG Fetch, "CORS protocol".) Programs are not concerned.
"""

from sanic import HTTPResponse, Request

from verbatim.reference.records.errors import RequestError
from verbatim.server.settings.options import Options

ANY = "*"
METHODS = ("GET", "POST", "DELETE", "OPTIONS")
MAX_AGE_SECONDS = "600"
EXPOSED = "x-request-id, retry-after, x-verbatim-ignored"


def is_preflight(request: Request) -> bool:
    """Whether a browser asks what it may do; such a question carries no key."""
    return request.method == "OPTIONS" and "access-control-request-method" in request.headers


class CrossOrigin:
    """What pages of other origins may do."""

    def __init__(self, options: Options):
        self.origins, self.methods, self.headers = options.allow_origins, options.allow_methods, options.allow_headers
        self.allows_credentials = options.allow_credentials
        if self.allows_credentials and ANY in self.origins:
            raise ValueError("--allow-credentials needs --allow-origins by name: * would give them to every page")

    def answer_preflight(self, request: Request) -> HTTPResponse | None:
        """Before any handler: what a page may do, or by which of the three it may not; None if that is not asked."""
        if not is_preflight(request):
            return None
        method = request.headers["access-control-request-method"]
        wanted = [name.strip().lower() for name in request.headers.get("access-control-request-headers", "").split(",")]
        if not self.allows_origin(request.headers.get("origin")):
            raise RequestError("--allow-origins of this server does not have the page's origin.", field="origin")
        if not _allows(self.methods, method):
            raise RequestError("--allow-methods of this server does not have the method.", field="method")
        if not all(_allows(self.headers, name) for name in wanted if name):
            raise RequestError("--allow-headers of this server does not have all the headers.", field="headers")
        methods = METHODS if ANY in self.methods else self.methods
        allowed = {"access-control-allow-methods": ", ".join(methods), "access-control-max-age": MAX_AGE_SECONDS}
        if any(wanted):  # by name, since a star does not cover Authorization
            allowed["access-control-allow-headers"] = ", ".join(filter(None, wanted))
        return HTTPResponse(status=204, headers=allowed)

    def mark(self, request: Request, response: HTTPResponse) -> None:
        """On every answer: who may see it."""
        origin = request.headers.get("origin")
        is_named = self.allows_credentials or ANY not in self.origins
        if is_named:
            varies = response.headers.get("vary")
            response.headers["vary"] = f"{varies}, Origin" if varies else "Origin"
        if not self.allows_origin(origin):
            return
        response.headers["access-control-allow-origin"] = origin if is_named else ANY
        response.headers["access-control-expose-headers"] = EXPOSED
        if self.allows_credentials:
            response.headers["access-control-allow-credentials"] = "true"

    def allows_origin(self, origin: str | None) -> bool:
        """Whether pages of that origin may ask."""
        return origin is not None and _allows(self.origins, origin)


def _allows(allowed: tuple[str, ...], value: str) -> bool:
    return ANY in allowed or value.lower() in (item.lower() for item in allowed)
