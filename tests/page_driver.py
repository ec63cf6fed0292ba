"""The page as a person uses it, and a player: a server that sends the page a recorded stream."""

import codecs
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verbatim.server.routes.page import PAGE, policy_of

IS_IDLE = "document.querySelector('[aria-label=Send]') !== null"
ANSWER = ".turn.assistant"


def open_page(page, url: str, model: str = "verbatim-demo"):
    """A fresh page of a server, once it knows the models."""
    page.resize(1200, 800)
    page.open(f"{url}/")
    page.wait(f"document.querySelector('#model')?.value === {json.dumps(model)}", 20)


def send(page, text: str) -> str:
    """Type a message, press Enter, wait for the end of the answer; what can be read of it."""
    number = len(page.texts(ANSWER))
    page.write("#prompt", text)
    page.press("Enter")
    page.wait(f"document.querySelectorAll('{ANSWER} > footer').length > {number} && {IS_IDLE}", 30)
    return answers(page)[number]


def answers(page) -> list[str]:
    """What can be read of each answer, without the buttons and the numbers below it."""
    return page.run(f"""[...document.querySelectorAll('{ANSWER}')].map((turn) =>
        (turn.querySelector('.rich:not(.thinking *), .plain, .tokens')?.innerText ?? ''))""")


def questions(page) -> list[str]:
    return page.texts(".turn.user .bubble")


def sent(page, path: str = "/v1/chat/completions") -> list[dict]:
    """The bodies of the requests to a path."""
    return [json.loads(request["postData"]) for request in page.requests if request["url"].endswith(path)]


def setting(page, name: str, value: object):
    """Set a field of the settings' panel."""
    if not page.run("document.querySelector('.settings') !== null"):
        page.click("[aria-label=Settings]")
    page.write(f"#{name}", str(value))


def action(page, number: int, label: str):
    """Click a button below a turn."""
    selector = f".turn:nth-of-type({number + 1}) [aria-label^={json.dumps(label)}]"
    page.click(selector)


def pieces(text: str, size: int = 3) -> list[dict]:
    """A stream's choices for a text whose tokens are `size` bytes long, so that characters lie in several tokens."""
    data, found, decoder = text.encode(), [], codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), size):
        token = data[start : start + size]
        entry = {"token": token.decode(errors="replace"), "logprob": -0.5, "bytes": list(token)}
        logprobs = {"content": [entry | {"top_logprobs": [entry]}]}
        found.append({"delta": {"content": decoder.decode(token)}, "logprobs": logprobs})
    return [*found, {"delta": {}, "finish_reason": "stop"}]


class Player:
    """What the page's server answers: `choices` as a stream, which `gate` holds back until it is set."""

    def __init__(self):
        self.choices: list[dict] = []
        self.gate = threading.Event()
        self.gate.set()
        self.breaks_off = False
        self.delay = 0.0  # seconds before each event
        self.url = ""

    def play(self, text: str, size: int = 3):
        self.choices = pieces(text, size)

    def events(self):
        for choice in self.choices:
            yield {"choices": [{"index": 0, "finish_reason": None, "logprobs": None} | choice]}
        drafts = {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 1}
        usage = {"prompt_tokens": 5, "completion_tokens": max(1, len(self.choices) - 1)}
        yield {"choices": [], "usage": usage | {"completion_tokens_details": drafts}}


def _handler(player: Player):
    page = PAGE.read_text(encoding="utf-8")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, data: bytes, media_type: str, **headers: str):
            self.send_response(200)
            for name, value in {"content-type": media_type, "content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path == "/":
                self.answer(page.encode(), "text/html; charset=utf-8", **{"content-security-policy": policy_of(page)})
            else:
                self.answer(b'{"data": [{"id": "player"}]}', "application/json")

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/tokenize":
                return self.answer(b'{"tokens": [1], "token_strs": ["a"]}', "application/json")
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            player.gate.wait(20)
            try:
                for event in player.events():
                    time.sleep(player.delay)
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                if not player.breaks_off:
                    self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                pass  # the page has stopped reading

    return Handler


@contextmanager
def playing():
    """A running player."""
    player = Player()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(player))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    player.url = f"http://127.0.0.1:{server.server_port}"

    def close():
        server.shutdown()
        server.server_close()

    player.close = close
    try:
        yield player
    finally:
        player.gate.set()
        time.sleep(0.01)
        close()
