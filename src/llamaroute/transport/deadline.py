"""Network streams that keep moments, not durations.

httpx knows durations per operation, and each byte that arrives starts them anew: a host that dribbles, or one that
retries slowly, can hold a caller for any time. Here every read and write ends at a moment, which may change from one
read to the next (first token, idle, total). It is put below httpx through httpcore's public `NetworkBackend`.
https://www.encode.io/httpcore/network-backends/
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any

import httpcore

from ..types.response import Phase
from .chunks import Chunks

__all__ = ["AsyncDeadlineBackend", "DeadlineBackend", "SocketOption", "Together", "Watch"]

_WRITE = 256 << 10
"""Bytes handed to a socket at a time, so that the time left is looked at between two of them."""

_TOGETHER = 64 << 10
"""Bytes that are copied into one piece rather than sent one by one."""

_SLICE = 0.5
"""Seconds a blocking read waits before it looks up. A Ctrl-C that arrives between Python's last look at signals and the
system call is only noticed after it (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers):
the call must not last until the deadline."""

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Watch:
    """The moments of one connection's present request."""

    __slots__ = (
        "address",
        "answer",
        "chunks",
        "connected",
        "heard",
        "phase",
        "sent",
        "started",
        "stream",
        "total",
        "until",
    )

    def __init__(self) -> None:
        self.address: str | None = None
        self.until = self.started = self.answer = 0.0
        self.total: float | None = None
        self.phase: Phase = "connect"
        self.sent = 0.0
        self.connected = False
        self.heard = False
        """Something has come since the request began."""
        self.stream: httpcore.NetworkStream | None = None
        self.chunks = Chunks()

    def begin(self, connect: float, answer: float, total: float | None, address: str | None) -> None:
        """A request starts: connect first, if need be."""
        self.started = monotonic()
        self.answer, self.total, self.address = answer, total, address
        self.sent = 0.0
        self.connected = self.heard = False
        self.limit(self.started + connect, "connect")

    def limit(self, until: float, phase: Phase) -> None:
        """The next operations end at `until`, or at the call's own end if that is sooner."""
        if self.total is not None and self.total < until:
            until, phase = self.total, "total"
        self.until, self.phase = until, phase

    def writing(self) -> None:
        """The first byte of the request goes out: connecting is over."""
        if not self.sent:
            self.sent = monotonic()
            self.limit(self.sent + self.answer, "first_token")

    def connecting(self) -> None:
        """A connection is being made, or TLS put over one (also behind a proxy, after its own exchange)."""
        self.connected = True
        if self.sent:
            self.sent = 0.0
            self.limit(self.until, "connect")

    def left(self, error: type[Exception]) -> float:
        """Seconds until the present moment; raises `error` when it has passed."""
        left = self.until - monotonic()
        if left <= 0:
            raise error
        return left

    def abort(self) -> None:
        """Wake whoever waits on the socket, in whatever thread: closing it alone would leave them waiting. What they do
        next is too late."""
        self.until = self.total = 0.0
        sock = self.stream.get_extra_info("socket") if self.stream is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @property
    def connect_seconds(self) -> float:
        """Seconds spent on connecting; 0 on a connection used again."""
        return self.sent - self.started if self.connected and self.sent else 0.0


class Together:
    """Small pieces of a request, until they are sent together: httpcore writes a request's head, its body and an empty
    end one by one, and to send costs more than to read the answer as JSON."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> tuple[bytes, ...]:
        """What has to be sent now: nothing, or all that came until here. An empty piece is the end of a request."""
        if piece and self._size + len(piece) <= _TOGETHER:
            self._pieces.append(piece)
            self._size += len(piece)
            return ()
        rest = self.rest()
        return tuple(data for data in (rest, piece) if data)

    def rest(self) -> bytes:
        """What was held back; an answer is waited for."""
        if not self._pieces:
            return b""
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return data


class DeadlineBackend(httpcore.NetworkBackend):
    """Blocking sockets of one connection, under a watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, and try the addresses in turn, all within the watch."""
        watch = self._watch
        watch.connecting()
        addresses = [watch.address] if watch.address else _resolve(host, port, watch)
        failure: Exception | None = None
        for place, address in enumerate(addresses):
            left = watch.left(httpcore.ConnectTimeout)
            share = left / (len(addresses) - place)  # a dead first address must not use up the time of the others
            try:
                stream = self._inner.connect_tcp(address, port, share, local_address, socket_options)
                return _Stream(stream, watch)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    def sleep(self, seconds: float) -> None:
        """Part of the interface; connections here are made once."""
        raise NotImplementedError


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._together = Together()
        watch.stream = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        watch = self._watch
        if rest := self._together.rest():
            self._send(rest)
        while True:
            try:
                data = self._inner.read(max_bytes, min(watch.left(httpcore.ReadTimeout), _SLICE))
            except httpcore.ReadTimeout:
                watch.left(httpcore.ReadTimeout)
                continue
            watch.heard = True
            if (given := self._watch.chunks.merged(data)) or not data:
                return given

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for piece in self._together.add(buffer):
            self._send(piece)

    def _send(self, data: bytes) -> None:
        watch = self._watch
        watch.writing()
        self._watch.chunks.begin()
        if len(data) <= _WRITE:
            self._inner.write(data, watch.left(httpcore.WriteTimeout))
            return
        view = memoryview(data)
        for start in range(0, len(data), _WRITE):
            # A view serves as well as bytes, and need not be copied.
            self._inner.write(view[start : start + _WRITE], watch.left(httpcore.WriteTimeout))  # type: ignore[arg-type]

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        watch = self._watch
        watch.connecting()
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, watch.left(httpcore.ConnectTimeout)), watch)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _resolve(host: str, port: int, watch: Watch) -> list[str]:
    """Addresses of `host`. The system's resolver cannot be told when to stop, so it runs in a thread that is left
    behind when the time is over."""
    if _is_address(host):
        return [host]
    found: list[str] = []
    failure: list[Exception] = []

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(info[4][0]) for info in infos))
        except (OSError, UnicodeError) as error:  # the latter for names that cannot be: empty or too long labels
            failure.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="llamaroute-dns")
    thread.start()
    thread.join(watch.left(httpcore.ConnectTimeout))
    if thread.is_alive():
        raise httpcore.ConnectTimeout(f"no answer from DNS for {host}")
    if not found:
        raise httpcore.ConnectError(f"{host} has no address: {failure[0] if failure else 'empty answer'}")
    return found


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return True
        except OSError:
            continue
    return False


class AsyncDeadlineBackend(httpcore.AsyncNetworkBackend):
    """The same on asyncio and trio, through anyio."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve and connect within the watch; anyio tries the addresses side by side ("happy eyeballs")."""
        watch = self._watch
        watch.connecting()
        left = watch.left(httpcore.ConnectTimeout)
        stream = await self._inner.connect_tcp(watch.address or host, port, left, local_address, socket_options)
        return _AsyncStream(stream, watch)

    async def sleep(self, seconds: float) -> None:
        """Part of the interface; connections here are made once."""
        raise NotImplementedError


class _AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._together = Together()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if rest := self._together.rest():
            await self._send(rest)
        while True:
            data = await self._inner.read(max_bytes, self._watch.left(httpcore.ReadTimeout))
            self._watch.heard = True
            if (given := self._watch.chunks.merged(data)) or not data:
                return given

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for piece in self._together.add(buffer):
            await self._send(piece)

    async def _send(self, data: bytes) -> None:
        self._watch.writing()
        self._watch.chunks.begin()
        await self._inner.write(data, self._watch.left(httpcore.WriteTimeout))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        watch = self._watch
        watch.connecting()
        left = watch.left(httpcore.ConnectTimeout)
        return _AsyncStream(await self._inner.start_tls(ssl_context, server_hostname, left), watch)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
