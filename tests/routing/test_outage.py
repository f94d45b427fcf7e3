"""The short form of benchmarks/simulate_outage.py: 500 clients."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "simulate_outage.py"
CLIENTS = 500


@pytest.fixture(scope="module")
def sim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_outage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("index", range(5))
def test_an_outage_is_not_amplified_and_the_way_back_is_no_stampede(sim: ModuleType, index: int) -> None:
    scenario = replace(sim.SCENARIOS[index], before=5.0, after=15.0)
    figures = sim.summary(scenario, sim.simulate(scenario, CLIENTS, seed=7), CLIENTS)
    assert 1.0 <= figures["amplification"] < 1.1, figures
    # 500 calls a second are drawn: their own spread is 4.5 %, and the busiest second of many counts.
    assert figures["after"] < 1.2, figures
    lost = {1: scenario.share * scenario.outage / scenario.end}.get(scenario.targets, 0.0)
    assert figures["lost"] < lost + 0.1, figures


def test_where_half_of_a_target_s_requests_fail_calls_move_on_and_load_does_not_grow(sim: ModuleType) -> None:
    scenario = sim.Scenario("half", targets=3, share=0.5, before=5.0, outage=40.0, after=5.0)
    result = sim.simulate(scenario, 200, seed=7)
    figures = sim.summary(scenario, result, 200)
    assert result.failed == 0
    assert figures["amplification"] < 1.25, figures
    most = max(counts[second] for counts in result.seconds for second in range(int(scenario.end)))
    assert most < 1.3 * 200, "no target sees more than what one target sees in calm times"


def test_the_simulation_sees_an_amplification_where_there_is_one(sim: ModuleType) -> None:
    figures = sim.summary(sim.SCENARIOS[0], sim.simulate(sim.SCENARIOS[0], 50, plain=True), 50)
    assert figures["amplification"] > 2.5


def test_the_failed_target_gets_its_share_again(sim: ModuleType) -> None:
    scenario = sim.Scenario("short", targets=2, outage=30.0)
    result = sim.simulate(scenario, 100, seed=3)
    last = int(scenario.end) - 2
    assert result.seconds[0][last] > 10 * (result.seconds[1][last] + 1)
    assert result.failed == 0
