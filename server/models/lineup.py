"""The models that a server holds: the main model, `--additional-models` and `--embedding-model`.

Each has an engine process of its own, so that none can end another, and a set of options of its own, which the main
process settles once: models are fetched, and the memory is divided among them. The other processes read the outcome
from `VERBATIM_LINEUP`.
"""

import json
import os
from dataclasses import replace

from verbatim.reference.checkpoint.foreign import check_model_lib
from verbatim.reference.checkpoint.lora.adapter import open_adapter
from verbatim.reference.records.limits import DRAFT_MODES
from verbatim.server.engine.backends import fit_lineup
from verbatim.server.engine.memory import load_shape
from verbatim.server.settings.adapters import fetch_adapter
from verbatim.server.settings.hub import fetch
from verbatim.server.settings.options import LINEUP, Options

OWN = (
    "model_lib", "tool_parser", "reasoning_parser", "chat_template", "chat_template_kwargs", "overrides",
    "context_window_size", "sliding_window_size", "attention_sink_size",
)  # fmt: skip


def settle(options: Options) -> list[Options]:
    """The options of each model, the main one first. ModelError, NotEnoughMemoryError or ValueError if it cannot be."""
    if options.model_lib:
        check_model_lib(options.model_lib)
    num_drafts = int(options.speculative_mode in DRAFT_MODES)
    drafts, others = options.additional_models[:num_drafts], options.additional_models[num_drafts:]
    plain = {
        "additional_models": (),
        "lora": (),
        "speculative_mode": "disable",
        "embedding_model": None,
    } | dict.fromkeys(OWN)
    lineup = [replace(options, additional_models=drafts, embedding_model=None)]
    lineup += [replace(options, model=model, served_model_name=(), **plain) for model in others]
    if options.embedding_model:
        model = options.embedding_model
        lineup.append(replace(options, model=model, served_model_name=(), is_for_embeddings=True, **plain))
    names = [name for each in lineup for name in (*each.names, *each.adapters)]
    for name in names:
        if names.count(name) > 1:
            remedy = "rename a directory or an adapter, or use --served-model-name"
            raise ValueError(f"two models would be called {name!r}; {remedy}")
    lineup = [_fetched(each) for each in lineup]
    shapes = [(each, load_shape(each)) for each in lineup]
    for each, shape in shapes:
        for place in each.adapters.values():
            open_adapter(fetch_adapter(place), shape)  # for its errors, before anything starts
    return fit_lineup(shapes)


def write(lineup: list[Options]) -> None:
    """Tell all processes that start from here on."""
    os.environ[LINEUP] = json.dumps([each.to_environment() for each in lineup])


def read() -> list[Options]:
    """What the main process has settled; where there was none, it is settled here."""
    if LINEUP not in os.environ:
        return settle(Options.from_environment())
    return [Options.from_environment(values) for values in json.loads(os.environ[LINEUP])]


def _fetched(options: Options) -> Options:
    return replace(
        options,
        model=fetch(options.model),
        additional_models=tuple(map(fetch, options.additional_models)),
        served_model_name=options.names,
        lora=tuple(f"{name}={fetch_adapter(place)}" for name, place in options.adapters.items()),
    )
