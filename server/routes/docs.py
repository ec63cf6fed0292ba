"""GET /openapi.json and /docs: what this server does, for programs and for people; nothing comes from elsewhere."""

from sanic import Blueprint, html, json

from verbatim.server.api.policy import reading
from verbatim.server.docs.openapi import document
from verbatim.server.docs.page import render
from verbatim.server.models.identity import own_version
from verbatim.server.settings.options import Options

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def docs_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("docs")
    with reading(Options.from_environment().unknown_fields):
        content = document(own_version())
    page = render(content)

    @blueprint.get("/openapi.json")
    async def openapi(request):
        return json(content)

    @blueprint.get("/docs")
    async def docs(request):
        return html(page, headers={"content-security-policy": POLICY})

    return blueprint
