"""Limits of time, by phase; cancelling; interrupting. These use real time, a few tenths of a second each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import llamaroute as lr

from .api import ASYNC, Api, box, boxes
from .raw import PATIENCE, STREAM_HEAD, Raw, Story, answer, body_of, chunk, delta, once, stream_of, then_silence

SHORT = 0.15
SLOW = 5.0
"""What any of these may take on a slow machine; the hosts here would stay silent for ever."""


@contextlib.contextmanager
def within(seconds: float = SLOW, *, at_least: float = 0.0) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert at_least <= took < seconds, f"{took:.3f} s"


async def whole(client, **options) -> lr.ChatResponse:
    """A streamed answer, read to its end."""
    async with client.stream("Hi", **options) as stream:
        async for _ in stream:
            pass
    return stream.response


@pytest.fixture
def blackhole() -> Iterator[str]:
    """A listening socket whose queue is full: connecting neither works nor fails."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting: list[socket.socket] = []
        try:
            for _ in range(64):
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.1)
                try:
                    sock.connect(("127.0.0.1", port))
                except TimeoutError:
                    break
            else:
                pytest.skip("this system's queue of connections is never full")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            for sock in waiting:
                sock.close()


# -- by phase ---------------------------------------------------------------------------------------------------------


async def test_connect(api: Api, blackhole: str):
    async with api.client(box(blackhole)) as client:
        with within(at_least=SHORT * 0.9), pytest.raises(lr.TimeoutError) as caught:
            await client.chat("Hi", retry=1, timeout=lr.Timeout(connect=SHORT))
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.phase == "connect"
    assert error.retryable
    assert error.failover
    assert error.attempts[0].phase == "connect"
    assert error.attempts[0].seconds >= SHORT * 0.9
    assert error.target == "box:llama-4-scout"


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 OK\r\n",)], ids=["nothing", "half-a-head"])
async def test_first_token_of_a_plain_call_is_its_headers(api: Api, pieces: tuple[bytes, ...]):
    with Raw(then_silence(*pieces)) as server:
        async with api.client(box(server.url)) as client:
            with within(at_least=SHORT * 0.9), pytest.raises(lr.TimeoutError) as caught:
                await client.chat("Hi", retry=1, timeout=lr.Timeout(first_token=SHORT))
            assert caught.value.phase == "first_token"
            assert server.connections[0].gone.wait(PATIENCE)


@pytest.mark.parametrize(
    "pieces", [(), (STREAM_HEAD,), (STREAM_HEAD, chunk(b": ping\n\n"))], ids=["nothing", "head", "ping"]
)
async def test_first_token_of_a_stream_is_its_first_text(api: Api, pieces: tuple[bytes, ...]):
    with Raw(then_silence(*pieces)) as server:
        async with api.client(box(server.url)) as client:
            with within(at_least=SHORT * 0.9), pytest.raises(lr.TimeoutError) as caught:
                async with client.stream("Hi", retry=1, timeout=lr.Timeout(first_token=SHORT)):
                    raise AssertionError("entering raises")
    assert caught.value.phase == "first_token"


async def test_keep_alive_comments_do_not_count_as_a_first_token(api: Api):
    def play(connection):
        connection.read_request()
        connection.send(STREAM_HEAD)
        for _ in range(5000):
            connection.send(chunk(b": ping\n\n"), pause=0.02)

    with Raw(play) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.TimeoutError) as caught:
                async with client.stream("Hi", retry=1, timeout=lr.Timeout(first_token=SHORT)):
                    raise AssertionError("entering raises")
    assert caught.value.phase == "first_token"


async def test_idle_in_a_plain_body(api: Api):
    with Raw(then_silence(answer(body_of())[:-4])) as server:
        async with api.client(box(server.url)) as client:
            with within(at_least=SHORT * 0.9), pytest.raises(lr.TimeoutError) as caught:
                await client.chat("Hi", retry=1, timeout=lr.Timeout(idle=SHORT))
    assert caught.value.phase == "idle"


async def test_idle_in_a_stream_interrupts_it(api: Api):
    with Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server:
        async with api.client(box(server.url)) as client:
            with within(at_least=SHORT * 0.9), pytest.raises(lr.StreamInterruptedError) as caught:
                await whole(client, timeout=lr.Timeout(idle=SHORT))
    error = caught.value
    assert error.phase == "idle"
    assert isinstance(error.__cause__, lr.TimeoutError)
    assert error.partial is not None
    assert error.partial.text == "Hel"
    assert error.attempts[0].phase == "idle"


async def test_total_ends_a_body_that_dribbles(api: Api):
    def play(connection):
        connection.read_request()
        connection.send(answer(body_of(), content_length="100000"))
        for _ in range(5000):
            connection.send(b" ", pause=0.01)

    with Raw(play) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.TimeoutError) as caught:
                await client.chat("Hi", timeout=0.2)
    assert caught.value.phase == "total"
    assert not caught.value.retryable
    assert server.accepted == 1, "when the whole call's time is over nobody is asked again"


async def test_total_ends_a_stream_that_dribbles(api: Api):
    def play(connection):
        connection.read_request()
        connection.send(STREAM_HEAD)
        for _ in range(5000):
            connection.send(chunk(delta("x")), pause=0.01)

    with Raw(play) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.StreamInterruptedError) as caught:
                await whole(client, timeout=0.2)
    assert caught.value.phase == "total"


async def test_total_covers_retries_and_failover(api: Api):
    """Each attempt is quick to fail; together they may not outlast the call."""

    def busy(connection):
        while connection.read_request() is not None:
            time.sleep(0.05)
            connection.send(answer(b"{}", "503 Service Unavailable"))

    with Raw(busy) as server:
        async with api.client(boxes(server.url, server.url)) as client:
            policy = lr.RetryPolicy(attempts=1000, base=0)
            with (
                within(at_least=0.2),
                pytest.raises((lr.TimeoutError, lr.OverloadedError, lr.AllTargetsFailedError)) as caught,
            ):
                await client.chat("Hi", timeout=0.3, retry=policy)
    assert len(caught.value.attempts) < 30
    # The last attempt may have ended before its request was out.
    assert len(caught.value.attempts) - len(server.requests) in (0, 1)


async def test_a_long_wait_before_a_retry_is_not_begun(api: Api):
    with Raw(Story([answer(b"{}", "429 Too Many Requests", retry_after="15")])) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.RateLimitError) as caught:
                await client.chat("Hi", timeout=10)
    assert caught.value.retry_after == 15
    assert len(server.requests) == 1


async def test_limits_from_the_account_and_the_route(api: Api):
    with Raw(then_silence()) as server:
        account = box(server.url, timeout={"first_token": SHORT}, retry=1)
        route = boxes(server.url, timeout={"first_token": SHORT})
        for config in (account, route):
            async with api.client(config) as client:
                with within(), pytest.raises(lr.TimeoutError) as caught:
                    await client.chat("Hi")
                assert caught.value.phase == "first_token"


async def test_an_upload_that_is_not_read_ends(api: Api):
    """A request larger than the socket's buffers, to a host that reads nothing."""

    def deaf(connection):
        connection.server.ending.wait(PATIENCE)

    with Raw(deaf) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.TimeoutError) as caught:
                await client.chat("x" * 20_000_000, retry=1, timeout=lr.Timeout(first_token=SHORT))
    assert caught.value.phase == "first_token"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5", lr.Text("x")], ids=repr)
async def test_timeouts_that_are_none(api: Api, timeout):
    async with api.client(box("http://127.0.0.1:9/v1")) as client:
        with pytest.raises(lr.InputError, match="timeout"):
            await client.chat("Hi", timeout=timeout)


@pytest.mark.parametrize("field", ["connect", "first_token", "idle", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5"])
def test_a_timeouts_fields_are_checked(field: str, value):
    with pytest.raises(lr.InputError):
        lr.Timeout(**{field: value})


# -- cancelling -------------------------------------------------------------------------------------------------------

asynchronous = pytest.mark.parametrize("api", ASYNC, indirect=True)


@asynchronous
@pytest.mark.parametrize("pieces", [(), (answer(body_of())[:-4],)], ids=["waiting", "reading"])
async def test_cancelling_a_call_closes_its_connection(api: Api, pieces: tuple[bytes, ...]):
    import anyio

    class Watcher:
        ended: list[lr.Attempt] = []

        def attempt_ended(self, call, attempt):
            self.ended.append(attempt)

    watcher = Watcher()
    watcher.ended = []
    with Raw(then_silence(*pieces)) as server:
        async with api.client(box(server.url), observers=[watcher]) as client:
            with within(), anyio.move_on_after(0.1) as scope:
                await client.chat("Hi")
            assert scope.cancelled_caught
            assert server.connections[0].gone.wait(PATIENCE)
    (attempt,) = watcher.ended
    assert attempt.error is not None
    assert attempt.error.type == "Abandoned"
    assert attempt.seconds > 0.05


@asynchronous
async def test_cancelling_a_stream_closes_its_connection(api: Api):
    import anyio

    with Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server:
        async with api.client(box(server.url)) as client:
            with within(), anyio.move_on_after(0.1) as scope:
                async with client.stream("Hi") as stream:
                    async for _ in stream:
                        pass
            assert scope.cancelled_caught
            assert server.connections[0].gone.wait(PATIENCE)
            assert stream.response.text == "Hel"
            assert stream.response.finish_reason == "interrupted"


@asynchronous
async def test_cancelling_while_connecting(api: Api, blackhole: str):
    import anyio

    async with api.client(box(blackhole)) as client:
        with within(), anyio.move_on_after(0.1) as scope:
            await client.chat("Hi")
        assert scope.cancelled_caught


@asynchronous
async def test_cancelling_while_waiting_to_retry(api: Api):
    import anyio

    with Raw(Story([answer(b"{}", "429 Too Many Requests", retry_after="15")])) as server:
        async with api.client(box(server.url)) as client:
            with within(), anyio.move_on_after(0.2) as scope:
                await client.chat("Hi")
            assert scope.cancelled_caught


@pytest.mark.parametrize("api", ["asyncio", "asyncio-aiohttp"], indirect=True)
async def test_cancelling_a_task_the_asyncio_way(api: Api):
    with Raw(then_silence()) as server:
        async with api.client(box(server.url)) as client:
            task = asyncio.create_task(client.chat("Hi"))
            while not server.requests:
                await asyncio.sleep(0.005)
            task.cancel()
            with within(), pytest.raises(asyncio.CancelledError):
                await task
            assert server.connections[0].gone.wait(PATIENCE)
            with within(), pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.chat("Hi")


@asynchronous
async def test_a_call_among_many_is_cancelled_alone(api: Api):
    import anyio

    def play(connection):
        while (request := connection.read_request()) is not None:
            if b"never" in request.body:
                connection.wait_until_gone()
                return
            time.sleep(0.15)
            connection.send(answer(body_of()))

    texts: list[str] = []
    with Raw(play) as server:
        async with api.client(box(server.url)) as client:

            async def patient() -> None:
                texts.append((await client.chat("soon")).text)

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(patient)
                with anyio.move_on_after(0.05):
                    await client.chat("never")
    assert texts == ["Hello"] * 3


# -- interrupting from outside ----------------------------------------------------------------------------------------


@asynchronous
async def test_another_task_interrupts_a_silent_stream(api: Api):
    import anyio

    with Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server:
        async with api.client(box(server.url)) as client, client.stream("Hi") as stream:
            with within():
                async with anyio.create_task_group() as group:

                    async def barge_in() -> None:
                        await anyio.sleep(0.1)
                        await stream.interrupt()

                    group.start_soon(barge_in)
                    seen = [event async for event in stream]
            assert lr.TextDelta("Hel") in seen
            assert stream.response.finish_reason == "interrupted"
            assert stream.response.text == "Hel"


def test_another_thread_interrupts_a_silent_stream():
    with (
        Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server,
        lr.Client(box(server.url), env={}) as client,
        client.stream("Hi", timeout=lr.Timeout(idle=SLOW * 2)) as stream,
    ):
        assert next(stream) == lr.Started("box:llama-4-scout", "llama-4-scout")
        assert next(stream) == lr.TextDelta("Hel")
        timer = threading.Timer(0.1, stream.interrupt)
        timer.start()
        with within():
            assert list(stream) == []
        timer.join()
        assert stream.response.finish_reason == "interrupted"
        assert stream.response.text == "Hel"
        assert server.connections[0].gone.wait(PATIENCE)


def test_a_stream_that_is_forgotten_is_closed():
    with Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server, lr.Client(box(server.url), env={}) as client:
        stream = client.stream("Hi").__enter__()
        assert next(stream)
        del stream
        assert server.connections[0].gone.wait(PATIENCE)


async def test_finished_streams_are_quick_to_end(api: Api):
    with Raw(Story([stream_of("a")])) as server:
        async with api.client(box(server.url)) as client:
            with within():
                for _ in range(5):
                    async with client.stream("Hi") as stream:
                        async for _ in stream:
                            pass
        assert server.accepted == 1


async def test_nothing_is_waited_for_after_an_error_without_an_end(api: Api):
    with Raw(once(b"HTTP/1.1 500 Oops\r\n\r\nbroken")) as server:
        async with api.client(box(server.url)) as client:
            with within(), pytest.raises(lr.ServerError, match="broken"):
                await client.chat("Hi", retry=1)
