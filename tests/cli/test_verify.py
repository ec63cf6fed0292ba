"""`verbatim verify`: a model whose files, weights or packed weights are not what they were."""

import hashlib
import shutil

import pytest

from small_models import write_chat_model
from verbatim.cli.main import main
from verbatim.fastpath import backend
from verbatim.fastpath.model import model_lib


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model directory with packed weights in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_lib, "LEAST_BYTES", 1000)
    directory = write_chat_model(tmp_path / "model")
    backend.load_engine(directory)
    return directory


def flip(file, place=-3):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_model_that_is_whole(model, capsys):
    assert main(["verify", str(model)]) == 0
    out = capsys.readouterr().out
    assert "no digests are known: --write notes them" in out and "as it was packed" in out and "fingerprint" in out
    assert main(["verify", str(model), "--write"]) == 0
    lines = (model / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((model / "config.json").read_bytes()).hexdigest()
    assert f"{digest}  config.json" in lines and len(lines) == 5
    assert "5 with a known digest, 5 of them as they were" in capsys.readouterr().out


def test_a_flipped_bit_of_a_file_or_of_packed_weights_is_named(model, capsys):
    assert main(["verify", str(model), "--write"]) == 0
    flip(model / "model.safetensors")
    assert main(["verify", str(model)]) == 1
    assert f"damaged: {model / 'model.safetensors'}" in capsys.readouterr().out
    flip(model / "model.safetensors")
    (packed,) = model_lib.cached_files()
    backend.load_engine(model)  # its stamp has the times of the files
    for packed in model_lib.cached_files():
        flip(packed, packed.stat().st_size // 2)
    assert main(["verify", str(model)]) == 1
    assert "damaged: " in (out := capsys.readouterr().out) and "model.layers." in out


def test_files_of_the_hub_are_known_by_their_names(tmp_path, capsys):
    model, place = write_chat_model(tmp_path / "plain"), tmp_path / "models--a--b"
    (place / "blobs").mkdir(parents=True)
    (place / "snapshots/main").mkdir(parents=True)
    for path in model.iterdir():
        content = path.read_bytes()
        large = path.suffix == ".safetensors"
        name = hashlib.sha256(content) if large else hashlib.sha1(b"blob %d\0" % len(content) + content)
        shutil.copy(path, place / "blobs" / name.hexdigest())
        (place / "snapshots/main" / path.name).symlink_to(place / "blobs" / name.hexdigest())
    assert main(["verify", str(place / "snapshots/main")]) == 0
    assert "5 with a known digest, 5 of them as they were" in capsys.readouterr().out
    flip(place / "snapshots/main/tokenizer.model", 0)
    assert main(["verify", str(place / "snapshots/main")]) == 1
    assert "tokenizer.model" in capsys.readouterr().out


def test_weights_that_are_no_numbers_are_one_line(model, capsys):
    path = model / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\xff\xff\xff\xff")
    assert main(["verify", str(model)]) == 1
    assert "holds NaN or infinite values" in capsys.readouterr().err
