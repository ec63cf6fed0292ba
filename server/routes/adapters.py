"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them: only with `--enable-debug`.

An adapter belongs to the model that the field `model` names, or to the main one. While it is loaded the engine computes
nothing else. One that is unloaded answers the requests that it has to their end, and gets no others.
"""

import asyncio
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request, json

from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.server.api.lora import read_load, read_unload
from verbatim.server.routes.respond import read_body
from verbatim.server.settings.adapters import check_name, fetch_adapter, read_place


def adapter_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("lora")

    @blueprint.route("/v1/load_lora_adapter", methods=["POST"])
    async def load(request: Request) -> HTTPResponse:
        model, (name, path) = await read_body(request, read_load)
        models = request.app.ctx.models
        if problem := check_name(name):
            raise RequestError(f"lora_name {problem}", field="lora_name")
        if models.has(name):
            raise RequestError(f"lora_name {name!r} is the name of a model or of an adapter", field="lora_name")
        place = await asyncio.to_thread(_fetch, path)
        engine = request.app.ctx.engines[model.engine_id]
        warning = await engine.debug("load_lora_adapter", name=name, path=str(place))
        return json(models.find(name).describe() | ({"warning": warning} if warning else {}))

    @blueprint.route("/v1/unload_lora_adapter", methods=["POST"])
    async def unload(request: Request) -> HTTPResponse:
        model, name = await read_body(request, read_unload)
        await request.app.ctx.engines[model.engine_id].debug("unload_lora_adapter", name=name)
        return json({"id": name, "object": "model", "deleted": True})

    return blueprint


def _fetch(path: str) -> Path:
    try:
        return fetch_adapter(read_place(path))
    except ModelError as error:
        raise RequestError(str(error), field="lora_path") from None
