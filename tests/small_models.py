"""Makes small random Llama models on disk, for tests: any shape, any stored dtype, one file or shards."""

import json
import shutil
from pathlib import Path

import numpy as np

from verbatim.demo import MODEL
from verbatim.reference.cache.states import sole_state
from verbatim.reference.records.sequence import Chunk
from verbatim.reference.text.tokenizer import Tokenizer
from verbatim.reference.text.tokenizers.piece_bytes import BYTE_OF_CHARACTER

DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


class Letters(Tokenizer):
    """A vocabulary of single letters; the models have random weights."""

    vocab_size = 256
    control_ids: dict[str, int] = {}  # noqa: RUF012

    def encode(self, text, *, is_first=True):
        return list(text.encode())

    def token_bytes(self, token_id):
        return bytes([97 + token_id % 26])


def write_model(
    directory: Path, *, dtype: str = "F32", seed: int = 0, shards: int = 1, scale: float = 0.3, **changes
) -> Path:
    """A model directory with random weights; `changes` go into config.json. Returns the directory."""
    config = SMALL | {"torch_dtype": DTYPE_NAMES[dtype]} | changes
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(config, seed=seed, scale=scale)
    if shards == 1:
        write_safetensors(directory / "model.safetensors", tensors, dtype)
        return directory
    names, weight_map = sorted(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        write_safetensors(directory / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory


def write_eagle(directory: Path, *, dtype: str = "F32", seed: int = 0, scale: float = 0.3, **changes) -> Path:
    """A directory with a random eagle head; `changes` go into config.json."""
    config = SMALL | {"model_type": "eagle", "num_hidden_layers": 1} | changes
    tensors = random_tensors(config, seed=seed, scale=scale)
    kept = {name.removeprefix("model."): values for name, values in tensors.items() if "model.layers." in name}
    del kept["layers.0.input_layernorm.weight"]
    random, hidden = np.random.default_rng(seed + 1), config["hidden_size"]
    kept["fc.weight"] = (random.standard_normal((hidden, 2 * hidden)) * scale).astype(np.float32)
    if changes.get("bias", True):
        kept["fc.bias"] = (random.standard_normal(hidden) * scale).astype(np.float32)
    return write_heads(directory, config, kept, dtype)


def write_medusa(
    directory: Path, *, dtype: str = "F32", seed: int = 0, scale: float = 0.3, has_outputs: bool = False, **changes
) -> Path:
    """A directory with random medusa heads; `changes` go into config.json."""
    sizes = {"medusa_num_heads": 3, "medusa_num_layers": 2, "hidden_size": 48, "vocab_size": 96} | changes
    random, tensors, num_layers = np.random.default_rng(seed), {}, sizes["medusa_num_layers"]
    for head in range(sizes["medusa_num_heads"]):
        shapes = {}
        for block in range(num_layers):
            shapes[f"{block}.linear.weight"] = sizes["hidden_size"], sizes["hidden_size"]
            shapes[f"{block}.linear.bias"] = (sizes["hidden_size"],)
        if has_outputs:
            shapes[f"{num_layers}.weight"] = sizes["vocab_size"], sizes["hidden_size"]
        for name, shape in shapes.items():
            tensors[f"medusa_head.{head}.{name}"] = (random.standard_normal(shape) * scale).astype(np.float32)
    return write_heads(directory, {"model_type": "medusa", **sizes}, tensors, dtype)


def write_heads(directory: Path, config: dict, tensors: dict, dtype: str) -> Path:
    """A directory of draft heads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory / "model.safetensors", tensors, dtype)
    return directory


def write_chat_model(directory: Path, **changes) -> Path:
    """A model directory with the demo model's tokenizer and template, so that an engine can run it."""
    vocab_size = json.loads((MODEL / "config.json").read_text())["vocab_size"]
    write_model(directory, vocab_size=vocab_size, **changes)
    for name in ("tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODEL / name, directory)
    return directory


def write_byte_tokenizer(directory: Path, control_names: list[str], merges: list[tuple[str, str]] = ()) -> Path:
    """A tokenizer.json with a token for each byte, one for each merged pair, then control tokens."""
    import tokenizers

    alphabet = dict(sorted(BYTE_OF_CHARACTER.items(), key=lambda item: item[1]))
    alphabet |= {"".join(pair): len(alphabet) + i for i, pair in enumerate(merges)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=alphabet, merges=list(merges)))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(control_names)
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def random_tensors(config: dict, *, seed: int, scale: float) -> dict[str, np.ndarray]:
    """float32 tensors under Hugging Face's names; the weights of norms are near 1."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        values = random.standard_normal(shape) * scale
        tensors[name] = (values + (len(shape) == 1 and "norm" in name)).astype(np.float32)
    return tensors


def tensor_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors of a Llama checkpoint with this configuration."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    matrices = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{name}.weight"] = (hidden,)
        for name, shape in matrices.items():
            shapes[f"{prefix}{name}.weight"] = shape
            if config["attention_bias" if "attn" in name else "mlp_bias"]:
                shapes[f"{prefix}{name}.bias"] = shape[:1]
    return shapes


def stored_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values as the format stores them; bfloat16 is truncated."""
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F32": np.float32, "F16": np.float16}[dtype])


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    """Write a safetensors file by hand, so that the reader is tested against the format and not against itself.

    Floats are stored in `dtype`, bytes as they are.
    """
    header, parts, offset = {}, [], 0
    for name, values in tensors.items():
        is_bytes = values.dtype == np.uint8
        data = (values if is_bytes else stored_bits(values, dtype)).tobytes()
        stored_as = "U8" if is_bytes else dtype
        header[name] = {"dtype": stored_as, "shape": list(values.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"".join(parts))


def logits_of(backend, directory: Path, ids: list[int], quantization: str | None = None) -> np.ndarray:
    """Logits of every token as float64: all but the last ten in a single chunk, then those ten as decode steps."""
    model = backend.load_model(directory, quantization=quantization)
    num_pages = -(-len(ids) // backend.PARTS.page_size)
    cache = backend.PARTS.PagedCache(model.config, num_pages, num_slots=1)
    pages = tuple(cache.allocate() for _ in range(num_pages))
    cut = len(ids) - 10
    first = Chunk(token_ids=tuple(ids[:cut]), start=0, pages=pages, num_logits=cut, **sole_state(0, cut))
    rows = [np.array(model.forward([first], cache))]
    for i in range(cut, len(ids)):
        chunk = Chunk(token_ids=(ids[i],), start=i, pages=pages, **sole_state(i, 1))
        rows.append(np.array(model.forward([chunk], cache)))
    return np.concatenate(rows).astype(np.float64)
