"""Signatures of receipts: Ed25519 over the digest, by a private key in a PEM file.

`openssl genpkey -algorithm ed25519 -out key.pem` makes one. The public key stands in the receipt, in hex: who checks a
signature must know from elsewhere whose key that is. The library is an extra (`pip install verbatim[receipts]`).
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verbatim.reference.receipts.receipt import DIGEST, SIGNATURE
from verbatim.reference.records.errors import BackendError, ModelError, RequestError

ALGORITHM = "ed25519"
Signer = Callable[[dict[str, Any]], dict[str, Any]]


def unsigned(receipt: dict[str, Any]) -> dict[str, Any]:
    """The receipt as it is: the signer of a server without a key."""
    return receipt


def load_signer(path: Path | None) -> Signer:
    """What signs receipts with the key in a PEM file; ModelError without one in it, BackendError without library."""
    if path is None:
        return unsigned
    keys, serialization = _library("asymmetric.ed25519"), _library("serialization")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"--receipt-key {path} cannot be read: {type(error).__name__}") from None
    if not isinstance(key, keys.Ed25519PrivateKey):
        raise ModelError(f"--receipt-key {path} must hold a private Ed25519 key")
    public = key.public_key().public_bytes_raw().hex()

    def sign(receipt: dict[str, Any]) -> dict[str, Any]:
        value = key.sign(receipt[DIGEST].encode()).hex()
        return receipt | {SIGNATURE: {"algorithm": ALGORITHM, "public_key": public, "value": value}}

    return sign


def check_signature(signature: dict[str, str], digest: str, path: str = "receipt") -> str | None:
    """The public key that signed a digest, None without a signature; RequestError for one that is wrong."""
    if not signature:
        return None
    where = f"{path}.{SIGNATURE}"
    if signature["algorithm"] != ALGORITHM:
        raise RequestError(f"{where}.algorithm must be {ALGORITHM}", field=f"{where}.algorithm", code="invalid_receipt")
    keys, exceptions = _library("asymmetric.ed25519"), importlib.import_module("cryptography.exceptions")
    try:
        key = keys.Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        key.verify(bytes.fromhex(signature["value"]), digest.encode())
    except (ValueError, exceptions.InvalidSignature):
        raise RequestError(
            f"{where} is not that of this receipt by its key", field=where, code="invalid_receipt"
        ) from None
    return signature["public_key"]


def _library(name: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError:
        message = "signatures of receipts need the library cryptography: pip install verbatim[receipts]"
        raise BackendError(message) from None
