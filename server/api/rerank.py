"""`POST /v1/rerank` and `/v1/score`: how near texts are to each other, as the cosine of their embeddings.

Bodies and answers have the shapes of Jina, Cohere and vLLM. A score is from -1 to 1: that of a bi-encoder, not of a
cross-encoder, which would read both texts together. It is summed exactly, so every machine gives the same bits.
"""

import math
import time
from collections.abc import Sequence
from operator import mul
from typing import Any

from verbatim.reference.records.errors import RequestError
from verbatim.reference.records.request import Request
from verbatim.server.api import parameters
from verbatim.server.api.adapter import Adapter
from verbatim.server.api.builder import new_id
from verbatim.server.api.embeddings import MAX_INPUTS, VectorBuilder, read_inputs
from verbatim.server.api.fields import Field, Fields, Object, answer, required
from verbatim.server.api.foreign import anything
from verbatim.server.api.foreign_fields import EMBEDDING
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NUMBER,
    OBJECT,
    STRING,
    ValueType,
    array,
    integer,
    of_type,
    one_of,
    type_error,
)
from verbatim.server.models.served import ServedModel

FOREIGN = EMBEDDING | anything(None, "rank_fields max_chunks_per_doc max_tokens_per_doc overlap_tokens activation")


def _read_document(value: Any, path: str) -> str:
    if type(value) is dict:
        value, path = value.get("text"), f"{path}.text"
    return of_type(path, value, str)


def _read_documents(value: Any, path: str) -> list[str]:
    if not 1 <= len(of_type(path, value, list)) <= MAX_INPUTS:
        message = f"{path} must have 1 to {MAX_INPUTS} items, not {len(value)}"
        raise RequestError(message, field=path, code="invalid_value")
    return [_read_document(item, f"{path}[{index}]") for index, item in enumerate(value)]


def _read_texts(value: Any, path: str) -> list[str]:
    if type(value) not in (str, list):
        raise type_error(path, value, "a string or an array of strings")
    return [value] if type(value) is str else _read_documents(value, path)


ITEMS = {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS}
OF_TEXT = answer(required("text", STRING, "The text.", "A cat."))
DOCUMENTS = ValueType(_read_documents, ITEMS | {"items": {"anyOf": [STRING.schema, OF_TEXT]}})
TEXTS = ValueType(_read_texts, {"anyOf": [STRING.schema, ITEMS | {"items": STRING.schema}]})
RERANK = Object(
    required("query", STRING, "What the documents are compared with.", "Which animal purrs?"),
    required("documents", DOCUMENTS, "The texts to put in order.", ["A cat.", "A car."]),
    parameters.MODEL,
    Field("top_n", integer(1), "Give so many of the nearest; all if absent.", example=1),
    Field("return_documents", BOOLEAN, "Repeat each document in the answer.", default=True),
    parameters.USER,
    parameters.CACHE_KEY,
    foreign=FOREIGN,
)
SIDES = (("text_1", "queries", "data_1"), ("text_2", "documents", "data_2"))
ABOUT = ("A text, or several.", "As many texts, or several for one text.")
SCORE = Object(
    *(Field(name, TEXTS, about, example="A cat.") for names, about in zip(SIDES, ABOUT, strict=True) for name in names),
    parameters.MODEL,
    parameters.USER,
    parameters.CACHE_KEY,
    foreign=FOREIGN,
)
USAGE = ("usage", OBJECT, "Tokens of all texts.", {"prompt_tokens": 9, "total_tokens": 9})
RESULT = {"index": 0, "document": {"text": "A cat."}, "relevance_score": 0.75}
ENTRY = {"index": 0, "object": "score", "score": 0.75}
LISTED = ValueType(ANYTHING.read, array(OBJECT).schema)
SCHEMAS = {
    "Ranking": answer(
        required("id", STRING, "The answer's id.", "rerank-0123456789abcdef"),
        required("model", STRING, "The id of the model.", "verbatim-demo"),
        required("results", LISTED, "The documents, nearest first.", [RESULT]),
        required(*USAGE),
    ),
    "Scores": answer(
        required("id", STRING, "The answer's id.", "score-0123456789abcdef"),
        required("object", one_of("list"), "The type of the answer."),
        required("created", NUMBER, "When it was made, in seconds since 1970.", 1764460800),
        required("model", STRING, "The id of the model.", "verbatim-demo"),
        required("data", LISTED, "The score of each pair.", [ENTRY]),
        required(*USAGE),
    ),
}


class RerankAdapter(Adapter):
    """Documents by their nearness to a query."""

    name, path, prompt_field = "rerank", "/v1/rerank", "documents"
    summary = "Documents by their nearness to a query"
    body = RERANK
    examples = {"Two documents": {"query": "Which animal purrs?", "documents": ["A cat.", "A car."]}}  # noqa: RUF012
    answer, schemas = "Ranking", SCHEMAS
    makes_text = is_resumable = streams = False

    def read(self, body: Any, model: ServedModel) -> "RankBuilder":
        """The builder of the ranking."""
        fields = RERANK.read(body)
        query, documents = fields["query"], fields["documents"]
        places = [("query", query), *((f"documents[{index}]", text) for index, text in enumerate(documents))]
        top, repeats = fields["top_n"] or len(documents), fields["return_documents"]
        return RankBuilder(model, _requests(places, fields, model), documents if repeats else None, top)


class PlainRerankAdapter(RerankAdapter):
    """The same at the path that Jina's clients use."""

    name, path = "rerank_plain", "/rerank"


class ScoreAdapter(Adapter):
    """The nearness of pairs of texts."""

    name, path, prompt_field = "score", "/v1/score", "text_2"
    summary = "How near texts are to each other"
    body = SCORE
    examples = {"A text and two others": {"text_1": "A cat.", "text_2": ["A kitten.", "A car."]}}  # noqa: RUF012
    answer, schemas = "Scores", SCHEMAS
    makes_text = is_resumable = streams = False

    def read(self, body: Any, model: ServedModel) -> "ScoreBuilder":
        """The builder of the scores."""
        fields = SCORE.read(body)
        (first, left), (second, right) = (_take_side(fields, names) for names in SIDES)
        if len(left) not in (1, len(right)):
            message = f"{first} must have one text, or as many as {second} ({len(right)}), not {len(left)}"
            raise RequestError(message, field=first, code="invalid_value")
        places = [(f"{first}[{index}]", text) for index, text in enumerate(left)]
        places += [(f"{second}[{index}]", text) for index, text in enumerate(right)]
        return ScoreBuilder(model, _requests(places, fields, model), len(left))


class PlainScoreAdapter(ScoreAdapter):
    """The same at vLLM's other path."""

    name, path = "score_plain", "/score"


class RankBuilder(VectorBuilder):
    """A ranking: the first vector is the query's. `documents` are their texts, if the answer repeats them."""

    def __init__(self, model: ServedModel, requests: list[Request], documents: list[str] | None, top: int):
        super().__init__(model, requests, None, is_base64=False)
        self._documents, self._top = documents, top

    def whole(self) -> dict:
        """The documents, nearest first; of equals the first."""
        query, *vectors = self.vectors()
        scores = [cosine(query, vector) for vector in vectors]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: self._top]
        results = [self._result(index, scores[index]) for index in order]
        return {"id": new_id("rerank"), "model": self.model_id, "results": results, "usage": self.usage()}

    def _result(self, index: int, score: float) -> dict:
        text = {} if self._documents is None else {"document": {"text": self._documents[index]}}
        return {"index": index} | text | {"relevance_score": score}


class ScoreBuilder(VectorBuilder):
    """Scores of pairs: of the first `num_left` vectors each with one of the others, or the only one with all."""

    def __init__(self, model: ServedModel, requests: list[Request], num_left: int):
        super().__init__(model, requests, None, is_base64=False)
        self._num_left = num_left

    def whole(self) -> dict:
        """The scores in the order of the pairs."""
        vectors = self.vectors()
        right = vectors[self._num_left :]
        left = vectors[: self._num_left] if self._num_left > 1 else vectors[:1] * len(right)
        pairs = enumerate(zip(left, right, strict=True))
        data = [{"index": index, "object": "score", "score": cosine(*pair)} for index, pair in pairs]
        answer_id = new_id("score")
        head = {"id": answer_id, "object": "list", "created": int(time.time()), "model": self.model_id}
        return head | {"data": data, "usage": self.usage()}


def cosine(one_vector: Sequence[float], other: Sequence[float]) -> float:
    """That of two vectors of length 1, from -1 to 1."""
    return max(-1.0, min(1.0, math.fsum(map(mul, one_vector, other))))


def _take_side(fields: Fields, names: tuple[str, ...]) -> tuple[str, list[str]]:
    found = [name for name in names if fields.has(name)]
    if not found:
        message = f"Missing required parameter: {names[0]}"
        raise RequestError(message, field=names[0], code="missing_required_parameter")
    if len(found) > 1:
        message = f"{found[0]} and {found[1]} mean the same; give one of them"
        raise RequestError(message, field=found[1], code="invalid_parameter_combination")
    return found[0], fields[found[0]]


def _requests(places: list[tuple[str, str]], fields: Fields, model: ServedModel) -> list[Request]:
    """A request for the vector of each text, which came at a path."""
    fields["model"]
    salt = fields["prompt_cache_key"]
    fields.done()
    return read_inputs(places, model, salt=salt)
