"""What an API is to the server and to the router: an object, which reads bodies, writes events and resumes streams.

Routes, the OpenAPI page and the router go over the adapters in registry.py and know no API by name. The router uses the
second half: which paths can be resumed, which kept response a request is about, and the rest of a stream that another
endpoint began. An API needs to override what differs from OpenAI's chunks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from verbatim.reference.records.errors import UnsupportedError
from verbatim.server.api.builder import Builder
from verbatim.server.api.chunk_resume import ChunkResumption
from verbatim.server.api.fields import Field, Object
from verbatim.server.http import sse
from verbatim.server.http.error_answers import describe
from verbatim.server.models.served import ServedModel


class Resumption(Protocol):
    """A stream that another endpoint continues. `renames` and `created` are pairs: a text, and what replaces it."""

    renames: tuple[tuple[bytes, bytes], ...]
    created: tuple[bytes, bytes] | None

    def take(self, raw: bytes) -> list[bytes]:
        """Of an event of the other endpoint, what the client does not have; DivergedError if it differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A path of an API beside its own. `handle` gives the JSON answer.

    It takes the path's id and the query; or, where the page has a `body`, that and the model that it names.
    """

    name: str
    method: str
    path: str  # with one {parameter}, or with none if there is a body
    summary: str
    answer: str  # its schema's name, or "" for a page that is always refused and so not described
    codes: tuple[str, ...]
    handle: Callable[..., dict]
    query: tuple[Field, ...] = ()
    body: Object | None = None
    examples: Mapping[str, dict] = field(default_factory=dict)  # of bodies, as an adapter has them


class Adapter:
    """One API: `POST path`."""

    name: ClassVar[str]
    path: ClassVar[str]
    summary: ClassVar[str]
    prompt_field: ClassVar[str]  # is at fault if the prompt is too long
    body: ClassVar[Object]
    examples: ClassVar[Mapping[str, dict]] = {}  # of bodies by a title, without the model, for people to try
    answer: ClassVar[str]  # its schema's name among `schemas`
    schemas: ClassVar[Mapping[str, dict]]
    error: ClassVar[str] = "Error"  # the schema's name of its errors
    pages: ClassVar[Sequence[Page]] = ()
    makes_text: ClassVar[bool] = True
    is_resumable: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    header: ClassVar[str | None] = None  # by which its clients are known at paths that belong to no API
    is_kept: ClassVar[bool] = False  # whether answers can be asked for later, by an id
    prefix: ClassVar[str | None] = None  # of paths whose errors have this API's form, though they are no API's
    media_type: ClassVar[str] = sse.MEDIA_TYPE  # of a stream
    heartbeat: ClassVar[bytes] = sse.COMMENT
    write = staticmethod(sse.event)  # an event of a stream as bytes
    end: ClassVar[bytes] = sse.DONE  # what a stream ends with, unless it ends in an error

    def read(self, body: object, model: ServedModel) -> Builder:
        """What builds the answer, with the engine's requests in it. RequestError for anything that cannot be done."""
        raise NotImplementedError

    def check_model(self, model: ServedModel) -> None:
        """Refuse a model that makes vectors where text is asked for."""
        if model.is_for_embeddings and self.makes_text:
            message = f"The model {model.model_id!r} is here for /v1/embeddings alone"
            raise UnsupportedError(message, field="model")

    def shape_error(self, body: dict) -> dict:
        """The body of an error, which comes as OpenAI writes it, in the form of this API."""
        return body

    # What follows is for the router.

    def has_seed(self, fields: Mapping[str, Any]) -> bool:
        """Whether a body alone determines its answer."""
        return fields.get("seed") is not None

    def with_seed(self, body: bytes, seed: int) -> bytes:
        """A body without a seed, with this one."""
        return body.rstrip()[:-1] + b',"seed":%d}' % seed  # of two seeds (one may be null) the last counts

    def kept_id(self, path: str, fields: Mapping[str, Any]) -> str | None:
        """The id of the kept response that a request is about."""
        return None

    def kept_path(self, response_id: str) -> str:
        """Where a kept response is asked for."""
        raise NotImplementedError

    def is_kept_itself(self, path: str) -> bool:
        """Whether the answer at that path is a kept response, and not another one that is about it."""
        return False

    def new_kept_id(self, value: Mapping[str, Any]) -> str | None:
        """The id under which an answer, known whole or by its first event, can be asked for later."""
        return None

    def resume(self, emitted: list[bytes]) -> Resumption:
        """What cuts another endpoint's stream down to what comes after the `emitted` events, at least one."""
        return ChunkResumption(emitted)

    def is_last(self, event: bytes) -> bool:
        """Whether a stream is complete with that event."""
        return event == self.end

    def error_of(self, event: bytes) -> dict | None:
        """The error that an event of a verbatim server reports."""
        if b'"error"' not in event:  # as nearly always; in a text the quotes would be escaped
            return None
        try:
            value = sse.read_event(event)
        except ValueError:
            return None
        error = value.get("error") if isinstance(value, dict) else None
        return error if isinstance(error, dict) else None

    def error_event(self, error: Exception, emitted: list[bytes]) -> bytes:
        """The event that ends a stream of which the client has `emitted`, where no endpoint can resume it."""
        return sse.event(describe(error)[1])
