"""`debug_config`, an extension of MLC-LLM's: what its clients and benchmarks ask of an engine beyond an answer.

`ignore_eos` leaves stop tokens and stop strings out of account; `special_request: "query_engine_metrics"` wants the
engine's counts and no answer. `grammar_execution_mode` is `constraint` here, and the other mode is refused by name, as
are pinned prompts and disaggregation.
"""

from dataclasses import dataclass, replace

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import StoppingParams
from verbatim.server.api.builder import Streaming
from verbatim.server.api.fields import Field, Fields, Object
from verbatim.server.api.value_types import BOOLEAN, neutral, one_of

FIELD = "debug_config"
DEBUG_CONFIG = Field(
    FIELD,
    Object(
        Field("ignore_eos", BOOLEAN, "Stop tokens and stop strings do not end the answer.", default=False),
        Field("special_request", one_of("query_engine_metrics"), "Give the engine's counts and no answer."),
        Field("grammar_execution_mode", neutral("constraint"), "Only constraint."),
        Field("pinned_system_prompt", neutral(False), "Not supported."),
        Field("disagg_config", neutral(), "Not supported."),
    ),
    "An extension of MLC LLM's, for benchmarks.",
    example={"ignore_eos": True},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugConfig:
    """What was asked for; the defaults ask for nothing."""

    ignores_stops: bool = False
    wants_metrics: bool = False

    def apply(self, stopping: StoppingParams) -> StoppingParams:
        """The same without anything in the text that ends it, if that is asked for."""
        return replace(stopping, ignore_eos=True, strings=(), token_ids=()) if self.ignores_stops else stopping


def take_debug_config(fields: Fields, streaming: Streaming) -> DebugConfig:
    """The field `debug_config`; the engine's counts come with the usage that ends a stream."""
    if (options := fields[FIELD]) is None:
        return DebugConfig()
    ignores_stops = options["ignore_eos"]
    wants_metrics = options["special_request"] is not None
    options.done()
    if wants_metrics and not streaming.wants_usage:
        path = f"{FIELD}.special_request"
        raise RequestError(f"{path} needs stream and stream_options.include_usage to be true", field=path)
    return DebugConfig(ignores_stops=ignores_stops, wants_metrics=wants_metrics)
