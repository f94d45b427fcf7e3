"""The short form of benchmarks/chaos_shared.py: 120 calls."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def shared() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos_shared", FOLDER / "chaos_shared.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_limits_hold_in_the_chaos_run_of_four_processes(shared: ModuleType, plain_children: None) -> None:
    rate = 180
    made = shared.run(120, 3, 3, rate)
    verdict, flow = shared.judged(made)
    assert verdict.broken == []
    assert len(made.made.ended) == 120
    assert made.outages >= 1
    assert sum(verdict.struck.values()) > 10, "no storm, no proof"
    assert max(each.above for each in flow.values()) > shared.burst(rate) / 2, "no limit was ever near"

    # The judge sees what it is there to see.
    one = made.made.log[0]
    flood = [replace(one, call=-1, moment=5.0)] * int(2 * shared.burst(rate))
    flooded = replace(made, made=replace(made.made, log=[*made.made.log, *flood]))
    assert any("above its limit" in rule for rule in shared.judged(flooded)[0].broken)
    deaf = replace(made, heard=[*made.heard[1:], {}])
    assert any("not all processes" in rule for rule in shared.judged(deaf)[0].broken)


def test_what_is_above_a_rate(shared: ModuleType) -> None:
    assert shared.above([], 10.0) == 0
    assert shared.above([3.0, 1.0, 2.0], 1.0) == 1
    assert shared.above([0.0, 0.0, 0.0, 1.0, 1.0], 1.0) == 4
    assert shared.above([0.0, 9.0, 9.0], 1.0) == 2
