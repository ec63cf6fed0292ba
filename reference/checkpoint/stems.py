"""What stands before the names of a model's layers: a multimodal model's text part lies behind a prefix of its own."""

from verbatim.reference.checkpoint.weights import Tensor

STEMS = ("model.", "language_model.model.", "model.language_model.")  # the first whose embedding is there


def text_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a multimodal model's text part under the names of a text model; others are left out."""
    stem = next((stem for stem in STEMS[1:] if any(name.startswith(stem) for name in tensors)), None)
    if stem is None:
        return tensors
    outer = stem.removesuffix("model.") if stem == STEMS[1] else ""
    found = {name: tensor for name, tensor in tensors.items() if name.startswith((stem, f"{outer}lm_head."))}
    return {
        f"model.{n.removeprefix(stem)}" if n.startswith(stem) else n.removeprefix(outer): t for n, t in found.items()
    }
