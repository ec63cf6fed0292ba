"""Errors of URLs, methods and media types, and of completions."""

from verbatim.conformance.case import (
    MUST,
    OBSERVED,
    SHOULD,
    case,
    equal,
    expect,
)
from verbatim.conformance.cases.errors import provoked
from verbatim.conformance.probe import CHAT, COMPLETIONS, Probe


@case(
    "errors.unknown_url",
    "A URL that does not exist is a 404 with an error object.",
    source=f"{OBSERVED}: unknown_url",
    level=SHOULD,
    fault="unknown url",
)
def unknown_url(probe: Probe) -> None:
    exchange = probe.send("POST", "/no-such-thing", {})
    probe.refused(exchange, statuses=(404,))
    expect(exchange.error(), "an error object", exchange.summary())


@case(
    "errors.wrong_method",
    "A wrong method is a 405 with an error object.",
    source="RFC 9110; ollama#5483",
    level=SHOULD,
    fault="method 404",
)
def wrong_method(probe: Probe) -> None:
    for method, path in (("GET", CHAT), ("PUT", "/models")):
        exchange = probe.send(method, path)
        probe.refused(exchange, statuses=(405,))
        expect(exchange.error(), "an error object", exchange.summary())


@case(
    "errors.unsupported_type",
    "A body whose Content-Type is not JSON is refused.",
    source=f"{OBSERVED}: 400; openai-openapi#502",
    level=SHOULD,
    fault="any type",
)
def unsupported_type(probe: Probe) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": media_type}
        probe.refused(probe.send("POST", CHAT, probe.chat_body(), headers=headers), statuses=(400, 415))


@case(
    "errors.completions_unknown_model",
    "Completions refuse an unknown model, too.",
    source=f"{OBSERVED}: 404",
    level=MUST,
    fault="accept The model",
    optional=True,
)
def completions_unknown_model(probe: Probe) -> None:
    probe.complete()
    probe.refused(probe.send("POST", COMPLETIONS, probe.text_body(model="no-such-model-" + probe.word())))


@case(
    "errors.alive_after",
    "After invalid requests valid ones are still answered.",
    source="robustness",
    level=MUST,
    fault="body -choices",
)
def alive_after(probe: Probe) -> None:
    provoked(probe)
    equal(len(probe.chat().choices), 1, "the number of choices")
