"""One text for a JSON value, whatever program wrote it: what digests and signatures of receipts are made of.

Keys are sorted, there is no space, and a number is written by its value: 1.0 is 1, and a fraction has its bits in
hexadecimal. So a receipt that another program has read and written again keeps its digest.
"""

import json
from hashlib import sha256
from typing import Any

MAX_WHOLE = 1 << 53  # beyond it many programs do not tell integers apart


def canonical(value: Any) -> str:
    """The text of a JSON value; RecursionError if it is nested too deeply, ValueError for what JSON does not have."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < MAX_WHOLE
        return str(int(value)) if is_whole else value.hex()
    return json.dumps(value, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 of that text, in hex."""
    return sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()
