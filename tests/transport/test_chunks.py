"""Chunks put together before h11 sees them: the answer, or the fault, is the one that h11 finds without."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.transport.chunks import Chunks

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(*pieces: bytes, head: bytes = HEAD, end: bytes = b"0\r\n\r\n") -> bytes:
    return head + b"".join(map(chunk, pieces)) + end


EVENTS = [b"data: %d\n\n" % n for n in range(12)]

ANSWERS: dict[str, bytes] = {
    "events": answer(*EVENTS),
    "no body": answer(),
    "one chunk": answer(b"x"),
    "chunks of one byte": answer(*[b"x"] * 9),
    "line breaks inside": answer(b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"a\r\n", b"5\r\nhello\r\n"),
    "trailers": answer(*EVENTS[:3], end=b"0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n"),
    "an extension": answer(b"ab", b"cd").replace(b"2\r\nab", b"2;name=value\r\nab"),
    "an extension later": answer(b"ab", b"cd", b"ef", b"gh").replace(b"2\r\nef", b"2 ; x\r\nef"),
    "capital digits": HEAD + b"A\r\n0123456789\r\n0B\r\n0123456789a\r\n0\r\n\r\n",
    "leading zeros": HEAD + b"0003\r\nabc\r\n003\r\ndef\r\n000\r\n\r\n",
    "many leading zeros": HEAD + b"3\r\nabc\r\n" + b"0" * 14 + b"3\r\ndef\r\n3\r\nghi\r\n0\r\n\r\n",
    "no length": HEAD + b"3\r\nabc\r\n3\r\ndef\r\n\r\nabc\r\n0\r\n\r\n",
    "a length that is none": HEAD + b"3\r\nabc\r\n3\r\ndef\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "a length with a sign": HEAD + b"3\r\nabc\r\n+3\r\nabc\r\n-3\r\nabc\r\n0\r\n\r\n",
    "a length as Python writes it": HEAD + b"0x3\r\nabc\r\n1_0\r\n0123456789012345\r\n0\r\n\r\n",
    "a length with blanks": HEAD + b"3\r\nabc\r\n 3\r\nabc\r\n3 \r\nabc\r\n0\r\n\r\n",
    "too long a length": HEAD + b"3\r\nabc\r\nfffffffffffffffffffffffffffff\r\nabc\r\n",
    "too short a length": HEAD + b"3\r\nabc\r\n2\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n",
    "cut off in a chunk": answer(*EVENTS)[:-20],
    "cut off before the end": answer(*EVENTS, end=b""),
    "cut off in a length": answer(*EVENTS, end=b"1"),
    "a line feed alone": HEAD + b"3\nabc\n3\r\nabc\r\n0\r\n\r\n",
    "more behind the end": answer(b"ab", b"cd") + b"5\r\nhello\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + (chunk(b"hello") * 9)[:20],
    "to its end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + chunk(b"hello") * 2,
    "capital letters": answer(*EVENTS, head=HEAD.upper()),
    "said twice": answer(*EVENTS, head=HEAD.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")),
    "packed as well": answer(*EVENTS, head=HEAD.replace(b"chunked", b"gzip, chunked")),
    "folded": answer(
        *EVENTS, head=b"HTTP/1.1 200 OK\r\nX: a\r\n transfer-encoding: chunked\r\nContent-Length: 9\r\n\r\n"
    ),
    "a head with line feeds alone": answer(*EVENTS, head=HEAD.replace(b"\r\n", b"\n")),
    "a head of two kinds": answer(*EVENTS, head=b"HTTP/1.1 200 OK\nA: b\nTransfer-Encoding: chunked\r\n\r\n"),
    "nothing but a head": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a word before": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(*EVENTS),
    "two words before": b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" * 2 + answer(*EVENTS),
    "many headers": answer(
        b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX-A:1\r\nx-a: \t 2 \r\nEmpty:\r\nSet-Cookie: a:b; c\r\n\r\n")
    ),
    "letters beyond ASCII": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX: \xe9\xff\r\n\r\n")),
    "a blank before the colon": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX : 1\r\n\r\n")),
    "a name that is none": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX(y): 1\r\n\r\n")),
    "no name": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\n: 1\r\n\r\n")),
    "no colon": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX\r\n\r\n")),
    "a control character": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX: a\x01b\r\n\r\n")),
    "a zero": answer(b"x", head=HEAD.replace(b"\r\n\r\n", b"\r\nX: a\x00b\r\n\r\n")),
    "no reason": answer(b"x", head=HEAD.replace(b"200 OK", b"200")),
    "an older HTTP": answer(b"x", head=HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "lengths that differ": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\ncontent-length: 4\r\n\r\nabcd",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabcd",
    "no HTTP": b"SSH-2.0\r\n\r\n" + b"".join(map(chunk, EVENTS)),
}


def pieces_of(data: bytes, sizes: Callable[[], int]) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = sizes()
        yield data[at : at + size]
        at += size


def joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as `Head` has them."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def read(reads: Iterable[bytes], chunks: Chunks | None) -> tuple[object, ...]:
    """What h11 makes of an answer, with or without `chunks` before it: its head, the whole body, its trailers, what is
    left over, and what is wrong."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    heads: list[object] = []
    body = b""
    for data in [*reads, b"", b""]:
        end = not data
        if chunks is not None:
            data = chunks.merged(data)
        if not data and not end:
            continue
        try:
            connection.receive_data(data)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Data():
                        body += event.data
                    case h11.EndOfMessage():
                        return heads, body, list(event.headers), connection.trailing_data[0] != b""
                    case _:
                        headers = joined(event.headers)
                        if chunks is not None and chunks.headers is not None and event.status_code >= 200:
                            headers = dict(chunks.headers)
                            if (coding := headers.get("transfer-encoding")) is not None:
                                headers["transfer-encoding"] = coding.lower()  # as h11 has it
                        heads.append((event.status_code, headers))
        except h11.RemoteProtocolError as error:
            # How many bytes are missing of a chunk is counted from where the last one begins.
            return heads, body, str(error).partition("(")[0]
    raise AssertionError("the connection has ended, and h11 waits for more")


@pytest.mark.parametrize("name", ANSWERS)
def test_h11_finds_the_same(name: str) -> None:
    whole = ANSWERS[name]
    dice = random.Random(name)
    splits: list[Callable[[], int]] = [lambda size=size: size for size in (*range(1, 40), 64, 100, 1000, len(whole))]
    splits += [lambda: dice.choice((1, 2, 3, 5, 17, 60))] * 20
    for sizes in splits:
        reads = list(pieces_of(whole, sizes))
        assert read(reads, Chunks()) == read(reads, None)


def test_chunks_that_come_together_are_one() -> None:
    chunks = Chunks()
    assert chunks.merged(HEAD) == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert chunks.headers == {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
    assert chunks.merged(b"".join(map(chunk, EVENTS))) == chunk(b"".join(EVENTS))


def test_a_chunk_alone_is_handed_on_as_it_came() -> None:
    chunks = Chunks()
    chunks.merged(HEAD)
    assert chunks.merged(chunk(b"x")) == chunk(b"x")


def test_nothing_of_a_text_is_held_back() -> None:
    chunks = Chunks()
    chunks.merged(HEAD)
    assert chunks.merged(chunk(b"ab") + b"5\r\nhel") == chunk(b"ab") + b"5\r\nhel"
    assert chunks.merged(b"lo\r\n") == b"lo\r\n"
    assert chunks.merged(b"5") == b"", "of a length, more may come"
    assert chunks.merged(b"\r\nhello\r\n") == chunk(b"hello")


def test_each_answer_begins_with_a_head() -> None:
    chunks = Chunks()
    body = chunk(b"ab") + chunk(b"cd")
    for head, merged in ((HEAD, chunk(b"abcd")), (b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n", body)) * 2:
        chunks.begin()
        chunks.merged(head)
        assert chunks.merged(body) == merged


LINES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"0\r\n\r\n", b"5\r\n", b"5;x\r\n", b"00005\r\n", b"ffffffffff\r\n", b"g\r\n"]
)
PARTS = st.one_of(st.binary(min_size=1, max_size=40).map(chunk), LINES, st.binary(max_size=12), st.just(HEAD))


@given(st.lists(PARTS, max_size=12), st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(0, 200))
def test_h11_finds_the_same_of_anything(parts: list[bytes], sizes: list[int], cut: int) -> None:
    whole = (HEAD + b"".join(parts) + b"0\r\n\r\n")[: len(HEAD) + cut]
    turns = itertools.cycle(sizes)
    reads = list(pieces_of(whole, lambda: next(turns)))
    assert read(reads, Chunks()) == read(reads, None)
