"""A small HTTP/1.1 server in a daemon thread: asyncio for the sockets, h11 for reading requests.

Answers are framed by hand, because the point of the emulator is to write what a correct server never would: a chunk
that breaks off, a body without its end, one byte a packet, a reset. One `Connection` per socket, one task per
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http
import logging
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable

import h11

from .answer import Answer, Headers, RecordedRequest
from .script import Fault

__all__ = ["App", "Connection", "Server"]

_MAX_HEAD = 256 * 1024
_NO_FAULT = Fault()
_log = logging.getLogger(__name__)


class _DropError(Exception):
    """The connection ends here, on purpose."""


class App:
    """What the server needs from its owner."""

    def arrived(self, request: RecordedRequest) -> None:
        """A request came in (complete, or as much of it as there will ever be)."""
        raise NotImplementedError

    async def answer(self, request: RecordedRequest) -> Answer:
        """The answer to it."""
        raise NotImplementedError

    def done(self, request: RecordedRequest) -> None:
        """Nothing more will be written for this request."""
        raise NotImplementedError


class _Body:
    """Writes one body: HTTP framing, and the faults that live below the level of events."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], fault: Fault, framing: str) -> None:
        self._send, self._fault, self._framing = send, fault, framing
        self._written = 0
        self._frames = 0

    async def frame(self, data: bytes) -> None:
        fault = self._fault
        if fault.stall and fault.stall_after is not None and self._frames == fault.stall_after:
            await asyncio.sleep(fault.stall)
        cut: int | None = None
        if fault.cut == "mid-frame":
            if self._frames == fault.cut_after or self._framing == "length":
                cut = max(1, len(data) // 2)
        elif fault.cut is not None and self._written + len(data) >= fault.cut:
            cut = fault.cut - self._written
        self._frames += 1
        if cut is not None:
            # The chunk announces its whole length: the client must notice that the rest never comes.
            head = b"%x\r\n" % len(data) if self._framing == "chunked" else b""
            await self._send(head + data[:cut])
            raise _DropError
        self._written += len(data)
        for part in _split_utf8(data) if fault.split_utf8 else (data,):
            await self._send(b"%x\r\n%b\r\n" % (len(part), part) if self._framing == "chunked" else part)

    async def end(self) -> None:
        if self._framing == "chunked":
            await self._send(b"0\r\n\r\n")


def _split_utf8(data: bytes) -> list[bytes]:
    """Cut inside every multi-byte character: after each lead byte."""
    parts: list[bytes] = []
    start = 0
    for at, byte in enumerate(data):
        if byte >= 0xC0:
            parts.append(data[start : at + 1])
            start = at + 1
    parts.append(data[start:])
    return [part for part in parts if part]


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, app: App, open_connections: set[Connection]) -> None:
        self._app, self._open = app, open_connections
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._received = bytearray()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._eof = False
        self._current: RecordedRequest | None = None

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._readable.set()

    def eof_received(self) -> bool:
        self._hung_up()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up()
        self._writable.set()
        self._open.discard(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ── the exchange ──

    def _hung_up(self) -> None:
        if self._eof:
            return
        self._eof = True
        self._readable.set()
        if self._current is not None and self._task is not None:
            self._current.disconnected = True
            self._task.cancel()  # a stalled or endless answer must not outlive its client

    async def close(self) -> None:
        """End the connection and wait until its task is gone."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._transport is not None:
            self._transport.abort()

    async def _serve(self) -> None:
        assert self._transport is not None
        rest = b""
        try:
            while True:
                request, rest = await self._read(rest)
                if request is None:
                    break
                self._current = request
                if self._eof and not rest:
                    request.disconnected = True
                self._app.arrived(request)
                try:
                    keep = await self._exchange(request)
                finally:
                    self._current = None
                    request.finished = time.monotonic()
                    self._app.done(request)
                if not keep:
                    break
        except (_DropError, ConnectionError):
            pass
        except Exception:
            _log.exception("the emulator failed while answering; the connection is dropped")
        finally:
            self._transport.close()

    async def _read(self, rest: bytes) -> tuple[RecordedRequest | None, bytes]:
        """The next request and the bytes after it; (None, ...) when there is none."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        head: h11.Request | None = None
        body: list[bytes] = []
        started = 0.0
        told_to_go_on = False
        if rest:
            parser.receive_data(rest)
        try:
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    if parser.they_are_waiting_for_100_continue and not told_to_go_on:
                        told_to_go_on = True
                        await self._send(b"HTTP/1.1 100 Continue\r\n\r\n", _NO_FAULT)
                    parser.receive_data(await self._more())
                elif isinstance(event, h11.Request):
                    head, started = event, time.monotonic()
                elif isinstance(event, h11.Data):
                    body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    return _record(head, b"".join(body), started), parser.trailing_data[0]
                else:
                    return None, b""
        except h11.RemoteProtocolError as error:
            if head is None:
                if not self._eof:
                    text = str(error).encode()
                    await self._send(
                        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n"
                        b"content-length: %d\r\n\r\n%b" % (len(text), text),
                        _NO_FAULT,
                    )
                return None, b""
            request = _record(head, b"".join(body), started)
            request.disconnected, request.finished = True, time.monotonic()
            self._app.arrived(request)
            self._app.done(request)
            return None, b""

    async def _more(self) -> bytes:
        while not self._received and not self._eof:
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._received)
        self._received.clear()
        return data

    async def _exchange(self, request: RecordedRequest) -> bool:
        """Write the answer; True if the connection lives on."""
        answer = await self._app.answer(request)
        try:
            return await self._write(request, answer)
        finally:
            if answer.frames is not None and hasattr(answer.frames, "aclose"):
                await answer.frames.aclose()

    async def _write(self, request: RecordedRequest, answer: Answer) -> bool:
        fault = answer.fault or _NO_FAULT
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.hangup:
            raise _DropError
        if answer.reset:
            self._reset()
            raise _DropError
        asked_to_close = "close" in request.headers.get("connection", "").lower()
        old = request.http_version < "1.1"
        keep = not asked_to_close and (not old or "keep-alive" in request.headers.get("connection", "").lower())
        framing = fault.framing or ("length" if answer.frames is None else "chunked")
        body = answer.body
        frames = answer.frames
        if framing == "length" and frames is not None:
            body, frames = b"".join([frame async for frame in frames]), None
        if framing == "chunked" and old:
            framing = "close"
        bodyless = request.method == "HEAD" or answer.status in (204, 304)
        keep = keep and (framing != "close" or bodyless)
        headers = {"date": email.utils.formatdate(usegmt=True), **answer.headers}
        if framing == "length":
            headers["content-length"] = str(len(body))
        elif framing == "chunked":
            headers["transfer-encoding"] = "chunked"
        headers.setdefault("connection", "keep-alive" if keep else "close")
        keep = keep and headers["connection"].lower() != "close"
        request.status = answer.status
        await self._send(_head(answer.status, headers), fault)
        if not bodyless:
            writer = _Body(lambda data: self._send(data, fault), fault, framing)
            if frames is None:
                if body:
                    await writer.frame(body)
            else:
                async for frame in frames:
                    await writer.frame(frame)
            await writer.end()
        return keep and not fault.close_idle

    async def _send(self, data: bytes, fault: Fault) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionResetError
        if not fault.dribble:
            self._transport.write(data)
            await self._writable.wait()
            return
        pause = 0.0 if fault.dribble is True else float(fault.dribble)
        for at in range(len(data)):
            self._transport.write(data[at : at + 1])
            await self._writable.wait()
            await asyncio.sleep(pause)

    def _reset(self) -> None:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _record(head: h11.Request, body: bytes, started: float) -> RecordedRequest:
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
    return RecordedRequest.read(
        head.method.decode("ascii"), head.target.decode("latin-1"), headers, body, started,
        head.http_version.decode("ascii"),
    )  # fmt: skip


def _head(status: int, headers: dict[str, str]) -> bytes:
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Server:
    """Runs `Connection`s on a loop of its own, in a daemon thread, between `start` and `stop`."""

    def __init__(self, app: App, host: str, port: int) -> None:
        self._app, self._host, self.port = app, host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._connections: set[Connection] = set()

    @property
    def running(self) -> bool:
        return self._thread is not None

    @property
    def connections_open(self) -> int:
        return len(self._connections)

    def start(self) -> None:
        """Listen; returns when connections are accepted. Raises OSError if the port is taken."""
        ready = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(ready, failure), name=f"llamaroute-emulator-{self._host}", daemon=True
        )
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            self._thread = None
            raise failure[0]

    def stop(self) -> None:
        """Close every connection, end every task and join the thread. Calling it twice does no harm."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def _run(self, ready: threading.Event, failure: list[BaseException]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._main(ready, failure))

    async def _main(self, ready: threading.Event, failure: list[BaseException]) -> None:
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(
                lambda: Connection(self._app, self._connections), self._host, self.port, backlog=1024
            )
        except OSError as error:
            failure.append(error)
            ready.set()
            return
        self.port = listener.sockets[0].getsockname()[1]
        ready.set()
        try:
            await self._stop.wait()
        finally:
            listener.close()
            await asyncio.gather(*(connection.close() for connection in list(self._connections)))
            await asyncio.sleep(0)  # let the transports report their end, so that no socket is left to the collector
