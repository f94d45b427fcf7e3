"""Asking a host once where a target's endpoint is; see `spi.EndpointLocator`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ..errors import TimeoutError
from ..spi import EndpointLocator, WireResponse
from ..types.dataclass import dataclass
from .core import Call
from .exchange import read_body, send_signed
from .ops import Plan, Sleep

__all__ = ["Location", "located"]

MAX_BODY = 1 << 20
POLL = 0.02
"""Seconds between two looks at whether the call that asks has its answer."""


@dataclass(slots=True, eq=False)
class Location:
    """Where a target's endpoint is, once a call has asked. Shared by all calls to the target.

    Two threads may both find that nobody is asking, and both ask: the answers are the same.
    """

    url: str | None = None
    asking: bool = False


def located(call: Call, location: Location) -> Plan[Call]:
    """The call to a target whose address is known. One call asks; those that come meanwhile wait for its answer.

    Raises:
        ProviderError: what the host answered to the question.
    """
    while location.url is None:
        if location.asking:
            if call.deadline is not None and call.ledger.now >= call.deadline:
                raise TimeoutError("the endpoint's address did not come in time", phase="total", retryable=False)
            yield Sleep(POLL)
            continue
        location.asking = True
        try:
            location.url = yield from _ask(call)
        finally:
            location.asking = False
    target = replace(call.target, located=location.url)
    return call.evolve(candidate=replace(call.candidate, target=target, location=None))


def _ask(call: Call) -> Plan[str]:
    adapter = cast(EndpointLocator, call.candidate.adapter)
    question = adapter.locate(call.target)
    assert question is not None
    head = yield from send_signed(call, question)
    body = yield from read_body(call, MAX_BODY)
    return adapter.parse_location(WireResponse(head.status, head.headers, body), call.target)
