"""Asks one target after another until one answers."""

from __future__ import annotations

from ..errors import AllTargetsFailedError, CapabilityError, ProviderError
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Plan
from ..types.events import FailedOver

__all__ = ["failover"]


def failover(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Candidates are asked in order; one that cannot serve the request is passed over, unasked.

    Raises:
        CapabilityError: none can serve it.
        ProviderError: one was asked and failed.
        AllTargetsFailedError: several were.
    """
    ledger = call.ledger
    refused: list[CapabilityError] = []
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
        except CapabilityError as error:
            refused.append(error)
            if last is not None:
                ledger.history.pop()  # it was never asked
        except ProviderError as error:
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


def _refusal(refused: list[CapabilityError]) -> CapabilityError:
    if len(refused) == 1:
        return refused[0]
    missing = {name: what for error in refused for name, what in error.missing.items()}
    return CapabilityError(
        "no configured target can serve this request: " + "; ".join(str(error) for error in refused), missing=missing
    )
