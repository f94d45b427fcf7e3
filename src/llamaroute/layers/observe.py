"""Writes the ledger: one row per attempt, and tells observers.

Each `attempt_started` is followed by one `attempt_ended`, whatever happens. An observer that raises changes nothing
about the call; the caller finds a notice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..catalog.prices import cost_of
from ..errors import ProviderError
from ..pipeline.core import Call, Handler, Outcome, Reply, failed_attempt
from ..pipeline.ops import Plan
from ..tokens import estimate_tokens, estimate_usage
from ..types.response import Attempt, AttemptError, Notice, Usage

__all__ = ["OUTRUN", "observe"]

GONE = AttemptError("Abandoned", "the caller went away before the answer came")
OUTRUN = AttemptError("Abandoned", "another target answered first")


def observe(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer: never waits."""
    ledger, target = call.ledger, call.target
    began = ledger.asked = ledger.now
    row = _Row(call, Attempt(target.name))
    _tell(call, "attempt_started", call)
    try:
        reply = yield from handler(call)
    except ProviderError as error:
        ledger.errors.append(error)
        row.settle(failed_attempt(target.name, error, ledger.now - began))
        raise
    except GeneratorExit:
        row.settle(Attempt(target.name, error=OUTRUN if ledger.outrun else GONE, seconds=ledger.now - began))
        raise
    except Exception as error:
        row.drop(failed_attempt(target.name, error, ledger.now - began))
        raise
    if (response := reply.response) is not None:
        if response.usage.estimated:
            usage = estimate_usage(call.request, response)
            response = reply.response = response.model_copy(update={"usage": usage})
        usage = response.usage
        row.settle(
            Attempt(target.name, status=200, seconds=ledger.now - began, usage=usage, cost=cost_of(usage, target.row))
        )
        return reply
    row.put(Attempt(target.name, status=200, seconds=ledger.now - began))

    def finish(outcome: Outcome) -> None:
        done = row.attempt
        if (error := outcome.error) is not None:
            failed = failed_attempt(target.name, error)
            done = replace(done, error=failed.error, phase=failed.phase)
        usage = outcome.usage
        if usage is None and outcome.output_tokens is not None:
            came, asked = outcome.output_tokens, estimate_tokens(call.request)
            usage = Usage(asked, came, asked + came, estimated=True)
        cost = cost_of(usage, target.row) if usage is not None else None
        row.settle(replace(done, seconds=ledger.now - began, usage=usage, cost=cost))

    reply.finishers.append(finish)
    return reply


class _Row:
    """An attempt's place in the ledger, which other attempts may be written to meanwhile."""

    __slots__ = ("_call", "attempt")

    def __init__(self, call: Call, attempt: Attempt) -> None:
        self._call = call
        self.attempt = attempt
        call.ledger.attempts.append(attempt)

    def put(self, attempt: Attempt) -> None:
        """Write the row anew."""
        attempts = self._call.ledger.attempts
        attempts[self._place()] = self.attempt = attempt

    def settle(self, attempt: Attempt) -> None:
        """Write the row for good."""
        self.put(attempt)
        _tell(self._call, "attempt_ended", self._call, attempt)

    def drop(self, attempt: Attempt) -> None:
        """Nothing was sent (a CapabilityError or InputError): no row stays, but who heard the start hears the end."""
        del self._call.ledger.attempts[self._place()]
        _tell(self._call, "attempt_ended", self._call, attempt)

    def _place(self) -> int:
        attempts = self._call.ledger.attempts
        if attempts[-1] is self.attempt:
            return len(attempts) - 1
        return next(i for i, known in enumerate(attempts) if known is self.attempt)


def _tell(call: Call, what: str, *about: Any) -> None:
    for observer in call.observers:
        if (tell := getattr(observer, what, None)) is not None:
            try:
                tell(*about)
            except Exception as error:
                text = f"{type(observer).__name__}.{what} raised {type(error).__name__}; the call went on without it"
                call.ledger.notice(Notice("observer_failed", text))
