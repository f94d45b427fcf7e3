"""A budget that two clients share through Redis, and what becomes of it when the server is gone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply

from ..servers.redis_server import RedisServer
from .api import Api

COST = Decimal("0.00005")
"""Of each answer: 10 and 20 tokens at 1 and 2 $ a million."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def config(emu: Emulator, server: RedisServer, per_day: float) -> dict[str, Any]:
    table = {
        "kind": "openai-compatible",
        "base_url": emu.base_url("openai"),
        "api_key": emu.key("openai"),
        "model": "llama-4-scout",
    }
    return {
        "providers": {"box": table},
        "models": {"llama-4-scout": {"input_price": 1, "output_price": 2}},
        "policy": {"budget": {"usd_per_day": per_day}},
        "state": {"url": server.url},
    }


async def spend(client: Any, times: int) -> lr.PolicyError | None:
    """Ask so many times; what ended it, if anything did."""
    for _ in range(times):
        try:
            await client.chat("Hi", max_tokens=100)
        except lr.PolicyError as error:
            return error
    return None


async def test_two_clients_spend_from_one_budget(api: Api, emu: Emulator, server: RedisServer) -> None:
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 20)
    shared = config(emu, server, 0.0006)
    async with api.client(shared) as one, api.client(shared) as two:
        assert await spend(one, 4) is None
        assert await spend(two, 4) is None
        error = await spend(two, 20) or await spend(one, 20)
        assert error is not None
        assert (error.rule, error.limit) == ("policy.budget.usd_per_day", Decimal("0.0006"))
        together = one.usage().cost + two.usage().cost
    assert error.spent == together, "each sees what both have spent"
    assert Decimal("0.0006") - Decimal("0.00025") < together <= Decimal("0.0006")
    assert together == len(emu.requests) * COST


async def test_a_new_client_finds_what_was_spent(api: Api, emu: Emulator, server: RedisServer) -> None:
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 4)
    async with api.client(config(emu, server, 1)) as before:
        assert await spend(before, 2) is None
    async with api.client(config(emu, server, 0.0001)) as after:
        error = await spend(after, 1)
    assert error is not None
    assert error.spent == 2 * COST


async def test_without_the_server_the_budget_goes_on_here(api: Api, emu: Emulator, server: RedisServer) -> None:
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 20)
    async with api.client(config(emu, server, 0.0006)) as client:
        assert await spend(client, 4) is None
        server.stop()
        error = await spend(client, 20)
        assert error is not None
        assert error.spent == client.usage().cost == len(emu.requests) * COST <= Decimal("0.0006")
