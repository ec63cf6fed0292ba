"""Which requests of a web browser may proceed: a page must not use a server that its reader can reach and it may not.

A browser names the page that asks: by `Origin`, and by `Sec-Fetch-Site` whether that page is ours (W3C Fetch Metadata).
Pages of other origins are those of `--allow-origins`; anybody may follow a link to us. A page whose name leads to this
machine (DNS rebinding) passes for ours: on a connection within the machine, `Host` must therefore be one of its own
names, or one of `--allow-hosts`. Programs that are no browsers send neither header, and are not concerned.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from sanic import Request

from verbatim.server.errors import ForbiddenError
from verbatim.server.http.cors import CrossOrigin, is_preflight

OURS = ("same-origin", "none")  # none: typed in, or a bookmark
LINKS = ("GET", "HEAD")


class BrowserCheck:
    """The rule for the pages that `cross_origin` allows and the further names of this server."""

    def __init__(self, cross_origin: CrossOrigin, hosts: tuple[str, ...]):
        self.cross_origin, self.hosts = cross_origin, {host.lower() for host in hosts}

    def check(self, request: Request) -> None:
        """Raise ForbiddenError unless the request may proceed."""
        if not is_from_browser(request):
            return
        check_host(request, self.hosts)
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if site in OURS or self.cross_origin.allows_origin(origin or ""):
            return
        if site is None and origin is not None and origin.lower().partition("://")[2] == _host(request):
            return
        if request.headers.get("sec-fetch-mode") == "navigate" and request.method in LINKS:
            return
        page = (origin or "another origin")[:200]
        raise ForbiddenError(f"A web page of {page} may not ask this server: --allow-origins names those that may.")


def is_from_browser(request: Request) -> bool:
    """Whether a browser sent the request for a page; its questions of what it may do do not count."""
    return ("origin" in request.headers or "sec-fetch-site" in request.headers) and not is_preflight(request)


def check_host(request: Request, hosts: Collection[str]) -> None:
    """Raise ForbiddenError if a browser reached this machine by a name that is neither its own nor one of `hosts`."""
    name = _name_in(_host(request))
    if not _is_loopback(str(request.transport.get_extra_info("sockname", ("",))[0])):
        return
    if not (name == "localhost" or name.endswith(".localhost") or _is_loopback(name) or name in hosts):
        raise ForbiddenError(f"Host is {name[:200]!r}, no name of this machine: --allow-hosts names further ones.")


def _host(request: Request) -> str:
    return request.headers.get("host", "").lower()


def _name_in(host: str) -> str:
    """Host without its port; empty if it cannot be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
