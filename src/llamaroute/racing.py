"""How the drivers carry out a `Race`: two plans side by side, in threads or in tasks. Kept alike by hand.

Whoever comes second is left at once: its plan is closed, which writes its rows, and its connection is broken off.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from .drivers import AsyncDriver, Driver
from .pipeline.core import Reply
from .pipeline.ops import Leg, Op, Plan, Race, Raced, Send, Signal, Sleep, Wait
from .spi import Target
from .transport.base import AsyncResponse, AsyncTransport, Response, Transport

__all__ = ["async_race", "race"]


class _Score:
    """How a race stands."""

    def __init__(self, op: Race) -> None:
        self._op = op
        self.legs = [op.first]
        self._errors: list[Exception | None] = [None, None]
        self._ended = 0

    def failed(self, leg: Leg, error: Exception) -> Raced | None:
        """A leg has failed; the result, if that ends the race."""
        place = self.legs.index(leg)
        self._errors[place] = error
        self._ended += 1
        if self._ended == len(self.legs) or (place == 0 and self._op.decides(error)):
            return self.over()
        return None

    def over(self, winner: Leg | None = None, reply: Reply | None = None) -> Raced:
        """The result."""
        first, second = self._errors
        return Raced(winner, reply, (first, second))


# -- threads -----------------------------------------------------------------------------------------------------------


class _Left(BaseException):
    """Ends the driver of a leg that was left."""


class _LegDriver(Driver):
    """A driver whose open answer may be broken off by another thread, but never a connection it has given back."""

    __slots__ = ("_lock", "_stop")

    def __init__(
        self, transport: Callable[[Target | None], Transport], leg: Leg, lock: threading.Lock, stop: Signal
    ) -> None:
        super().__init__(transport, leg.ledger)
        self._lock = lock
        self._stop = stop

    def close(self) -> None:
        """See `Driver.close`."""
        with self._lock:
            self._stop.deafen()
        super().close()


class _Runner:
    """A leg in a thread. Steps of all legs are taken under one lock, so that each can be left between two of them."""

    def __init__(
        self,
        leg: Leg,
        transport: Callable[[Target | None], Transport],
        lock: threading.Lock,
        done: queue.SimpleQueue[tuple[_Runner, Reply | Exception]],
        race: Race,
    ) -> None:
        self.leg = leg
        self._stop = Signal()
        self.driver = _LegDriver(transport, leg, lock, self._stop)
        self._transport = transport
        self._lock = lock
        self._done = done
        self._race = race
        self._waits: Signal | None = None
        self._left = False
        self._reply: Reply | None = None
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), daemon=True, name="llamaroute-leg").start()

    def _run(self) -> None:
        outcome: Reply | Exception
        try:
            outcome = self.driver.run(self._steps(), keep=True)
        except Exception as error:
            outcome = error
        except _Left:
            return
        self._done.put((self, outcome))

    def _steps(self) -> Plan[Reply]:
        """The leg's plan, each step of it under the lock."""
        plan = self.leg.plan
        step: Callable[[], Op] = lambda: plan.send(None)  # noqa: E731
        while True:
            with self._lock:
                if self._left:
                    raise _Left
                try:
                    op = step()
                except StopIteration as stop:
                    self._reply = stop.value
                    return stop.value  # type: ignore[no-any-return]
                op = self._stoppable(op)
            try:
                value = yield op
            except GeneratorExit:
                raise
            except BaseException as error:
                step = _throw(plan, error)
            else:
                step = _send(plan, value)

    def _stoppable(self, op: Op) -> Op:
        self._waits = None
        if isinstance(op, Send):
            return replace(op, stop=self._stop)
        if isinstance(op, Sleep):
            return Wait(self._stop, op.seconds)
        if isinstance(op, Wait):
            self._waits = op.signal
        return op

    def leave(self, *, outrun: bool) -> None:
        """Close the plan, and break off what its thread is about; or drop the answer, if it has come too late."""
        ledger = self.leg.ledger
        with self._lock:
            self._left, ledger.outrun = True, outrun
            ledger.now = time.monotonic()
            self.leg.plan.close()
            reply = self._reply
            self._stop.set()
        if self._waits is not None:
            self._waits.set()
        if reply is not None:
            self.driver.close()
            outcome = self._race.lost(self.leg, reply)
            while reply.finishers:
                if (plan := reply.finishers.pop()(outcome)) is not None:
                    Driver(self._transport, ledger).run(plan)


def _send(plan: Plan[Any], value: Any) -> Callable[[], Op]:
    return lambda: plan.send(value)


def _throw(plan: Generator[Op, Any, Any], error: BaseException) -> Callable[[], Op]:
    return lambda: plan.throw(error)


def race(op: Race, transport: Callable[[Target | None], Transport]) -> tuple[Raced, Response | None]:
    """Carry out a race; the open answer is the winner's."""
    lock = threading.Lock()
    done: queue.SimpleQueue[tuple[_Runner, Reply | Exception]] = queue.SimpleQueue()
    score = _Score(op)
    runners = [_Runner(op.first, transport, lock, done, op)]
    winner: _Runner | None = None
    over: Raced | None = None
    patience: float | None = op.after
    try:
        while True:
            try:
                runner, outcome = done.get(timeout=patience)
            except queue.Empty:
                with lock:
                    then = op.second(time.monotonic())
                if isinstance(then, Leg):
                    score.legs.append(then)
                    runners.append(_Runner(then, transport, lock, done, op))
                    patience = None
                else:
                    patience = then
                continue
            if isinstance(outcome, Reply):
                winner, over = runner, score.over(runner.leg, outcome)
                return over, runner.driver.response
            if (over := score.failed(runner.leg, outcome)) is not None:
                return over, None
    finally:
        for runner in runners:
            if runner is not winner:
                runner.leave(outrun=over is not None)


# -- tasks -------------------------------------------------------------------------------------------------------------


async def async_race(
    op: Race, transport: Callable[[Target | None], AsyncTransport]
) -> tuple[Raced, AsyncResponse | None]:
    """Carry out a race; the open answer is the winner's."""
    import anyio

    score = _Score(op)
    news = anyio.Event()
    done: list[tuple[Leg, AsyncDriver, Reply | Exception]] = []
    scopes: dict[int, anyio.CancelScope] = {}
    result: tuple[Raced, AsyncResponse | None] | None = None

    async def run(leg: Leg) -> None:
        driver = AsyncDriver(transport, leg.ledger)
        with scopes[id(leg)]:
            try:
                outcome: Reply | Exception = await driver.run(leg.plan, keep=True)
            except Exception as error:
                outcome = error
            done.append((leg, driver, outcome))
            news.set()

    def begin(leg: Leg) -> None:
        scopes[id(leg)] = anyio.CancelScope()
        group.start_soon(run, leg)

    try:
        async with anyio.create_task_group() as group:
            begin(op.first)
            patience: float | None = op.after
            try:
                while result is None:
                    with anyio.move_on_after(patience):
                        await news.wait()
                    if not done:
                        then = op.second(time.monotonic())
                        if isinstance(then, Leg):
                            score.legs.append(then)
                            begin(then)
                            patience = None
                        else:
                            patience = then
                        continue
                    news = anyio.Event()
                    leg, driver, outcome = done.pop(0)
                    if done:
                        news.set()
                    if isinstance(outcome, Reply):
                        result = score.over(leg, outcome), driver.response
                    elif (over := score.failed(leg, outcome)) is not None:
                        result = over, None
            finally:
                winner = None if result is None else result[0].winner
                for leg in score.legs:
                    if leg is not winner:
                        leg.ledger.outrun = result is not None
                        scopes[id(leg)].cancel()
    finally:
        # Those that had answered before they could be told.
        with anyio.CancelScope(shield=True):
            for leg, driver, outcome in done:
                if isinstance(outcome, Reply):
                    await _drop(op, leg, driver, outcome, transport)
    assert result is not None
    return result


async def _drop(
    op: Race, leg: Leg, driver: AsyncDriver, reply: Reply, transport: Callable[[Target | None], AsyncTransport]
) -> None:
    """The leg has answered, too late."""
    await driver.aclose()
    leg.ledger.now = time.monotonic()
    outcome = op.lost(leg, reply)
    while reply.finishers:
        if (plan := reply.finishers.pop()(outcome)) is not None:
            await AsyncDriver(transport, leg.ledger).run(plan)
