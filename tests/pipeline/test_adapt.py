"""What a request needs against what a target can do."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.errors import CapabilityError, ProviderError
from llamaroute.layers.adapt import adapt
from llamaroute.layers.observe import observe
from llamaroute.layers.restream import restream
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.types.capability import FEATURES, ModelRow, ParameterRule
from llamaroute.types.events import Finished, TextDelta, ToolCallDone, ToolCallStarted, UsageReported
from llamaroute.types.messages import user
from llamaroute.types.parts import Image
from llamaroute.types.response import Usage
from llamaroute.types.tools import JsonSchema, Tool

from .step import Handler, Script, answer, call_of, candidate, drain, sleep

TOOL = Tool("f", "does f", {"type": "object", "properties": {}})
SCHEMA = JsonSchema("out", {"type": "object"})
PICTURE = user("look", Image(b"GIF89a"))


def row(parameters: dict[str, ParameterRule] | None = None, **changes: Any) -> ModelRow:
    features = {**dict.fromkeys(FEATURES, "native"), **changes.pop("features", {})}
    return ModelRow("m", "m", features=features, parameters=parameters or {}, **changes)


def adapted(target_row: ModelRow, *, stream: bool = False, **request: Any):
    """What the layer passes on."""
    call = call_of(candidate(row=target_row), stream=stream, request=request)
    handler = Handler(["fine"])
    Script().run(adapt(call, handler), call.ledger)
    return handler.calls[0]


def test_a_request_that_fits_is_passed_on_untouched():
    call = call_of(candidate(row=row()))
    handler = Handler(["fine"])
    Script().run(adapt(call, handler), call.ledger)
    assert handler.calls[0].request is call.request
    assert handler.calls[0].transforms == ()
    assert call.ledger.notices == []


@pytest.mark.parametrize(
    ("feature", "request_fields", "stream"),
    [
        ("stream", {}, True),
        ("tools", {"tools": (TOOL,)}, False),
        ("stream_tools", {"tools": (TOOL,)}, True),
        ("forced_tools", {"tools": (TOOL,), "tool_choice": "f"}, False),
        ("json_schema", {"output": SCHEMA}, False),
        ("stream_json_schema", {"output": SCHEMA}, True),
        ("images", {"messages": (PICTURE,)}, False),
    ],
)
def test_a_refused_feature_stops_the_request(feature, request_fields, stream):
    fields = dict(request_fields)
    messages = fields.pop("messages", None)
    call = call_of(candidate(row=row(features={feature: "refuse"})), stream=stream, request=fields)
    if messages:
        call = call.evolve(request=call.request.evolve(messages=messages))
    with pytest.raises(CapabilityError) as caught:
        Script().run(adapt(call, Handler()), call.ledger)
    assert list(caught.value.missing) == ["acme:m" if call.target.model == "m" else call.target.name]
    assert call.target.name in str(caught.value)


@pytest.mark.parametrize("feature", ["tools", "stream_tools", "forced_tools", "json_schema", "images", "stream"])
def test_a_feature_that_is_not_used_refuses_nothing(feature):
    adapted(row(features={feature: "refuse"}))


@pytest.mark.parametrize("how", ["refuse", "emulate"])
def test_tools_that_may_not_be_called_are_not_shown_to_a_host_without_tools(how: str):
    """`tool_choice="none"` needs no tools, so such a host is asked; then its body must not hold any."""
    call = adapted(
        row(features={"tools": how, "stream_tools": how, "forced_tools": how}), tools=(TOOL,), tool_choice="none"
    )
    assert call.request.tools == ()


# -- knobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "fits"),
    [
        (ParameterRule(minimum=0, maximum=2), 0, True),
        (ParameterRule(minimum=0, maximum=2), 2, True),
        (ParameterRule(minimum=0, maximum=2), 2.01, False),
        (ParameterRule(minimum=0, maximum=2), -0.01, False),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 1, False),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 0, False),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 0.5, True),
        (ParameterRule(minimum=1), 10**9, True),
        (ParameterRule(maximum=1), -(10**9), True),
        (ParameterRule(supported=False, note="ignored there"), 0, False),
        (ParameterRule(), 123, True),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logprobs",
    ],
)
def test_ranges(name, rule, value, fits):
    target_row = row({name: rule})
    if fits:
        assert getattr(adapted(target_row, **{name: value}).request, name) == value
        return
    with pytest.raises(CapabilityError, match=name) as caught:
        adapted(target_row, **{name: value})
    assert f"{name}={value}" in caught.value.missing["acme:llama-4-scout"]


def test_a_knob_that_was_not_set_is_not_judged():
    adapted(row({"temperature": ParameterRule(supported=False)}))


def test_the_reason_is_told():
    with pytest.raises(CapabilityError, match="ignored there"):
        adapted(row({"top_k": ParameterRule(supported=False, note="ignored there")}), top_k=4)


@pytest.mark.parametrize(("count", "fits"), [(4, True), (5, False)])
def test_stop_sequences_are_counted(count: int, fits: bool):
    target_row = row({"stop": ParameterRule(maximum=4)})
    stop = tuple("abcdef"[:count])
    if fits:
        assert adapted(target_row, stop=stop).request.stop == stop
    else:
        with pytest.raises(CapabilityError, match="stop"):
            adapted(target_row, stop=stop)


@pytest.mark.parametrize(("value", "fits"), [(None, True), (False, True), (True, False)])
def test_parallel_tool_calls(value, fits):
    target_row = row({"parallel_tool_calls": ParameterRule(supported=False, note="one at a time")})
    if fits:
        adapted(target_row, parallel_tool_calls=value)
    else:
        with pytest.raises(CapabilityError, match="one at a time"):
            adapted(target_row, parallel_tool_calls=value)


@pytest.mark.parametrize(("given", "sent"), [(None, 4096), (10, 10)])
def test_a_default_for_max_tokens(given, sent):
    assert adapted(row(default_max_tokens=4096), max_tokens=given).request.max_tokens == sent


def test_the_default_is_set_for_streams_too():
    assert adapted(row(default_max_tokens=4096, features={"stream": "emulate"}), stream=True).request.max_tokens == 4096


# -- a stream from a plain answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "fields"),
    [("stream", {}), ("stream_tools", {"tools": (TOOL,)}), ("stream_json_schema", {"output": SCHEMA})],
)
def test_a_stream_is_made_from_a_plain_answer(feature, fields):
    one = candidate(row=row(features={feature: "emulate"}))
    call = call_of(one, stream=True, request=fields)
    script = Script(answer(200, {"text": "Hello", "calls": [["f", {}]], "usage": [3, 4]}, seconds=2))
    reply = script.run(compose((restream, adapt, observe), exchange)(call), call.ledger)
    assert one.adapter.streamed == [False]
    assert reply.ended
    assert reply.response is None
    events = [
        e for e in drain(reply) if isinstance(e, TextDelta | ToolCallStarted | ToolCallDone | UsageReported | Finished)
    ]
    assert [type(e) for e in events] == [TextDelta, ToolCallStarted, ToolCallDone, UsageReported, Finished]
    assert events[3] == UsageReported(Usage(3, 4, 7))
    (notice,) = call.ledger.notices
    assert (notice.code, notice.feature) == ("stream_from_reply", "stream")
    assert call.ledger.first_token == 2
    assert call.ledger.attempts[0].usage == Usage(3, 4, 7)


def test_a_stream_made_from_a_plain_answer_is_retried_like_one():
    call = call_of(
        candidate(row=row(features={"stream": "emulate"})), stream=True, retry=RetryPolicy(attempts=2, base=0)
    )
    script = Script(answer(500, b"no"), sleep(), answer(200, {"text": "Hello"}))
    reply = script.run(compose((restream, adapt, retry, observe), exchange)(call), call.ledger)
    assert TextDelta("Hello") in drain(reply)


# -- tools from a schema ----------------------------------------------------------------------------------------------


def test_tools_made_up_are_told():
    one = candidate(row=row(features={"tools": "emulate"}))
    call = call_of(one, request={"tools": (TOOL,), "tool_choice": "required"})
    with pytest.raises(ProviderError):  # what becomes of the answer, the parity layer's own tests say
        Script(answer(200, {"error": 400})).run(compose((restream, adapt, observe), exchange)(call), call.ledger)
    (sent,) = one.adapter.built
    assert sent.tools == ()
    assert sent.output is not None
    assert [notice.code for notice in call.ledger.notices] == ["tools_emulated"]


def test_a_model_that_the_account_cannot_have_is_refused_with_the_reason():
    with pytest.raises(CapabilityError, match="acme:llama-4-scout: served in us-east5 only; set region"):
        adapted(row(unavailable="served in us-east5 only; set region"))
