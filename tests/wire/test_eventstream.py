"""The event-stream decoder against every split, every corruption, and botocore's own."""

from __future__ import annotations

import base64
import importlib
import json
import os
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.errors import ProtocolError
from llamaroute.wire.eventstream import (
    MAX_HEADERS,
    MAX_PAYLOAD,
    EventStreamDecoder,
    HeaderValue,
    Message,
    Timestamp,
    encode,
)

EVENT: dict[str, HeaderValue] = {
    ":event-type": "contentBlockDelta",
    ":content-type": "application/json",
    ":message-type": "event",
}
EVERY_TYPE: dict[str, HeaderValue] = {
    "true": True,
    "false": False,
    "byte": -7,
    "short": 300,
    "integer": -70_000,
    "long": 1 << 40,
    "bytes": b"\x00\xff",
    "string": "grüße",
    "timestamp": Timestamp(-1),
    "uuid": UUID(int=1 << 100),
}
SAMPLE = encode(EVENT, b'{"delta":{"text":"Hi"}}') + encode(EVERY_TYPE) + encode({}, b"no headers") + encode({})
SAMPLE_MESSAGES = [
    Message(EVENT, b'{"delta":{"text":"Hi"}}'),
    Message(EVERY_TYPE, b""),
    Message({}, b"no headers"),
    Message({}, b""),
]


def decode(*pieces: bytes) -> list[Message]:
    decoder = EventStreamDecoder()
    messages = [message for piece in pieces for message in decoder.feed(piece)]
    decoder.close()
    return messages


def frame(headers: bytes, payload: bytes = b"") -> bytes:
    """A frame around any header bytes, with checksums that fit."""
    return prelude(16 + len(headers) + len(payload), len(headers), headers + payload)


def prelude(total: int, headers_length: int, rest: bytes = b"") -> bytes:
    lengths = struct.pack(">II", total, headers_length)
    body = lengths + struct.pack(">I", crc32(lengths)) + rest
    return body + struct.pack(">I", crc32(body))


def header(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes((len(name),)) + name + bytes((kind,)) + value


def test_whole() -> None:
    assert decode(SAMPLE) == SAMPLE_MESSAGES


def test_every_split_in_two() -> None:
    for cut in range(len(SAMPLE) + 1):
        assert decode(SAMPLE[:cut], SAMPLE[cut:]) == SAMPLE_MESSAGES


def test_byte_by_byte_with_empty_pieces_between() -> None:
    pieces = [piece for byte in SAMPLE for piece in (b"", bytes((byte,)))]
    assert decode(*pieces) == SAMPLE_MESSAGES


@given(st.lists(st.integers(0, len(SAMPLE))))
def test_any_cuts(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(SAMPLE)]
    assert decode(*(SAMPLE[a:b] for a, b in pairwise(ends))) == SAMPLE_MESSAGES


def test_a_message_comes_out_with_its_last_byte() -> None:
    decoder = EventStreamDecoder()
    one = encode(EVENT, b"1")
    assert list(decoder.feed(one[:-1])) == []
    assert list(decoder.feed(one[-1:] + one[:5])) == [Message(EVENT, b"1")]


def test_bytes_are_taken_also_when_nobody_iterates() -> None:
    decoder = EventStreamDecoder()
    decoder.feed(SAMPLE[:10])
    half = decoder.feed(SAMPLE[10:])
    assert next(half) == SAMPLE_MESSAGES[0]
    assert list(decoder.feed(SAMPLE)) == SAMPLE_MESSAGES[1:] + SAMPLE_MESSAGES
    decoder.close()


def test_bytearray_and_memoryview_are_copied() -> None:
    buffer = bytearray(SAMPLE)
    decoder = EventStreamDecoder()
    messages = decoder.feed(buffer)
    buffer[:] = bytes(len(buffer))
    assert list(messages) == SAMPLE_MESSAGES
    assert list(EventStreamDecoder().feed(memoryview(SAMPLE))) == SAMPLE_MESSAGES


def test_every_bit_flipped_is_found() -> None:
    for at in range(len(SAMPLE)):
        for bit in range(8):
            broken = bytearray(SAMPLE)
            broken[at] ^= 1 << bit
            with pytest.raises(ProtocolError, match="broken event stream"):
                decode(bytes(broken))


def test_every_truncation_is_found() -> None:
    ends = [0]
    for message in SAMPLE_MESSAGES:
        ends.append(ends[-1] + len(encode(message.headers, message.payload)))
    for cut in range(len(SAMPLE)):
        if cut in ends:
            assert decode(SAMPLE[:cut]) == SAMPLE_MESSAGES[: ends.index(cut)]
        else:
            with pytest.raises(ProtocolError, match="ends inside a message"):
                decode(SAMPLE[:cut])


def test_truncation_says_how_much_came() -> None:
    whole = encode(EVENT, b"x" * 500)
    with pytest.raises(ProtocolError, match=rf"100 of {len(whole)} bytes"):
        decode(whole[:100])
    with pytest.raises(ProtocolError, match="message: 3 bytes"):
        decode(whole[:3])


def test_messages_before_a_bad_frame_come_out_and_the_error_stays() -> None:
    decoder = EventStreamDecoder()
    good = encode(EVENT, b"good")
    messages = decoder.feed(good + good + b"\0" * 12 + good)
    assert next(messages).payload == b"good"
    assert next(messages).payload == b"good"
    with pytest.raises(ProtocolError, match="prelude's checksum"):
        next(messages)
    with pytest.raises(ProtocolError):
        list(decoder.feed(good))
    with pytest.raises(ProtocolError):
        decoder.close()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (prelude(15, 0), "15 bytes cannot hold"),
        (prelude(116, 101), "cannot hold headers of 101"),
        (prelude(0, 0), "cannot hold"),
        (prelude(16 + MAX_HEADERS + 1, MAX_HEADERS + 1), "headers of 131073 bytes; the limit is 131072"),
        (prelude(16 + MAX_PAYLOAD + 1, 0), "payload of 25165825 bytes; the limit is 25165824"),
        (prelude(0xFFFFFFFF, 10), "the limit is"),
        (frame(header(b"", 0, b"")), "without a name"),
        (frame(b"\x05ab"), "a header is cut off"),
        (frame(b"\x02ab"), "a header is cut off"),
        (frame(header(b"\xff", 0, b"")), "header's name is not UTF-8"),
        (frame(header(b"a", 7, b"\0\1\xff")), "header 'a' is not UTF-8"),
        (frame(header(b"a", 0, b"") * 2), "'a' is there twice"),
        (frame(header(b"a", 10, b"")), "unknown type 10"),
        (frame(header(b"a", 255, b"")), "unknown type 255"),
        (frame(header(b"a", 2, b"")), "header 'a' is cut off"),
        (frame(header(b"a", 3, b"1")), "header 'a' is cut off"),
        (frame(header(b"a", 4, b"123")), "header 'a' is cut off"),
        (frame(header(b"a", 5, b"1234567")), "header 'a' is cut off"),
        (frame(header(b"a", 6, b"\0")), "header 'a' is cut off"),
        (frame(header(b"a", 6, b"\0\2x")), "header 'a' is cut off"),
        (frame(header(b"a", 7, b"\0\2x")), "header 'a' is cut off"),
        (frame(header(b"a", 8, b"1234567")), "header 'a' is cut off"),
        (frame(header(b"a", 9, b"123456789012345")), "header 'a' is cut off"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "prelude's checksum"),
        (b'data: {"choices": []}\n\n', "prelude's checksum"),
    ],
)
def test_bad_frames(bad: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message) as caught:
        decode(encode(EVENT) + bad)
    assert not caught.value.retryable
    assert caught.value.failover


def test_a_length_over_the_limit_is_not_waited_for() -> None:
    with pytest.raises(ProtocolError, match="the limit is"):
        list(EventStreamDecoder().feed(prelude(0xFFFFFFFF, 10)[:12]))


def test_the_limits_themselves_are_allowed() -> None:
    headers: dict[str, HeaderValue] = {"a": b"x" * 0xFFFF, "b": b"x" * (MAX_HEADERS - 0xFFFF - 2 * 5)}
    message = encode(headers, bytes(MAX_PAYLOAD))
    assert len(message) == 16 + MAX_HEADERS + MAX_PAYLOAD
    assert decode(message) == [Message(headers, bytes(MAX_PAYLOAD))]


def test_header_blocks_do_not_mix_and_cannot_be_changed() -> None:
    stream = b"".join(encode({":event-type": f"type{i % 100}"}, str(i).encode()) for i in range(300))
    messages = decode(stream)
    assert [(m.headers[":event-type"], m.payload) for m in messages] == [
        (f"type{i % 100}", str(i).encode()) for i in range(300)
    ]
    with pytest.raises(TypeError):
        messages[0].headers["x"] = 1  # type: ignore[index]


def test_a_large_message_byte_by_byte_comes_to_an_end() -> None:
    """In a second or two when the work grows with the bytes; quadratic code takes many minutes."""
    data = encode({}, bytes(2_000_000))
    decoder = EventStreamDecoder()
    assert sum(1 for at in range(len(data)) for _ in decoder.feed(data[at : at + 1])) == 1


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({"": 1}, b""),
        ({"n" * 256: 1}, b""),
        ({"ü" * 128: 1}, b""),
        ({"a": 1 << 63}, b""),
        ({"a": "x" * 0x10000}, b""),
        ({"a": b"x" * 0xFFFF, "b": b"x" * 0xFFFF}, b""),
        ({}, bytes(MAX_PAYLOAD + 1)),
    ],
)
def test_what_cannot_be_encoded(headers: dict[str, HeaderValue], payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"limits|bytes|bits"):
        encode(headers, payload)


names = st.text(min_size=1, max_size=60)
values: st.SearchStrategy[HeaderValue] = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.binary(max_size=80),
    st.text(max_size=40),
    st.integers(-(1 << 63), (1 << 63) - 1).map(Timestamp),
    st.uuids(),
)
frames = st.lists(st.tuples(st.dictionaries(names, values, max_size=6), st.binary(max_size=200)), max_size=6)


@given(frames, st.integers(1, 40))
def test_round_trip(sent: list[tuple[dict[str, HeaderValue], bytes]], size: int) -> None:
    stream = b"".join(encode(headers, payload) for headers, payload in sent)
    assert decode(*(stream[i : i + size] for i in range(0, len(stream), size))) == [Message(*one) for one in sent]
    assert [type(v) for m in decode(stream) for v in m.headers.values()] == [
        type(v) for headers, _ in sent for v in headers.values()
    ]


@given(st.binary(max_size=60))
def test_any_bytes_with_fitting_checksums(headers: bytes) -> None:
    ours = outcome_of_ours(frame(headers, b"payload"))
    theirs = outcome_of_botocore(frame(headers, b"payload"))
    if ours is None or theirs is None:
        # botocore lets values and names that are cut off pass (slices of what is there), and empty names; we do not.
        assert ours is None
    else:
        assert ours == theirs


@given(st.binary(max_size=80))
def test_any_bytes_at_all(data: bytes) -> None:
    assert outcome_of_ours(data) in (None, [])


def outcome_of_ours(data: bytes) -> list[tuple[dict[str, Any], bytes]] | None:
    try:
        return [(plain(message.headers), message.payload) for message in decode(data)]
    except ProtocolError:
        return None


def outcome_of_botocore(data: bytes) -> list[tuple[dict[str, Any], bytes]] | None:
    eventstream = importlib.import_module("botocore.eventstream")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(data)
    try:
        return [(dict(event.headers), event.payload) for event in buffer]
    except (eventstream.ParserError, KeyError, struct.error, UnicodeDecodeError, IndexError):
        return None


def plain(headers: Mapping[str, HeaderValue]) -> dict[str, Any]:
    """Header values as botocore has them: numbers for timestamps, bytes for UUIDs."""
    return {
        name: value.milliseconds if isinstance(value, Timestamp) else value.bytes if isinstance(value, UUID) else value
        for name, value in headers.items()
    }


@settings(max_examples=50)
@given(frames)
def test_botocore_reads_what_we_write_and_agrees(sent: list[tuple[dict[str, HeaderValue], bytes]]) -> None:
    stream = b"".join(encode(headers, payload) for headers, payload in sent)
    expected = [(plain(headers), payload) for headers, payload in sent]
    assert outcome_of_botocore(stream) == expected
    assert outcome_of_ours(stream) == expected


def recorded() -> list[Any]:
    folder = os.environ.get("LLAMAROUTE_CASES")
    paths = sorted(Path(folder, "bedrock").glob("stream-*.json")) if folder else []
    if not paths:
        return [pytest.param(None, marks=pytest.mark.skip(reason="recorded cases: not run"))]
    return [pytest.param(path, id=path.stem) for path in paths]


@pytest.mark.parametrize("path", recorded())
def test_recorded_streams(path: Path) -> None:
    body = base64.b64decode(json.loads(path.read_bytes())["response"]["body_base64"])
    messages = decode(body)
    assert messages[0].headers[":event-type"] == "messageStart"
    assert {message.headers[":message-type"] for message in messages} == {"event"}
    assert all(isinstance(json.loads(message.payload), dict) for message in messages)
    assert [(plain(m.headers), m.payload) for m in messages] == outcome_of_botocore(body)
    assert decode(*(body[i : i + 1] for i in range(len(body)))) == messages
    assert b"".join(encode(m.headers, m.payload) for m in messages) == body
