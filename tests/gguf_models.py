"""Makes GGUF files of model directories, for tests, with the package `gguf`: metadata, names and bytes are its own."""

import json
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

from verbatim.demo import EMBEDDED
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.numerics.arithmetic import LOG2E, exp2
from verbatim.reference.numerics.blocks import BLOCK_FORMATS

STORIES = EMBEDDED["stories260k"]
WRITTEN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4")  # those that the package can make of floats
SIZES = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.value_length": "head_dim",
    "context_length": "max_position_embeddings", "vocab_size": "vocab_size",
}  # fmt: skip
ARCHITECTURES = {
    "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
    "Gemma2ForCausalLM": "gemma2", "Gemma3ForCausalLM": "gemma3", "Phi3ForCausalLM": "phi3",
    "MixtralForCausalLM": "llama", "Qwen3MoeForCausalLM": "qwen3moe", "Olmo2ForCausalLM": "olmo2",
    "GraniteForCausalLM": "granite", "SmolLM3ForCausalLM": "smollm3", "Qwen2MoeForCausalLM": "qwen2moe",
    "StableLmForCausalLM": "stablelm", "Starcoder2ForCausalLM": "starcoder2", "PhiForCausalLM": "phi2",
    "GemmaForCausalLM": "gemma", "OlmoeForCausalLM": "olmoe", "GraniteMoeForCausalLM": "granitemoe",
    "Olmo3ForCausalLM": "olmo2", "SeedOssForCausalLM": "seed_oss", "PhiMoEForCausalLM": "phimoe",
    "GptOssForCausalLM": "gpt-oss", "Glm4ForCausalLM": "glm4", "GlmForCausalLM": "chatglm",
    "CohereForCausalLM": "command-r", "Cohere2ForCausalLM": "cohere2", "Ernie4_5ForCausalLM": "ernie4_5",
    "Ernie4_5_MoeForCausalLM": "ernie4_5-moe", "MiniMaxM2ForCausalLM": "minimax-m2",
    "HunYuanDenseV1ForCausalLM": "hunyuan-dense", "HunYuanMoEV1ForCausalLM": "hunyuan-moe",
    "Mamba2ForCausalLM": "mamba2", "GraniteMoeHybridForCausalLM": "granitehybrid", "FalconH1ForCausalLM": "falcon-h1",
    "Qwen3NextForCausalLM": "qwen3next", "Qwen3_5ForCausalLM": "qwen35", "Qwen3_5MoeForCausalLM": "qwen35moe",
    "NemotronHForCausalLM": "nemotron_h", "DeepseekV2ForCausalLM": "deepseek2", "DeepseekV3ForCausalLM": "deepseek2",
}  # fmt: skip
PAIRED = ("llama", "granite", "granitemoe", "granitehybrid", "smollm3")
DELTA_NETS = ("qwen3next", "qwen35", "qwen35moe")
DELTA_NAMES = {
    "in_proj_qkv.weight": "attn_qkv.weight", "in_proj_z.weight": "attn_gate.weight",
    "in_proj_ba.weight": "ssm_ba.weight", "in_proj_b.weight": "ssm_beta.weight",
    "in_proj_a.weight": "ssm_alpha.weight", "conv1d.weight": "ssm_conv1d.weight", "A_log": "ssm_a",
    "dt_bias": "ssm_dt.bias", "norm.weight": "ssm_norm.weight", "out_proj.weight": "ssm_out.weight",
}  # fmt: skip
STATE_SPACE = ("A_log", "D", "conv1d.weight", "mixer.norm.weight", "mamba.norm.weight")


def random_blocks(random, format: str, outputs: int, inputs: int) -> np.ndarray:
    """Bytes of a random matrix: all integers and factors occur, scales are small numbers of both signs."""
    known = BLOCK_FORMATS[format]
    blocks = random.integers(0, 256, (outputs, inputs // known.size, known.num_bytes), dtype=np.uint8)
    for at in known.halves:
        spread = 2e-2 if known.size == 32 else 2e-3 if len(known.halves) > 1 else 5e-4
        numbers = (random.standard_normal(blocks.shape[:2]) * spread).astype("<f2")
        blocks[..., at : at + 2] = numbers.view(np.uint8).reshape(*blocks.shape[:2], 2)
    if format == "MXFP4":
        blocks[..., 0] = random.integers(118, 124, blocks.shape[:2])
    return blocks.reshape(outputs, -1)


def encode(random, format: str, values: np.ndarray) -> np.ndarray:
    """A matrix in a format: rounded by the package where it can, else random bytes."""
    dtype = gguf.GGMLQuantizationType[format]
    if format in ("F32", "F16", "BF16") or format in WRITTEN:
        return gguf.quants.quantize(values, dtype)
    blocks = [random_blocks(random, format, *rows.shape) for rows in values.reshape(-1, *values.shape[-2:])]
    return np.stack(blocks).reshape(*values.shape[:-1], -1)


def write_gguf(path: Path, directory: Path, choose="F32", *, vocabulary=None, seed: int = 0, **metadata) -> Path:
    """A GGUF file of a model directory. `choose` is a format, or gives one for a name and a shape.

    Matrices whose rows are no whole blocks stay F32, as do vectors and routers. `vocabulary` adds to the writer;
    `metadata` adds numbers, flags, texts and arrays under the architecture's name, and float32 arrays as tensors.
    """
    source = open_source(directory)
    raw, random = json.loads((Path(directory) / "config.json").read_text()), np.random.default_rng(seed)
    name = ARCHITECTURES[raw["architectures"][0]]
    writer = gguf.GGUFWriter(path, name)
    for theirs, ours in SIZES.items():
        if raw.get(ours) is not None and theirs not in metadata:
            writer.add_uint32(f"{name}.{theirs}", raw[ours])
    config = source.config()
    writer.add_float32(f"{name}.attention.layer_norm_rms_epsilon", config.norm_epsilon)
    thetas = [layer.rope.theta for layer in config.layers if layer.rope]
    if thetas:
        writer.add_float32(f"{name}.rope.freq_base", thetas[-1])
    for ending, value in metadata.items():
        key = f"{name}.{ending.replace('__', '.')}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, np.ndarray):
            writer.add_tensor(f"{ending}.weight", value)
        else:
            writer.add_array(key, value)
    if vocabulary:
        vocabulary(writer)
    for stored, values in _tensors(name, raw, source.tensors()).items():
        format = choose if isinstance(choose, str) else choose(stored, values.shape)
        size = BLOCK_FORMATS[format].size if format in BLOCK_FORMATS else 1
        is_float = "ffn_gate_inp" in stored or (
            "ssm_" in stored and "ssm_in." not in stored and "ssm_out." not in stored
        )
        if values.ndim == 1 or is_float or values.shape[-1] % size:
            format = "F32"
        writer.add_tensor(stored, encode(random, format, values), raw_dtype=gguf.GGMLQuantizationType[format])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(name: str, raw: dict, tensors: dict) -> dict[str, np.ndarray]:
    """Values under the package's own names, changed as llama.cpp's converter changes them."""
    arch = next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == name)
    names = gguf.get_tensor_name_map(arch, raw["num_hidden_layers"])
    found: dict[str, np.ndarray] = {}
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for stored, tensor in tensors.items():
        values = tensor.float32()
        if name in PAIRED and (".q_proj." in stored or ".k_proj." in stored):
            heads = raw["num_attention_heads" if ".q_proj." in stored else "num_key_value_heads"]
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if name.startswith("gemma") and "norm" in stored:
            values = values + np.float32(1)
        if "shared_mlp" in stored and name == "granitehybrid":
            found |= _shared(stored, values, has_experts=bool(raw["num_local_experts"]))
            continue
        if ".linear_attn." in stored:
            found |= _of_delta_nets(stored, values, raw, name)
            continue
        if name in DELTA_NETS and "norm" in stored:
            values = values + np.float32(1)
        if any(stored.endswith(f".{part}") for part in STATE_SPACE):
            values = _of_states(stored, values, raw)
        stored = stored.replace(".dt_bias", ".dt_proj.bias")
        if "input_linear" in stored:  # Granite: each expert's gate, then its up
            middle = values.shape[1] // 2
            found[names.get_name(stored.replace("input_linear", "experts.w1"), (".weight",))] = values[:, :middle]
            found[names.get_name(stored.replace("input_linear", "experts.w3"), (".weight",))] = values[:, middle:]
            continue
        if "shared_expert_gate" in stored:
            values = values[0]  # llama.cpp drops dimensions of 1
        if name == "gpt-oss" and ".experts." in stored:
            found |= _apart(stored, values, names)
            continue
        if ".experts." in stored and values.ndim == 3:
            found |= _in_one(stored, values)
            continue
        if ".experts." in stored:
            before, _, after = stored.partition(".experts.")
            index, _, ending = after.partition(".")
            stacks.setdefault(f"{before}.experts.{ending}", {})[int(index)] = values
            continue
        if "kv_b_proj" in stored:
            found |= _of_heads(stored, values, raw)
            continue
        if stored.endswith("e_score_correction_bias"):
            found[f"blk.{stored.split('.')[2]}.exp_probs_b.bias"] = values.reshape(-1)
            continue
        ending = ".weight" if stored.endswith("sinks") else ""
        found[names.get_name(stored, (".weight", ".bias")) + ending] = values
    for stored, parts in stacks.items():
        found[names.get_name(stored, (".weight",))] = np.stack([parts[i] for i in range(len(parts))])
    return found


def _shared(stored: str, values: np.ndarray, *, has_experts: bool) -> dict[str, np.ndarray]:
    """Granite 4: the network that every token takes, gate and up apart."""
    block, ending = f"blk.{stored.split('.')[2]}.ffn", "_shexp.weight" if has_experts else ".weight"
    if "output_linear" in stored:
        return {f"{block}_down{ending}": values}
    middle = len(values) // 2
    return {f"{block}_gate{ending}": values[:middle], f"{block}_up{ending}": values[middle:]}


def _of_states(stored: str, values: np.ndarray, raw: dict) -> np.ndarray:
    """State spaces: what decays a state as it acts, and axes of 1 where llama.cpp wants them."""
    if stored.endswith("A_log"):
        values = -exp2(values * LOG2E)
    if stored.endswith("norm.weight"):
        return values.reshape(raw.get("n_groups") or raw.get("mamba_n_groups"), -1)
    return values.reshape(len(values), -1)


def _in_one(stored: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Experts in one tensor: gate's outputs before up's, or down."""
    block, middle = f"blk.{stored.split('.')[2]}.ffn_", values.shape[1] // 2
    if "down" in stored:
        return {f"{block}down_exps.weight": values}
    return {f"{block}gate_exps.weight": values[:, :middle], f"{block}up_exps.weight": values[:, middle:]}


def _of_delta_nets(stored: str, values: np.ndarray, raw: dict, name: str) -> dict[str, np.ndarray]:
    """Gated delta nets: the matrix of key heads apart, or the heads of values in the order of ggml."""
    block, part = f"blk.{stored.split('.')[2]}.", stored.partition(".linear_attn.")[2]
    num_keys, num_values = raw["linear_num_key_heads"], raw["linear_num_value_heads"]
    key_dim, value_dim, shared_by = raw["linear_key_head_dim"], raw["linear_value_head_dim"], num_values // num_keys
    if part == "in_proj_qkvz.weight":
        rows = values.reshape(num_keys, -1, values.shape[1])
        *mixed, gates = np.split(rows, [key_dim, 2 * key_dim, 2 * key_dim + shared_by * value_dim], axis=1)
        mixed = np.concatenate([each.reshape(-1, values.shape[1]) for each in mixed])
        return {f"{block}attn_qkv.weight": mixed, f"{block}attn_gate.weight": gates.reshape(-1, values.shape[1])}
    values = -exp2(values * LOG2E) if part == "A_log" else values
    values = values.reshape(len(values), -1) if "conv1d" in part else values
    first = 2 * num_keys * key_dim if part in ("in_proj_qkv.weight", "conv1d.weight") else 0
    if name != "qwen3next" and part not in ("norm.weight", "out_proj.weight"):
        heads = values[first:].reshape(num_keys, shared_by, -1, *values.shape[1:]).swapaxes(0, 1)
        values = np.concatenate([values[:first], heads.reshape(-1, *values.shape[1:])])
    if name != "qwen3next" and part == "out_proj.weight":
        values = values.reshape(-1, num_keys, shared_by, value_dim).swapaxes(1, 2).reshape(values.shape)
    return {f"{block}{DELTA_NAMES[part]}": np.ascontiguousarray(values)}


def _apart(stored: str, values: np.ndarray, names) -> dict[str, np.ndarray]:
    """gpt-oss: gate and up, which lie in turn, one after the other, each row the weights of an output."""
    bias = stored.endswith("_bias")
    whole, ending = (stored.removesuffix("_bias"), ".bias") if bias else (stored, ".weight")
    values = values if bias else values.swapaxes(1, 2)
    parts = {whole: values}
    if "gate_up_proj" in whole:
        parts = {whole.replace("gate_up", role): values[:, i::2] for i, role in enumerate(("gate", "up"))}
    return {names.get_name(part) + ending: np.ascontiguousarray(rows) for part, rows in parts.items()}


def _of_heads(stored: str, values: np.ndarray, raw: dict) -> dict[str, np.ndarray]:
    """Latent attention: a stack of each head's first rows, transposed, and one of the others."""
    plain, block = raw["qk_nope_head_dim"], f"blk.{stored.split('.')[2]}."
    heads = values.reshape(raw["num_attention_heads"], -1, values.shape[1])
    keys = np.ascontiguousarray(heads[:, :plain].swapaxes(1, 2))
    return {f"{block}attn_k_b.weight": keys, f"{block}attn_v_b.weight": np.ascontiguousarray(heads[:, plain:])}


def story_words(writer, model="llama"):
    """The vocabulary of stories260k, as llama.cpp's converter writes it; `model` is the type it is said to have."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(STORIES / "tokenizer.model"))
    every = range(processor.get_piece_size())
    types = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
        for i in every
    ]
    writer.add_tokenizer_model(model)
    writer.add_token_list([processor.id_to_piece(i) for i in every])
    writer.add_token_scores([processor.get_score(i) for i in every])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_remove_extra_whitespaces(True)
