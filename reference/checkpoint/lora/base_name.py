"""Whether an adapter's `base_model_name_or_path` plainly names another model than the one that it is loaded into.

Plain are names with a size in them (8B, 0.6b, 270M), up to that word: "Qwen/Qwen3-8B" and "Qwen3-8B-AWQ" name the same,
"Qwen3-8B" and "Qwen3-4B", or "Llama-3.1-8B", do not. Other names are not compared, such as "./checkpoint-500".
"""

import re
from collections.abc import Iterable

WORDS = re.compile(r"[a-z0-9.]+")
SIZE = re.compile(r"(\d+x)?\d+(\.\d+)?[bm]")


def other_base(base: str | None, names: Iterable[str]) -> str | None:
    """The base model's name if all names of the model at hand that have a size differ from it; None if it may fit."""
    wanted = _stem(base or "")
    own = {stem for name in names if (stem := _stem(name))}
    if not wanted or not own or any(stem in wanted or wanted in stem for stem in own):
        return None
    return base


def _stem(name: str) -> str:
    """The letters and digits of a name up to its size; "" without one."""
    found = ""
    for word in WORDS.findall(name.rstrip("/").rpartition("/")[2].lower()):
        found += word
        if SIZE.fullmatch(word):
            return found.replace(".", "")
    return ""
