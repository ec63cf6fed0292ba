"""What the router counts, as Prometheus reads it: requests, errors and retries by endpoint, and streams that moved."""

from collections.abc import Iterator
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily

from verbatim.router.routing import Router

OUTCOMES = ("resumed", "failed", "diverged")


class RouterMetrics:
    """The counters of one router, with the state of its endpoints as it is when somebody asks."""

    def __init__(self, router: Router):
        self._registry = CollectorRegistry()
        own = partial(Counter, labelnames=("endpoint",), registry=self._registry)
        self.requests = own("verbatim_router_requests", "Requests that an endpoint was asked.")
        self.errors = own("verbatim_router_errors", "Requests that an endpoint broke off or never took.")
        text = "Requests that an endpoint would not take and another one was asked."
        self.retries = own("verbatim_router_retries", text)
        text = "Streams that lost their endpoint, by what became of them."
        self.failovers = Counter("verbatim_router_failovers", text, ("outcome",), registry=self._registry)
        for endpoint in router.endpoints:
            for counter in (self.requests, self.errors, self.retries):
                counter.labels(endpoint.url)
        for outcome in OUTCOMES:
            self.failovers.labels(outcome)
        self._registry.register(EndpointReport(router))

    def exposition(self) -> tuple[bytes, str]:
        """Everything as text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class EndpointReport:
    """How the endpoints are right now."""

    def __init__(self, router: Router):
        self.router = router

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called by prometheus_client."""
        text = "Requests that an endpoint has from this router."
        running = GaugeMetricFamily("verbatim_router_requests_running", text, labels=["endpoint"])
        text = "1 for an endpoint that gets no requests just now, else 0."
        ejected = GaugeMetricFamily("verbatim_router_endpoint_ejected", text, labels=["endpoint"])
        for endpoint in self.router.endpoints:
            running.add_metric([endpoint.url], endpoint.running)
            ejected.add_metric([endpoint.url], int(not endpoint.is_ready))
        yield from (running, ejected)
