"""The list of models and a single model."""

import time
from urllib.parse import quote

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SPEC, FailError, SkipError, case, dig, equal, expect
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import Probe
from verbatim.conformance.schemas import conforms


def listed(probe: Probe) -> list[dict]:
    """The models of the list."""
    return [dig(item, "", dict) for item in probe.get("/models").at("data", list)]


def retrieve_model(probe: Probe) -> Exchange:
    """GET of the model under test, its id percent-encoded as the SDKs send it."""
    return probe.send("GET", "/models/" + quote(probe.settings.model, safe=""))


@case(
    "models.list_shape",
    "GET /models is a list of models with id, object, created and owned_by.",
    source=f"{SPEC}: ListModelsResponse",
    level=MUST,
    fault="body -data.0.owned_by",
)
def list_shape(probe: Probe) -> None:
    conforms(probe.get("/models").body, "ListModelsResponse")


@case(
    "models.contains_served",
    "The model that answers is in the list.",
    source="Open WebUI and others choose from it",
    level=MUST,
    fault='body data.0.id="another"',
)
def contains_served(probe: Probe) -> None:
    ids = [item.get("id") for item in listed(probe)]
    expect(probe.settings.model in ids, f"{probe.settings.model} is listed", ids)


@case(
    "models.ids_unique",
    "Ids in the list are not empty and are unique.",
    source=SPEC,
    level=MUST,
    fault='body data.0.id=""',
)
def ids_unique(probe: Probe) -> None:
    ids = [dig(item, "id", str) for item in listed(probe)]
    expect(all(ids) and len(set(ids)) == len(ids), "different ids, none empty", ids)


@case(
    "models.retrieve",
    "GET /models/{id} finds the model that the list shows, with a `/` in its id as %2F.",
    source=f"{SPEC}: Model; openai-python encodes the id",
    level=MUST,
    fault="raw ids",
)
def retrieve(probe: Probe) -> None:
    exchange = retrieve_model(probe)
    probe.accepted(exchange)
    body = exchange.json()
    conforms(body, "Model")
    equal(dig(body, "id", str), probe.settings.model, "the id")


@case(
    "models.retrieve_same",
    "GET /models/{id} equals the entry in the list.",
    source=SPEC,
    level=SHOULD,
    fault="body created=1600000000",
)
def retrieve_same(probe: Probe) -> None:
    single = dig(probe.accepted(retrieve_model(probe)).json(), "", dict)
    same = [item for item in listed(probe) if item.get("id") == single.get("id")]
    expect(same, "the list has this model", single)
    for key in ("created", "owned_by", "object"):
        equal(single.get(key), same[0].get(key), key)


@case(
    "models.retrieve_raw",
    "GET /models/{id} accepts the id with its `/` unescaped.",
    source="Hugging Face names; curl",
    level=SHOULD,
    fault='body id="x"',
)
def retrieve_raw(probe: Probe) -> None:
    model = probe.get("/models/" + quote(probe.settings.model, safe="/:"))
    equal(model.at("id", str), probe.settings.model, "the id")


@case("models.retrieve_unknown", "An unknown model is a 404.", source=OBSERVED, level=MUST, fault="any model")
def retrieve_unknown(probe: Probe) -> None:
    probe.refused(probe.send("GET", "/models/no-such-model-" + probe.word()), statuses=(404,))


@case(
    "models.retrieve_unknown_code",
    "The error for an unknown model has the code model_not_found.",
    source=OBSERVED,
    level=SHOULD,
    fault="error code=null",
)
def retrieve_unknown_code(probe: Probe) -> None:
    error = probe.refused(probe.send("GET", "/models/no-such-model-" + probe.word()), statuses=(404,))
    equal(error.get("code"), "model_not_found", "error.code")


@case(
    "models.created_sane",
    "`created` is a time in seconds, neither before 2015 nor in the future.",
    source=SPEC,
    level=SHOULD,
    fault="body data.0.created=0",
)
def created_sane(probe: Probe) -> None:
    for item in listed(probe):
        created = dig(item, "created", int)
        expect(1_420_000_000 < created < time.time() + 86400, "seconds between 2015 and now", created)


@case(
    "models.stable",
    "Two calls list the same models in the same order.",
    source="HTTP: GET is idempotent",
    level=MAY,
    fault="unstable models",
)
def stable(probe: Probe) -> None:
    first = listed(probe)
    time.sleep(0.01)
    second = listed(probe)
    expect(first == second, "the same list twice", second)


@case("models.head", "HEAD /models answers as GET, without a body.", source="RFC 9110", level=MAY, fault="head body")
def head(probe: Probe) -> None:
    exchange = probe.send("HEAD", "/models")
    if exchange.status in (404, 405, 501):
        raise SkipError("HEAD is optional for APIs", exchange.summary())
    if exchange.status is None or exchange.status >= 500 or exchange.body:
        raise FailError("status 200 without a body", exchange.summary())
