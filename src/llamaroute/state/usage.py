"""What a client has used so far."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable
from dataclasses import field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..types.dataclass import dataclass

if TYPE_CHECKING:
    from ..pipeline.core import Call
    from ..types.response import Attempt, ChatResponse

__all__ = ["DAYS", "Tally", "Totals"]

DAYS = 366
"""Days that are kept apart in `Totals.by_day`; older ones are in the sums alone."""


@dataclass(slots=True)
class Totals:
    """What a client has used so far.

    Tokens and `cost` are those of all attempts that were answered, also of answers that were given up or did not fit.
    `cost` sums what has a price; `unpriced` counts answers without one. `abandoned` counts attempts that were left
    before their answer came to its end: the caller went away, or another target was quicker.

    In `by_target` and `by_provider`, a call counts where it was answered (a failed one where it began), an attempt
    where it was made, with its tokens and cost. `by_route` has the calls that went by a route's name, `by_day` those
    of each of the last 366 days (UTC), as `2026-11-23`.
    """

    calls: int = 0
    failed: int = 0
    attempts: int = 0
    abandoned: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    by_target: dict[str, Totals] = field(default_factory=dict)
    by_provider: dict[str, Totals] = field(default_factory=dict)
    by_route: dict[str, Totals] = field(default_factory=dict)
    by_day: dict[str, Totals] = field(default_factory=dict)

    def copy(self) -> Totals:
        """Totals of their own."""
        return replace(
            self,
            by_target=_copies(self.by_target),
            by_provider=_copies(self.by_provider),
            by_route=_copies(self.by_route),
            by_day=_copies(self.by_day),
        )


def _copies(parts: dict[str, Totals]) -> dict[str, Totals]:
    return {name: each.copy() for name, each in parts.items()}


class Tally:
    """Adds calls up, from any thread."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._today: tuple[datetime.date, Totals] | None = None
        """The day of the last call, and its totals."""
        self._lock = threading.Lock()

    def totals(self) -> Totals:
        """A copy, as of now."""
        with self._lock:
            return self._totals.copy()

    def count(self, call: Call, response: ChatResponse[Any] | None) -> None:
        """Add a call that has ended; None is one that failed."""
        attempts = call.ledger.attempts
        asked = attempts[0].target if attempts else call.target.name
        target = asked if response is None else response.target
        with self._lock:
            whole, own = self._of_whole(call), self._of_target(target)
            for totals in (*whole, *own):
                totals.calls += 1
                totals.failed += response is None
            for attempt in attempts:
                _add((*whole, *(own if attempt.target == target else self._of_target(attempt.target))), attempt)
            if response is not None and not attempts:  # a layer of the user's answered by itself
                _add_answer((*whole, *own), response)

    def _of_whole(self, call: Call) -> tuple[Totals, ...]:
        all_calls, day = self._totals, self._of_day(call.ledger.today)
        if call.route is None:
            return (all_calls, day)
        return (all_calls, all_calls.by_route.setdefault(call.route, Totals()), day)

    def _of_day(self, day: datetime.date) -> Totals:
        if self._today is not None and self._today[0] == day:
            return self._today[1]
        name, days = day.isoformat(), self._totals.by_day
        if name not in days:
            oldest = (day - datetime.timedelta(days=DAYS)).isoformat()
            for old in [old for old in days if old <= oldest]:
                del days[old]
        self._today = (day, days.setdefault(name, Totals()))
        return self._today[1]

    def _of_target(self, target: str) -> tuple[Totals, Totals]:
        by_target, by_provider = self._totals.by_target, self._totals.by_provider
        if target not in by_target:
            by_target[target] = Totals()
            by_provider.setdefault(target.partition(":")[0], Totals())
        return by_target[target], by_provider[target.partition(":")[0]]


def _add(places: Iterable[Totals], attempt: Attempt) -> None:
    usage, cost = attempt.usage, attempt.cost
    abandoned = attempt.error is not None and attempt.error.type == "Abandoned"
    for totals in places:
        totals.attempts += 1
        totals.abandoned += abandoned
        if usage is not None:
            totals.input_tokens += usage.input_tokens
            totals.output_tokens += usage.output_tokens
            totals.unpriced += cost is None
        if cost is not None:
            totals.cost += cost.usd


def _add_answer(places: Iterable[Totals], response: ChatResponse[Any]) -> None:
    for totals in places:
        totals.input_tokens += response.usage.input_tokens
        totals.output_tokens += response.usage.output_tokens
        totals.unpriced += response.cost is None
        if response.cost is not None:
            totals.cost += response.cost.usd
