"""A quantised checkpoint's tensors under the names that the float one has."""

from verbatim.reference.checkpoint.quantized import awq, bitsandbytes, compressed, float8, gptq
from verbatim.reference.checkpoint.quantized.parts import Parts
from verbatim.reference.checkpoint.quantized.settings import AWQ, BITSANDBYTES, COMPRESSED, FP8, GPTQ, MXFP4, Settings
from verbatim.reference.checkpoint.weights import Tensor
from verbatim.reference.records.errors import ModelError

METHOD_MODULES = {AWQ: awq, GPTQ: gptq, COMPRESSED: compressed, FP8: float8, BITSANDBYTES: bitsandbytes}


def read_tensors(stored: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Each matrix that the tool quantised as NAME.weight; all other tensors as they are, and all of MXFP4."""
    if settings.method == MXFP4:
        return dict(stored)
    method = METHOD_MODULES[settings.method]
    found: dict[str, dict[str, Tensor]] = {}
    for name in stored:
        for end in method.ENDS:
            if name.endswith(f".{end}"):
                found.setdefault(name[: -len(end) - 1], {})[end] = stored[name]
    tensors = dict(stored)
    for stem, parts in found.items():
        if parts.keys() == {"weight"}:  # not quantised
            continue
        if f"{stem}.weight" in stored and ("weight" not in parts or "weight_packed" in parts):
            raise ModelError(f"weights: {stem} is there twice, as {method.ENDS[0]} and as weight")
        if missing := [end for end in settings.needs if end not in parts]:
            raise ModelError(f"weights: tensor {stem}.{missing[0]} is missing")
        for end in parts:
            del tensors[f"{stem}.{end}"]
        tensors[f"{stem}.weight"] = method.read_matrix(Parts(stem, parts), settings)
    return tensors
