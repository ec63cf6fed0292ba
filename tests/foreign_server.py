"""A server of another make, for clients: refuses fields that it does not know, and sends control characters."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KNOWN = {"model", "messages", "stream", "temperature"}
KEY = "sk-foreign"


def chunk(delta: dict, finish_reason=None) -> dict:
    """A chunk without anything optional."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


ANSWERS = {  # message -> chunks; text without a final chunk breaks off
    "escape": [chunk({"content": "a\x1b[2J\x1b]0;title\x07b\x9bc\rd\u2028e"}), chunk({}, "stop")],
    "think": [chunk({"reasoning_content": "hm, "}), chunk({"content": "yes"}), chunk({}, "stop")],
    "break": [chunk({"content": "half of an"})],
    "error": [chunk({"content": "half"}), {"error": {"message": "out of \x1bmemory", "code": "server_error"}}],
}


class ForeignHandler(BaseHTTPRequestHandler):
    """Answers `GET /api/models` and `POST /api/chat/completions`; `bodies` are those of the requests."""

    bodies: list

    def do_GET(self):
        self.send(200, {"data": [{"id": "other"}, {"id": "vectors", "embeddings_only": True}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append(body)
        unknown = sorted(set(body) - KNOWN)
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.send(401, {"error": {"message": "wrong key"}})
        elif unknown:
            self.send(400, {"error": {"message": f"unrecognized fields: {', '.join(unknown)}"}})
        else:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for item in ANSWERS[body["messages"][-1]["content"]]:
                self.wfile.write(b"data: " + json.dumps(item, ensure_ascii=False).encode() + b"\r\n\r\n")

    def send(self, status: int, content: dict):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def foreign_server():
    """Run it; gives its base URL and the bodies that it gets."""
    handler = type("Handler", (ForeignHandler,), {"bodies": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api", handler.bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
