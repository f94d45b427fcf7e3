"""Converse: bodies as they are sent, whole answers and event streams as they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.dialects.bedrock_converse import ConverseDecoder, exception_name
from llamaroute.providers.bedrock import SPEC
from llamaroute.spi import RawPayload, Target, WireResponse
from llamaroute.types.events import Finished, ReasoningDelta, TextDelta, ToolCallDone, UsageReported
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Image, ImageData, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool
from tests.providers.bedrock.frames import end, error, event, exception, frame, start, stop, text
from tests.providers.bedrock.samples import plain
from tests.providers.wires import PNG, WEATHER, answer, ask, json_of, target_of

TARGET = target_of(SPEC, {"api_key": "k", "region": "us-east-1"}, "llama-4-maverick")
CALL = ToolCall("a", "weather", {"city": "Oslo"})
SPEC_OF_WEATHER = {
    "toolSpec": {"name": "weather", "description": "Weather forecast.", "inputSchema": {"json": dict(WEATHER.schema)}}
}


def loaded(data: bytes = PNG, media_type: str = "image/png") -> Image:
    image = Image(data)
    image.load(ImageData.of(media_type, data))
    return image


def sent(request: ChatRequest, target: Target = TARGET, *, stream: bool = False) -> dict[str, Any]:
    return json_of(SPEC.adapter.build_request(request, target, stream=stream))


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_question():
    assert sent(ask()) == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def test_instructions_and_knobs():
    request = ask(system("Be brief."), user("Hi"), max_tokens=64, temperature=0.5, top_p=0.9, stop=("END", "STOP"))
    assert sent(request) == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "STOP"]},
    }


def test_a_conversation_with_tools():
    """The shape that was recorded as accepted by Maverick, in
    pydantic/pydantic-ai:.../test_bedrock_llama_tool_result_followed_by_text_accepted.yaml"""
    request = ask(user("?"), assistant("Well.", CALL), tool_result(CALL, "rain"), user("And?"), tools=(WEATHER,))
    wire = SPEC.adapter.build_request(request, TARGET, stream=False)
    assert json_of(wire) == {
        "messages": [
            {"role": "user", "content": [{"text": "?"}]},
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "a", "name": "weather", "input": CALL.arguments}}],
            },
            {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "rain"}]}}]},
            {"role": "assistant", "content": [{"text": "."}]},
            {"role": "user", "content": [{"text": "And?"}]},
        ],
        "toolConfig": {"tools": [SPEC_OF_WEATHER]},
    }
    assert [notice.code for notice in wire.warnings] == ["text_beside_calls", "turn_inserted"]


def test_a_tool_without_a_description_has_none():
    tool = Tool("now", "", {"type": "object", "properties": {}})
    assert sent(ask(tools=(tool,)))["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "now", "inputSchema": {"json": dict(tool.schema)}}}]
    }


def test_tools_that_may_not_be_called_are_not_sent():
    request = ask(user("?"), assistant(CALL), tool_result(CALL, "rain"), tools=(WEATHER,), tool_choice="none")
    body = sent(request)
    assert "toolConfig" not in body
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [{"text": '[Called weather with {"city":"Oslo"}]'}]},
        {"role": "user", "content": [{"text": "[Result of weather]"}, {"text": "rain"}]},
    ]


@pytest.mark.parametrize(
    ("choice", "config"), [("required", {"any": {}}), ("weather", {"tool": {"name": "weather"}}), ("auto", None)]
)
def test_the_choice_of_a_tool_is_sent_only_where_the_row_says_so(choice: Any, config: Any):
    forced = target_of(SPEC, {"api_key": "k", "features": {"forced_tools": "native"}})
    assert sent(ask(tools=(WEATHER,), tool_choice=choice), forced)["toolConfig"].get("toolChoice") == config
    if config is not None:
        with pytest.raises(errors.CapabilityError, match="forced tool"):
            sent(ask(tools=(WEATHER,), tool_choice=choice))


def test_a_schema_is_sent_only_where_the_row_says_so():
    schema = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})
    native = target_of(SPEC, {"api_key": "k", "features": {"json_schema": "native"}})
    given = sent(ask(output=schema), native)["outputConfig"]["textFormat"]
    assert (given["type"], given["structure"]["jsonSchema"]["name"]) == ("json_schema", "city")
    assert json.loads(given["structure"]["jsonSchema"]["schema"]) == dict(schema.schema)
    with pytest.raises(errors.CapabilityError, match="JSON schema"):
        sent(ask(output=schema))


@pytest.mark.parametrize(
    "knob", [{"top_k": 3}, {"seed": 1}, {"frequency_penalty": 0.1}, {"presence_penalty": 0.0}, {"logprobs": 0}], ids=str
)
def test_knobs_that_converse_has_no_place_for(knob: dict[str, Any]):
    """Also for a model that the catalogue does not know, and so has no rules for."""
    for target in (TARGET, target_of(SPEC, {"api_key": "k"}, "us.acme.other-v1:0")):
        with pytest.raises(errors.CapabilityError, match=next(iter(knob))):
            sent(ask(**knob), target)


def test_one_call_at_a_time_cannot_be_asked_for():
    with pytest.raises(errors.CapabilityError, match="parallel_tool_calls"):
        sent(ask(tools=(WEATHER,), parallel_tool_calls=False))
    assert sent(ask(tools=(WEATHER,), parallel_tool_calls=True)) == sent(ask(tools=(WEATHER,)))
    assert sent(ask(parallel_tool_calls=False)) == sent(ask())


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_images_have_the_format_of_their_bytes(kind: str):
    body = sent(ask("What?", loaded(b"\x00\xff", f"image/{kind}")))
    assert body["messages"][0]["content"] == [
        {"text": "What?"},
        {"image": {"format": kind, "source": {"bytes": "AP8="}}},
    ]


def test_the_detail_of_images_is_left_out():
    image = Image(PNG, detail="low")
    image.load(ImageData.of("image/png", PNG))
    wire = SPEC.adapter.build_request(ask("What?", image), TARGET, stream=False)
    assert json_of(wire) == sent(ask("What?", loaded()))
    assert [notice.code for notice in wire.warnings] == ["image_detail"]


def test_images_in_results():
    request = ask(user("?"), assistant(CALL), tool_result(CALL, ["see", loaded()]), tools=(WEATHER,))
    assert sent(request)["messages"][2]["content"][0]["toolResult"]["content"] == [
        {"text": "see"},
        {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
    ]


def test_an_image_is_never_copied():
    image = loaded(b"\x89PNG\r\n\x1a\n" + bytes(1 << 20))
    data = image.loaded()
    assert data is not None
    wire = SPEC.adapter.build_request(ask("What?", image), TARGET, stream=False)
    assert isinstance(wire.body, tuple)
    assert any(part is data.base64 for part in wire.body)


def test_other_media_types_are_refused():
    with pytest.raises(errors.CapabilityError, match="image/bmp"):
        sent(ask("What?", loaded(b"BM", "image/bmp")))


def test_extra_has_the_last_word():
    extra = {"bedrock": {"additionalModelRequestFields": {"top_k": 3}, "inferenceConfig": {"topP": 0.1}}}
    body = sent(ask(max_tokens=5, extra=extra))
    assert body["additionalModelRequestFields"] == {"top_k": 3}
    assert body["inferenceConfig"] == {"maxTokens": 5, "topP": 0.1}


def test_what_is_no_json():
    odd = ToolCall("a", "weather", {"x": object()})
    history = (user("?"), assistant(odd), tool_result(odd, "rain"))
    for request in (
        ask(extra={"bedrock": {"x": object()}}),
        ask(*history, tools=(WEATHER,)),
        ask(*history),
        ask("\ud800"),
        ask(tools=(Tool("f", "", {"x": object()}),)),
    ):
        with pytest.raises(errors.InputError, match="JSON"):
            sent(request)


# -- what is read ------------------------------------------------------------------------------------------------------


def read(body: bytes, size: int = 0) -> list[Any]:
    """All events, and the error that ended them."""
    decoder = ConverseDecoder(TARGET, SPEC.adapter.map_error)
    events: list[Any] = []
    try:
        for at in range(0, len(body), size or len(body) or 1):
            events.extend(decoder.feed(body[at : at + (size or len(body))]))
        events.extend(decoder.close())
    except errors.ProviderError as raised:
        events.append(raised)
    return events


def parsed(body: bytes) -> Any:
    return SPEC.adapter.parse_response(answer(body), ask(), TARGET)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "unknown"),
        ("malformed_tool_use", "unknown"),
        ("of_a_later_day", "unknown"),
    ],
)
def test_why_it_ended(word: str, reason: str):
    for response in (parsed(plain([{"text": "x"}], word)), fold(read(start() + text("x") + end(word)))):
        assert (response.finish_reason, response.raw_finish_reason, response.text) == (reason, word, "x")
        assert [notice.code for notice in response.warnings] == ["malformed_answer"] * word.startswith("malformed")


def test_an_answer_with_calls_ends_with_them():
    use = {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Oslo"}}}
    response = parsed(plain([use], "end_turn"))
    assert response.finish_reason == "tool_calls"
    assert response.tool_calls == (ToolCall("a", "weather", {"city": "Oslo"}, '{"city":"Oslo"}'),)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [({}, {}), (None, {}), ({"n": "3"}, {"n": "3"}), ('{"a": 1}', {"a": 1}), ({"ä": [1, None]}, {"ä": [1, None]})],
)
def test_arguments_are_an_object(given: Any, arguments: dict[str, Any]):
    (call,) = parsed(plain([{"toolUse": {"toolUseId": "a", "name": "f", "input": given}}], "tool_use")).tool_calls
    assert (call.arguments, call.error) == (arguments, None)


def test_usage():
    raw = {
        "inputTokens": 5,
        "outputTokens": 2,
        "totalTokens": 17,
        "cacheReadInputTokens": 7,
        "cacheWriteInputTokens": 3,
    }
    usage = parsed(plain([{"text": "x"}], usage=raw)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cached_tokens) == (15, 2, 17, 7)
    assert usage.raw == raw
    assert parsed(plain([{"text": "x"}], usage={"inputTokens": "5", "outputTokens": None})).usage.total_tokens == 0
    assert parsed(plain([{"text": "x"}], usage={})).usage.estimated


def test_a_stream():
    body = start() + text("Os") + text("") + text("lo") + stop() + end()
    events = read(body)
    assert [type(event) for event in events] == [TextDelta, TextDelta, RawPayload, RawPayload, UsageReported, Finished]
    assert fold(events).text == "Oslo"
    assert all(read(body, size) == events for size in (1, 7, 64))


def test_reasoning_is_kept_apart():
    body = start() + event(
        "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}
    )
    assert read(body + text("x", 1) + end())[:2] == [ReasoningDelta("Hm."), TextDelta("x")]


def test_a_call_without_arguments():
    started = event(
        "contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"name": "now", "toolUseId": "a"}}}
    )
    done = [event for event in read(start() + started + stop() + end("tool_use")) if isinstance(event, ToolCallDone)]
    assert done == [ToolCallDone(0, ToolCall("a", "now", {}))]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "without messageStop"),
        (start(), "without messageStop"),
        (start() + text("x") + stop(), "without messageStop"),
        (start() + text("x") + event("messageStop", {"stopReason": "end_turn"}), "without metadata"),
        (start() + text("x") + end()[:-1], "ends inside a message"),
        (start() + text("x") + end() + b"\x00\x00", "ends inside a message"),
    ],
    ids=["nothing", "start", "text", "finish", "half a frame", "a frame begun after the end"],
)
def test_a_stream_that_was_cut_off(body: bytes, what: str):
    """botocore's reader ends such a stream without a word: see tests/oracle/test_bedrock.py."""
    raised = read(body)[-1]
    assert type(raised) is errors.ProtocolError
    assert raised.retryable
    assert what in str(raised)


def test_the_order_of_the_last_two_events_does_not_matter():
    finish = event("messageStop", {"stopReason": "end_turn"})
    usage = event("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}})
    assert fold(read(start() + text("x") + usage + finish)).usage.total_tokens == 3
    assert fold(read(start() + text("x") + finish + usage)).usage.total_tokens == 3


def test_a_broken_frame():
    body = start() + text("x") + end()
    at = len(start()) + len(text("x")) - 6
    events = read(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
    assert [type(event) for event in events] == [errors.ProtocolError]
    assert "checksum" in str(events[0])


@pytest.mark.parametrize(
    ("name", "cls", "status"),
    [
        ("internalServerException", errors.ServerError, 500),
        ("modelStreamErrorException", errors.ServerError, 424),
        ("validationException", errors.InvalidRequestError, 400),
        ("throttlingException", errors.RateLimitError, 429),
        ("serviceUnavailableException", errors.OverloadedError, 503),
        ("modelTimeoutException", errors.TimeoutError, 408),
        ("accessDeniedException", errors.PermissionDeniedError, 403),
        ("exceptionOfALaterDay", errors.ServerError, 500),
    ],
)
def test_exceptions_inside_a_stream(name: str, cls: type[errors.ProviderError], status: int):
    events = read(start() + text("x") + exception(name, "It broke.") + text("y"))
    assert events[:-1] == [TextDelta("x")]
    raised = events[-1]
    assert type(raised) is cls
    assert (raised.status, raised.code) == (status, name[0].upper() + name[1:])
    assert (raised.args[0], raised.raw) == ("It broke.", {"message": "It broke."})


@pytest.mark.parametrize(
    ("code", "cls"), [("ThrottlingException", errors.RateLimitError), ("InternalError", errors.ServerError)]
)
def test_errors_inside_a_stream(code: str, cls: type[errors.ProviderError]):
    raised = read(start() + error(code, "It broke."))[-1]
    assert type(raised) is cls
    assert (raised.code, raised.args[0]) == (code, "It broke.")


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b"\xff"])
def test_events_that_are_no_objects(payload: bytes):
    headers = {":event-type": "contentBlockDelta", ":message-type": "event"}
    assert type(read(frame(headers, payload))[-1]) is errors.ProtocolError


@pytest.mark.parametrize(
    ("body", "cls"),
    [
        (b"[]", errors.ProtocolError),
        (b"<html>", errors.ProtocolError),
        (b'{"choices": []}', errors.ProtocolError),
        (b'{"message": "It broke."}', errors.ServerError),
        (b'{"__type": "com.amazon.coral.service#ThrottlingException", "message": "slow"}', errors.RateLimitError),
    ],
)
def test_bodies_that_are_no_answers(body: bytes, cls: type[errors.ProviderError]):
    with pytest.raises(cls) as caught:
        parsed(body)
    assert type(caught.value) is cls
    assert caught.value.raw is not None


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({"x-amzn-errortype": "ValidationException"}, b"", "ValidationException"),
        ({"x-amzn-errortype": "ValidationException:http://internal.amazon.com/coral/x/"}, b"", "ValidationException"),
        ({}, b'{"__type": "com.amazon.coral.service#ExpiredTokenException"}', "ExpiredTokenException"),
        ({}, b'{"__type": "ExpiredTokenException:"}', "ExpiredTokenException"),
        ({}, b'{"__type": 3}', ""),
        ({}, b'"__type" is no JSON', ""),
        ({}, b'{"message": "no name"}', ""),
    ],
)
def test_the_name_of_an_exception(headers: dict[str, str], body: bytes, name: str):
    assert exception_name(WireResponse(400, headers, body)) == name
