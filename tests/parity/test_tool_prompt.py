"""Tools described in the prompt, and conversations with calls as text: what is written can be read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.wires import ask

from llamaroute.parity.json_output import as_tool, from_tool, in_prompt
from llamaroute.parity.tool_prompt import history, instructed, pythonic, rewrite
from llamaroute.parity.tool_text import ToolText
from llamaroute.types.events import TextDelta, ToolCallDone
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Text, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse
from llamaroute.types.tools import JsonSchema, Tool

WEATHER = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool("get_time", "The time.", {"type": "object", "properties": {}})
CALL = ToolCall("call_1", "weather", {"city": "Oslo"})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def system_text(request: ChatRequest) -> str:
    assert request.messages[0].role == "system"
    return request.messages[0].text


def test_the_system_message_describes_the_tools() -> None:
    changed = rewrite(ask(system("Be brief."), user("Hi"), tools=(WEATHER, TIME)))
    text = system_text(changed)
    assert text.startswith("Be brief.\n\n")
    assert '"weather"' in text
    assert '"get_time"' in text
    assert '[weather(city="...")]' in text
    assert (changed.tools, changed.tool_choice) == ((), "auto")
    assert [message.role for message in changed.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("choice", "there", "absent"), [("required", "get_time", "!"), ("weather", "weather", "get_time")]
)
def test_a_choice_is_said(choice: str, there: str, absent: str) -> None:
    text = system_text(rewrite(ask("Hi", tools=(WEATHER, TIME), tool_choice=choice)))
    assert there in text
    assert absent not in text
    assert "Answer by calling" in text


def test_tools_that_may_not_be_called_are_not_described() -> None:
    changed = rewrite(ask("Hi", tools=(WEATHER,), tool_choice="none"))
    assert [message.role for message in changed.messages] == ["user"]


def test_earlier_calls_and_results_become_text() -> None:
    turns = history(
        (
            user("Weather?"),
            assistant("Let me see.", CALL, ToolCall("call_2", "get_time", {})),
            tool_result(CALL, "cloudy"),
            tool_result("call_2", "12:00"),
            user("Thanks"),
        )
    )
    assert [message.role for message in turns] == ["user", "assistant", "user", "user"]
    assert turns[1].text == 'Let me see.\n[weather(city="Oslo"), get_time()]'
    assert "weather returned: " in turns[2].text
    assert "get_time returned: " in turns[2].text
    assert not any(message.tool_calls for message in turns)


def test_a_conversation_without_calls_is_left_alone() -> None:
    messages = (user("Hi"), assistant("Hello"))
    assert history(messages) is messages


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), json_values, max_size=4))
def test_what_is_written_reads_the_same(arguments: dict[str, Any]) -> None:
    tool = Tool("weather", "", {"type": "object", "properties": {}})
    reader = ToolText((tool,))
    events = [*reader.feed(pythonic([ToolCall("", "weather", arguments)])), *reader.end()]
    calls = [event.call for event in events if isinstance(event, ToolCallDone)]
    assert [(call.name, call.arguments) for call in calls] == [("weather", arguments)]
    assert not any(isinstance(event, TextDelta) for event in events)


@pytest.mark.parametrize(("choice", "tools"), [("required", 2), ("weather", 1)])
def test_a_host_with_tools_is_told_in_words(choice: str, tools: int) -> None:
    changed = instructed(ask("Hi", tools=(WEATHER, TIME), tool_choice=choice))
    assert changed.tool_choice == "auto"
    assert len(changed.tools) == tools
    assert "calling" in system_text(changed)


SCHEMA = JsonSchema("invoice", {"type": "object", "properties": {"total": {"type": "number"}}})


def test_a_schema_in_the_prompt() -> None:
    changed = in_prompt(ask("Read it", output=SCHEMA))
    assert changed.output is None
    assert '"total"' in system_text(changed)
    assert "Unless you call a tool" in system_text(in_prompt(ask("Read it", output=SCHEMA, tools=(WEATHER,))))


def test_a_schema_as_a_tool() -> None:
    changed = as_tool(ask("Read it", output=SCHEMA))
    assert (changed.output, changed.tool_choice) == (None, "invoice")
    assert [(tool.name, tool.schema) for tool in changed.tools] == [("invoice", SCHEMA.schema)]
    call = ToolCall("x", "invoice", {"total": 3}, '{"total": 3}')
    answered: ChatResponse[Any] = ChatResponse(parts=(call,), tool_calls=(call,), finish_reason="tool_calls")
    read = from_tool(answered, "invoice")
    assert (read.text, read.tool_calls, read.finish_reason) == ('{"total":3}', (), "stop")
    words: ChatResponse[Any] = ChatResponse(text="No.", parts=(Text("No."),))
    assert from_tool(words, "invoice") is words
