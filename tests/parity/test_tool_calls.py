"""Calls in text become calls, beside the host's own, in streams and whole answers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.providers.wires import ask

from llamaroute.dialects.accumulate import fold
from llamaroute.parity.tool_calls import CallsFromText, read_calls
from llamaroute.spi import DecoderEvent
from llamaroute.types.events import Finished, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted, UsageReported
from llamaroute.types.parts import Text, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse, Usage
from llamaroute.types.tools import Tool

WEATHER = Tool(
    "weather",
    "",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
LEAK = '[weather(city="Oslo", days="3")]'
ASKED: ChatRequest = ask(tools=(WEATHER,))


def native(index: int, arguments: str = '{"city": "Rome"}') -> list[DecoderEvent]:
    call = ToolCall(f"id{index}", "weather", {"city": "Rome"}, arguments)
    return [ToolCallStarted(index, call.id, "weather"), ToolCallDelta(index, arguments), ToolCallDone(index, call)]


def converted(*events: DecoderEvent, target: str = "acme:m", reason: Any = "stop") -> list[DecoderEvent]:
    end = [UsageReported(Usage(1, 2, 3)), Finished(reason, reason)]
    return list(CallsFromText(ASKED, target).convert([*events, *end]))


def texts(pieces: Sequence[str]) -> list[DecoderEvent]:
    return [TextDelta(piece) for piece in pieces]


@pytest.mark.parametrize("pieces", [[LEAK], list(LEAK), [LEAK[:7], LEAK[7:]]])
def test_a_call_in_text(pieces: list[str]) -> None:
    events = converted(*texts(pieces))
    response = fold(events)
    assert response.text == ""
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("weather", {"city": "Oslo", "days": 3})]
    assert response.finish_reason == "tool_calls"
    assert [notice.code for notice in response.warnings] == ["tool_calls_from_text"]
    assert [type(event) for event in events[-2:]] == [UsageReported, Finished], "usage and end stay last"


def test_a_stream_and_a_whole_answer_agree() -> None:
    for text in (LEAK, f"Let me see.\n{LEAK}", "Just words.", f"{LEAK}\n", "[1, 2]"):
        whole: ChatResponse[Any] = ChatResponse(text=text, parts=(Text(text),), finish_reason="stop")
        read = read_calls(whole, ASKED, "acme:m")
        streamed = fold(converted(*texts(list(text))))
        assert (read.tool_calls, read.finish_reason) == (streamed.tool_calls, streamed.finish_reason)
        assert read.text.strip() == streamed.text.strip()
        assert read.warnings == streamed.warnings


def test_words_pass_event_by_event() -> None:
    pieces = texts(["Hello", " there", ", you"])
    transform = CallsFromText(ASKED, "acme:m")
    assert list(transform.convert(pieces)) == pieces


def test_calls_of_the_hosts_own_keep_their_ids_and_are_numbered_along() -> None:
    events = converted(*texts([f"{LEAK}\n"]), *native(0), *native(1))
    started = [event for event in events if isinstance(event, ToolCallStarted)]
    assert [(event.index, event.id) for event in started] == [(0, "call_0"), (1, "id0"), (2, "id1")]
    response = fold(events)
    assert [call.arguments["city"] for call in response.tool_calls] == ["Oslo", "Rome", "Rome"]


def test_text_that_was_held_back_stands_before_a_call() -> None:
    events = converted(TextDelta("Look: [weather("), *native(0))
    assert [type(event) for event in events[:3]] == [TextDelta, TextDelta, ToolCallStarted]
    assert fold(events).text == "Look: [weather("


def test_where_calls_in_text_were_asked_for_nobody_is_told() -> None:
    assert fold(converted(TextDelta(LEAK), target="")).warnings == ()


@pytest.mark.parametrize(("reason", "expected"), [("stop", "tool_calls"), ("length", "length")])
def test_a_cut_answer_stays_a_cut_answer(reason: str, expected: str) -> None:
    assert fold(converted(TextDelta(LEAK), reason=reason)).finish_reason == expected


def test_a_call_that_does_not_fit_says_why() -> None:
    response = fold(converted(TextDelta("[weather(days=1)]")))
    assert response.tool_calls[0].error is not None
    assert "city" in response.tool_calls[0].error


def test_a_whole_answer_without_calls_is_the_same_object() -> None:
    whole: ChatResponse[Any] = ChatResponse(text="Hi", parts=(Text("Hi"),))
    assert read_calls(whole, ASKED, "acme:m") is whole
