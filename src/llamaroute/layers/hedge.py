"""Asks another target, too, when one is slow to begin; what answers first counts.

The second leg is the same plan, failover and all, without the targets that the first has taken; both share the
deadline and what the call may cost, and end up in one ledger. Nothing is hedged that has failed already (that is what
failover is for), that still waits in a queue of our own, or that offers tools.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import AllTargetsFailedError, CapabilityError, ModelRetiredError, PolicyError, ProviderError
from ..pipeline.core import Call, Candidate, Handler, Ledger, Outcome, Reply
from ..pipeline.ops import Leg, Plan, Race
from ..routing.hedging import Allowance, Hedge
from ..routing.strategies import price
from ..routing.traffic import Traffic
from ..tokens import estimate, estimate_tokens
from ..types.events import TextDelta
from ..types.response import Notice
from .observe import OUTRUN
from .order import is_able, ordered
from .policy import permit

__all__ = ["hedge"]

SOON = 0.001
"""Seconds of patience left that are not worth another look at the clock."""


def hedge(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer.

    Raises:
        AllTargetsFailedError: both legs failed.
        LlamarouteError: whatever the only leg failed with.
    """
    rule, traffic = call.hedge, call.traffic
    # A model's calls of a tool may be acted on: what two models ask for in one call is never drawn from both.
    if rule is None or traffic is None or call.request.tools or len(call.candidates) < 2:
        return handler(call)
    allowance = traffic.allowances.setdefault(call.route or "", Allowance())
    allowance.earn(rule.max_extra)
    patience = [_patience(rule, traffic, call, candidate) for candidate in call.candidates]
    known = [seconds for seconds in patience if seconds is not None]
    if not known:
        return handler(call)
    return _Hedged(call, handler, rule, traffic, allowance).plan(min(known))


def _patience(rule: Hedge, traffic: Traffic, call: Call, candidate: Candidate) -> float | None:
    load = traffic.loads.get(candidate.target.name)
    return rule.patience(None if load is None else load.waits.get(call.stream))


class _Hedged:
    """One call with two legs."""

    def __init__(self, call: Call, handler: Handler, rule: Hedge, traffic: Traffic, allowance: Allowance) -> None:
        self._call = call.evolve(claims=set())
        self._handler = handler
        self._rule = rule
        self._traffic = traffic
        self._allowance = allowance
        self._before = len(call.ledger.attempts)
        self._second: Leg | None = None

    def plan(self, after: float) -> Plan[Reply]:
        """Carry out the race, and write the ledger."""
        call, ledger = self._call, self._call.ledger
        first = Leg(self._handler(call), ledger)
        try:
            raced = yield Race(first, after, self._begin, _decides, self._lost)
        except BaseException:
            if self._second is not None:
                ledger.join(self._second.ledger, won=False)
            raise
        second, (error, other) = self._second, raced.errors
        if second is None:
            if raced.reply is None:
                raise error
            return raced.reply  # type: ignore[no-any-return]
        reply: Reply | None = raced.reply
        ledger.join(second.ledger, won=raced.winner is second)
        if reply is not None:
            if raced.winner is second:
                self._outwaited()
                _keep_time(reply, second, ledger)
            return reply
        assert error is not None
        raise self._failure(error, other)

    def _begin(self, now: float) -> Leg | float | None:
        """The first leg has not begun to answer: what to do now."""
        call, ledger = self._call, self._call.ledger
        sent = len(ledger.attempts) - self._before
        if ledger.errors or sent > 1 or (call.deadline is not None and now >= call.deadline):
            return None
        waiting = ledger.attempts[-1].target if sent else ""
        slow = next((one for one in call.candidates if one.target.name == waiting), None)
        if slow is None:  # nothing is sent yet: a queue of ours is no slowness of the host's
            return self._soonest()
        patience = _patience(self._rule, self._traffic, call, slow)
        if patience is None:
            return None
        left = ledger.asked + patience - now
        if left > SOON:
            return left
        ledger.now = max(ledger.now, now)
        others = tuple(one for one in ordered(call, likely=True) if self._may_ask(one, slow))
        if not others or not self._allowance.take(_cost(call, slow, others[0])):
            return None
        text = f"{waiting} had not begun to answer after {patience:.3g} s; {others[0].target.name} was asked, too"
        ledger.notice(Notice("hedged", text, "routing"))
        fork = ledger.fork()
        leg = call.evolve(candidates=others, candidate=others[0], strategy="failover", ledger=fork)
        self._second = Leg(self._handler(leg), fork)
        return self._second

    def _soonest(self) -> float | None:
        call = self._call
        patience = (_patience(self._rule, self._traffic, call, candidate) for candidate in call.candidates)
        return min((seconds for seconds in patience if seconds is not None), default=None)

    def _may_ask(self, candidate: Candidate, slow: Candidate) -> bool:
        if candidate is slow or not is_able(self._call, candidate):
            return False
        # A second request is no help if it waits, and takes the place of a first one that does.
        if candidate.gate is not None and candidate.gate.crowded(self._call.ledger.now):
            return False
        try:
            permit(self._call, candidate.target)
        except (CapabilityError, PolicyError, ModelRetiredError):
            return False
        return True

    def _outwaited(self) -> None:
        """The first leg was left: it would have taken longer still, which counts for what is usual of its target."""
        ledger = self._call.ledger
        row = ledger.attempts[self._before]
        if row.error is OUTRUN:
            self._traffic.load(row.target).waited(row.seconds, stream=self._call.stream)

    def _lost(self, leg: Leg, reply: Reply) -> Outcome:
        """Both have answered: the row of the one that is not taken says so, once the others have written it."""

        def tell(outcome: Outcome) -> None:
            rows = leg.ledger.attempts
            place = max(i for i, row in enumerate(rows) if row.target == reply.target.name and row.error is None)
            rows[place] = replace(rows[place], error=OUTRUN)

        reply.finishers.insert(0, tell)  # last in, first out
        if reply.response is not None:
            return Outcome(reply.response.usage, interrupted=True)
        said = "".join(event.text for event in reply.events if isinstance(event, TextDelta))
        return Outcome(None, interrupted=True, output_tokens=estimate(said))

    def _failure(self, error: Exception, other: Exception | None) -> Exception:
        ledger = self._call.ledger
        attempts = tuple(ledger.attempts)
        if isinstance(other, ProviderError | AllTargetsFailedError) and _may_go_on(error):
            asked = dict.fromkeys(row.target for row in attempts)
            group = AllTargetsFailedError(f"none of {', '.join(asked)} answered", ledger.errors)
            group.attempts = attempts
            group.__cause__ = error
            return group
        if isinstance(error, ProviderError | AllTargetsFailedError):
            error.attempts = attempts
        return error


def _decides(error: Exception) -> bool:
    return not _may_go_on(error)


def _may_go_on(error: Exception) -> bool:
    """Whether another target might do better."""
    return isinstance(error, AllTargetsFailedError) or (isinstance(error, ProviderError) and error.failover)


def _keep_time(reply: Reply, leg: Leg, ledger: Ledger) -> None:
    """The stream's driver keeps the time on the call's own ledger; what the leg's layers left to be done looks at the
    leg's. It runs before theirs: last in, first out."""

    def finish(outcome: Outcome) -> None:
        leg.ledger.now = ledger.now

    reply.finishers.append(finish)


def _cost(call: Call, first: Candidate, second: Candidate) -> float:
    """What the second request costs, the first being 1; where one of the prices is not known, or nothing, as much."""
    tokens = estimate_tokens(call.request)
    one, other = (price(candidate.target, call.request, tokens) for candidate in (first, second))
    return other / one if 0 < one < float("inf") and other < float("inf") else 1.0
