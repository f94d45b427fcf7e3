"""The short form, for CI: is any figure more than 1.5 times worse than it is to be?

    scripts/bench --short
    python -m benchmarks.speed.gate [--only NAME]... [--src FOLDER]

Measures what targets.toml says is in the short form, with the interpreter it runs in for all clients. A figure that is
out of bounds is given more rounds, twice, and judged by the middle of all of them: a machine that was busy for a while
decides nothing. What cannot be measured fails, unless it needs a package that is not installed: that is said.

Ends with one line, and 1 when a figure is out of bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import figures
from .catalogue import CLIENTS, SCENARIOS
from .processes import ROOT
from .run import Bench, Pythons, Server, gathered
from .targets import Target, Targets, load

MORE = 2
"""How often a scenario that has a figure out of bounds is measured on."""


class Verdict:
    """What became of each target."""

    def __init__(self, slack: float) -> None:
        self.slack = slack
        self.rows: list[tuple[Target, float | None, str]] = []

    def add(self, target: Target, rounds: figures.Rounds) -> None:
        value = target.measured(rounds)
        if value is not None:
            word = "well" if target.met(value) else "slow" if target.met(value, self.slack) else "OUT OF BOUNDS"
        else:
            errors = [figures.error(rounds, client) for client in (target.client, target.over or target.client)]
            word = "NOT MEASURED: " + next((error for error in errors if error), "no rounds")
        self.rows.append((target, value, word))

    @property
    def failed(self) -> list[Target]:
        return [target for target, _, word in self.rows if word[0].isupper()]

    def table(self) -> str:
        width = max((len(target.name) for target, _, _ in self.rows), default=0)
        return "\n".join(
            f"{target.name:{width}}  {figures.number(value):>8}  {target.wanted:>8}  {word}"
            for target, value, word in self.rows
        )


def missing(client: str) -> str | None:
    """A package without which this client cannot run here."""
    found = CLIENTS[client]
    package = found.engine or (found.file if found.distribution else None)
    return package if package and importlib.util.find_spec(package) is None else None


def by_scenario(targets: Sequence[Target]) -> Iterator[tuple[str, list[Target]]]:
    """Targets that one scenario measures, together."""
    for name in SCENARIOS:
        found = [target for target in targets if target.scenario == name]
        if found:
            yield name, found


def judge(bench: Bench, targets: Targets, wanted: Sequence[Target]) -> Verdict:
    """Measure, and measure again what is out of bounds."""
    verdict = Verdict(targets.slack)
    for name, group in by_scenario(wanted):
        scenario = SCENARIOS[name]
        clients = list(dict.fromkeys(c for target in group for c in (target.over, target.client) if c))
        shorts = [target.short for target in group if target.short]
        count, scale = max(short.rounds for short in shorts), max(short.scale for short in shorts)
        made: list[dict[str, dict[str, Any]]] = []
        rounds: Mapping[str, Sequence[figures.Round]] = {}
        for _ in range(1 + MORE):
            made += [bench.round(scenario, clients, scale) for _ in range(count)]
            rounds = gathered(made, clients)
            values = [(target, target.measured(rounds)) for target in group]
            if not any(value is not None and not target.met(value, targets.slack) for target, value in values):
                break
        for target in group:
            verdict.add(target, rounds)
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="part of a target's name or of its scenario's")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="sources of llamaroute")
    options = parser.parse_args(arguments)
    targets = load()
    wanted, left = [], {}
    for target in targets.all:
        if target.short is None:
            continue
        if options.only and not any(part in f"{target.name} {target.scenario}" for part in options.only):
            continue
        package = missing(target.client) or (target.over and missing(target.over))
        if package:
            left[target.name] = package
        else:
            wanted.append(target.shortened())
    began = time.monotonic()
    pythons = Pythons(sys.executable, ROOT, options.src.resolve())
    with contextlib.closing(Server(sys.executable)) as server, Bench(pythons, server) as bench:
        verdict = judge(bench, targets, wanted)
    print(verdict.table())
    for name, package in left.items():
        print(f"{name}: left out, {package} is not installed")
    bad = len(verdict.failed)
    print(
        f"bench: {len(verdict.rows) - bad} of {len(verdict.rows)} figures within {targets.slack:g} times their targets,"
        f" {bad} not, {len(left)} left out, {time.monotonic() - began:.0f} s"
    )
    return 1 if bad or not verdict.rows else 0


if __name__ == "__main__":
    sys.exit(main())
