"""What other programs call a model, and this one cannot read: each is refused with what to give instead."""

from pathlib import Path

from verbatim.reference.checkpoint.mlc.files import CACHES, CHAT_CONFIG
from verbatim.reference.records.errors import ModelError
from verbatim.reference.records.file_text import check_ordinary

WANTED = (
    "give a directory with config.json and safetensors files, an artifact of MLC LLM, a GGUF file, or HF://user/repo"
)
MAX_FILE_BYTES = 1 << 50
MAX_TEXT_BYTES = {".json": 64 << 20, ".jinja": 4 << 20, ".txt": 64 << 20, ".model": 64 << 20}  # by the names' ends
PICKLED = (".bin", ".pt", ".pth")
COMPILED = (".so", ".dylib", ".dll", ".tar", ".wasm")


def check_readable(path: Path) -> None:
    """Raise ModelError if there is no model directory at `path`, or one in a format that is not read here."""
    if path.is_file():
        raise ModelError(f"{path} is {_description(path)}, not a model directory: {WANTED}")
    if not path.is_dir():
        raise ModelError(f"{path} does not exist: {WANTED}")
    if any((path / name).exists() for name in CACHES) and not (path / CHAT_CONFIG).exists():
        raise ModelError(f"{path} has weights of MLC LLM, and no {CHAT_CONFIG}, which says what they are")
    files = sorted(file for file in path.iterdir() if file.is_file())
    if any(file.suffix == ".safetensors" for file in files):
        return
    if found := [file for file in files if file.suffix in PICKLED]:
        raise ModelError(
            f"{path} has pickled weights ({found[0].name}), which may run code when they are read: "
            "save them as safetensors (transformers: model.save_pretrained(directory))"
        )


def check_files(path: Path) -> None:
    """Raise ModelError if a file of a model directory is none that can be read: a pipe, a device, a giant text."""
    if path.is_dir():
        for file in path.iterdir():
            check_ordinary(file, MAX_TEXT_BYTES.get(file.suffix, MAX_FILE_BYTES))


def check_model_lib(path: Path) -> None:
    """Raise ModelError for a library that MLC LLM compiled, by its name."""
    if path.suffix in COMPILED:
        raise ModelError(
            f"--model-lib {path} is a library that MLC LLM compiled, which is not used here: leave it out, and name "
            "the directory with mlc-chat-config.json as --model; packed weights of your own have another name"
        )


def _description(path: Path) -> str:
    """What a file is, in a few words."""
    if path.suffix in PICKLED:
        return "a file of pickled weights, which is not supported"
    return "a single file of weights" if path.suffix == ".safetensors" else "a file"
