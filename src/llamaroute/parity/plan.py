"""What a request needs, what a target can do, and by what means the rest is made up. Pure decisions, no transforms.

Two layers and `client.explain` go by the same answer, so that what is explained is what is done.
"""

from __future__ import annotations

from ..errors import CapabilityError
from ..spi import Target
from ..types.capability import Feature, Support
from ..types.plan import Means, Step
from ..types.request import NUMBERS, ChatRequest
from ..types.response import Notice

__all__ = ["NAMES", "by", "notices", "plan", "stream_notice"]

NAMES: dict[Feature, str] = {
    "stream": "streaming",
    "tools": "tools",
    "stream_tools": "tools in a stream",
    "forced_tools": "forced tool calls",
    "json_schema": "JSON schemas",
    "stream_json_schema": "JSON schemas in a stream",
    "images": "images",
    "image_url": "image URLs",
}


def plan(request: ChatRequest, target: Target, *, stream: bool) -> tuple[Step, ...]:
    """How the target serves each feature that the request needs.

    Raises:
        CapabilityError: it cannot.
    """
    row = target.row
    if row.unavailable:
        raise CapabilityError(f"{target.name}: {row.unavailable}", missing={target.name: target.model})
    _check_parameters(request, target)
    tools = bool(request.tools) and request.tool_choice != "none"
    if not (stream or tools or request.output is not None or request.has_pictures):
        return ()  # most calls
    steps = _steps(request, target, tools=tools, stream=stream)
    if refused := [step for step in steps if step.how == "refuse"]:
        what = ", ".join(step.why or NAMES[step.feature] for step in refused)
        raise CapabilityError(f"{target.name} cannot serve {what}", missing={target.name: what})
    return tuple(steps)


def by(steps: tuple[Step, ...], feature: Feature) -> Means | None:
    """By what means a feature is made up; None when the request does not need it, "" when the host has it."""
    return next((step.by for step in steps if step.feature == feature), None)


def _steps(request: ChatRequest, target: Target, *, tools: bool, stream: bool) -> list[Step]:
    row = target.row
    support = row.features

    def has(feature: Feature) -> Support:
        return support.get(feature, "native")

    steps: list[Step] = []

    def need(feature: Feature, means: Means) -> None:
        how = has(feature)
        steps.append(Step(feature, how, means if how == "emulate" else ""))

    forced = tools and request.tool_choice != "auto"
    if stream:
        need("stream", "plain-call")
    # A schema allows one call in an answer; who asks for several in so many words gets them by the prompt. A call that
    # must be made is worth more than several that may.
    several = request.parallel_tool_calls is True and not forced
    schema_calls = has("json_schema") == "native" and request.output is None and not several
    if tools:
        need("tools", "schema" if schema_calls else "prompt")
        native = has("tools") == "native"
        if forced:
            if native:
                need("forced_tools", "instruction")
            elif has("tools") == "emulate":
                steps.append(Step("forced_tools", "emulate", "schema" if schema_calls else "instruction"))
        made_up = by(tuple(steps), "forced_tools") == "instruction"
        if stream and native:
            need("stream_tools", "plain-call")
        elif stream and not native and schema_calls and has("stream_json_schema") != "native":
            steps.append(Step("stream_tools", has("stream_json_schema"), "plain-call"))
        if stream and made_up and by(tuple(steps), "stream_tools") != "plain-call":
            # Whether a call came can only be seen, and asked again, before anything was handed on.
            steps = [step for step in steps if step.feature != "stream_tools"]
            steps.append(Step("stream_tools", "emulate", "plain-call"))
    if request.output is not None:
        steps += _output_steps(request, target, tools=tools, stream=stream)
    if request.has_pictures:
        most, given = row.image.max_count, len(request.images)
        if has("images") == "native" and most and given > most:
            steps.append(Step("images", "emulate", "sheet"))  # layers/media.py merges them, and says so
        else:
            steps.append(Step("images", "refuse" if most == 0 else has("images")))
    return steps


def _output_steps(request: ChatRequest, target: Target, *, tools: bool, stream: bool) -> list[Step]:
    support = target.row.features
    how = support.get("json_schema", "native")
    if how == "refuse":
        return [Step("json_schema", how)]
    if how == "native" and not (tools and support.get("tools", "native") != "native"):
        in_stream = support.get("stream_json_schema", "native")
        steps = [Step("json_schema", "native")]
        if stream:
            steps.append(Step("stream_json_schema", in_stream, "plain-call" if in_stream == "emulate" else ""))
        return steps
    # A schema of the host's would leave no room for calls that are made up in text.
    callable_answer = all(support.get(name, "native") == "native" for name in ("tools", "forced_tools"))
    if callable_answer and not tools and not stream:
        return [Step("json_schema", "emulate", "tool")]
    return [Step("json_schema", "emulate", "prompt")]


def notices(steps: tuple[Step, ...], target: Target) -> list[Notice]:
    """What the caller is told of what is made up."""
    told: list[Notice] = []
    name = target.name
    tools, forced, output = by(steps, "tools"), by(steps, "forced_tools"), by(steps, "json_schema")
    if tools == "schema":
        told.append(
            Notice("tools_emulated", f"{name} has no tools of its own; a JSON schema stands in for them", "tools")
        )
    elif tools == "prompt":
        text = f"{name} has no tools of its own; they were described in the prompt, and calls are read from the text"
        told.append(Notice("tools_emulated", text, "tools"))
    if forced == "instruction":
        text = f"{name} cannot be made to call a tool; it was told to in words"
        told.append(Notice("forced_tools_emulated", text, "forced_tools"))
    if output == "prompt":
        text = f"{name} has no JSON schemas; the schema was put into the prompt, and the answer checked"
        told.append(Notice("output_emulated", text, "json_schema"))
    elif output == "tool":
        text = f"{name} has no JSON schemas; the answer is the argument of a tool that it must call"
        told.append(Notice("output_emulated", text, "json_schema"))
    return told


def stream_notice(steps: tuple[Step, ...], target: Target) -> Notice | None:
    """What the caller is told when the stream is made from a whole answer; None when it is the host's own."""
    whole = [step for step in steps if step.by == "plain-call"]
    if not whole:
        return None
    text = f"{target.name} has no {NAMES[whole[-1].feature]}; the stream was made from a plain answer"
    return Notice("stream_from_reply", text, "stream")


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
