"""What is left out of a history that is too long, and what never is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llamaroute as lr
from llamaroute.fitting import LEFT_OUT, Fitted, fit
from llamaroute.types.messages import Message
from llamaroute.types.parts import Image, Part, Text
from llamaroute.types.request import ChatRequest


def weigh(message: Message) -> int:
    """A token a letter, ten for anything else, one for the header."""
    return 1 + sum(len(part.text) if isinstance(part, Text) and part is not LEFT_OUT else 10 for part in message.parts)


def cut(messages: list[Message], budget: int) -> Fitted:
    return fit(ChatRequest(tuple(messages)), budget, weigh)


def call(id: str) -> lr.ToolCall:
    return lr.ToolCall(id, "look", {})


def texts(fitted: Fitted) -> str:
    return " ".join(message.text for message in fitted.request.messages)


SYSTEM = lr.system("S")
IMAGE = lr.Image("https://example.com/a.png")


def test_what_fits_is_not_touched():
    request = ChatRequest((SYSTEM, lr.user("abc")))
    fitted = fit(request, 6, weigh)
    assert fitted == Fitted(request, 6)
    assert fitted.request is request


def test_the_oldest_exchange_goes_first_and_whole():
    messages = [SYSTEM, lr.user("a1"), lr.assistant("a2"), lr.user("b1"), lr.assistant("b2"), lr.user("c")]
    assert texts(cut(messages, 15)) == "S b1 b2 c"
    assert texts(cut(messages, 9)) == "S c"
    assert cut(messages, 9).messages == 4


def test_the_system_prompt_and_the_last_user_turn_stay():
    messages = [SYSTEM, lr.user("old"), lr.assistant("old"), lr.user("long document"), lr.user("and the question")]
    fitted = cut(messages, 1)
    assert texts(fitted) == "S long document and the question"
    assert fitted.tokens > 1


def test_a_system_message_amid_the_history_stays_where_it_is():
    messages = [lr.user("old"), lr.system("rule"), lr.assistant("old"), lr.user("new")]
    assert texts(cut(messages, 1)) == "rule new"


def test_an_opening_line_of_the_models_goes_alone():
    messages = [lr.assistant("Hello, I am a llama"), lr.user("a"), lr.assistant("b"), lr.user("c")]
    assert texts(cut(messages, 6)) == "a b c"


def test_calls_go_with_their_results():
    messages = [
        lr.user("a"), lr.assistant(call("1"), call("2")), lr.tool_result(call("1"), "r"),
        lr.tool_result(call("2"), "r"), lr.assistant("done"), lr.user("b"),
    ]  # fmt: skip
    assert texts(cut(messages, 30)) == "b"


def test_tool_steps_behind_the_last_user_turn_go_oldest_first_but_the_last():
    messages = [lr.user("q")]
    for id in "123":
        messages += [lr.assistant(call(id)), lr.tool_result(call(id), f"result {id}")]
    assert texts(cut(messages, 45)).split() == ["q", "result", "2", "result", "3"]
    assert texts(cut(messages, 1)).split() == ["q", "result", "3"]


def test_a_result_that_comes_a_turn_later_keeps_the_turns_together():
    messages = [
        lr.user("a"), lr.assistant(call("1")), lr.user("wait"), lr.tool_result(call("1"), "r"), lr.assistant("x"),
        lr.user("b"),
    ]  # fmt: skip
    assert texts(cut(messages, 23)) == "b"


def test_ids_that_are_used_again_answer_the_nearest_call():
    messages = [
        lr.user("a"), lr.assistant(call("call_0")), lr.tool_result(call("call_0"), "first"), lr.assistant("x"),
        lr.user("b"), lr.assistant(call("call_0")), lr.tool_result(call("call_0"), "second"), lr.assistant("y"),
        lr.user("c"),
    ]  # fmt: skip
    assert texts(cut(messages, 26)).split() == ["b", "second", "y", "c"]


def test_pictures_of_an_old_turn_go_before_its_text():
    messages = [lr.user(IMAGE, "a"), lr.assistant("b"), lr.user(IMAGE, "c"), lr.assistant("d"), lr.user(IMAGE, "e")]
    whole = sum(map(weigh, messages))

    def light(message: Message) -> int:
        return 1 + sum(10 * isinstance(part, Image) + isinstance(part, Text) for part in message.parts)

    fitted = fit(ChatRequest(tuple(messages)), sum(map(light, messages)) - 9, light)
    assert (fitted.messages, fitted.pictures) == (0, 1)
    assert fitted.request.messages[0].parts == (LEFT_OUT, Text("a"))
    assert len(fitted.request.images) == 2
    assert len(cut(messages, whole - 11).request.images) == 2
    assert cut(messages, 13) == Fitted(ChatRequest((messages[-1],)), 12, messages=4)


def test_the_last_turns_picture_stays():
    assert cut([lr.user(IMAGE, "e")], 1).request.images == (IMAGE,)


@pytest.mark.parametrize("messages", [[], [SYSTEM], [lr.assistant("a")], [lr.tool_result("x", "y", name="z")]])
def test_odd_histories(messages: list[Message]):
    assert cut(messages, 0).request.messages == tuple(messages)


# -- for any history --------------------------------------------------------------------------------------------------

IDS = st.sampled_from("123")
PARTS = st.lists(st.text("ab", max_size=8).map(Text) | st.just(IMAGE), max_size=3)
TURNS = st.one_of(
    st.builds(lambda parts: Message("user", tuple(parts)), PARTS),
    st.builds(lambda parts: Message("assistant", tuple(parts)), PARTS),
    st.builds(lambda text: lr.system(text), st.text("s", max_size=3)),
    st.builds(lambda ids: lr.assistant(*map(call, ids)), st.lists(IDS, min_size=1, max_size=2, unique=True)),
    st.builds(lambda id, parts: lr.tool_result(call(id), parts or "r"), IDS, PARTS),
)
HISTORIES = st.lists(TURNS, max_size=14)
BUDGETS = st.integers(0, 200)


def tagged(messages: list[Message]) -> list[Message]:
    """Each message with a part of its own, by which it is known again."""
    return [Message(m.role, (*m.parts, Text(f"#{i}")), m.tool_call_id, m.name) for i, m in enumerate(messages)]


def tags(messages: tuple[Message, ...]) -> list[int]:
    return [int(message.parts[-1].text[1:]) for message in messages]  # type: ignore[union-attr]


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_the_weight_is_what_is_left(messages: list[Message], budget: int):
    fitted = cut(messages, budget)
    assert fitted.tokens == sum(map(weigh, fitted.request.messages))


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_it_fits_or_only_what_must_stay_is_left(messages: list[Message], budget: int):
    messages = [m for m in messages if m.role != "tool"]
    fitted = cut(messages, budget)
    if fitted.tokens <= budget:
        return
    kept = [m.role for m in fitted.request.messages if m.role != "system"]
    turns = "".join(role[0] for role in kept)
    assert turns == "u" * turns.count("u") + "a" * turns.count("a")
    assert turns.count("a") <= 1


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_order_system_and_last_user_turn_are_kept(messages: list[Message], budget: int):
    kept = tags(cut(messages, budget).request.messages)
    assert all(a < b for a, b in pairwise(kept))
    assert {i for i, m in enumerate(messages) if m.role == "system"} <= set(kept)
    users = [i for i, m in enumerate(messages) if m.role == "user"]
    assert set(users[-1:]) <= set(kept)
    for index in users[-1:]:
        assert messages[index] in cut(messages, budget).request.messages


def pairs(messages: list[Message]) -> list[tuple[int, int]]:
    """Each result with the nearest call before it that it answers."""
    found = []
    for index, message in enumerate(messages):
        for before in range(index - 1, -1, -1):
            if message.role == "tool" and any(c.id == message.tool_call_id for c in messages[before].tool_calls):
                found.append((before, index))
                break
    return found


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_calls_are_never_parted_from_their_results(messages: list[Message], budget: int):
    kept = set(tags(cut(messages, budget).request.messages))
    for asked, answered in pairs(messages):
        assert (asked in kept) == (answered in kept)


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_what_fits_once_is_not_cut_again(messages: list[Message], budget: int):
    once = cut(messages, budget)
    twice = fit(once.request, budget, weigh)
    if once.tokens <= budget:
        assert twice.request is once.request
        assert (twice.messages, twice.pictures) == (0, 0)
    assert twice.tokens == once.tokens


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_the_losses_are_told(messages: list[Message], budget: int):
    fitted = cut(messages, budget)

    def count(kind: type[Part] | tuple[type[Part], ...], of: tuple[Message, ...]) -> int:
        return sum(isinstance(part, kind) for message in of for part in message.parts)

    assert fitted.messages == len(messages) - len(fitted.request.messages)
    left = Counter(part is LEFT_OUT for message in fitted.request.messages for part in message.parts)
    assert fitted.pictures == left[True]


@given(messages=HISTORIES.map(tagged), budget=BUDGETS)
def test_a_larger_budget_never_loses_more(messages: list[Message], budget: int):
    small, large = (set(tags(cut(messages, b).request.messages)) for b in (budget, budget + 10))
    assert small <= large
