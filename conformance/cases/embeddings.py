"""Embeddings, where a server has them: order, encodings and forms of input."""

import base64
import math
import struct

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, FailError, case, dig, equal, expect
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import conforms

PATH = "/embeddings"


def embed(probe: Probe, value: object, **fields) -> Whole:
    """Embeddings of some input."""
    model = probe.settings.embedding_model or probe.settings.model
    return Whole(probe.post(PATH, {"model": model, "input": value} | fields))


def vectors(answer: Whole) -> list[list[float]]:
    """The vectors, by index."""
    items = sorted(answer.at("data", list), key=lambda item: dig(item, "index", int))
    return [dig(item, "embedding", list) for item in items]


def close(first: list[float], second: list[float]) -> bool:
    """Whether two vectors have the same direction, up to rounding."""
    dot = sum(x * y for x, y in zip(first, second, strict=False))
    size = math.sqrt(sum(x * x for x in first) * sum(y * y for y in second))
    return len(first) == len(second) and size > 0 and dot / size > 0.999


@case(
    "embeddings.schema",
    "The answer has the form that OpenAI describes.",
    source=f"{SPEC}: CreateEmbeddingResponse",
    level=MUST,
    fault="body -data.0.index",
    optional=True,
)
def schema(probe: Probe) -> None:
    conforms(embed(probe, "a lamp").body, "CreateEmbeddingResponse")


@case(
    "embeddings.numbers",
    "An embedding is numbers, not all zero.",
    source=SPEC,
    level=MUST,
    fault="body data.0.embedding=[0.0,0.0]",
    optional=True,
)
def numbers(probe: Probe) -> None:
    vector = vectors(embed(probe, "a lamp"))[0]
    is_finite = all(isinstance(x, float | int) and math.isfinite(x) for x in vector)
    expect(is_finite and any(vector), "finite numbers, not all zero", vector[:8])


@case(
    "embeddings.batch",
    "A batch has the embeddings of its inputs, in order.",
    source=SPEC,
    level=MUST,
    fault="reversed",
    optional=True,
)
def batch(probe: Probe) -> None:
    texts = ["a lamp", "the long river", "birds on a stone wall"]
    together = vectors(embed(probe, texts))
    equal(len(together), 3, "the number of embeddings")
    for text, vector in zip(texts, together, strict=True):
        expect(close(vector, vectors(embed(probe, text))[0]), f"the embedding of {text!r} in its place", "another one")


@case(
    "embeddings.base64",
    "base64 holds the same numbers as little-endian float32.",
    source="openai-python asks for it",
    level=MUST,
    fault="big endian",
    optional=True,
)
def base64_(probe: Probe) -> None:
    plain = vectors(embed(probe, "a lamp", encoding_format="float"))[0]
    data = embed(probe, "a lamp", encoding_format="base64").at("data.0.embedding", str)
    try:
        raw = base64.b64decode(data, validate=True)
        packed = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    except (ValueError, struct.error) as error:
        raise FailError("base64 of float32 values", f"{error}: {data[:60]}") from None
    expect(all(map(math.isfinite, packed)) and close(packed, plain), "the numbers of the plain embedding", packed[:4])


@case(
    "embeddings.token_ids",
    "Input may be token ids and lists of them.",
    source=f"{SPEC}; LangChain sends ids",
    level=SHOULD,
    fault="body data=[]",
    optional=True,
)
def token_ids(probe: Probe) -> None:
    equal(len(vectors(embed(probe, [65, 66, 67]))), 1, "the number of embeddings of a list of ids")
    equal(len(vectors(embed(probe, [[65, 66], [67]]))), 2, "the number of embeddings of two lists of ids")


@case(
    "embeddings.dimensions",
    "`dimensions` is kept, where it is accepted.",
    source=SPEC,
    level=MUST,
    fault="drop dimensions",
    optional=True,
)
def dimensions(probe: Probe) -> None:
    equal(len(vectors(embed(probe, "a lamp", dimensions=4))[0]), 4, "the number of dimensions")


@case("embeddings.empty", "Empty input is refused.", source=OBSERVED, level=MUST, fault="accept input", optional=True)
def empty(probe: Probe) -> None:
    embed(probe, "a lamp")
    value: str | list
    for value in ("", []):
        probe.refused(
            probe.send("POST", PATH, {"model": probe.settings.embedding_model or probe.settings.model, "input": value})
        )


@case(
    "embeddings.usage",
    "usage has prompt_tokens and total_tokens.",
    source=SPEC,
    level=MUST,
    fault="body -usage.prompt_tokens",
    optional=True,
)
def usage(probe: Probe) -> None:
    answer = embed(probe, "a lamp")
    expect(
        answer.usage("prompt_tokens") > 0 and answer.usage("total_tokens") > 0,
        "counts above 0",
        answer.body.get("usage"),
    )
