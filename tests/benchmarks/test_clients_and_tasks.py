"""Each client reads what is sent, and each task is done and measured; figures themselves are the machine's affair."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from benchmarks.speed import answers, cold
from benchmarks.speed.catalogue import CLIENTS, SCENARIOS, Scenario
from benchmarks.speed.run import Bench as Runner
from benchmarks.speed.tasks import Bench, check, png

HERE = (
    "floor",
    "httpx",
    "llamaroute",
    "openai",
    "huggingface_hub",
    "azure-ai-inference",
    "boto3",
    "llamaroute-bedrock",
)
"""Clients that the environment of the tests has; the others are run by scripts/bench alone."""


def scenario(needs: str, task: str, *, tls: bool = False, **options: Any) -> Scenario:
    return Scenario("", needs, {"task": task, **options}, ("x",), tls=tls, scaled=())


SMALL = {
    "call sync": scenario("sync call", "calls", mode="sync", n=2),
    "call async": scenario("async call", "calls", mode="async", n=2),
    "image sync": scenario("sync call", "calls", mode="sync", n=2, image_kib=64),
    "new image async": scenario("async call", "calls", mode="async", n=2, image_kib=64, keep_image=False),
    "burst sync": scenario("sync stream", "stream", mode="sync", chunks=30),
    "burst async": scenario("async stream", "stream", mode="async", chunks=30),
    "paced async": scenario("async stream", "stream", mode="async", chunks=3, gap=1),
}


@pytest.mark.parametrize("client", HERE)
def test_a_client_reads_what_is_sent(bench: Runner, client: str) -> None:
    done = 0
    for name, small in SMALL.items():
        found = bench.round(small, [client])
        if found:
            assert "error" not in found[client], f"{name}: {found[client]['error']}"
            assert all(value > 0 for value in found[client].values())
            done += 1
    assert done == (3 if client == "boto3" else len(SMALL)), (
        "scenarios are left out where a client lacks what they need"
    )


TASKS = {
    "at once": scenario("async call", "at_once", connections=4, n=8, first=1),
    "slow": scenario("async stream", "slow", streams=3, chunks=2, gap=10),
    "memory": scenario("sync call", "memory", what="sync", n=8, warm=2),
    "memory of streams": scenario("sync stream", "memory", what="stream", n=8, warm=2),
    "growth of calls": scenario("async call", "growth", over="connections", sizes=[1, 2, 3], n=4, first=1),
    "growth of streams": scenario("async stream", "growth", over="chunks", sizes=[5, 10, 4500], n=10),
    "growth of images": scenario("sync call", "growth", over="image_kib", sizes=[4, 8, 16], n=16),
    "TLS, sync": scenario("sync call", "calls", mode="sync", n=2, tls=True),
    "TLS, async": scenario("async stream", "stream", mode="async", chunks=30, tls=True),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_done(bench: Runner, task: str) -> None:
    for client in ("floor", "llamaroute"):
        found = bench.round(TASKS[task], [client])[client]
        assert "error" not in found, found["error"]
        assert found


def test_a_tool_is_called_and_answered(bench: Runner) -> None:
    found = bench.round(scenario("sync tools", "memory", what="tools", n=8, warm=2), ["floor", "llamaroute"])
    assert "floor" not in found, "it has no tools"
    assert "error" not in found["llamaroute"], found["llamaroute"]["error"]


def test_a_start_is_measured_and_its_answer_read(bench: Runner) -> None:
    found = bench.round(SCENARIOS["start"], ["floor", "llamaroute"])
    for client, figures in found.items():
        assert "error" not in figures, f"{client}: {figures['error']}"
        assert figures["cpu_ms"] > 0
    wrong = replace(CLIENTS["floor"], engine="aiohttp")
    said = cold.start(wrong, sys.executable, bench.pythons.src, bench.server.url())
    assert said == {"error": "the first answer is wrong"}, "what is measured is what is said"


def test_a_client_that_cannot_start_is_an_error_and_no_figure(bench: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(CLIENTS["floor"], file="no_such_file")
    monkeypatch.setattr(type(bench.pythons), "of", lambda self, name: (broken, sys.executable, self.src))
    found = bench.round(scenario("sync call", "calls", mode="sync", n=2, tls=True), ["httpx"])
    assert "no_such_file" in found["httpx"]["error"]


def test_an_engine_is_for_async_alone(bench: Runner) -> None:
    assert bench.round(SMALL["call sync"], ["llamaroute-aiohttp"]) == {}


class Deaf:
    """A client that does not hear the last word."""

    def __init__(self, base: str) -> None:
        self.base = base

    def call(self, prompt: str) -> str:
        return answers.TEXT.rpartition(" ")[0]

    def stream(self, prompt: str) -> Iterator[str]:
        count = int(self.base.partition("chunks=")[2].split(",")[0])
        yield from map(answers.delta, range(count - 1))


@pytest.mark.parametrize("task", [{"n": 1}, {"chunks": 20}, {"chunks": 20, "gap": 1}])
def test_what_is_lost_is_found(task: dict[str, Any]) -> None:
    module = ModuleType("deaf")
    module.Sync = Deaf  # type: ignore[attr-defined]
    bench = Bench(module, "http://nowhere")
    with pytest.raises(AssertionError, match="sent was"):
        bench.calls("sync", **task) if "n" in task else bench.stream("sync", **task)


def test_texts_are_compared_letter_by_letter() -> None:
    check(answers.TEXT)
    with pytest.raises(AssertionError, match="sent was"):
        check(answers.TEXT + " ")


def test_a_picture_has_the_bytes_that_were_asked_for() -> None:
    from llamaroute.media import sniff

    picture = png(48 * 1024)
    assert len(picture) == 48 * 1024
    assert sniff.sniff(picture).media_type == "image/png"


def test_a_long_burst_is_the_same_as_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"".join(answers.burst(answers.SSE, 25))
    monkeypatch.setattr(answers, "BLOCK", 10)
    pieces = list(answers.burst(answers.SSE, 25))
    assert b"".join(pieces) == whole
    assert len(pieces) == 5
