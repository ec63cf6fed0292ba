"""The server's options: a table, which the command line, the environment, a file and `--help` all follow.

Sanic starts its workers with `spawn`, and the engine is a process of its own. Values of the command line are
therefore written to `VERBATIM_*` as it is parsed; every process reads it back with `Options.from_environment`.
Setting those variables by hand works as well, for tests, containers and other ASGI servers. The command line comes
before the environment, that before the file; `--overrides` come before all.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from verbatim.demo import DRAFTS as DEMO_DRAFTS
from verbatim.demo import MODEL as DEMO_MODEL
from verbatim.reference.checkpoint.generation import CHOICES as GENERATION
from verbatim.reference.dialects import DIALECTS, thoughts
from verbatim.reference.numerics.quantization import ALL_FORMATS
from verbatim.reference.records.limits import (
    DRAFT_MODES,
    KV_CACHE_DTYPES,
    MAX_DRAFT_LENGTH,
    MAX_TREE_WIDTH,
    PREFILL_MODES,
    PREFIX_CACHE_MODES,
    SPECULATIVE_MODES,
)
from verbatim.server.settings.adapters import ADAPTERS, split
from verbatim.server.settings.file import read_settings
from verbatim.server.settings.hub import name_of
from verbatim.server.settings.overrides import read_overrides
from verbatim.server.settings.value_types import (
    DEVICE,
    FILE,
    FLAG,
    JSON_OBJECT,
    MODEL,
    MODELS,
    NAMES,
    SETTINGS,
    WORDS,
    integer,
    one_of,
    option,
    seconds,
    share,
    to_text,
)

PREFIX = "VERBATIM_"
# Made by the server itself, never options:
PLACE = PREFIX + "PLACE"  # the directory where the engines listen, and all that ends with the server
SOCKET = PREFIX + "SOCKET"  # where one engine listens
LINEUP = PREFIX + "LINEUP"  # each model's options, as lineup.py has settled them
FALLBACK = PREFIX + "FALLBACK"  # why the reference serves, if nobody has asked for it
DEMO_ID = "verbatim-demo"
BACKENDS = ("reference", "fastpath")
NUMERICS = ("exact", "native")
LOG_FORMATS = ("text", "json")
MODES = ("local", "interactive", "server")
UNKNOWN_FIELDS = ("ignore", "warn", "refuse")
OVERRIDABLE = (
    "max_num_sequence", "max_total_seq_length", "prefill_chunk_size", "context_window_size", "sliding_window_size",
    "attention_sink_size", "gpu_memory_utilization", "prefill_mode", "prefix_cache_mode",
    "prefix_cache_max_num_recycling_seqs", "spec_draft_length", "spec_tree_width", "max_history_size",
)  # fmt: skip
TOOL_PARSERS = tuple(dialect.name for dialect in DIALECTS)
REASONING_PARSERS = thoughts.NAMES


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The table, and one set of values for it: what was asked for, defaults filled in."""

    backend: str = option("Model", one_of(BACKENDS), "the engine that computes", default="fastpath")
    model: Path | str = option("Model", MODEL, "the model (default: the demo)", default=DEMO_MODEL.absolute())
    model_lib: Path | None = option("Model", FILE, "its packed weights, made if absent (default: in the cache)")
    device: str = option("Model", DEVICE, "auto, cpu, cuda or cuda:i", default="auto")
    quantization: str | None = option("Model", one_of(ALL_FORMATS), "quantise on loading (default: as stored)")
    kv_cache_dtype: str = option(
        "Model", one_of(tuple(KV_CACHE_DTYPES)), "what keys and values are rounded to and kept as", default="float32"
    )
    numerics: str = option("Model", one_of(NUMERICS), "the contract's bits, or a device's own", default="exact")
    tool_parser: str | None = option("Model", one_of(TOOL_PARSERS), "its tool calls (default: as its template)")
    reasoning_parser: str | None = option(
        "Model", one_of(REASONING_PARSERS), "how it writes thoughts, or none (default: as its template)"
    )

    chat_template: Path | None = option("Model", FILE, "a chat template of your own (default: the model's)")
    chat_template_kwargs: str | None = option(
        "Model", JSON_OBJECT, "variables of the chat template, where a request does not set them"
    )
    generation_config: str = option(
        "Model", one_of(GENERATION), "whether requests get the sampling that its authors recommend", default="auto"
    )
    served_model_name: tuple[str, ...] = option(
        "Model", NAMES, "its id for clients, and more names for it; repeatable (default: its directory's)", default=()
    )
    additional_models: tuple[Path | str, ...] = option(
        "Model",
        MODELS,
        "more models to serve; with a draft mode, its draft or heads come first; repeatable",
        default=(),
    )
    embedding_model: Path | str | None = option("Model", MODEL, "a model for /v1/embeddings alone")
    lora: tuple[str, ...] = option(
        "Model", ADAPTERS, "LoRA adapters of the model by their names for clients; repeatable", default=()
    )
    is_for_embeddings: bool = option("", FLAG, "set by lineup.py", default=False)

    mode: str = option("Engine", one_of(MODES), "for how many clients, and how much memory to use", default="local")
    max_num_sequence: int | None = option("Engine", integer(1, 4096), "answers at once (default: by --mode)")
    max_total_seq_length: int | None = option("Engine", integer(1), "tokens in the cache (default: by --mode)")
    prefill_chunk_size: int | None = option("Engine", integer(1, 1 << 20), "tokens a step (default: by --mode)")
    context_window_size: int | None = option("Engine", integer(1), "tokens of an answer with its prompt, at most")
    threads: int | None = option("Engine", integer(1, 256), "that compute on the processor (default: all it may use)")
    gpu_memory_utilization: float = option("Engine", share(), "how much of a GPU's free memory to use", default=0.9)
    sliding_window_size: int | None = option("Engine", integer(1), "tokens to attend to, at most")
    attention_sink_size: int | None = option("Engine", integer(0), "first tokens that a window always attends to")
    overrides: str | None = option("Engine", SETTINGS, "the same, by the names that MLC LLM gives them")
    prefill_mode: str = option("Engine", one_of(PREFILL_MODES), "prompts beside answers, or in turn", default="hybrid")
    prefix_cache_mode: str = option(
        "Engine", one_of(PREFIX_CACHE_MODES), "keep what prompts begin with", default="radix"
    )
    prefix_cache_max_num_recycling_seqs: int = option(
        "Engine", integer(-1, 1 << 20), "ended sequences that it keeps, -1: as many as there is space for", default=-1
    )

    speculative_mode: str = option(
        "Speculation", one_of(SPECULATIVE_MODES), "where draft tokens come from; no answer changes", default="disable"
    )
    spec_draft_length: int = option(
        "Speculation", integer(0, MAX_DRAFT_LENGTH), "draft tokens at a time, 0: by the mode", default=0
    )
    spec_tree_width: int = option(
        "Speculation", integer(1, MAX_TREE_WIDTH), "first draft tokens that small_draft continues", default=1
    )
    max_history_size: int | None = option(
        "Speculation", integer(0, MAX_DRAFT_LENGTH), "tokens that a recurrent model can take back (default: all drafts)"
    )

    api_key: tuple[str, ...] = option("Access", WORDS, "keys to ask clients for; repeatable", default=())
    api_key_file: Path | None = option("Access", FILE, "more keys, one a line")
    share_prefix_cache: bool = option(
        "Access", FLAG, "let keys share cached beginnings, whose lengths tell what others have sent", default=False
    )
    allow_credentials: bool = option("Access", FLAG, "let web pages send credentials", default=False)
    allow_origins: tuple[str, ...] = option("Access", WORDS, "whose web pages may ask, * for all", default=())
    allow_methods: tuple[str, ...] = option("Access", WORDS, "with which methods", default=("*",))
    allow_headers: tuple[str, ...] = option("Access", WORDS, "with which headers", default=("*",))
    allow_hosts: tuple[str, ...] = option("Access", WORDS, "names of this server, behind a proxy on it", default=())

    config: Path | None = option("Operation", FILE, "a TOML file of these options, and of host and port")
    max_queue: int = option("Operation", integer(1, 1 << 20), "sequences that may wait; more get 429", default=256)
    request_timeout: float | None = option("Operation", seconds(), "give up what takes longer (default: never)")
    engine_timeout: float = option(
        "Operation", seconds(or_none=True), "restart an engine or a worker without progress for so long", default=60.0
    )
    max_body_bytes: int | None = option(
        "Operation", integer(1 << 10, 1 << 30), "of a request (default: by the context, 4 MiB at least)"
    )
    reader_timeout: float = option(
        "Operation", seconds(or_none=True), "cut off who reads nothing of a stream for so long; 0: never", default=120.0
    )
    load_wait: float = option(
        "Operation",
        seconds(or_none=True),
        "how long a request waits while the model loads; 0: it gets 503",
        default=300.0,
    )
    keep_alive_seconds: float = option(
        "Operation", seconds(or_none=True), "send a heartbeat on a stream idle for so long; 0: never", default=15.0
    )
    unknown_fields: str = option(
        "Operation", one_of(UNKNOWN_FIELDS), "of requests: answer, name them in a header, or refuse", default="warn"
    )
    stats_interval: float = option(
        "Operation", seconds(or_none=True), "time between two lines about the load; 0: none", default=10.0
    )
    log_format: str = option("Operation", one_of(LOG_FORMATS), "lines of text, or of JSON", default="text")

    receipt_key: Path | None = option("Operation", FILE, "sign receipts with this private Ed25519 key, a PEM file")

    enable_debug: bool = option("Operation", FLAG, "offer /debug, for people whom you trust", default=False)
    enable_tracing: bool = option("Operation", FLAG, "trace the engine, for /debug/dump_event_trace", default=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Options":
        """Read `VERBATIM_BACKEND`, `VERBATIM_MODEL` and so on; ValueError if one cannot be."""
        types = {row.name: row.metadata["type"] for row in fields(cls)}
        settings = settings_of_file(environment)
        values = {row.name: _read(row, environment, settings) for row in fields(cls)}
        values |= read_overrides(values["overrides"] or "", {name: types[name] for name in OVERRIDABLE})
        draft = DEMO_DRAFTS.get(values["speculative_mode"])
        if draft and not values["additional_models"] and values["model"] == DEMO_MODEL.absolute():
            values["additional_models"] = (draft,)
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The variables for all that is not a default."""
        values = {row.name: getattr(self, row.name) for row in fields(self) if row.name != "config"}
        defaults = {row.name: row.default for row in fields(self)}
        changed = {name: value for name, value in values.items() if value is not None and value != defaults[name]}
        return {PREFIX + name.upper(): to_text(value) for name, value in changed.items()}

    @property
    def model_id(self) -> str:
        """The name that clients use: an option, or the demo's own, or the model's."""
        return self.names[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use, its id first."""
        own = DEMO_ID if self.model == DEMO_MODEL.absolute() else name_of(self.model)
        return self.served_model_name or (own,)

    @property
    def adapters(self) -> dict[str, Path | str]:
        """The places of the LoRA adapters by their names."""
        return dict(map(split, self.lora))

    @property
    def draft(self) -> Path | str | None:
        """The draft model or heads, where the mode of speculation has some."""
        return self.additional_models[0] if self.speculative_mode in DRAFT_MODES and self.additional_models else None


def _read(row: Field, environment: Mapping[str, str], settings: dict[str, str]) -> Any:
    """One option's value from the environment or the file, held to the same rules as on the command line.

    An empty variable counts as none, except where it would open the server: a list of keys must not be empty.
    """
    type_, name = row.metadata["type"], PREFIX + row.name.upper()
    text, source = environment.get(name), name
    if text is None or (text == "" and type_ is not WORDS):
        text, source = settings.get(row.name), f"--config: {row.name}"
    try:
        return row.default if text is None else type_.read(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{source}: {error}") from None


def settings_of_file(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The settings in the file of `--config`, as text; nothing without one. ValueError if it cannot be."""
    path = environment.get(PREFIX + "CONFIG")
    return read_settings(Path(path), [row.name for row in fields(Options) if row.metadata["group"]]) if path else {}
