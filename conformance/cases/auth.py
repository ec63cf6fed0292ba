"""Keys: a server that requires a key answers a wrong key with a 401 and an error object."""

from verbatim.conformance.case import MAY, MUST, OBSERVED, SHOULD, SkipError, case, equal, expect
from verbatim.conformance.exchange import Exchange
from verbatim.conformance.probe import CHAT, Probe

WRONG = {"Authorization": "Bearer sk-wrong"}


def with_key(probe: Probe, method: str, path: str, headers: dict, body=None) -> Exchange:
    """A request with another key; skipped where the server requires none."""
    exchange = probe.send(method, path, body, headers=headers)
    if exchange.status == 200 and not probe.settings.auth_required:
        raise SkipError("a server that requires a key", "it does not (--auth-required declares that it should)")
    return exchange


@case(
    "auth.wrong",
    "A wrong key is a 401 with an error object.",
    source=f"{OBSERVED}; continue#11409",
    level=MUST,
    fault="403",
)
def wrong(probe: Probe) -> None:
    exchange = with_key(probe, "POST", CHAT, WRONG, probe.chat_body(max_tokens=1))
    probe.refused(exchange, statuses=(401,))
    expect(exchange.error(), "an error object", exchange.summary())


@case(
    "auth.missing", "A request without a key is a 401 with an error object.", source=OBSERVED, level=MUST, fault="open"
)
def missing(probe: Probe) -> None:
    exchange = with_key(probe, "POST", CHAT, {"Authorization": None}, probe.chat_body(max_tokens=1))
    probe.refused(exchange, statuses=(401,))
    expect(exchange.error(), "an error object", exchange.summary())


@case(
    "auth.code",
    "A wrong key's error has the code invalid_api_key.",
    source=OBSERVED,
    level=SHOULD,
    fault="error code=null",
)
def code(probe: Probe) -> None:
    exchange = with_key(probe, "POST", CHAT, WRONG, probe.chat_body(max_tokens=1))
    equal(probe.refused(exchange, statuses=(401,)).get("code"), "invalid_api_key", "error.code")


@case(
    "auth.before_body",
    "The key is checked before the body.",
    source="security: a client without a key learns nothing",
    level=SHOULD,
    fault="body before key",
)
def before_body(probe: Probe) -> None:
    with_key(probe, "POST", CHAT, WRONG, probe.chat_body(max_tokens=1))
    probe.refused(probe.send("POST", CHAT, b'{"model": ', headers=WRONG), statuses=(401,))


@case("auth.models", "The list of models requires the key, too.", source="security", level=SHOULD, fault="open models")
def models(probe: Probe) -> None:
    probe.refused(with_key(probe, "GET", "/models", WRONG), statuses=(401,))


@case(
    "auth.scheme_case",
    "The scheme `bearer` is accepted like `Bearer`.",
    source="RFC 9110: schemes ignore case",
    level=MAY,
    fault="case of bearer",
)
def scheme_case(probe: Probe) -> None:
    if not probe.settings.api_key:
        raise SkipError("a key to send", "none is given")
    headers = {"Authorization": f"bearer {probe.settings.api_key}"}
    probe.post(CHAT, probe.chat_body(max_tokens=1), headers=headers)


@case(
    "auth.not_echoed",
    "A wrong key is not repeated in the error.",
    source="keys end up in logs",
    level=SHOULD,
    fault='error message="wrong: sk-wrong"',
)
def not_echoed(probe: Probe) -> None:
    exchange = with_key(probe, "POST", CHAT, WRONG, probe.chat_body(max_tokens=1))
    expect(b"sk-wrong" not in exchange.body, "an error without the key", exchange.summary())
