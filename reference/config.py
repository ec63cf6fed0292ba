"""What a model is: the numbers of its architecture, read from a Hugging Face config.json.

Both spellings that transformers has used are read: version 4 writes `rope_theta`, `rope_scaling` and `torch_dtype`,
version 5 writes `rope_parameters` and `dtype`. A field that would change the arithmetic and is not implemented is
refused by name; a model is never run as something it is not.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from reference.errors import ModelError

ARCHITECTURES = ("LlamaForCausalLM",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretch of the low rotary frequencies (rope_type "llama3"); lengths in tokens."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder of the Llama family. Sizes are counts of features, heads, layers and tokens."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_size: int
    norm_epsilon: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    architecture: str = field(default=ARCHITECTURES[0])

    def __post_init__(self):
        """Refuse sizes that cannot belong together."""
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "context_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"config.json: {name} must be a positive integer, not {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(
                f"config.json: {self.num_heads} heads cannot share {self.num_kv_heads} key-value heads evenly"
            )
        if self.head_dim % 2:
            raise ModelError(f"config.json: head_dim must be even for rotary positions, not {self.head_dim}")


def read_json(path: Path) -> dict:
    """Read a JSON object from a model directory; a ModelError names the file and what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def load_config(directory: str | Path) -> ModelConfig:
    """Read `config.json`, and `generation_config.json` where it is there: it has the better end-of-sequence ids."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"model directory {directory} does not exist")
    raw = read_json(directory / "config.json")
    _refuse_unknown(raw)
    generation = {}
    if (directory / "generation_config.json").exists():
        generation = read_json(directory / "generation_config.json")
    theta, scaling = _rope(raw)
    heads = _required(raw, "num_attention_heads")
    hidden = _required(raw, "hidden_size")
    return ModelConfig(
        vocab_size=_required(raw, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_required(raw, "intermediate_size"),
        num_layers=_required(raw, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=raw.get("num_key_value_heads") or heads,
        head_dim=raw.get("head_dim") or hidden // heads,
        context_size=_required(raw, "max_position_embeddings"),
        norm_epsilon=float(raw.get("rms_norm_eps", 1e-6)),
        rope_theta=theta,
        rope_scaling=scaling,
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        attention_bias=bool(raw.get("attention_bias", False)),
        mlp_bias=bool(raw.get("mlp_bias", False)),
        eos_ids=_ids(generation.get("eos_token_id", raw.get("eos_token_id"))),
        bos_id=next(iter(_ids(raw.get("bos_token_id"))), None),
    )


def _required(raw: dict, name: str) -> int:
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"config.json: {name} must be a positive integer, not {value!r}")
    return value


def _refuse_unknown(raw: dict) -> None:
    architectures = raw.get("architectures") or [None]
    if architectures[0] not in ARCHITECTURES:
        raise ModelError(
            f"config.json: architecture {architectures[0]!r} is not supported; supported: {', '.join(ARCHITECTURES)}"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise ModelError(f"config.json: hidden_act {raw['hidden_act']!r} is not supported; supported: silu")
    if raw.get("quantization_config"):
        raise ModelError(
            "config.json: quantization_config is not supported: give the float checkpoint and --quantization"
        )


def _rope(raw: dict) -> tuple[float, RopeScaling | None]:
    parameters = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = float(parameters.get("rope_theta", raw.get("rope_theta", 10000.0)))
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ModelError(f"config.json: rope type {kind!r} is not supported; supported: default, llama3")
    try:
        scaling = RopeScaling(
            factor=float(parameters["factor"]),
            low_frequency_factor=float(parameters["low_freq_factor"]),
            high_frequency_factor=float(parameters["high_freq_factor"]),
            original_context=int(parameters["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json: rope type 'llama3' needs a number for {error}") from None
    return theta, scaling


def _ids(value) -> tuple[int, ...]:
    """One id, a list of ids, or nothing at all: transformers writes all three."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, int) for item in ids):
        raise ModelError(f"config.json: token ids must be integers, not {value!r}")
    return tuple(ids)
