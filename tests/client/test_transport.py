"""A user's own transport, observers and layers."""

from __future__ import annotations

import time
from typing import Any

import pytest

import llamaroute as lr

from .api import Api, box
from .fake import AsyncFakeTransport, FakeTransport
from .raw import DONE, body_of, delta

CONFIG = box("http://nowhere.invalid/v1", api_key="sk-fake")


def transport_of(api: Api, *answers: Any) -> Any:
    """Gives the answers in order, the last one again and again; an exception is raised instead."""
    left = list(answers)

    def answerer(send: Any) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return (AsyncFakeTransport if api.is_async else FakeTransport)(answerer)


HELLO = (200, [body_of()])
STREAM = (200, [delta("Hel"), delta("lo"), delta(finish="stop"), DONE])


async def test_a_plain_call(api: Api):
    transport = transport_of(api, HELLO)
    async with api.client(CONFIG, transport=transport) as client:
        reply = await client.chat("Hi")
    assert reply.text == "Hello"
    (send,) = transport.sent
    assert send.request.url == "http://nowhere.invalid/v1/chat/completions"
    assert send.request.headers["authorization"] == "Bearer sk-fake"
    assert send.target is not None
    assert send.target.name == "box:llama-4-scout"
    assert transport.responses[0].closed == 1
    assert transport.closed == 0, "it is the caller's own"


async def test_a_stream(api: Api):
    transport = transport_of(api, STREAM)
    async with api.client(CONFIG, transport=transport) as client, client.stream("Hi") as stream:
        texts = [text async for text in stream.text()]
    assert texts == ["Hel", "lo"]
    assert transport.responses[0].closed == 1


async def test_every_moment_is_in_the_future(api: Api):
    """`Head.sent` may be left out."""
    for answer in (HELLO, STREAM):
        transport = transport_of(api, answer)
        async with api.client(CONFIG, transport=transport) as client:
            if answer is HELLO:
                await client.chat("Hi")
            else:
                async with client.stream("Hi") as stream:
                    async for _ in stream:
                        pass
        limits = transport.responses[0].limits
        first = limits[0][0] - time.monotonic()
        assert 30 < first <= 60, "the default is 60 s for the first token and between two pieces"


async def test_an_answer_is_closed_before_the_next_request(api: Api):
    transport = transport_of(api, (503, [b"{}"]), (429, [b"{}"]), HELLO)
    async with api.client(CONFIG, transport=transport) as client:
        await client.chat("Hi", retry=lr.RetryPolicy(attempts=3, base=0))
    assert [response.closed for response in transport.responses] == [1, 1, 1]


async def test_an_answer_is_closed_when_the_call_fails(api: Api):
    transport = transport_of(api, (200, [b"nonsense"]))
    async with api.client(CONFIG, transport=transport) as client:
        with pytest.raises(lr.ProtocolError):
            await client.chat("Hi", retry=1)
    assert transport.responses[0].closed == 1


async def test_an_answer_is_closed_when_the_stream_is_left(api: Api):
    transport = transport_of(api, STREAM)
    async with api.client(CONFIG, transport=transport) as client:
        async with client.stream("Hi") as stream:
            await anext(stream)
        assert transport.responses[0].closed == 1
        assert stream.response.finish_reason == "interrupted"


async def test_a_body_of_blanks_is_not_read_past_its_end(api: Api):
    transport = transport_of(api, (200, [b" \n"]))
    async with api.client(CONFIG, transport=transport) as client:
        with pytest.raises(lr.ProtocolError):
            async with client.stream("Hi", retry=1):
                raise AssertionError("entering raises")


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), lr.InputError("header"), KeyError("x")])
async def test_what_is_no_provider_error_comes_through(api: Api, error: Exception):
    transport = transport_of(api, error)
    async with api.client(CONFIG, transport=transport) as client:
        with pytest.raises(type(error)):
            await client.chat("Hi")
    assert len(transport.sent) == 1


async def test_deadline_of_the_call_reaches_the_transport(api: Api):
    transport = transport_of(api, HELLO)
    async with api.client(CONFIG, transport=transport) as client:
        before = time.monotonic()
        await client.chat("Hi", timeout=lr.Timeout(connect=1, first_token=2, idle=3, total=4))
        after = time.monotonic()
    (send,) = transport.sent
    assert (send.connect, send.answer) == (1, 2)
    assert send.total is not None
    assert before + 4 <= send.total <= after + 4


# -- observers --------------------------------------------------------------------------------------------------------


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def attempt_started(self, call: Any) -> None:
        self.seen.append(("started", call.request.metadata))

    def attempt_ended(self, call: Any, attempt: lr.Attempt) -> None:
        self.seen.append(("ended", attempt.status))


async def test_observers(api: Api):
    watcher = Watcher()
    transport = transport_of(api, (503, [b"{}"]), HELLO)
    async with api.client(CONFIG, transport=transport, observers=[watcher]) as client:
        await client.chat("Hi", retry=lr.RetryPolicy(attempts=2, base=0), metadata={"user": "u1"})
    own = {"user": "u1"}
    assert watcher.seen == [("started", own), ("ended", 503), ("started", own), ("ended", 200)]


@pytest.mark.parametrize("how", ["to-the-end", "left", "interrupted", "broken"])
async def test_an_observer_hears_once_of_a_streams_end(api: Api, how: str):
    watcher = Watcher()
    pieces: list[Any] = [delta("a"), lr.ConnectionError("gone")] if how == "broken" else STREAM[1]
    transport = transport_of(api, (200, pieces))
    async with api.client(CONFIG, transport=transport, observers=[watcher]) as client:
        async with client.stream("Hi") as stream:
            try:
                async for _ in stream:
                    if how == "left":
                        break
                    if how == "interrupted":
                        await stream.interrupt()
            except lr.StreamInterruptedError:
                assert how == "broken"
            else:
                assert how != "broken"
        assert watcher.seen == [("started", {}), ("ended", 200)]
        assert client.usage().calls == 1


# -- layers -----------------------------------------------------------------------------------------------------------


async def test_a_layer_of_a_users_own_stands_around_each_attempt(api: Api):
    seen: list[Any] = []

    def layer(name: str) -> Any:
        def wrapped(call: Any, inner: Any) -> Any:
            seen.append((name, len(call.ledger.attempts)))
            try:
                return (yield from inner(call))
            finally:
                seen.append((f"{name} after", len(call.ledger.attempts)))

        return wrapped

    transport = transport_of(api, (503, [b"{}"]), HELLO)
    async with api.client(CONFIG, transport=transport, layers=[layer("outer"), layer("inner")]) as client:
        await client.chat("Hi", retry=lr.RetryPolicy(attempts=2, base=0))
    assert seen == [
        ("outer", 0), ("inner", 0), ("inner after", 1), ("outer after", 1),
        ("outer", 1), ("inner", 1), ("inner after", 2), ("outer after", 2),
    ]  # fmt: skip


async def test_a_layer_that_refuses_for_a_while_is_retried(api: Api):
    refusals = [lr.RateLimitError("own limiter"), lr.RateLimitError("own limiter")]

    def limiter(call: Any, inner: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return (yield from inner(call))

    transport = transport_of(api, HELLO)
    async with api.client(CONFIG, transport=transport, layers=[limiter]) as client:
        reply = await client.chat("Hi", retry=lr.RetryPolicy(attempts=3, base=0))
    assert reply.text == "Hello"
    assert len(transport.sent) == 1


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_layer_that_always_refuses_is_the_error(api: Api, attempts: int):
    def limiter(call: Any, inner: Any) -> Any:
        raise lr.RateLimitError("own limiter")
        yield

    transport = transport_of(api, HELLO)
    async with api.client(CONFIG, transport=transport, layers=[limiter]) as client:
        with pytest.raises(lr.RateLimitError, match="own limiter"):
            await client.chat("Hi", retry=lr.RetryPolicy(attempts=attempts, base=0))
        assert client.usage().failed == 1
    assert transport.sent == []


async def test_a_finisher_may_be_a_plan_of_its_own(api: Api):
    from llamaroute.pipeline.ops import Blocking, Sleep

    done: list[Any] = []

    def layer(call: Any, inner: Any) -> Any:
        reply = yield from inner(call)

        def finish(outcome: Any) -> Any:
            yield Sleep(0)
            done.append((yield Blocking(lambda: "freed")))
            done.append(outcome.usage is not None)

        reply.finishers.append(finish)
        return reply

    transport = transport_of(api, STREAM)
    async with api.client(CONFIG, transport=transport, layers=[layer]) as client, client.stream("Hi") as stream:
        async for _ in stream:
            pass
    assert done == ["freed", False]


async def test_blocking_work_of_a_layer_is_given_up_when_the_call_is_over(api: Api):
    import threading

    from llamaroute.pipeline.ops import Blocking

    release = threading.Event()

    def layer(call: Any, inner: Any) -> Any:
        yield Blocking(lambda: release.wait(10), call.deadline)
        return (yield from inner(call))

    transport = transport_of(api, HELLO)
    try:
        async with api.client(CONFIG, transport=transport, layers=[layer]) as client:
            began = time.monotonic()
            with pytest.raises(lr.TimeoutError) as caught:
                await client.chat("Hi", timeout=0.15)
            assert time.monotonic() - began < 5
    finally:
        release.set()
    assert caught.value.phase == "total"
    assert transport.sent == []
