"""POST /v1/responses, and what becomes of kept ones: GET and DELETE /v1/responses/{id}, GET .../input_items."""

import os
from functools import partial
from pathlib import Path

from sanic import Blueprint, json

from verbatim.reference.records.errors import RequestError, UnsupportedError
from verbatim.reference.records.request import require_integer
from verbatim.server.api.response_store import ResponseStore
from verbatim.server.api.responses import read_response
from verbatim.server.errors import ResponseNotFoundError
from verbatim.server.routes.respond import respond
from verbatim.server.settings.options import PLACE

MAX_LISTED = 100


def response_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("responses")

    @blueprint.post("/v1/responses")
    async def create(request):
        return await respond(request, partial(read_response, store=_store()), "input")

    @blueprint.get("/v1/responses/<response_id>")
    async def retrieve(request, response_id):
        if request.args.get("stream") == "true":
            raise UnsupportedError("stream is not supported by this server for a kept response", field="stream")
        return json(_record(response_id)["response"])

    @blueprint.delete("/v1/responses/<response_id>")
    async def delete(request, response_id):
        if not _store().delete(response_id):
            raise _missing(response_id)
        return json({"id": response_id, "object": "response", "deleted": True})

    @blueprint.get("/v1/responses/<response_id>/input_items")
    async def input_items(request, response_id):
        return json(_page(_record(response_id)["items"], request.args))

    return blueprint


def _store() -> ResponseStore:
    """All workers have the same: a directory beside the engines' sockets."""
    return ResponseStore(Path(os.environ[PLACE]) / "responses")


def _record(response_id: str) -> dict:
    record = _store().get(response_id)
    if record is None:
        raise _missing(response_id)
    return record


def _missing(response_id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(f"There is no response {response_id[:200]!r} here, or no longer.")


def _page(items: list[dict], arguments) -> dict:
    """One page of a list, the latest first unless `order` is asc; `after` is the id that the page begins behind."""
    text = arguments.get("limit", "20")
    require_integer("limit", int(text) if text.isascii() and text.isdigit() else text, 1, MAX_LISTED)
    order, after = arguments.get("order", "desc"), arguments.get("after")
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
