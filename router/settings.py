"""What the router was asked to do: a record that checks itself, the same for the command and for `serve`.

Names and meanings are those of MLC LLM's router. What needs engines that hand keys and values to each other is refused
by name. ValueError names the option, its value and what is allowed.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from verbatim.reference.records.request import MAX_TIMEOUT_SECONDS

MODES = ("round-robin", "disagg")
LOCAL = "127.0.0.1"
FIRST_PORT = 8080
OF_STARTED_SERVERS = (
    "model", "model_lib", "endpoint_hosts", "endpoint_ports", "endpoint_num_gpus", "enable_prefix_cache",
    "server_arguments",
)  # fmt: skip
OURS_TO_GIVE = {"--host": "--endpoint-hosts", "--port": "--endpoint-ports", "-H": "--endpoint-hosts"}
OURS_TO_GIVE |= {"-p": "--endpoint-ports", "--model": "--model", "--model-lib": "--model-lib"}
BODY_BYTES = (1 << 10, 1 << 30)
NO_TRANSFER = "no engine here hands keys and values to another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`endpoint_urls` are servers that run already; without any, one is started for each of `endpoint_ports`."""

    model: str | None = None
    model_lib: str | None = None
    router_mode: str = "round-robin"
    router_host: str = LOCAL
    router_port: int = 8000
    endpoint_hosts: tuple[str, ...] = ()
    endpoint_ports: tuple[int, ...] = ()
    endpoint_num_gpus: tuple[int, ...] = ()
    enable_prefix_cache: bool = False
    pd_balance_factor: float = 0.0
    endpoint_urls: tuple[str, ...] = ()
    server_arguments: tuple[str, ...] = ()
    start_seconds: float = 600.0
    failover_seconds: float = 20.0
    allow_hosts: tuple[str, ...] = ()
    api_key: tuple[str, ...] = ()
    api_key_file: Path | None = None
    max_body_bytes: int = 32 << 20

    def __post_init__(self):
        """Refuse what cannot be done."""
        _require(self.router_mode in MODES, "router_mode", self.router_mode, f"one of {', '.join(MODES)}")
        can_be = f"round-robin, where every server does both: {NO_TRANSFER}"
        _require(self.router_mode != "disagg", "router_mode", self.router_mode, can_be)
        factor = self.pd_balance_factor
        _require(factor == 0, "pd_balance_factor", factor, f"0: it belongs to disagg, and {NO_TRANSFER}")
        _check_port("router_port", self.router_port)
        low, high = BODY_BYTES
        _require(low <= self.max_body_bytes <= high, "max_body_bytes", self.max_body_bytes, f"{low} to {high}")
        for name in ("start_seconds", "failover_seconds"):
            seconds = getattr(self, name)
            _require(0 <= seconds <= MAX_TIMEOUT_SECONDS, name, seconds, f"0 to {MAX_TIMEOUT_SECONDS}")
        if self.endpoint_urls:
            self._check_urls()
        else:
            self._check_places()
        urls = self.urls
        _require(len({*urls}) == len(urls), "endpoint_urls", ", ".join(urls), "different from each other")
        own = url_of(self.router_host, self.router_port)
        _require(own not in urls, "router_port", self.router_port, "another one than that of an endpoint")

    @property
    def urls(self) -> tuple[str, ...]:
        """Where all endpoints are."""
        if self.endpoint_urls:
            return tuple(url.rstrip("/") for url in self.endpoint_urls)
        return tuple(url_of(host, port) for host, port in self.places)

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server to be started; one host stands for all."""
        ports, hosts = self.endpoint_ports or (FIRST_PORT,), self.endpoint_hosts or (LOCAL,)
        return tuple(zip(hosts * len(ports) if len(hosts) == 1 else hosts, ports, strict=True))

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each server to be started: GPUs are counted through, and without any it is the processor."""
        num_gpus = self.endpoint_num_gpus or (0,) * len(self.places)
        return tuple(f"cuda:{sum(num_gpus[:i])}" if count else "cpu" for i, count in enumerate(num_gpus))

    def _check_urls(self) -> None:
        for name in OF_STARTED_SERVERS:
            value = getattr(self, name)
            _require(not value, name, value, "absent beside --endpoint-urls, whose servers run already")
        for url in self.endpoint_urls:
            _require(_is_plain(url), "endpoint_urls", url, "http://HOST:PORT or https://HOST:PORT")

    def _check_places(self) -> None:
        ports = self.endpoint_ports or (FIRST_PORT,)
        for port in ports:
            _check_port("endpoint_ports", port)
        num_hosts, num_gpus = len(self.endpoint_hosts), self.endpoint_num_gpus
        each = f"one for each of the {len(ports)} --endpoint-ports"
        hosts = ", ".join(self.endpoint_hosts)
        _require(num_hosts in (0, 1, len(ports)), "endpoint_hosts", hosts, f"{each}, or one for all")
        _require(len(num_gpus) in (0, len(ports)), "endpoint_num_gpus", _listed(num_gpus), each)
        for count in num_gpus:
            _require(count in (0, 1), "endpoint_num_gpus", count, "0 (the processor) or 1: one model is on one GPU")
        for word in self.server_arguments:
            name = word.partition("=")[0]
            instead = OURS_TO_GIVE.get(name)
            _require(instead is None, "server_arguments", name, f"given as {instead}, before the --")


def url_of(host: str, port: int) -> str:
    """Where a server is that listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_plain(url: str) -> bool:
    """Whether a URL is that of a server, without a path or a query."""
    try:
        parts = urlsplit(url)
        has_place = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    return has_place and not has_more


def _check_port(name: str, port: int) -> None:
    _require(isinstance(port, int) and 1 <= port <= 65535, name, port, "1 to 65535")


def _require(condition: bool, name: str, value, allowed: str) -> None:
    if not condition:
        raise ValueError(f"--{name.replace('_', '-')} {_listed(value)!r} cannot be: it must be {allowed}")


def _listed(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
