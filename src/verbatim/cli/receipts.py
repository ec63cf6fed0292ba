"""`verbatim replay` and `verify-answer`: recompute what a receipt says, in this process."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from verbatim.cli.options import LORA, Backend, ModelOptions, UsageError, load_backend, read_words, shared
from verbatim.demo import MODEL
from verbatim.server.settings.options import DEMO_ID

Receipts = Annotated[str, Parameter(help="a receipt, or an answer that holds one, in JSON; - for standard input")]
Model = Annotated[Path | str | None, shared("model", text="the model (default: the demo, if it has answered)")]
Device = Annotated[str, shared("device", is_checked=False)]
Key = Annotated[str | None, Parameter(help="the public key that must have signed it, in hex")]


def replay(words: list[str]) -> int:
    """Compute the answers of a receipt again; exit code 1 if anything differs."""
    return read_words("replay", _replay, words)


def verify_answer(words: list[str]) -> int:
    """The same for all tokens of an answer at once."""
    return read_words("verify-answer", _verify_answer, words)


def _replay(
    receipt: Receipts, /, *, model: Model = None, backend: Backend = "fastpath", device: Device = "auto",
    lora: Annotated[str | None, LORA] = None, public_key: Key = None,
) -> int:  # fmt: skip
    """Compute the answers of a receipt again, token by token; exit code 1 at the first bit that differs."""
    return _recompute(receipt, model, backend, device, lora, public_key, verifies=False)


def _verify_answer(
    receipt: Receipts, /, *, model: Model = None, backend: Backend = "fastpath", device: Device = "auto",
    lora: Annotated[str | None, LORA] = None, public_key: Key = None,
) -> int:  # fmt: skip
    """Check the answers of a receipt, all tokens of one at once; exit code 1 at the first bit that differs."""
    return _recompute(receipt, model, backend, device, lora, public_key, verifies=True)


def _recompute(path, model, backend: str, device: str, lora, public_key: str | None, *, verifies: bool) -> int:
    from verbatim.reference.commands.replay import Wanted, read_receipt, replay
    from verbatim.reference.records.errors import RequestError

    receipt, signer = read_receipt(path)
    if model is None and receipt.model != DEMO_ID:
        raise UsageError(f"--model: give the model that {receipt.model!r} is")
    if public_key is not None and signer != public_key.lower():
        raise RequestError(f"the receipt is signed by {signer or 'no key'}, not by {public_key}")
    print(f"signed by {signer}" if signer else "not signed")
    options = ModelOptions(model=model or MODEL, device=device, lora=lora)
    wanted = Wanted(model=options.directory(), device=device, adapter=options.adapter(), verifies=verifies)
    return 0 if replay(load_backend(backend), receipt, wanted) else 1
