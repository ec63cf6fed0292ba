"""gpt-oss: sink scores in attention, every second layer with a window, biases, and experts with a clamped gate."""

from verbatim.reference.checkpoint.families.family import ExpertNames, Family
from verbatim.reference.records.experts import ClampedGate

YARN = {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    "original_max_position_embeddings": 4096,
}  # fmt: skip


def _prepare(raw: dict) -> dict:
    """Files without rotary settings have YaRN."""
    return raw if raw.get("rope_scaling") or raw.get("rope_parameters") else raw | {"rope_parameters": YARN}


def _slides(raw: dict, num_layers: int) -> list[bool]:
    return [index % 2 == 0 for index in range(num_layers)]


FAMILIES = (
    Family(
        name="gpt_oss",
        architecture="GptOssForCausalLM",
        prepare=_prepare,
        fixed={"has_sink_scores": True},
        defaults={
            "rms_norm_eps": 1e-5,
            "rope_theta": 150000.0,
            "max_position_embeddings": 131072,
            "head_dim": 64,
            "num_key_value_heads": 8,
            "sliding_window": 128,
            "attention_bias": True,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "swiglu_alpha": 1.702,
            "swiglu_limit": 7.0,
            "bos_token_id": None,
            "eos_token_id": None,
        },
        reads=("attention_bias", "swiglu_alpha", "swiglu_limit"),
        fields=lambda raw: {
            "clamped_gate": ClampedGate(alpha=float(raw["swiglu_alpha"]), limit=float(raw["swiglu_limit"]))
        },
        slides=_slides,
        has_experts=True,
        normalizes_experts=True,
        routing=lambda raw: {"has_biases": True},
        experts=ExpertNames(router="router", interleaved=("experts.gate_up_proj", "experts.down_proj")),
    ),
)
