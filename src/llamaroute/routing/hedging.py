"""When a second target is asked beside one that is slow, and how often that may be. Pure."""

from __future__ import annotations

from collections import deque
from math import ceil

from ..types.dataclass import dataclass

__all__ = ["HAND", "KEPT", "LEAST", "Allowance", "Hedge", "Waits"]

LEAST = 50
"""Calls of a target that must be known before a part of them says anything."""
KEPT = 256
"""Latest calls that are known of a target."""
HAND = 3.0
"""Second requests that calls may save up."""
_ANEW = 8
"""New calls after which a part is looked for again."""


class Waits:
    """How long the latest calls of a target waited for its first sign."""

    __slots__ = ("_found", "_latest", "_new")

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=KEPT)
        self._found: dict[float, float] = {}
        self._new = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._latest.append(seconds)
        self._new += 1

    def within(self, part: float) -> float | None:
        """Seconds within which this part of the calls (0 to 1) had a first sign; None until `LEAST` calls are known."""
        if len(self._latest) < LEAST:
            return None
        if self._new >= _ANEW:
            self._new = 0
            self._found = {}
        seconds = self._found.get(part)
        if seconds is None:
            waits = sorted(self._latest.copy())
            seconds = self._found[part] = waits[ceil(part * len(waits)) - 1]
        return seconds


@dataclass(slots=True, eq=False)
class Allowance:
    """What a route's calls have earned for second requests. Begins empty, so that it is never more than their share."""

    left: float = 0.0

    def earn(self, share: float) -> None:
        """A call begins."""
        self.left = min(HAND, self.left + share)

    def take(self, cost: float) -> bool:
        """Pay for a second request that costs so many times what the first does, if there is enough."""
        if self.left < cost:
            return False
        self.left -= cost
        return True


@dataclass(frozen=True, slots=True)
class Hedge:
    """A route's rule.

    Attributes:
        max_extra: what second requests may cost, as a part of what calls cost.
        part: of a target's latest calls, the part that had begun in the time after which another is asked.
        seconds: the same time as a number; one of the two is set.
    """

    max_extra: float
    part: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, after: str | float, max_extra: float) -> Hedge:
        """From the configuration's `p95`, or seconds."""
        if isinstance(after, str):
            return cls(max_extra, part=int(after.removeprefix("p")) / 100)
        return cls(max_extra, seconds=after)

    def patience(self, waits: Waits | None) -> float | None:
        """Seconds that a target is waited for; None where too little is known of it."""
        if self.part is None:
            return self.seconds
        return None if waits is None else waits.within(self.part)
