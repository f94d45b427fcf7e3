"""Gives an answer that does not fit back to the model, with what is wrong, a limited number of times.

What may not fit: JSON for `output=`, the arguments of tool calls, names that are no tools, words where a call was
wanted. A re-ask is a call of its own: it has its own retries and its own rows in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import OutputValidationError
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Plan
from ..types.dataclass import dataclass
from ..types.messages import Message, user
from ..types.parts import ToolCall
from ..types.response import ChatResponse, Notice, Usage

__all__ = ["repair"]


def repair(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer. Streams pass through: what was said cannot be taken back; they are validated at their end.

    Raises:
        OutputValidationError: the last answer does not fit `output=`, or is no call although one had to be made.
    """
    tools = bool(call.request.tools) and call.request.tool_choice != "none"
    if call.stream or (call.output is None and not tools):
        return handler(call)
    return _repair(call, handler, tools=tools)


def _repair(call: Call, handler: Handler, *, tools: bool) -> Plan[Reply]:
    request = call.request
    spent: list[Usage] = []
    for left in range(call.output_retries, -1, -1):
        reply = yield from handler(call if request is call.request else call.evolve(request=request))
        response = reply.response
        assert response is not None
        if spent:
            from ..types.run import sum_usage

            response = reply.response = response.model_copy(update={"usage": sum_usage([*spent, response.usage])})
        misfit = _misfit(call, reply, response, tools=tools)
        if misfit is None:
            return reply
        if not left:
            if misfit.error is None:
                return reply  # calls with an `error`: the caller sees what the model wrote
            if call.complete is not None:
                misfit.error.reply = call.complete(call, reply)
            raise misfit.error
        spent = [response.usage]
        text = f"an answer did not fit and was asked again: {misfit.why}"
        call.ledger.notice(Notice("output_repaired" if misfit.output else "tool_call_repaired", text))
        request = request.evolve(messages=(*request.messages, *misfit.turns))
    raise AssertionError("unreachable: the last round returns or raises")


@dataclass(slots=True)
class _Misfit:
    """What is wrong with an answer, the turns that say so, and what is raised when no try is left."""

    why: str
    turns: tuple[Message, ...]
    error: OutputValidationError | None
    output: bool = False


def _misfit(call: Call, reply: Reply, response: ChatResponse[Any], *, tools: bool) -> _Misfit | None:
    if tools:
        if response.tool_calls:
            return _calls_misfit(call, reply, response) if call.repair_calls else None
        if (choice := call.request.tool_choice) != "auto":
            return _no_call(call, response, choice)
    elif response.tool_calls:
        return None  # of tools that an `extra` brought along
    if call.output is None:
        return None
    try:
        value = call.output.read(response)
    except OutputValidationError as error:
        complaint = "; ".join(error.errors)
        turn = user(f"That does not fit the JSON schema: {complaint}. Answer again with JSON that does, and only that.")
        return _Misfit(str(error), (response.message, turn), error, output=True)
    reply.response = response.model_copy(update={"output": value, "output_mode": reply.output_mode})
    return None


def _calls_misfit(call: Call, reply: Reply, response: ChatResponse[Any]) -> _Misfit | None:
    """Arguments become what the schemas want; what cannot goes back as the results of the calls."""
    from ..parity.tool_arguments import check_call, repair_messages

    calls = [check_call(made, call.request.tools) for made in response.tool_calls]
    reply.response = response = _with_calls(response, calls)
    wrong = [made for made in calls if made.error is not None]
    if not wrong:
        return None
    why = "; ".join(f"{made.name}: {made.error}" for made in wrong)
    return _Misfit(why, repair_messages(response, calls), None)


def _with_calls(response: ChatResponse[Any], calls: Sequence[ToolCall]) -> ChatResponse[Any]:
    left = iter(calls)
    parts = tuple(next(left) if isinstance(part, ToolCall) else part for part in response.parts)
    return response.model_copy(update={"parts": parts, "tool_calls": tuple(calls)})


def _no_call(call: Call, response: ChatResponse[Any], choice: str) -> _Misfit:
    wanted = "one of the tools" if choice == "required" else f"the tool {choice}"
    why = f"{call.target.name} called no tool although tool_choice is {choice!r}"
    turn = user(f"You have to call {wanted} now. Answer with the call alone.")
    turns = (response.message, turn) if response.text.strip() else (turn,)
    error = OutputValidationError(why, reply=response, errors=["no tool was called"])
    return _Misfit(why, turns, error)
