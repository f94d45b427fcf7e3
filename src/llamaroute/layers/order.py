"""Whose turn it is: a route's targets in the order of its strategy, those that cool down last."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import CapabilityError
from ..parity.plan import plan
from ..pipeline.core import Call, Candidate
from ..routing.health import Admission
from ..routing.strategies import order
from ..types.response import Notice
from .window import too_long

__all__ = ["Queue", "Turn", "is_able", "ordered"]


class Turn(NamedTuple):
    """The candidate to ask next."""

    candidate: Candidate
    trial: bool = False
    """Its circuit has opened: it is asked once, also if it closes before this call has failed."""
    more: bool = False
    """Another that is well would be asked after it."""


class Queue:
    """The candidates of one call that have not been asked yet."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._waiting = list(reversed(ordered(call)))
        self._cooling: list[tuple[Admission, Candidate]] = []
        self._busy: list[Candidate] = []

    def next(self, *, spare: bool) -> Turn | None:
        """The next one: as the strategy orders them, then those that our own queue had no place for, then those that
        cool down, the one that ends first before all.

        Args:
            spare: a request was sent already, and has failed. Asking one that is known to be ill after that is paid
                from its retry budget; moving on to one that is not is free.
        """
        call = self._call
        if call.claims is not None:
            self._leave_claimed(call.claims)
        turn = self._next(spare=spare)
        if turn is not None and call.claims is not None:
            call.claims.add(turn.candidate.target.name)
        return turn

    def _leave_claimed(self, claims: set[str]) -> None:
        """What another leg of the call asks is not asked twice."""
        self._waiting = [candidate for candidate in self._waiting if candidate.target.name not in claims]
        self._cooling = [pair for pair in self._cooling if pair[1].target.name not in claims]

    def _next(self, *, spare: bool) -> Turn | None:
        call, traffic = self._call, self._call.traffic
        if traffic is None:
            return Turn(self._waiting.pop(), more=bool(self._waiting)) if self._waiting else None
        now = call.ledger.now
        while self._waiting:
            candidate = self._waiting.pop()
            admission = traffic.health.admit(candidate.target, now, call)
            if not admission.until:
                more = any(not traffic.health.cools(other.target, now) for other in self._waiting)
                return Turn(candidate, admission.trial, more)
            self._cooling.append((admission, candidate))
        if self._busy:
            # With no other left it waits for its whole time.
            candidate = self._busy.pop(0)
            return Turn(candidate, traffic.health.admit(candidate.target, now, call).trial)
        if not self._cooling:
            return None
        self._cooling.sort(key=lambda pair: pair[0].until)
        admission, candidate = self._cooling[0]
        if spare and not traffic.budget.take(candidate.target.name, now):
            return None
        del self._cooling[0]
        return Turn(candidate, admission.trial)

    def again(self, candidate: Candidate) -> None:
        """The call has waited in a candidate's queue for as long as it does while there are others: should they fail,
        it goes back there."""
        self._busy.append(candidate)

    def tell(self) -> None:
        """Tell the caller of those that were passed over."""
        now = self._call.ledger.now
        for admission, candidate in self._cooling:
            seconds = max(0.0, admission.until - now)
            text = f"{candidate.target.name} was passed over: it cools down for {seconds:.0f} s ({admission.reason})"
            self._call.ledger.notice(Notice("target_cooling", text, "routing"))

    def unasked(self) -> str:
        """The same for the message of an error."""
        names = ", ".join(candidate.target.name for _, candidate in self._cooling)
        return f" (not asked, because they cool down: {names})" if names else ""


def ordered(call: Call, *, likely: bool = False) -> tuple[Candidate, ...]:
    """The call's candidates in the order of its strategy; with `likely`, without drawing or taking a turn."""
    traffic = call.traffic
    if call.strategy == "failover" or traffic is None or len(call.candidates) < 2:
        return call.candidates
    able = call.candidates
    if call.strategy == "round-robin":  # a turn of one that can't use it would go to its neighbour
        able = tuple(candidate for candidate in able if is_able(call, candidate)) or able
    first = order(
        call.strategy,
        able,
        call.request,
        stream=call.stream,
        route=call.route or "",
        traffic=traffic,
        now=call.ledger.now,
        likely=likely,
    )
    return (*first, *(candidate for candidate in call.candidates if candidate not in first))


def is_able(call: Call, candidate: Candidate) -> bool:
    """Whether it could be asked now, and can serve the request."""
    assert call.traffic is not None
    if call.traffic.health.cools(candidate.target, call.ledger.now) or too_long(call.request, candidate.target):
        return False
    try:
        plan(call.request, candidate.target, stream=call.stream)
    except CapabilityError:
        return False
    return True
