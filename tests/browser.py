"""A headless Chromium for tests, driven over its own DevTools protocol; only the browser must be installed."""

import base64
import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Enter": 13, "Escape": 27, "Delete": 46, "ArrowUp": 38, "ArrowRight": 39}
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")


class Page:
    """A tab; `errors` are uncaught exceptions of the page, and violations of its policy; `requests` what it sent."""

    def __init__(self, socket):
        self.socket, self.numbers = socket, itertools.count(1)
        self.errors = []
        self.requests: list[dict] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def urls(self) -> list[str]:
        """The URLs of what it sent."""
        return [request["url"] for request in self.requests]

    def call(self, method: str, **parameters) -> dict:
        """Send a command of the protocol; returns its result."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"])
            if message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if (
                    entry["level"] == "error" and entry["source"] != "network"
                ):  # an HTTP status is not an error of the page
                    self.errors.append(entry)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str):
        """Load a page as a browser that has never seen it."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.call("Storage.clearDataForOrigin", origin=url.rstrip("/"), storageTypes="all")
        self.errors.clear()
        self.requests.clear()
        self.call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)}")

    def write(self, selector: str, text: str):
        """Replace the text of a field, as a person who types."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text) if text else self.press("Delete")

    def press(self, key: str, modifiers: int = 0):
        """Press a key; modifiers are 1 Alt, 2 Ctrl, 4 Meta, 8 Shift, added."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS.get(key, 0), "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str):
        """Click the first element of a selector, once it is there and can be clicked."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"{found} && !{found}.disabled", 10)
        self.run(f"{found}.click()")

    def texts(self, selector: str) -> list[str]:
        """What can be read of all elements of a selector."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((element) => element.innerText)")

    def run(self, script: str):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 60):
        """The value of an expression, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} never came true: {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def resize(self, width: int, height: int, *, is_dark: bool = False):
        """Resize the window to so many CSS pixels, with the light or dark colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path):
        """Write a picture of the page as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browse(directory: Path):
    """A page of a new browser; skips the test if no browser is installed."""
    command = next(filter(None, map(shutil.which, NAMES)), None)
    if command is None:
        pytest.skip("no Chromium here")
    browser = subprocess.Popen(
        [command, *FLAGS, f"--user-data-dir={directory}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = directory / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (address.exists() and "\n" in address.read_text()):
            assert browser.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.05)
        port = address.read_text().split()[0]
        [tab] = [target for target in httpx.get(f"http://127.0.0.1:{port}/json").json() if target["type"] == "page"]
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Page(socket)
    finally:
        browser.terminate()
        browser.wait(30)
