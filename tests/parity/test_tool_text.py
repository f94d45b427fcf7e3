"""Tool calls found in text: the whole corpus at every split, what passes at once, and the work done on hostile text."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parity.leaks import corpus, made

from llamaroute.parity import tool_syntax
from llamaroute.parity.tool_text import MAX_HELD, ToolText
from llamaroute.spi import DecoderEvent
from llamaroute.types.events import TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted
from llamaroute.types.tools import Tool

LEAKS = corpus.leaks()
HARMLESS = corpus.harmless()
TOOLS = (corpus.tool("add", "a", "b"), corpus.tool("weather", "city", "unit"), corpus.tool("now"))

Seen = list[str | tuple[str, str]]
"""What came out: text, and calls as (name, arguments), in order."""


def events(tools: Sequence[Tool], pieces: Sequence[str]) -> list[DecoderEvent]:
    finder = ToolText(tools)
    return [event for piece in pieces for event in finder.feed(piece)] + finder.end()


def seen(tools: Sequence[Tool], pieces: Sequence[str]) -> Seen:
    out: Seen = []
    for event in events(tools, pieces):
        if isinstance(event, ToolCallDone):
            out.append((event.call.name, event.call.raw_arguments))
        elif isinstance(event, TextDelta):
            if out and isinstance(out[-1], str):
                out[-1] += event.text
            else:
                out.append(event.text)
    return out


def text_of(out: Seen) -> str:
    return "".join(item for item in out if isinstance(item, str))


def calls_of(out: Seen) -> list[tuple[str, Any]]:
    return [(item[0], json.loads(item[1])) for item in out if not isinstance(item, str)]


def squeezed(text: str) -> str:
    return "".join(text.split())


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text`, cut at these places."""
    marks = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(marks)]


def splits(text: str) -> Iterator[list[str]]:
    """Every split into two, into characters, and a few into several."""
    for at in range(len(text) + 1):
        yield [text[:at], text[at:]]
    yield list(text)
    draw = random.Random(len(text))
    for count in (2, 3, 5, 8):
        yield cut(text, [draw.randrange(len(text) + 1) for _ in range(count)])


# -- the corpus -----------------------------------------------------------------------------------------------------


def test_the_corpus_is_as_large_as_it_says_and_holds_nothing_twice() -> None:
    sourced = [entry for entry in LEAKS if entry.kind in ("recorded", "reported")]
    assert len(LEAKS) >= 300
    assert len(sourced) >= 100
    assert sum("Llama-4" in entry.source for entry in sourced) >= 60
    assert len(HARMLESS) >= 300
    assert all(entry.source for entry in (*LEAKS, *HARMLESS) if entry.kind != "made")
    assert all(entry.calls for entry in LEAKS)
    assert not any(entry.calls for entry in HARMLESS)
    texts = [entry.text for entry in (*LEAKS, *HARMLESS)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("entry", LEAKS, ids=str)
def test_a_leak_is_found_however_it_is_cut(entry: corpus.Entry) -> None:
    whole = seen(entry.tools, [entry.text])
    assert calls_of(whole) == list(entry.calls)
    assert squeezed(text_of(whole)) == squeezed(entry.rest)
    for pieces in splits(entry.text):
        assert seen(entry.tools, pieces) == whole, pieces


@pytest.mark.parametrize("entry", HARMLESS, ids=str)
def test_harmless_text_passes_whole_however_it_is_cut(entry: corpus.Entry) -> None:
    for pieces in splits(entry.text):
        assert seen(entry.tools, pieces) == [entry.text], pieces


# -- events ---------------------------------------------------------------------------------------------------------


def test_a_call_comes_as_the_three_events_that_a_host_sends() -> None:
    finder = ToolText(TOOLS, index=2)
    found = [*finder.feed('Wait.\n[add(a=1, b="x"), now()]'), *finder.end()]
    assert finder.called
    assert finder.index == 4
    assert [type(event) for event in found] == [TextDelta, *[ToolCallStarted, ToolCallDelta, ToolCallDone] * 2]
    text, started, delta, done, *_, last = found
    assert text == TextDelta("Wait.\n")
    assert started == ToolCallStarted(2, "call_2", "add")
    assert delta == ToolCallDelta(2, '{"a":1,"b":"x"}')
    assert isinstance(done, ToolCallDone)
    assert (done.index, done.call.id, done.call.name) == (2, "call_2", "add")
    assert (done.call.arguments, done.call.raw_arguments, done.call.error) == (
        {"a": 1, "b": "x"},
        '{"a":1,"b":"x"}',
        None,
    )
    assert isinstance(last, ToolCallDone)
    assert (last.call.id, last.call.arguments) == ("call_3", {})


def test_text_without_calls_leaves_no_mark() -> None:
    finder = ToolText(TOOLS)
    assert finder.feed("") == []
    assert finder.feed("Hello") == [TextDelta("Hello")]
    assert finder.end() == []
    assert not finder.called
    assert finder.index == 0


def test_a_call_is_told_as_soon_as_its_line_ends() -> None:
    finder = ToolText(TOOLS)
    assert finder.feed("[add(a=1)]") == []
    assert [type(event) for event in finder.feed("\nand")] == [ToolCallStarted, ToolCallDelta, ToolCallDone, TextDelta]


def test_without_tools_everything_is_text() -> None:
    for entry in LEAKS[:40]:
        assert seen((), [entry.text]) == [entry.text]


def test_only_the_requests_tools_count() -> None:
    for entry in LEAKS:
        assert seen((corpus.tool("zebra"),), [entry.text]) == [entry.text]


# -- what is held back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        ("", "Hello"),
        ("", "weather is"),
        ("Hi\n", "[1,"),
        ("Hi\n", "[weather i"),
        ("Hi\n", "[weather]"),
        ("Hi\n", "[add(x,"),
        ("Hi\n", "[add(1 + "),
        ("Hi\n", "[add(a=1) +"),
        ("Hi\n", '{"city"'),
        ("Hi\n", '{"name": "Ann"'),
        ("Hi\n", '{"name": "weather", "score"'),
        ("Hi\n", '{"type": "text"'),
        ("Hi\n", "{x"),
        ("Hi\n", "```rust "),
        ("Hi\n", "``x"),
        ("Hi\n", "```json {"),
        ("Hi\n", '```json\n{"a"'),
        ("Hi ", "[add(a=1)]"),
        ("Hi\n", "<b"),
        ("Hi\n", "<tool_call>x "),
        ("Hi\n", "<|python_start|>print("),
        ("Hi\n", "<function=x>"),
        ("a = ", "{"),
        ("1. ", "["),
        ("> ", "["),
    ],
)
def test_text_passes_as_soon_as_it_can_be_no_call(before: str, piece: str) -> None:
    finder = ToolText(TOOLS)
    finder.feed(before)
    assert "".join(event.text for event in finder.feed(piece) if isinstance(event, TextDelta)) == piece


@pytest.mark.parametrize(
    "piece", ["wea", "[", "[wea", "[add(a=", "{", '{"na', '{"name": "add", "para', "`", "<", "<|py", "<tool"]
)
def test_text_that_may_become_a_call_waits(piece: str) -> None:
    finder = ToolText(TOOLS)
    assert finder.feed(piece) == []
    assert finder.end() == [TextDelta(piece)]


def test_a_long_document_fits_into_a_call() -> None:
    document = ('def f(x):\n    return [{\'a\': "b\\\\"}, (x)] # it\'s "so" ``` </tool_call> ]) \n' * 4000)[: 256 << 10]
    for text in (made.FORMS["list"], made.FORMS["parameters"], made.FORMS["tool_call"], made.FORMS["function"]):
        written = text([("add", {"a": document})])
        out = seen(TOOLS, [written[at : at + 1000] for at in range(0, len(written), 1000)])
        assert calls_of(out) == [("add", {"a": document})]


# -- properties -----------------------------------------------------------------------------------------------------

FRAGMENTS = (
    *(
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "<",
        ">",
        "`",
        "```",
        "```json\n",
        "\n",
        "\r\n",
        " ",
        "'",
        '"',
        '"""',
        "\\",
        ",",
        ";",
        ":",
        "=",
    ),
    *("add", "weather", "now", "now()", "add(", "a=1", 'city="Oslo"', "functions.", ".call", "[now()]", "[add(a=1)]"),
    *(
        '{"name": "add", "parameters": {"a": 1}}',
        '{"name": ',
        '"name"',
        '"parameters": ',
        '"type": "function"',
        "null",
        "-1.5e3",
    ),
    *("<tool_call>", "</tool_call>", "<tool_calls>", "<function=add>", "</function>", "<parameter=a>", "</parameter>"),
    *(
        "<|python_start|>",
        "<|python_end|>",
        "<|python_tag|>",
        "<|eot|>",
        "<|header_start|>",
        "assistant",
        "<|header_end|>\n\n",
    ),
    *("The weather is fine.", "See: ", "e\u0301", "\ud83d"),
)
JUNK = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=30).map("".join)
CUTS = st.lists(st.integers(0, 500), max_size=8)


@settings(max_examples=300, deadline=None)
@given(JUNK, CUTS)
def test_text_that_names_no_tool_passes_byte_for_byte(text: str, places: list[int]) -> None:
    tools = (corpus.tool("zebra", "a"), corpus.tool("yak-fur"))
    assert text_of(seen(tools, cut(text, places))) == text


@settings(max_examples=500, deadline=None)
@given(JUNK, CUTS)
def test_all_that_came_in_comes_out_as_text_or_as_calls(text: str, places: list[int]) -> None:
    whole = seen(TOOLS, [text])
    assert seen(TOOLS, cut(text, places)) == whole
    assert seen(TOOLS, list(text)) == whole
    # Texts stand in the input in their order, and between them what named the calls.
    at = 0
    for number, item in enumerate(whole):
        if isinstance(item, str):
            last = number == len(whole) - 1
            at = (text.rindex(item, at) if last else text.index(item, at)) + len(item)
        else:
            at = text.index(item[0], at) + len(item[0])
    if whole and isinstance(whole[0], str):
        assert text.startswith(whole[0])
    if whole and isinstance(whole[-1], str):
        assert text.endswith(whole[-1])
    if len(whole) == 1 and isinstance(whole[0], str):
        assert whole == [text]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from(("a", "b", "city", "max_len", "_from", "äö")), VALUES, max_size=3)
CALLS = st.lists(
    st.tuples(st.sampled_from(("add", "weather", "now", "send-mail", "f1.g")), ARGUMENTS), min_size=1, max_size=3
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(made.FORMS)), CALLS, CUTS, st.data())
def test_calls_written_in_any_form_come_back(
    form: str, calls: list[Any], places: list[int], data: st.DataObject
) -> None:
    if not made.fits(form, calls):
        calls = [(name, {"a": 1}) for name, _ in calls]
    before, behind, rest = made.CONTEXTS[data.draw(st.sampled_from(made.contexts(form)))]
    tools = [corpus.tool(name) for name in ("add", "weather", "now", "send-mail", "f1.g")]
    out = seen(tools, cut(before + made.FORMS[form](calls) + behind, places))
    assert calls_of(out) == [(name, arguments) for name, arguments in calls]
    assert squeezed(text_of(out)) == squeezed(rest)


# -- hostile text ---------------------------------------------------------------------------------------------------

HOSTILE = {
    "open lists": '\n[add(a="',
    "lists in lists": "[add(a=[",
    "lists in lists, lines": "\n[add([",
    "objects": '\n{"name": "add", "parameters": {"a": ',
    "braces": "{",
    "brackets": "[",
    "brackets and spaces": "[ ",
    "fences": "```json\n{",
    "backticks": "`",
    "tags": "<tool_call>",
    "less-than signs": "<",
    "open python tags": "<|python_start|>[add(a=1), ",
    "open functions": '<function=add>{"a": "',
    "open parameters": "<function=add><parameter=a>x",
    "backslashes": '[add(a="\\',
    "triple quotes": '\n[add(a="""x',
    "keys": '{"type":"function",',
    "headers": "<|header_start|>assistant",
    "lines": "\n",
    "calls": "\n[add(a=1)]",
    "calls in a row": '{"name":"add","parameters":{}};',
    "spaces in a call": "[add(" + " " * 50,
}


def work(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Functions called, plus characters handed to candidates: the same on every machine."""
    count = 0
    feed = tool_syntax.Reader.feed

    def counted(reader: tool_syntax.Reader, piece: str) -> None:
        nonlocal count
        count += len(piece)
        feed(reader, piece)

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    with monkeypatch.context() as patch:
        patch.setattr(tool_syntax.Reader, "feed", counted)
        finder = ToolText(TOOLS)
        sys.setprofile(profile)
        try:
            for at in range(0, len(text), size):
                finder.feed(text[at : at + size])
            finder.end()
        finally:
            sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        *((unit, 100) for unit in HOSTILE.values()),
        *(
            (HOSTILE[name], 1 << 20)
            for name in ("braces", "less-than signs", "lists in lists, lines", "objects", "calls")
        ),
    ],
)
def test_ten_times_the_hostile_text_is_ten_times_the_work(
    unit: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = unit * (45_000 // len(unit))
    assert work(text, size, monkeypatch) < 15 * work(text[: len(text) // 10], size, monkeypatch)


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_text_comes_out_the_same_however_it_is_cut(unit: str) -> None:
    text = unit * (5_000 // len(unit)) + "\n[add(a=1)]\n" + unit * 9
    whole = seen(TOOLS, [text])
    for size in (1, 997, 4095):
        assert seen(TOOLS, [text[at : at + size] for at in range(0, len(text), size)]) == whole


@pytest.mark.parametrize(
    "written", ['[add(a="\ud83d")]', "[add(a=r'\ud83d')]", "<function=add><parameter=a>\ud83d</parameter></function>"]
)
def test_half_a_character_does_not_break_a_call(written: str) -> None:
    assert calls_of(seen(TOOLS, [written])) == [("add", {"a": "\ufffd"})]


@pytest.mark.parametrize("unit", ['[add(a="', "x"])
def test_what_is_held_is_bounded(unit: str) -> None:
    start, more = unit, "x" * 1000
    finder = ToolText(TOOLS)
    passed = 0
    tracemalloc.start()
    try:
        for piece in (start, *[more] * (2 * MAX_HELD // len(more))):
            passed += sum(len(event.text) for event in finder.feed(piece) if isinstance(event, TextDelta))
        held = len(start) + len(more) * (2 * MAX_HELD // len(more)) - passed
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= MAX_HELD
    assert peak < 16 * MAX_HELD
