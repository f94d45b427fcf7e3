"""The engines by themselves: which one a client takes, what each makes of an answer, and what only aiohttp's may do.

What callers see of them is in tests/client, one body of tests for all.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.pipeline.ops import Send
from llamaroute.spi import WireRequest
from llamaroute.transport import aiohttp as engine_module
from llamaroute.transport.aiohttp import AiohttpTransport
from llamaroute.transport.httpx import AsyncHttpxTransport, HttpxTransport
from tests.auth.aws_server import certificate
from tests.client.api import box
from tests.client.raw import (
    PATIENCE,
    STREAM_HEAD,
    Connection,
    Raw,
    Story,
    answer,
    body_of,
    chunk,
    delta,
    once,
    stream_of,
    then_silence,
)

HELLO = answer(body_of())
BOTH = pytest.mark.parametrize("engine", [AsyncHttpxTransport, AiohttpTransport])


def send_to(url: str, body: Any = b"{}", *, method: str = "POST", address: str | None = None, **headers: str) -> Send:
    return Send(WireRequest(method, url, headers, body), None, connect=5, answer=10, address=address)


async def read(response: Any) -> bytes:
    pieces = []
    while piece := await response.read(monotonic() + PATIENCE, "idle"):
        pieces.append(piece)
    return b"".join(pieces)


async def exchange(transport: Any, send: Send) -> tuple[Any, bytes]:
    response = await transport.open(send)
    try:
        return response.head, await read(response)
    finally:
        await response.aclose()


@asynccontextmanager
async def using(engine: Any, **options: Any) -> AsyncIterator[Any]:
    transport = engine(**options)
    try:
        yield transport
    finally:
        await transport.aclose()


# -- which one --------------------------------------------------------------------------------------------------------


def engine_of(client: lr.AsyncClient | lr.Client) -> type:
    return type(client._transport(None))


def test_aiohttp_is_taken_where_it_is_installed():
    assert engine_of(lr.AsyncClient(box("http://h/v1"), env={})) is AiohttpTransport
    assert engine_of(lr.AsyncClient(box("http://h/v1"), env={}, transport="aiohttp")) is AiohttpTransport
    assert engine_of(lr.AsyncClient(box("http://h/v1"), env={}, transport="httpx")) is AsyncHttpxTransport
    assert engine_of(lr.Client(box("http://h/v1"), env={})) is HttpxTransport
    assert engine_of(lr.Client(box("http://h/v1"), env={}, transport="httpx")) is HttpxTransport


def test_without_aiohttp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "llamaroute.transport.aiohttp")
    assert engine_of(lr.AsyncClient(box("http://h/v1"), env={})) is AsyncHttpxTransport
    with pytest.raises(lr.ConfigError, match=r"pip install 'llamaroute\[aiohttp\]'") as caught:
        engine_of(lr.AsyncClient(box("http://h/v1"), env={}, transport="aiohttp"))
    assert caught.value.key == "transport"


def test_a_release_of_aiohttp_that_is_not_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiohttp.__version__", "4.0.0a1")
    monkeypatch.delitem(sys.modules, "llamaroute.transport.aiohttp")
    assert engine_of(lr.AsyncClient(box("http://h/v1"), env={})) is AsyncHttpxTransport
    with pytest.raises(lr.ConfigError, match=r"aiohttp 4\.0\.0a1 is installed"):
        engine_of(lr.AsyncClient(box("http://h/v1"), env={}, transport="aiohttp"))


@pytest.mark.parametrize(("make", "name"), [(lr.Client, "aiohttp"), (lr.AsyncClient, "curl"), (lr.Client, "")])
def test_engines_that_there_are_not(make: Any, name: Any):
    with pytest.raises(lr.ConfigError, match="httpx") as caught:
        make(box("http://h/v1"), env={}, transport=name)
    assert caught.value.key == "transport"


def test_on_trio_it_is_httpx():
    import trio

    async def main() -> bytes:
        async with using(AiohttpTransport) as transport:
            return (await exchange(transport, send_to(server.url)))[1]

    with Raw(Story()) as server:
        assert trio.run(main) == body_of()


# -- what both make of an exchange ------------------------------------------------------------------------------------


@BOTH
def test_heads(engine: Any):
    """Names in lower case, values as bytes of Latin-1, several of a name joined."""
    head, _, rest = HELLO.partition(b"\r\n")
    lines = b"\r\nX-Name: a\r\nSet-Cookie: c=1\r\nx-NAME: \xe4\r\nX-Utf8: \xc3\xa4\r\nX-Blank:\r\nSet-Cookie: d=2\r\n"

    async def main() -> Any:
        async with using(engine) as transport:
            return (await exchange(transport, send_to(server.url)))[0]

    with Raw(once(head + lines + rest)) as server:
        told = asyncio.run(main())
    assert told.status == 200
    assert told.headers == {
        "content-type": "application/json", "content-length": str(len(body_of())),
        "x-name": "a, \xe4", "x-utf8": "\xc3\xa4", "x-blank": "", "set-cookie": "c=1, d=2",
    }  # fmt: skip
    assert told.connect > 0
    assert monotonic() - 60 < told.sent <= monotonic()


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_what_is_sent(engine: Any, method: str):
    async def main() -> Any:
        async with using(engine) as transport:
            url = server.url + "/a b?c=d e&f=%20#g"
            return await exchange(transport, send_to(url, b"", method=method, Authorization="x", Accept="y"))

    silent = answer(b"", content_length="5") if method == "HEAD" else HELLO
    with Raw(Story([silent])) as server:
        _, body = asyncio.run(main())
    (request,) = server.requests
    assert body == (b"" if method == "HEAD" else body_of())
    assert request.line == f"{method} /v1/a%20b?c=d%20e&f=%20 HTTP/1.1"
    length = [] if method == "GET" else [("content-length", "0")]
    assert request.headers == [
        ("host", f"127.0.0.1:{server.port}"), ("user-agent", "llamaroute"), ("accept-encoding", "identity"),
        ("authorization", "x"), ("accept", "y"), *length,
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize("size", [0, 10, 300_000, 3_000_000])
def test_bodies_in_parts(engine: Any, size: int):
    parts = (b"<", b"a" * size, b"", b"b" * size, b">")

    async def main() -> None:
        async with using(engine) as transport:
            for _ in range(2):
                await exchange(transport, send_to(server.url, parts))

    with Raw(Story()) as server:
        asyncio.run(main())
        assert server.accepted == 1
    assert [request.body for request in server.requests] == [b"".join(parts)] * 2


@BOTH
@pytest.mark.parametrize("secure", [False, True])
def test_a_pinned_address(engine: Any, secure: bool, tmp_path: Path):
    """Nothing is looked up, the host is told and asked for by its name, and the connection is used once."""
    ca = certificate(tmp_path, "pinned.invalid")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca)
    names: list[str] = []
    context.sni_callback = lambda _sock, name, _context: names.append(name)

    def play(connection: Connection) -> None:
        if secure:
            connection.sock = context.wrap_socket(connection.sock, server_side=True)
        Story()(connection)

    async def main() -> None:
        url = f"{'https' if secure else 'http'}://pinned.invalid:{server.port}/image"
        async with using(engine, verify=str(ca)) as transport:
            for _ in range(2):
                _, body = await exchange(transport, send_to(url, b"", method="GET", address="127.0.0.1"))
                assert body == body_of()

    with Raw(play) as server:
        asyncio.run(main())
        assert server.accepted == 2
    assert [request.all("host") for request in server.requests] == [[f"pinned.invalid:{server.port}"]] * 2
    assert names == (["pinned.invalid"] * 2 if secure else [])


def test_an_answer_that_comes_before_the_request_is_out():
    """It is read, and such a connection is not used again."""
    refusal = answer(b"too large", "413 Content Too Large")

    def play(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.send(refusal)
        connection.server.ending.wait(PATIENCE)

    async def main(transport: AiohttpTransport) -> None:
        head, body = await exchange(transport, send_to(server.url, b"x" * 20_000_000))
        assert (head.status, body) == (413, b"too large")
        await exchange(transport, send_to(server.url))

    with Raw(play, Story()) as server:
        run(main)
        assert server.accepted == 2


@BOTH
def test_a_moment_that_has_passed(engine: Any):
    """Nothing is sent, and nothing is read."""

    async def main() -> None:
        async with using(engine) as transport:
            await exchange(transport, send_to(server.url))
            late = Send(WireRequest("POST", server.url, {}, b"{}"), None, connect=5, answer=10, total=monotonic() - 1)
            with pytest.raises(lr.TimeoutError) as caught:
                await transport.open(late)
            assert caught.value.phase == "total"
            silent = await transport.open(send_to(server.url))
            with pytest.raises(lr.TimeoutError) as caught:
                await silent.read(monotonic() - 1, "idle")
            assert caught.value.phase == "idle"
            await silent.aclose()

    with Raw(Story(), then_silence(STREAM_HEAD)) as server:
        asyncio.run(main())
        assert len(server.requests) == 2


# -- connections of the aiohttp engine --------------------------------------------------------------------------------


def run(main: Callable[[AiohttpTransport], Any], *, debug: bool = False) -> Any:
    async def whole() -> Any:
        async with using(AiohttpTransport) as transport:
            return await main(transport)

    result = asyncio.run(whole(), debug=debug)
    gc.collect()
    return result


def test_an_idle_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "KEEP_ALIVE", -1.0)

    async def main(transport: AiohttpTransport) -> None:
        for _ in range(3):
            await exchange(transport, send_to(server.url))

    with Raw(Story()) as server:
        run(main)
        assert server.accepted == 3
        assert all(connection.gone.wait(PATIENCE) for connection in server.connections)


def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "MAX_IDLE", 2)

    async def main(transport: AiohttpTransport) -> None:
        for _ in range(2):
            opened = [await transport.open(send_to(server.url)) for _ in range(5)]
            for response in opened:
                await read(response)
                await response.aclose()

    with Raw(Story()) as server:
        run(main)
        assert server.accepted == 5 + 3


def test_what_follows_an_answer_at_once_is_not_taken_for_the_next():
    wrong = answer(body_of("wrong"))

    async def main(transport: AiohttpTransport) -> list[bytes]:
        return [(await exchange(transport, send_to(server.url)))[1] for _ in range(2)]

    def play(connection: Connection) -> None:
        connection.read_request()
        connection.send(HELLO + wrong)
        connection.wait_until_gone()

    with Raw(play, Story()) as server:
        assert run(main) == [body_of(), body_of()]
        assert server.accepted == 2


def test_a_stream_that_has_ended_gives_its_connection_back_unread():
    async def main(transport: AiohttpTransport) -> None:
        for _ in range(2):
            response = await transport.open(send_to(server.url))
            await asyncio.sleep(0.1)
            await response.aclose()

    with Raw(Story()) as server:
        run(main)
        assert server.accepted == 1


def test_an_answer_that_is_forgotten_is_closed():
    async def main(transport: AiohttpTransport) -> None:
        await transport.open(send_to(server.url))
        response: Any = await transport.open(send_to(server.url))
        await response.read(monotonic() + PATIENCE, "idle")
        del response
        until = monotonic() + PATIENCE
        while not all(connection.gone.is_set() for connection in server.connections):
            gc.collect()
            await asyncio.sleep(0.01)
            assert monotonic() < until

    with Raw(then_silence(STREAM_HEAD, chunk(b"x"))) as server:
        run(main)


def test_a_reader_is_held_back():
    """An answer that nobody reads does not fill the memory."""
    sent: list[int] = []

    def play(connection: Connection) -> None:
        connection.read_request()
        connection.send(STREAM_HEAD)
        connection.sock.settimeout(0.3)
        data = chunk(b"x" * 10_000)
        for number in itertools.count():
            try:
                connection.send(data)
            except TimeoutError:
                break
            sent.append(number)
            if number > 10_000:
                break

    async def main(transport: AiohttpTransport) -> None:
        response = await transport.open(send_to(server.url))
        while server._threads[0].is_alive():
            await asyncio.sleep(0.05)
        with pytest.raises(lr.ConnectionError):
            await read(response)
        await response.aclose()

    with Raw(play) as server:
        run(main)
    assert len(sent) < 5000, "50 MB"


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_is_said_of_what_went_well(debug: bool, caplog: pytest.LogCaptureFixture):
    """Nor of what was left, cut or closed early."""

    async def main(transport: AiohttpTransport) -> None:
        for _ in range(2):
            await exchange(transport, send_to(server.url))
        response = await transport.open(send_to(server.url + "/left"))
        await response.aclose()
        with pytest.raises(lr.ConnectionError):
            await exchange(transport, send_to(cut.url))
        with pytest.raises(lr.ProtocolError):
            await exchange(transport, send_to(nonsense.url))

    with (
        Raw(Story([HELLO, HELLO, stream_of("a")[:-1]])) as server,
        Raw(once(STREAM_HEAD, chunk(delta("a")))) as cut,
        Raw(once(STREAM_HEAD, b"zz\r\n")) as nonsense,
        caplog.at_level(logging.INFO),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        run(main, debug=debug)
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []
    slow = "took"  # a debugging event loop tells how long each step was
    assert [text for record in caplog.records if slow not in (text := record.getMessage())] == []


def test_an_answer_that_is_closed_is_not_read():
    async def main(transport: AiohttpTransport) -> None:
        response = await transport.open(send_to(server.url))
        await response.aclose()
        await response.aclose()
        with pytest.raises(lr.ConnectionError):
            await response.read(monotonic() + 1, "idle")

    with Raw(then_silence(STREAM_HEAD, chunk(b"x"))) as server:
        run(main)


def test_closing_while_another_task_reads():
    async def main(transport: AiohttpTransport) -> None:
        response = await transport.open(send_to(server.url))
        reader = asyncio.create_task(read(response))
        await asyncio.sleep(0.05)
        await response.aclose()
        with pytest.raises(lr.ConnectionError):
            await reader

    with Raw(then_silence(STREAM_HEAD, chunk(b"x"))) as server:
        run(main)


def test_one_timer_for_many_waits():
    """Moments move on with every read, also to earlier ones; a timer that is left over harms nobody."""

    async def main(transport: AiohttpTransport) -> None:
        response = await transport.open(send_to(server.url))
        got = b""
        for number, limit in enumerate([10.0, 20.0, 0.5, 30.0, 40.0]):
            piece = await response.read(monotonic() + limit, "idle")
            assert piece == b"%d" % number
            got += piece
        began = monotonic()
        with pytest.raises(lr.TimeoutError) as caught:
            await response.read(monotonic() + 0.1, "idle")
        assert caught.value.phase == "idle"
        assert monotonic() - began < 5
        await response.aclose()

    def play(connection: Connection) -> None:
        connection.read_request()
        connection.send(STREAM_HEAD)
        for number in range(5):
            connection.send(chunk(b"%d" % number), pause=0.02)
        connection.wait_until_gone()

    with Raw(play) as server:
        run(main)


def test_a_name_that_another_caller_gave_up_on_is_still_looked_up(monkeypatch: pytest.MonkeyPatch):
    """A slow resolver ends the call in time, in the phase of connecting."""
    import socket
    import threading

    release = threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        release.wait(PATIENCE)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main(transport: AiohttpTransport) -> None:
        try:
            send = Send(WireRequest("POST", "http://slow.invalid/", {}, b""), None, connect=0.1, answer=1)
            with pytest.raises(lr.TimeoutError) as caught:
                await transport.open(send)
            assert caught.value.phase == "connect"
        finally:
            release.set()

    run(main)
