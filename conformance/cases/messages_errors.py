"""Anthropic's Messages: errors in Anthropic's form, keys in its header, and its page of models.

Every refusal has its positive control: a server that has no Messages passes none of these cases.
"""

from collections.abc import Mapping

from verbatim.conformance.answers import Whole
from verbatim.conformance.case import MAY, MUST, SHOULD, SkipError, case, equal, expect
from verbatim.conformance.cases.messages import API, CLAUDE, PATH, SDK, VERSION, ask, body, present
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import Probe

NONE: dict[str, str | None] = {}


def refused(probe: Probe, status: int, wanted: str, request: object, headers: Mapping[str, str | None] = NONE) -> None:
    """The request is refused with this status and type of error, by a server that answers a right one."""
    present(probe)
    exchange = probe.send("POST", PATH, request, headers=VERSION | dict(headers))
    probe.refused(exchange, statuses=(status,))
    in_form(exchange, wanted)


def in_form(exchange: Exchange, wanted: str) -> None:
    """An error as Anthropic's clients read it."""
    whole = Whole(exchange)
    equal(whole.at("type"), "error", "the type of the body")
    equal(whole.at("error.type"), wanted, "error.type")
    expect(whole.at("error.message", str), "a message", exchange.summary())


@case(
    "messages.max_tokens_required",
    "A request without max_tokens is a 400 in Anthropic's form.",
    source=API,
    level=SHOULD,
    fault="accept max_tokens",
)
def max_tokens_required(probe: Probe) -> None:
    refused(probe, 400, "invalid_request_error", body(probe, max_tokens=...))


@case(
    "messages.error_form",
    "A bad request is an error of type invalid_request_error with a message.",
    source=f"{API}, Errors; {SDK}",
    level=MUST,
    fault='error-body {"error":"bad"}',
)
def error_form(probe: Probe) -> None:
    refused(probe, 400, "invalid_request_error", body(probe, messages=[]))


@case(
    "messages.error_json",
    "A body that is no JSON is an error of type invalid_request_error.",
    source=f"{API}, Errors",
    level=MUST,
    fault="status 422",
)
def error_json(probe: Probe) -> None:
    refused(probe, 400, "invalid_request_error", b'{"model": ')


@case(
    "messages.error_model",
    "An unknown model is a 404 of type not_found_error.",
    source=f"{API}, Errors",
    level=MUST,
    fault="status 400",
)
def error_model(probe: Probe) -> None:
    refused(probe, 404, "not_found_error", body(probe, model="nobody-has-this-model"))


@case(
    "messages.key",
    "The key may come in the header x-api-key alone.",
    source=f"{API}; {SDK}",
    level=MUST,
    fault="no x-api-key",
    optional=False,
)
def key(probe: Probe) -> None:
    present(probe)
    headers = VERSION | {"Authorization": None, "x-api-key": probe.settings.api_key or "none"}
    probe.post(PATH, body(probe), headers=headers)


@case(
    "messages.key_wrong",
    "A wrong key in x-api-key is a 401 of type authentication_error.",
    source=f"{API}, Errors",
    level=MUST,
    fault="open",
)
def key_wrong(probe: Probe) -> None:
    if not probe.settings.auth_required:
        raise SkipError("a server that requires a key", "--auth-required declares that it does")
    wrong = {"Authorization": None, "x-api-key": "sk-wrong"}
    refused(probe, 401, "authentication_error", body(probe), wrong)


@case(
    "messages.models",
    "With the header anthropic-version, /models is a page of Anthropic's form.",
    source=f"{API}, List models; {CLAUDE}",
    level=MAY,
    fault="body -has_more",
    optional=True,
)
def models(probe: Probe) -> None:
    ask(probe, max_tokens=1)
    page = Whole(probe.accepted(probe.send("GET", "/models", headers=VERSION)))
    equal(page.at("data.0.type"), "model", "the type of a model")
    page.at("has_more", bool)
    equal(page.at("first_id"), page.at("data.0.id"), "first_id")
