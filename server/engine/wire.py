"""What the HTTP workers and the engine process say to each other: one JSON object a line, over a unix socket.

    worker -> engine    {"add": [request, ...]}    all of them or none, perhaps with "limits" of their owner's key;
                        {"abort": [id, ...]}; {"stats": null}; {"debug": command, "with": arguments}
    engine -> worker    {"outputs": [output, ...]} at most one frame a step; {"refused": error, "ids": [id, ...]};
                        {"stats": counts}; {"debugged": {"result": any} or {"refused": error}};
                        {"facts": what is loaded, "adapters": [{name, path, key}, ...]} first; the adapters again
                        whenever they change

A float survives exactly, since `repr` and back is the identity. Fields that hold their default are left out. An output,
of which there is one for every token, is the list of its fields in their order, up to the last that is no default.
"""

import json
from dataclasses import MISSING, fields
from typing import Any

import orjson

from verbatim.reference.records.errors import (
    ContextLengthError,
    QueueFullError,
    RequestError,
    UnsupportedError,
    VerbatimError,
)
from verbatim.reference.records.grammar_text import Grammar, GrammarSyntax
from verbatim.reference.records.request import (
    Candidate,
    FinishReason,
    Output,
    Request,
    SamplingParams,
    StoppingParams,
    TokenLogprob,
)
from verbatim.reference.records.thinking import Ending, Thinking

ERRORS = {error.__name__: error for error in (RequestError, ContextLengthError, UnsupportedError, QueueFullError)}

DEFAULTS = [Output._field_defaults.get(name) for name in Output._fields]
LOGPROBS = ("logprobs", "prompt_logprobs")  # the fields of an Output that hold them
TOKEN_IDS, FINISH_REASON, EMBEDDING, TOKEN_LOGPROBS, *LOGPROBS_AT = map(
    Output._fields.index, ("token_ids", "finish_reason", "embedding", "token_logprobs", *LOGPROBS)
)


def encode(message: dict) -> bytes:
    """One frame: a line of JSON."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes | bytearray) -> dict:
    """The message of one frame."""
    return json.loads(line)


def decode_answer(line: bytes) -> dict:
    """The same for a frame of the engine's, faster; what a client sends may hold integers that orjson has not."""
    try:
        return orjson.loads(line)
    except ValueError:  # it has no infinity either, which a log-probability may be
        return json.loads(line)


def plain(record) -> dict:
    """The fields of a record that do not hold their default."""
    values = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if field.default is MISSING or value != field.default:
            values[field.name] = value
    return values


def request_to_json(request: Request) -> dict:
    """A request as JSON can hold it."""
    nested = {"sampling": plain(request.sampling), "stopping": plain(request.stopping)}
    nested["sampling"]["logit_bias"] = list(request.sampling.logit_bias.items())
    if request.grammar:
        nested["grammar"] = plain(request.grammar)
        nested["grammar"]["kind"] = nested["grammar"].pop("syntax")
    if request.thinking:
        nested["thinking"] = plain(request.thinking)
    return plain(request) | nested


def request_from_json(value: dict) -> Request:
    """The request that `request_to_json` was given, checked again by its own rules."""
    sampling = value["sampling"] | {"logit_bias": dict(map(tuple, value["sampling"]["logit_bias"]))}
    stopping: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in value["stopping"].items()
    }
    records: dict[str, Any] = {"sampling": SamplingParams(**sampling), "stopping": StoppingParams(**stopping)}
    if "grammar" in value:
        grammar = dict(value["grammar"])
        records["grammar"] = Grammar(syntax=GrammarSyntax(grammar.pop("kind")), **grammar)
    if "thinking" in value:
        endings = tuple(Ending(*ending) for ending in value["thinking"]["endings"])
        records["thinking"] = Thinking(**value["thinking"] | {"endings": endings})
    ids = {name: tuple(value.get(name, ())) for name in ("prompt_ids", "visible_ids")}
    drafts = tuple(map(tuple, value.get("draft_answers", ())))
    return Request(**value | records | ids | {"draft_answers": drafts})


def output_to_json(output: Output) -> list:
    """An output as JSON can hold it; bytes travel as Latin-1 text, one character a byte."""
    values: list[Any] = list(output)
    while values[-1] == DEFAULTS[len(values) - 1]:
        values.pop()
    for at in LOGPROBS_AT:
        if at < len(values):
            values[at] = [
                [[item.token_id, item.token.decode("latin-1"), item.logprob] for item in (entry.chosen, *entry.top)]
                for entry in values[at]
            ]
    return values


def output_from_json(values: list) -> Output:
    """The output that `output_to_json` was given. It happens for every token: the list is not copied but used up."""
    num_given = len(values)
    values += DEFAULTS[num_given:]
    values[TOKEN_IDS] = tuple(values[TOKEN_IDS])
    if num_given > FINISH_REASON:
        values[FINISH_REASON] = values[FINISH_REASON] and FinishReason(values[FINISH_REASON])
        values[EMBEDDING] = tuple(values[EMBEDDING])
        values[TOKEN_LOGPROBS] = tuple(values[TOKEN_LOGPROBS])
        for at in LOGPROBS_AT:
            values[at] = tuple([_token_logprob(entry) for entry in values[at]])
    return tuple.__new__(Output, values)  # as _make does, which checks the number too


def _token_logprob(entry: list) -> TokenLogprob:
    chosen, *top = (Candidate(token_id=i, token=t.encode("latin-1"), logprob=p) for i, t, p in entry)
    return TokenLogprob(chosen=chosen, top=tuple(top))


def error_to_json(error: VerbatimError) -> dict:
    """An error that an engine raised on `add`."""
    name = next((name for name in map(_name, type(error).__mro__) if name in ERRORS), "RequestError")
    names = {"field": error.field, "code": error.code} if isinstance(error, RequestError) else {}
    return {"kind": name, "message": str(error), **names}


def error_from_json(value: dict) -> VerbatimError:
    """The same error, to be raised on the other side."""
    names = {name: value[name] for name in ("field", "code") if name in value}
    return ERRORS[value["kind"]](value["message"], **names)


def _name(error: type) -> str:
    return error.__name__
