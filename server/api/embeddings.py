"""`POST /v1/embeddings`: texts or token ids in, one vector for each out, all of them one long (L2).

A vector is made of the model's last states (reference/model/pooling.py). `dimensions` keeps its first numbers and
makes what is left one long again. `pooling`, an extension, is `mean` or `last`; else the model's own settings say.
"""

import base64
from collections.abc import Iterator

import numpy as np

from verbatim.reference.model.pooling import unit
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import POOLINGS, Output, Request, require_integer
from verbatim.server.api import parameters
from verbatim.server.api.answer import new_id
from verbatim.server.api.fields import Fields, of_type, type_error
from verbatim.server.models.served import ServedModel

MAX_INPUTS = 2048
WAVE = 64  # inputs that are given to the engine at once: many of them must not fill its queue


class Embeddings:
    """The vectors of one HTTP request: `waves` of requests for the engine, and what came of them."""

    def __init__(self, model: ServedModel, requests: list[Request], dimensions: int | None, is_base64: bool):
        self.requests = requests
        self._model_id, self._dimensions, self._is_base64 = model.model_id, dimensions, is_base64
        self._vectors: dict[str, tuple[float, ...]] = {}

    def waves(self, max_queue: int) -> Iterator[tuple[Request, ...]]:
        """The requests, as many at a time as the engine should have to queue where it queues `max_queue` in all."""
        size = min(WAVE, max_queue)
        return (tuple(self.requests[start : start + size]) for start in range(0, len(self.requests), size))

    def take(self, output: Output) -> None:
        """Take in a vector."""
        self._vectors[output.request_id] = output.embedding

    def whole(self) -> dict:
        """The answer, vectors in the order of their inputs."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._write(self._vectors[request.request_id])}
            for index, request in enumerate(self.requests)
        ]
        num_tokens = sum(len(request.prompt_ids) for request in self.requests)
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return {"object": "list", "data": data, "model": self._model_id, "usage": usage}

    def _write(self, vector: tuple[float, ...]) -> list[float] | str:
        if self._dimensions is not None:
            vector = unit(np.array(vector[: self._dimensions]))
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if self._is_base64 else list(vector)


def read_embeddings(body: object, model: ServedModel) -> Embeddings:
    """What is to be embedded, and how the vectors are to look. RequestError for anything that cannot be done."""
    fields = Fields(body)
    prompts = _take_input(fields, model)
    parameters.take_model(fields)
    is_base64 = fields.one_of("encoding_format", ("float", "base64")) == "base64"
    dimensions = fields.integer("dimensions", 1, model.config.hidden_size)
    pooling = fields.one_of("pooling", POOLINGS) or model.pooling
    fields.string("user")
    salt = parameters.take_cache_salt(fields)
    fields.done()
    answer_id = new_id("embd")
    requests = [
        Request(request_id=f"{answer_id}-{index}", prompt_ids=ids, pooling=pooling, cache_salt=salt)
        for index, ids in enumerate(prompts)
    ]
    return Embeddings(model, requests, dimensions, is_base64)


def _take_input(fields: Fields, model: ServedModel) -> list[tuple[int, ...]]:
    value = fields.required("input")
    if type(value) is str:
        return [_read_input(value, "input", model)]
    if type(value) is not list:
        raise type_error("input", value, "a string, or an array of strings, token ids or arrays of token ids")
    if value and type(value[0]) is int:
        return [_read_input(value, "input", model)]
    if not 1 <= len(value) <= MAX_INPUTS:
        message = f"input must have 1 to {MAX_INPUTS} items, not {len(value)}"
        raise RequestError(message, field="input", code="invalid_value")
    return [_read_input(item, f"input[{index}]", model) for index, item in enumerate(value)]


def _read_input(value, path: str, model: ServedModel) -> tuple[int, ...]:
    if type(value) is str:
        ids = tuple(model.tokenizer.encode_prompt(value)) if value else ()
    else:
        ids = tuple(of_type(path, value, list))
        for index, token_id in enumerate(ids):
            where = f"{path}[{index}]"
            require_integer(where, of_type(where, token_id, int), 0, model.config.vocab_size - 1)
    if not ids:
        raise RequestError(f"{path} must have at least one token", field=path, code="empty_input")
    model.check_prompt(ids, path)
    return ids
