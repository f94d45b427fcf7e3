"""Which clients there are, and what they are made to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CLIENTS", "FIGURES", "SCENARIOS", "Client", "Scenario"]


@dataclass(frozen=True)
class Client:
    """A client in an environment of its own."""

    file: str
    """In clients/."""
    environment: str
    """In requirements/."""
    title: str
    distribution: str | None = None
    """Whose version the report names."""
    hide: tuple[str, ...] = ()
    """Packages it is to find missing, where the environment has them nevertheless."""
    engine: str | None = None
    """A package it has to have imported by the end of its first call: what is measured is what is said. There are
    engines for async only."""


CLIENTS: Mapping[str, Client] = {
    "floor": Client("floor", "raw", "the floor"),
    "httpx": Client("httpx", "raw", "httpx alone", "httpx"),
    "llamaroute": Client("llamaroute", "core", "llamaroute", hide=("aiohttp",)),
    "llamaroute-aiohttp": Client("llamaroute", "aiohttp", "llamaroute with aiohttp", "aiohttp", engine="aiohttp"),
    "llamaroute-bedrock": Client("llamaroute_bedrock", "clouds", "llamaroute on Bedrock", hide=("aiohttp",)),
    "llamaroute-clouds": Client("llamaroute", "clouds", "llamaroute with all clouds' logins", hide=("aiohttp",)),
    "boto3": Client("boto3", "boto3", "boto3", "boto3"),
    "openai": Client("openai", "openai", "openai", "openai"),
    "huggingface_hub": Client("huggingface_hub", "huggingface_hub", "huggingface_hub", "huggingface-hub"),
    "azure-ai-inference": Client("azure_ai_inference", "azure", "azure-ai-inference", "azure-ai-inference"),
    "any-llm": Client("any_llm", "any_llm", "any-llm", "any-llm-sdk"),
    "pydantic-ai": Client("pydantic_ai", "pydantic_ai", "pydantic-ai", "pydantic-ai-slim"),
    "litellm": Client("litellm", "litellm", "litellm", "litellm"),
}
ON_BEDROCK = ("boto3", "llamaroute-bedrock")
OPENAI_SHAPED = tuple(name for name in CLIENTS if name not in (*ON_BEDROCK, "llamaroute-clouds"))


@dataclass(frozen=True)
class Scenario:
    """One thing that all clients do in turns."""

    title: str
    needs: str
    """What a client must have to take part: "sync call", "async stream"; nothing to let all of them."""
    task: Mapping[str, Any]
    """For worker.py; `start` and `installed` are for cold.py."""
    shows: Sequence[str]
    """The figures that the report shows, the decisive one first."""
    rounds: int = 7
    clients: Sequence[str] = OPENAI_SHAPED
    fresh: bool = False
    """A new process for each round, so that memory and connections begin at nothing."""
    tls: bool = False
    scaled: Sequence[str] = field(default=("n",))
    """Numbers of the task that `--scale` multiplies."""
    better: str = "low"


FIGURES: Mapping[str, str] = {
    "cpu_us": "CPU of a call, µs",
    "wall_us": "wall-clock time, µs",
    "wall_ms": "wall-clock time, ms",
    "wall_s": "wall-clock time, s",
    "cpu_ms": "CPU, ms",
    "cpu_us_per_chunk": "CPU of a chunk, µs",
    "delay_p50_us": "delay of a delta, median, µs",
    "delay_p99_us": "99 %, µs",
    "delay_p50_ms": "delay of a delta, median, ms",
    "calls_per_core_s": "calls per core second",
    "wait_p50_ms": "wait, median, ms",
    "wait_p99_ms": "99 %, ms",
    "peak_mib": "most memory, MiB",
    "kib_per_stream": "memory of a stream, KiB",
    "blocks_per_call": "blocks kept of a call",
    "bytes_per_call": "bytes of the process a call",
    "grown_kib": "grown in all, KiB",
    "mb": "MB",
    "distributions": "distributions",
    "growth": "growth",
}
"""Figures, as the report calls them; those of growth are called by their size."""

_CALL = ("cpu_us", "wall_us")
_BURST = ("cpu_us_per_chunk", "wall_ms")
_PACED = ("delay_p50_us", "cpu_us_per_chunk", "delay_p99_us")
_AT_ONCE = ("calls_per_core_s", "wait_p50_ms", "wait_p99_ms", "peak_mib")
_MEMORY = ("blocks_per_call", "bytes_per_call", "grown_kib")
_LEAN = ("floor", "httpx", "llamaroute", "llamaroute-aiohttp", "openai", "huggingface_hub", "azure-ai-inference")
_OURS = ("llamaroute", "llamaroute-aiohttp")


def _task(task: str, **options: Any) -> dict[str, Any]:
    return {"task": task, **options}


SCENARIOS: Mapping[str, Scenario] = {
    "call_sync": Scenario("A call, sync", "sync call", _task("calls", mode="sync", n=200), _CALL),
    "call_async": Scenario("A call, async", "async call", _task("calls", mode="async", n=200), _CALL),
    "image_sync": Scenario(
        "A call with an image of 1 MiB, sync", "sync call", _task("calls", mode="sync", n=10, image_kib=1024), _CALL
    ),
    "image_async": Scenario(
        "A call with an image of 1 MiB, async", "async call", _task("calls", mode="async", n=10, image_kib=1024), _CALL
    ),
    "new_image_sync": Scenario(
        "A new image of 1 MiB in each call, sync",
        "sync call",
        _task("calls", mode="sync", n=10, image_kib=1024, keep_image=False),
        _CALL,
        clients=_LEAN,
    ),
    "new_image_async": Scenario(
        "A new image of 1 MiB in each call, async",
        "async call",
        _task("calls", mode="async", n=10, image_kib=1024, keep_image=False),
        _CALL,
        clients=_LEAN,
    ),
    "burst_sync": Scenario(
        "A stream of 2,000 chunks at once, sync",
        "sync stream",
        _task("stream", mode="sync", chunks=2000, times=1),
        _BURST,
        scaled=(),
    ),
    "burst_async": Scenario(
        "A stream of 2,000 chunks at once, async",
        "async stream",
        _task("stream", mode="async", chunks=2000, times=1),
        _BURST,
        scaled=(),
    ),
    "paced_sync": Scenario(
        "A stream of a chunk a millisecond, sync",
        "sync stream",
        _task("stream", mode="sync", chunks=500, gap=1),
        _PACED,
        rounds=5,
        scaled=("chunks",),
    ),
    "paced_async": Scenario(
        "A stream of a chunk a millisecond, async",
        "async stream",
        _task("stream", mode="async", chunks=500, gap=1),
        _PACED,
        rounds=5,
        scaled=("chunks",),
    ),
    "at_once_64": Scenario(
        "64 calls at once",
        "async call",
        _task("at_once", connections=64, n=1280, first=20),
        _AT_ONCE,
        rounds=5,
        fresh=True,
        better="high",
    ),
    "at_once_512": Scenario(
        "512 calls at once",
        "async call",
        _task("at_once", connections=512, n=2048, first=20),
        _AT_ONCE,
        rounds=5,
        # httpx alone does not come to an end here: its pool looks at all connections for each of them.
        clients=tuple(name for name in OPENAI_SHAPED if name != "httpx"),
        fresh=True,
        better="high",
    ),
    "slow_1000": Scenario(
        "1,000 slow streams open at once",
        "async stream",
        _task("slow", streams=1000, chunks=6, gap=500),
        ("kib_per_stream", "cpu_us_per_chunk", "delay_p50_ms", "wall_s"),
        rounds=5,
        clients=_LEAN,
        fresh=True,
        scaled=("streams",),
    ),
    "bedrock_call": Scenario(
        "A call to Bedrock, sync", "sync call", _task("calls", mode="sync", n=200), _CALL, clients=ON_BEDROCK
    ),
    "bedrock_image": Scenario(
        "A call to Bedrock with an image of 1 MiB, sync",
        "sync call",
        _task("calls", mode="sync", n=10, image_kib=1024),
        _CALL,
        clients=ON_BEDROCK,
    ),
    "bedrock_burst": Scenario(
        "A stream of 2,000 chunks at once from Bedrock, sync",
        "sync stream",
        _task("stream", mode="sync", chunks=2000, times=1),
        _BURST,
        clients=ON_BEDROCK,
        scaled=(),
    ),
    "tls_call_sync": Scenario(
        "A call over TLS, sync", "sync call", _task("calls", mode="sync", n=200), _CALL, clients=_LEAN, tls=True
    ),
    "tls_call_async": Scenario(
        "A call over TLS, async", "async call", _task("calls", mode="async", n=200), _CALL, clients=_LEAN, tls=True
    ),
    "tls_burst_sync": Scenario(
        "A stream of 2,000 chunks at once over TLS, sync",
        "sync stream",
        _task("stream", mode="sync", chunks=2000, times=1),
        _BURST,
        clients=_LEAN,
        tls=True,
        scaled=(),
    ),
    "tls_burst_async": Scenario(
        "A stream of 2,000 chunks at once over TLS, async",
        "async stream",
        _task("stream", mode="async", chunks=2000, times=1),
        _BURST,
        clients=_LEAN,
        tls=True,
        scaled=(),
    ),
    **{
        f"memory_{what}": Scenario(
            f"Memory kept of 20,000 {plural}",
            needs,
            _task("memory", what=what, n=20_000, warm=4_000),
            _MEMORY,
            rounds=1,
            clients=clients,
            fresh=True,
            scaled=("n", "warm"),
        )
        for what, plural, needs, clients in (
            ("sync", "calls, sync", "sync call", ("floor", *_OURS[:1])),
            ("async", "calls, async", "async call", ("floor", *_OURS)),
            ("stream", "streams of 20 chunks", "sync stream", ("floor", *_OURS[:1])),
            ("tools", "calls of a tool and back", "sync tools", _OURS[:1]),
        )
    },
    "growth_connections": Scenario(
        "Cost of a call by the number of calls at once",
        "async call",
        _task("growth", over="connections", sizes=[1, 16, 64, 256, 1024], n=1024, first=20),
        ("growth", "16", "64", "256", "1024"),
        rounds=3,
        clients=("floor", *_OURS),
        fresh=True,
        scaled=(),
    ),
    "growth_chunks": Scenario(
        "Cost of a chunk by the length of the stream",
        "async stream",
        _task("growth", over="chunks", sizes=[1_000, 10_000, 100_000, 1_000_000], n=20_000),
        ("growth", "1000", "10000", "100000", "1000000"),
        rounds=3,
        clients=("floor", *_OURS),
        fresh=True,
        scaled=(),
    ),
    "growth_image": Scenario(
        "Cost of a KiB by the size of the image",
        "sync call",
        _task("growth", over="image_kib", sizes=[256, 1024, 4096, 16384], n=16384),
        ("growth", "256", "1024", "4096", "16384"),
        rounds=3,
        clients=("floor", "httpx", "llamaroute"),
        fresh=True,
        scaled=(),
    ),
    "start": Scenario(
        "From the start of a program to its first answer",
        "",
        _task("start"),
        ("cpu_ms", "wall_ms"),
        clients=tuple(name for name in CLIENTS if name != "llamaroute-bedrock"),
        scaled=(),
    ),
    "installed": Scenario(
        "What is installed",
        "",
        _task("installed"),
        ("mb", "distributions"),
        rounds=1,
        # The environment of the first two has more than httpx.
        clients=tuple(name for name in CLIENTS if name not in ("floor", "httpx", "llamaroute-bedrock")),
        scaled=(),
    ),
}
