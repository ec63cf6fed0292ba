"""A small server with the shape of the Hugging Face hub's API, for HF_ENDPOINT: models are folders of a directory."""

import json
import threading
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


def commit_of(repository: str) -> str:
    """The only commit of a repository."""
    return sha1(repository.encode()).hexdigest()


def entry_of(file: Path) -> dict:
    """The file in a listing."""
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": sha1(file.read_bytes()).hexdigest()}


class HubHandler(BaseHTTPRequestHandler):
    """`/api/models/USER/REPO/revision/...` lists files, `/USER/REPO/resolve/.../FILE` has their contents."""

    protocol_version = "HTTP/1.1"
    directory: Path
    tokens: set  # those of requests
    paths: list

    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.tokens.add(self.headers.get("authorization"))
        self.paths.append(path)
        words = path.strip("/").split("/")
        repository = "/".join(words[2:4] if words[:2] == ["api", "models"] else words[:2])
        folder = self.directory / repository
        if not folder.is_dir():
            self.send(404, b"{}", {"x-error-code": "RepoNotFound", "x-error-message": "Repository not found"})
        elif words[0] == "api":
            files = sorted(file.name for file in folder.iterdir())
            info = {"id": repository, "sha": commit_of(repository), "siblings": [{"rfilename": name} for name in files]}
            if words[4:5] == ["tree"]:
                info = [entry_of(folder / name) for name in files]
            self.send(200, json.dumps(info).encode(), {"content-type": "application/json"})
        elif (file := folder / words[-1]).is_file():
            content = file.read_bytes()
            headers = {"etag": f'"{sha1(content).hexdigest()}"', "x-repo-commit": commit_of(repository)}
            self.send(200, content, headers)
        else:
            self.send(404, b"", {"x-error-code": "EntryNotFound"})

    def send(self, status: int, body: bytes, headers: dict):
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@contextmanager
def hub(directory: Path):
    """Serve the models of a directory; gives the URL and the handler, which records tokens and paths."""
    handler = type("Handler", (HubHandler,), {"directory": directory, "tokens": set(), "paths": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
