"""Network streams straight on asyncio's transports, for connections that no proxy is between.

anyio's streams, which serve trio and proxies (`deadline.py`), stop and start the reading of a socket at each read, and
open a cancel scope for each read and write: on asyncio that is about half of what a call costs below HTTP. Here what
comes is kept until it is asked for, and who waits has a timer that is set anew only when it has to ring earlier.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

from .deadline import SocketOption, Together, Watch

__all__ = ["AsyncioBackend", "is_asyncio"]

ENOUGH = 256 << 10
"""Bytes that have come and were not asked for, from which on a socket is not read."""


def is_asyncio(loop: object) -> bool:
    """Whether a loop is one of asyncio's own; others, such as uvloop's, know fewer options."""
    return isinstance(loop, asyncio.BaseEventLoop)


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Connections of the running event loop, which is one of asyncio's own, under a watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve and connect within the watch; asyncio tries the addresses side by side ("happy eyeballs")."""
        watch = self._watch
        watch.connecting()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(watch.left(httpcore.ConnectTimeout)):
                _, wire = await loop.create_connection(
                    lambda: _Wire(loop), watch.address or host, port, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:  # the latter for names that cannot be: empty or too long labels
            raise httpcore.ConnectError(str(error)) from error
        return _AsyncioStream(wire, watch)

    async def sleep(self, seconds: float) -> None:
        """Part of the interface; connections here are made once."""
        raise NotImplementedError


class _Wire(asyncio.Protocol):
    """What comes over a connection, and one who waits: for more, or for room to write."""

    # A program may have thousands open, each of which waits for little.
    __slots__ = (
        "_stopped",
        "_timer",
        "_until",
        "_waiter",
        "ended",
        "error",
        "full",
        "loop",
        "pieces",
        "size",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport
        self.pieces: list[bytes] = []
        self.size = 0
        """Bytes in them."""
        self.ended = False
        """Nothing more comes."""
        self.error: Exception | None = None
        self.full = False
        """What was written has not gone out yet."""
        self._stopped = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size > ENOUGH and not self._stopped:
            self._stopped = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        self.full = False
        self._wake()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._wake()

    def take(self, most: int) -> bytes:
        """The next bytes that have come, at most so many."""
        data = self.pieces.pop(0)
        if len(data) > most:
            self.pieces.insert(0, data[most:])
            data = data[:most]
        self.size -= len(data)
        if self._stopped and self.size <= ENOUGH:
            self._stopped = False
            self.transport.resume_reading()
        return data

    async def wait(self, seconds: float) -> None:
        """Wait until something has changed.

        Raises:
            TimeoutError: nothing has, in so many seconds.
        """
        self._until = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._until:
            self._set_timer()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(self._until, self._ring)

    def _ring(self) -> None:
        # It may have been set for a wait before this one: setting it at each would cost as much as waiting.
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.loop.time() < self._until:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())

    async def close(self) -> None:
        """Close at once: what is worth sending has been sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.transport.abort()
        await asyncio.sleep(0)  # the socket is closed in the loop's next round


def _has_come(transport: asyncio.Transport) -> bool:
    sock = transport.get_extra_info("socket")
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class _AsyncioStream(httpcore.AsyncNetworkStream):
    def __init__(self, wire: _Wire, watch: Watch) -> None:
        self._wire = wire
        self._watch = watch
        self._together = Together()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        wire = self._wire
        if rest := self._together.rest():
            await self._send(rest)
        while True:
            left = self._watch.left(httpcore.ReadTimeout)
            if wire.pieces:
                self._watch.heard = True
                if data := self._watch.chunks.merged(wire.take(max_bytes)):
                    return data
                continue
            if wire.error is not None:
                raise httpcore.ReadError(str(wire.error)) from wire.error
            if wire.ended:
                return self._watch.chunks.merged(b"")
            try:
                await wire.wait(left)
            except TimeoutError:
                raise httpcore.ReadTimeout from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for piece in self._together.add(buffer):
            await self._send(piece)

    async def _send(self, data: bytes) -> None:
        wire, watch = self._wire, self._watch
        watch.writing()
        self._watch.chunks.begin()
        left = watch.left(httpcore.WriteTimeout)
        if wire.ended and (wire.error is not None or wire.transport.is_closing()):
            raise httpcore.WriteError(str(wire.error or "the connection is closed"))
        wire.transport.write(data)
        while wire.full:
            try:
                await wire.wait(left)
            except TimeoutError:
                raise httpcore.WriteTimeout from None
            left = watch.left(httpcore.WriteTimeout)
        if wire.error is not None:
            raise httpcore.WriteError(str(wire.error)) from wire.error

    async def aclose(self) -> None:
        await self._wire.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        watch = self._watch
        watch.connecting()
        loop = self._wire.loop
        wire = _Wire(loop)
        try:
            async with asyncio.timeout(watch.left(httpcore.ConnectTimeout)):
                transport = await loop.start_tls(
                    self._wire.transport, wire, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            await self.aclose()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:  # ssl.SSLError is one
            await self.aclose()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            await self.aclose()
            raise
        assert transport is not None
        wire.transport = transport
        return _AsyncioStream(wire, watch)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # where nothing is to come, that is its end; the loop may not have looked yet
            return bool(self._wire.pieces) or self._wire.ended or _has_come(self._wire.transport)
        return self._wire.transport.get_extra_info(info)
