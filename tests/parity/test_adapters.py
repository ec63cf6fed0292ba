"""LoRA adapters: a batch of three adapters and none has the reference's bits at every level, whatever the format."""

import numpy as np
import pytest

from gguf_models import write_gguf
from lora_adapters import write_adapter
from small_models import SMALL, tensor_shapes, write_model
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.lora.adapter import open_adapter
from verbatim.reference.records.sequence import Chunk

pytest.importorskip("verbatim.fastpath.engine.answer", reason="the fast path is not built")
from verbatim.fastpath import backend as fastpath

SIZES = {"hidden_size": 96, "intermediate_size": 200, "head_dim": 24, "vocab_size": 96}
LENGTHS = (70, 1, 1, 40, 1, 33, 1, 1)  # tokens of each chunk; runs of one adapter and of several chunks
ORDER = (1, 0, 2, 2, 0, 3, 1, 1)  # which of the adapters, 0: none
IDS = np.random.default_rng(3).integers(0, 96, 70).tolist()


def logits(backend, directory, adapters, quantization):
    model = backend.load_model(directory, quantization=quantization)
    keys = [""]
    for place in adapters:
        opened = open_adapter(place, model.config)
        model.adapters.add(opened)
        keys.append(opened.key)
    cache = backend.PARTS.PagedCache(model.config, 64)
    chunks = [
        Chunk(token_ids=tuple(IDS[:length]), start=0, pages=tuple(cache.allocate() for _ in range(5)),
              num_logits=length, adapter=keys[number])
        for length, number in zip(LENGTHS, ORDER, strict=True)
    ]  # fmt: skip
    return np.array(model.forward(chunks, cache))


CASES = {  # quantization, dtype of the float model, format of a GGUF file that is made of it, other sizes
    "float32": (None, "F32", None, {}),
    "bfloat16": (None, "BF16", None, {}),
    "w8a8": ("w8a8", "F32", None, {}),
    "w4a8": ("w4a8", "F32", None, {}),
    "Q8_0, some floats": (None, "F32", "Q8_0", {"intermediate_size": 200}),
    "Q4_K": (None, "F32", "Q4_K", {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    quantization, dtype, form, changes = CASES[request.param]
    place, sizes = tmp_path_factory.mktemp("case"), SIZES | changes
    biases = {"mlp_bias": form is None, "attention_bias": form is None}
    directory = write_model(place / "model", dtype=dtype, **biases, **sizes)
    if form:
        directory = write_gguf(place / "model.gguf", directory, form)
    shapes, adapters = tensor_shapes(SMALL | sizes), [place / str(seed) for seed in range(3)]
    write_adapter(adapters[0], shapes, rank=5, dtype="BF16", seed=1)
    write_adapter(adapters[1], shapes, rank=16, dtype="F16", seed=2, modules=("self_attn.v_proj", "mlp.down_proj"))
    write_adapter(adapters[2], shapes, rank=66, seed=3, use_rslora=True)
    return directory, adapters, quantization, logits(reference, directory, adapters, quantization)


def test_a_batch_of_adapters_has_the_bits_of_the_reference(level, case):
    directory, adapters, quantization, expected = case
    found = logits(fastpath, directory, adapters, quantization)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
