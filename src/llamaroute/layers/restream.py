"""Streams for targets that have none, or none with what the request needs: made from a whole answer, in pieces.

And for a stream that came back empty although tokens were counted: the same request is asked again without stream.
Cloudflare does that to Scout with tools (docs/hosts.md); nothing was handed on by then, so nothing is said twice.
"""

from __future__ import annotations

from ..parity.plan import plan, stream_notice
from ..pipeline.core import Call, Handler, Outcome, Reply
from ..pipeline.exchange import reply_events
from ..pipeline.ops import Plan
from ..types.events import Finished, ReasoningDelta, TextDelta, ToolCallStarted, UsageReported
from ..types.response import Notice

__all__ = ["as_stream", "restream"]


def restream(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Plain calls pass through."""
    return _restream(call, handler) if call.stream else handler(call)


def _restream(call: Call, handler: Handler) -> Plan[Reply]:
    notice = stream_notice(plan(call.request, call.target, stream=True), call.target)
    if notice is not None:
        call.ledger.notice(notice)
        return as_stream(call, (yield from handler(call.evolve(stream=False))))
    reply = yield from handler(call)
    if not _is_empty(reply):
        return reply
    text = f"{call.target.name} streamed nothing although tokens were counted; it was asked again without stream"
    call.ledger.notice(Notice("empty_stream_repaired", text, "stream"))
    yield from _close(reply)
    return as_stream(call, (yield from handler(call.evolve(stream=False))))


def as_stream(call: Call, reply: Reply) -> Reply:
    """A plain answer as a stream that has ended already."""
    assert reply.response is not None
    call.ledger.first_token = call.ledger.now - call.ledger.started
    return Reply(
        reply.target,
        events=list(reply_events(reply.response)),
        headers=reply.headers,
        finishers=reply.finishers,
        ended=True,
        output_mode=reply.output_mode,
    )


def _is_empty(reply: Reply) -> bool:
    """Whether a stream is over and brought nothing but a bill. An answer may be empty: its end is one token."""
    if any(isinstance(event, TextDelta | ToolCallStarted | ReasoningDelta) for event in reply.events):
        return False
    billed = any(isinstance(event, UsageReported) and event.usage.output_tokens > 1 for event in reply.events)
    reasons = [event.reason for event in reply.events if isinstance(event, Finished)]
    return billed and reasons != [] and reasons[0] in ("stop", "tool_calls", "unknown")


def _close(reply: Reply) -> Plan[None]:
    usage = next((event.usage for event in reply.events if isinstance(event, UsageReported)), None)
    while reply.finishers:
        finishing = reply.finishers.pop()(Outcome(usage))
        if finishing is not None:
            yield from finishing
