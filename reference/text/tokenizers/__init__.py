"""The files that vocabularies come in, one module each; `load_tokenizer` finds the one of a model."""

from pathlib import Path

from verbatim.reference.records.errors import ModelError
from verbatim.reference.text.tokenizer import Tokenizer, read_settings
from verbatim.reference.text.tokenizers import json_file, tekken_file
from verbatim.reference.text.tokenizers.sentencepiece_file import read_sentencepiece

NAMES = ("tokenizer.json", "tokenizer.model", tekken_file.NAME, json_file.VOCABULARY)


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """The tokenizer of a model directory. Of several files the first in NAMES counts, as in transformers."""
    directory = Path(directory)
    settings = read_settings(directory)
    found = next((name for name in NAMES if (directory / name).exists()), None)
    match found:
        case "tokenizer.json":
            return json_file.read_json_tokenizer(directory, settings)
        case "tokenizer.model":
            return read_sentencepiece(directory, settings)
        case tekken_file.NAME:
            return tekken_file.TekkenTokenizer(directory)
        case json_file.VOCABULARY:
            return json_file.read_vocabulary(directory, settings)
    raise ModelError(f"{directory} has no tokenizer: neither {' nor '.join(NAMES)}")
