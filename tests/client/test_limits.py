"""Limits as callers meet them, on both clients: the emulator's log says what was under way."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.script import Fault

from ..servers.redis_server import RedisServer
from .api import Api


def config_of(emu: Emulator, **limits: Any) -> dict[str, Any]:
    table = {**emu.providers("openai")["openai"], "model": "llama-4-scout", "retry": 1}
    return {"providers": {"box": table}, "limits": {"box": limits}}


async def together(api: Api, count: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """`work(0)` to `work(count - 1)` at once; what each gave or raised."""
    results: list[Any] = [None] * count

    async def one(i: int) -> None:
        try:
            results[i] = await work(i)
        except Exception as error:
            results[i] = error

    if api.is_async:
        async with anyio.create_task_group() as group:
            for i in range(count):
                group.start_soon(one, i)
        return results
    threads = [threading.Thread(target=lambda i=i: api.run(one(i))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


async def pause(api: Api, seconds: float) -> None:
    if api.is_async:
        await anyio.sleep(seconds)
    else:
        time.sleep(seconds)


def most_at_once(emu: Emulator) -> int:
    spans = [(request.started, request.finished or time.monotonic()) for request in emu.requests]
    return max(sum(a <= start < b for a, b in spans) for start, _ in spans)


def busy(client: Any) -> int:
    (gate,) = client._runtime.gates._gates.values()
    return gate.busy


async def test_concurrency_is_kept(api: Api, emu: Emulator):
    emu.fault(Fault(stall=0.05), times=100)
    async with api.client(config_of(emu, concurrency=3)) as client:
        replies = await together(api, 15, lambda i: client.chat("Hi"))
        assert all(isinstance(reply, lr.ChatResponse) for reply in replies), replies
        assert busy(client) == 0
    assert most_at_once(emu) == 3


async def test_requests_a_minute_are_kept(api: Api, emu: Emulator):
    async with api.client(config_of(emu, requests_per_minute=600)) as client:
        began = time.monotonic()
        replies = await together(api, 65, lambda i: client.chat("Hi"))
        assert all(isinstance(reply, lr.ChatResponse) for reply in replies), replies
        assert time.monotonic() - began > 0.48  # sixty at once, five more at ten a second


async def test_the_urgent_go_first(api: Api, emu: Emulator):
    emu.fault(Fault(stall=0.1), times=100)
    order: list[int] = []
    async with api.client(config_of(emu, concurrency=1)) as client:

        async def ask(i: int) -> None:
            await pause(api, 0.01 * i)
            await client.chat("Hi", priority=[0, -1, 0, 5][i])
            order.append(i)

        await together(api, 4, ask)
    assert order == [0, 3, 2, 1]


async def test_a_full_queue_refuses_at_once(api: Api, emu: Emulator):
    emu.fault(Fault(stall=0.4), times=1)
    async with api.client(config_of(emu, concurrency=1, queue=1)) as client:

        async def ask(i: int) -> Any:
            await pause(api, 0.05 * i)
            began = time.monotonic()
            try:
                return await client.chat("Hi")
            except lr.RateLimitError as error:
                assert time.monotonic() - began < 0.2
                return error

        replies = await together(api, 3, ask)
        error = replies[2]
        assert isinstance(error, lr.RateLimitError)
        assert (error.phase, error.provider) == ("queue", "box")
        assert [attempt.phase for attempt in error.attempts] == ["queue"]
        assert [type(reply) for reply in replies[:2]] == [lr.ChatResponse[Any]] * 2 or replies[1].text
        assert busy(client) == 0
    assert len(emu.requests) == 2


async def test_a_wait_that_cannot_end_in_time_is_refused_at_once(api: Api, emu: Emulator):
    async with api.client(config_of(emu, requests_per_minute=1)) as client:
        await client.chat("Hi")
        began = time.monotonic()
        with pytest.raises(lr.RateLimitError, match="at the earliest"):
            await client.chat("Hi", timeout=10)
        assert time.monotonic() - began < 1
    assert len(emu.requests) == 1


async def test_a_wait_ends_with_the_call_s_time(api: Api, emu: Emulator):
    emu.fault(Fault(stall=1.0), times=1)
    async with api.client(config_of(emu, concurrency=1)) as client:

        async def ask(i: int) -> float:
            await pause(api, 0.1 * i)
            began = time.monotonic()
            with pytest.raises(lr.RateLimitError) if i else pytest.raises(lr.TimeoutError):
                await client.chat("Hi", timeout=0.6 - 0.3 * i)
            return time.monotonic() - began

        first, second = await together(api, 2, ask)
        assert first == pytest.approx(0.6, abs=0.15)
        assert second == pytest.approx(0.3, abs=0.15)
        assert busy(client) == 0


async def test_what_one_call_is_told_holds_for_all(api: Api, emu: Emulator):
    emu.fault(Fault(status=429, retry_after=1.3), times=1)
    async with api.client(config_of(emu, requests_per_minute=6000)) as client:
        with pytest.raises(lr.RateLimitError):
            await client.chat("Hi")
        began = time.monotonic()
        reply = await client.chat("Hi")
        assert time.monotonic() - began > 0.9
        assert "queued" in [notice.code for notice in reply.warnings]


async def read(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            pass


async def test_a_stream_gives_its_place_back_however_it_ends(api: Api, emu: Emulator):
    async with api.client(config_of(emu, concurrency=1)) as client:
        async with client.stream("Hi", timeout=5) as stream:
            assert busy(client) == 1
            async for _ in stream:
                pass
        assert busy(client) == 0
        async with client.stream("Hi", timeout=5) as stream:  # left early
            async for _ in stream:
                break
        assert busy(client) == 0
        async with client.stream("Hi", timeout=5) as stream:
            await stream.interrupt()
        assert busy(client) == 0
        emu.fault(Fault(cut="mid-frame", cut_after=2), times=1)
        with pytest.raises(lr.StreamInterruptedError):
            await read(client.stream("Hi " * 50, timeout=5))
        assert busy(client) == 0
        await client.chat("Hi", timeout=5)


def test_a_stream_that_nobody_has_any_more_gives_its_place_back(emu: Emulator):
    with lr.Client(config_of(emu, concurrency=1), env={}) as client:
        stream = client.stream("Hi")
        stream.__enter__()
        assert busy(client) == 1
        del stream
        gc.collect()
        assert busy(client) == 0
        client.chat("Hi", timeout=5)


@pytest.mark.parametrize("waits", [True, False])
async def test_cancelled_calls_give_their_places_back(api: Api, emu: Emulator, waits: bool):
    if not api.is_async:
        return  # a blocking call cannot be cancelled
    emu.fault(Fault(stall=0.5), times=1)
    async with api.client(config_of(emu, concurrency=1)) as client:
        async with anyio.create_task_group() as group:
            if waits:
                group.start_soon(client.chat, "Hi")
                await anyio.sleep(0.1)
            with anyio.move_on_after(0.1) as scope:
                await client.chat("Hi")
            assert scope.cancelled_caught
            (gate,) = client._runtime.gates._gates.values()
            assert gate.queue == []
            assert gate.busy == int(waits)
        await client.chat("Hi", timeout=5)
        assert busy(client) == 0


async def test_a_reload_lets_those_through_that_wait(api: Api, emu: Emulator, tmp_path: Any):
    import json

    emu.fault(Fault(stall=0.6), times=1)
    path = tmp_path / "llamaroute.json"
    path.write_text(json.dumps(config_of(emu, concurrency=1)))
    async with api.client(path) as client:

        async def step(i: int) -> float:
            await pause(api, 0.1 * i)
            if i == 2:
                path.write_text(json.dumps(config_of(emu, concurrency=5)))
                client.reload()
                return 0.0
            began = time.monotonic()
            await client.chat("Hi")
            return time.monotonic() - began

        first, second, _ = await together(api, 3, step)
        assert first > 0.5
        assert second < 0.4
        assert busy(client) == 0


async def test_limits_are_shared_through_a_server(api: Api, emu: Emulator):
    emu.fault(Fault(stall=0.1), times=100)
    with RedisServer() as server:
        config = {**config_of(emu, concurrency=2), "state": {"url": server.url}}
        async with api.client(config) as one, api.client(config) as two:
            replies = await together(api, 12, lambda i: (one, two)[i % 2].chat("Hi", timeout=20))
            assert all(isinstance(reply, lr.ChatResponse) for reply in replies), replies
            assert busy(one) == busy(two) == 0
            assert most_at_once(emu) == 2
            server.stop()
            reply = await one.chat("Hi")
            assert [notice.code for notice in reply.warnings] == ["limits_not_shared"]
            server.start()


async def test_a_server_that_is_not_there_costs_a_quarter_of_a_second_once(api: Api, emu: Emulator):
    config = {**config_of(emu), "limits": {}, "state": {"url": "redis://127.0.0.1:1/0"}}
    async with api.client(config) as client:
        await client.chat("Hi")
        began = time.monotonic()
        reply = await client.chat("Hi")
        assert time.monotonic() - began < 0.25
        assert reply.warnings == ()


async def test_priority_is_checked(api: Api, emu: Emulator):
    async with api.client(config_of(emu, concurrency=1)) as client:
        for wrong in (1.5, True, "high", 101, -101):
            with pytest.raises(lr.InputError, match="priority= takes a whole number from -100 to 100"):
                await client.chat("Hi", priority=wrong)
    assert emu.requests == []


async def test_many_wait_and_all_come_through(api: Api, emu: Emulator):
    """A wake lost would leave calls waiting."""
    async with api.client(config_of(emu, concurrency=4)) as client:
        replies = await together(api, 120, lambda i: client.chat("Hi", timeout=20, priority=i % 3))
        assert all(isinstance(reply, lr.ChatResponse) for reply in replies), replies
        assert busy(client) == 0
    assert most_at_once(emu) <= 4
