"""llama.cpp for gguf_quality.py, under any Python that has `llama-cpp-python` and `gguf`; imports nothing of ours.

Reads floats.npz in the directory that is named, writes F32.gguf, quantises it, and prints JSON: format -> for each
prompt its ids and the greedy continuation.
"""

import ctypes
import json
import os
import sys

import numpy as np

FORMATS = {"F32": None, "F16": 1, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_M": 12,
           "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30}  # numbers of llama_ftype  # fmt: skip


def write_floats(path, directory, words):
    """F32.gguf, with the vocabulary."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    tensors = np.load(os.path.join(directory, "floats.npz"))  # noqa: PTH118
    writer.add_block_count(sum("attn_norm" in name for name in tensors))
    writer.add_context_length(512)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(768)
    writer.add_head_count(32)
    writer.add_head_count_kv(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words["pieces"])
    writer.add_token_scores(words["scores"])
    writer.add_token_types(words["types"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name in tensors:
        writer.add_tensor(name, np.ascontiguousarray(tensors[name], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, target, number):
    """By llama.cpp itself."""
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = number, 1
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings)):
        raise RuntimeError(f"llama.cpp does not quantise to {number}")


def continuations(path, prompts, tokens):
    """Greedy, at temperature 0, up to the end of sequence."""
    import llama_cpp

    model, found = llama_cpp.Llama(model_path=path, n_ctx=512, n_threads=1, verbose=False), []
    for prompt in prompts:
        ids, made = model.tokenize(prompt.encode(), add_bos=True), []
        model.reset()
        for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            made.append(int(token))
            if token == model.token_eos() or len(made) == tokens:
                break
        found.append([list(ids), made])
    return found


def main():
    """Make the files, and answer."""
    work, directory = json.loads(sys.stdin.read()), sys.argv[1]
    paths = {name: os.path.join(directory, f"{name}.gguf") for name in FORMATS}  # noqa: PTH118
    write_floats(paths["F32"], directory, work["vocabulary"])
    for name, number in FORMATS.items():
        if number is not None:
            quantize(paths["F32"], paths[name], number)
    print(json.dumps({name: continuations(path, work["prompts"], work["tokens"]) for name, path in paths.items()}))


if __name__ == "__main__":
    main()
