"""What is made of the figures: medians, ratios within a round, bounds, more rounds where one is exceeded, the page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from benchmarks.speed import figures, gate, report
from benchmarks.speed.catalogue import CLIENTS, SCENARIOS, Scenario
from benchmarks.speed.run import RESULTS, table
from benchmarks.speed.targets import Short, Target, Targets, load

ROUNDS = {
    "floor": [{"cpu_us": 1.0}, {"cpu_us": 10.0}, {"cpu_us": 1.0}],
    "llamaroute": [{"cpu_us": 3.0}, {"cpu_us": 20.0}, {"error": "Traceback\n  ...\nOSError: no route"}],
    "httpx": [{"error": "x"}, {}, {"error": "x"}],
}


def test_ratios_are_taken_within_a_round() -> None:
    assert figures.ratios(ROUNDS, "llamaroute", "floor", "cpu_us") == [3.0, 2.0]
    assert figures.ratio(ROUNDS, "llamaroute", "floor", "cpu_us") == 2.5
    assert figures.ratio(ROUNDS, "llamaroute", "httpx", "cpu_us") is None
    assert figures.median(ROUNDS, "llamaroute", "cpu_us") == 11.5
    assert figures.error(ROUNDS, "llamaroute") == "OSError: no route"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (999.6, "1,000"),
        (0.00001234, "0.0000123"),
        (123456, "123,000"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert figures.number(value) == text


def test_the_best_client_comes_first() -> None:
    lines = table(SCENARIOS["call_sync"], ROUNDS).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ["floor", "llamaroute", "httpx"]
    faster = table(SCENARIOS["at_once_64"], {"a": [{"calls_per_core_s": 1.0}], "b": [{"calls_per_core_s": 2.0}]})
    assert faster.splitlines()[2].startswith("| b |")


def test_each_target_can_be_measured() -> None:
    targets = load()
    assert targets.slack == 1.5
    assert len({target.name for target in targets.all}) == len(targets.all)
    short = {target.scenario for target in targets.all if target.short}
    assert {"call_sync", "call_async", "burst_async", "bedrock_burst", "at_once_512", "start"} <= short


TARGET = Target("call", "call_sync", "cpu_us", "llamaroute", over="httpx", at_most=0.8, short=Short(rounds=2))


def test_bounds() -> None:
    assert TARGET.met(0.8)
    assert not TARGET.met(0.81)
    assert TARGET.met(1.2, 1.5)
    assert not TARGET.met(1.21, 1.5)
    at_least = Target("calls", "at_once_64", "calls_per_core_s", "llamaroute", over="floor", at_least=0.3)
    assert at_least.met(0.3)
    assert at_least.met(0.2, 1.5)
    assert not at_least.met(0.19, 1.5)
    assert at_least.wanted == "≥ 0.3"


@pytest.mark.parametrize(
    "wrong",
    [{"at_least": 0.3}, {"at_most": None}, {"figure": "cpu_ms"}, {"client": "boto3"}, {"over": "nobody"}],
)
def test_a_target_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        Target(
            **{"title": "x", "scenario": "call_sync", "figure": "cpu_us", "client": "llamaroute", "at_most": 1} | wrong
        )


class Machine:
    """Stands for the runner: gives these ratios, one a round."""

    def __init__(self, ratios: Sequence[float | None]) -> None:
        self.ratios = iter(ratios)
        self.made = 0

    def round(self, scenario: Scenario, clients: Sequence[str], scale: float) -> dict[str, dict[str, Any]]:
        assert clients == ["httpx", "llamaroute"]
        self.made += 1
        ratio = next(self.ratios)
        return {
            "httpx": {"cpu_us": 100.0},
            "llamaroute": {"error": "broken"} if ratio is None else {"cpu_us": 100 * ratio},
        }


@pytest.mark.parametrize(
    ("ratios", "word", "made"),
    [
        ([0.7, 0.8], "well", 2),
        ([1.1, 1.1], "slow", 2),
        ([9.0, 9.0, 0.7, 0.7, 0.7, 0.7], "well", 6),  # the machine was busy for a while
        ([9.0, 9.0, 0.7, 0.7], "OUT OF BOUNDS", 6),
        ([None, None], "NOT MEASURED: broken", 2),
    ],
)
def test_more_rounds_decide_where_a_figure_is_out_of_bounds(ratios: list[float | None], word: str, made: int) -> None:
    machine = Machine(ratios if len(ratios) != 4 else [*ratios, 9.0, 9.0])
    verdict = gate.judge(machine, Targets(1.5, [TARGET]), [TARGET])  # type: ignore[arg-type]
    assert [found for _, _, found in verdict.rows] == [word]
    assert bool(verdict.failed) == word.isupper() or word.startswith("NOT")
    assert machine.made == made


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.importlib.util, "find_spec", lambda name: None)
    assert gate.missing("llamaroute-aiohttp") == "aiohttp"
    assert gate.missing("boto3") == "boto3"
    assert gate.missing("llamaroute") is None
    assert gate.missing("floor") is None


def test_environments_and_files_of_the_clients_are_there() -> None:
    for client in CLIENTS.values():
        here = RESULTS.parent
        assert (here / "clients" / f"{client.file}.py").is_file()
        assert (here / "requirements" / f"{client.environment}.txt").is_file()
    for scenario in SCENARIOS.values():
        assert set(scenario.clients) <= CLIENTS.keys()
        assert set(scenario.scaled) <= scenario.task.keys()


def test_the_page_is_what_the_results_make_of_it() -> None:
    results = json.loads(RESULTS.read_text())
    notes = report.NOTES.read_text() if report.NOTES.exists() else None
    assert report.PAGE.read_text() == report.page(results, notes), "run scripts/bench --report"


def test_the_plots_are_those_of_the_page() -> None:
    shown = set(re.findall(r"\(performance/([a-z-]+)\.svg\)", report.PAGE.read_text()))
    assert shown == report.DRAWN.keys()
    assert {file.name for file in report.PLOTS.iterdir()} == {f"{name}.svg" for name in shown}
    for name in shown:
        assert "<svg" in (report.PLOTS / f"{name}.svg").read_text()[:1000]
