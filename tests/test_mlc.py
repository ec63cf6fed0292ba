"""Artifacts of MLC LLM: the numbers they stand for, families and their names, templates, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from family_models import write_family
from mlc_models import CHATML, GROUPS, write_awq, write_mlc
from quantized_models import LAYOUTS, write_quantized
from small_models import logits_of, write_byte_tokenizer, write_chat_model, write_model
from verbatim.cli.models.fit import fits
from verbatim.cli.models.show import rows
from verbatim.fastpath import backend as fastpath
from verbatim.reference import backend as reference
from verbatim.reference.checkpoint.foreign import check_model_lib
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.server.models.lineup import settle
from verbatim.server.settings.options import Options

IDS = list(range(3, 43))
HEADS = {"head_dim": 16}
FACTORS = [1.0, 1.125, 1.25, 1.5, 2.0, 2.5]
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
GELU = {"hidden_activation": "gelu_pytorch_tanh"}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
# model_type -> what of tests/family_models.py it begins with, its architecture, changes of config.json.
FAMILIES = {
    "llama": ("internlm2", "Llama", HEADS | {"rope_scaling": LLAMA3}),
    "mistral": ("internlm2", "Mistral", HEADS | {"sliding_window": 24, "rms_norm_eps": 1e-5}),
    "mixtral": ("internlm2", "Mixtral", HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("internlm2", "Qwen2", HEADS | {"tie_word_embeddings": True}),
    "qwen3": ("internlm2", "Qwen3", HEADS | {"tie_word_embeddings": True, "attention_bias": False}),
    "qwen2_moe": ("qwen2_moe", "Qwen2Moe", {}),
    "qwen3_moe": ("internlm2", "Qwen3Moe", HEADS | EXPERTS),
    "gemma": ("gemma", "Gemma", {}),
    "gemma2": ("internlm2", "Gemma2", HEADS | GELU | {
        "sliding_window": 24, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "num_hidden_layers": 4,
        "final_logit_softcapping": 30.0,
    }),
    "gemma3_text": ("internlm2", "Gemma3", HEADS | GELU | {
        "sliding_window": 24, "query_pre_attn_scalar": 16, "num_hidden_layers": 6,
    }),
    "phi": ("phi", "Phi", {}),
    "phi3": ("internlm2", "Phi3", {"original_max_position_embeddings": 64, "rope_scaling": {
        "type": "longrope", "long_factor": FACTORS, "short_factor": FACTORS,
    }}),
    "olmo2": ("internlm2", "Olmo2", HEADS),
    "stablelm": ("stablelm", "StableLm", {}),
    "starcoder2": ("starcoder2", "Starcoder2", {"sliding_window": None}),
}  # fmt: skip
FORMATS = {  # quantization -> formats of the matrices
    "q3f16_0": {"F16"}, "q3f16_1": {"F16"}, "q4f16_0": {"w4a8"}, "q4f16_1": {"w4a8"}, "q4bf16_1": {"w4a8"},
    "q4f32_1": {"w4a8"},
}  # fmt: skip


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_family_gives_the_bits_of_its_directory(tmp_path, model_type):
    base, architecture, changes = FAMILIES[model_type]
    directory = write_family(tmp_path / "model", base, **changes, architectures=[f"{architecture}ForCausalLM"])
    write_mlc(tmp_path / "mlc", directory, model_type, "q0f32", form="raw")
    expected = logits_of(reference, directory, IDS)
    np.testing.assert_allclose(
        logits_of(reference, tmp_path / "mlc", IDS), expected, rtol=0, atol=gemma_error(model_type, expected)
    )
    np.testing.assert_array_equal(
        logits_of(fastpath, tmp_path / "mlc", IDS), logits_of(reference, tmp_path / "mlc", IDS)
    )


def gemma_error(model_type, logits):
    """Gemma's norms are stored with 1 added, which rounds them; everything else is as it was."""
    return 1e-5 * np.ptp(logits) if model_type.startswith("gemma") else 0


@pytest.mark.parametrize("quantization", GROUPS)
def test_numbers_are_those_of_the_description(tmp_path, quantization):
    """The last group of 104 and of 80 inputs is short; every engine has the same bits."""
    directory = write_model(tmp_path / "model", hidden_size=104, scale=0.1, vocab_size=128)
    expected = write_mlc(tmp_path / "mlc", directory, "llama", quantization)
    found = open_source(tmp_path / "mlc").tensors()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.float32(), expected[name], err_msg=name)
    assert {tensor.dtype for name, tensor in found.items() if "proj" in name} == FORMATS[quantization]
    np.testing.assert_array_equal(
        logits_of(fastpath, tmp_path / "mlc", IDS), logits_of(reference, tmp_path / "mlc", IDS)
    )


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "phi3"])
def test_stacks_and_fused_matrices_of_integers(tmp_path, model_type):
    base, architecture, changes = FAMILIES[model_type]
    directory = write_family(tmp_path / "model", base, **changes, architectures=[f"{architecture}ForCausalLM"])
    expected = write_mlc(tmp_path / "mlc", directory, model_type, "q4f16_1", cache="ndarray-cache.json")
    for name, tensor in open_source(tmp_path / "mlc").tensors().items():
        np.testing.assert_array_equal(tensor.float32(), expected[name], err_msg=name)
    np.testing.assert_array_equal(
        logits_of(fastpath, tmp_path / "mlc", IDS), logits_of(reference, tmp_path / "mlc", IDS)
    )


def test_words_of_awq_lie_side_by_side(tmp_path):
    entry, encode, _ = LAYOUTS["awq-128"]
    model, _ = write_quantized(tmp_path, entry, encode)
    write_awq(tmp_path / "mlc", model)
    found, expected = open_source(tmp_path / "mlc").tensors(), open_source(model).tensors()
    for name in (name for name in expected if "proj" in name):
        np.testing.assert_array_equal(found[name].float32(), expected[name].float32(), err_msg=name)
    assert np.isfinite(logits_of(fastpath, tmp_path / "mlc", IDS)).all()


def test_rows_of_an_embedding_stay_small(tmp_path):
    """They are the blocks of Q4_0 that have the same numbers."""
    directory = write_model(tmp_path / "model", hidden_size=64)
    write_mlc(tmp_path / "mlc", directory, "llama", "q4f16_1")
    tensor = open_source(tmp_path / "mlc").tensors()["model.embed_tokens.weight"]
    assert tensor.plain().dtype == "Q4_0" and tensor.plain().bits.nbytes == 96 * 2 * 18
    np.testing.assert_array_equal(tensor.plain().float32(), tensor.float32())


@pytest.fixture
def artifact(tmp_path):
    """An artifact with a vocabulary, and a way to change mlc-chat-config.json."""
    write_chat_model(tmp_path / "model")
    write_mlc(tmp_path / "mlc", tmp_path / "model", "llama", "q4f16_1")
    return tmp_path / "mlc"


def changed(artifact, **changes):
    path = artifact / "mlc-chat-config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return open_source(artifact)


def test_a_source_says_what_the_configuration_says(artifact):
    source = open_source(artifact)
    config = source.config()
    assert (config.context_size, config.eos_ids, config.bos_id, config.quantization) == (
        256,
        (2, 4),
        1,
        "mlc",
    )  # 4 is <|im_end|>
    assert source.stored_as() == "MLC q4f16_1"
    assert source.generation_defaults() == {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.0}
    assert [file.name for file in source.weight_files()] == [
        "mlc-chat-config.json", "params_shard_0.bin", "params_shard_1.bin", "tensor-cache.json",
    ]  # fmt: skip
    before = source.digest()
    assert changed(artifact, context_window_size=128).config().context_size == 128
    assert open_source(artifact).digest() != before
    template = CHATML | {"stop_token_ids": [5, 9]}
    assert changed(artifact, conv_template=template, eos_token_id=[9, 8]).config().eos_ids == (5, 9, 8, 4)


def test_show_and_doctor_name_it(artifact):
    assert ("stored as", "MLC q4f16_1") in list(rows(artifact))
    found = dict(fits(artifact))
    assert found["fits, as stored"].startswith("yes") and found["on a GPU"].startswith("yes")


def test_windows_and_sinks_are_those_of_the_artifact(tmp_path):
    directory = write_family(
        tmp_path / "model", "internlm2", architectures=["MistralForCausalLM"], sliding_window=24, **HEADS
    )
    write_mlc(tmp_path / "mlc", directory, "mistral", "q0f16", context_window_size=-1, attention_sink_size=4)
    config = json.loads((tmp_path / "mlc/mlc-chat-config.json").read_text())["model_config"]
    source = changed(tmp_path / "mlc", model_config=config | {"context_window_size": -1})
    assert {(layer.window, layer.sinks) for layer in source.config().layers} == {(24, 4)}
    assert source.config().quantization is None
    config |= {"sliding_window_size": -1}
    without = changed(tmp_path / "mlc", model_config=config, sliding_window_size=-1)
    assert {(layer.window, layer.sinks) for layer in without.config().layers} == {(None, 0)}


MARKS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
ASKED = [{"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "<think>x</think>\n\nc"},
         {"role": "user", "content": "d"}]  # fmt: skip
LLAMA2 = CHATML | {
    "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
    "roles": {"user": "<s>[INST]", "assistant": "[/INST]"},
    "seps": [" ", " </s>"], "role_content_sep": " ", "role_empty_sep": " ", "add_role_after_system_message": False,
    "system_prefix_token_ids": [256],
}  # fmt: skip
GORILLA = CHATML | {
    "system_template": "{system_message}", "role_content_sep": ": ", "role_empty_sep": ":",
    "role_templates": {"user": "<<question>> {user_message} <<function>> {function_string}"},
    "roles": {"user": "USER", "assistant": "ASSISTANT", "tool": "USER"},
    "seps": ["\n", "</s>"],
}  # fmt: skip
THINKING = CHATML | {"system_message": "", "system_template": "{system_message}", "strip_reasoning_in_history": True}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
# Template, messages before those of ASKED, tools, and the text.
RENDERED = {
    "chatml": (CHATML, [], None, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na<|im_end|>b<|im_end|>\n"
               "<|im_start|>assistant\n<think>x</think>\n\nc<|im_end|>\n<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"),
    "a system message": (CHATML, [{"role": "system", "content": "S"}], None,
                         "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n<think>x</think>\n\nc<|im_end|>\n<|im_start|>user\n"
                         "d<|im_end|>\n<|im_start|>assistant\n"),
    "llama-2": (LLAMA2, [], None,
                "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\na<|im_end|>b [/INST] <think>x</think>\n\nc </s>"
                "<s>[INST] d [/INST] "),
    "functions": (GORILLA, [], [TOOL],
                  "Be brief.USER: <<question>> a<|im_end|>b <<function>> \nASSISTANT: <think>x</think>\n\nc</s>"
                  "USER: <<question>> d <<function>> " + json.dumps([TOOL["function"]]) + "\nASSISTANT:"),
    "thoughts": (THINKING, [], None, "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
                 "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", RENDERED)
def test_conversations_are_rendered_as_mlc_does(artifact, name):
    conversation, before, tools, expected = RENDERED[name]
    (artifact / "tokenizer.model").unlink()
    (artifact / "tokenizer_config.json").unlink()
    write_byte_tokenizer(artifact, MARKS)
    source = changed(artifact, conv_template=conversation)
    tokenizer = source.tokenizer()
    pieces = source.chat_template(tokenizer).render([*before, *ASKED], tools)
    names = {i: name for name, i in tokenizer.control_ids.items()}
    assert "".join(names[piece] if isinstance(piece, int) else piece for piece in pieces) == expected
    user = next(piece for piece in pieces if isinstance(piece, str) and "a<|im_end|>b" in piece)
    assert tokenizer.encode("<|im_end|>") != [259] and "<|im_end|>" in user  # nobody can forge a turn


def test_roles_and_calls_without_a_place_are_refused(artifact):
    (artifact / "tokenizer_config.json").unlink()
    source = changed(artifact, conv_template=CHATML)
    template = source.chat_template(source.tokenizer())
    with pytest.raises(RequestError, match="conv_template has no role tool"):
        template.render([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}])
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}
    with pytest.raises(RequestError, match="no place for tool_calls"):
        template.render([{"role": "user", "content": "a"}, call])


def test_the_authors_template_has_precedence(artifact):
    """tokenizer_config.json's knows tools and thoughts; stop strings that are no tokens are named for the log."""
    (artifact / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}!"}))
    source = changed(artifact, conv_template=CHATML | {"stop_str": ["</s>", "###"]})
    assert source.chat_template(source.tokenizer()).render([{"role": "user", "content": "a"}]) == ["a!"]
    assert source.unread() == ["conv_template.stop_str '###'"]
    penalty = changed(artifact, presence_penalty=0.5, frequency_penalty=0.0)
    assert penalty.unread() == ["conv_template.stop_str '###'", "presence_penalty 0.5"]
    named = changed(artifact, conv_template="llama-2")
    assert named.unread() == ["conv_template 'llama-2', a name without the template"]


REFUSED = {
    "another family": ({"model_type": "rwkv6"}, "model_type 'rwkv6' is not supported; supported: llama, mistral"),
    "FasterTransformer": ({"quantization": "q4f16_ft"}, "one kind of GPU.*supported: q0f16"),
    "float8": ({"quantization": "e4m3_e4m3_f16"}, "quantization 'e4m3_e4m3_f16' is not supported"),
    "no quantization": ({"quantization": None}, "quantization None is not supported"),
    "a window that llama has not": (
        {"sliding_window_size": 64}, "sliding_window_size 64 is not supported for model_type 'llama'",
    ),
    "a context of text": ({"context_window_size": "4k"}, "context_window_size must be a whole number of at least 1"),
    "no model_config": ({"model_config": []}, "model_config must be an object"),
    "stops": ({"conv_template": CHATML | {"stop_str": [1]}}, "conv_template.stop_str must be a list of texts"),
    "ends": ({"eos_token_id": [{}]}, "stop_token_ids and eos_token_id must be whole numbers"),
    "seps": ({"conv_template": CHATML | {"seps": []}}, "needs one or two seps"),
    "roles": ({"conv_template": CHATML | {"roles": ["user"]}}, "conv_template.roles must hold a text for each role"),
    "a prefix without a name": (
        {"conv_template": CHATML | {"system_prefix_token_ids": [7]}}, "system_prefix_token_ids: 7 is no control token",
    ),
    "pooling": ({"embedding_metadata": {"pooling_strategy": "cls"}}, "pooling_strategy must be mean or last"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(artifact, name):
    changes, words = REFUSED[name]
    (artifact / "tokenizer_config.json").unlink()
    source = changed(artifact, **changes)
    with pytest.raises(ModelError, match=rf"mlc-chat-config.json: .*{words}"):
        source.config()
        source.pooling()
        source.chat_template(source.tokenizer())


def edit(artifact, change):
    path = artifact / "tensor-cache.json"
    content = json.loads(path.read_text())
    change(content["records"])
    path.write_text(json.dumps(content))


DAMAGED = {
    "no list": (lambda records: records.clear(), "records must be a list of shards"),
    "a file elsewhere": (lambda records: records[0].update(dataPath="../x.bin"), "a shard needs dataPath"),
    "a file that is not there": (lambda records: records[0].update(dataPath="x.bin"), "x.bin does not exist"),
    "another size": (lambda records: records[0].update(nbytes=5), "tensor .* ends at byte|says 5"),
    "beyond the end": (lambda records: records[0]["records"][-1].update(byteOffset=1 << 40), "ends at byte"),
    "another shape": (lambda records: records[0]["records"][0].update(shape=[1 << 40]), "has .* bytes, which"),
    "upon another": (lambda records: records[1]["records"][1].update(byteOffset=0), "lies upon tensor"),
    "twice": (lambda records: records[0]["records"][1].update(name=records[0]["records"][0]["name"]), "is there twice"),
    "an unknown type": (lambda records: records[0]["records"][0].update(dtype="int4"), "is stored as int4; supported"),
    "an unknown format": (lambda records: records[0]["records"][0].update(format="zip"), "has the format 'zip'"),
    "no name": (lambda records: records[0]["records"][0].pop("name"), "a tensor needs name"),
    "a part for a GPU": (
        lambda records: records[0]["records"][0].update(name="model.norm.weight_shard-1"), "one of several GPUs",
    ),
    "a tensor of no use": (
        lambda records: records[0]["records"][0].update(name="model.vision.weight"), "not known for the family|missing",
    ),
    "another MD5": (lambda records: records[0].update(md5sum="0" * 32), "params_shard_0.bin is damaged: its MD5"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_list_is_named(artifact, name):
    change, words = DAMAGED[name]
    edit(artifact, change)
    with pytest.raises(ModelError, match=words):
        open_source(artifact).weights()


def test_libraries_of_mlc_are_refused_by_name(tmp_path):
    for name in ("model.so", "a/model.tar", "model.dylib"):
        with pytest.raises(ModelError, match=f"--model-lib .*{name} is a library that MLC LLM compiled"):
            check_model_lib(tmp_path / name)
    check_model_lib(tmp_path / "packed.safetensors")
    with pytest.raises(ModelError, match=r"--model-lib model\.so is a library"):
        settle(Options(model_lib=Path("model.so")))
