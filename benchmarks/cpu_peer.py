"""llama.cpp over random weights of the same shape and bits a weight, driven over pipes so that runs interleave.

`python cpu_peer.py SIZES FORMAT THREADS` runs under any Python that has `llama-cpp-python` and `gguf`, and imports
nothing of this project. SIZES is JSON. It answers each line of input, `decode BATCH STEPS` or `prompt KNOWN TOKENS`,
with the seconds that the work took.
"""

import ctypes
import json
import os
import sys
import tempfile
import time

import numpy as np

PROMPT, CONTEXT, SEQUENCES, MOST = 16, 1024, 16, 512
BYTES = {"Q8_0": 34, "Q4_0": 18}  # of a block of 32: a float16 scale, then the integers


def write_model(path, sizes, format):
    """A GGUF file of random weights, the head tied to the embedding, without a vocabulary."""
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

    def matrix(name, outputs, inputs):
        if format == "BF16":
            values = random.standard_normal((outputs, inputs), np.float32) * np.float32(inputs**-0.5)
            data = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(outputs, -1)
        else:
            data = random.integers(0, 256, (outputs, inputs // 32, BYTES[format]), np.uint8)
            data[:, :, :2] = np.frombuffer(np.float16(1e-3).tobytes(), np.uint8)
            data = data.reshape(outputs, -1)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[format])

    hidden, intermediate = sizes["hidden_size"], sizes["intermediate_size"]
    queries, keys = sizes["num_heads"] * sizes["head_dim"], sizes["num_kv_heads"] * sizes["head_dim"]
    matrix("token_embd.weight", sizes["vocab_size"], hidden)
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
            matrix(f"{block}{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Peer:
    """A loaded model and its context."""

    def __init__(self, path, threads):
        import llama_cpp as llama

        self.llama = llama
        llama.llama_backend_init()
        self._quiet = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._quiet, ctypes.c_void_p(0))
        settings = llama.llama_model_default_params()
        settings.use_mmap = False
        self.model = llama.llama_model_load_from_file(path.encode(), settings)
        if not self.model:
            raise RuntimeError("llama.cpp does not load the model")
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = CONTEXT * SEQUENCES, MOST, MOST, SEQUENCES
        options.kv_unified = True  # else no sequence may be longer than its sixteenth
        options.n_threads = options.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, options)
        self.batch = llama.llama_batch_init(MOST, 0, 1)
        self.held = 0  # tokens of a prompt that sequence 0 has

    def step(self, rows):
        """Decode (sequence, position, wants logits) rows."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = 5 + i % 7, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if self.llama.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        self.llama.llama_get_logits(self.context)

    def clear(self):
        """Drop all sequences."""
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        self.held = 0

    def decode(self, batch, steps):
        """Seconds for some decode steps of a batch, after short prompts."""
        self.clear()
        for sequence in range(batch):
            self.step([(sequence, i, i == PROMPT - 1) for i in range(PROMPT)])
        start = time.perf_counter()
        for i in range(steps):
            self.step([(sequence, PROMPT + i, 1) for sequence in range(batch)])
        return time.perf_counter() - start

    def prompt(self, known, tokens):
        """Seconds until the first token of a prompt, of which `known` tokens are cached."""
        if self.held < known or not known:
            self.clear()
            self._take(0, known)
        else:
            self.llama.llama_memory_seq_rm(self.llama.llama_get_memory(self.context), 0, known, -1)
        start = time.perf_counter()
        self._take(known, tokens)
        self.held = tokens
        return time.perf_counter() - start

    def _take(self, start, stop):
        for at in range(start, stop, MOST):
            end = min(at + MOST, stop)
            self.step([(0, i, i == end - 1) for i in range(at, end)])


def main():
    """Make the model, load it, and answer line by line."""
    sizes, format, threads = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "model.gguf")  # noqa: PTH118
        write_model(path, sizes, format)
        peer = Peer(path, threads)
    print("ready:", peer.llama.llama_print_system_info().decode().strip(), flush=True)
    for line in sys.stdin:
        name, *numbers = line.split()
        print(getattr(peer, name)(*map(int, numbers)), flush=True)


if __name__ == "__main__":
    main()
