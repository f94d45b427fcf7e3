"""How much may be asked again: a share of what was answered lately, and a little besides. Pure.

Without it, an outage multiplies the load on the host that is down by the attempts of each call, just when it tries to
come back. Per target, a retry spends one token; an answer earns `SHARE` of one, which loses its worth over some ten
seconds, so that a day's answers do not pay for an outage's retries. `FLOOR` tokens, which come back slowly, let
clients that ask little retry, too. First attempts are free, and so are those that a host asks for: after a 429 that
says when to come back.
"""

from __future__ import annotations

from math import exp

from ..types.dataclass import dataclass

__all__ = ["FLOOR", "MEMORY", "REFILL", "SHARE", "RetryBudget"]

SHARE = 0.1
"""Retries that an answer pays for."""
MEMORY = 10.0
"""Seconds over which what was earned decays to a third."""
FLOOR = 3.0
"""Retries that need no answers."""
REFILL = 1 / 60
"""How many of those come back in a second."""


@dataclass(slots=True, eq=False)
class _Purse:
    at: float
    """When it was counted last."""
    earned: float = 0.0
    floor: float = FLOOR

    def count(self, now: float) -> None:
        passed = max(0.0, now - self.at)
        self.at = now
        self.earned *= exp(-passed / MEMORY)
        self.floor = min(FLOOR, self.floor + passed * REFILL)


class RetryBudget:
    """The purses of a client's targets."""

    def __init__(self) -> None:
        self._purses: dict[str, _Purse] = {}

    def earn(self, target: str, now: float) -> None:
        """A target has answered."""
        purse = self._purse(target, now)
        purse.count(now)
        purse.earned += SHARE

    def take(self, target: str, now: float, *, earned: bool = False) -> bool:
        """Pay for one more attempt, if there is enough; with `earned`, only from what answers have earned."""
        purse = self._purse(target, now)
        purse.count(now)
        if purse.earned >= 1.0:
            purse.earned -= 1.0
            return True
        if purse.floor >= 1.0 and not earned:
            purse.floor -= 1.0
            return True
        return False

    def left(self, target: str, now: float) -> float:
        """How many attempts could be paid for."""
        purse = self._purses.get(target)
        if purse is None:
            return FLOOR
        purse.count(now)
        return purse.earned // 1.0 + purse.floor // 1.0

    def _purse(self, target: str, now: float) -> _Purse:
        purse = self._purses.get(target)
        return purse if purse is not None else self._purses.setdefault(target, _Purse(now))
