"""StarCoder 2: layer norms, biases on every matrix, and a feed-forward network without a gate."""

from verbatim.reference.checkpoint.families.family import Family

DEFAULTS = {
    "hidden_act": "gelu_pytorch_tanh", "use_bias": True, "norm_epsilon": 1e-5, "tie_word_embeddings": True,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": 50256, "eos_token_id": 50256,
}  # fmt: skip


def _biases(raw: dict) -> dict:
    names = ("query_bias", "output_bias", "mlp_bias")
    return {"norm_epsilon": float(raw["norm_epsilon"])} | dict.fromkeys(names, bool(raw["use_bias"]))


FAMILIES = (
    Family(
        name="starcoder2",
        architecture="Starcoder2ForCausalLM",
        defaults=DEFAULTS,
        reads=("use_bias", "norm_epsilon", "layer_norm_epsilon", "norm_type"),  # the last one is the same number
        fields=_biases,
        fixed={"norm_type": "layer", "norm_bias": True, "has_gate": False},
        names={"mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"},
    ),
)
