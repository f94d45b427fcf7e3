"""Asks one target after another until one answers."""

from __future__ import annotations

from typing import TypeGuard

from ..errors import (
    AllTargetsFailedError,
    CapabilityError,
    ContextLengthError,
    LlamarouteError,
    ModelRetiredError,
    PolicyError,
    ProviderError,
)
from ..pipeline.core import Call, Handler, Ledger, Reply
from ..pipeline.ops import Plan
from ..types.events import FailedOver
from ..types.response import Notice
from .order import Queue
from .policy import admit
from .resume import continued

__all__ = ["failover"]

Refusal = CapabilityError | PolicyError | ContextLengthError | ModelRetiredError
"""Why a target was passed over, unasked."""


def failover(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Candidates are asked in order; one that cannot serve the request is passed over, unasked.

    Raises:
        CapabilityError: none can serve it.
        PolicyError: a rule forbids those that can.
        ModelRetiredError: the model has ended at all of them.
        ContextLengthError: it is too long for all that could serve it otherwise; none was asked.
        ProviderError: one was asked and failed.
        AllTargetsFailedError: several were.
    """
    ledger, traffic = call.ledger, call.traffic
    refused: list[Refusal] = []
    asked: list[str] = []
    last: ProviderError | None = None
    sent = False
    queue = Queue(call)
    while (last is None or last.failover) and (turn := queue.next(spare=sent)) is not None:
        candidate = turn.candidate
        if last is not None:
            ledger.history.append(FailedOver(ledger.attempts[-1], candidate.target.name))
        before = len(ledger.attempts)
        try:
            admit(call, candidate.target)
            reply = yield from handler(
                call.evolve(
                    request=continued(call.request, call.said, candidate) if call.said else call.request,
                    candidate=candidate,
                    timeout=candidate.timeout,
                    retry=call.retry or candidate.retry,
                    trial=turn.trial,
                    more=turn.more,
                )
            )
        except (CapabilityError, PolicyError, ProviderError) as error:
            if isinstance(error, CapabilityError | PolicyError) or _unasked(error, ledger):
                refused.append(error)
                if last is not None and len(ledger.attempts) == before:
                    ledger.history.pop()  # it was never asked
                if isinstance(error, PolicyError):
                    ledger.notice(Notice("passed_over", f"{candidate.target.name} was passed over: {error}", "policy"))
                continue
            ledger.blame(candidate.target, error)
            if error.phase == "queue" and turn.more:
                queue.again(candidate)
            if candidate.target.name not in asked:
                asked.append(candidate.target.name)
            # Whom our own queue turned away has cost no host anything: the next one is a first attempt still.
            sent = sent or any(attempt.phase != "queue" for attempt in ledger.attempts[before:])
            last = error
        else:
            queue.tell()
            return reply
        finally:
            if traffic is not None:
                traffic.health.release(candidate.target, call)
    if last is None:
        raise _refusal(refused)
    last.attempts = tuple(ledger.attempts)
    if len(asked) == 1:
        raise last
    group = AllTargetsFailedError(f"none of {', '.join(asked)} answered{queue.unasked()}", ledger.errors)
    group.attempts = last.attempts
    raise group from last


def _unasked(error: ProviderError, ledger: Ledger) -> TypeGuard[ContextLengthError | ModelRetiredError]:
    """Whether a layer raised it, rather than the host: every request sent has left its error in the ledger."""
    layers = isinstance(error, ContextLengthError | ModelRetiredError)
    if not layers or any(known is error for known in ledger.errors):
        return False
    about = "context" if isinstance(error, ContextLengthError) else "lifecycle"
    ledger.notice(Notice("passed_over", f"{error.target} was passed over: {error.args[0]}", about))
    return True


def _refusal(refused: list[Refusal]) -> LlamarouteError:
    if not refused:  # a second leg, when the first has moved on to the last target just before it began
        return CapabilityError("another leg of the call asks all targets that are left")
    if len(refused) == 1:
        return refused[0]
    reasons = "no configured target can serve this request: " + "; ".join(str(error) for error in refused)
    if forbidden := [error for error in refused if isinstance(error, PolicyError)]:
        forbidden[0].args = (reasons,)
        return forbidden[0]
    short = [error for error in refused if isinstance(error, ContextLengthError)]
    if short:  # a shorter request could be served
        nearest = max(short, key=lambda error: error.limit or 0)
        nearest.args = (reasons,)
        return nearest
    unable = [error for error in refused if isinstance(error, CapabilityError)]
    if not unable:  # all have ended
        refused[0].args = (reasons,)
        return refused[0]
    return CapabilityError(reasons, missing={name: what for error in unable for name, what in error.missing.items()})
