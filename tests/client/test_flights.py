"""A refresh that many tasks wait for runs once, in one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from llamaroute.drivers import AsyncDriver
from llamaroute.errors import AuthenticationError, TimeoutError
from llamaroute.pipeline.core import Ledger
from llamaroute.pipeline.ops import Blocking, Plan

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Work:
    """Counts its calls and the threads they run in."""

    def __init__(self, outcome: Callable[[int], Any] = lambda count: count) -> None:
        self.count = 0
        self.outcome = outcome
        self.threads: set[int] = set()
        self.running = threading.Event()

    def do(self) -> Any:
        self.count += 1
        mine = self.count
        self.threads.add(threading.get_ident())
        self.running.set()
        time.sleep(0.1)
        return self.outcome(mine)


async def ask(work: Work, flights: dict[Any, Any] | None, until: float | None = None) -> Any:
    def plan() -> Plan[Any]:
        return (yield Blocking(work.do, until, flights=flights))

    def nothing(target: Any) -> Any:
        raise AssertionError("nothing is sent")

    return await AsyncDriver(nothing, Ledger()).run(plan())


async def together(count: int, work: Work, flights: dict[Any, Any] | None) -> list[Any]:
    results: list[Any] = []

    async def one() -> None:
        try:
            results.append(await ask(work, flights))
        except Exception as error:
            results.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return results


async def test_all_that_come_meanwhile_share_one_call() -> None:
    work, flights = Work(), dict[Any, Any]()
    assert await together(100, work, flights) == [1] * 100
    assert (work.count, len(work.threads)) == (1, 1)
    assert flights == {}
    assert await ask(work, flights) == 2, "later ones make their own"


async def test_without_a_table_each_makes_its_own() -> None:
    work = Work()
    assert sorted(await together(5, work, None)) == [1, 2, 3, 4, 5]


async def test_a_failure_is_shared_and_each_has_its_own_copy() -> None:
    def fails(count: int) -> None:
        raise AuthenticationError("no", provider="work")

    work = Work(fails)
    errors = await together(50, work, {})
    assert {(type(error), error.provider) for error in errors} == {(AuthenticationError, "work")}
    assert len({id(error) for error in errors}) == 50
    assert work.count == 1


async def test_when_its_task_is_cancelled_another_takes_over() -> None:
    work, flights = Work(), dict[Any, Any]()
    async with anyio.create_task_group() as group:
        inner = anyio.CancelScope()

        async def first() -> None:
            with inner:
                await ask(work, flights)

        group.start_soon(first)
        while not work.running.is_set():
            await anyio.sleep(0.001)
        group.start_soon(lambda: ask(work, flights))
        await anyio.sleep(0.01)
        inner.cancel()
    assert work.count == 2
    assert flights == {}


async def test_waiting_for_anothers_call_ends_with_ones_own_time() -> None:
    work, flights = Work(), dict[Any, Any]()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: ask(work, flights))
        while not work.running.is_set():
            await anyio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await ask(work, flights, time.monotonic() + 0.02)
    assert work.count == 1
