"""The APIs of this server, one line each: routes, the OpenAPI page and the router know no others."""

from collections.abc import Mapping

from verbatim.server.api.adapter import Adapter
from verbatim.server.api.anthropic.adapter import MessageAdapter
from verbatim.server.api.chat.request import ChatAdapter
from verbatim.server.api.completions.request import CompletionAdapter
from verbatim.server.api.embeddings import EmbeddingAdapter
from verbatim.server.api.responses.adapter import ResponseAdapter

ADAPTERS: tuple[Adapter, ...] = (
    ChatAdapter(),
    CompletionAdapter(),
    ResponseAdapter(),
    EmbeddingAdapter(),
    MessageAdapter(),
)


def shape_error(path: str, headers: Mapping[str, str], body: dict) -> dict:
    """The body of an error, which comes as OpenAI writes it, in the form of the API that the request belongs to."""
    adapter = adapter_of(path) or next((each for each in ADAPTERS if each.header and each.header in headers), None)
    return adapter.shape_error(body) if adapter else body


def adapter_of(path: str) -> Adapter | None:
    """The API that a path belongs to, its own or one below it."""
    return next((each for each in ADAPTERS if path == each.path or path.startswith(each.path + "/")), None)
