"""HTTP/1.0, which some probes and proxies still speak: no chunks, the answer ends with the connection."""

import json
import socket

import pytest

from live_server import chat_body


def ask(server, *, stream: bool, headers: str = "") -> tuple[str, bytes]:
    """Head and body of all that comes until the server closes the connection."""
    body = json.dumps(chat_body(stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\n{headers}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    head, _, content = received.partition(b"\r\n\r\n")
    return head.decode().lower(), content


@pytest.mark.parametrize("headers", ["", "Connection: keep-alive\r\n"])
def test_a_stream_has_no_chunks(server, headers):
    head, content = ask(server, stream=True, headers=headers)
    assert "connection: close" in head and "transfer-encoding" not in head and "content-length" not in head
    events = content.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""] and all(event.startswith("data: ") for event in events[:-1])
    text = "".join(json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events[:-2])
    assert text == server.chat().json()["choices"][0]["message"]["content"]


def test_a_whole_answer_has_its_length(server):
    head, content = ask(server, stream=False)
    assert "connection: close" in head and f"content-length: {len(content)}" in head
    assert json.loads(content)["choices"][0]["finish_reason"] == "length"
