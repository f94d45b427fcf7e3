"""The floor: a ready request on a bare socket or protocol, the least HTTP that the canned answers need, `json.loads`.

No library: what is below every client. It handles no error, knows where the answers' lengths stand, and keeps the bytes
of each request it has sent once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from .common import KEY, body, delta, text

_READ = 1 << 16


class _Deltas:
    """The texts in a chunked SSE answer; one event a chunk, as the canned answers have them."""

    def __init__(self) -> None:
        self.rest = b""
        self.begun = self.done = False

    def feed(self, data: bytes) -> list[str]:
        if self.rest:
            data = self.rest + data
        found: list[str] = []
        at = 0
        if not self.begun:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self.rest = data
                return found
            self.begun = True
        while (line_end := data.find(b"\r\n", at)) >= 0:
            begin = line_end + 2
            end = begin + int(data[at:line_end], 16)
            if len(data) < end + 2:
                break
            at = end + 2
            if end == begin:
                self.done = True
                break
            if data[begin + 6 : begin + 7] == b"{":
                found.append(delta(json.loads(data[begin + 6 : end])))
        self.rest = data[at:]
        return found


def _whole(data: bytes) -> tuple[int, int] | None:
    """Where the body of a plain answer begins and ends, when its head is there."""
    begin = data.find(b"\r\n\r\n") + 4
    if begin < 4:
        return None
    at = data.find(b"content-length: ") + 16
    return begin, begin + int(data[at : data.find(b"\r\n", at)])


class _Requests:
    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self.address = parts.hostname or "", parts.port or 0
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.head = (
            f"POST {parts.path}/v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        )
        self.ready = lru_cache(maxsize=8)(self.write)

    def write(self, prompt: str, image: str | None = None, stream: bool = False) -> bytes:
        data = json.dumps(body(prompt, image, stream=stream)).encode()
        return (self.head % len(data)).encode() + data


class Sync:
    def __init__(self, base: str) -> None:
        self.requests = _Requests(base)
        self.socket: socket.socket | None = None

    def connected(self) -> socket.socket:
        if self.socket is None:
            opened = socket.create_connection(self.requests.address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self.requests.tls
            self.socket = opened if tls is None else tls.wrap_socket(opened, server_hostname="127.0.0.1")
        return self.socket

    def call(self, prompt: str, image: str | None = None) -> str:
        connection = self.connected()
        connection.sendall(self.requests.ready(prompt, image))
        data = connection.recv(_READ)
        while (place := _whole(data)) is None or len(data) < place[1]:
            data += connection.recv(_READ)
        return text(json.loads(data[place[0] : place[1]]))

    def stream(self, prompt: str) -> Iterator[str]:
        connection, deltas = self.connected(), _Deltas()
        connection.sendall(self.requests.ready(prompt, None, True))
        while not deltas.done:
            yield from deltas.feed(connection.recv(_READ))


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.pieces: deque[bytes] | None = None
        self.waiting: asyncio.Future[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        waiting = self.waiting
        if self.pieces is not None:
            self.pieces.append(data)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            return
        self.data = data = self.data + data if self.data else data
        place = _whole(data)
        if place is not None and len(data) >= place[1] and waiting is not None:
            self.data = b""
            waiting.set_result(data[place[0] : place[1]])


class Async:
    def __init__(self, base: str) -> None:
        self.requests = _Requests(base)
        self.idle: list[_Connection] = []

    async def connected(self) -> _Connection:
        if self.idle:
            return self.idle.pop()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, *self.requests.address, ssl=self.requests.tls)
        return connection

    async def call(self, prompt: str, image: str | None = None) -> str:
        connection = await self.connected()
        connection.waiting = asyncio.get_running_loop().create_future()
        connection.transport.write(self.requests.ready(prompt, image))
        data = await connection.waiting
        self.idle.append(connection)
        return text(json.loads(data))

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        connection, deltas, loop = await self.connected(), _Deltas(), asyncio.get_running_loop()
        pieces: deque[bytes] = deque()
        connection.pieces = pieces
        connection.transport.write(self.requests.ready(prompt, None, True))
        while not deltas.done:
            if not pieces:
                connection.waiting = loop.create_future()
                await connection.waiting
            for found in deltas.feed(pieces.popleft()):
                yield found
        connection.pieces = None
        self.idle.append(connection)

    async def aclose(self) -> None:
        for connection in self.idle:
            connection.transport.close()
