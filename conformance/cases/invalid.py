"""The invalid matrix: fields out of bounds or of the wrong type, whole and streamed, and the field the error names.

Each row of matrix.py makes three cases: it is refused (MUST), streamed it is refused before any event (MUST), and the
error's `param` names the field (SHOULD).
"""

from verbatim.conformance.case import MUST, OBSERVED, SHOULD, SPEC, FailError, case, shown
from verbatim.conformance.matrix import CHAT_ROWS
from verbatim.conformance.matrix_text import TEXT_ROWS
from verbatim.conformance.probe import CHAT, COMPLETIONS, Probe


def _requests(probe: Probe, path: str, row, stream: bool):
    make = probe.odd_chat if path == CHAT else probe.text_body
    for fields in row[1]():
        body = make(**fields)
        if stream:
            body["stream"] = True
        yield fields, probe.send("POST", path, body)


def _fault(name: str, row) -> str:
    return {"messages_missing": "accept messages"}.get(name, f"accept {row[2]}")


def _register(name: str, row, path: str) -> None:
    source = f"{SPEC}; {OBSERVED}: 400"
    title = row[0]

    @case(
        f"invalid.{name}",
        f"{title} is refused with a 4xx.",
        source=source,
        level=MUST,
        fault=_fault(name, row),
        optional=path != CHAT,
    )
    def refused(probe: Probe, row=row, path=path) -> None:
        for fields, exchange in _requests(probe, path, row, stream=False):
            _judge(probe, fields, exchange)

    @case(
        f"invalid.stream.{name}",
        f"{title} is refused before the stream begins.",
        source=f"{source}; sglang#12081",
        level=MUST,
        fault="late",
        optional=path != CHAT,
    )
    def refused_stream(probe: Probe, row=row, path=path) -> None:
        for fields, exchange in _requests(probe, path, row, stream=True):
            _judge(probe, fields, exchange)

    @case(
        f"invalid.param.{name}",
        f"{title}: error.param names the field ({row[2]}).",
        source=OBSERVED,
        level=SHOULD,
        fault="error param=null",
        optional=path != CHAT,
    )
    def names_the_field(probe: Probe, row=row, path=path) -> None:
        for _, exchange in _requests(probe, path, row, stream=False):
            if probe.refused(exchange):
                probe.refused(exchange, param=row[2])
            else:
                raise FailError(f"error.param names {row[2]}", exchange.summary())


def _judge(probe: Probe, fields: dict, exchange) -> None:
    if exchange.status in (404, 405, 501) and probe.case.is_optional:
        probe.accepted(exchange)
    try:
        probe.refused(exchange)
    except FailError as failure:
        fields_sent = {key: value if value is not ... else "(absent)" for key, value in fields.items()}
        raise FailError(f"{failure.expected}: {shown(fields_sent)}", failure.actual) from None


for _name, _row in CHAT_ROWS.items():
    _register(_name, _row, CHAT)
for _name, _row in TEXT_ROWS.items():
    _register(_name, _row, COMPLETIONS)
