"""The plots of docs/performance.md, as SVG. The only module here that needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from . import figures
from .catalogue import CLIENTS, SCENARIOS
from .report import DRAWN

_OURS, _BELOW, _PEER = "#c2571a", "#9aa3ad", "#3d6a9e"
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",  # text stays text: small files, and it can be searched
    "svg.hashsalt": "llamaroute",  # the same plot is the same file
}


def _rounds(results: Mapping[str, Any], scenario: str) -> figures.Rounds:
    found: figures.Rounds = results["scenarios"].get(scenario, {}).get("rounds", {})
    return {name: rounds for name, rounds in found.items() if name in CLIENTS}


def _colour(name: str) -> str:
    return _OURS if name.startswith("llamaroute") else _BELOW if name in ("floor", "httpx") else _PEER


def _bars(axes: Axes, results: Mapping[str, Any], scenario: str, figure: str, unit: str, title: str) -> None:
    """A bar for each client, the best on top, on a scale of powers of ten."""
    rounds = _rounds(results, scenario)
    found = {name: value for name in rounds if (value := figures.median(rounds, name, figure)) is not None}
    names = sorted(found, key=found.__getitem__, reverse=SCENARIOS[scenario].better == "low")
    bars = axes.barh(
        [CLIENTS[name].title for name in names],
        [found[name] for name in names],
        color=[_colour(name) for name in names],
    )
    axes.bar_label(bars, [figures.number(found[name]) for name in names], padding=2, fontsize=8)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    if found:
        axes.set_xlim(_power(min(found.values()), math.floor), 3 * max(found.values()))
    axes.set_title(f"{title}, {unit}", loc="left")


def _plain(axis: Axis) -> None:
    """Powers of ten, written out, and no marks between them."""
    axis.set_major_locator(LogLocator(10))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _power(value: float, rounded: Callable[[float], int]) -> float:
    """The power of ten below (`math.floor`) or above (`math.ceil`), where the scale begins or ends."""
    return 10.0 ** rounded(math.log10(value))


def _lines(axes: Axes, results: Mapping[str, Any], scenario: str, label: str, unit: str) -> None:
    """Cost by size, a line for each client."""
    rounds = _rounds(results, scenario)
    seen: list[float] = []
    for name in rounds:
        sizes = [size for size in SCENARIOS[scenario].task["sizes"] if figures.values(rounds, name, str(size))]
        costs = [figures.median(rounds, name, str(size)) or math.nan for size in sizes]
        if not sizes:
            continue
        seen += costs
        style = "--" if name in ("llamaroute-aiohttp", "httpx") else "-"
        axes.plot(sizes, costs, style, marker="o", markersize=3, color=_colour(name), label=CLIENTS[name].title)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes.xaxis)
    _plain(axes.yaxis)
    axes.set_xlabel(label)
    axes.set_title(unit, loc="left")
    if seen:
        axes.set_ylim(_power(min(seen), math.floor), _power(max(seen), math.ceil))
        axes.legend(fontsize=7)


def _pair(
    results: Mapping[str, Any], both: Sequence[tuple[str, str, str, str]], size: tuple[float, float] = (10, 3.6)
) -> Figure:
    drawing, places = pyplot.subplots(1, len(both), figsize=size, layout="constrained")
    for axes, (scenario, figure, unit, title) in zip(places, both, strict=True):
        _bars(axes, results, scenario, figure, unit, title)
    return drawing


def _growth(results: Mapping[str, Any]) -> Figure:
    drawing, (first, second, third) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    _lines(first, results, "growth_connections", "calls at once", "CPU of a call, µs")
    _lines(second, results, "growth_chunks", "chunks of the stream", "CPU of a chunk, µs")
    _lines(third, results, "growth_image", "KiB of the image in base64", "CPU of a KiB, µs")
    return drawing


_PLOTS: Mapping[str, Callable[[Mapping[str, Any]], Figure]] = {
    "calls": lambda results: _pair(
        results, [("call_sync", "cpu_us", "µs", "sync"), ("call_async", "cpu_us", "µs", "async")]
    ),
    "streams": lambda results: _pair(
        results,
        [
            ("burst_sync", "cpu_us_per_chunk", "µs a chunk", "sync, all at once"),
            ("burst_async", "cpu_us_per_chunk", "µs a chunk", "async, all at once"),
        ],
    ),
    "at-once": lambda results: _pair(
        results,
        [
            ("at_once_64", "calls_per_core_s", "calls per core second", "64"),
            ("at_once_512", "calls_per_core_s", "calls per core second", "512"),
        ],
    ),
    "start": lambda results: _pair(
        results,
        [
            ("start", "cpu_ms", "CPU ms", "start to first answer"),
            ("slow_1000", "kib_per_stream", "KiB", "a slow stream"),
        ],
    ),
    "growth": _growth,
}
assert _PLOTS.keys() == DRAWN.keys()


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Write all plots into the folder."""
    folder.mkdir(exist_ok=True)
    with pyplot.rc_context(_STYLE):
        for name, plot in _PLOTS.items():
            drawing = plot(results)
            file = folder / f"{name}.svg"
            drawing.savefig(file, metadata={"Date": None, "Creator": None})
            pyplot.close(drawing)
            # matplotlib ends lines with spaces
            file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
