"""Licence, regions, accounts, budgets and ends of models, through both clients, against emulated hosts."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply

from .api import Api

PRICES = {"llama-4-scout": {"input_price": 1, "output_price": 2}}
"""Of both accounts, unless a test says otherwise: 1 and 2 $ a million tokens."""


def config(emu: Emulator, **more: Any) -> dict[str, Any]:
    """A route over two hosts, each with keys of its own; `a` is in Europe, `b` in the United States."""
    tables = {}
    for name, host, region in (("a", "openai", "eu-west-1"), ("b", "vllm", "us-east-1")):
        tables[name] = {
            "kind": "openai-compatible",
            "base_url": emu.base_url(host),
            "api_key": emu.key(host) or "none",
            "model": "llama-4-scout",
            "region": region,
            "retry": 1,
        }
    route = {"targets": ["a", "b"], **more.pop("route", {})}
    return {"default": "r", "providers": tables, "routes": {"r": route}, "models": PRICES, **more}


PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0c"
    b"IDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)


async def refused(client: Any, *args: Any, **options: Any) -> lr.PolicyError:
    """What `chat` and `stream` raise, both alike."""
    with pytest.raises(lr.PolicyError) as plain:
        await client.chat(*args, **options)
    with pytest.raises(lr.PolicyError) as streamed:
        async with client.stream(*args, **options):
            pass
    assert str(plain.value) == str(streamed.value)
    return plain.value


# -- rules ------------------------------------------------------------------------------------------------------------


async def test_regions(api: Api, emu: Emulator):
    async with api.client(config(emu, policy={"regions": ["us-*"]})) as client:
        response = await client.chat("Hi")
        assert response.provider == "b"
        assert [attempt.target for attempt in response.attempts] == ["b:llama-4-scout"]
        assert [notice.code for notice in response.warnings] == ["passed_over"]
        error = await refused(client, "Hi", model="a")
    assert error.rule == "policy.regions"
    assert {request.host for request in emu.requests} == {"vllm"}, "not a byte went to Europe"


async def test_failover_keeps_to_the_rules(api: Api, emu: Emulator):
    emu.fault(status=500, host="openai", times=2)
    async with api.client(config(emu, policy={"providers": ["a"]})) as client:
        with pytest.raises(lr.ServerError):
            await client.chat("Hi")
    assert {request.host for request in emu.requests} == {"openai"}


async def test_a_route_has_rules_of_its_own(api: Api, emu: Emulator):
    own = {"policy": {"regions": ["eu-*"]}}
    async with api.client(config(emu, policy={"regions": ["us-*"]}, route=own)) as client:
        assert (await client.chat("Hi")).provider == "a"
        assert (await client.chat("Hi", model="b")).provider == "b", "no route: the rules of [policy]"
        assert (await refused(client, "Hi", model="a")).rule == "policy.regions"


async def test_images_from_the_union(api: Api, emu: Emulator):
    async with api.client(config(emu, policy={"operator_domicile": "DE"})) as client:
        error = await refused(client, ["Look", lr.Image(PNG)])
        assert error.rule == "policy.operator_domicile"
        assert emu.requests == []
        assert (await client.chat("Hi")).text == "You said: Hi"
    async with api.client(config(emu, policy={"operator_domicile": "DE", "end_user": True})) as client:
        assert (await client.chat(["Look", lr.Image(PNG)])).text.startswith("I see 1 image")


async def test_explain_says_what_a_rule_forbids(api: Api, emu: Emulator):
    async with api.client(config(emu, policy={"regions": ["us-*"]})) as client:
        plan = client.explain("Hi")
    first, second = plan.targets
    assert "policy.regions" in first.refused
    assert first.could_serve == ()
    assert second.refused == ""
    assert emu.requests == []


async def test_attribution(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        assert client.attribution == "Built with Llama"
    other = {"providers": {"box": {"kind": "openai-compatible", "base_url": "http://x", "model": "smollm2"}}}
    async with api.client(other) as client:
        assert client.attribution == ""


# -- money ------------------------------------------------------------------------------------------------------------


async def test_a_budget_of_the_day(api: Api, emu: Emulator):
    """100 tokens of answer may cost 0.0002 $; the real ones cost 0.00005 $ each."""
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 8)
    async with api.client(config(emu, policy={"budget": {"usd_per_day": 0.0004}})) as client:
        for _ in range(3):
            assert (await client.chat("Hi", max_tokens=100)).text == "Hello"
        error = await refused(client, "Hi", max_tokens=200)
        assert error.rule == "policy.budget.usd_per_day"
        assert (error.limit, error.spent) == (Decimal("0.0004"), Decimal("0.00015"))
        assert error.cost is not None
        assert error.cost > Decimal("0.0004")
        async with client.stream("Hi", max_tokens=100) as stream:
            async for _ in stream:
                pass
        assert stream.response.cost.usd == Decimal("0.00005")
        assert client.usage().cost == Decimal("0.0002")
        assert (await refused(client, "Hi", max_tokens=100)).spent == Decimal("0.0002")
    assert len(emu.requests) == 4


async def test_the_budget_goes_on_over_a_reload(api: Api, emu: Emulator, tmp_path: Any):
    import json

    file = tmp_path / "llamaroute.json"
    file.write_text(json.dumps(config(emu, policy={"budget": {"usd_per_day": 0.0003}})))
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 4)
    async with api.client(file) as client:
        await client.chat("Hi", max_tokens=100)
        client.reload()
        assert (await refused(client, "Hi", max_tokens=130)).spent == Decimal("0.00005")


async def test_a_budget_of_a_route(api: Api, emu: Emulator):
    own = {"policy": {"budget": {"usd_per_day": 0}}}
    async with api.client(config(emu, route=own)) as client:
        assert (await refused(client, "Hi", max_tokens=1)).rule == "routes.r.policy.budget.usd_per_day"
        assert (await client.chat("Hi", model="a", max_tokens=1)).provider == "a"


async def test_a_stream_that_is_left_costs_what_came(api: Api, emu: Emulator):
    emu.reply("one two three four five six seven eight nine ten", usage=(10, 400))
    async with api.client(config(emu, policy={"budget": {"usd_per_day": 1}})) as client:
        async with client.stream("Hi", max_tokens=1000) as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    break
        assert stream.response.usage.estimated
        used = client.usage()
    assert 0 < used.cost < Decimal("0.0008")
    assert used.cost == stream.response.cost.usd


async def test_pictures_count_before_they_are_sent(api: Api, emu: Emulator):
    """One tile is 147 tokens: more than the text beside it."""
    limit = {"budget": {"usd_per_call": 0.0001}}
    async with api.client(config(emu, policy=limit)) as client:
        assert (await client.chat("Look", max_tokens=1)).text
        error = await refused(client, ["Look", lr.Image(PNG)], max_tokens=1)
    assert error.rule == "policy.budget.usd_per_call"
    assert error.cost is not None
    assert Decimal("0.00014") < error.cost < Decimal("0.0003")


async def test_a_target_without_a_price(api: Api, emu: Emulator):
    budget: dict[str, Any] = {"usd_per_day": 1}
    plain = config(emu, policy={"budget": budget}, models={})
    async with api.client(plain) as client:
        assert "its price is not known" in str(await refused(client, "Hi"))
    budget["unpriced"] = "allow"
    async with api.client(plain) as client:
        assert (await client.chat("Hi")).cost is None
        assert client.usage().unpriced == 1


# -- usage ------------------------------------------------------------------------------------------------------------


async def test_usage_by_target_provider_route_and_day(api: Api, emu: Emulator):
    emu.replies(*[Reply("Hello", usage=(10, 20))] * 3)
    emu.fault(status=500, host="openai")
    before = datetime.datetime.now(datetime.UTC).date().isoformat()
    async with api.client(config(emu)) as client:
        assert (await client.chat("Hi")).provider == "b"
        await client.chat("Hi", model="a")
        used = client.usage()
    after = datetime.datetime.now(datetime.UTC).date().isoformat()
    cost = Decimal("0.00005")
    assert (used.calls, used.attempts, used.failed, used.cost) == (2, 3, 0, 2 * cost)
    assert set(used.by_day) <= {before, after}
    assert sum(day.calls for day in used.by_day.values()) == 2
    assert {name: (part.calls, part.attempts, part.cost) for name, part in used.by_provider.items()} == {
        "a": (1, 2, cost),
        "b": (1, 1, cost),
    }
    assert {name: part.cost for name, part in used.by_target.items()} == {
        "a:llama-4-scout": cost,
        "b:llama-4-scout": cost,
    }
    assert {name: (part.calls, part.attempts, part.cost) for name, part in used.by_route.items()} == {"r": (1, 2, cost)}


# -- ends of models ---------------------------------------------------------------------------------------------------


def ending(when: Any) -> dict[str, Any]:
    return {"llama-4-scout": {**PRICES["llama-4-scout"], "end_of_life": when}}


async def test_a_model_that_has_ended_at_one_account(api: Api, emu: Emulator):
    async with api.client(config(emu, models=ending({"a": "2025-06-01"}))) as client:
        response = await client.chat("Hi")
        assert (response.provider, len(response.attempts)) == ("b", 1)
        assert [notice.code for notice in response.warnings] == ["passed_over"]
        with pytest.raises(lr.ModelRetiredError, match="2025-06-01") as caught:
            await client.chat("Hi", model="a")
        assert caught.value.target == "a:llama-4-scout"
        assert "2025-06-01" in client.explain("Hi").targets[0].refused
    assert {request.host for request in emu.requests} == {"vllm"}


async def test_and_at_all(api: Api, emu: Emulator):
    async with api.client(config(emu, models=ending("2025-06-01"))) as client:
        with pytest.raises(lr.ModelRetiredError):
            await client.chat("Hi")
        with pytest.raises(lr.ModelRetiredError):
            async with client.stream("Hi"):
                pass
        assert client.usage().failed == 2
    assert emu.requests == []


async def test_a_model_that_ends_far_from_now(api: Api, emu: Emulator):
    async with api.client(config(emu, models=ending("9999-12-31"))) as client:
        assert (await client.chat("Hi")).warnings == ()
