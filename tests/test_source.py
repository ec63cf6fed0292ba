"""A source: everything of a model on disk from one object, with nothing read that nobody asks for."""

import json
import shutil

import pytest

from small_models import write_eagle, write_medusa, write_model
from verbatim.demo import MODEL
from verbatim.reference.checkpoint.families import families, family_named
from verbatim.reference.checkpoint.source import open_source
from verbatim.reference.records.errors import ModelError


def test_a_source_has_all_of_a_model():
    source = open_source(MODEL)
    config, tokenizer = source.config(), source.tokenizer()
    assert tokenizer.vocab_size <= config.vocab_size and config.family == "llama"
    template = source.chat_template(tokenizer)
    assert template and tokenizer.encode_pieces(template.render([{"role": "user", "content": "Hello"}]))
    tensors = source.tensors()
    assert tensors["model.embed_tokens.weight"].shape == (config.vocab_size, config.hidden_size)
    assert {*source.weights().names()} == {*tensors}
    assert [path.name for path in source.weight_files()] == ["config.json", "model.safetensors"]
    assert source.pooling() == "mean"


def test_generation_defaults_are_those_of_the_file(tmp_path):
    write_model(tmp_path)
    assert open_source(tmp_path).generation_defaults() == {}
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6, "eos_token_id": 5}))
    assert open_source(tmp_path).generation_defaults() == {"temperature": 0.6, "eos_token_id": 5}
    assert open_source(tmp_path).config().eos_ids == (5,)


def test_a_digest_depends_on_files_and_on_what_it_begins_with(tmp_path):
    copy = shutil.copytree(MODEL, tmp_path / "copy")
    assert open_source(copy).digest(b"a") == open_source(MODEL).digest(b"a") != open_source(MODEL).digest(b"b")
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert open_source(copy).digest(b"a") != open_source(MODEL).digest(b"a")


def test_nothing_is_opened_before_it_is_asked_for(tmp_path):
    source = open_source(tmp_path / "nowhere")
    for method, words in (
        ("config", "does not exist"),
        ("tokenizer", "has no tokenizer"),
        ("tensors", "does not exist"),
    ):
        with pytest.raises(ModelError, match=words):
            getattr(source, method)()


def test_heads_are_sources_too(tmp_path):
    write_model(tmp_path / "model")
    sizes = {"hidden_size": 48, "vocab_size": 96}
    assert open_source(write_medusa(tmp_path / "medusa", **sizes)).medusa().hidden_size == 48
    eagle = open_source(write_eagle(tmp_path / "eagle")).eagle_config()
    assert (eagle.family, eagle.num_layers) == ("eagle", 1)


def test_every_family_is_found_by_its_file():
    found = families()
    assert len({family.name for family in found}) == len({family.architecture for family in found}) == len(found) == 51
    assert family_named("mixtral").experts.gate == "w1" and family_named("qwen3_moe").experts.gate == "gate_proj"


FOREIGN = {
    "a.gguf": ("a.gguf is no GGUF file",),
    "folder/model-Q4_K_M.gguf": ("model-Q4_K_M.gguf is no GGUF file",),
    "folder/nothing.txt": ("config.json does not exist",),
    "weights.bin": ("weights.bin is a file of pickled weights",),
    "folder/pytorch_model-00001-of-00002.bin": ("pickled weights", "save_pretrained"),
    "folder/consolidated.00.pth": ("pickled weights", "safetensors"),
    "folder/mlc-chat-config.json": ("mlc-chat-config.json: quantization None is not supported", "the checkpoint"),
    "folder/tensor-cache.json": ("has weights of MLC LLM", "no mlc-chat-config.json"),
    "model.safetensors": ("model.safetensors is a single file of weights", "give a directory"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_other_programs_call_a_model_is_refused_with_what_to_give_instead(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(ModelError) as refused:
        open_source(path.parent if "folder" in name else path).config()
    assert all(word in str(refused.value) for word in FOREIGN[name])


@pytest.mark.parametrize(
    ("config", "word"), [({"quant_method": "bitsandbytes"}, "method bitsandbytes"), ({"bits": 4}, "method of no name")]
)
def test_a_quantized_checkpoint_is_refused_by_its_method(tmp_path, config, word):
    write_model(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": config}))
    with pytest.raises(ModelError, match=word):
        open_source(tmp_path).config()
