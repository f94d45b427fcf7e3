"""The configuration changes under load: no call is lost, none is counted twice, and what is shared stays whole."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr

from .api import ASYNC, Api
from .raw import PATIENCE, Raw, answer, body_of

CALLS = 200
RELOADS = 20


class Gate:
    """A server that keeps every answer back until it is told."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = 0
        self._lock = threading.Lock()

    def __call__(self, connection: Any) -> None:
        while (request := connection.read_request()) is not None:
            with self._lock:
                self.waiting += 1
            self.open.wait(PATIENCE)
            connection.send(answer(body_of(request.json["messages"][0]["content"])))


class Watcher:
    """Counts what it is told, from any thread."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def attempt_started(self, call: Any) -> None:
        self.seen.append("started")

    def attempt_ended(self, call: Any, attempt: Any) -> None:
        self.seen.append(f"ended {attempt.status}")

    def layer(self, call: Any, inner: Any) -> Any:
        self.seen.append("in")
        try:
            return (yield from inner(call))
        finally:
            self.seen.append("out")


def configurations(urls: dict[str, str]) -> list[Any]:
    """Valid ones that add and remove accounts, targets, limits and rules, and broken ones between them."""

    def valid(*targets: str, **more: Any) -> dict[str, Any]:
        tables = {
            name: {"kind": "openai-compatible", "base_url": url, "model": "llama-4-scout", "retry": 1}
            for name, url in urls.items()
            if name in targets
        }
        return {"default": "r", "providers": tables, "routes": {"r": {"targets": list(targets)}}, **more}

    prices = {"llama-4-scout": {"input_price": 1, "output_price": 1}}
    return [
        valid("a", "b"),
        "{ this is no JSON",
        valid("b"),
        valid("b", "a", limits={"b": {"concurrency": 400}, "a": {"requests_per_minute": 100_000}}),
        {"providers": {"a": {"kind": "nonsense"}}},
        valid("a", limits={"a": {"concurrency": 300}}),
        valid("a", "b", policy={"budget": {"usd_per_day": 100}}, models=prices),
        valid("b", policy={"providers": ["nobody"]}),
        valid("b", "a", policy={"providers": ["a"]}),
        None,
    ]


def change(client: Any, file: Path, configuration: Any) -> bool:
    """Put the configuration into the file, and have it read; whether it was taken."""
    if configuration is None:
        file.unlink()
    else:
        file.write_text(configuration if isinstance(configuration, str) else json.dumps(configuration))
    try:
        client.reload()
    except lr.ConfigError:
        return False
    return True


def check(client: Any, servers: list[Raw], watcher: Watcher, texts: list[str], taken: list[bool]) -> None:
    """Each call had its own answer, from one request, told once."""
    assert sorted(texts) == sorted(str(number) for number in range(2 * CALLS))
    assert sum(len(server.requests) for server in servers) == 2 * CALLS, "none was sent twice"
    used = client.usage()
    assert (used.calls, used.failed, used.attempts, used.abandoned) == (2 * CALLS, 0, 2 * CALLS, 0)
    assert sum(part.calls for part in used.by_provider.values()) == 2 * CALLS
    assert Counter(watcher.seen) == {"started": 2 * CALLS, "ended 200": 2 * CALLS, "in": 2 * CALLS, "out": 2 * CALLS}
    assert Counter(taken) == {True: 12, False: 8}
    assert all(target.in_flight == 0 for target in client.health())
    gates = client._runtime.gates._gates.values()
    assert all(gate.busy == 0 for gate in gates), "every place was given back"


def wait_until(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never became so"
        time.sleep(0.005)


@pytest.mark.parametrize("api", ASYNC, indirect=True)
async def test_200_tasks_and_20_reloads(api: Api, tmp_path: Path) -> None:
    import anyio

    file, gate, watcher = tmp_path / "llamaroute.json", Gate(), Watcher()
    texts: list[str] = []
    taken: list[bool] = []
    with Raw(gate) as first, Raw(gate) as second:
        plans = configurations({"a": first.url, "b": second.url})
        file.write_text(json.dumps(plans[0]))
        async with api.client(file, observers=[watcher], layers=[watcher.layer]) as client:

            async def work(number: int) -> None:
                texts.append((await client.chat(str(number))).text)

            async with anyio.create_task_group() as group:
                for number in range(CALLS):
                    group.start_soon(work, number)
                while gate.waiting < CALLS:
                    await anyio.sleep(0.01)
                for plan in plans:
                    taken.append(change(client, file, plan))
                gate.open.set()
                for number in range(CALLS):
                    group.start_soon(work, CALLS + number)
                for plan in plans:
                    taken.append(change(client, file, plan))
                    await anyio.sleep(0.01)
            check(client, [first, second], watcher, texts, taken)


def test_threads_and_20_reloads(tmp_path: Path) -> None:
    file, gate, watcher = tmp_path / "llamaroute.json", Gate(), Watcher()
    taken: list[bool] = []
    with Raw(gate) as first, Raw(gate) as second:
        plans = configurations({"a": first.url, "b": second.url})
        file.write_text(json.dumps(plans[0]))
        with (
            lr.Client(file, observers=[watcher], layers=[watcher.layer], env={}) as client,
            ThreadPoolExecutor(CALLS) as pool,
        ):
            under_way = [pool.submit(lambda n=number: client.chat(str(n)).text) for number in range(CALLS)]
            wait_until(lambda: gate.waiting == CALLS)
            taken += [change(client, file, plan) for plan in plans]
            gate.open.set()
            under_way += [pool.submit(lambda n=number: client.chat(str(CALLS + n)).text) for number in range(CALLS)]
            for plan in plans:
                taken.append(change(client, file, plan))
                time.sleep(0.01)
            texts = [each.result(PATIENCE) for each in under_way]
            check(client, [first, second], watcher, texts, taken)


def test_reloads_from_many_threads_at_once_keep_the_totals(tmp_path: Path) -> None:
    file, gate = tmp_path / "llamaroute.json", Gate()
    gate.open.set()
    with Raw(gate) as server:
        file.write_text(json.dumps(configurations({"a": server.url})[0] | {"routes": {"r": {"targets": ["a"]}}}))
        with lr.Client(file, env={}) as client, ThreadPoolExecutor(16) as pool:
            calls = [pool.submit(client.chat, "Hi") for _ in range(64)]
            reloads = [pool.submit(client.reload) for _ in range(32)]
            for each in [*calls, *reloads]:
                each.result(PATIENCE)
            assert client.usage().calls == 64
