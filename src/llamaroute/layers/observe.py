"""Writes the ledger: one row per attempt, and tells observers."""

from __future__ import annotations

from dataclasses import replace

from ..catalog.prices import cost_of
from ..errors import ProviderError
from ..pipeline.core import Call, Handler, Outcome, Reply, failed_attempt
from ..pipeline.ops import Plan
from ..types.response import Attempt, AttemptError

__all__ = ["observe"]


def observe(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer: never waits."""
    ledger, target = call.ledger, call.target
    began = ledger.now
    for observer in call.observers:
        if (tell := getattr(observer, "attempt_started", None)) is not None:
            tell(call)
    place = len(ledger.attempts)
    ledger.attempts.append(Attempt(target.name))
    try:
        reply = yield from handler(call)
    except ProviderError as error:
        ledger.errors.append(error)
        _settle(call, place, failed_attempt(target.name, error, ledger.now - began))
        raise
    except GeneratorExit:  # the caller went away
        abandoned = AttemptError("Abandoned", "the caller went away before the answer came")
        _settle(call, place, Attempt(target.name, error=abandoned, seconds=ledger.now - began))
        raise
    except Exception:
        del ledger.attempts[place:]  # nothing was sent: a CapabilityError or InputError
        raise
    if reply.response is not None:
        usage = reply.response.usage
        done = Attempt(
            target.name, status=200, seconds=ledger.now - began, usage=usage, cost=cost_of(usage, target.row)
        )
        _settle(call, place, done)
        return reply
    ledger.attempts[place] = Attempt(target.name, status=200, seconds=ledger.now - began)

    def finish(outcome: Outcome) -> None:
        done = ledger.attempts[place]
        error = outcome.error
        if error is not None:
            failed = failed_attempt(target.name, error)
            done = replace(done, error=failed.error, phase=failed.phase)
        cost = cost_of(outcome.usage, target.row) if outcome.usage is not None else None
        _settle(call, place, replace(done, seconds=ledger.now - began, usage=outcome.usage, cost=cost))

    reply.finishers.append(finish)
    return reply


def _settle(call: Call, place: int, attempt: Attempt) -> None:
    call.ledger.attempts[place] = attempt
    for observer in call.observers:
        if (tell := getattr(observer, "attempt_ended", None)) is not None:
            tell(call, attempt)
