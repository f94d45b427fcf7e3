"""Network streams on asyncio's transports; what holds for all engines and loops is in tests/client."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import Any

import httpcore
import pytest

from llamaroute.transport import asyncio_stream
from llamaroute.transport.asyncio_stream import ENOUGH, AsyncioBackend
from llamaroute.transport.deadline import Together, Watch

PATIENCE = 10.0


class Server:
    """One accepted connection, whose other end is under test."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    async def __aenter__(self) -> Server:
        self.watch = Watch()
        self.watch.begin(PATIENCE, PATIENCE, None, None)
        self.stream: Any = await AsyncioBackend(self.watch).connect_tcp("127.0.0.1", self.port)
        self.sock, _ = self.listener.accept()
        self.sock.setblocking(False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stream.aclose()
        self.sock.close()
        self.listener.close()

    async def received(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(PATIENCE):
            while len(data) < size:
                data += await asyncio.get_running_loop().sock_recv(self.sock, size - len(data))
        return data


@pytest.mark.asyncio
async def test_head_and_body_go_out_together() -> None:
    async with Server() as server:
        sent: list[bytes] = []
        write = server.stream._wire.transport.write
        wire = server.stream._wire

        class Transport:
            def write(self, data: bytes) -> None:
                sent.append(data)
                write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        transport, wire.transport = wire.transport, Transport()
        for piece in (b"head", b"body", b""):
            await server.stream.write(piece)
        assert sent == [b"headbody"]
        assert await server.received(8) == b"headbody"


@pytest.mark.asyncio
async def test_what_was_held_back_goes_out_before_an_answer_is_waited_for() -> None:
    async with Server() as server:
        await server.stream.write(b"hello")
        reading = asyncio.create_task(server.stream.read(100))
        assert await server.received(5) == b"hello"
        server.sock.send(b"answer")
        assert await reading == b"answer"


@pytest.mark.asyncio
async def test_no_more_is_read_than_is_wanted() -> None:
    """A host that is faster than its caller fills the sockets, not the memory."""
    async with Server() as server:
        loop = asyncio.get_running_loop()
        total = 64 * ENOUGH
        sending = asyncio.create_task(loop.sock_sendall(server.sock, bytes(total)))
        wire = server.stream._wire
        async with asyncio.timeout(PATIENCE):
            while not wire._stopped:
                await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert wire.size <= 2 * ENOUGH, "one read beyond the limit at most"
        assert not sending.done()
        read = 0
        while read < total:
            data = await server.stream.read(1 << 16)
            assert 0 < len(data) <= 1 << 16
            read += len(data)
        await sending
        assert wire.size == 0


@pytest.mark.asyncio
async def test_a_write_waits_for_room_and_ends_in_time() -> None:
    async with Server() as server:
        server.watch.begin(PATIENCE, 0.2, None, None)
        with pytest.raises(httpcore.WriteTimeout):
            await server.stream.write(bytes(64 << 20))


@pytest.mark.asyncio
async def test_a_read_ends_in_time_also_after_a_longer_one() -> None:
    async with Server() as server:
        server.sock.send(b"x")
        assert await server.stream.read(10) == b"x"  # with a timer for `PATIENCE`
        server.watch.limit(monotonic() + 0.05, "idle")
        began = monotonic()
        with pytest.raises(httpcore.ReadTimeout):
            await server.stream.read(10)
        assert monotonic() - began < PATIENCE / 2


@pytest.mark.asyncio
async def test_a_timer_that_was_set_for_an_earlier_wait_ends_no_later_one() -> None:
    async with Server() as server:
        server.watch.limit(monotonic() + 0.1, "idle")
        reading = asyncio.create_task(server.stream.read(10))
        await asyncio.sleep(0)
        server.sock.send(b"x")
        assert await reading == b"x"
        server.watch.limit(monotonic() + PATIENCE, "idle")
        reading = asyncio.create_task(server.stream.read(10))
        await asyncio.sleep(0.2)
        server.sock.send(b"y")
        assert await reading == b"y"


@pytest.mark.asyncio
async def test_waits_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    set_timers = 0
    original = asyncio_stream._Wire._set_timer

    def counted(wire: Any) -> None:
        nonlocal set_timers
        set_timers += 1
        original(wire)

    monkeypatch.setattr(asyncio_stream._Wire, "_set_timer", counted)
    async with Server() as server:
        for _ in range(20):
            server.watch.limit(monotonic() + PATIENCE, "idle")
            reading = asyncio.create_task(server.stream.read(10))
            await asyncio.sleep(0)
            server.sock.send(b"x")
            assert await reading == b"x"
    assert set_timers == 1


@pytest.mark.asyncio
async def test_the_end_comes_after_what_was_said() -> None:
    async with Server() as server:
        server.sock.send(b"last words")
        server.sock.close()
        assert server.stream.get_extra_info("is_readable")
        async with asyncio.timeout(PATIENCE):
            assert await server.stream.read(100) == b"last words"
            assert await server.stream.read(100) == b""
        await server.stream.write(b"x")
        with pytest.raises(httpcore.WriteError):
            await server.stream.write(b"")


@pytest.mark.asyncio
async def test_a_connection_without_news_is_not_readable() -> None:
    async with Server() as server:
        assert not server.stream.get_extra_info("is_readable")
        server.sock.send(b"x")
        async with asyncio.timeout(PATIENCE):
            while not server.stream.get_extra_info("is_readable"):  # found though the loop has not looked
                pass


def test_large_pieces_are_not_copied_together() -> None:
    together = Together()
    large = bytes(1 << 20)
    assert together.add(b"head") == ()
    assert together.add(b"begin") == ()
    rest, piece = together.add(large)
    assert rest == b"headbegin"
    assert piece is large
    assert together.add(b"end") == ()
    assert together.add(b"") == (b"end",)
    assert together.rest() == b""
