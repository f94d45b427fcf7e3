"""What one client is made to do, measured: each task checks the texts, and returns its figures.

`cpu_us` is user and system time of this process, microseconds for each call; the other names say their unit.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any, Self

from . import answers
from .clients import common

PROMPT = "Say something about foxes, please."
Figures = dict[str, float]


class Meter:
    """CPU and wall-clock time of a `with` block, nanoseconds."""

    cpu = wall = 0

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter_ns(), time.process_time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu, self.wall = time.process_time_ns() - self._cpu, time.perf_counter_ns() - self._wall


def png(size: int) -> bytes:
    """A PNG of exactly `size` bytes: a few pixels, and a chunk of noise that readers skip."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 64
    pixels = zlib.compress((b"\0" + b"\x40\x80\xc0" * side) * side)
    begin = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    end = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return begin + chunk(b"noIs", random.Random(6).randbytes(size - len(begin) - len(end) - 12)) + end


def resident() -> int:
    """Bytes of memory this process has now. From /proc, so on Linux only."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_mib() -> float:
    """The most memory this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def check(found: str, wanted: str = answers.TEXT) -> None:
    """Raises AssertionError when a client reads something else than was sent."""
    if found != wanted:
        raise AssertionError(f"read {found[:80]!r}, sent was {wanted[:80]!r}")


class Bench:
    """The tasks, done with the client of one file.

    Args:
        module: the client's file.
        server: `http://127.0.0.1:PORT`.
    """

    def __init__(self, module: ModuleType, server: str) -> None:
        self.module, self.server = module, server
        self.runner = asyncio.Runner()
        self.made: dict[tuple[str, str], Any] = {}

    def client(self, mode: str, **settings: float) -> Any:
        """The client for these settings of the server, made once."""
        segment = ",".join(f"{key}={value}" for key, value in settings.items()) or "chunks=1"
        key = mode, segment
        if key not in self.made:
            self.made[key] = getattr(self.module, mode.title())(f"{self.server}/{segment}")
        return self.made[key]

    def repeated(self, mode: str, call: Callable[[], Any], times: int) -> tuple[Meter, Any]:
        """`call`, sync or async, a number of times in a row; the result is the last one's."""
        meter = Meter()
        if mode == "sync":
            with meter:
                for _ in range(times):
                    found = call()
            return meter, found

        async def all_of_them() -> Any:
            with meter:
                for _ in range(times):
                    found = await call()
            return found

        return meter, self.runner.run(all_of_them())

    def calls(self, mode: str, n: int, image_kib: int = 0, keep_image: bool = True) -> Figures:
        """`n` calls one after the other, with an image of `image_kib` KiB in base64.

        Args:
            keep_image: the same image object goes with every call; else each call is given its bytes.
        """
        client = self.client(mode)
        call: Callable[[], Any]
        if not image_kib:

            def call() -> Any:
                return client.call(PROMPT)

        else:
            data = png(image_kib * 768)
            make = getattr(client, "image" if keep_image else "new_image", common.data_url)
            kept = make(data) if keep_image else None

            def call() -> Any:
                return client.call(PROMPT, make(data) if kept is None else kept)

        check(self.repeated(mode, call, 3 if image_kib else 10)[1])
        meter, found = self.repeated(mode, call, n)
        check(found)
        return {"cpu_us": meter.cpu / n / 1e3, "wall_us": meter.wall / n / 1e3}

    def stream(self, mode: str, chunks: int, gap: float = 0, times: int = 1) -> Figures:
        """Streams of `chunks` deltas, all at once or `gap` milliseconds apart.

        With a gap, `delay_p50_us` is from the moment the server writes a delta to the moment its text is there.
        """
        client = self.client(mode, chunks=chunks, gap=gap)
        delays: list[int] = []
        now = time.monotonic_ns

        def one() -> int:
            length = 0
            for text in client.stream(PROMPT):
                if gap and text:
                    delays.append(now() - int(text[: answers.STAMP]))
                length += len(text)
            return length

        async def async_one() -> int:
            length = 0
            async for text in client.stream(PROMPT):
                if gap and text:
                    delays.append(now() - int(text[: answers.STAMP]))
                length += len(text)
            return length

        self.check_stream(mode)
        meter, length = self.repeated(mode, one if mode == "sync" else async_one, times)
        check(str(length), str(chunks * answers.DELTA))
        figures = {"cpu_us_per_chunk": meter.cpu / chunks / times / 1e3, "wall_ms": meter.wall / times / 1e6}
        if gap:
            figures |= {"delay_p50_us": quantile(delays, 0.5) / 1e3, "delay_p99_us": quantile(delays, 0.99) / 1e3}
        return figures

    def check_stream(self, mode: str, chunks: int = 50) -> None:
        """Read one stream letter by letter; warms up as well."""
        client = self.client(mode, chunks=chunks)

        async def async_read() -> str:
            return "".join([text async for text in client.stream(PROMPT)])

        read = "".join(client.stream(PROMPT)) if mode == "sync" else self.runner.run(async_read())
        check(read, "".join(map(answers.delta, range(chunks))))

    def at_once(self, connections: int, n: int, first: float) -> Figures:
        """`n` async calls, `connections` at a time, to a server that takes `first` milliseconds."""
        client = self.client("async", first=first)
        waits: list[int] = []

        async def caller(calls: int) -> None:
            for _ in range(calls):
                begun = time.perf_counter_ns()
                found = await client.call(PROMPT)
                waits.append(time.perf_counter_ns() - begun)
                check(found)

        async def all_callers(calls: int) -> Meter:
            with Meter() as meter:
                await asyncio.gather(*(caller(calls) for _ in range(connections)))
            return meter

        self.runner.run(all_callers(1))  # opens the connections
        waits.clear()
        meter = self.runner.run(all_callers(max(2, n // connections)))
        return {
            "calls_per_core_s": len(waits) / meter.cpu * 1e9,
            "cpu_us": meter.cpu / len(waits) / 1e3,
            "wait_p50_ms": quantile(waits, 0.5) / 1e6,
            "wait_p99_ms": quantile(waits, 0.99) / 1e6,
            "peak_mib": peak_mib(),
        }

    def slow(self, streams: int, chunks: int, gap: float) -> Figures:
        """Many slow streams open at once, all begun together."""
        warm, client = self.client("async", chunks=1), self.client("async", chunks=chunks, gap=gap)
        delays: list[int] = []
        most = 0

        async def one(client: Any) -> int:
            length = 0
            async for text in client.stream(PROMPT):
                if text:
                    delays.append(time.monotonic_ns() - int(text[: answers.STAMP]))
                length += len(text)
            return length

        async def all_of_them() -> list[int]:
            nonlocal most
            tasks = [asyncio.create_task(one(client)) for _ in range(streams)]
            while not all(task.done() for task in tasks):
                most = max(most, resident())
                await asyncio.sleep(0.1)
            return [task.result() for task in tasks]

        self.runner.run(one(warm))
        delays.clear()
        gc.collect()
        before = resident()
        with Meter() as meter:
            lengths = self.runner.run(all_of_them())
        check(str(set(lengths)), str({chunks * answers.DELTA}))
        return {
            "kib_per_stream": (most - before) / streams / 1024,
            "cpu_us_per_chunk": meter.cpu / streams / chunks / 1e3,
            "delay_p50_ms": quantile(delays, 0.5) / 1e6,
            "wall_s": meter.wall / 1e9,
        }

    def memory(self, what: str, n: int, warm: int) -> Figures:
        """What stays in memory of `n` calls (`sync`, `async`), streams or calls with a tool, after `warm` of them.

        `blocks_per_call` are Python's allocated blocks, an exact count: what is kept of each call is at least one.
        `bytes_per_call` is of the process, the median of four quarters: memory comes in large pieces, and what grows
        in one quarter only was not kept of each call.
        """
        mode = "async" if what == "async" else "sync"
        client = self.client(mode, chunks=20)

        def stream() -> str:
            return "".join(client.stream(PROMPT))

        calls: dict[str, tuple[Callable[[], str | Awaitable[str]], str]] = {
            "sync": (lambda: client.call(PROMPT), answers.TEXT),
            "async": (lambda: client.call(PROMPT), answers.TEXT),
            "stream": (stream, "".join(map(answers.delta, range(20)))),
            "tools": (lambda: client.tools(PROMPT), answers.TEXT),
        }
        call, wanted = calls[what]
        check(self.repeated(mode, call, warm)[1], wanted)
        quarters: list[float] = []
        gc.collect()
        bytes_first, blocks_first = resident(), sys.getallocatedblocks()
        for _ in range(4):
            bytes_before = resident()
            check(self.repeated(mode, call, n // 4)[1], wanted)
            gc.collect()
            quarters.append((resident() - bytes_before) / (n // 4))
        return {
            "blocks_per_call": (sys.getallocatedblocks() - blocks_first) / n,
            "bytes_per_call": statistics.median(quarters),
            "grown_kib": (resident() - bytes_first) / 1024,
        }

    def growth(self, over: str, sizes: Sequence[int], **options: Any) -> Figures:
        """Cost at growing sizes: of a call by `connections`, of a delta by `chunks`, of a KiB by `image_kib`.

        `growth` is the cost at the largest size over the cost at the smallest but one. (The smallest has all that is
        paid once in it, and one connection alone never finds two answers ready at a time.)
        """
        figures: Figures = {}
        for size in sizes:
            if over == "connections":
                calls = max(3 * size, min(options["n"], 20 * size))
                cost = self.at_once(size, **options | {"n": calls})["cpu_us"]
            elif over == "chunks":
                cost = self.stream("async", size, times=max(1, options["n"] // size))["cpu_us_per_chunk"]
            else:
                cost = self.calls("sync", max(2, options["n"] // size), image_kib=size)["cpu_us"] / size
            figures[str(size)] = cost
        figures["growth"] = figures[str(sizes[-1])] / figures[str(sizes[1])]
        return figures
