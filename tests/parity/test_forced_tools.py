"""Tools made up from a JSON schema: the request that is sent, and the answer that is read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest

from llamaroute.dialects.accumulate import fold
from llamaroute.errors import CapabilityError, InputError
from llamaroute.parity.forced_tools import CallsFromJson, rewrite, unfold, unfold_response
from llamaroute.spi import AnswerMeta, DecoderEvent
from llamaroute.types.events import Finished, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted, UsageReported
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Image, Text, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse, Usage
from llamaroute.types.tools import JsonSchema, Tool

WEATHER = Tool(
    "get_weather",
    "Weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TIME = Tool("get_time", "The time", {})
CALL = '{"name": "get_weather", "arguments": {"city": "Paris"}}'


def request(choice: str = "required", *tools: Tool, **more: Any) -> ChatRequest:
    return ChatRequest((user("Weather in Paris?"),), tools=tools or (WEATHER, TIME), tool_choice=choice, **more)


def accepted(changed: ChatRequest, value: Any) -> bool:
    return jsonschema.Draft202012Validator(changed.output.schema).is_valid(value)


def stream(pieces: Iterable[str], asked: ChatRequest, reason: str = "stop") -> list[DecoderEvent]:
    transform = CallsFromJson(asked)
    events: list[DecoderEvent] = [AnswerMeta("x")]
    for piece in pieces:
        events += transform.convert([TextDelta(piece)])
    return [*events, *transform.convert([UsageReported(Usage(1, 2, 3)), Finished(reason, reason)])]


def plain(text: str, reason: str = "stop") -> ChatResponse[Any]:
    return ChatResponse[Any](text=text, parts=(Text(text),), finish_reason=reason, raw_finish_reason=reason)


# -- the request ------------------------------------------------------------------------------------------------------


def test_required_allows_nothing_but_calls() -> None:
    changed = rewrite(request("required", parallel_tool_calls=True))
    assert (changed.tools, changed.tool_choice, changed.parallel_tool_calls) == ((), "auto", None)
    assert accepted(changed, {"name": "get_weather", "arguments": {"city": "Paris"}})
    assert accepted(changed, {"name": "get_time", "arguments": {}})
    for wrong in (
        {"name": "get_weather", "arguments": {}},
        {"name": "other", "arguments": {}},
        {"reply": "Hi"},
        {"name": "get_time", "arguments": {}, "more": 1},
        "text",
    ):
        assert not accepted(changed, wrong)


def test_a_named_tool_is_the_only_one() -> None:
    changed = rewrite(request("get_time"))
    assert accepted(changed, {"name": "get_time", "arguments": {}})
    assert not accepted(changed, {"name": "get_weather", "arguments": {"city": "Paris"}})
    assert "get_weather" not in changed.messages[0].text
    with pytest.raises(InputError, match="get_weather, get_time"):
        rewrite(request("nothing"))


def test_auto_may_reply() -> None:
    changed = rewrite(request("auto"))
    assert accepted(changed, {"reply": "Hi"})
    assert accepted(changed, {"name": "get_time", "arguments": {}})
    assert not accepted(changed, {"reply": 1})


def test_none_and_no_tools_only_change_the_history() -> None:
    call = ToolCall("1", "get_weather", {"city": "Paris"}, '{"city":"Paris"}')
    history = (user("Weather?"), assistant(call), tool_result(call, "18 degrees"))
    for asked in (ChatRequest(history), ChatRequest(history, tools=(WEATHER,), tool_choice="none")):
        changed = rewrite(asked)
        assert (changed.output, changed.tools) == (None, ())
        assert [message.role for message in changed.messages] == ["user", "assistant", "user"]
        assert unfold_response(plain(CALL), asked).text == CALL


def test_instructions_join_the_system_message() -> None:
    changed = rewrite(request("required").evolve(messages=(system("Be brief."), user("Hi"))))
    assert [message.role for message in changed.messages] == ["system", "user"]
    text = changed.messages[0].text
    assert text.startswith("Be brief.\n\n")
    assert "Weather in a city" in text
    assert [message.role for message in rewrite(request()).messages] == ["system", "user"]


def test_earlier_calls_and_results_become_turns() -> None:
    first = ToolCall("1", "get_weather", {"city": "Paris"})
    second = ToolCall("2", "get_time", {})
    picture = Image(b"x")
    changed = rewrite(
        request().evolve(
            messages=(
                user("Both?"),
                assistant("Well.", first, second),
                tool_result(first, ["18 degrees", picture]),
                tool_result("2", "noon"),
                user("And?"),
            )
        )
    )
    said, results = changed.messages[2], changed.messages[3]
    assert said.text == 'Well.Let me call get_weather({"city":"Paris"}).Let me call get_time().'
    assert not said.tool_calls
    assert results.role == "user"
    assert results.text == "The result of get_weather is: 18 degrees\nThe result of get_time is: noon"
    assert results.images == (picture,)
    assert changed.messages[4] == user("And?")


def test_definitions_move_to_the_root() -> None:
    def tree(name: str, leaf: str) -> Tool:
        node = {
            "type": "object",
            "properties": {"v": {"type": leaf}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["v"],
        }
        schema = {"type": "object", "properties": {"root": {"$ref": "#/$defs/Node"}}, "required": ["root"]}
        return Tool(name, "", {**schema, "$defs": {"Node": node}})

    changed = rewrite(request("required", tree("a", "string"), tree("b", "integer")))
    assert accepted(changed, {"name": "a", "arguments": {"root": {"v": "x", "next": {"v": "y"}}}})
    assert accepted(changed, {"name": "b", "arguments": {"root": {"v": 1, "next": None}}})
    assert not accepted(changed, {"name": "b", "arguments": {"root": {"v": "x"}}})
    assert not accepted(changed, {"name": "a", "arguments": {"root": {"v": "x", "next": {"v": 1}}}})


def test_output_and_tools_together_are_refused() -> None:
    with pytest.raises(CapabilityError):
        rewrite(request(output=JsonSchema("x", {"type": "object"})))


# -- the answer -------------------------------------------------------------------------------------------------------


def test_a_call() -> None:
    (call,) = unfold(CALL, request())
    assert call == ToolCall("call_0", "get_weather", {"city": "Paris"}, '{"city":"Paris"}')
    response = unfold_response(plain(CALL), request())
    assert (response.tool_calls, response.text, response.finish_reason) == ((call,), "", "tool_calls")
    assert response.raw_finish_reason == "stop"
    assert response.warnings == ()


def test_a_call_in_a_stream() -> None:
    *_, started, delta, done, usage, finished = stream(CALL, request())
    assert started == ToolCallStarted(0, "call_0", "get_weather")
    assert delta == ToolCallDelta(0, '{"city":"Paris"}')
    assert isinstance(done, ToolCallDone)
    assert isinstance(usage, UsageReported)
    assert finished == Finished("tool_calls", "stop")


REPLIES = [
    '{"reply": "Hello"}',
    '{"reply":""}',
    ' {\n "reply" : "a \\"quoted\\" \\\\ \\n line\\u00e9 \\ud83d\\ude00 \\/ end" }',
    '{"reply": "raw é 😀 \n and tab\t"}',
    '{"reply": "half \\ud83d alone, \\udc00 too \\ud83d\\n"}',
    '{"reply": "odd \\x escape"}',
    '{"reply": "cut off',
    '{"reply": "cut in an escape \\',
    '{"reply": "cut in an escape \\u00',
    '{"reply": "cut in a pair \\ud83d',
    '{"reply": "cut in a pair \\ud83d\\ude',
    '{"reply',
    CALL,
    CALL[:-1],
    '{"name": "other", "arguments": {}}',
    '{"name": ["x"], "arguments": 3}',
    "[1, 2]",
    "plain prose",
    "",
]


@pytest.mark.parametrize("text", REPLIES)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_every_split_gives_the_plain_answer(text: str, choice: str) -> None:
    asked = request(choice)
    whole = unfold_response(plain(text, "length"), asked)
    for pieces in (list(text), *([text[:cut], text[cut:]] for cut in range(len(text) + 1))):
        events = stream((piece for piece in pieces if piece), asked, "length")
        folded = fold(events)
        assert (folded.text, folded.parts, folded.tool_calls) == (whole.text, whole.parts, whole.tool_calls)
        assert (folded.finish_reason, folded.warnings) == (whole.finish_reason, whole.warnings)
        assert isinstance(events[-1], Finished)
        folded.text.encode()  # half a surrogate pair would not go through


@pytest.mark.parametrize("text", REPLIES[:4])
def test_a_whole_reply_is_what_json_says(text: str) -> None:
    expected = json.loads(text, strict=False)["reply"]
    assert "".join(part.text for part in unfold(text, request("auto"))) == expected


def test_a_reply_comes_as_it_is_written() -> None:
    transform = CallsFromJson(request("auto"))
    pieces = ('{"rep', 'ly": "On', "ce upon", ' a time"}')
    said = [[event.text for event in transform.convert([TextDelta(piece)])] for piece in pieces]
    assert said == [[], ["On"], ["ce upon"], [" a time"]]


def test_a_call_that_was_cut_is_text_with_a_notice() -> None:
    events = stream([CALL[:30]], request(), "length")
    assert TextDelta(CALL[:30]) in events
    assert events[-1] == Finished("length", "length")
    assert fold(events).warnings[0].code == "tool_call_malformed"
    response = unfold_response(plain(CALL[:30], "length"), request())
    assert (response.text, response.finish_reason) == (CALL[:30], "length")
    assert response.warnings[0].code == "tool_call_malformed"


def test_a_reply_where_none_was_allowed_is_malformed() -> None:
    response = unfold_response(plain('{"reply": "Hi"}'), request("required"))
    assert response.text == '{"reply": "Hi"}'
    assert response.warnings[0].code == "tool_call_malformed"
