"""Gives an answer that does not fit `output=` back to the model, with what is wrong, a limited number of times.

A re-ask is a call of its own: it has its own retries and its own rows in the ledger.
"""

from __future__ import annotations

from ..errors import OutputValidationError
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Plan
from ..types.messages import user
from ..types.response import Notice, Usage

__all__ = ["repair"]


def repair(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Streams pass through: what was said cannot be taken back; they are validated at their end.

    Raises:
        OutputValidationError: the last answer does not fit either.
    """
    if call.output is None or call.stream:
        return (yield from handler(call))
    request = call.request
    spent: list[Usage] = []
    for left in range(call.output_retries, -1, -1):
        reply = yield from handler(call if request is call.request else call.evolve(request=request))
        response = reply.response
        assert response is not None
        if spent:
            response = reply.response = response.model_copy(update={"usage": _sum([*spent, response.usage])})
        if response.tool_calls:
            return reply  # the model chose a tool instead: there is no output yet
        try:
            value = call.output.read(response)
        except OutputValidationError as error:
            if not left:
                if call.complete is not None:
                    error.reply = call.complete(call, reply)
                raise
            spent = [response.usage]
            call.ledger.notice(
                Notice("output_repaired", f"an answer did not fit and was asked again: {error}", "output")
            )
            complaint = "; ".join(error.errors)
            turn = user(
                f"That does not fit the JSON schema: {complaint}. Answer again with JSON that does, and only that."
            )
            request = request.evolve(messages=(*request.messages, response.message, turn))
            continue
        update: dict[str, object] = {"output": value, "output_mode": response.output_mode or "native"}
        reply.response = response.model_copy(update=update)
        return reply
    raise AssertionError("unreachable: the last round returns or raises")


def _sum(usages: list[Usage]) -> Usage:
    """What the answer cost in all, repairs included."""
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.total_tokens for usage in usages),
        None if all(usage.cached_tokens is None for usage in usages) else sum(u.cached_tokens or 0 for u in usages),
        estimated=any(usage.estimated for usage in usages),
        raw=usages[-1].raw,
    )
