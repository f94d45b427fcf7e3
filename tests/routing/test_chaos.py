"""The short form of benchmarks/chaos.py: 150 calls, two seeds."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("client", "seed"), [("asyncio", 3), ("threads", 4)])
def test_what_is_promised_holds_when_all_hosts_fail(chaos: ModuleType, client: str, seed: int) -> None:
    made = chaos.run(client, 150, seed, 24)
    verdict = chaos.judged(made)
    assert verdict.broken == []
    assert len(made.ended) == 150
    assert verdict.figures["with a healthy target"] > 75
    assert sum(verdict.struck.values()) > 10, "no storm, no proof"

    # The judge sees what it is there to see.
    answered = next(found for found in made.ended if found.end == "right" and len(found.attempts) == 1)
    others = [found for found in made.ended if found is not answered]

    def spoilt(**changes: object) -> list[str]:
        return list(chaos.judged(replace(made, ended=[*others, replace(answered, **changes)])).broken)

    assert any("wrong words" in rule for rule in spoilt(end="wrong", detail="wrong words"))
    assert any("took" in rule for rule in spoilt(ended=answered.began + 60.0))
    assert any("the ledger has" in rule for rule in spoilt(attempts=answered.attempts * 2))
    again = [seen for seen in made.log if seen.call == answered.asked.number]
    twice = chaos.judged(replace(made, log=[*made.log, *again])).broken
    assert any("whole answers" in rule for rule in twice)
    left = chaos.judged(replace(made, left={"threads": 2})).broken
    assert left == ["2 threads left"]
    lost = [replace(found, end="error", detail="lost") for found in made.ended]
    assert any("were answered" in rule for rule in chaos.judged(replace(made, ended=lost)).broken)


def test_the_weather_is_the_seed_s(chaos: ModuleType) -> None:
    assert chaos.weather(5) == chaos.weather(5) != chaos.weather(6)
    assert chaos.draw(5, 20) == chaos.draw(5, 20) != chaos.draw(6, 20)
    for seed in range(20):
        forecast = chaos.weather(seed)
        assert sum(not spells for spells in forecast.values()) == 2
        assert sum(spells[0].what == "dead" for spells in forecast.values() if spells) == 1
