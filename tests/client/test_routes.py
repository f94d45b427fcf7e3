"""Strategies, circuits and the retry budget through both clients, against three emulated servers."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.routing import health
from llamaroute.routing.health import BROKEN, THRESHOLD, Pace

from .api import Api

HOSTS = {"a": "openai", "b": "vllm", "c": "llamacpp"}


class Dice:
    def random(self) -> float:
        return 0.999


def config(emu: Emulator, *targets: Any, models: dict[str, Any] | None = None, **route: Any) -> dict[str, Any]:
    tables = {
        name: {
            "kind": "openai-compatible",
            "base_url": emu.base_url(host),
            "api_key": emu.key(host) or "none",
            "model": "llama-4-scout",
        }
        for name, host in HOSTS.items()
    }
    routes = {"r": {"targets": list(targets or HOSTS), "retry": 1, **route}}
    return {"default": "r", "providers": tables, "routes": routes, "models": models or {}}


def client_of(api: Api, *args: Any, **options: Any) -> Any:
    client = api.client(*args, **options)
    client._runtime.traffic.dice = Dice()
    client._runtime.traffic.health._dice = Dice()
    return client


async def who(client: Any, calls: int, **options: Any) -> str:
    """Accounts that answered, in order."""
    return "".join([(await client.chat("Hi", **options)).provider for _ in range(calls)])


def state(client: Any, name: str) -> lr.TargetHealth:
    return next(one for one in client.health() if one.target.startswith(f"{name}:"))


# -- strategies -------------------------------------------------------------------------------------------------------


async def test_failover_is_the_default(api: Api, emu: Emulator):
    async with client_of(api, config(emu)) as client:
        assert await who(client, 3) == "aaa"


async def test_round_robin(api: Api, emu: Emulator):
    async with client_of(api, config(emu, strategy="round-robin")) as client:
        assert await who(client, 5) == "abcab"
        plan = client.explain("Hi")
        assert (plan.strategy, [one.target[0] for one in plan.targets]) == ("round-robin", ["c", "a", "b"])
        assert str(plan).startswith("strategy: round-robin\n1. c:llama-4-scout")
        assert await who(client, 1) == "c"


async def test_weighted(api: Api, emu: Emulator):
    targets = [{"target": "a", "weight": 1}, {"target": "b", "weight": 8}, {"target": "c", "weight": 1}]
    async with api.client(config(emu, *targets, strategy="weighted")) as client:
        import random

        client._runtime.traffic.dice = random.Random(3)
        share = Counter(await who(client, 60))
    assert share["b"] > 40
    assert share["a"] + share["c"] > 3


async def test_lowest_latency(api: Api, emu: Emulator):
    emu.fault(stall=0.3, host="openai", times=100)
    emu.fault(stall=0.1, host="llamacpp", times=100)
    async with client_of(api, config(emu, strategy="lowest-latency")) as client:
        assert await who(client, 6) == "abcbbb"
        assert state(client, "a").plain > 0.3 > state(client, "c").plain > state(client, "b").plain
        assert state(client, "a").first_token is None


async def test_cheapest(api: Api, emu: Emulator):
    models = {
        "dear": {"ids": {"a": "llama-4-scout"}, "input_price": 2, "output_price": 2},
        "fair": {"ids": {"b": "llama-4-scout"}, "input_price": 1, "output_price": 1},
    }
    route = config(emu, "c", "a:dear", "b:fair", models=models, strategy="cheapest")
    async with client_of(api, route) as client:
        assert await who(client, 2) == "bb"
        emu.fault(status=500, host="vllm")
        emu.fault(status=500, host="openai")
        assert await who(client, 1) == "c", "what has no price comes last"
        assert [one.target for one in client.explain("Hi").targets] == ["b:fair", "a:dear", "c:llama-4-scout"]


async def test_least_busy(api: Api, emu: Emulator):
    async with client_of(api, config(emu, strategy="least-busy")) as client:
        async with client.stream("Hi") as one:
            async with client.stream("Hi") as two:
                assert await who(client, 2) == "cc"
                assert state(client, "a").in_flight == state(client, "b").in_flight == 1
            assert await who(client, 1) == "b"
            async for _ in one:
                pass
        assert await who(client, 1) == "a"
        assert two.response.provider == "b"
        assert [state(client, name).in_flight for name in HOSTS] == [0, 0, 0]


# -- circuits ---------------------------------------------------------------------------------------------------------


async def test_a_target_that_is_down_is_passed_over_and_tried_again(
    api: Api, emu: Emulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "BROKEN", Pace(0.3, 0.3))
    monkeypatch.setattr(health, "SPARE", 1)  # answers of another that one try is spent on
    emu.fault(status=503, host="openai", times=THRESHOLD)
    async with client_of(api, config(emu)) as client:
        assert await who(client, THRESHOLD + 1) == "b" * (THRESHOLD + 1)
        reply = await client.chat("Hi")
        assert (reply.provider, len(reply.attempts)) == ("b", 1)
        (notice,) = reply.warnings
        assert notice.code == "target_cooling"
        ill = state(client, "a")
        assert (ill.state, ill.reason, ill.failures) == ("cooling", "OverloadedError", THRESHOLD)
        assert 0 < ill.seconds <= 0.375
        time.sleep(0.4)  # the client need not run meanwhile
        assert state(client, "a").state == "half-open"
        assert await who(client, 2) == "aa"
        well = state(client, "a")
        assert (well.state, well.reason, well.failures, well.seconds) == ("closed", "", 0, 0)


async def test_a_wrong_key_is_not_sent_again_and_again(api: Api, emu: Emulator):
    wrong = config(emu, "b", "a")
    wrong["providers"]["b"]["api_key"] = "wrong"
    emu.fault(status=401, host="vllm", times=100)
    async with client_of(api, wrong) as client:
        assert await who(client, 4) == "aaaa"
        assert state(client, "b").reason == "AuthenticationError"
    assert Counter(request.host for request in emu.requests) == {"vllm": 1, "openai": 4}


async def test_health_outlives_a_reload_unless_the_account_has_changed(api: Api, emu: Emulator):
    table = config(emu)
    emu.fault(status=500, host="openai", times=THRESHOLD)
    async with client_of(api, table) as client:
        await who(client, THRESHOLD)
        client.reload()
        assert state(client, "a").state == "cooling"
        assert await who(client, 1) == "b"
        table["providers"]["a"]["headers"] = {"x-new": "1"}
        client.reload()
        assert state(client, "a").state == "closed"
        assert await who(client, 1) == "a"


async def test_an_outage_is_not_multiplied(api: Api, emu: Emulator):
    emu.fault(status=500, host="openai", times=1000)
    calls = 50
    async with client_of(api, config(emu, "a", retry={"attempts": 3, "base": 0})) as client:
        for _ in range(calls):
            with pytest.raises(lr.ServerError):
                await client.chat("Hi")
        assert state(client, "a").seconds <= 1.25 * BROKEN.first
    assert len(emu.requests) == calls + 2, "the first call alone is asked again"


async def test_a_failed_call_counts_where_it_began(api: Api, emu: Emulator):
    emu.fault(status=500, host="openai", times=THRESHOLD)
    async with client_of(api, config(emu, "a", "b")) as client:
        await who(client, THRESHOLD)
        emu.fault(status=400, host="vllm")
        with pytest.raises(lr.InvalidRequestError):
            await client.chat("Hi")
        by_target = client.usage().by_target
    assert by_target["b:llama-4-scout"].failed == 1
    assert by_target["a:llama-4-scout"].failed == 0
