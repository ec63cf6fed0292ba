"""A client of any OpenAI-compatible server: it lists models and streams answers; it knows nothing of terminals.

A request also asks for log-probabilities and for usage, which not every server offers: a server that refuses them by
name gets its requests without them from then on.
"""

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from verbatim.cli.chat.continuing import chat_chunk, completion_body
from verbatim.reference.records.errors import VerbatimError

NUM_CANDIDATES = 5
USAGE = {"stream_options": {"include_usage": True}}
EXTRAS: dict[str, dict[str, dict[str, Any]]] = {  # by the word that a refusal would contain
    "chat/completions": {"logprobs": {"logprobs": True, "top_logprobs": NUM_CANDIDATES}, "stream_options": USAGE},
    "completions": {"logprobs": {"logprobs": NUM_CANDIDATES}, "stream_options": USAGE},
}
NO_TEMPLATE = "chat template"  # in the refusals of servers
CONNECT_SECONDS, LIST_SECONDS = 10, 30
REFUSALS = (400, 422)
SHOWN_CHARACTERS = 500  # of an error that is not in OpenAI's form


class ServerError(VerbatimError):
    """A server that refuses a request, breaks off an answer, or cannot be reached; `code` is OpenAI's, if any."""

    def __init__(self, message: str, *, code: str | None = None):
        super().__init__(message)
        self.code = code


class Client:
    """A server at `base_url` (with /v1, which is added where a URL has no path), with its key if it wants one.

    A server of this machine, which is described by `place`, is reached without the proxies of the environment.
    """

    def __init__(self, base_url: str, api_key: str | None = None, *, place: str | None = None):
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ServerError(f"--base-url: {base_url!r} is no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ServerError(f"--base-url: {base_url!r} must be a URL like http://127.0.0.1:8000/v1")
        self.base_url = base_url.rstrip("/") + ("/v1" if url.path == "/" else "")
        self.place = place or base_url
        self.continues_text = False
        self._refused: set[str] = set()
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=place is None,
            follow_redirects=True,
        )

    def close(self) -> None:
        """End all connections."""
        self._http.close()

    def models(self) -> list[str]:
        """The ids of the server's models that can chat; ServerError if it has none."""
        with self._errors():
            response = self._http.get(f"{self.base_url}/models", timeout=LIST_SECONDS)
            _check(response)
            body = _json(response.content)
        entries = body.get("data") if isinstance(body, dict) else None
        entries = [entry for entry in entries or () if isinstance(entry, dict) and not entry.get("embeddings_only")]
        ids = [entry["id"] for entry in entries if isinstance(entry.get("id"), str)]
        if not ids:
            raise ServerError(f"{self.base_url}/models lists no model: is it the URL of an OpenAI-compatible API?")
        return ids

    def stream(self, body: dict) -> Generator[dict, None, None]:
        """The chunks of a chat completion as they come. ServerError if it is refused or ends too early.

        A model without a chat template continues the text of the last message (`continues_text`).
        """
        if not self.continues_text:
            try:
                yield from self._chunks("chat/completions", body)
                return
            except ServerError as error:
                if NO_TEMPLATE not in str(error):
                    raise
                self.continues_text = True
        yield from map(chat_chunk, self._chunks("completions", completion_body(body)))

    def _chunks(self, path: str, body: dict) -> Iterator[dict]:
        """The chunks up to the last, which says why the answer has ended."""
        is_finished = False
        for chunk in self._all_chunks(path, body):
            is_finished = is_finished or any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
            yield chunk
        if not is_finished:
            raise ServerError("the connection ended before the answer did")

    def _all_chunks(self, path: str, body: dict) -> Iterator[dict]:
        """Chunks up to the end of the stream, without the extras that the server refuses."""
        while True:
            extras = [extra for word, extra in EXTRAS[path].items() if word not in self._refused]
            whole = {name: value for extra in extras for name, value in extra.items()} | body | {"stream": True}
            with self._errors(), self._http.stream("POST", f"{self.base_url}/{path}", json=whole) as response:
                if response.status_code in REFUSALS:
                    response.read()
                    refused = [word for word in EXTRAS[path] if word in response.text and word not in self._refused]
                    if refused:
                        self._refused.add(refused[0])
                        continue
                _check(response)
                yield from _read_chunks(response)
                return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the transport raises into a ServerError."""
        try:
            yield
        except httpx.ConnectError as error:
            raise ServerError(f"no server answers at {self.base_url}: {error}") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise ServerError(f"{self.base_url}: {str(error) or type(error).__name__}") from None


def _read_chunks(response: httpx.Response) -> Iterator[dict]:
    """The chunks of a response; a server that does not stream gives a single one, the whole answer."""
    if response.headers.get("content-type", "").startswith("application/json"):
        yield _chunk(response.read().decode(errors="replace"))
        return
    for data in events(response.iter_bytes()):
        if data.strip() == "[DONE]":
            return
        yield _chunk(data)


def events(blocks: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event, as soon as the event is complete."""
    rest, data = b"", []
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode(errors="replace")
            if text.startswith("data:"):
                data.append(text.removeprefix("data:").removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []


def _chunk(data: str) -> dict:
    """A chunk, or the ServerError that it reports."""
    chunk = _json(data)
    if not isinstance(chunk, dict):
        raise ServerError(f"the server sent {data[:SHOWN_CHARACTERS]!r}, which is no chunk of an answer")
    if chunk.get("error"):
        raise _error(chunk["error"])
    return chunk


def _check(response: httpx.Response) -> None:
    """ServerError with the server's own words if it refused the request."""
    if response.is_success:
        return
    response.read()
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("error"):
        raise _error(body["error"])
    text = " ".join(response.text.split())[:SHOWN_CHARACTERS]
    raise ServerError(f"{response.request.url} answered {response.status_code} {response.reason_phrase}: {text}")


def _error(error: Any) -> ServerError:
    """The error that OpenAI's object, or anything in its place, stands for."""
    if not isinstance(error, dict):
        return ServerError(str(error))
    code = error.get("code")
    return ServerError(str(error.get("message") or error), code=code if isinstance(code, str) else None)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ServerError(f"the server sent {text[:SHOWN_CHARACTERS]!r}, which is not JSON") from None
