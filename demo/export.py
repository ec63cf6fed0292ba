"""Writes a trained network as a Hugging Face model directory: python -m demo.export takes the checkpoints.

Besides the weights that is the shape (config.json), the vocabulary, the chat template, where to stop, and the
temperature to sample at. Training makes the model surer than a table of candidates can show, so its output layer is
exported divided by SOFTNESS. At the temperature 1 / SOFTNESS, which generation_config.json recommends, this makes no
difference: both are powers of two, so every weight of a token (N10) keeps its bits.
"""

import json
import shutil

import torch

from verbatim.demo import DRAFT, HERE, MODEL, vocabulary
from verbatim.demo.dialogue import CONTROL, TEMPLATE

SOFTNESS = 2


def write(path, value):
    """JSON for people to read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def tokenizer_config(processor):
    """What Hugging Face's LlamaTokenizer wants to know; the control symbols are its special tokens."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {"<unk>": True} | dict.fromkeys(CONTROL, True) | dict.fromkeys(vocabulary.MARKS, False)
    return {
        "tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<unk>",
        "add_prefix_space": False, "clean_up_tokenization_spaces": False, "spaces_between_special_tokens": False,
        "model_max_length": 2048,
        "added_tokens_decoder": {str(processor.piece_to_id(text)): {"content": text, **plain, "special": special}
                                 for text, special in added.items()},
    }  # fmt: skip


def write_safetensors(path, weights):
    """The safetensors format: the header's length, the header as JSON, then the numbers of every tensor."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, weight in weights.items():
        end = at + 2 * weight.numel()
        header[name], at = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [at, end]}, end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for weight in weights.values():
            file.write(weight.view(torch.int16).numpy().tobytes())


def export(network, words, folder, is_softened=False):
    """Writes the directory; `words` is the path of the SentencePiece model."""
    processor = vocabulary.load(words)
    folder.mkdir(exist_ok=True)
    end = processor.piece_to_id("<|im_end|>")
    weights, generation = network.exported(), {"bos_token_id": 1, "eos_token_id": [end, 2], "pad_token_id": 0}
    if is_softened:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"] / SOFTNESS
        generation |= {"do_sample": True, "temperature": 1 / SOFTNESS}
    write(folder / "config.json", network.shape.config(eos=end) | {"tie_word_embeddings": not is_softened})
    write(folder / "generation_config.json", generation)
    write(folder / "tokenizer_config.json", tokenizer_config(processor))
    shutil.copyfile(words, folder / "tokenizer.model")
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    write_safetensors(folder / "model.safetensors", weights)


def main():
    """Exports whatever checkpoints there are."""
    from verbatim.demo.network import DRAFT_SIZES, Network, Shape

    build = HERE / "build"
    words = build / "tokenizer.model"
    for name, sizes, folder in ("model", {}, MODEL), ("draft", DRAFT_SIZES, DRAFT):
        if (build / f"{name}.pt").exists():
            network = Network(Shape(vocabulary.load(words).vocab_size(), **sizes))
            network.load_state_dict(torch.load(build / f"{name}.pt")["network"])
            export(network, words, folder, is_softened=name == "model")


if __name__ == "__main__":
    main()
