"""How late a caller has control back after a limit of time has passed: all phases, both clients, many calls at once.

    python benchmarks/deadlines.py                    400 calls a phase, 16 at once
    python benchmarks/deadlines.py --calls 50 --json

The hosts are the emulator, in a process of its own, and never answer in time. `late` is the time from the limit to the
caller having its error; the aim is at most 50 ms for 99 of 100 calls. Every error must name the phase that ran out.
Callers begin at moments of their own, spread over one limit; with `--together` all at the same moment, so that all
limits end together, too.

Three things are measured beside it in the same process, as many at once and for as long. `timer`: a bare `time.sleep`
or `asyncio.sleep`. `socket`: a connection to a silent host, a request of some bytes, and a wait with a timeout, by the
standard library: what a client that did nothing else would come late. `machine`: a process that does nothing but sleep
while the calls are made. `first token` counts from the sending, so that its rows hold the connecting, too. All clients
are made, and have had an answer, before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import multiprocessing
import random
import socket
import statistics
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import llamaroute as lr
from llamaroute.emulator import Emulator

AIM = 0.05
BYTES = b"POST /silence HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n"
"""The beginning of a request, whose answer is waited for in vain."""
NEVER = 120.0
"""Seconds for which a stalled host is silent."""


class Phase(NamedTuple):
    """One way in which time runs out."""

    name: str
    model: str
    """An account, or a route."""
    stream: bool
    timeout: dict[str, float]
    seconds: float
    """After which the caller should have its error."""
    phase: str
    alone: bool = False
    """A client for each call: one that has seen three failures would not go on to the next target. They are made
    beforehand, and closed afterwards."""


LIMIT = 0.3
PHASES = (
    Phase("connect", "deaf", False, {"connect": LIMIT}, LIMIT, "connect"),
    Phase("first token, plain", "silent", False, {"first_token": LIMIT}, LIMIT, "first_token"),
    Phase("first token, stream", "silent", True, {"first_token": LIMIT}, LIMIT, "first_token"),
    Phase("idle", "halting", True, {"idle": LIMIT}, LIMIT, "idle"),
    Phase("total, plain", "silent", False, {"total": LIMIT}, LIMIT, "total"),
    Phase("total, stream", "silent", True, {"total": LIMIT}, LIMIT, "total"),
    Phase("total, three targets", "route", False, {"first_token": 0.2, "total": 0.5}, 0.5, "total", True),
)


def serve(pipe: Connection) -> None:
    """The emulator's process: says where it is, and ends when it is told."""
    with Emulator() as emu:
        emu.fault(stall=NEVER, host="openai", times=1 << 30)
        emu.fault(stall=NEVER, stall_after=2, host="vllm", times=1 << 30)
        pipe.send({name: (emu.base_url(name), emu.key(name) or "none") for name in ("openai", "vllm", "tgi")})
        pipe.recv()


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """An address where connecting neither works nor fails: the queue of connections is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(64):
            sock = waiting.enter_context(socket.socket())
            sock.settimeout(0.1)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def config(hosts: dict[str, tuple[str, str]], nowhere: str) -> dict[str, Any]:
    """Accounts by what is wrong with them."""

    silent, halting, well = hosts["openai"], hosts["vllm"], hosts["tgi"]
    accounts = {"silent": silent, "mute": silent, "dumb": silent, "halting": halting, "deaf": (nowhere, "none")}
    accounts["warm"] = well
    common = {"kind": "openai-compatible", "model": "llama-4-scout", "retry": 1}
    return {
        "providers": {name: {**common, "base_url": url, "api_key": key} for name, (url, key) in accounts.items()},
        "routes": {"route": {"targets": ["silent", "mute", "dumb"]}},
    }


def late(phase: Phase, began: float, error: lr.LlamarouteError) -> float:
    """Seconds between the limit and now, for an error that says which limit it was."""
    took = time.monotonic() - began
    last = error.last if isinstance(error, lr.AllTargetsFailedError) else error
    found = getattr(last, "phase", None)
    if found != phase.phase:
        raise AssertionError(f"{phase.name}: the error names {found!r}: {error}") from error
    return took - phase.seconds


def blocking(client: lr.Client, phase: Phase) -> float:
    """One call of the blocking client."""
    timeout = lr.Timeout(**phase.timeout)
    began = time.monotonic()
    try:
        if phase.stream:
            with client.stream("Hi", model=phase.model, timeout=timeout) as stream:
                for _ in stream:
                    began = time.monotonic()  # idle counts from the last event
        else:
            client.chat("Hi", model=phase.model, timeout=timeout)
    except lr.LlamarouteError as error:
        return late(phase, began, error)
    raise AssertionError(f"{phase.name}: the host answered")


async def nonblocking(client: lr.AsyncClient, phase: Phase) -> float:
    """The same of the async one."""
    timeout = lr.Timeout(**phase.timeout)
    began = time.monotonic()
    try:
        if phase.stream:
            async with client.stream("Hi", model=phase.model, timeout=timeout) as stream:
                async for _ in stream:
                    began = time.monotonic()
        else:
            await client.chat("Hi", model=phase.model, timeout=timeout)
    except lr.LlamarouteError as error:
        return late(phase, began, error)
    raise AssertionError(f"{phase.name}: the host answered")


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """What is there is not looked at by the garbage collector: with some hundred clients in one process, which only the
    last phase needs, one collection takes 0.4 s."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def pauses(together: bool, seconds: float, calls: int, at_once: int) -> list[float]:
    """Seconds that each call waits before it begins: the first ones, so that they do not begin together."""
    dice = random.Random(1)
    return [0.0 if together or number >= at_once else dice.uniform(0.0, seconds) for number in range(calls)]


def in_threads(table: dict[str, Any], phase: Phase, before: Sequence[float], at_once: int) -> list[float]:
    """Calls from threads that share a client, so many at once."""
    calls = len(before)

    def one(client: lr.Client, pause: float) -> float:
        time.sleep(pause)
        return blocking(client, phase)

    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(lr.Client(table, env={})) for _ in range(calls if phase.alone else 1)]
        for client in made:
            with contextlib.suppress(lr.LlamarouteError):  # what a first call sets up is not what is measured
                client.chat("Hi", model="warm")
        stack.enter_context(frozen())
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, itertools.cycle(made), before))


def in_tasks(table: dict[str, Any], phase: Phase, before: Sequence[float], at_once: int) -> list[float]:
    """Calls from tasks."""
    calls = len(before)

    async def work() -> list[float]:
        gate = asyncio.Semaphore(at_once)

        async def one(client: lr.AsyncClient, pause: float) -> float:
            async with gate:
                await asyncio.sleep(pause)
                return await nonblocking(client, phase)

        async with contextlib.AsyncExitStack() as stack:
            count = calls if phase.alone else 1
            made = [await stack.enter_async_context(lr.AsyncClient(table, env={})) for _ in range(count)]
            for client in made:
                with contextlib.suppress(lr.LlamarouteError):
                    await client.chat("Hi", model="warm")
            stack.enter_context(frozen())
            return await asyncio.gather(*map(one, itertools.cycle(made), before))

    return asyncio.run(work())


def bare_in_threads(
    seconds: float, before: Sequence[float], at_once: int, where: tuple[str, int] | None
) -> list[float]:
    """How late threads are that only sleep, or that only wait for a silent host."""

    def one(pause: float) -> float:
        time.sleep(pause)
        began = time.monotonic()
        if where is None:
            time.sleep(seconds)
        else:
            with socket.create_connection(where) as sock, contextlib.suppress(TimeoutError):
                sock.sendall(BYTES)
                sock.settimeout(began + seconds - time.monotonic())
                sock.recv(1)
        return time.monotonic() - began - seconds

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, before))


def bare_in_tasks(seconds: float, before: Sequence[float], at_once: int, where: tuple[str, int] | None) -> list[float]:
    """The same of tasks."""

    async def wait(host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(BYTES)
            await reader.read(1)
        finally:
            writer.close()

    async def work() -> list[float]:
        gate = asyncio.Semaphore(at_once)

        async def one(pause: float) -> float:
            async with gate:
                await asyncio.sleep(pause)
                began = time.monotonic()
                if where is None:
                    await asyncio.sleep(seconds)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(wait(*where), seconds)
                return time.monotonic() - began - seconds

        return await asyncio.gather(*map(one, before))

    return asyncio.run(work())


@contextlib.contextmanager
def metronome() -> Iterator[list[float]]:
    """How late a process that does nothing but sleep wakes up meanwhile."""
    late: list[float] = []
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=tick, args=(there,), daemon=True)
    child.start()
    here.recv()
    yield late
    here.send(None)
    late += here.recv()
    child.join(5)


def tick(pipe: Connection) -> None:
    """The process that sleeps."""
    pipe.send(None)
    late: list[float] = []
    while not pipe.poll():
        began = time.monotonic()
        time.sleep(0.01)
        late.append(time.monotonic() - began - 0.01)
    pipe.send(late)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def row(
    phase: str, client: str, found: list[float], timers: list[float], sockets: list[float], machine: list[float]
) -> dict[str, Any]:
    """The figures of a phase."""
    return {
        "phase": phase,
        "client": client,
        "calls": len(found),
        "median": statistics.median(found),
        "p99": p99(found),
        "latest": max(found),
        "timer_p99": p99(timers),
        "socket_p99": p99(sockets),
        "machine_p99": p99(machine),
    }


def measure(calls: int, at_once: int, together: bool) -> list[dict[str, Any]]:
    """A row for each phase and client."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    rows = []
    with deaf() as nowhere:
        hosts = here.recv()
        table = config(hosts, nowhere)
        address = urllib.parse.urlsplit(hosts["openai"][0])
        assert address.hostname is not None
        assert address.port is not None
        silent = (address.hostname, address.port)
        for phase in PHASES:
            for name, run, bare in (
                ("sync", in_threads, bare_in_threads),
                ("asyncio", in_tasks, bare_in_tasks),
            ):
                run(table, phase, [0.0] * at_once, at_once)  # what is imported or started once is not measured
                before = pauses(together, phase.seconds, calls, at_once)
                timers = bare(phase.seconds, before, at_once, None)
                sockets = bare(phase.seconds, before, at_once, silent)
                with metronome() as machine:
                    found = run(table, phase, before, at_once)
                rows.append(row(phase.name, name, found, timers, sockets, machine))
    here.send(None)
    server.join(5)
    return rows


def main() -> int:
    """Print the table; 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--together", action="store_true", help="all begin at the same moment")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.calls, options.at_once, options.together)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{options.calls} calls a phase, {options.at_once} at once; milliseconds late")
        for one in rows:
            print(
                f"{one['phase']:22} {one['client']:8} median {one['median'] * 1e3:6.1f}   "
                f"p99 {one['p99'] * 1e3:6.1f}   latest {one['latest'] * 1e3:6.1f}"
                f"   timer p99 {one['timer_p99'] * 1e3:6.1f}   "
                f"socket p99 {one['socket_p99'] * 1e3:6.1f}   machine p99 {one['machine_p99'] * 1e3:6.1f}"
            )
    return int(any(one["p99"] > AIM for one in rows))


if __name__ == "__main__":
    sys.exit(main())
