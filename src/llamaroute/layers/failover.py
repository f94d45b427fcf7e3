"""Asks one target after another until one answers."""

from __future__ import annotations

from typing import TypeGuard

from ..errors import AllTargetsFailedError, CapabilityError, ContextLengthError, LlamarouteError, ProviderError
from ..pipeline.core import Call, Handler, Ledger, Reply
from ..pipeline.ops import Plan
from ..types.events import FailedOver
from ..types.response import Notice

__all__ = ["failover"]


def failover(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Candidates are asked in order; one that cannot serve the request is passed over, unasked.

    Raises:
        CapabilityError: none can serve it.
        ContextLengthError: it is too long for all that could serve it otherwise; none was asked.
        ProviderError: one was asked and failed.
        AllTargetsFailedError: several were.
    """
    ledger = call.ledger
    refused: list[CapabilityError | ContextLengthError] = []
    asked: list[str] = []
    last: ProviderError | None = None
    for candidate in call.candidates:
        if last is not None:
            if not last.failover:
                break
            ledger.history.append(FailedOver(ledger.attempts[-1], candidate.target.name))
        try:
            reply = yield from handler(
                call.evolve(candidate=candidate, timeout=candidate.timeout, retry=call.retry or candidate.retry)
            )
        except (CapabilityError, ProviderError) as error:
            if isinstance(error, CapabilityError) or _unasked(error, ledger):
                refused.append(error)
                if last is not None:
                    ledger.history.pop()  # it was never asked
                continue
            ledger.blame(candidate.target, error)
            asked.append(candidate.target.name)
            last = error
        else:
            return reply
    if last is None:
        raise _refusal(refused)
    last.attempts = tuple(ledger.attempts)
    if len(asked) == 1:
        raise last
    group = AllTargetsFailedError(f"none of {', '.join(asked)} answered", ledger.errors)
    group.attempts = last.attempts
    raise group from last


def _unasked(error: ProviderError, ledger: Ledger) -> TypeGuard[ContextLengthError]:
    """Whether the window layer raised it, rather than the host: every request sent has left its error in the ledger."""
    if not isinstance(error, ContextLengthError) or any(known is error for known in ledger.errors):
        return False
    ledger.notice(Notice("passed_over", f"{error.target} was passed over: {error.args[0]}", "context"))
    return True


def _refusal(refused: list[CapabilityError | ContextLengthError]) -> LlamarouteError:
    if len(refused) == 1:
        return refused[0]
    reasons = "no configured target can serve this request: " + "; ".join(str(error) for error in refused)
    short = [error for error in refused if isinstance(error, ContextLengthError)]
    if short:  # a shorter request could be served
        nearest = max(short, key=lambda error: error.limit or 0)
        nearest.args = (reasons,)
        return nearest
    missing = {
        name: what for error in refused if isinstance(error, CapabilityError) for name, what in error.missing.items()
    }
    return CapabilityError(reasons, missing=missing)
