"""POST /v1/embeddings."""

from contextlib import aclosing

from sanic import Blueprint, json

from verbatim.server.api.embeddings import read_embeddings
from verbatim.server.routes.respond import answering, read_body


def embedding_routes() -> Blueprint:
    """A fresh blueprint: Sanic ties each one to the app it joins."""
    blueprint = Blueprint("embeddings")

    @blueprint.post("/v1/embeddings")
    async def embeddings(request):
        model, answer = await read_body(request, read_embeddings)
        engine = request.app.ctx.engines[model.model_id]
        with answering(request, "input"):
            for wave in answer.waves(request.app.ctx.options.max_queue):
                async with aclosing(engine.generate(wave)) as outputs:
                    async for output in outputs:
                        answer.take(output)
            return json(answer.whole())

    return blueprint
