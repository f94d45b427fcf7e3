"""Request value -> exact JSON of the body, for the dialect that most hosts take."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from llamaroute.dialects.openai_request import extra_for
from llamaroute.errors import CapabilityError, InputError
from llamaroute.providers.openai_compatible import SPEC
from llamaroute.spi import Target, WireRequest
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Document, Image, ImageData, Text, ToolCall, Video
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool
from tests.providers.wires import PNG, PNG_URL, WEATHER, WEATHER_JSON, ask, json_of, target_of, text_of

TARGET = target_of(SPEC, {"base_url": "http://host/v1"}, "m")
SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}}, strict=True)
MINIMAL = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def build(request: ChatRequest, *, stream: bool = False, target: Target = TARGET) -> WireRequest:
    return SPEC.adapter.build_request(request, target, stream=stream)


def body(request: ChatRequest, **options: Any) -> dict[str, Any]:
    return json_of(build(request, **options))


def picture(**options: Any) -> Image:
    image = Image(PNG, **options)
    image.load(ImageData.of("image/png", PNG))
    return image


def without_image_urls() -> Target:
    row = TARGET.row
    return replace(TARGET, row=row.evolve(features={**row.features, "image_url": "emulate"}))


def test_the_least_request_names_nothing_that_was_not_asked_for() -> None:
    wire = build(ask())
    assert (wire.method, wire.url) == ("POST", "http://host/v1/chat/completions")
    assert text_of(wire) == b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    assert dict(wire.headers) == {"content-type": "application/json", "accept": "application/json"}
    assert wire.warnings == ()


def test_a_stream_asks_for_usage() -> None:
    wire = build(ask(), stream=True)
    assert json_of(wire) == {**MINIMAL, "stream": True, "stream_options": {"include_usage": True}}
    assert wire.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"max_tokens": 64}, {"max_tokens": 64}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 2**62}, {"seed": 2**62}),
        ({"stop": ("END", "\n")}, {"stop": ["END", "\n"]}),
        ({"stop": ()}, {}),
        ({"frequency_penalty": -1.5}, {"frequency_penalty": -1.5}),
        ({"presence_penalty": 0.0}, {"presence_penalty": 0.0}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"parallel_tool_calls": False}, {}),  # hosts refuse it beside no tools
        ({"metadata": {"user": "u"}}, {}),
        ({"headers": {"x-a": "b"}}, {}),
    ],
    ids=str,
)
def test_parameters(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    assert body(ask(**fields)) == {**MINIMAL, **sent}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {"tool_choice": "auto"}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tool_choice": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ({"parallel_tool_calls": True}, {"tool_choice": "auto", "parallel_tool_calls": True}),
        ({"parallel_tool_calls": False}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
    ids=str,
)
def test_tools(fields: dict[str, Any], sent: dict[str, Any]) -> None:
    assert body(ask(tools=(WEATHER,), **fields)) == {**MINIMAL, "tools": [WEATHER_JSON], **sent}


def test_a_tool_choice_without_tools_is_not_sent() -> None:
    assert body(ask(tool_choice="required")) == MINIMAL


def test_two_tools_keep_their_order() -> None:
    other = Tool("other", "", {"type": "object", "properties": {}})
    sent = body(ask(tools=(other, WEATHER)))["tools"]
    assert [tool["function"]["name"] for tool in sent] == ["other", "weather"]
    assert sent[0]["function"]["parameters"] == {"type": "object", "properties": {}}


def test_a_schema() -> None:
    assert body(ask(output=SCHEMA))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "strict": True, "schema": dict(SCHEMA.schema)},
    }


CALL = ToolCall("call_1", "weather", {"city": "Oslo"}, '{"city":  "Oslo"}')
OTHER = ToolCall("call_2", "weather", {"city": "Rome"})


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (system("Be brief."), {"role": "system", "content": "Be brief."}),
        (user("a", "b"), {"role": "user", "content": "a\nb"}),
        (user("Grüße \u2028 \U0001f642"), {"role": "user", "content": "Grüße \u2028 \U0001f642"}),
        (assistant("a", "b"), {"role": "assistant", "content": "ab"}),
        (
            assistant("Let me see.", CALL),
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":  "Oslo"}'},
                    }
                ],
            },
        ),
        (  # content is never null: Cloudflare's schema has none
            assistant(CALL, OTHER),
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":  "Oslo"}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                    },
                ],
            },
        ),
        (
            tool_result(CALL, "cloudy"),
            {"role": "tool", "content": "cloudy", "tool_call_id": "call_1", "name": "weather"},
        ),
        (tool_result("call_1", "cloudy"), {"role": "tool", "content": "cloudy", "tool_call_id": "call_1"}),
    ],
)
def test_messages(message: Any, sent: dict[str, Any]) -> None:
    assert body(ChatRequest((user("Hi"), message)))["messages"][1] == sent


def test_calls_without_an_id_get_different_ones() -> None:
    message = assistant(ToolCall("", "a", {}), ToolCall("", "b", {}))
    ids = [call["id"] for call in body(ChatRequest((user("Hi"), message)))["messages"][1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(ids)


def test_dict_messages_are_sent_as_they_are() -> None:
    """Every key that a caller's OpenAI-style message has must arrive."""
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": "!"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "cloudy"},
    ]
    assert body(ask(*messages))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": "Look\n!"},
        {**messages[2], "content": ""},
        messages[3],
    ]


def test_an_image_is_spliced_in_as_a_data_url() -> None:
    image = picture()
    wire = build(ChatRequest((user("Look", image, "closely"),)))
    assert isinstance(wire.body, tuple)
    data = image.loaded()
    assert data is not None
    assert any(piece is data.base64 for piece in wire.body)  # by reference, never copied
    assert json_of(wire)["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": PNG_URL}},
                {"type": "text", "text": "closely"},
            ],
        }
    ]


def test_several_images_in_several_messages() -> None:
    wire = build(ChatRequest((user(picture(), picture(detail="high")), assistant("Ah"), user(picture()))))
    first, second, third = json_of(wire)["messages"]
    assert first["content"][0] == {"type": "image_url", "image_url": {"url": PNG_URL}}
    assert first["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "high"}}
    assert second == {"role": "assistant", "content": "Ah"}
    assert third["content"] == [{"type": "image_url", "image_url": {"url": PNG_URL}}]


def test_an_image_url_is_sent_where_the_row_takes_one() -> None:
    image = Image('https://example.com/a"b.png', detail="low")
    content = body(ChatRequest((user(image),)))["messages"][0]["content"]
    assert content == [{"type": "image_url", "image_url": {"url": image.source, "detail": "low"}}]


def test_an_image_url_that_was_loaded_goes_as_data() -> None:
    image = Image("https://example.com/a.png")
    image.load(ImageData.of("image/png", PNG))
    content = body(ChatRequest((user(image),)), target=without_image_urls())["messages"][0]["content"]
    assert content == [{"type": "image_url", "image_url": {"url": PNG_URL}}]


@pytest.mark.parametrize(
    ("target", "part"),
    [
        (without_image_urls(), Image("https://example.com/a.png")),
        (TARGET, Image("a.png")),
        (TARGET, Image(PNG)),
        (TARGET, Document(b"%PDF-")),
        (TARGET, Video("clip.mp4")),
    ],
    ids=["url", "path", "bytes", "document", "video"],
)
def test_what_cannot_be_sent_is_refused(target: Target, part: Any) -> None:
    with pytest.raises(CapabilityError) as caught:
        body(ChatRequest((user("Look", part),)), target=target)
    assert list(caught.value.missing) == ["acc:m"]


def test_a_tool_result_with_an_image_keeps_the_call_it_answers() -> None:
    message = body(ChatRequest((user("Hi"), tool_result(CALL, ["a chart", picture()]))))["messages"][1]
    assert message == {
        "role": "tool",
        "tool_call_id": "call_1",
        "name": "weather",
        "content": [{"type": "text", "text": "a chart"}, {"type": "image_url", "image_url": {"url": PNG_URL}}],
    }


@pytest.mark.parametrize(
    "request_",
    [
        ask("\ud800"),
        ask(Text("a\udfffb"), picture()),
        ask(stop=("\ud800",)),
        ask(extra={"acc": {"user": "\ud800"}}),
        ask(extra={"acc": {"user": object()}}),
        ask(tools=(Tool("t", "\ud800", {}),)),
    ],
    ids=["text", "text beside an image", "stop", "extra", "object", "tool"],
)
def test_what_json_cannot_hold_is_an_input_error(request_: ChatRequest) -> None:
    with pytest.raises(InputError):
        build(request_)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_none_for_never_reach_the_wire(value: float) -> None:
    """`NaN` in a body is not JSON: either it is refused, or it is null."""
    message = assistant(ToolCall("c", "f", {"x": value}))
    for request in (ask(temperature=value), ask(extra={"acc": {"x": value}}), ChatRequest((user("Hi"), message))):
        try:
            sent = json_of(build(request))
        except InputError:
            continue
        for call in sent["messages"][-1].get("tool_calls", []):
            assert json.loads(call["function"]["arguments"], parse_constant=str) == {"x": None}


def test_extra_account_over_kind() -> None:
    extra = {
        "openai-compatible": {"top_k": 1, "options": {"a": 1, "b": {"c": 1}}, "min_p": 0.1},
        "acc": {"top_k": 2, "options": {"b": {"d": 2}}, "user": None},
        "other": {"top_k": 3},
    }
    request = ask(extra=extra, top_k=9)
    assert extra_for(request, TARGET) == {
        "top_k": 2,
        "options": {"a": 1, "b": {"c": 1, "d": 2}},
        "min_p": 0.1,
        "user": None,
    }
    before = json.dumps(extra)
    assert body(request) == {
        **MINIMAL,
        "top_k": 2,
        "options": extra_for(request, TARGET)["options"],
        "min_p": 0.1,
        "user": None,
    }
    assert json.dumps(extra) == before


def test_extra_replaces_model_messages_and_merges_into_what_the_library_wrote() -> None:
    extra = {"acc": {"model": "n", "messages": [], "stream_options": {"x": 1}, "tools": [], "max_tokens": None}}
    request = ask(extra=extra, tools=(WEATHER,), max_tokens=5)
    wire = build(request, stream=True)
    assert json_of(wire) == {
        "model": "n",
        "messages": [],
        "tools": [],
        "tool_choice": "auto",
        "max_tokens": None,
        "stream": True,
        "stream_options": {"include_usage": True, "x": 1},
    }
    assert text_of(wire).startswith(b'{"model":"n",')


def test_the_model_stands_first_so_that_routers_read_it_early() -> None:
    keys = list(body(ask(max_tokens=1, extra={"acc": {"a": 1}}), stream=True))
    assert keys[:2] == ["model", "messages"]
