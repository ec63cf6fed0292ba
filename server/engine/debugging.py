"""What `--enable-debug` lets people do to a running engine: look into it, time it, reset it.

These commands run between two steps, in the engine's own process. A refusal is a RequestError.
"""

import cProfile
import io
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from verbatim.reference.records.errors import RequestError, UnsupportedError, VerbatimError
from verbatim.reference.records.request import FinishReason, Output
from verbatim.server.engine import wire

COMMANDS = ("dump_event_trace", "dump_engine_metrics", "reset_engine", "profiler_start", "profiler_stop")
MAX_PROFILE_LINES = 80


def _largest_rss() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not say so this way (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Debugger:
    """Runs the commands by name; `loop` is the engine's, `tracer` None unless tracing is on."""

    def __init__(self, loop, tracer):
        self.loop, self.tracer = loop, tracer
        self._profile: cProfile.Profile | None = None
        self._started = time.time()
        self._commands: dict[str, Callable[..., Any]] = {
            "dump_event_trace": self.dump_event_trace,
            "dump_engine_metrics": self.dump_engine_metrics,
            "reset_engine": self.reset_engine,
            "profiler_start": self.profiler_start,
            "profiler_stop": self.profiler_stop,
            "load_lora_adapter": self.load_adapter,
            "unload_lora_adapter": self.unload_adapter,
        }

    def run(self, name: str, arguments: dict[str, str]) -> dict:
        """The frame that answers a command."""
        try:
            return {"debugged": {"result": self._commands[name](**arguments)}}
        except VerbatimError as error:
            return {"debugged": {"refused": wire.error_to_json(error)}}

    def dump_event_trace(self) -> list[dict]:
        """The trace so far."""
        if self.tracer is None:
            raise UnsupportedError("Tracing is off; start the server with --enable-tracing.")
        return self.tracer.dump()

    def dump_engine_metrics(self) -> dict:
        """The engine's counts, and what its process has used."""
        this = psutil.Process()
        memory, times = this.memory_info(), this.cpu_times()
        process = {"uptime_seconds": round(time.time() - self._started, 3)}
        process |= {"max_rss_bytes": _largest_rss() or getattr(memory, "peak_wset", memory.rss)}
        process |= {"user_seconds": times.user, "system_seconds": times.system}
        return {"metrics": self.loop.engine.stats() | process}

    def reset_engine(self) -> None:
        """End all requests with an error, and forget what the prefix cache and the trace know."""
        engine = self.loop.engine
        for request_id, known in list(self.loop.requests.items()):
            output = Output(
                request_id=request_id, choice=0, finish_reason=FinishReason.ERROR, error="The engine was reset."
            )
            self.loop.abort([request_id])
            self.loop.send(known.connection, {"outputs": [wire.output_to_json(output)]})
        if engine.prefix_cache is not None:
            engine.prefix_cache.clear()
        if self.tracer is not None:
            self.tracer.clear()
        engine.check()

    def load_adapter(self, name: str, path: str) -> str | None:
        """Load a LoRA adapter under a name, and tell all workers; returns a warning if it names another model.

        It may take as long as loading a model may.
        """
        if self.loop.heartbeat:
            self.loop.heartbeat.beat(self.loop.num_steps, is_loading=True)
        warning = self.loop.adapters.load(name, Path(path))
        self._tell_adapters()
        return warning

    def unload_adapter(self, name: str) -> None:
        """Take a LoRA adapter's name away, and tell all workers."""
        self.loop.adapters.unload(name)
        self._tell_adapters()

    def _tell_adapters(self) -> None:
        for connection in tuple(self.loop.connections):
            self.loop.send(connection, {"adapters": self.loop.adapters.describe()})

    def profiler_start(self) -> None:
        """Time every Python function of the engine's process from now on."""
        if self._profile is not None:
            raise RequestError("The profiler is running already.")
        self._profile = cProfile.Profile()
        self._profile.enable()

    def profiler_stop(self) -> dict:
        """Where the time went, by cumulative time: the table that Python's pstats prints."""
        if self._profile is None:
            raise RequestError("The profiler is not running.")
        self._profile.disable()
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).strip_dirs().sort_stats("cumulative").print_stats(MAX_PROFILE_LINES)
        self._profile = None
        return {"profile": text.getvalue()}
