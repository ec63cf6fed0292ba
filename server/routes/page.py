"""GET /: the page to chat with the models, in one file that loads nothing from anywhere else.

The file is built from `server/page/src` (`make page`). Its policy allows that file's own script and style by their
digests and nothing else: no other script runs, no style of a model's answer applies, nothing is fetched from elsewhere.
"""

import base64
import gzip
import re
from hashlib import sha256
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request

from verbatim.server.http.application import GET

PAGE = Path(__file__).parent.parent / "page" / "built" / "index.html"


def page_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("page")
    page = PAGE.read_bytes()
    packed = gzip.compress(page, mtime=0)
    tag = f'"{sha256(page).hexdigest()[:32]}"'
    headers = {
        "content-security-policy": policy_of(page.decode("utf-8")),
        "cache-control": "no-cache",
        "etag": tag,
        "vary": "Accept-Encoding",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }

    @blueprint.route("/", methods=GET)
    async def show_page(request: Request) -> HTTPResponse:
        if request.headers.get("if-none-match") == tag:
            return HTTPResponse(status=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return HTTPResponse(page, headers=headers, content_type="text/html; charset=utf-8")
        packed_headers = headers | {"content-encoding": "gzip"}
        return HTTPResponse(packed, headers=packed_headers, content_type="text/html; charset=utf-8")

    return blueprint


def policy_of(page: str) -> str:
    """The content security policy of a page with one inline script and one inline style."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_digest(page, 'script')}",
            f"style-src {_digest(page, 'style')}",
            "img-src data:",
            "font-src data:",
            "connect-src 'self'",
            "require-trusted-types-for 'script'",
            "trusted-types dompurify",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _digest(page: str, tag: str) -> str:
    """The sources of an inline element's text, as a policy names them (CSP level 2)."""
    [text] = re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
