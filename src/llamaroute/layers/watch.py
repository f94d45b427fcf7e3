"""Tells the client's `Traffic` what becomes of each attempt."""

from __future__ import annotations

from ..errors import ProviderError
from ..pipeline.core import Call, Handler, Outcome, Reply
from ..pipeline.ops import Plan

__all__ = ["watch"]


def watch(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer: never waits."""
    traffic = call.traffic
    if traffic is None:
        return (yield from handler(call))
    ledger, target = call.ledger, call.target
    began, mark = ledger.now, object()
    flying = traffic.load(target.name).flying
    flying.add(mark)
    try:
        reply = yield from handler(call)
    except ProviderError as error:
        flying.discard(mark)
        traffic.failed(target, error, ledger.now)
        raise
    except BaseException:
        flying.discard(mark)
        raise
    first = ledger.now - began if ledger.first_token is None else ledger.started + ledger.first_token - began
    traffic.began(target, max(0.0, first), ledger.now, stream=reply.response is None)
    if reply.response is not None:
        flying.discard(mark)
        traffic.answered(target, ledger.now)
        return reply

    def finish(outcome: Outcome) -> None:
        flying.discard(mark)
        if isinstance(outcome.error, ProviderError):
            traffic.failed(target, outcome.error, ledger.now)
        else:
            traffic.answered(target, ledger.now)

    reply.finishers.append(finish)
    return reply
