"""Compares what a request needs with what a target can do, once per target.

Per feature the target's row says native, emulate or refuse. What a host lacks is made up by a pure transform of
`parity/`, with a notice, or refused here before a byte leaves. This layer alone decides; an adapter that is given
something its row excludes raises.
"""

from __future__ import annotations

from ..errors import CapabilityError
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.exchange import reply_events
from ..pipeline.ops import Plan
from ..spi import Target
from ..types.capability import Feature, Support
from ..types.request import NUMBERS, ChatRequest
from ..types.response import Notice

__all__ = ["adapt", "check", "needs"]

_NAMES: dict[Feature, str] = {
    "stream": "streaming",
    "tools": "tools",
    "stream_tools": "tools in a stream",
    "forced_tools": "forced tool calls",
    "json_schema": "JSON schemas",
    "stream_json_schema": "JSON schemas in a stream",
    "images": "images",
    "image_url": "image URLs",
}


def needs(request: ChatRequest, *, stream: bool) -> tuple[Feature, ...]:
    """The features that a request uses."""
    used: list[Feature] = []
    tools = bool(request.tools) and request.tool_choice != "none"
    if stream:
        used.append("stream")
    if tools:
        used.append("tools")
        if stream:
            used.append("stream_tools")
        if request.tool_choice != "auto":
            used.append("forced_tools")
    if request.output is not None:
        used.append("json_schema")
        if stream:
            used.append("stream_json_schema")
    if request.images:
        used.append("images")
    return tuple(used)


def check(request: ChatRequest, target: Target, *, stream: bool) -> dict[Feature, Support]:
    """How the target serves each feature the request needs.

    Raises:
        CapabilityError: it cannot.
    """
    if target.row.unavailable:
        raise CapabilityError(f"{target.name}: {target.row.unavailable}", missing={target.name: target.model})
    _check_parameters(request, target)
    support = {feature: target.row.features.get(feature, "native") for feature in needs(request, stream=stream)}
    refused = [feature for feature, how in support.items() if how == "refuse"]
    if refused:
        what = ", ".join(_NAMES[feature] for feature in refused)
        raise CapabilityError(f"{target.name} cannot serve {what}", missing={target.name: what})
    most, given = target.row.image.max_count, len(request.images)
    if most is not None and given > most:
        what = f"{given} images" if most else "images"
        raise CapabilityError(
            f"{target.name} takes at most {most} image{'' if most == 1 else 's'} in a request, not {given}",
            missing={target.name: what},
        )
    if support.get("json_schema") == "emulate":
        raise CapabilityError(
            f"{target.name} has no JSON schemas, and this version does not make them up",
            missing={target.name: "JSON schemas"},
        )
    emulated = "emulate" in (support.get("tools"), support.get("forced_tools"))
    if emulated and target.row.features.get("json_schema") != "native":
        raise CapabilityError(
            f"{target.name} has neither tools nor JSON schemas to make them up with", missing={target.name: "tools"}
        )
    return support


def adapt(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer."""
    request, target = call.request, call.target
    row = target.row
    support = check(request, target, stream=call.stream)
    if request.tools and request.tool_choice == "none" and row.features.get("tools", "native") != "native":
        # Tools that may not be called need not be sent to a host that knows none.
        request = request.evolve(tools=(), tool_choice="auto")
    if request.max_tokens is None and row.default_max_tokens is not None:
        request = request.evolve(max_tokens=row.default_max_tokens)
    if support.get("tools") == "emulate" or support.get("forced_tools") == "emulate":
        return (yield from _tools_by_schema(call.evolve(request=request), handler))
    streams: tuple[Feature, ...] = ("stream", "stream_tools", "stream_json_schema")
    whole = [feature for feature in streams if support.get(feature) == "emulate"]
    if whole:
        message = f"{target.name} has no {_NAMES[whole[-1]]}; the stream was made from a plain answer"
        call.ledger.notice(Notice("stream_from_reply", message, "stream"))
        return as_stream(call, (yield from handler(call.evolve(request=request, stream=False))))
    return (yield from handler(call if request is call.request else call.evolve(request=request)))


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
    )


def _tools_by_schema(call: Call, handler: Handler) -> Plan[Reply]:
    """Tools for a host that has none: a JSON schema that allows nothing but calls (and, for `auto`, a reply)."""
    from ..parity import forced_tools

    request, target = call.request, call.target
    call.ledger.notice(
        Notice("tools_emulated", f"{target.name} has no tools of its own; a JSON schema stands in for them", "tools")
    )
    reply = yield from handler(call.evolve(request=forced_tools.rewrite(request)))
    if reply.response is not None:
        reply.response = forced_tools.unfold_response(reply.response, request)
        return reply
    return forced_tools.wrap_reply(reply, request)


def _check_parameters(request: ChatRequest, target: Target) -> None:
    rules = target.row.parameters
    if not rules:
        return
    for name in (*NUMBERS, "logprobs"):
        value = getattr(request, name)
        rule = rules.get(name)
        if value is None or rule is None:
            continue
        if (why := rule.refusal(value)) is not None:
            raise CapabilityError(
                f"{target.name} cannot take {name}={value}: {why}", missing={target.name: f"{name}={value}"}
            )
    if request.parallel_tool_calls and (rule := rules.get("parallel_tool_calls")) and not rule.supported:
        raise CapabilityError(
            f"{target.name} cannot make parallel tool calls: {rule.note}",
            missing={target.name: "parallel_tool_calls"},
        )
    if request.stop and (rule := rules.get("stop")) and (why := rule.refusal(len(request.stop))) is not None:
        raise CapabilityError(
            f"{target.name} cannot take {len(request.stop)} stop sequences: {why}", missing={target.name: "stop"}
        )
