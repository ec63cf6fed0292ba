"""Writes a GGUF file of random weights, for any Python that has `gguf`; imports nothing of this project."""

import numpy as np

# Of a format: weights of a block, its bytes, and the places of its float16 numbers.
BLOCKS = {
    "Q8_0": (32, 34, (0,)), "Q4_0": (32, 18, (0,)), "Q5_0": (32, 22, (0,)), "Q4_K": (256, 144, (0, 2)),
    "Q6_K": (256, 210, (208,)),
}  # fmt: skip
SCALES = {"Q8_0": 1e-3, "Q4_0": 1e-2, "Q5_0": 5e-3, "Q4_K": 1e-4, "Q6_K": 1e-5}
WITHOUT_SUPERBLOCKS = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}  # where rows are no blocks of 256, as llama.cpp falls back


def format_of(mixture, name, layer, num_layers):
    """The format of a matrix; Q4_K_M gives the embedding and a part of the layers' values and down more bits."""
    if mixture != "Q4_K_M":
        return mixture
    has_more = layer < num_layers // 8 or layer >= 7 * num_layers // 8 or (layer - num_layers // 8) % 3 == 2
    return "Q6_K" if name == "token_embd" or (name in ("attn_v", "ffn_down") and has_more) else "Q4_K"


def write_model(path, sizes, mixture):
    """A Llama with the head tied to the embedding, without a vocabulary; `mixture` is a format or Q4_K_M."""
    import gguf

    writer, random = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    writer.add_block_count(sizes["num_layers"])
    writer.add_context_length(4096)
    writer.add_embedding_length(sizes["hidden_size"])
    writer.add_feed_forward_length(sizes["intermediate_size"])
    writer.add_head_count(sizes["num_heads"])
    writer.add_head_count_kv(sizes["num_kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(sizes["head_dim"])
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(sizes["vocab_size"])
    writer.add_tokenizer_model("no_vocab")

    def matrix(place, name, layer, outputs, inputs):
        format = format_of(mixture, name, layer, sizes["num_layers"])
        if format in WITHOUT_SUPERBLOCKS and inputs % 256:
            format = WITHOUT_SUPERBLOCKS[format]
        data = random_matrix(random, format, outputs, inputs)
        writer.add_tensor(place, data, raw_dtype=gguf.GGMLQuantizationType[format])

    hidden, intermediate = sizes["hidden_size"], sizes["intermediate_size"]
    queries, keys = sizes["num_heads"] * sizes["head_dim"], sizes["num_kv_heads"] * sizes["head_dim"]
    matrix("token_embd.weight", "token_embd", 0, sizes["vocab_size"], hidden)
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for layer in range(sizes["num_layers"]):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(hidden, np.float32))
        for name, shape in {
            "attn_q": (queries, hidden), "attn_k": (keys, hidden), "attn_v": (keys, hidden),
            "attn_output": (hidden, queries), "ffn_gate": (intermediate, hidden), "ffn_up": (intermediate, hidden),
            "ffn_down": (hidden, intermediate),
        }.items():  # fmt: skip
            matrix(f"{block}{name}.weight", name, layer, *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_matrix(random, format, outputs, inputs):
    """Bytes of a matrix (outputs, bytes of a row)."""
    if format == "BF16":
        values = random.standard_normal((outputs, inputs), np.float32) * np.float32(inputs**-0.5)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(outputs, -1)
    size, num_bytes, halves = BLOCKS[format]
    data = random.integers(0, 256, (outputs, inputs // size, num_bytes), np.uint8)
    for at in halves:
        data[:, :, at : at + 2] = np.frombuffer(np.float16(SCALES[format]).tobytes(), np.uint8)
    return data.reshape(outputs, -1)
