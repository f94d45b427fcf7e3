"""JSON in and out as bytes: lenient with what hosts send, exact in what is sent to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.dialects.json_body import Body, loads, merge
from llamaroute.errors import ProtocolError


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        (b' \n{"a": 1}\r\n', {"a": 1}),
        (b'"gr\xc3\xbc\xc3\x9f"', "gr\u00fc\u00df"),
        (b'"\\ud83d\\ude42"', "\U0001f642"),
        (b'"a\\ud83d"', "a\ufffd"),  # half a pair: a server cut its text between two tokens
        (b'"\\ude42b"', "\ufffdb"),
        (b'{"\\ud83d": "\\ude42"}', {"\ufffd": "\ufffd"}),
        (b'["\\ude42\\ud83d"]', ["\ufffd\ufffd"]),
        (b'"a\xf0\x9f"', "a\ufffd"),  # half a character
        (b'"a\xffb"', "a\ufffdb"),
        (b'"a\nb\tc"', "a\nb\tc"),  # control characters unescaped, as some servers leave them
        ('"a\u2028b"'.encode(), "a\u2028b"),
        (b"12345678901234567890123", 12345678901234567890123),
    ],
)
def test_loads(data: bytes, value: Any) -> None:
    assert loads(data, "it") == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a":}',
        b"{'a': 1}",
        b"hello",
        b"[1,]",
        b"\xff\xfe",
        b'{"a": 1} x',
        b"<html>",
        b'"a',
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_not_json(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="the thing is not JSON") as caught:
        loads(data, "the thing")
    assert caught.value.raw == data[:2000].decode("utf-8", "replace")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("depth", [10, 100])
def test_deep_values_that_are_still_reasonable(depth: int) -> None:
    value = loads(b"[" * depth + b"]" * depth, "it")
    for _ in range(depth - 1):
        value = value[0]
    assert value == []


@pytest.mark.parametrize("depth", [1_000, 5_000, 100_000])
def test_absurdly_deep_values_never_crash(depth: int) -> None:
    """Either reader may give up, and only with our error; with half a pair inside the second one reads."""
    for text in (b"[" * depth + b"]" * depth, b"[" * depth + b'"\\ud800"' + b"]" * depth, b'{"a":' * depth):
        try:
            loads(text, "it")
        except ProtocolError:
            continue


@given(st.binary(max_size=60))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_bytes_are_json_or_our_error(data: bytes) -> None:
    try:
        value = loads(data, "it")
    except ProtocolError:
        return
    json.dumps(value)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_what_python_writes_is_read_back(text: str) -> None:
    assert loads(json.dumps({text: [text]}).encode(), "it") == {text: [text]}


@pytest.mark.parametrize(
    ("base", "extra", "merged"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": 4}}, {"a": {"b": 1, "c": 3, "d": 4}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
    ],
)
def test_merge(base: dict[str, Any], extra: dict[str, Any], merged: dict[str, Any]) -> None:
    before = json.dumps(extra)
    assert merge(base, extra) is base
    assert base == merged
    assert json.dumps(extra) == before


def test_merge_leaves_what_was_nested_in_the_base_alone() -> None:
    """The nested table may belong to the caller."""
    inner = {"b": {"c": 1}}
    merge({"a": inner}, {"a": {"b": {"c": 2}}})
    assert inner == {"b": {"c": 1}}


def test_a_body_without_blobs_is_bytes() -> None:
    body = Body()
    assert body.finish() == b""
    body.write(b'{"a":')
    body.value("gr\u00fc\u00df \u2028 \x00")
    body.write(b"}")
    finished = body.finish()
    assert isinstance(finished, bytes)
    assert json.loads(finished) == {"a": "gr\u00fc\u00df \u2028 \x00"}


def test_blobs_are_kept_by_reference() -> None:
    blob = b"QUJD" * 1000
    body = Body()
    body.write(b'["')
    body.blob(blob)
    body.write(b'","')
    body.blob(blob)
    body.write(b'"]')
    pieces = body.finish()
    assert isinstance(pieces, tuple)
    assert [piece is blob for piece in pieces] == [False, True, False, True, False]
    assert json.loads(b"".join(pieces)) == [blob.decode()] * 2
