"""Gemma 3n's text model: four streams (AltUp), a residual of low rank (Laurel), inputs of each layer (N9b, N9c).

The last layers attend to the keys and values of earlier ones; the gates of the first ones are sparse. Of the model with
images and sound, the text part is read.
"""

from typing import Any

from verbatim.reference.checkpoint.config_values import is_number
from verbatim.reference.checkpoint.families.family import Family, rope_of_each_type, text_part
from verbatim.reference.checkpoint.families.gemma4 import scales, sources
from verbatim.reference.numerics.normal import normal_quantile
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.residuals import LayerInputs, Streams

DEFAULTS: dict[str, Any] = {
    "head_dim": 256, "num_key_value_heads": 2, "max_position_embeddings": 32768, "sliding_window": 512,
    "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 1,
    "final_logit_softcapping": 30.0, "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
    "altup_active_idx": 0, "altup_correct_scale": True, "altup_num_inputs": 4, "num_kv_shared_layers": 15,
    "laurel_rank": 64,
}  # fmt: skip
SIZES = {  # what a text_config may leave out besides
    "vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 35,
    "num_attention_heads": 8,
}  # fmt: skip
NUM_SPARSE, SPARSITY = 10, 0.95  # of the first layers, where the file says nothing and there are more


def _prepare(raw: dict) -> dict[str, Any]:
    """In the common spelling; sizes of networks and cutoffs of gates are listed for all layers."""
    found = (SIZES if raw.get("text_config") is not None else {}) | text_part(raw)
    num_layers, inner = found.get("num_hidden_layers"), found.get("intermediate_size")
    if not isinstance(num_layers, int) or not inner:
        return found  # refused by name later
    inner = inner if isinstance(inner, list) else [inner] * num_layers
    types = found.get("layer_types") or [
        "full_attention" if (i + 1) % 5 == 0 else "sliding_attention" for i in range(num_layers)
    ]
    found |= {
        "hidden_act": found.get("hidden_activation") or DEFAULTS["hidden_act"], "intermediate_size": inner[0],
        "intermediate_sizes": _of_each("intermediate_size", inner, num_layers), "layer_types": types,
        "activation_sparsity_pattern": _sparsity(found.get("activation_sparsity_pattern"), num_layers),
    }  # fmt: skip
    return rope_of_each_type(
        found, full=found.get("rope_theta") or 1e6, sliding=found.get("rope_local_base_freq") or 1e4
    )


def _of_each(name: str, values: list, num_layers: int) -> list:
    if len(values) != num_layers:
        raise ModelError(f"config.json: {name} has {len(values)} entries for {num_layers} layers")
    return values


def _sparsity(listed: Any, num_layers: int) -> list:
    """The share of each layer's gate that does not count."""
    if listed is None:
        return [SPARSITY if i < NUM_SPARSE < num_layers else 0.0 for i in range(num_layers)]
    if not isinstance(listed, list) or not all(is_number(value) and 0 <= value < 1 for value in listed):
        raise ModelError(
            f"config.json: activation_sparsity_pattern must list numbers from 0 to below 1, not {listed!r}"
        )
    return _of_each("activation_sparsity_pattern", listed, num_layers)


def _layer_fields(raw: dict) -> list[dict[str, Any]]:
    """Shared keys, widths of networks and cutoffs of gates."""
    cutoffs = {share: normal_quantile(share) for share in set(raw["activation_sparsity_pattern"]) if share > 0}
    own = zip(sources(raw), raw["intermediate_sizes"], raw["activation_sparsity_pattern"], strict=True)
    return [
        {"keys_of": source, "intermediate_size": None if inner == raw["intermediate_size"] else inner}
        | {"cutoff": cutoffs.get(share)}
        for source, inner, share in own
    ]


def _fields(raw: dict) -> dict[str, Any]:
    count, active = raw["altup_num_inputs"], raw["altup_active_idx"]
    if active >= count:
        raise ModelError(f"config.json: altup_active_idx must be below altup_num_inputs, {count}, not {active}")
    streams = Streams(
        count=count, active=active, laurel_rank=raw["laurel_rank"], scales_inputs=raw["altup_correct_scale"]
    )
    inputs = LayerInputs(size=raw["hidden_size_per_layer_input"], vocab_size=raw["vocab_size_per_layer_input"])
    return {"final_softcap": raw["final_logit_softcapping"], "layer_inputs": inputs, "streams": streams}


FAMILIES = (
    Family(
        name="gemma3n",
        architecture="Gemma3nForCausalLM",
        aliases=("Gemma3nForConditionalGeneration",),
        model_types=("gemma3n_text", "gemma3n"),
        prepare=_prepare,
        fixed={"norms": "around", "query_key_norm": "head", "norms_values": True},
        defaults=DEFAULTS,
        reads=(
            "attention_bias", "hidden_activation", "final_logit_softcapping", "rope_local_base_freq",
            "vocab_size_per_layer_input", "hidden_size_per_layer_input", "altup_active_idx", "altup_coef_clip",
            "altup_correct_scale", "altup_num_inputs", "num_kv_shared_layers", "laurel_rank",
            "activation_sparsity_pattern", "intermediate_sizes",
            "altup_lr_multiplier", "query_pre_attn_scalar",  # which change nothing
        ),
        per_layer=("intermediate_size",),
        scales=scales,
        fields=_fields,
        layer_fields=_layer_fields,
    ),
)  # fmt: skip
