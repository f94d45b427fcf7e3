"""The SSE decoder at every split, at its limits, and beside the decoders that other people wrote."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder as OpenAIDecoder

from llamaroute.errors import ProtocolError
from llamaroute.wire import sse
from llamaroute.wire.sse import SSEDecoder

Event = tuple[bytes, bytes]


def decode(pieces: Iterable[bytes]) -> list[Event]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.close()]


# body -> events; the specification's own examples are among them
# https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
BODIES: dict[str, tuple[bytes, list[Event]]] = {
    "one": (b"data: a\n\n", [(b"", b"a")]),
    "two": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "mixed": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
    "cr then lf is one end": (b"data: a\r\ndata: b\r\n\r\n", [(b"", b"a\nb")]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "bom later is data": (b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [(b"", b"a"), (b"", b"c")]),
    "comments": (b": hi\n\ndata: a\n: in between\n:\n\n", [(b"", b"a")]),
    "several data lines": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(b"", b"YHOO\n+2\n10")]),
    "empty data lines": (b"data\n\ndata\ndata\n\ndata:", [(b"", b""), (b"", b"\n"), (b"", b"")]),
    "one space goes": (
        b"data:test\n\ndata: test\n\ndata:  test\n\n",
        [(b"", b"test"), (b"", b"test"), (b"", b" test")],
    ),
    "spaces at the end stay": (b"data: a \n\n", [(b"", b"a ")]),
    "event": (b"event: ping\ndata: a\n\ndata: b\n\n", [(b"ping", b"a"), (b"", b"b")]),
    "event after data": (b"data: a\nevent:error\n\n", [(b"error", b"a")]),
    "last event name counts": (b"event: x\nevent: y\ndata: a\n\n", [(b"y", b"a")]),
    "event without a colon": (b"event: x\nevent\ndata: a\n\n", [(b"", b"a")]),
    "event without data": (b"event: ping\n\ndata: a\n\n", [(b"", b"a")]),
    "id and retry": (b"id: 1\nretry: 100\nunknown: x\ndata: a\nid\n\n", [(b"", b"a")]),
    "fields are whole words": (b"database: a\ndata : b\n data: c\nDATA: d\ndata: e\n\n", [(b"", b"e")]),
    "colons in data": (b"data: a: b:c\n\n", [(b"", b"a: b:c")]),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [(b"", b"a"), (b"", b"b")]),
    "no line end at the end": (b"data: a\n\ndata: b", [(b"", b"a"), (b"", b"b")]),
    "cr at the end": (b"data: a\r", [(b"", b"a")]),
    "many blank lines": (b"\n\n\r\r\n\ndata: a\n\n\n\n", [(b"", b"a")]),
    "nothing": (b"", []),
    "separators of text are no line ends": (
        "data: a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee\n\n".encode(),
        [(b"", "a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee".encode())],
    ),
    "nul": (b"data: a\0b\n\n", [(b"", b"a\0b")]),
    "not utf-8": (b"data: \xff\xfe\n\n", [(b"", b"\xff\xfe")]),
    "characters of several bytes": (
        "data: gr\u00fc\u00df \U0001f642\n\n".encode(),
        [(b"", "gr\u00fc\u00df \U0001f642".encode())],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_whole(name: str) -> None:
    body, events = BODIES[name]
    assert decode([body]) == events


@pytest.mark.parametrize("name", BODIES)
def test_byte_by_byte(name: str) -> None:
    body, events = BODIES[name]
    assert decode(body[i : i + 1] for i in range(len(body))) == events


@pytest.mark.parametrize("name", BODIES)
def test_every_cut(name: str) -> None:
    body, events = BODIES[name]
    for first in range(len(body) + 1):
        assert decode((body[:first], body[first:])) == events
        for second in range(first, len(body) + 1):
            assert decode((body[:first], b"", body[first:second], body[second:])) == events


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_an_event_comes_with_the_piece_that_completes_it(end: bytes) -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(b"data: a" + end[:-1])) == []
    assert list(decoder.feed(end[-1:])) == [(b"", b"a")]
    assert list(decoder.feed(b"data: b" + end + b"data: c")) == [(b"", b"b")]
    assert list(decoder.close()) == [(b"", b"c")]


def test_close_gives_nothing_twice() -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(b"event: x\ndata: a")) == []
    assert list(decoder.close()) == [(b"x", b"a")]
    assert list(decoder.close()) == []


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"",
                b"",
                b"data",
                b"data:",
                b"data: ",
                b":",
                b": c",
                b"event: e",
                b"event:",
                b"event",
                b"id: 1",
                b"retry: 5",
            ]
        ),
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12).map(
            lambda text: b"data: " + text.encode()
        ),
        st.binary(max_size=8).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"")),
    ),
    max_size=12,
)
ENDS = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=12, max_size=12)


@given(LINES, ENDS, st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_split_gives_what_the_whole_gives(lines: list[bytes], ends: list[bytes], cuts: list[int]) -> None:
    body = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert decode(body[a:b] for a, b in pairwise(places)) == decode([body])


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_openais_decoder_reads_the_same(lines: list[bytes], end: bytes) -> None:
    """The official reader of the format that most hosts speak. It also gives out events that have no data."""
    body = b"".join(line + end for line in lines if _text(line)) + end + end
    theirs = [
        ((event.event or "").encode(), event.data.encode())
        for event in OpenAIDecoder().iter_bytes(iter([body]))
        if event.data
    ]
    ours = [event for event in decode([body]) if event[1]]
    assert ours == theirs


def _text(line: bytes) -> bool:
    """Theirs takes text alone, and knows neither a byte order mark nor a NUL in an id."""
    try:
        text = line.decode()
    except ValueError:
        return False
    return not text.startswith("\ufeff")


def test_an_event_as_long_as_allowed_and_one_byte_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    fits = b"data: " + b"x" * 90 + b"\n\n"
    assert decode([fits]) == [(b"", b"x" * 90)]
    for body in (
        b"data: " + b"x" * 101 + b"\n\n",  # in one line
        b"data: " + b"x" * 101,  # which never ends
        b"data: 0123456789\n" * 11 + b"\n",  # in many
        b"data: 0123456789\n" * 11,
        b"data:\n" * 1000,  # which have no data at all
        b": " + b"x" * 200,  # a comment that never ends
    ):
        for size in (1, 7, 17, 1000):
            with pytest.raises(ProtocolError):
                decode(body[i : i + size] for i in range(0, len(body), size))


def test_the_limit_is_for_one_event_not_for_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    body = (b": keep-alive\n\n" + b"data: 0123456789\n\n") * 50
    for size in (1, 7, 1000):
        assert len(decode(body[i : i + size] for i in range(0, len(body), size))) == 50


@pytest.mark.parametrize(
    ("unit", "count", "size"),
    [
        (b"x", 1 << 20, 1),  # one long line, byte by byte
        (b"x", 1 << 23, 16),
        (b"x\ndata: ", 1 << 16, 8),  # one event of many lines, a line at a time
        (b"x\n\ndata: ", 1 << 16, 9),  # many events
        (b"x\r\ndata: ", 1 << 16, 9),
    ],
    ids=["a long line by bytes", "a long line by 16", "many lines", "many events", "crlf"],
)
def test_large_bodies_in_small_pieces_come_to_an_end(unit: bytes, count: int, size: int) -> None:
    """In a second when the work grows with the bytes; code that copies what it holds at every piece takes minutes."""
    body = b"data: " + unit * count + b"\n\n"
    events = decode(body[i : i + size] for i in range(0, len(body), size))
    assert sum(len(data) for _, data in events) >= len(body) // 10
