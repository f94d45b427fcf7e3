"""Pieces of tool calls -> whole ones, and events -> the response."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from llamaroute.dialects.accumulate import Accumulator, CallAssembler, fold
from llamaroute.spi import AnswerMeta, DecoderEvent, LogprobsReported, RawPayload
from llamaroute.types.events import (
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from llamaroute.types.parts import Text, ToolCall
from llamaroute.types.response import ChatResponse, Notice, TokenLogprob, Usage

Piece = tuple[object, str | None, str | None, str | None]


def assemble(*pieces: Piece) -> tuple[list[DecoderEvent], list[ToolCall]]:
    """All events of the pieces, and the calls at the end."""
    calls = CallAssembler()
    events = [event for piece in pieces for event in calls.piece(*piece)]
    ends = list(calls.done())
    assert list(calls.done()) == []  # once is enough
    return events + ends, [event.call for event in ends if isinstance(event, ToolCallDone)]


def call(id: str, name: str = "f", **arguments: Any) -> tuple[str, str, dict[str, Any]]:
    return id, name, arguments


@pytest.mark.parametrize(
    ("pieces", "wanted"),
    [
        # OpenAI: id and name first, then arguments under the same index
        ([(0, "a", "f", ""), (0, None, None, '{"x"'), (0, None, None, ":1}")], [call("a", x=1)]),
        ([(0, "a", "f", '{"x":1}')], [call("a", x=1)]),
        # two calls, their pieces mixed
        (
            [(0, "a", "f", None), (1, "b", "g", None), (1, None, None, '{"y":2}'), (0, None, None, '{"x":1}')],
            [call("a", x=1), call("b", "g", y=2)],
        ),
        # id and name repeated with every piece
        ([(0, "a", "f", '{"x"'), (0, "a", "f", ":1}")], [call("a", x=1)]),
        # a new id under an index that was used: a new call
        ([(0, "a", "f", '{"x":1}'), (0, "b", "f", '{"x":2}')], [call("a", x=1), call("b", x=2)]),
        ([(0, "a", "f", '{"x"'), (0, "b", "f", '{"x"'), (0, None, None, ":2}")], [("a", "f", {}), call("b", x=2)]),
        # no id at all
        ([(0, None, "f", '{"x":1}')], [call("call_0", x=1)]),
        ([(0, None, "f", "{}"), (1, None, "g", "{}")], [call("call_0"), call("call_1", "g")]),
        # arguments, or the id, before the name
        ([(0, None, None, '{"x"'), (0, "a", "f", ":1}")], [call("a", x=1)]),
        ([(0, "a", None, None), (0, None, "f", '{"x":1}')], [call("a", x=1)]),
        # no arguments: none
        ([(0, "a", "f", None)], [call("a")]),
        ([(0, "a", "f", "")], [call("a")]),
        ([(0, "a", "f", " ")], [call("a")]),
        # the null finaliser, and empty pieces
        ([(0, "a", "f", "{}"), (0, None, None, "")], [call("a")]),
        ([(0, None, None, ""), (0, None, None, None), (0, "", "", "")], []),
        # indexes that begin anywhere
        ([(3, "a", "f", "{}"), (7, "b", "g", "{}")], [call("a"), call("b", "g")]),
        # an id and arguments that never got a name are no call
        ([(0, "a", None, '{"x":1}')], []),
    ],
)
def test_calls(pieces: list[Piece], wanted: list[tuple[str, str, dict[str, Any]]]) -> None:
    events, calls = assemble(*pieces)
    assert [(c.id, c.name, c.arguments) for c in calls] == wanted
    starts = [event for event in events if isinstance(event, ToolCallStarted)]
    assert starts == [ToolCallStarted(i, id, name) for i, (id, name, _) in enumerate(wanted)]
    for index, done in enumerate(calls):
        written = "".join(e.arguments for e in events if isinstance(e, ToolCallDelta) and e.index == index)
        assert written == done.raw_arguments
    assert all(e.arguments for e in events if isinstance(e, ToolCallDelta))


def test_a_call_that_never_got_a_name_is_no_call() -> None:
    """Or the answer would finish with `tool_calls` and have none."""
    calls = CallAssembler()
    assert list(calls.piece(0, "a", None, "{}")) == []
    assert not calls
    assert list(calls.piece(0, None, "f", None)) == [ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}")]
    assert calls


@pytest.mark.parametrize(
    ("text", "error"),
    [('{"x":', "not JSON"), ("[1]", "list"), ("null", "NoneType"), ('"x"', "str"), ("f(x=1)", "not JSON")],
)
def test_bad_arguments_are_told_and_kept(text: str, error: str) -> None:
    _, (done,) = assemble((0, "a", "f", text))
    assert (done.arguments, done.raw_arguments) == ({}, text)
    assert error in (done.error or "")


def test_an_id_made_up_is_never_one_that_was_given() -> None:
    _, calls = assemble((0, "call_1", "f", "{}"), (1, None, "g", "{}"), (2, None, "h", "{}"))
    assert len({c.id for c in calls}) == 3


def test_fold_gathers_everything() -> None:
    done = ToolCall("a", "f", {"x": 1}, '{"x":1}')
    response = fold(
        [
            AnswerMeta("id-1", 1_780_000_000.0),
            Started("p:m", "m"),
            ReasoningDelta("Hm"),
            ReasoningDelta("."),
            TextDelta("Let me "),
            TextDelta("see."),
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, '{"x":1}'),
            ToolCallDone(0, done),
            TextDelta("Done."),
            LogprobsReported((TokenLogprob("Let", -0.5),)),
            LogprobsReported((TokenLogprob(" me", -0.25),)),
            RawPayload({"n": 1}),
            RawPayload({"n": 2}),
            Notice("code", "message"),
            UsageReported(Usage(1, 1, 2)),
            UsageReported(Usage(21, 6, 27)),
            Finished("tool_calls", "stop"),
        ]
    )
    assert response.id == "id-1"
    assert response.created == datetime.datetime(2026, 5, 28, 20, 26, 40, tzinfo=datetime.UTC)
    assert response.parts == (Text("Let me see."), done, Text("Done."))
    assert (response.text, response.reasoning, response.tool_calls) == ("Let me see.Done.", "Hm.", (done,))
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "stop")
    assert response.usage == Usage(21, 6, 27)  # the last one counts
    assert response.logprobs == (TokenLogprob("Let", -0.5), TokenLogprob(" me", -0.25))
    assert response.raw == [{"n": 1}, {"n": 2}]
    assert response.warnings == (Notice("code", "message"),)
    assert ChatResponse[Any].model_validate_json(response.model_dump_json()) == response


def test_fold_of_nothing() -> None:
    response = fold([])
    assert (response.text, response.parts, response.tool_calls, response.finish_reason) == ("", (), (), "unknown")
    assert response.usage == Usage(estimated=True)
    assert response.logprobs is None
    assert response.raw == []
    assert fold([], raw={"a": 1}).raw == {"a": 1}


def test_an_answer_that_breaks_off_inside_a_call() -> None:
    accumulator = Accumulator()
    for event in (TextDelta("a"), ToolCallStarted(0, "a", "f"), ToolCallDelta(0, '{"x"')):
        accumulator.add(event)
    assert accumulator.text == "a"
    response = accumulator.response(finish_reason="interrupted")
    assert response.finish_reason == "interrupted"
    (call,) = response.tool_calls
    assert (call.arguments, call.raw_arguments) == ({}, '{"x"')
    assert "broke off" in (call.error or "")


def test_later_meta_completes_the_first() -> None:
    response = fold([AnswerMeta("", 1.0), AnswerMeta("id", None)])
    assert (response.id, response.created) == ("id", datetime.datetime.fromtimestamp(1, datetime.UTC))


@pytest.mark.parametrize("seconds", [1e18, -1e18, float("inf"), float("nan")])
def test_a_time_that_is_none(seconds: float) -> None:
    assert fold([AnswerMeta("", seconds)]).created is None
