"""Models whose matrices have formats of their own, on a device: every bit is the reference's (N4g).

Run as models_on_a_device.py is. The files are those that tests/gguf_models.py and tests/quantized_models.py write.
"""

import pytest

from family_models import write_family
from gguf_models import write_gguf
from gpu.both_engines import check, check_memory
from mlc_models import write_mlc
from quantized_models import LAYOUTS, write_quantized
from small_models import write_model

SHAPE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 4}
FORMATS = (
    {"attn_q": "Q4_K", "attn_k": "Q4_K", "attn_v": "Q6_K", "attn_output": "Q5_K", "ffn_gate": "Q2_K", "ffn_up": "Q3_K",
     "ffn_down": "IQ4_XS"},
    {"attn_q": "Q8_0", "attn_k": "Q4_0", "attn_v": "F16", "attn_output": "Q4_1", "ffn_gate": "Q5_0", "ffn_up": "IQ4_NL",
     "ffn_down": "MXFP4"},
)  # fmt: skip
MIXTRAL = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2}


def choose(name, shape):
    """Every format somewhere; embedding and head are one matrix of Q6_K."""
    known = {f"blk.{i}.{part}.weight": form for i, layer in enumerate(FORMATS) for part, form in layer.items()}
    return known.get(name, "Q6_K")


def test_every_format_of_gguf_in_one_file(tmp_path):
    directory = write_model(tmp_path / "model", scale=0.1, **SHAPE)
    file = write_gguf(tmp_path / "m.gguf", directory, choose)
    model = check(file)
    check_memory(file, model)
    first, second = model.weights.layers
    assert [part.format for part in first.inputs.parts] == ["Q4_K", "Q6_K"], "queries and keys are one product"
    assert [part.format for part in second.inputs.parts] == ["w8a8", "w4a8", "float16"]
    assert model.weights.head.weights == model.weights.table.weights, "a tied head is not stored twice"


@pytest.mark.parametrize("format", ["Q4_K", pytest.param("Q4_1", marks=pytest.mark.slow)])
def test_experts_and_an_embedding_of_its_own(tmp_path, format):
    formats = {"token_embd.weight": "Q5_1", "output.weight": "Q8_0"}
    directory = write_family(tmp_path / "model", "internlm2", **SHAPE, **MIXTRAL)
    file = write_gguf(
        tmp_path / "m.gguf", directory, lambda name, _: formats.get(name, "Q6_K" if "down" in name else format),
        expert_count=4, expert_used_count=2,
    )  # fmt: skip
    model = check(file)
    check_memory(file, model)
    stack = model.weights.layers[0].stack
    assert [part.format for part in (*stack.gate_and_up.parts, *stack.down.parts)] == [
        format, "Q6_K",
    ]  # fmt: skip


OTHERS = {  # name -> formats of a layer's matrices on the device
    "awq-32": {"w8a8"}, "awq-64-symmetric": {"w4a8"}, "gptq-8-asymmetric": {"I8_MINIMUM"}, "int8": {"I8_SCALE"},
    "gptq-act-order": {"float16"}, "fp8-block": {"bfloat16"}, "nf4-nested": {"float32"}, "llm-int8": {"I8_SCALE"},
}  # fmt: skip


SELDOM = ("awq-64-symmetric", "gptq-8-asymmetric", "int8", "llm-int8")  # in `make test-all`


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SELDOM)) for n in OTHERS])
def test_checkpoints_of_other_tools(tmp_path, name):
    directory, _ = write_quantized(tmp_path, *LAYOUTS[name][:2])
    model = check(directory)
    check_memory(directory, model)
    layer = model.weights.layers[1]
    matrices = (layer.inputs, layer.output, layer.parts[0].gate_and_up, layer.parts[0].down)
    assert {part.format for matrix in matrices for part in matrix.parts} == OTHERS[name]


def test_an_artifact_of_mlc(tmp_path):
    """Its embedding is the blocks of Q4_0 that have the same numbers; head and matrices are w4a8."""
    write_mlc(tmp_path / "mlc", write_model(tmp_path / "model", scale=0.1, **SHAPE), "llama", "q4f16_1")
    model = check(tmp_path / "mlc")
    check_memory(tmp_path / "mlc", model)
    assert {part.format for part in model.weights.layers[0].inputs.parts} == {"w4a8"}
