"""`POST /v1/embeddings`: texts or token ids in, a vector for each out, of length 1 (L2).

A vector is made of the model's last states (reference/model/pooling.py). `dimensions` keeps its first numbers and
makes the rest of length 1 again. `pooling`, an extension, is `mean` or `last`; else the model's own.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from verbatim.reference.model.pooling import unit
from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import POOLINGS, Output, Request
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import Builder, new_id
from verbatim.server.api.fields import Field, Object, answer, required
from verbatim.server.api.foreign_fields import EMBEDDING
from verbatim.server.api.texts import texts
from verbatim.server.api.value_types import (
    ANYTHING,
    OBJECT,
    STRING,
    ValueType,
    check_token_ids,
    integer,
    of_type,
    one_of,
)
from verbatim.server.models.served import ServedModel

MAX_INPUTS = 2048
WAVE = 64  # inputs that the engine gets at once: many of them must not fill its queue
BODY = Object(
    required("input", texts(MAX_INPUTS, shows_length=True), "The texts.", ["Hello", "Good morning"]),
    parameters.MODEL,
    Field("encoding_format", one_of("float", "base64"), "How vectors are written; float if absent."),
    Field("dimensions", integer(1), "Keep so many numbers of each vector.", example=64),
    Field("pooling", one_of(*POOLINGS), "How states become a vector; the model's own if absent."),
    parameters.USER,
    parameters.CACHE_KEY,
    foreign=EMBEDDING,
)
VECTORS = ValueType(
    ANYTHING.read, {"type": "array", "items": OBJECT.schema | {"required": ["object", "index", "embedding"]}}
)
SCHEMA = answer(
    required("object", one_of("list"), "The type of the answer."),
    required(
        "data", VECTORS, "A vector for each text.", [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}]
    ),
    required("model", STRING, "The id of the model.", "verbatim-demo"),
    required("usage", OBJECT, "How many tokens the texts have.", {"prompt_tokens": 5, "total_tokens": 5}),
)


class EmbeddingAdapter(Adapter):
    """Embeddings, which are whole or not at all."""

    name, path, prompt_field = "embeddings", "/v1/embeddings", "input"
    summary = "Texts to vectors"
    body, examples = BODY, {"Two texts": {"input": ["Hello", "Good morning"]}}
    answer, schemas = "Embeddings", {"Embeddings": SCHEMA}
    makes_text = is_resumable = streams = False

    def read(self, body: Any, model: ServedModel) -> "VectorBuilder":
        """The builder of the vectors."""
        fields = BODY.read(body)
        inputs = fields["input"]
        fields["model"]
        is_base64 = fields["encoding_format"] == "base64"
        dimensions = fields.read_as("dimensions", integer(1, model.config.hidden_size))
        pooling = fields["pooling"] or model.pooling
        salt = fields["prompt_cache_key"]
        fields.done()
        requests = read_inputs(inputs, model, pooling=pooling, salt=salt)
        return VectorBuilder(model, requests, dimensions, is_base64)


class VectorBuilder(Builder):
    """The vectors of one HTTP request."""

    def __init__(self, model: ServedModel, requests: list[Request], dimensions: int | None, is_base64: bool):
        self.requests = requests
        self.model_id, self._dimensions, self._is_base64 = model.model_id, dimensions, is_base64
        self._vectors: dict[str, tuple[float, ...]] = {}

    def waves(self, max_queue: int) -> Iterator[Sequence[Request]]:
        """The requests, some at a time."""
        size = min(WAVE, max_queue)
        return (self.requests[start : start + size] for start in range(0, len(self.requests), size))

    def take(self, output: Output) -> list[dict]:
        """Keep a vector."""
        self._vectors[output.request_id] = output.embedding
        return []

    def whole(self) -> dict:
        """The answer, vectors in the order of their inputs."""
        data = [
            {"object": "embedding", "index": index, "embedding": self.written(vector)}
            for index, vector in enumerate(self.vectors())
        ]
        return {"object": "list", "data": data, "model": self.model_id, "usage": self.usage()}

    def vectors(self) -> list[tuple[float, ...]]:
        """The vectors in the order of their requests."""
        return [self._vectors[request.request_id] for request in self.requests]

    def usage(self) -> dict:
        """The tokens of all inputs."""
        num_tokens = sum(len(request.prompt_ids) for request in self.requests)
        return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}

    def written(self, vector: tuple[float, ...]) -> list[float] | str:
        """A vector as the request wants it."""
        if self._dimensions is not None:
            vector = unit(np.array(vector[: self._dimensions]))
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if self._is_base64 else list(vector)


def read_inputs(
    inputs: Sequence[tuple[str, Any]], model: ServedModel, *, pooling: str | None = None, salt: str = ""
) -> list[Request]:
    """A request for the vector of each input, which came at a path."""
    answer_id = new_id("embd")
    return [
        Request(
            request_id=f"{answer_id}-{index}", prompt_ids=input_ids(item, path, model),
            pooling=pooling or model.pooling, cache_salt=salt,
        )
        for index, (path, item) in enumerate(inputs)
    ]  # fmt: skip


def input_ids(value: Any, path: str, model: ServedModel) -> tuple[int, ...]:
    """The ids of one input. RequestError if there are none, or too many, or some that are none."""
    if type(value) is str:
        model.check_text((value,), path)
        ids = tuple(model.tokenizer.encode_prompt(value)) if value else ()
    else:
        check_token_ids(path, of_type(path, value, list), model.config.vocab_size)
        ids = tuple(value)
    if not ids:
        raise RequestError(f"{path} must have at least one token", field=path, code="empty_input")
    model.check_prompt(ids, path)
    return ids
