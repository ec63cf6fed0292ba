"""Reranking and scores: the cosine of the texts' embeddings, in the shapes of Jina, Cohere and vLLM."""

import math

import pytest

QUERY, DOCUMENTS = "Which animal purrs?", ["A car drives.", "A cat purrs.", "Hello there", "A cat purrs."]


def post(server, path: str, **body) -> dict:
    response = server.http.post(path, json={"model": "verbatim-demo"} | body)
    assert response.status_code == 200, response.text
    return response.json()


def cosines(server, left: list[str], right: list[str]) -> list[float]:
    data = post(server, "/v1/embeddings", input=[*left, *right])["data"]
    vectors = [item["embedding"] for item in data]
    pairs = zip(vectors[: len(left)], vectors[len(left) :], strict=True)
    return [math.fsum(a * b for a, b in zip(*pair, strict=True)) for pair in pairs]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_documents_come_nearest_first(server, path):
    answer = post(server, path, query=QUERY, documents=DOCUMENTS)
    results = answer["results"]
    expected = cosines(server, [QUERY] * len(DOCUMENTS), DOCUMENTS)
    assert [item["relevance_score"] for item in results] == sorted(expected, reverse=True)
    assert {item["index"]: item["relevance_score"] for item in results} == dict(enumerate(expected))
    assert all(item["document"] == {"text": DOCUMENTS[item["index"]]} for item in results)
    equal = [item["index"] for item in results if DOCUMENTS[item["index"]] == DOCUMENTS[1]]
    assert equal == [1, 3] and answer["usage"]["total_tokens"] > 0
    as_objects = post(server, path, query=QUERY, documents=[{"text": text} for text in DOCUMENTS], top_n=2)
    assert as_objects["results"] == results[:2]
    bare = post(server, path, query=QUERY, documents=DOCUMENTS, return_documents=False)["results"]
    assert bare == [{name: item[name] for name in ("index", "relevance_score")} for item in results]


@pytest.mark.parametrize("path", ["/v1/score", "/score"])
def test_scores_of_pairs(server, path):
    pairs = cosines(server, ["a", "b"], ["c", "d"])
    answer = post(server, path, text_1=["a", "b"], text_2=["c", "d"])
    assert [item["score"] for item in answer["data"]] == pairs and answer["object"] == "list"
    many = post(server, path, text_1="a", text_2=["c", "a"])["data"]
    assert [item["index"] for item in many] == [0, 1] and many[0]["score"] == pairs[0]
    assert many[1]["score"] == pytest.approx(1)
    assert post(server, path, queries="a", documents=["c", "a"])["data"] == many


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("/v1/rerank", {"query": "a"}, "documents", "missing_required_parameter"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents", "invalid_value"),
        ("/v1/rerank", {"query": "a", "documents": ["b", 3]}, "documents[1]", "invalid_type"),
        ("/v1/rerank", {"query": "a", "documents": [""]}, "documents[0]", "empty_input"),
        ("/v1/rerank", {"query": "a", "documents": [{"image": "x"}]}, "documents[0].text", "invalid_type"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n", "integer_below_min_value"),
        ("/v1/score", {"text_1": "a"}, "text_2", "missing_required_parameter"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_1", "invalid_value"),
        ("/v1/score", {"text_1": "a", "queries": "b", "text_2": "c"}, "queries", "invalid_parameter_combination"),
        ("/v1/score", {"text_1": "a", "text_2": "word " * 9000}, "text_2[0]", "context_length_exceeded"),
    ],
)
def test_what_cannot_be_done(server, path, body, param, code):
    response = server.http.post(path, json={"model": "verbatim-demo"} | body)
    assert response.status_code == 400, response.text
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)
