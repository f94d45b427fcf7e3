"""A second target asked beside one that is slow: through both clients, with two legs at real servers."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest

import llamaroute as lr

from .api import ASYNC, Api, boxes
from .fake import AsyncFakeTransport, FakeTransport
from .raw import PATIENCE, Connection, Play, Raw, Story, answer, body_of, stream_of, then_silence
from .test_time import within

SOON = {"after": 0.15, "max_extra": 1}
"""Every call may be hedged, from the first on."""


def later(seconds: float, *pieces: bytes) -> Play:
    """Read a request, wait, answer, and go on."""

    def play(connection: Connection) -> None:
        while connection.read_request() is not None:
            time.sleep(seconds)
            connection.send(*pieces)

    return play


def rows(attempts: tuple[lr.Attempt, ...]) -> list[tuple[str, int | None, str]]:
    """Account, status and error of each attempt."""
    return [(one.target[0], one.status, one.error.type if one.error else "") for one in attempts]


async def ask(client: Any, stream: bool, **options: Any) -> Any:
    if not stream:
        return await client.chat("Hi", **options)
    async with client.stream("Hi", **options) as running:
        assert "".join([piece async for piece in running.text()])
    return running.response


def gone(server: Raw) -> bool:
    """Whether the client closes its first connection."""
    server.wait_for(1)
    return server.connections[0].gone.wait(PATIENCE)


def plain_or_stream(stream: bool, text: str = "Hello") -> bytes:
    return b"".join(stream_of(text)) if stream else answer(body_of(text))


def until(fits: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not fits():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_the_second_answers_first(api: Api, stream: bool):
    with Raw(then_silence()) as slow, Raw(Story([plain_or_stream(stream)])) as quick:
        async with api.client(boxes(slow.url, quick.url, hedge=SOON)) as client:
            with within():
                response = await ask(client, stream)
            assert gone(slow), "the leg that was left is broken off"
            assert [one.in_flight for one in client.health()] == [0, 0]
            totals = client.usage()
    assert (response.text, response.provider) == ("Hello", "b")
    assert rows(response.attempts) == [("a", None, "Abandoned"), ("b", 200, "")]
    assert "another target answered first" in response.attempts[0].error.message
    assert response.attempts[0].seconds >= 0.14
    assert response.attempts[1].usage == response.usage
    assert response.timing.first_token >= 0.15, "counted from the call's beginning"
    (notice,) = [one for one in response.warnings if one.code == "hedged"]
    assert "a:llama-4-scout had not begun to answer after 0.15 s; b:llama-4-scout was asked, too" in notice.message
    assert (totals.calls, totals.failed, totals.attempts, totals.abandoned) == (1, 0, 2, 1)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_the_first_answers_first_after_all(api: Api, stream: bool):
    with Raw(later(0.5, plain_or_stream(stream))) as slow, Raw(then_silence()) as slower:
        async with api.client(boxes(slow.url, slower.url, hedge=SOON)) as client:
            with within():
                response = await ask(client, stream)
            assert gone(slower)
            with within():
                again = await ask(client, stream)
            assert slow.accepted == 1, "the winner's connection is used again"
    assert rows(response.attempts) == [("a", 200, ""), ("b", None, "Abandoned")]
    assert response.text == again.text == "Hello"


async def test_the_first_in_time_is_not_hedged(api: Api):
    with Raw(Story()) as quick, Raw(Story()) as other:
        async with api.client(boxes(quick.url, other.url, hedge={"after": 5, "max_extra": 1})) as client:
            response = await client.chat("Hi")
    assert (rows(response.attempts), response.warnings, other.accepted) == ([("a", 200, "")], (), 0)


async def test_one_fails_and_the_other_answers(api: Api):
    busy = answer(b'{"error": {"message": "busy"}}', "503 Busy")
    with Raw(later(0.4, busy)) as first, Raw(later(0.7, answer(body_of()))) as second:
        async with api.client(boxes(first.url, second.url, hedge=SOON)) as client:
            response = await client.chat("Hi")
    assert rows(response.attempts) == [("a", 503, "OverloadedError"), ("b", 200, "")]
    assert len(second.requests) == 1, "failover does not ask again what the other leg has asked"


async def test_the_second_leg_fails_over_too(api: Api):
    busy = answer(b'{"error": {"message": "busy"}}', "503 Busy")
    with Raw(then_silence()) as a, Raw(Story([busy])) as b, Raw(Story()) as c:
        async with api.client(boxes(a.url, b.url, c.url, hedge=SOON)) as client:
            response = await client.chat("Hi")
    assert rows(response.attempts) == [("a", None, "Abandoned"), ("b", 503, "OverloadedError"), ("c", 200, "")]


async def test_both_fail(api: Api):
    busy = answer(b'{"error": {"message": "busy"}}', "503 Busy")
    with Raw(later(0.5, busy)) as first, Raw(Story([busy])) as second:
        async with api.client(boxes(first.url, second.url, hedge=SOON)) as client:
            with pytest.raises(lr.AllTargetsFailedError, match=r"none of a:\S+, b:\S+ answered") as caught:
                await client.chat("Hi")
    assert rows(caught.value.attempts) == [("a", 503, "OverloadedError"), ("b", 503, "OverloadedError")]
    assert len(caught.value.exceptions) == 2


async def test_an_error_that_no_other_would_avoid_ends_both(api: Api):
    wrong = answer(b'{"error": {"message": "no such field"}}', "400 Bad Request")
    with Raw(later(0.5, wrong)) as first, Raw(then_silence()) as second:
        async with api.client(boxes(first.url, second.url, hedge=SOON)) as client:
            with within(), pytest.raises(lr.InvalidRequestError) as caught:
                await client.chat("Hi")
            assert gone(second)
    assert rows(caught.value.attempts) == [("a", 400, "InvalidRequestError"), ("b", None, "Abandoned")]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_one_deadline_for_both(api: Api, stream: bool):
    with Raw(then_silence()) as first, Raw(then_silence()) as second:
        async with api.client(boxes(first.url, second.url, hedge=SOON, timeout={"total": 0.6})) as client:
            with within(at_least=0.5), pytest.raises((lr.TimeoutError, lr.AllTargetsFailedError)) as caught:
                await ask(client, stream)
            assert gone(first)
            assert gone(second)
    assert {row.target[0] for row in caught.value.attempts} == {"a", "b"}
    assert all(row.error for row in caught.value.attempts)


async def test_calls_that_offer_tools_are_never_hedged(api: Api):
    def delete(name: str) -> None:
        """Delete a file."""

    with Raw(later(0.4, answer(body_of()))) as first, Raw(Story()) as second:
        async with api.client(boxes(first.url, second.url, hedge=SOON)) as client:
            response = await client.chat("Hi", tools=[delete])
    assert (rows(response.attempts), second.accepted) == ([("a", 200, "")], 0)


async def test_extra_requests_keep_to_their_share(api: Api):
    with Raw(later(0.06, answer(body_of()))) as first, Raw(Story()) as second:
        config = boxes(first.url, second.url, hedge={"after": 0.01, "max_extra": 0.25})
        async with api.client(config) as client:
            for _ in range(9):
                await client.chat("Hi")
    assert len(second.requests) == 2


async def test_what_is_usual_is_learned_first(api: Api):
    with Raw(Story()) as first, Raw(Story()) as second:
        async with api.client(boxes(first.url, second.url, hedge={"after": "p90", "max_extra": 1})) as client:
            for _ in range(49):
                await client.chat("Hi")
            first.plays = [later(0.5, answer(body_of()))]
            first.connections[0].sock.shutdown(2)
            response = await client.chat("Hi")
            assert rows(response.attempts)[-1] == ("a", 200, ""), "49 calls are too few"
            assert second.accepted == 0
            response = await client.chat("Hi")
    assert rows(response.attempts) == [("a", None, "Abandoned"), ("b", 200, "")]


async def test_limits_and_totals_are_settled(api: Api):
    with Raw(then_silence(), then_silence()) as slow, Raw(Story()) as quick:
        config = boxes(slow.url, quick.url, hedge=SOON)
        config["limits"] = {name: {"concurrency": 1} for name in "ab"}
        async with api.client(config) as client:
            for _ in range(2):
                with within():
                    response = await client.chat("Hi")
    assert rows(response.attempts) == [("a", None, "Abandoned"), ("b", 200, "")]
    assert slow.accepted == 2


async def test_both_legs_are_paid_from_the_call_s_budget(api: Api):
    with Raw(later(0.4, answer(body_of()))) as first, Raw(Story()) as second:
        config = boxes(first.url, second.url, hedge=SOON)
        config["models"] = {"llama-4-scout": {"input_price": 1, "output_price": 1}}
        config["policy"] = {"budget": {"usd_per_call": 0.00015}}
        async with api.client(config) as client:
            response = await client.chat("Hi", max_tokens=100)
    assert rows(response.attempts)[0] == ("a", 200, "")
    assert second.requests == [], "a second request could cost more than is left"
    assert "passed_over" in [one.code for one in response.warnings]


@pytest.mark.parametrize("api", ASYNC, indirect=True)
async def test_cancelling_ends_both(api: Api):
    import anyio

    class Watcher:
        def attempt_ended(self, call: Any, attempt: lr.Attempt) -> None:
            ended.append(attempt)

    ended: list[lr.Attempt] = []
    with Raw(then_silence()) as first, Raw(then_silence()) as second:
        config = boxes(first.url, second.url, hedge=SOON)
        async with api.client(config, observers=[Watcher()]) as client:
            with within(), anyio.move_on_after(0.6) as scope:
                await client.chat("Hi")
            assert scope.cancelled_caught
            assert gone(first)
            assert gone(second)
    assert sorted(rows(tuple(ended))) == [("a", None, "Abandoned"), ("b", None, "Abandoned")]
    assert all("the caller went away" in one.error.message for one in ended if one.error)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_ends_both_legs_of_a_blocking_call():
    class Stop(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with Raw(then_silence()) as first, Raw(then_silence()) as second:
            with lr.Client(boxes(first.url, second.url, hedge=SOON), env={}) as client:
                timer = threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGUSR1))
                timer.start()
                with within(), pytest.raises(Stop):
                    client.chat("Hi")
                assert gone(first)
                assert gone(second)
                timer.join()
            until(lambda: not [one for one in threading.enumerate() if one.name == "llamaroute-leg"])
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_both_answer_at_the_same_moment(api: Api):
    """Whichever is taken, the other is in the ledger as abandoned, and nothing of it stays open."""
    transport = _together(api)
    config = boxes("http://a.test/v1", "http://b.test/v1", hedge={"after": 0.02, "max_extra": 1})
    async with api.client(config, transport=transport) as client:
        for count in range(1, 21):
            response = await client.chat("Hi")
            assert sorted(error for _, _, error in rows(response.attempts)) == ["", "Abandoned"]
            until(partial(_closed, transport, 2 * count))
            assert [one.in_flight for one in client.health()] == [0, 0]


def _closed(transport: Any, count: int) -> bool:
    return [one.closed for one in transport.responses] == [1] * count


def _together(api: Api) -> Any:
    """Answers when two have asked."""
    reply = (200, [body_of()])
    if api.is_async:
        import anyio

        class Both(AsyncFakeTransport):
            waiting: Any = None

            async def open(self, send: Any) -> Any:
                if self.waiting is None:
                    self.waiting = anyio.Event()
                    await self.waiting.wait()
                else:
                    self.waiting.set()
                    self.waiting = None
                return await super().open(send)

        return Both(lambda send: reply)

    class Pair(FakeTransport):
        meeting = threading.Barrier(2)

        def open(self, send: Any) -> Any:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.meeting.wait(PATIENCE)
            return super().open(send)

    return Pair(lambda send: reply)
