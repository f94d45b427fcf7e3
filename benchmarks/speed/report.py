"""results.json to docs/performance.md and the plots in docs/performance/.

    python -m benchmarks.speed.report               all of it; the plots need matplotlib
    python -m benchmarks.speed.report --no-plots    the page alone

The page is these results, targets.toml and notes.md, nothing else: tests/benchmarks holds it to that.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import figures
from .catalogue import CLIENTS, SCENARIOS
from .figures import number
from .processes import ROOT
from .run import RESULTS, table
from .targets import Target, load

PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
NOTES = Path(__file__).with_name("notes.md")
"""What a person has to say about the figures: what was missed, and why."""

DRAWN = {
    "calls": "CPU of a call",
    "streams": "CPU of a streamed chunk",
    "at-once": "Calls per core second with many at once",
    "start": "CPU from start to first answer, and memory of a slow stream",
    "growth": "Growth of cost",
}
"""Plots, by file name, and what they show."""

_INTRO = """\
# Performance

What a call costs in the client, in CPU time: measured against a server of canned answers on the same machine, beside
the floor (bare sockets and `json.loads`: what is below every client), [httpx](https://www.python-httpx.org) alone with
hand-written code, and other clients. llamaroute is measured through its public API with everything on that is on by
default: retry, deadlines, ledger.

* **CPU** is user and system time of the client's process, all threads. Wall-clock times are shown, and prove little:
  the cores are shared.
* **Ratios** are taken within a round, in which each client had its turn, and the median of these is shown.
* **Texts are checked**: a client that loses, doubles or alters a letter fails.
* Each client has a process and an environment of its own, with pinned versions.

`scripts/bench` measures it all anew (an hour), `scripts/bench --short` (two minutes, in CI) fails when a figure is more
than 1.5 times worse than its target. This page is made from benchmarks/speed/results.json."""


def page(results: Mapping[str, Any], notes: str | None) -> str:
    """The whole page."""
    scenarios: Mapping[str, Any] = results["scenarios"]
    parts = [_INTRO, _measured_on(results), "## What was to be reached", _reached(load().all, scenarios)]
    if notes:
        parts.append(notes.strip())
    parts += [f"![{title}](performance/{name}.svg)" for name, title in DRAWN.items()]
    parts += ["## All figures", _LEGEND]
    parts += _tables(scenarios)
    return "\n\n".join(parts) + "\n"


_LEGEND = """\
The first figure of each table is the median of the rounds, then come the least and the most of it, its ratios to the
floor, to httpx alone or to boto3, and medians of the other figures."""


def _measured_on(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
    scales = {found["scale"] for found in results["scenarios"].values()}
    scaled = "" if scales == {1.0} else " Some scenarios were run with less work than they have by default (`--scale`)."
    return textwrap.fill(
        f"Measured on {machine['day']}: Python {machine['python']}, {machine['system']}, {machine['cores']} shared"
        f" cores, loopback. {versions}.{scaled}",
        118,
        break_on_hyphens=False,
    )


def _reached(targets: Sequence[Target], scenarios: Mapping[str, Any]) -> str:
    lines = [
        "| figure | case | best peer seen before | best peer here | to reach | measured | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for target in targets:
        rounds = scenarios.get(target.scenario, {}).get("rounds", {})
        value = target.measured(rounds)
        word = "not measured" if value is None else "reached" if target.met(value) else "**missed**"
        cells = [target.title, target.case, target.best_peer, _best_peer(target, rounds), target.wanted, number(value)]
        lines.append(f"| {' | '.join(cells)} | {word} |")
    return "\n".join(lines)


def _best_peer(target: Target, rounds: figures.Rounds) -> str:
    """The best that another client made of the same figure in the same rounds; what is installed has no peers."""
    if target.scenario == "installed":
        return ""
    peers = [
        name
        for name in rounds
        if name in CLIENTS and CLIENTS[name].distribution not in (None, "httpx") and not name.startswith("llamaroute")
    ]
    of_each = {
        name: figures.median(rounds, name, target.figure)
        if target.over is None
        else figures.ratio(rounds, name, target.over, target.figure)
        for name in peers
        if name != target.over
    }
    found = {value: name for name, value in of_each.items() if value is not None}
    if not found:
        return ""
    best = min(found) if target.at_most is not None else max(found)
    return f"{number(best)} ({found[best]})"


def _tables(scenarios: Mapping[str, Any]) -> Iterator[str]:
    for name, scenario in SCENARIOS.items():
        if name not in scenarios:
            continue
        rounds = scenarios[name]["rounds"]
        yield f"### {scenario.title}"
        count = max(map(len, rounds.values()))
        yield f"`{name}`, {count} round{'s' if count > 1 else ''}, load of the machine {scenarios[name]['load']:.1f}."
        yield table(scenario, rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args(arguments)
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(page(results, NOTES.read_text() if NOTES.exists() else None))
    if not options.no_plots:
        from .plots import draw

        draw(results, PLOTS)


if __name__ == "__main__":
    main()
