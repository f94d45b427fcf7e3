"""Serves the canned answers (answers.py) to OpenAI chat completions and to Bedrock's Converse, on a free port.

    python -m benchmarks.speed.server [--certificate FILE --key FILE]

Prints one line of JSON, {"http": PORT, "https": PORT or null}, and serves until its standard input is closed.

The path begins with one segment of settings, `/chunks=2000,gap=1,first=20/...`: deltas of a stream, milliseconds
between two of them (0: all at once), and milliseconds before the answer begins. Paced deltas are stamped with the time
they are sent at, each is one write.

uvloop is used where it is installed. Requests are read only as far as an answer needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, cast

from . import answers


class Settings(NamedTuple):
    """What a path's first segment says."""

    chunks: int = 20
    gap: float = 0.0
    """Seconds."""
    first: float = 0.0
    """Seconds."""


@lru_cache(maxsize=256)
def settings(segment: bytes) -> Settings:
    """The settings of `chunks=2000,gap=1`; milliseconds become seconds."""
    said = dict(pair.split("=") for pair in segment.decode().split(",") if "=" in pair)
    return Settings(int(said.get("chunks", 20)), float(said.get("gap", 0)) / 1e3, float(said.get("first", 0)) / 1e3)


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, as HTTP/1.1 has them."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.head = 0  # where the body of the request being read begins
        self.end = 0  # where the request ends; 0 while its head is not there
        self.rest: Iterator[bytes] | None = None  # what of a long answer is still to be sent
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self.loop = asyncio.get_running_loop()
        self.transport.set_write_buffer_limits(high=1 << 22)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send_rest()

    def send_rest(self) -> None:
        while self.rest is not None and not self.paused:
            piece = next(self.rest, None)
            if piece is None:
                self.rest = None
            else:
                self.transport.write(piece)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer:
            if not self.end and not self.read_head():
                return
            if len(self.buffer) < self.end:
                return
            request, self.buffer, end, self.end = self.buffer, self.buffer[self.end :], self.end, 0
            self.answer(request, end)

    def read_head(self) -> bool:
        """Find out where the request ends; False when its head is not complete yet."""
        self.head = self.buffer.find(b"\r\n\r\n") + 4
        if self.head < 4:
            return False
        head = bytes(self.buffer[: self.head]).lower()
        if b"\r\ntransfer-encoding:" in head:
            raise NotImplementedError("chunked requests are not read here")
        start = head.find(b"\r\ncontent-length:")
        self.end = self.head
        if start >= 0:
            self.end += int(head[start + 17 : head.find(b"\r\n", start + 2)])
        if b"\r\nexpect: 100-continue" in head:
            self.transport.write(answers.CONTINUE)
        return True

    def answer(self, request: bytearray, end: int) -> None:
        path = bytes(request[request.find(b" ") + 1 : request.find(b" ", 6)])
        said = settings(path[1 : path.find(b"/", 1)])

        def has(key: bytes, value: bytes) -> bool:
            """Whether the body has it, written with or without a space."""
            spaced = b'"%s": %s' % (key, value)
            return request.find(spaced, self.head, end) >= 0 or request.find(b'"%s":%s' % (key, value), self.head) >= 0

        if path.endswith(b"/chat/completions") or b"/chat/completions?" in path:
            if has(b"stream", b"true"):
                self.stream(answers.SSE, said)
            elif has(b"tools", b"[") and not has(b"role", b'"tool"'):
                self.later(said.first, lambda: self.transport.write(answers.CHAT_TOOL))
            else:
                self.later(said.first, lambda: self.transport.write(answers.CHAT))
        elif path.endswith(b"/converse"):
            self.later(said.first, lambda: self.transport.write(answers.CONVERSE))
        elif path.endswith(b"/converse-stream"):
            self.stream(answers.CONVERSE_STREAM, said)
        else:
            self.transport.write(answers.READY if path == b"/" else answers.NOT_FOUND)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        if seconds:
            self.loop.call_later(seconds, what)
        else:
            what()

    def stream(self, stream: answers.Stream, said: Settings) -> None:
        def all_at_once() -> None:
            self.rest = answers.burst(stream, said.chunks)
            self.send_rest()

        def begin() -> None:
            self.transport.write(stream.head)
            self.loop.call_later(said.gap, tick, said.chunks)

        def tick(left: int) -> None:
            if self.transport.is_closing():
                return
            if not left:
                self.transport.write(stream.tail)
                return
            self.loop.call_later(said.gap, tick, left - 1)
            self.transport.write(stream.piece(time.monotonic_ns()))

        self.later(said.first, begin if said.gap else all_at_once)


async def serve(tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    ports: dict[str, int | None] = {"https": None}
    for name, context in (("http", None), *((("https", tls),) if tls else ())):
        server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096, ssl=context)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate, options.key)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        asyncio.run(serve(tls))
    else:
        uvloop.run(serve(tls))


if __name__ == "__main__":
    main()
