"""Output of the miniature server: whole bodies, error objects and event streams, each with its faults."""

import json
import time
from http.server import BaseHTTPRequestHandler

import mini_messages


class Writer(BaseHTTPRequestHandler):
    """Writes answers to a connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, *arguments):
        """Log nothing."""

    def send_bytes(self, status: int, data: bytes, headers: dict):
        self.send_response(status)
        headers = self.fault.on_headers({"x-request-id": self.request_id} | headers)
        if self.command != "HEAD" and status != 204:
            headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_json(self, value, status=200):
        data = json.dumps(value, ensure_ascii="escapes" in self.fault).encode("utf-8", "surrogatepass")
        if "bom" in self.fault:
            data = b"\xef\xbb\xbf" + data
        self.send_bytes(status, data, {"Content-Type": "application/json"})

    def send_error_object(self, status: int, error: dict):
        if "html errors" in self.fault:
            self.send_bytes(status, json.dumps({"error": error}).encode(), {"Content-Type": "text/html"})
            return
        if "dies on errors" in self.fault:
            self.server.is_dead = True
        status, body = self.fault.on_error(status, error)
        if self.path.startswith("/v1/messages") and isinstance(body, dict):
            body = mini_messages.shape(status, body)
        if isinstance(body, str):
            self.send_bytes(status, body.encode(), {"Content-Type": "application/json"})
        else:
            self.send_json(body, status)

    def send_stream(self, chunks, slowly=False, done=True, names=False):
        fault = self.fault
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        events = []
        for chunk in chunks:
            name = f"event: {chunk['type']}\n" if names and "no names" not in fault else ""
            events.append(f"{name}data: {json.dumps(chunk, ensure_ascii='escapes' in fault)}\n\n".encode())
        if done:
            events.append(b"data: [DONE]\n\n")
        events = [fault.on_wire(event) for event in events]
        if "one burst" in fault:
            time.sleep(0.01 * len(events))
            events = [b"".join(events)]
        self.send_response(200)
        for name, value in fault.on_headers(
            {"x-request-id": self.request_id, "Transfer-Encoding": "chunked"} | headers
        ).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.write_events(events, slowly)
        except OSError:
            if "no abort" in fault:
                self.server.busy_until = time.monotonic() + 3
            raise

    def write_events(self, events, slowly):
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            if slowly and len(events) > 24:
                time.sleep(0.004)
        self.wfile.write(b"0\r\n\r\n")
