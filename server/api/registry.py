"""The APIs of this server, one line each: routes, the OpenAPI page and the router know no others."""

from collections.abc import Mapping

from verbatim.server.api.adapter import Adapter
from verbatim.server.api.anthropic.adapter import MessageAdapter
from verbatim.server.api.chat.request import ChatAdapter
from verbatim.server.api.completions.request import CompletionAdapter
from verbatim.server.api.embeddings import EmbeddingAdapter
from verbatim.server.api.infill import InfillAdapter
from verbatim.server.api.ollama.adapters import (
    OllamaChatAdapter,
    OllamaEmbedAdapter,
    OllamaEmbeddingAdapter,
    OllamaGenerateAdapter,
)
from verbatim.server.api.rerank import PlainRerankAdapter, PlainScoreAdapter, RerankAdapter, ScoreAdapter
from verbatim.server.api.responses.adapter import ResponseAdapter
from verbatim.server.api.verify import VerifyAdapter

ADAPTERS: tuple[Adapter, ...] = (
    ChatAdapter(),
    CompletionAdapter(),
    ResponseAdapter(),
    EmbeddingAdapter(),
    MessageAdapter(),
    RerankAdapter(),
    PlainRerankAdapter(),
    ScoreAdapter(),
    PlainScoreAdapter(),
    InfillAdapter(),
    OllamaChatAdapter(),
    OllamaGenerateAdapter(),
    OllamaEmbedAdapter(),
    OllamaEmbeddingAdapter(),
    VerifyAdapter(),
)


def shape_error(path: str, headers: Mapping[str, str], body: dict) -> dict:
    """The body of an error, which comes as OpenAI writes it, in the form of the API that the request belongs to."""
    adapter = adapter_of(path) or next((each for each in ADAPTERS if _owns(each, path, headers)), None)
    return adapter.shape_error(body) if adapter else body


def _owns(adapter: Adapter, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a request that belongs to no API comes from clients of this one."""
    has_header = adapter.header is not None and adapter.header in headers
    return has_header or (adapter.prefix is not None and path.startswith(adapter.prefix))


def adapter_of(path: str) -> Adapter | None:
    """The API that a path belongs to, its own or one below it."""
    return next((each for each in ADAPTERS if path == each.path or path.startswith(each.path + "/")), None)
