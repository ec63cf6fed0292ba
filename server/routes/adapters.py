"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them: only with `--enable-debug`.

An adapter belongs to the model that the field `model` names, or to the main one. While it is loaded the engine computes
nothing else. One that is unloaded answers the requests that it has to their end, and gets no others.
"""

import asyncio
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request, json

from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.server.api.fields import Object, required
from verbatim.server.api.policy import REFUSE, reading
from verbatim.server.api.tokens import MODEL
from verbatim.server.api.value_types import STRING
from verbatim.server.models.served import ServedModel
from verbatim.server.routes.respond import read_body
from verbatim.server.settings.adapters import check_name, fetch_adapter, read_place

NAME = required("lora_name", STRING, "The name for clients.", "sql")
LOAD = Object(MODEL, NAME, required("lora_path", STRING, "A directory, or HF://user/repo.", "adapters/sql"))
UNLOAD = Object(MODEL, NAME)


def adapter_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("lora")

    @blueprint.route("/v1/load_lora_adapter", methods=["POST"])
    async def load(request: Request) -> HTTPResponse:
        model, fields = await read_body(request, _reader(LOAD))
        name, models = fields["lora_name"], request.app.ctx.models
        if problem := check_name(name):
            raise RequestError(f"lora_name {problem}", field="lora_name")
        if models.has(name):
            raise RequestError(f"lora_name {name!r} is the name of a model or of an adapter", field="lora_name")
        place = await asyncio.to_thread(_fetch, fields["lora_path"])
        engine = request.app.ctx.engines[model.engine_id]
        await engine.debug("load_lora_adapter", name=name, path=str(place))
        return json(models.find(name).describe())

    @blueprint.route("/v1/unload_lora_adapter", methods=["POST"])
    async def unload(request: Request) -> HTTPResponse:
        model, fields = await read_body(request, _reader(UNLOAD))
        engine = request.app.ctx.engines[model.engine_id]
        await engine.debug("unload_lora_adapter", name=fields["lora_name"])
        return json({"id": fields["lora_name"], "object": "model", "deleted": True})

    return blueprint


def _fetch(path: str) -> Path:
    try:
        return fetch_adapter(read_place(path))
    except ModelError as error:
        raise RequestError(str(error), field="lora_path") from None


def _reader(wanted: Object):
    """What reads a body strictly, whatever the policy: a command must be meant."""

    def read(body: object, model: ServedModel) -> dict:
        with reading(REFUSE):
            fields = wanted.read(body)
            found = {name: fields[name] for name in ("lora_name", "lora_path") if wanted is LOAD or name == "lora_name"}
            fields.done()
        return found

    return read
