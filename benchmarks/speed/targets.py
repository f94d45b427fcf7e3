"""targets.toml, read, and figures compared with it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import figures
from .catalogue import CLIENTS, SCENARIOS

FILE = Path(__file__).with_name("targets.toml")


@dataclass(frozen=True)
class Short:
    """How the short form measures a target."""

    rounds: int
    scale: float = 1.0
    at_most: float | None = None
    """Instead of the target's own, where less work makes more noise."""


@dataclass(frozen=True)
class Target:
    """One figure and its bound; see targets.toml."""

    title: str
    scenario: str
    figure: str
    client: str
    case: str = ""
    best_peer: str = ""
    over: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    short: Short | None = None

    def __post_init__(self) -> None:
        assert (self.at_most is None) != (self.at_least is None), f"{self.name}: one bound"
        scenario = SCENARIOS[self.scenario]
        for client in (self.client, self.over or self.client):
            assert client in CLIENTS
            assert client in scenario.clients, f"{self.name}: {client} takes no part in {self.scenario}"
        assert self.figure in scenario.shows, f"{self.name}: {self.scenario} has no {self.figure}"

    @property
    def name(self) -> str:
        """What it is called where it stands alone."""
        return f"{self.title}, {self.case}" if self.case else self.title

    @property
    def wanted(self) -> str:
        """The bound, as people write it."""
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {bound:g}"

    def measured(self, rounds: figures.Rounds) -> float | None:
        """The middle of all rounds; None when it was not measured."""
        if self.over is None:
            return figures.median(rounds, self.client, self.figure)
        return figures.ratio(rounds, self.client, self.over, self.figure)

    def met(self, value: float, slack: float = 1.0) -> bool:
        """Whether it is within the bound, or `slack` times worse at most."""
        if self.at_most is not None:
            return value <= self.at_most * slack
        assert self.at_least is not None
        return value >= self.at_least / slack

    def shortened(self) -> Target:
        """The target as the short form has it."""
        if self.short is None or self.short.at_most is None:
            return self
        return replace(self, at_most=self.short.at_most)


@dataclass(frozen=True)
class Targets:
    """All of them, and how much worse the short form lets a figure be."""

    slack: float
    all: Sequence[Target]


def _target(row: Mapping[str, Any]) -> Target:
    short = row.get("short")
    return Target(**{**row, "short": None if short is None else Short(**short)})


def load(file: Path = FILE) -> Targets:
    """Read them."""
    said = tomllib.loads(file.read_text())
    return Targets(said["slack"], [_target(row) for row in said["target"]])
