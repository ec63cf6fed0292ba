"""A language model whose logits come from a hash, with a tokenizer, true probabilities and stops.

It has what a correct server must handle: greedy answers repeat, seeds matter, penalties and biases work, characters may
take several tokens, and a schema forces an exact text.
"""

import hashlib
import json
import math
import random
from dataclasses import dataclass, field
from functools import lru_cache

WORDS = [
    "lamp",
    "river",
    "bird",
    "stone",
    "green",
    "blue",
    "old",
    "new",
    "house",
    "tree",
    "wind",
    "rain",
    "moon",
    "star",
    "sea",
    "ship",
    "bread",
    "salt",
    "glass",
    "paper",
    "clock",
    "door",
    "hill",
    "field",
    "road",
    "cloud",
    "fire",
    "snow",
    "leaf",
    "root",
    "song",
    "dance",
    "night",
    "day",
    "hand",
    "foot",
    "eye",
    "ear",
    "cat",
    "dog",
    "horse",
    "fish",
    "apple",
    "plum",
    "nut",
    "corn",
    "rice",
    "gold",
    "iron",
    "silver",
    "wood",
    "sand",
    "wave",
    "shore",
    "lake",
    "pond",
    "bridge",
    "tower",
    "wall",
    "roof",
    "floor",
    "chair",
    "table",
    "bed",
    "cup",
    "plate",
]
VOCABULARY = [bytes([i]) for i in range(256)] + [f" {word}".encode() for word in WORDS] + [b""]
EOS = len(VOCABULARY) - 1
BY_TEXT = {data: i for i, data in enumerate(VOCABULARY)}
LONGEST_ANSWER = 250
THOUGHT = ("Two plus", " three", " is five.")  # what the model thinks when it is asked to, as a stream sends it
LONGEST = max(map(len, VOCABULARY))


def encode(text: str) -> list[int]:
    """Token ids by longest match; text outside the vocabulary becomes bytes."""
    data, ids, at = text.encode("utf-8", "replace"), [], 0
    while at < len(data):
        if data[at] != 32:
            ids.append(data[at])
            at += 1
            continue
        size = next(n for n in range(min(LONGEST, len(data) - at), 0, -1) if data[at : at + n] in BY_TEXT)
        ids.append(BY_TEXT[data[at : at + size]])
        at += size
    return ids


def decode(ids) -> str:
    """The text of ids; a cut character becomes a single U+FFFD."""
    return b"".join(VOCABULARY[i] for i in ids).decode("utf-8", "replace")


@dataclass
class Sampling:
    """Sampling and stopping parameters; `forced` is the text that a grammar allows."""

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    forced: str | None = None


@dataclass
class Drawn:
    """A sampled token: its id, its log-probability, and the most likely tokens with theirs."""

    token: int
    logprob: float
    tops: list[tuple[int, float]]

    @property
    def data(self) -> bytes:
        return VOCABULARY[self.token]


@dataclass
class Generated:
    """A finished answer. `deltas` are the text as a stream sends it, a delta for each token kept in `drawn`."""

    text: str
    finish: str
    drawn: list[Drawn]
    deltas: list[str]
    num_tokens: int


@lru_cache(maxsize=4096)
def base_logits(prompt: bytes, last: int) -> tuple[float, ...]:
    source = random.Random(hashlib.sha256(prompt + last.to_bytes(4, "little")).digest())
    words = [source.gauss(0, 2) for _ in WORDS]
    return (*(-9.0 - i / 256 for i in range(256)), *words, -14.0)


def distribution(prompt: bytes, ids: list[int], last: int, parameters: Sampling) -> list[float]:
    """Log-probabilities of all tokens, after biases and penalties."""
    logits = list(base_logits(prompt, last))
    for key, bias in parameters.logit_bias.items():
        logits[int(key)] += bias
    for token in set(ids):
        logits[token] -= parameters.presence_penalty + parameters.frequency_penalty * ids.count(token)
    top = max(logits)
    total = top + math.log(sum(math.exp(value - top) for value in logits))
    return [value - total for value in logits]


def draw(logprobs: list[float], parameters: Sampling, source: random.Random) -> int:
    ranked = sorted(range(len(logprobs)), key=lambda i: -logprobs[i])
    if parameters.temperature == 0:
        return ranked[0]
    weights = [math.exp((logprobs[i] - logprobs[ranked[0]]) / parameters.temperature) for i in ranked]
    total, kept, mass = sum(weights), 0, 0.0
    while kept < len(weights) and (kept == 0 or mass < parameters.top_p * total):
        mass += weights[kept]
        kept += 1
    return source.choices(ranked[:kept], weights[:kept])[0]


def generate(prompt_ids: list[int], parameters: Sampling, index: int = 0) -> Generated:
    """Sample tokens until a stop, the end-of-sequence token or the cap."""
    prompt = hashlib.sha256(json.dumps(prompt_ids).encode()).digest()
    source = random.Random(f"{parameters.seed} {index}" if parameters.seed is not None else None)
    forced = encode(parameters.forced) if parameters.forced is not None else None
    drawn, ids, data, finish = [], [], b"", "length"
    last = prompt_ids[-1] if prompt_ids else 0
    cut = None
    while len(ids) < parameters.max_tokens:
        logprobs = distribution(prompt, ids, last, parameters)
        if forced is not None and len(ids) == len(forced):
            finish = "stop"
            break
        last = forced[len(ids)] if forced is not None else draw(logprobs, parameters, source)
        if last == EOS or len(ids) >= LONGEST_ANSWER:
            finish = "stop"
            break
        tops = sorted(((i, value) for i, value in enumerate(logprobs)), key=lambda pair: -pair[1])[:20]
        drawn.append(Drawn(last, logprobs[last], tops))
        ids.append(last)
        data += VOCABULARY[last]
        text = data.decode("utf-8", "ignore")
        places = [text.find(stop) for stop in parameters.stops if stop in text]
        if places:
            cut, finish = min(places), "stop"
            break
    if forced is not None and len(ids) == len(forced) and finish == "length":
        finish = "stop"
    text = data.decode("utf-8", "replace") if cut is None else text[:cut]
    return _shown(text, finish, drawn, parameters.stops, len(ids))


def _shown(text: str, finish: str, drawn: list[Drawn], stops, num_tokens: int) -> Generated:
    """Split the text into a delta for each token: no text that could still become a stop, no partial characters."""
    kept, deltas, data, shown = [], [], b"", 0
    end = len(text.encode())
    for item in drawn:
        if len(data) >= end and end < len(data) + len(item.data) and finish == "stop":
            break
        kept.append(item)
        data += item.data
        so_far = data.decode("utf-8", "ignore")
        held = max((n for stop in stops for n in range(1, len(stop)) if so_far.endswith(stop[:n])), default=0)
        safe = min(len(so_far) - held, len(text))
        deltas.append(text[shown : max(safe, shown)])
        shown = max(safe, shown)
    if shown < len(text) and deltas:
        deltas[-1] += text[shown:]
    return Generated(text, finish, kept, deltas, num_tokens)


def instance(schema, root=None) -> object:
    """A smallest value that fits a schema."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or not schema:
        return {}
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            options = schema[word]
            return instance(next((o for o in options if o.get("type") == "null"), options[0]), root)
    type_name = schema.get("type", "object")
    type_name = type_name[0] if isinstance(type_name, list) else type_name
    if type_name == "object":
        required = schema.get("required", [])
        return {name: instance(sub, root) for name, sub in schema.get("properties", {}).items() if name in required}
    if type_name == "array":
        return [instance(schema.get("items", {}), root) for _ in range(schema.get("minItems", 0))]
    if type_name in ("integer", "number"):
        return schema.get("minimum", 0)
    if type_name == "string":
        return "ab-12"[: schema.get("maxLength", 5)] if "pattern" not in schema else schema["pattern"].strip("^$")
    return {"boolean": True, "null": None}[type_name]


def as_json(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
