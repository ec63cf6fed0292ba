"""Starts a router and serves until it is stopped: for programs `serve`, for the command `run`."""

import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from verbatim.router.app import create_app
from verbatim.router.children import CannotStartError, Children
from verbatim.router.endpoint import Endpoint
from verbatim.router.routing import Router
from verbatim.router.settings import Settings, url_of
from verbatim.server.http.keys import load_keys


def serve(
    model: str | None,
    model_lib: str | None,
    router_host: str,
    router_port: int,
    endpoint_hosts: Sequence[str],
    endpoint_ports: Sequence[int],
    endpoint_num_gpus: Sequence[int],
    enable_prefix_cache: bool,
    router_mode: Literal["disagg", "round-robin"] = "round-robin",
    pd_balance_factor: float = 0.0,
    router_type: type[Router] = Router,
    *,
    endpoint_urls: Sequence[str] = (),
    server_arguments: Sequence[str] = (),
    start_seconds: float = 600.0,
    failover_seconds: float = 20.0,
    allow_hosts: Sequence[str] = (),
    api_key: Sequence[str] = (),
    api_key_file: Path | str | None = None,
    max_body_bytes: int = 32 << 20,
) -> None:
    """Start a server for each endpoint and a router in front of them; returns when it has been stopped.

    The signature is that of MLC LLM; what follows the star is more. ValueError names what cannot be done.
    """
    settings = Settings(
        model=model, model_lib=model_lib, router_host=router_host, router_port=router_port,
        endpoint_hosts=tuple(endpoint_hosts), endpoint_ports=tuple(endpoint_ports),
        endpoint_num_gpus=tuple(endpoint_num_gpus), enable_prefix_cache=enable_prefix_cache, router_mode=router_mode,
        pd_balance_factor=pd_balance_factor, endpoint_urls=tuple(endpoint_urls),
        server_arguments=tuple(server_arguments), start_seconds=start_seconds, failover_seconds=failover_seconds,
        allow_hosts=tuple(allow_hosts), api_key=tuple(api_key), max_body_bytes=max_body_bytes,
        api_key_file=None if api_key_file is None else Path(api_key_file).absolute(),
    )  # fmt: skip
    run(settings, router_type)


def run(settings: Settings, router_type: type[Router] = Router) -> None:
    """The same for settings. CannotStartError if a server cannot be started, or its port is taken."""
    load_keys(settings)  # for its errors
    children = Children(settings)
    for number in (signal.SIGTERM, signal.SIGINT):  # until Sanic listens to them
        signal.signal(number, lambda heard, _frame: sys.exit(128 + heard))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bind(settings))  # before anything is started that may take long
        stack.callback(children.stop)
        children.start(settings.start_seconds, report)
        endpoints = map(Endpoint, settings.urls)
        app = create_app(router_type(endpoints), children, settings)
        report(f"listening on {url_of(settings.router_host, settings.router_port)}, {len(settings.urls)} endpoints")
        app.run(sock=listener, single_process=True, motd=False, access_log=False)


def bind(settings: Settings) -> socket.socket:
    """The router's port, which nobody else can take from now on; it does not listen yet."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.router_host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.router_host, settings.router_port))
        return listener
    except OSError as error:
        listener.close()
        place = f"{settings.router_host} port {settings.router_port}"
        raise CannotStartError(f"it cannot listen at {place}: {error}") from None


def report(message: str) -> None:
    """A line about the start."""
    print(f"verbatim router: {message}", flush=True)


__all__ = ["CannotStartError", "report", "run", "serve"]
