"""llama.cpp over random weights of the same shape and bits a weight, driven over pipes so that runs interleave.

`python cpu_peer.py SIZES FORMAT THREADS [FILE]` runs under any Python that has `llama-cpp-python` and `gguf`, and
imports nothing of this project but gguf_model.py. SIZES is JSON; FILE is a GGUF file that is there already. It answers
each line of input, `decode BATCH STEPS` or `prompt KNOWN TOKENS`, with the seconds that the work took.
"""

import ctypes
import json
import os
import sys
import tempfile
import time

from gguf_model import write_model

PROMPT, CONTEXT, SEQUENCES, MOST = 16, 1024, 16, 512


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
        if len(sys.argv) > 4:
            path = sys.argv[4]
        else:
            write_model(path, sizes, format)
        peer = Peer(path, threads)
    print("ready:", peer.llama.llama_print_system_info().decode().strip(), flush=True)
    for line in sys.stdin:
        name, *numbers = line.split()
        print(getattr(peer, name)(*map(int, numbers)), flush=True)


if __name__ == "__main__":
    main()
