"""What a model's authors recommend for sampling: the part of generation_config.json that servers go by.

Read are temperature, top_p, top_k (0 is none), min_p and repetition_penalty, as vLLM reads them; `do_sample` is not, as
a request that wants the likeliest token says so with temperature 0. End-of-sequence ids are read with config.json.
"""

from typing import Any

from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.records.request import SamplingParams

NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
CHOICES = ("auto", "none")  # of --generation-config


def sampling_defaults(generation: dict) -> dict[str, Any]:
    """Those that differ from ours, under our names. ModelError names one that is out of bounds."""
    found = {name: generation[name] for name in NAMES if generation.get(name) is not None}
    if found.get("top_k") in (0, -1):
        del found["top_k"]
    try:
        usual = SamplingParams(seed=0)
        SamplingParams(**found, seed=0)
    except RequestError as error:
        raise ModelError(f"generation_config.json: {error}") from None
    return {name: value for name, value in found.items() if value != getattr(usual, name)}
