"""Turns a request into one that the target can take, and what comes back into an answer to the request.

What is made up by what means is `parity/plan.py`'s decision; the transforms are in `parity/`. This layer puts both
together, once per target, and tells the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..parity.plan import by, notices, plan
from ..pipeline.core import Call, Handler, Reply, Transform
from ..pipeline.ops import Plan
from ..types.dataclass import dataclass
from ..types.plan import Step
from ..types.request import ChatRequest
from ..types.response import ChatResponse, OutputMode

__all__ = ["adapt"]


def adapt(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer.

    Raises:
        CapabilityError: the target cannot serve the request; nothing was sent.
    """
    request, target = call.request, call.target
    steps = plan(request, target, stream=call.stream)
    for notice in notices(steps, target) if steps else ():
        call.ledger.notice(notice)
    if request.max_tokens is None and target.row.default_max_tokens is not None:
        request = request.evolve(max_tokens=target.row.default_max_tokens)
    change = _change(call, request, steps)
    if change is None:
        return handler(call if request is call.request else call.evolve(request=request))
    return _adapted(call, handler, change)


def _adapted(call: Call, handler: Handler, change: _Change) -> Plan[Reply]:
    call = call.evolve(request=change.request, transforms=(*change.transforms, *call.transforms))
    reply = yield from handler(call)
    reply.output_mode = change.mode
    if reply.response is not None:
        for turn in change.answer:
            reply.response = turn(reply.response)
    return reply


@dataclass(slots=True)
class _Change:
    """The request as it is sent, and what is done with the answer: with events, or with the whole."""

    request: ChatRequest
    transforms: tuple[Callable[[], Transform], ...] = ()
    answer: tuple[Callable[[ChatResponse[Any]], ChatResponse[Any]], ...] = ()
    mode: OutputMode = "native"


def _change(call: Call, request: ChatRequest, steps: tuple[Step, ...]) -> _Change | None:
    """None for most requests, which have neither tools nor `output`; then nothing of `parity/` is imported."""
    tools = bool(request.tools) and request.tool_choice != "none"
    has_tools = call.target.row.features.get("tools", "native") == "native"
    if not tools and request.output is None and (has_tools or not (request.tools or _has_calls(request))):
        return None
    change = _output(_Change(request), steps)
    if not tools:
        if has_tools:
            return change
        from ..parity.tool_prompt import rewrite

        # Tools that may not be called need not be sent to a host that knows none, and earlier calls become text.
        change.request = rewrite(change.request)
        return change
    return _tools(change, request, steps, call.target.name)


def _has_calls(request: ChatRequest) -> bool:
    return any(message.role == "tool" or message.tool_calls for message in request.messages)


def _output(change: _Change, steps: tuple[Step, ...]) -> _Change:
    means = by(steps, "json_schema")
    if means not in ("prompt", "tool"):
        return change
    from ..parity import json_output

    change.mode = means
    if means == "prompt":
        change.request = json_output.in_prompt(change.request)
    else:
        schema = change.request.output
        assert schema is not None
        change.request = json_output.as_tool(change.request)
        change.answer = (partial(json_output.from_tool, name=schema.name),)
    return change


def _tools(change: _Change, request: ChatRequest, steps: tuple[Step, ...], target: str) -> _Change:
    means = by(steps, "tools")
    if means == "schema":
        from ..parity import forced_tools

        change.request = forced_tools.rewrite(change.request)
        change.transforms = (partial(forced_tools.CallsFromJson, request),)
        change.answer = (*change.answer, partial(forced_tools.unfold_response, request=request))
        return change
    from ..parity import tool_calls, tool_prompt

    if means == "prompt":
        change.request = tool_prompt.rewrite(change.request)
    elif by(steps, "forced_tools") == "instruction":
        change.request = tool_prompt.instructed(change.request)
    # Hosts that have tools let calls through as text, too.
    told = "" if means == "prompt" else target
    change.transforms = (partial(tool_calls.CallsFromText, request, told),)
    change.answer = (*change.answer, partial(tool_calls.read_calls, request=request, target=told))
    return change
