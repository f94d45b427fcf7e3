"""Keeps attempts at the account's gate until its limits let them through.

One attempt is one ticket: retries wait anew. The gate itself is in `routing/gate.py`.
"""

from __future__ import annotations

from functools import partial

from ..errors import LlamarouteError, ProviderError, RateLimitError, TimeoutError
from ..pipeline.core import Call, Handler, Outcome, Reply
from ..pipeline.ops import Blocking, Plan, Signal
from ..pipeline.ops import Wait as WaitFor
from ..routing.gate import Ended, Gate, Left, Refused, Ticket, Wait
from ..tokens import at_most, estimate_tokens
from ..types.response import Notice, Usage
from ..wire.headers import limits_left

__all__ = ["limits"]

LARGE = 20_000
"""Bytes of texts from which their tokens are estimated beside the event loop."""
ELSEWHERE = 1.0
"""Seconds that a call waits where another target could be asked instead."""
TELL = 1.0
"""Seconds of waiting from which the caller is told."""


def limits(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer.

    Raises:
        RateLimitError: with `phase="queue"`; too many calls wait already, or no place comes free in time. Nothing was
            sent.
    """
    gate: Gate | None = call.candidate.gate
    if gate is None:
        return (yield from handler(call))
    ticket = yield from _enter(call, gate)
    ledger = call.ledger
    try:
        reply = yield from handler(call)
    except ProviderError as error:
        limited = isinstance(error, RateLimitError)
        gate.leave(ticket, Ended(limited=limited, retry_after=error.retry_after if limited else None), ledger.now)
        raise
    except LlamarouteError:  # a CapabilityError, an InputError
        gate.leave(ticket, Ended(sent=False), ledger.now)
        raise
    except BaseException:
        gate.leave(ticket, Ended(), ledger.now)
        raise
    left = tuple(map(Left._make, limits_left(reply.headers))) if gate.limits.adaptive else ()
    if reply.response is not None:
        gate.leave(ticket, _ended(reply.response.usage, left), ledger.now)
        return reply

    def finish(outcome: Outcome) -> None:
        gate.leave(ticket, _ended(outcome.usage, left, outcome.error), ledger.now)

    reply.finishers.append(finish)
    return reply


def _ended(usage: Usage | None, left: tuple[Left, ...], error: BaseException | None = None) -> Ended:
    if usage is None or usage.estimated:
        return Ended(answered=error is None, left=left)
    used = usage.input_tokens + usage.output_tokens
    return Ended(used, usage.output_tokens, answered=error is None, left=left)


def _enter(call: Call, gate: Gate) -> Plan[Ticket]:
    """Wait until the attempt may go out."""
    ledger, target = call.ledger, call.target
    tokens = 0
    if gate.counts_tokens:
        request = call.request
        if at_most(request) > LARGE:
            prompt: int = yield Blocking(partial(estimate_tokens, request), until=call.deadline)
        else:
            prompt = estimate_tokens(request)
        tokens = gate.reserve(prompt, request.max_tokens or target.row.default_max_tokens)
    began = ledger.now
    until = float("inf") if call.deadline is None else call.deadline
    if began >= until:  # of targets before this one, or of a wait: no limit is to blame
        raise TimeoutError(
            "the call's time was over before this target was asked", phase="total", retryable=False, failover=False
        )
    if call.more:
        until = min(until, began + ELSEWHERE)
    signal = Signal()
    ticket = Ticket(tokens, began, until, call.priority, signal.set)
    try:
        while True:
            step = gate.step(ticket, ledger.now)
            match step:
                case Wait(seconds=seconds):
                    yield WaitFor(signal, seconds)
                case Refused(reason=reason):
                    raise RateLimitError(
                        f"the limits of {target.provider} leave no room: {reason}; nothing was sent "
                        f"([limits.{target.provider}] says how much may be sent)",
                        provider=target.provider,
                        target=target.name,
                        model=target.model,
                        phase="queue",
                        retryable=False,
                    )
                case _:
                    break
    except BaseException:
        gate.leave(ticket, Ended(sent=False), ledger.now)
        raise
    if gate.degraded:
        text = f"the limits of {target.provider} are not shared at present: this process keeps to its share of them"
        ledger.notice(Notice("limits_not_shared", text))
    if (waited := ledger.now - began) >= TELL:
        ledger.notice(
            Notice("queued", f"the call waited {waited:.1f} s until the limits of {target.provider} let it out")
        )
    return ticket
