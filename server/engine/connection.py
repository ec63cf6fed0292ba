"""The engine's end of a worker's socket: lines that have come, and bytes that could not be sent yet."""

import socket

RECEIVE_BYTES = 1 << 20


class Connection:
    """One worker's socket, with what has come in part and what could not be sent yet."""

    def __init__(self, sock: socket.socket):
        self.socket = sock
        self.received = bytearray()
        self.unsent = bytearray()

    def receive(self) -> list[bytearray] | None:
        """All complete lines that are there now; None once the worker has hung up."""
        try:
            while data := self.socket.recv(RECEIVE_BYTES):
                self.received += data
        except BlockingIOError:
            *lines, rest = self.received.split(b"\n")
            self.received = rest
            return lines
        except ConnectionError:
            pass
        return None

    def flush(self) -> None:
        """Send what the socket takes without waiting."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.unsent.clear()  # the next receive reports the end
