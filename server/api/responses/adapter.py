"""Responses as an API: named events, and responses that are kept and asked for later.

The store is a directory beside the engines' sockets, which all workers have in common.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import require_integer
from verbatim.server.api.adapter import Adapter, Page, Resumption
from verbatim.server.api.fields import Field, answer, required
from verbatim.server.api.responses.events import ItemBuilder
from verbatim.server.api.responses.items import REFERENCE, response_of_item
from verbatim.server.api.responses.request import BODY, EXAMPLES, count_tokens, read_response
from verbatim.server.api.responses.resume import EventResumption
from verbatim.server.api.responses.store import ResponseStore
from verbatim.server.api.value_types import (
    ANYTHING,
    BOOLEAN,
    NULLABLE_STRING,
    OBJECT,
    STRING,
    ValueType,
    array,
    integer,
    one_of,
)
from verbatim.server.errors import NotOfferedError, ResponseNotFoundError
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe
from verbatim.server.http.owner import current_owner
from verbatim.server.models.served import ServedModel
from verbatim.server.settings.options import PLACE

PATH = "/v1/responses"
MAX_LISTED = 100
FAILED = "response.failed"
MESSAGE = {
    "id": "msg_0123456789abcdef",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
}
ITEM = {"id": "msg_0123456789abcdef", "type": "message", "status": "completed", "role": "user", "content": []}
RESPONSE_ID = required("id", STRING, "The response's id, by which it can be asked for later.", "resp_0123456789abcdef")
OUTPUT = ValueType(ANYTHING.read, {"type": "array", "items": OBJECT.schema | {"required": ["type", "id", "status"]}})
RESPONSE = answer(
    RESPONSE_ID,
    required("object", one_of("response"), "The type of the answer."),
    required("created_at", integer(0), "When it was made, in seconds since 1970.", 1764460800),
    required("status", one_of("in_progress", "completed", "incomplete", "failed"), "How far it is.", "completed"),
    required("model", STRING, "The id of the model.", "verbatim-demo"),
    required("output", OUTPUT, "The items that were written: messages and calls of functions.", [MESSAGE]),
    required("usage", ANYTHING, "How many tokens it took.", {"input_tokens": 21, "output_tokens": 17}),
    required("error", ANYTHING, "What failed, or null.", {"code": "server_error", "message": "The engine failed."}),
    required("incomplete_details", ANYTHING, "Why it ended early, or null.", {"reason": "max_output_tokens"}),
)
DELETED = answer(
    RESPONSE_ID,
    required("object", one_of("response"), "The type of what was deleted."),
    required("deleted", BOOLEAN, "Always true.", True),
)
ITEMS = answer(
    required("object", one_of("list"), "The type of the answer."),
    required("data", array(OBJECT), "The items, at most `limit` of them.", [ITEM]),
    required("first_id", NULLABLE_STRING, "The id of the first of them.", "msg_0123456789abcdef"),
    required(
        "last_id", NULLABLE_STRING, "The id of the last of them: `after` for the next page.", "msg_fedcba9876543210"
    ),
    required("has_more", BOOLEAN, "Whether items follow.", False),
)
QUERY = (
    Field("limit", integer(1, MAX_LISTED), "At most so many items.", default=20),
    Field("order", one_of("asc", "desc"), "The oldest first, or the latest.", default="desc"),
    Field("after", STRING, "Begin behind the item of this id.", example="msg_fedcba9876543210"),
)
COUNTED = answer(
    required("object", one_of("response.input_tokens"), "The type of the answer."),
    required("input_tokens", integer(0), "How many tokens the prompt has.", 21),
)
SCHEMAS = {"Response": RESPONSE, "Deleted": DELETED, "Items": ITEMS, "ResponseTokens": COUNTED}


def retrieve(response_id: str, query: Mapping) -> dict:
    """A kept response."""
    if query.get("stream") == "true":
        raise UnsupportedError("stream is not supported by this server for a kept response", field="stream")
    return _record(response_id)["response"]


def delete(response_id: str, _query: Mapping) -> dict:
    """Keep a response no longer."""
    if not _store().delete(response_id):
        raise _missing(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


def list_items(response_id: str, query: Mapping) -> dict:
    """One page of the items that a kept response answers."""
    return page_of(_record(response_id)["items"], query)


def cancel(response_id: str, _query: Mapping) -> dict:
    """Refused: only work in the background can be cancelled, and a stream by closing its connection."""
    _record(response_id)
    raise UnsupportedError("Only a response with background true can be cancelled; this server has none.")


def count(body: object, model: ServedModel) -> dict:
    """The tokens of a response's prompt."""
    return count_tokens(body, model, store=_store())


def compact(_body: object, _model: ServedModel) -> dict:
    """Refused with 501: what other servers give is encrypted. Clients that get an error write a summary themselves."""
    raise NotOfferedError("This server does not compact conversations; ask the model for a summary instead.")


KEPT = PATH + "/{response_id}"
COUNT, COMPACT = f"{PATH}/input_tokens", f"{PATH}/compact"
READING = ("400", "401", "404", "408", "413")
PAGES = (
    Page(name="count", method="POST", path=COUNT, summary="The tokens of a response's prompt",
         answer="ResponseTokens", codes=READING, handle=count, body=BODY,
         examples={"A text": {"input": "Hello!"}}),
    Page(name="compact", method="POST", path=COMPACT, summary="Not offered", answer="",
         codes=(*READING, "501"), handle=compact, body=BODY),
    Page(name="cancel", method="POST", path=f"{KEPT}/cancel", summary="Not offered", answer="",
         codes=("400", "401", "404"), handle=cancel),
    Page(name="retrieve", method="GET", path=KEPT, summary="A kept response", answer="Response",
         codes=("400", "401", "404"), handle=retrieve),
    Page(name="delete", method="DELETE", path=KEPT, summary="Delete a kept response", answer="Deleted",
         codes=("401", "404"), handle=delete),
    Page(name="input_items", method="GET", path=f"{KEPT}/input_items", summary="What a response answers",
         answer="Items", codes=("400", "401", "404"), handle=list_items, query=QUERY),
)  # fmt: skip


class ResponseAdapter(Adapter):
    """Responses."""

    name, path, prompt_field = "responses", PATH, "input"
    summary = "Answer as items"
    body, examples = BODY, EXAMPLES
    answer, schemas, pages = "Response", SCHEMAS, PAGES
    is_kept = True
    write = staticmethod(sse.named_event)

    def read(self, body: object, model: ServedModel) -> ItemBuilder:
        """The builder of a response."""
        return read_response(body, model, store=_store())

    def kept_id(self, path: str, fields: Mapping[str, Any]) -> str | None:
        """Of the path, or that of the response that the conversation continues from or refers to."""
        if path not in (PATH, COUNT, COMPACT):
            return path.split("/")[3] or None
        name = fields.get("previous_response_id")
        return name if isinstance(name, str) and name else _first_reference(fields.get("input"))

    def kept_path(self, response_id: str) -> str:
        """Where a kept response is asked for."""
        return f"{PATH}/{response_id}"

    def is_kept_itself(self, path: str) -> bool:
        """Any path but those of new ones."""
        return path not in (PATH, COUNT, COMPACT)

    def new_kept_id(self, value: Mapping[str, Any]) -> str | None:
        """Of a whole response, or of the event that is the first to show one."""
        return value.get("response", value).get("id")

    def resume(self, emitted: list[bytes]) -> Resumption:
        """Events, with the ids and the numbers of the first stream."""
        return EventResumption(emitted)

    def error_of(self, event: bytes) -> dict | None:
        """The error of a response that has failed; such a stream has no other end."""
        if FAILED.encode() not in event:
            return super().error_of(event)
        value = sse.read_event(event)
        return value["response"]["error"] if value.get("type") == FAILED else None

    def error_event(self, error: Exception, emitted: list[bytes]) -> bytes:
        """An event of type error, numbered after the last."""
        body = describe(error)[1]
        number = sse.read_event(emitted[-1])["sequence_number"] + 1 if emitted else 0
        facts = {name: body["error"][name] for name in ("code", "message", "param")}  # OpenAI has them here,
        return sse.named_event({"type": "error", "sequence_number": number} | facts | body)  # Open Responses in `error`


def _first_reference(items: object) -> str | None:
    """The id of the response that the first reference among items is about."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") == REFERENCE and isinstance(item.get("id"), str):
            return response_of_item(item["id"])
    return None


def _store() -> ResponseStore:
    """Those of the key that asks: another's are none."""
    return ResponseStore(Path(os.environ[PLACE]) / "responses" / (current_owner() or "all"))


def _record(response_id: str) -> dict:
    record = _store().get(response_id)
    if record is None:
        raise _missing(response_id)
    return record


def _missing(response_id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(f"There is no response {response_id[:200]!r} here, or no longer.")


def page_of(items: list[dict], query: Mapping) -> dict:
    """One page of a list, the latest first unless `order` is asc; `after` is the id that the page begins behind."""
    text = query.get("limit", "20")
    require_integer("limit", int(text) if text.isascii() and text.isdigit() else text, 1, MAX_LISTED)
    order, after = query.get("order", "desc"), query.get("after")
    if order not in ("asc", "desc"):
        raise RequestError("order must be one of asc, desc", field="order", code="invalid_value")
    items = items if order == "asc" else items[::-1]
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise RequestError("after must be the id of an item of this list", field="after", code="invalid_value")
    start = 0 if after is None else ids.index(after) + 1
    page = items[start : start + int(text)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(items),
    }
