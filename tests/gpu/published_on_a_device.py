"""Families with parts of their own (layer norms, sink scores, shared experts, ...) on a device: the reference's bits.

Run as models_on_a_device.py is. The models are those of tests/family_models.py.
"""

import pytest

from family_models import write_family
from gpu.both_engines import check, check_observed

MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
FAMILIES = ("phi", "stablelm, parallel", "gpt_oss", "cohere2")  # between them every part
MORE_FAMILIES = ("starcoder2", "qwen2_moe", "phimoe", "ministral3", "glm4")


@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_FAMILIES)])
def test_a_family(tmp_path, name):
    check(write_family(tmp_path, name, dtype="BF16"))


def test_experts_in_mxfp4(tmp_path):
    directory = write_family(tmp_path, "gpt_oss", dtype="BF16", intermediate_size=96, quantization_config=MXFP4)
    model = check(directory)
    assert {part.format for part in model.weights.layers[0].stack.down.parts} == {"MXFP4"}


@pytest.mark.parametrize("name", ["phi", "gpt_oss", "qwen2_moe"])
def test_an_observer_sees_the_same(tmp_path, name):
    check_observed(write_family(tmp_path, name))
