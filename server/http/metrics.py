"""What the server counts, as Prometheus reads it: requests, tokens, times, and the engine's own counts.

Workers count what their clients see, in files that they all share (prometheus_client's multi-process mode), so that
any of them can report all numbers, also those of a worker or an engine that has died. What the engine is doing
right now is asked of the engine when somebody wants to know.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from verbatim.reference.records.request import Output, Request

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable
FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
NEXT_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
GAUGES = {  # the engine's own counts
    "running": ("verbatim_sequences_running", "Sequences that the engine is computing."),
    "waiting": ("verbatim_sequences_waiting", "Sequences in the queue."),
    "used_pages": ("verbatim_cache_used_pages", "Pages of the KV cache that running sequences hold."),
    "cached_pages": ("verbatim_cache_idle_pages", "Pages that the prefix cache keeps and would give up."),
    "total_pages": ("verbatim_cache_pages", "All pages of the KV cache."),
    "used_slots": ("verbatim_state_used_slots", "Slots for states that running sequences hold."),
    "cached_slots": ("verbatim_state_idle_slots", "Slots that the prefix cache keeps and would give up."),
    "total_slots": ("verbatim_state_slots", "All slots for states."),
}
COUNTERS = {
    "steps": ("verbatim_steps", "Passes of the model since the engine started."),
    "drafted_tokens": ("verbatim_drafted_tokens", "Draft tokens since the engine started."),
    "accepted_tokens": ("verbatim_accepted_tokens", "Draft tokens that the model accepted since the engine started."),
}
RATIOS = {
    ("used_pages", "total_pages"): (
        "verbatim_cache_usage_ratio", "The part of all pages that running sequences hold.",
    ),
    ("accepted_tokens", "drafted_tokens"): (
        "verbatim_acceptance_ratio", "The part of all draft tokens that was accepted.",
    ),
}  # fmt: skip


class Metrics:
    """The counters of one worker. `DIRECTORY` must be in the environment when the first one is made."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram  # reads the environment on import

        from verbatim.server.http.metric_files import use_reserved_files

        use_reserved_files()
        own: dict[str, Any] = {"registry": CollectorRegistry()}
        self.http = Counter("verbatim_http_requests", "Answers by status code.", ("method", "path", "code"), **own)
        text = "Answers that ended, by how; abort: the client left."
        self.choices = Counter("verbatim_choices", text, ("model", "end"), **own)
        own["labelnames"] = ("model",)
        self.prompt = Counter("verbatim_prompt_tokens", "Tokens of prompts.", **own)
        self.cached = Counter("verbatim_prompt_cached_tokens", "Tokens of prompts that the prefix cache knew.", **own)
        self.completion = Counter("verbatim_completion_tokens", "Tokens of answers.", **own)
        of_key: dict[str, Any] = own | {"labelnames": ("model", "key")}
        self.key_requests = Counter("verbatim_key_requests", "Requests by API key.", **of_key)
        self.key_prompt = Counter("verbatim_key_prompt_tokens", "Tokens of prompts by API key.", **of_key)
        self.key_completion = Counter("verbatim_key_completion_tokens", "Tokens of answers by API key.", **of_key)
        text = "From a request's coming to the first token of an answer."
        self.first_token = Histogram("verbatim_time_to_first_token_seconds", text, buckets=FIRST_TOKEN_SECONDS, **own)
        text = "From a token of an answer to its next; several that come at once share the time."
        self.next_token = Histogram("verbatim_inter_token_seconds", text, buckets=NEXT_TOKEN_SECONDS, **own)

    def count_answer(self, method: str, path: str, code: int) -> None:
        """One HTTP answer; `path` is the route's, so that there are only so many, and so for methods."""
        self.http.labels(method if method in METHODS else "other", path, code).inc()

    def exposition(
        self, stats: dict[str, dict[str, int] | None], shows: Callable[[str], bool] = lambda label: True
    ) -> tuple[bytes, str]:
        """All workers' numbers with the engines' as text, and its content type.

        `stats` are by model; None for an engine that is away. Of numbers by key those that it `shows`, by its label.
        """
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        registry.register(OfKeys(MultiProcessCollector(None), shows))
        registry.register(EngineReport(stats, {model: _hit_rate(registry, model) for model in stats}))
        return generate_latest(registry), CONTENT_TYPE_LATEST


class OfKeys:
    """The workers' numbers without those of keys that somebody else uses."""

    def __init__(self, collector, shows: Callable[[str], bool]):
        self.collector, self.shows = collector, shows

    def collect(self) -> Iterator:
        """Called by prometheus_client."""
        for family in self.collector.collect():
            family.samples = [each for each in family.samples if self.shows(each.labels.get("key", ""))]
            if family.samples:
                yield family


class EngineReport:
    """The engines' counts as metrics, with the usual ratios."""

    def __init__(self, stats: dict[str, dict[str, int] | None], hit_rates: dict[str, float]):
        self.stats, self.hit_rates = stats, hit_rates

    def collect(self) -> Iterator:
        """Called by prometheus_client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        def family(family_type, name, text, values):
            made = family_type(name, text, labels=["model"])
            for model, value in values.items():
                made.add_metric([model], value)
            return made

        up = {model: int(stats is not None) for model, stats in self.stats.items()}
        yield family(GaugeMetricFamily, "verbatim_engine_up", "1 if the engine answers, else 0.", up)
        text = "The part of all prompts' tokens that the prefix cache knew."
        yield family(GaugeMetricFamily, "verbatim_prefix_cache_hit_ratio", text, self.hit_rates)
        known = {model: stats for model, stats in self.stats.items() if stats is not None}
        for family_type, rows in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for key, (name, text) in rows.items():
                counts = {model: stats[key] for model, stats in known.items() if key in stats}
                if counts or not key.endswith("_slots"):  # which only models with states have
                    yield family(family_type, name, text, counts)
        for (part, whole), (name, text) in RATIOS.items():
            ratios = {model: _ratio(stats[part], stats[whole]) for model, stats in known.items()}
            yield family(GaugeMetricFamily, name, text, ratios)


class Stopwatch:
    """Counts and times the answers to an HTTP request; what each token adds is written once a second, and at the end.

    Writing goes to a file that all workers share, and costs more than a token may.
    """

    def __init__(self, metrics: Metrics, model: str, requests: Sequence[Request], key: str = ""):
        self.metrics, self.model, self.key = metrics, model, key
        if key:
            metrics.key_requests.labels(model, key).inc()
        self._started = self._written = time.monotonic()
        self._open = {(request.request_id, choice) for request in requests for choice in range(request.n)}
        self._latest: dict[tuple[str, int], float] = {}
        self._gaps = [0] * (len(NEXT_TOKEN_SECONDS) + 1)  # how many by bucket
        self._gaps_seconds, self._num_tokens = 0.0, 0

    def take(self, output: Output, now: float) -> None:
        """What the output adds, which came at `now` by time.monotonic."""
        metrics, key = self.metrics, output[:2]
        if count := len(output.token_ids):
            if before := self._latest.get(key):
                gap = now - before
                self._gaps[bisect_left(NEXT_TOKEN_SECONDS, gap / count)] += count
                self._gaps_seconds += gap
            elif not self._latest:
                metrics.first_token.labels(self.model).observe(now - self._started)
            self._latest[key] = now
            self._num_tokens += count
        if output.finish_reason:
            self._open.discard(key)
            metrics.choices.labels(self.model, str(output.finish_reason)).inc()
            if output.choice == 0:  # choices share one prefill, so it counts once
                metrics.prompt.labels(self.model).inc(output.num_prompt_tokens)
                metrics.cached.labels(self.model).inc(output.num_cached_tokens)
                if self.key:
                    metrics.key_prompt.labels(self.model, self.key).inc(output.num_prompt_tokens)
        if now - self._written > 1:
            self._written = now
            self._write()

    def stop(self) -> None:
        """What is still open was given up: by the client, or with the engine."""
        self._write()
        if self._open:
            self.metrics.choices.labels(self.model, "abort").inc(len(self._open))

    def _write(self) -> None:
        """Many observations at once, which prometheus_client has no public name for."""
        histogram = self.metrics.next_token.labels(self.model)
        for bucket, count in zip(histogram._buckets, self._gaps, strict=True):
            if count:
                bucket.inc(count)
        histogram._sum.inc(self._gaps_seconds)
        self.metrics.completion.labels(self.model).inc(self._num_tokens)
        if self.key:
            self.metrics.key_completion.labels(self.model, self.key).inc(self._num_tokens)
        self._gaps = [0] * len(self._gaps)
        self._gaps_seconds, self._num_tokens = 0.0, 0


def make_directory(path: Path) -> None:
    """Where the workers' files lie, from now on and for the processes that start from here."""
    path.mkdir()
    os.environ[DIRECTORY] = str(path)


def _hit_rate(registry, model: str) -> float:
    names = (f"verbatim_prompt_{name}tokens_total" for name in ("", "cached_"))
    prompt, cached = (registry.get_sample_value(name, {"model": model}) for name in names)
    return _ratio(cached or 0, prompt or 0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
