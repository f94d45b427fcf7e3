"""With a real, if small, model: answers that mean something."""

from __future__ import annotations

import json
from typing import Any

import pytest
from local_helpers import ask, send, soon, target_of

from llamaroute.dialects.accumulate import fold
from llamaroute.parity import forced_tools
from llamaroute.providers.local import SPEC, LocalSettings
from llamaroute.spi import WireResponse
from llamaroute.transport.local import LocalTransport
from llamaroute.types.messages import assistant, tool_result, user
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import Tool

pytestmark = [pytest.mark.smollm2]

WEATHER = Tool(
    "get_weather",
    "Weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture(scope="module")
def engine() -> Any:
    transport = LocalTransport(LocalSettings(kind="local", threads=1), account="local")
    yield transport
    transport.close()


def run(transport: LocalTransport, request: ChatRequest) -> Any:
    target = target_of(transport.engine.options)
    wire = SPEC.adapter.build_request(forced_tools.rewrite(request), target, stream=False)
    status, body = ask(transport, wire.body)
    assert status == 200, body
    parsed = SPEC.adapter.parse_response(WireResponse(status, {}, body), request, target)
    return forced_tools.unfold_response(parsed, request)


def stream(transport: LocalTransport, request: ChatRequest) -> Any:
    target = target_of(transport.engine.options)
    wire = SPEC.adapter.build_request(forced_tools.rewrite(request), target, stream=True)
    response = transport.open(send(wire.body))
    decoder, transform = SPEC.adapter.stream_decoder(request, target), forced_tools.CallsFromJson(request)
    seen = []
    while data := response.read(soon(), "idle"):
        seen += transform.convert(decoder.feed(data))
    response.close()
    return fold([*seen, *transform.convert(decoder.close())])


@pytest.mark.parametrize("choice", ["required", "get_weather"])
@pytest.mark.parametrize("how", [run, stream])
def test_forced_tool_call(smollm2: LocalSettings, engine: LocalTransport, choice: str, how: Any) -> None:
    request = ChatRequest(
        (user("What is the weather in Paris?"),), tools=(WEATHER,), tool_choice=choice, max_tokens=60, temperature=0.0
    )
    reply = how(engine, request)
    (call,) = reply.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})
    assert reply.finish_reason == "tool_calls"


def test_answer_after_a_tool_result(smollm2: LocalSettings, engine: LocalTransport) -> None:
    request = ChatRequest(
        (user("What is the weather in Paris?"),),
        tools=(WEATHER,),
        tool_choice="required",
        max_tokens=60,
        temperature=0.0,
    )
    call = run(engine, request).tool_calls[0]
    more = (*request.messages, assistant(call), tool_result(call, "18 degrees and sunny"))
    reply = run(engine, ChatRequest(more, tools=(WEATHER,), tool_choice="none", max_tokens=40, temperature=0.0))
    assert "18" in reply.text


def test_says_something_sensible(smollm2: LocalSettings, engine: LocalTransport) -> None:
    request = ChatRequest(
        (user("What is the capital of France? Answer in one short sentence."),), max_tokens=24, temperature=0.0
    )
    reply = run(engine, request)
    assert "Paris" in reply.text
    assert json.loads(
        ask(engine, json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode(), "count")[1]
    )["input_tokens"]
