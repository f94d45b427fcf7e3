"""The two drivers: they do what plans ask for, one blocking, one async. Kept alike by hand, and by the tests of
`tests/client`, which run on both.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from .errors import TimeoutError
from .pipeline.core import Ledger
from .pipeline.ops import Blocking, Plan, Pull, Race, Send, Signal, Sleep, Wait
from .spi import Target
from .transport.base import AsyncResponse, AsyncTransport, Response, Transport

__all__ = ["AsyncDriver", "Driver"]

T = TypeVar("T")


class Driver:
    """Does what a plan asks for. Owns at most one open answer."""

    __slots__ = ("_ledger", "_transport", "response")

    def __init__(self, transport: Callable[[Target | None], Transport], ledger: Ledger) -> None:
        self._transport = transport
        self._ledger = ledger
        self.response: Response | None = None

    def run(self, plan: Plan[T], *, keep: bool = False) -> T:
        """Run `plan` to its end. `keep` leaves the answer open, for a stream to read on."""
        value: Any = None
        error: BaseException | None = None
        done = False
        try:
            while True:
                self._ledger.now = time.monotonic()
                try:
                    op = plan.send(value) if error is None else plan.throw(error)
                except StopIteration as stop:
                    done = True
                    return stop.value  # type: ignore[no-any-return]
                value = error = None
                try:
                    match op:
                        case Pull(until=until, phase=phase):
                            assert self.response is not None
                            value = self.response.read(until, phase)
                        case Send():
                            self.close()
                            self.response = self._transport(op.target).open(op)
                            value = self.response.head
                        case Sleep(seconds=seconds):
                            self.close()
                            time.sleep(seconds)
                        case Wait(signal=signal, seconds=seconds):
                            self.close()
                            _wait(signal, seconds)
                        case Blocking():
                            value = _blocking(op)
                        case Race():
                            from .racing import race

                            self.close()
                            value, self.response = race(op, self._transport)
                except Exception as raised:
                    error = raised
        finally:
            if not (done and keep):
                self.close()
            if not done:
                self._ledger.now = time.monotonic()
                plan.close()

    def close(self) -> None:
        """Close the open answer, if any."""
        response, self.response = self.response, None
        if response is not None:
            response.close()


def _wait(signal: Signal, seconds: float) -> None:
    # The one queue whose `put` may be called by a finaliser that comes in the middle of another `put`.
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    try:
        if not signal.listen(partial(woken.put, None)):
            with contextlib.suppress(queue.Empty):
                woken.get(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
    finally:
        signal.clear()


def _blocking(op: Blocking) -> Any:
    """Call what may block; with an end in sight, in a thread that is left behind when it comes."""
    if op.until is None:
        return op.fn()
    box: list[Any] = []

    def work() -> None:
        try:
            box.extend((True, op.fn()))
        except BaseException as error:
            box.extend((False, error))

    thread = threading.Thread(target=work, daemon=True, name="llamaroute-blocking")
    thread.start()
    thread.join(max(0.0, op.until - time.monotonic()))
    if not box:
        raise TimeoutError(
            "getting ready took longer than the call may take", phase=op.phase, retryable=False, failover=False
        )
    if box[0]:
        return box[1]
    raise box[1]


class AsyncDriver:
    """Does what a plan asks for. Owns at most one open answer."""

    __slots__ = ("_ledger", "_transport", "response")

    def __init__(self, transport: Callable[[Target | None], AsyncTransport], ledger: Ledger) -> None:
        self._transport = transport
        self._ledger = ledger
        self.response: AsyncResponse | None = None

    async def run(self, plan: Plan[T], *, keep: bool = False) -> T:
        """Run `plan` to its end. `keep` leaves the answer open, for a stream to read on."""
        value: Any = None
        error: BaseException | None = None
        done = False
        try:
            while True:
                self._ledger.now = time.monotonic()
                try:
                    op = plan.send(value) if error is None else plan.throw(error)
                except StopIteration as stop:
                    done = True
                    return stop.value  # type: ignore[no-any-return]
                value = error = None
                try:
                    match op:
                        case Pull(until=until, phase=phase):
                            assert self.response is not None
                            value = await self.response.read(until, phase)
                        case Send():
                            if self.response is not None:
                                await self.aclose()
                            self.response = await self._transport(op.target).open(op)
                            value = self.response.head
                        case Sleep(seconds=seconds):
                            await self.aclose()
                            await _sleep(seconds)
                        case Wait(signal=signal, seconds=seconds):
                            await self.aclose()
                            await _async_wait(signal, seconds)
                        case Blocking():
                            value = await _async_blocking(op)
                        case Race():
                            from .racing import async_race

                            await self.aclose()
                            value, self.response = await async_race(op, self._transport)
                except Exception as raised:
                    error = raised
        finally:
            if self.response is not None and not (done and keep):
                await self.aclose()
            if not done:
                self._ledger.now = time.monotonic()
                plan.close()

    async def aclose(self) -> None:
        """Close the open answer, if any."""
        response, self.response = self.response, None
        if response is not None:
            await response.aclose()


async def _sleep(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


async def _async_wait(signal: Signal, seconds: float) -> None:
    import anyio
    import anyio.lowlevel

    woken = anyio.Event()
    try:
        if not signal.listen(_from_any_thread(woken.set)):
            with anyio.move_on_after(seconds):
                await woken.wait()
        else:
            await anyio.lowlevel.checkpoint()
    finally:
        signal.clear()


def _from_any_thread(fn: Callable[[], object]) -> Callable[[], object]:
    """`fn`, called by this event loop soon after. anyio's own way from a thread waits until that is done."""
    if "trio" in sys.modules:
        import sniffio
        import trio

        if sniffio.current_async_library() == "trio":
            return partial(_unless_over, trio.lowlevel.current_trio_token().run_sync_soon, fn)
    import asyncio

    return partial(_unless_over, asyncio.get_running_loop().call_soon_threadsafe, fn)


def _unless_over(call_soon: Callable[[Callable[[], object]], object], fn: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
        call_soon(fn)


async def _async_blocking(op: Blocking) -> Any:
    import anyio
    import anyio.to_thread

    seconds = None if op.until is None else max(0.0, op.until - time.monotonic())
    with anyio.move_on_after(seconds):
        if op.flights is not None:
            return await _shared(op.fn, op.flights)
        return await anyio.to_thread.run_sync(op.fn, abandon_on_cancel=True)
    raise TimeoutError(
        "getting ready took longer than the call may take", phase=op.phase, retryable=False, failover=False
    )


class _Flight:
    """A call of a function that several tasks wait for. `over` stays False when its task was cancelled."""

    __slots__ = ("error", "landed", "over", "value")

    def __init__(self) -> None:
        import anyio

        self.landed = anyio.Event()
        self.over = False
        self.value: Any = None
        self.error: Exception | None = None


async def _shared(fn: Callable[[], Any], flights: dict[Any, Any]) -> Any:
    """What `fn` gives, called once for all tasks of this event loop that ask for it meanwhile."""
    import copy

    import anyio.lowlevel
    import anyio.to_thread

    key = (anyio.lowlevel.current_token(), fn)
    flight: _Flight | None
    while (flight := flights.get(key)) is not None:
        await flight.landed.wait()
        if flight.error is not None:
            raise copy.copy(flight.error)  # each call writes on its own: its target, its attempts
        if flight.over:
            return flight.value
    flight = flights[key] = _Flight()
    try:
        flight.value = await anyio.to_thread.run_sync(fn, abandon_on_cancel=True)
        flight.over = True
        return flight.value
    except Exception as error:
        flight.error = error
        raise
    finally:
        del flights[key]
        flight.landed.set()
