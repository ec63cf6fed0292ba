"""GET /openapi.json and /docs: what this server does, for programs and for people; nothing comes from elsewhere."""

import gzip
import json
from functools import cache

from sanic import Blueprint, HTTPResponse, NotFound, Request, html, raw

from verbatim.server.api.policy import reading
from verbatim.server.docs.openapi import JSON, document
from verbatim.server.docs.page import POLICY, File, files, page
from verbatim.server.engine.identity import own_version
from verbatim.server.http.application import GET

FOR_A_YEAR = "private, max-age=31536000, immutable"


def docs_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("docs")

    @blueprint.route("/openapi.json", methods=GET)
    async def openapi(request):
        return send(
            request,
            description(request.app.ctx.models.main.model_id, request.app.ctx.options.unknown_fields),
            "no-cache",
        )

    @blueprint.route("/docs", methods=GET)
    async def docs(request):
        return html(page(), headers={"content-security-policy": POLICY, "cache-control": "no-cache"})

    @blueprint.route("/docs/<name:str>", methods=GET)
    async def docs_file(request, name):
        if (file := files().get(name)) is None:
            raise NotFound("There is no such file.")
        return send(request, file, FOR_A_YEAR)  # the page asks for it with its version

    return blueprint


@cache
def description(model_id: str, policy: str) -> File:
    """openapi.json, with examples for that model, and as bodies are read under that policy."""
    with reading(policy):
        text = json.dumps(document(own_version(), model_id), separators=(",", ":"), ensure_ascii=False)
    return File(gzip.compress(text.encode(), mtime=0), JSON)


def send(request: Request, file: File, cache_control: str) -> HTTPResponse:
    """A file as it is kept, or whole for a client that does not read gzip."""
    headers = {"cache-control": cache_control, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return raw(file.content, content_type=file.media_type, headers=headers | {"content-encoding": "gzip"})
    return raw(gzip.decompress(file.content), content_type=file.media_type, headers=headers)
