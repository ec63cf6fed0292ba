"""Completions and embeddings of the miniature server."""

import base64
import hashlib
import struct
import time
import uuid

from mini_checker import RefusedError
from mini_checks import check_common
from mini_model import EOS, VOCABULARY, decode, encode, generate
from mini_protocol import CONTEXT, sampling, usage


class Completion:
    """A legacy completion: prompts as text or ids, echo, four parallel arrays of log-probabilities."""

    def __init__(self, c, handler):
        self.fault, self.body = handler.fault, c.body
        body = c.body
        check_common(c, "mini/hash-1")
        self.prompts = [list(ids) for ids in self.read_prompts(c)]
        if "template" in self.fault:
            self.prompts = [encode("[system]You are a helpful assistant.[user]") + ids for ids in self.prompts]
        self.num_logs = c.number("logprobs", 0, 5, int)
        self.echo = bool(c.typed("echo", bool))
        self.n = c.number("n", 1, 128, int, 1) or 1
        best_of = c.number("best_of", 0, 20, int)
        c.refuse(best_of is not None and best_of < self.n, "best_of is less than n.", "best_of")
        c.refuse(best_of not in (None, 1) and body.get("stream") is True, "best_of cannot stream.", "best_of")
        c.refuse(body.get("suffix"), "suffix is not supported.", "suffix")
        self.parameters = sampling(c, 16 if "no default cap" not in self.fault else 40)
        if "empty prompt 500" in self.fault and [] in self.prompts:
            raise RuntimeError("empty")
        if "first prompt only" in self.fault:
            self.prompts = self.prompts[:1]
        if "counts ids twice" in self.fault:
            self.prompts = [ids * 2 for ids in self.prompts]
        c.refuse(any(len(ids) > CONTEXT for ids in self.prompts), "too long.", "prompt", "context_length_exceeded")
        pairs = [(ids, i) for ids in self.prompts for i in range(self.n)]
        if "sample-major" in self.fault:
            pairs = [(ids, i) for i in range(self.n) for ids in self.prompts]
        self.answers = [(ids, generate(ids, self.parameters, i)) for ids, i in pairs]
        self.envelope = {"id": "cmpl-" + uuid.uuid4().hex, "created": int(time.time()), "model": "mini/hash-1"}
        self.envelope["object"] = "text_completion"

    def read_prompts(self, c):
        prompt = c.body.get("prompt")
        if c.refuse(prompt is None, "Missing prompt.", "prompt", "missing_required_parameter"):
            return [[0]]
        if isinstance(prompt, str):
            return [encode(prompt)]
        if c.refuse(not isinstance(prompt, list) or not prompt, "Bad prompt.", "prompt", "invalid_type"):
            return [[0]]
        if all(type(item) is str for item in prompt):
            return [encode(item) for item in prompt]
        lists = prompt if all(type(item) is list for item in prompt) else [prompt]
        c.refuse(any(not ids for ids in lists), "Empty prompt.", "prompt")
        bad = any(type(i) is not int or not 0 <= i < EOS for ids in lists for i in ids)
        return [[0]] if c.refuse(bad, "Bad token in prompt.", "prompt") else lists

    def logs(self, ids, answer):
        if self.num_logs is None:
            return None
        rows = [(d.token, d.logprob, d.tops) for d in answer.drawn]
        if self.echo:
            rows = [(i, None if at == 0 else -1.5, [(i, -1.5)]) for at, i in enumerate(ids)] + rows
        tokens = [decode([token]) for token, _, _ in rows]
        offsets, data = [], b""
        for token, _, _ in rows:
            offsets.append(len(data.decode("utf-8", "ignore")))
            data += VOCABULARY[token]
        tops = []
        for at, (token, logprob, likely) in enumerate(rows):
            best = {decode([i]): value for i, value in likely[: self.num_logs]} | {decode([token]): logprob}
            tops.append(None if logprob is None and at == 0 else best)
        return {
            "tokens": tokens,
            "token_logprobs": [row[1] for row in rows],
            "top_logprobs": tops if self.num_logs else None,
            "text_offset": offsets,
        }

    @property
    def usage(self):
        prompt = sum(map(len, self.prompts))
        return usage(prompt, sum(answer.num_tokens for _, answer in self.answers))

    def choice(self, index, ids, answer, text, finish, logs):
        return {"index": index, "text": text, "logprobs": logs, "finish_reason": finish}

    def whole(self):
        choices = []
        for index, (ids, answer) in enumerate(self.answers):
            text = (decode(ids) if self.echo else "") + answer.text
            choices.append(self.choice(index, ids, answer, text, answer.finish, self.logs(ids, answer)))
        return self.envelope | {"choices": choices, "usage": self.usage}

    def chunks(self):
        options = self.body.get("stream_options") or {}
        wants = isinstance(options, dict) and options.get("include_usage") is True
        none = {"usage": None} if wants else {}
        chunks = []
        for index, (ids, answer) in enumerate(self.answers):
            deltas = [decode(ids)] if self.echo else []
            deltas += [delta for delta in answer.deltas if delta]
            for delta in deltas:
                chunks.append(self.envelope | {"choices": [self.choice(index, ids, answer, delta, None, None)]} | none)
            end = self.choice(index, ids, answer, "", answer.finish, self.logs(ids, answer))
            chunks.append(self.envelope | {"choices": [end]} | none)
        if wants:
            chunks.append(self.envelope | {"choices": [], "usage": self.usage})
        return chunks


def embed(c, model: str) -> dict:
    """Embeddings: eight numbers taken from a hash."""
    body = c.body
    check_common(c, model)
    value = body.get("input")
    c.refuse(value is None or value in ("", []), "input is empty.", "input")
    items = value if isinstance(value, list) and not all(type(i) is int for i in value) else [value]
    c.refuse(any(type(item) not in (str, list) for item in items), "input has a wrong type.", "input", "invalid_type")
    size = c.number("dimensions", 1, 8, int, 8)
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise RefusedError("Bad encoding_format.", "encoding_format")
    data = []
    for index, item in enumerate(items):
        ids = encode(item) if isinstance(item, str) else item if isinstance(item, list) else []
        digest = hashlib.sha256(str(ids).encode()).digest()
        vector = [b / 128 - 1 for b in digest[:size]]
        length = sum(x * x for x in vector) ** 0.5
        vector = [x / length for x in vector]
        packed = struct.pack((">" if "big endian" in c.fault else "<") + f"{size}f", *vector)
        out = base64.b64encode(packed).decode() if form == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": out})
    if "reversed" in c.fault:
        data = [old | {"embedding": new["embedding"]} for old, new in zip(data, data[::-1], strict=True)]
    return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
