"""What programs ask before they ask for answers: /ping, /version, /load and /tokenizer_info, as vLLM answers them.

/load counts the sequences of all models: `server_load` is the sum of those that run and of those that wait.
/tokenizer_info has what `tokenizer_config.json` would say, as far as clients (lm-eval, for example) read it.
"""

from sanic import Blueprint, HTTPResponse, json

from verbatim.server.engine.identity import own_version
from verbatim.server.http.application import GET
from verbatim.server.models.served import ServedModel


def probe_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("probes")

    @blueprint.route("/ping", methods=GET)
    async def ping(request):
        for engine in request.app.ctx.engines.values():
            engine.check_connected()
        return HTTPResponse(status=200)

    @blueprint.route("/version", methods=GET)
    async def version(request):
        return json({"version": own_version()})

    @blueprint.route("/load", methods=GET)
    async def load(request):
        counts = [await engine.stats() for engine in request.app.ctx.engines.values()]
        running, waiting = (sum(count[name] for count in counts) for name in ("running", "waiting"))
        return json({"server_load": running + waiting, "running": running, "waiting": waiting})

    @blueprint.route("/tokenizer_info", methods=GET)
    async def tokenizer_info(request):
        models = request.app.ctx.models
        name = request.args.get("model")
        return json(describe_tokenizer(models.find(name) if name else models.main))

    return blueprint


def describe_tokenizer(model: ServedModel) -> dict:
    """The special tokens by their texts, the chat template, and sizes in tokens."""
    names = {token_id: name.decode() for token_id, name in model.tokenizer.control_names.items()}
    bos, eos = model.config.bos_id, next(iter(model.config.eos_ids), None)
    return {
        "tokenizer_class": type(model.tokenizer).__name__,
        "vocab_size": model.config.vocab_size,
        "model_max_length": model.config.context_size,
        "bos_token": None if bos is None else names.get(bos),
        "eos_token": None if eos is None else names.get(eos),
        "pad_token": None,
        "add_bos_token": bool(model.tokenizer.bos_ids),
        "chat_template": model.template.source if model.template else None,
    }
