"""The turns of a conversation as Llama takes them on Bedrock: each rule by itself, then any conversation at all."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.dialects.bedrock_turns import FILLER, Call, Conversation, Result, arrange
from llamaroute.errors import CapabilityError
from llamaroute.providers.bedrock import SPEC
from llamaroute.types.messages import Message, assistant, system, tool_result, user
from llamaroute.types.parts import Document, Image, Text, ToolCall, Video
from tests.providers.wires import target_of

TARGET = target_of(SPEC, {"api_key": "k", "region": "us-east-1"})
OSLO, ROME = ToolCall("a", "weather", {"city": "Oslo"}), ToolCall("b", "weather", {"city": "Rome"})
PICTURE = Image(b"\x89PNG\r\n\x1a\n")


def shown(block: Any) -> Any:
    """A block as something short to compare with."""
    match block:
        case Text(text=text):
            return text
        case Call(id=id):
            return f"{block.name}#{id}"
        case Result(id=id, parts=parts):
            return {id: [shown(part) for part in parts]}
    return block


def made(*messages: Message, tools: bool = True) -> Conversation:
    return arrange(messages, TARGET, tools=tools)


def turns(conversation: Conversation) -> list[tuple[str, list[Any]]]:
    return [(turn.role, [shown(block) for block in turn.blocks]) for turn in conversation.turns]


def codes(conversation: Conversation) -> list[str]:
    return [notice.code for notice in conversation.notices]


def test_a_plain_conversation_stays_as_it_is():
    conversation = made(system("Be brief."), user("Hi", PICTURE), assistant("Hello."), user("Bye"))
    assert conversation.system == ["Be brief."]
    assert turns(conversation) == [("user", ["Hi", PICTURE]), ("assistant", ["Hello."]), ("user", ["Bye"])]
    assert conversation.notices == []


def test_instructions_are_taken_out_wherever_they_stand():
    conversation = made(system("One."), system("  "), user("Hi"), system("Two."))
    assert conversation.system == ["One.", "Two."]
    assert turns(conversation) == [("user", ["Hi"])]
    assert codes(conversation) == ["blank_text", "system_moved"]


def test_an_assistant_may_not_begin():
    conversation = made(assistant("Welcome."), user("Hi"))
    assert turns(conversation) == [("user", [FILLER]), ("assistant", ["Welcome."]), ("user", ["Hi"])]
    assert codes(conversation) == ["turn_inserted"]


def test_neighbours_of_one_role_are_one_turn():
    conversation = made(user("a"), user("b", PICTURE), assistant("c"), assistant("d"), user("e"))
    assert turns(conversation) == [("user", ["a", "b", PICTURE]), ("assistant", ["c", "d"]), ("user", ["e"])]
    assert conversation.notices == []


def test_results_of_parallel_calls_stand_together_in_the_order_of_the_calls():
    conversation = made(user("?"), assistant(OSLO, ROME), tool_result(ROME, "sun"), tool_result(OSLO, "rain"))
    assert turns(conversation) == [
        ("user", ["?"]),
        ("assistant", ["weather#a", "weather#b"]),
        ("user", [{"a": ["rain"]}, {"b": ["sun"]}]),
    ]
    assert conversation.notices == []


def test_what_a_user_says_between_results_comes_after_them():
    """Recorded as accepted: the assistant's "." between a turn of results and the user's text."""
    conversation = made(
        user("?"), assistant(OSLO, ROME), tool_result(OSLO, "rain"), user("hurry"), tool_result(ROME, "sun"), user("up")
    )
    assert turns(conversation)[2:] == [
        ("user", [{"a": ["rain"]}, {"b": ["sun"]}]),
        ("assistant", [FILLER]),
        ("user", ["hurry", "up"]),
    ]
    assert codes(conversation) == ["turn_inserted"]


def test_calls_in_messages_of_their_own_are_parallel_ones():
    conversation = made(
        user("?"),
        assistant(OSLO),
        assistant(ROME),
        tool_result(OSLO, "rain"),
        tool_result(ROME, "sun"),
        assistant("So."),
    )
    assert turns(conversation)[1:] == [
        ("assistant", ["weather#a", "weather#b"]),
        ("user", [{"a": ["rain"]}, {"b": ["sun"]}]),
        ("assistant", ["So."]),
    ]


def test_text_beside_calls_is_left_out():
    conversation = made(user("?"), assistant("Let me see.", OSLO), tool_result(OSLO, "rain"))
    assert turns(conversation)[1] == ("assistant", ["weather#a"])
    assert codes(conversation) == ["text_beside_calls"]
    assert codes(made(user("?"), assistant("", OSLO), tool_result(OSLO, "rain"))) == []
    conversation = made(user("?"), assistant(OSLO), assistant("So."), tool_result(OSLO, "rain"))
    assert turns(conversation)[1:] == [("assistant", ["weather#a"]), ("user", [{"a": ["rain"]}])]
    assert codes(conversation) == ["text_beside_calls"]


def test_images_of_tools_stay_with_their_results():
    conversation = made(user("?"), assistant(OSLO), tool_result(OSLO, ["see", PICTURE]))
    assert turns(conversation)[2] == ("user", [{"a": ["see", PICTURE]}])


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_a_tool_that_says_nothing(empty: str):
    assert turns(made(user("?"), assistant(OSLO), tool_result(OSLO, empty)))[2] == ("user", [{"a": ["(no output)"]}])


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([user("?"), assistant(OSLO, ROME), tool_result(OSLO, "rain")], "'b' (weather)"),
        ([user("?"), assistant(OSLO)], "'a' (weather)"),
        ([user("?"), assistant(OSLO), user("hm"), assistant("So."), tool_result(OSLO, "late")], "'a'"),
        ([user("?"), tool_result("x", "rain")], "'x'"),
        ([user("?"), assistant("So."), tool_result("x", "rain")], "'x'"),
        ([user("?"), assistant(OSLO), tool_result(OSLO, "rain"), tool_result(OSLO, "rain")], "'a'"),
        ([user("?"), assistant(ToolCall("", "weather", {})), tool_result("x", "rain")], "'x'"),
    ],
)
def test_calls_and_results_that_do_not_match_are_refused_by_name(messages: list[Message], named: str):
    for tools in (True, False):
        with pytest.raises(CapabilityError, match=re.escape(named)) as caught:
            made(*messages, tools=tools)
        assert list(caught.value.missing) == [TARGET.name]


def test_calls_and_results_are_words_where_no_tools_are():
    conversation = made(
        user("?"),
        assistant("Let me see.", OSLO),
        tool_result(OSLO, ["rain", PICTURE]),
        user("Thanks."),
        assistant("Welcome."),
        tools=False,
    )
    assert turns(conversation) == [
        ("user", ["?"]),
        ("assistant", ["Let me see.", '[Called weather with {"city":"Oslo"}]']),
        ("user", ["[Result of weather]", "rain", PICTURE, "Thanks."]),
        ("assistant", ["Welcome."]),
    ]
    assert codes(conversation) == ["tools_as_text"]


def test_blank_text_is_left_out_and_blank_messages_are_no_turns():
    conversation = made(user(" ", "Hi"), assistant(" "), user("\n"), user("there"))
    assert turns(conversation) == [("user", ["Hi", "there"])]
    assert codes(conversation) == ["blank_text"]
    # A blank answer between two others does not part them: text and calls still exclude each other.
    conversation = made(user("?"), assistant("Well."), user(" "), assistant(OSLO), tool_result(OSLO, "rain"))
    assert turns(conversation)[1] == ("assistant", ["weather#a"])
    with pytest.raises(CapabilityError, match="blank"):
        made(user("  "))


@pytest.mark.parametrize(
    ("ids", "sent"),
    [
        (["tooluse_1.a:b-c"], ["tooluse_1.a:b-c"]),
        (["call/1", "call 1"], ["call_1", "call_1_2"]),
        (["x" * 80], ["x" * 64]),
        (["é"], ["_"]),
        (["same", "same"], ["same", "same_2"]),
    ],
)
def test_ids_that_bedrock_takes(ids: list[str], sent: list[str]):
    calls = [ToolCall(id, "weather", {}) for id in ids]
    results = [tool_result(call, f"r{place}") for place, call in enumerate(calls)]
    conversation = made(user("?"), assistant(*calls), *results)
    assert [block.id for block in conversation.turns[1].blocks] == sent
    assert turns(conversation)[2] == ("user", [{id: [f"r{place}"]} for place, id in enumerate(sent)])


def test_an_id_that_two_turns_share_is_told_apart():
    """Hosts that give no ids make the library number the calls of each answer from `call_0`."""
    call = ToolCall("call_0", "weather", {})
    conversation = made(
        user("?"), assistant(call), tool_result(call, "rain"), assistant(call), tool_result(call, "sun")
    )
    assert turns(conversation)[1:] == [
        ("assistant", ["weather#call_0"]),
        ("user", [{"call_0": ["rain"]}]),
        ("assistant", ["weather#call_0_2"]),
        ("user", [{"call_0_2": ["sun"]}]),
    ]


def test_names_that_bedrock_takes():
    call = ToolCall("a", "functions.weather/now", {})
    assert turns(made(user("?"), assistant(call), tool_result(call, "rain")))[1] == (
        "assistant",
        ["functions_weather_now#a"],
    )


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (user(Document(b"%PDF-1.7")), "Document"),
        (user(Video("clip.mp4")), "Video"),
        (assistant("see", PICTURE), "images in assistant messages"),
        (user("x", OSLO), "tool calls in user messages"),
        (Message("system", (PICTURE,)), "images in system messages"),
    ],
)
def test_parts_where_bedrock_does_not_take_them(message: Message, what: str):
    with pytest.raises(CapabilityError, match=what):
        made(user("?"), message, user("!"))


WORDS = st.sampled_from(["a", "b", " ", ""])
IDS = st.sampled_from(["1", "2", "x/y", ""])
CALLS = st.builds(ToolCall, IDS, st.sampled_from(["f", "g.h"]), st.just({}))
MESSAGES = st.lists(
    st.one_of(
        st.builds(user, WORDS),
        st.builds(system, WORDS),
        st.builds(lambda text, calls: assistant(text, *calls), WORDS, st.lists(CALLS, max_size=2)),
        st.builds(tool_result, IDS, WORDS),
    ),
    max_size=8,
)


@given(MESSAGES, st.booleans())
def test_whatever_comes_out_keeps_all_rules(messages: list[Message], tools: bool):
    try:
        conversation = made(*messages, tools=tools)
    except CapabilityError:
        return
    roles = [turn.role for turn in conversation.turns]
    assert roles[0] == "user"
    assert all(one != other for one, other in itertools.pairwise(roles))
    seen: set[str] = set()
    waiting: list[str] = []
    for turn in conversation.turns:
        kinds = {type(block) for block in turn.blocks}
        assert turn.blocks
        assert all(block.text.strip() for block in turn.blocks if isinstance(block, Text))
        calls = [block.id for block in turn.blocks if isinstance(block, Call)]
        results = [block.id for block in turn.blocks if isinstance(block, Result)]
        assert not (calls or results) or len(kinds) == 1
        assert results == waiting
        assert not seen & set(calls)
        assert len(calls) == len(set(calls))
        assert all(re.fullmatch(r"[a-zA-Z0-9_.:-]{1,64}", id) for id in calls)
        assert (bool(calls) and tools and turn.role == "assistant") or not calls
        assert not results or turn.role == "user"
        seen |= set(calls)
        waiting = calls
    assert waiting == []
