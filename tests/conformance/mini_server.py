"""A small correct server of OpenAI's API, scripted, with faults that the header X-Fault selects (mini_faults.py).

It serves chat, completions, models, embeddings and responses from a model that is a hash (mini_model.py).
"""

import json
import socket
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from urllib.parse import unquote

import mini_messages
import mini_responses
from mini_checker import Checker, RefusedError
from mini_completion import Completion, embed
from mini_faults import Fault
from mini_protocol import Chat
from mini_writer import Writer

MODEL, KEY = "mini/hash-1", "sk-mini"
STARTED = 1_700_000_000
ROUTES = {
    "/v1/models": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/v1/responses/input_tokens": "POST",
}


class Handler(Writer):
    """Handles a connection."""

    def do_GET(self):  # noqa: N802
        self.answer()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_GET  # noqa: N815

    def answer(self):
        self.fault = Fault(unquote(self.headers.get("x-fault", "")))
        self.request_id = uuid.uuid4().hex
        try:
            self.route(self.read_body())
        except RefusedError as refusal:
            self.send_error_object(refusal.status, refusal.error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:
            self.send_error_object(500, {"message": repr(error), "type": "server_error", "param": None, "code": None})

    def read_body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            if "no chunked" in self.fault:
                self.close_connection = True
                raise RefusedError("Length required.", status=411)
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def route(self, raw: bytes):
        fault = self.fault
        path = self.path.partition("?")[0]
        if "closes after errors" in fault:
            self.close_connection = True
        if "resets large bodies" in fault and len(raw) > 500_000:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        if self.command == "OPTIONS":
            if "options 500" in fault:
                raise RuntimeError("options")
            self.send_bytes(204, b"", {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"})
            return
        if "body before key" in fault and self.command == "POST":
            self.parse(raw)
        self.check_key()
        if path.startswith("/v1/models/") and self.command in ("GET", "HEAD"):
            name = path.removeprefix("/v1/models/")
            if (name if "raw ids" in fault else unquote(name)) != MODEL and "any model" not in fault:
                raise RefusedError("The model does not exist.", None, "model_not_found", 404)
            self.send_json(fault.on_body(self.model()))
            return
        if path not in ROUTES:
            if "unknown url" in fault:
                self.send_bytes(404, b"not found", {"Content-Type": "text/plain"})
                return
            raise RefusedError("Unknown request URL.", None, "unknown_url", 404)
        if self.command not in (ROUTES[path], "HEAD"):
            status = 404 if "method 404" in fault else 405
            self.close_connection = True
            raise RefusedError("Wrong method.", None, "method_not_supported", status)
        if "head body" in fault and self.command == "HEAD":
            raise RuntimeError("HEAD")
        if path == "/v1/models":
            if "slow models" in fault:
                time.sleep(2.5)
            time_made = {"created": int(time.time() * 1000)} if "unstable models" in fault else {}
            body = {"object": "list", "data": [self.model() | time_made]}
            if "anthropic-version" in self.headers:
                page = {"id": MODEL, "type": "model", "display_name": MODEL, "created_at": "2026-01-01T00:00:00Z"}
                body = {"data": [page], "has_more": False, "first_id": MODEL, "last_id": MODEL}
            self.send_json(fault.on_body(body))
            return
        content_type = self.headers.get("content-type", "application/json")
        plain = content_type if "no charset" in fault else content_type.partition(";")[0].strip().lower()
        if plain != "application/json" and "any type" not in fault:
            raise RefusedError("Unsupported content type.", None, "unsupported_content_type")
        if "stainless" in fault and any(name.lower().startswith("x-stainless") for name in self.headers):
            raise RefusedError("Unknown header.")
        if "accept json only" in fault and "json" not in self.headers.get("accept", ""):
            raise RefusedError("Not acceptable.", status=406)
        self.serve(path, fault.on_request(self.parse(raw)))

    def parse(self, raw: bytes):
        def refuse(name):
            if "takes nan" not in self.fault:
                raise ValueError(name)
            raise RuntimeError(name)

        try:
            text = raw.decode("latin-1" if "any bytes" in self.fault or "latin bodies" in self.fault else "utf-8")
            body = json.loads(text, parse_constant=refuse)
            if "surrogates 500" in self.fault:
                json.dumps(body, ensure_ascii=False).encode()
            else:
                try:
                    json.dumps(body, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    raise ValueError("lone surrogate") from None
        except UnicodeEncodeError:
            raise RuntimeError("surrogate") from None
        except (ValueError, RecursionError):
            if "deep bodies 500" in self.fault and b"[[[[" in raw:
                raise RuntimeError("deep") from None
            if "takes broken json" in self.fault:
                return {"model": MODEL, "messages": [{"role": "user", "content": "?"}]}
            raise RefusedError("The body is not JSON.") from None
        if not isinstance(body, dict):
            if "takes any value" in self.fault:
                return {"model": MODEL, "messages": [{"role": "user", "content": "?"}]}
            raise RefusedError("The body must be an object.")
        return body

    def check_key(self):
        fault, given = self.fault, self.headers.get("authorization", "")
        if (key := self.headers.get("x-api-key")) and "no x-api-key" not in fault:
            given = f"Bearer {key}"
        is_models = self.path == "/v1/models"
        scheme, _, key = given.partition(" ")
        if "open" in fault or ("open models" in fault and is_models):
            return
        if "case of bearer" in fault and scheme != "Bearer":
            scheme = ""
        if scheme.lower() != "bearer":
            raise RefusedError("You didn't provide an API key.", None, None, 401)
        if key != KEY:
            raise RefusedError("Incorrect API key.", None, "invalid_api_key", 403 if "403" in fault else 401)

    def model(self) -> dict:
        return {"id": MODEL, "object": "model", "created": STARTED, "owned_by": "mini"}

    def serve(self, path: str, body: dict):
        fault = self.fault
        checker = Checker(body, fault)
        if "late" in fault and body.get("stream") is True:
            try:
                return self.serve_well(path, body, checker)
            except RefusedError as refusal:
                return self.send_stream([{"error": refusal.error}])
        return self.serve_well(path, body, checker)

    def serve_well(self, path: str, body: dict, checker: Checker):
        server, fault = self.server, self.fault
        with server.lock:
            server.num_running += 1
            server.is_busy = server.num_running > 1
        try:
            if "one at a time" in fault and server.num_running > 1:
                raise RuntimeError("busy")
            if "one at a time" in fault:
                time.sleep(0.1)
            if "429" in fault:
                raise RefusedError("Too many requests.", None, "rate_limit_exceeded", 429)
            if "errors spread" in fault and body.get("temperature") == -9:
                server.is_poisoned = time.monotonic()
            if "errors spread" in fault:
                time.sleep(0.1)
                if time.monotonic() - server.is_poisoned < 0.3:
                    raise RefusedError("the batch failed")
            if path == "/v1/embeddings":
                return self.send_json(fault.on_body(embed(checker, MODEL)))
            if path == "/v1/responses":
                return mini_responses.serve(self, checker)
            if path.startswith("/v1/messages"):
                return mini_messages.serve(self, checker)
            if path == "/v1/responses/input_tokens":
                return mini_responses.count(self, checker)
            answer = (Chat if path.endswith("chat/completions") else Completion)(checker, self)
            stream = body.get("stream")
            if stream is True or ("stream" in body and "stream key" in fault):
                chunks = fault.on_chunks(answer.chunks())
                self.send_stream(chunks, slowly=True)
            else:
                whole = answer.whole()
                self.wait(whole["usage"]["completion_tokens"])
                self.send_json(fault.on_body(whole))
        finally:
            with server.lock:
                server.num_running -= 1
                server.is_busy = server.num_running > 1

    def wait(self, num_tokens: int):
        """Delay long answers until the client disconnects; a server with the fault `no abort` computes on."""
        if "no abort" in self.fault:
            if num_tokens >= 200:
                self.server.busy_until = time.monotonic() + 3
            else:
                time.sleep(max(0, self.server.busy_until - time.monotonic()))
            return
        if num_tokens < 200:
            return
        self.connection.setblocking(False)
        try:
            for _ in range(40):
                time.sleep(0.02)
                try:
                    if self.connection.recv(1, socket.MSG_PEEK) == b"":
                        raise BrokenPipeError
                except BlockingIOError:
                    continue
        finally:
            self.connection.setblocking(True)


class MiniServer(ThreadingHTTPServer):
    """Listens on a free port; `with MiniServer() as server:` runs it in a thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.busy_until = threading.Lock(), 0.0
        self.num_running, self.is_busy, self.is_dead = 0, False, False
        self.is_poisoned = 0.0
        self.seen = []

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
