"""What a client knows of its targets from the calls it has made: health, budgets, speed, calls under way. Pure.

One object per client, kept across reloads, changed from any thread by single operations on dicts, sets and attributes.
"""

from __future__ import annotations

from dataclasses import field
from math import exp
from typing import NamedTuple

from ..errors import ProviderError
from ..spi import Target
from ..types.dataclass import dataclass
from ..types.routing import TargetHealth
from .budget import RetryBudget
from .health import Circuit, Dice, Health
from .hedging import Allowance, Waits

__all__ = ["Load", "Speed", "Traffic"]

WEIGHT = 0.3
"""Of the newest first token in the running mean."""
FRESH = 60.0
"""Seconds after which what is known of a target's speed has lost two thirds of its weight: it is tried again."""


class Speed(NamedTuple):
    """The running mean of the seconds to the first token, and when it was last told."""

    seconds: float
    at: float

    def then(self, seconds: float, now: float) -> Speed:
        """With one more. What came long ago counts for little."""
        old = (1.0 - WEIGHT) * exp(-max(0.0, now - self.at) / FRESH)
        return Speed((old * self.seconds + WEIGHT * seconds) / (old + WEIGHT), now)


@dataclass(slots=True, eq=False)
class Load:
    """Calls under way at a target, and how soon it answers."""

    flying: set[object] = field(default_factory=set)
    speed: dict[bool, Speed] = field(default_factory=dict)
    """Streams or not -> how fast. A plain call's first sign is its whole answer."""
    waits: dict[bool, Waits] = field(default_factory=dict)
    """The same, one by one."""

    def waited(self, seconds: float, *, stream: bool) -> None:
        """A call has waited so long for the first sign, or for longer than that when it was left."""
        waits = self.waits.get(stream)
        if waits is None:
            waits = self.waits.setdefault(stream, Waits())
        waits.add(seconds)


class Traffic:
    """What a client's calls have taught it.

    Args:
        dice: where chance comes from.
    """

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.health = Health(dice)
        self.budget = RetryBudget()
        self.loads: dict[str, Load] = {}
        self.turns: dict[str, dict[str, float]] = {}
        """Route -> target -> how much it is behind its share; see `strategies.py`."""
        self.allowances: dict[str, Allowance] = {}
        """Route -> second requests that its calls have earned; see `hedging.py`."""

    def load(self, target: str) -> Load:
        """A target's load."""
        load = self.loads.get(target)
        return load if load is not None else self.loads.setdefault(target, Load())

    def began(self, target: Target, seconds: float, now: float, *, stream: bool) -> None:
        """A target has begun to answer, after so many seconds."""
        load = self.load(target.name)
        load.waited(seconds, stream=stream)
        speed = load.speed
        known = speed.get(stream)
        speed[stream] = Speed(seconds, now) if known is None else known.then(seconds, now)
        if stream:
            self.health.began(target)

    def answered(self, target: Target, now: float) -> None:
        """A target has given a whole answer."""
        self.health.answered(target)
        self.budget.earn(target.name, now)

    def failed(self, target: Target, error: ProviderError, now: float) -> None:
        """A target has failed."""
        self.health.failed(target, error, now)

    def forget(self, account: str) -> None:
        """An account's settings have changed."""
        self.health.forget(account)
        for name in [name for name in self.loads if name.startswith(f"{account}:")]:
            self.loads[name].speed.clear()
            self.loads[name].waits.clear()

    def snapshot(self, target: Target, now: float) -> TargetHealth:
        """How a target does, for people."""
        circuits = (self.health.targets.get(target.name), self.health.accounts.get(target.provider))
        known = [circuit for circuit in circuits if circuit is not None]
        worst = max(known, key=lambda circuit: circuit.until, default=Circuit())
        load = self.loads.get(target.name) or Load()
        cooling = worst.until > now
        half_open = not cooling and any(circuit.half_open for circuit in known)
        return TargetHealth(
            target.name,
            "cooling" if cooling else "half-open" if half_open else "closed",
            max(0.0, worst.until - now),
            worst.reason,
            sum(circuit.failures for circuit in known),
            len(load.flying),
            load.speed[True].seconds if True in load.speed else None,
            load.speed[False].seconds if False in load.speed else None,
            int(self.budget.left(target.name, now)),
        )
