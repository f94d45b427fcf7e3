"""`client.explain`: the decisions of a call without the call, alike for both clients."""

from __future__ import annotations

from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator

WEATHER = lr.Tool("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})
PICTURE = b"GIF89a"


@pytest.fixture
def emu():
    with Emulator() as running:
        yield running


def config(emu: Emulator, **more: Any) -> dict[str, Any]:
    tables = emu.providers("azure", "bedrock", "cloudflare")
    return {
        "providers": tables,
        "routes": {"all": {"targets": ["azure:llama-4-maverick", "bedrock", "cloudflare"]}},
        **more,
    }


@pytest.mark.parametrize("kind", [lr.Client, lr.AsyncClient])
def test_it_says_what_each_target_would_do_and_sends_nothing(kind: Any, emu: Emulator) -> None:
    client = kind(config(emu))
    plan = client.explain("Hi", model="all", tools=[WEATHER], stream=True)
    assert plan.route == "all"
    assert [target.target for target in plan.targets] == [
        "azure:llama-4-maverick", "bedrock:llama-4-scout", "cloudflare:llama-4-scout",
    ]  # fmt: skip
    by = [{step.feature: step.by or step.how for step in target.steps} for target in plan.targets]
    assert by[0] == {"stream": "native", "tools": "prompt"}
    assert by[1] == {"stream": "native", "tools": "native", "stream_tools": "plain-call"}
    assert by[2] == by[1]
    assert emu.requests == []


def test_what_is_explained_is_what_is_done(emu: Emulator) -> None:
    emu.reply('[weather(city="Oslo")]')
    with lr.Client(config(emu)) as client:
        plan = client.explain("Weather?", model="azure:llama-4-maverick", tools=[WEATHER], tool_choice="required")
        reply = client.chat("Weather?", model="azure:llama-4-maverick", tools=[WEATHER], tool_choice="required")
    assert {step.by for step in plan.targets[0].steps} == {"prompt", "instruction"}
    assert {notice.code for notice in reply.warnings} >= {"tools_emulated", "forced_tools_emulated"}
    assert reply.tool_calls[0].arguments == {"city": "Oslo"}
    assert "tools" not in emu.requests[0].json


def test_a_target_that_would_be_passed_over_says_why_and_who_could(emu: Emulator) -> None:
    tables = emu.providers("azure", "bedrock")
    tables["azure"]["features"] = {"images": "refuse"}
    with lr.Client({"providers": tables}) as client:
        plan = client.explain(["Look", lr.Image(PICTURE)], model="azure:llama-4-maverick")
    (target,) = plan.targets
    assert "cannot serve images" in target.refused
    assert "bedrock:llama-4-scout" in target.could_serve
    assert "passed over" in str(plan)


def test_wrong_arguments_are_errors_as_in_chat(emu: Emulator) -> None:
    with lr.Client(config(emu)) as client:
        with pytest.raises(lr.InputError):
            client.explain("Hi", model="nobody")
        with pytest.raises(lr.InputError):
            client.explain("Hi", temperature="hot")  # type: ignore[arg-type]
