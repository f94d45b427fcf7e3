"""A server of plain sockets: what it sends is written byte by byte in the test, so it may be as wrong as it likes.

    with Raw(answering("Hello")) as server:
        ...
    assert server.accepted == 1

A play is a function `(Connection) -> None`, run in a thread for every connection that is made. `Raw(a, b)` plays `a` on
the first connection and `b` on all that follow.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE = 10.0
"""Seconds after which a test that waits for the other side has failed."""


@dataclass
class Request:
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One accepted socket."""

    def __init__(self, server: Raw, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.gone = threading.Event()
        """Set when the client was seen to have closed."""
        self._buffer = b""

    def read_request(self) -> Request | None:
        """The next request, or None when the client closed instead."""
        try:
            while b"\r\n\r\n" not in self._buffer:
                if not self._more():
                    return None
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            line, *rest = head.decode("latin-1").split("\r\n")
            headers = [(name.lower(), value.strip()) for name, _, value in (entry.partition(":") for entry in rest)]
            length = next((int(value) for name, value in headers if name == "content-length"), 0)
            while len(self._buffer) < length:
                if not self._more():
                    return None
        except OSError:
            self.gone.set()
            return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        request = Request(line, headers, body)
        self.server.requests.append(request)
        return request

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        if not data:
            self.gone.set()
        return bool(data)

    def send(self, *pieces: bytes, pause: float = 0.0) -> None:
        for piece in pieces:
            self.sock.sendall(piece)
            if pause:
                time.sleep(pause)

    def reset(self) -> None:
        """Close with a TCP RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_until_gone(self) -> None:
        """Block until the client closes its side, or the server ends."""
        try:
            while not self.server.ending.is_set():
                ready, _, _ = select.select([self.sock], [], [], 0.02)
                if ready and not self.sock.recv(65536):
                    break
        except (OSError, ValueError):
            pass
        if not self.server.ending.is_set():
            self.gone.set()


Play = Callable[[Connection], None]


class Raw:
    """Listens on a free port of the loopback interface, a thread per connection."""

    def __init__(self, *plays: Play, listener: socket.socket | None = None) -> None:
        self.plays = plays
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.failures: list[BaseException] = []
        self.ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @property
    def accepted(self) -> int:
        return len(self.connections)

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        for connection in self.connections:
            connection.sock.close()
        if exc[0] is None and self.failures:
            raise self.failures[0]

    def _accept(self) -> None:
        while not self.ending.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock)
            play = self.plays[min(len(self.connections), len(self.plays) - 1)]
            self.connections.append(connection)
            thread = threading.Thread(target=self._play, args=(play, connection), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, play: Play, connection: Connection) -> None:
        try:
            play(connection)
        except OSError:
            connection.gone.set()
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.sock.close()

    def wait_for(self, count: int) -> None:
        """Block until so many connections were accepted."""
        until = time.monotonic() + PATIENCE
        while self.accepted < count:
            assert time.monotonic() < until, f"{self.accepted} of {count} connections"
            time.sleep(0.005)


# -- what is said -----------------------------------------------------------------------------------------------------


def body_of(text: str = "Hello", **more: Any) -> bytes:
    """A plain `chat.completion`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    return json.dumps({"id": "a1", "created": 1_700_000_000, "choices": [choice], "usage": usage, **more}).encode()


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer with a content-length; `content_encoding="gzip"` names a header."""
    lines = {"content-type": "application/json", "content-length": str(len(body))}
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def delta(text: str | None = None, *, finish: str | None = None) -> bytes:
    """An event of a stream."""
    piece = {} if text is None else {"content": text}
    event = {"id": "s1", "choices": [{"index": 0, "delta": piece, "finish_reason": finish}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}\n\n'
DONE = b"data: [DONE]\n\n"


def stream_of(*texts: str) -> list[bytes]:
    """A whole streamed answer, in the pieces in which it is sent."""
    events = [*map(delta, texts), delta(finish="stop"), USAGE, DONE]
    return [STREAM_HEAD, *map(chunk, events), STREAM_END]


# -- plays ------------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """Answers each request of a connection with the next of `answers` (the last one again and again)."""

    answers: list[bytes | list[bytes]] = field(default_factory=lambda: [answer(body_of())])
    pause: float = 0.0
    served: int = 0

    def __call__(self, connection: Connection) -> None:
        while connection.read_request() is not None:
            chosen = self.answers[min(self.served, len(self.answers) - 1)]
            self.served += 1
            pieces = [chosen] if isinstance(chosen, bytes) else chosen
            connection.send(*pieces, pause=self.pause)


def once(*pieces: bytes, pause: float = 0.0) -> Play:
    """Read a request, send, close."""

    def play(connection: Connection) -> None:
        if connection.read_request() is not None:
            connection.send(*pieces, pause=pause)

    return play


def then_silence(*pieces: bytes) -> Play:
    """Read a request, send, and say nothing more until the client is gone."""

    def play(connection: Connection) -> None:
        if connection.read_request() is not None:
            connection.send(*pieces)
            connection.wait_until_gone()

    return play


def then_reset(*pieces: bytes) -> Play:
    """Read a request, send, reset the connection."""

    def play(connection: Connection) -> None:
        if connection.read_request() is not None:
            connection.send(*pieces)
            if pieces:
                time.sleep(0.05)  # what was sent must arrive: a reset may overtake it
            connection.reset()

    return play
