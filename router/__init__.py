"""The router in front of several servers: one address, the least busy endpoint, streams that outlive an endpoint."""

from verbatim.router.routing import Router
from verbatim.router.serving import serve

__all__ = ["Router", "serve"]
