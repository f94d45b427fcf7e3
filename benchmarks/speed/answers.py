"""The canned answers: bytes that the server sends, and the texts that a right client reads in them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

MODEL = "meta-llama/llama-4-maverick-17b-128e-instruct"
TEXT = "The quick brown fox jumps over the lazy dog, and then it lies down and sleeps for a while."
"""The text of every plain answer."""
TOOL = "wind_speed"
"""The tool that is called where the request brings tools and no result of one."""
STAMP = 16
"""Digits at the begin of each delta: its number, or, in paced streams, `time.monotonic_ns()` when it was sent."""
_WORDS = " and so on and so forth,"
DELTA = STAMP + len(_WORDS)
"""Characters of each delta of a stream."""


def delta(stamp: int) -> str:
    """The text of one delta."""
    return f"{stamp:0{STAMP}d}{_WORDS}"


# As many headers as real hosts send.
_HEADERS = (
    b"date: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: canned\r\nx-request-id: req_0a1b2c3d4e5f60718293\r\n"
    b"x-ratelimit-limit-requests: 100000\r\nx-ratelimit-remaining-requests: 99999\r\n"
    b"x-ratelimit-limit-tokens: 100000000\r\nx-ratelimit-remaining-tokens: 99999000\r\n"
    b"x-ratelimit-reset-requests: 1ms\r\nx-processing-ms: 11\r\ncache-control: no-cache\r\nvary: accept-encoding\r\n"
    b"via: 1.1 canned\r\nstrict-transport-security: max-age=60\r\nconnection: keep-alive\r\n"
)


def _plain(body: object) -> bytes:
    data = json.dumps(body).encode()
    return (
        b"HTTP/1.1 200 OK\r\n" + _HEADERS + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
    ) + data


def _chat(message: dict[str, object], finish: str) -> bytes:
    return _plain(
        {
            "id": "chatcmpl-0a1b2c3d4e5f6071",
            "object": "chat.completion",
            "created": 1767225600,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": 14, "completion_tokens": 21, "total_tokens": 35},
            "system_fingerprint": "fp_canned",
        }
    )


CHAT = _chat({"content": TEXT}, "stop")
CHAT_TOOL = _chat(
    {
        "content": None,
        "tool_calls": [
            {"id": "call_0a1b2c3d", "type": "function", "function": {"name": TOOL, "arguments": '{"place": "Kiel"}'}}
        ],
    },
    "tool_calls",
)
CONVERSE = _plain(
    {
        "metrics": {"latencyMs": 11},
        "output": {"message": {"content": [{"text": TEXT}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 14, "outputTokens": 21, "totalTokens": 35},
    }
)
READY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stream(NamedTuple):
    """A streamed answer in HTTP's chunked coding, one event a chunk, as hosts send it."""

    head: bytes
    piece: Callable[[int], bytes]
    """One delta with the given stamp."""
    tail: bytes

    def block(self, first: int, count: int) -> bytes:
        """`count` deltas, numbered from `first`."""
        return b"".join(map(self.piece, range(first, first + count)))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _stream_head(media_type: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + _HEADERS + b"content-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % media_type


_NO_STAMP = "#" * STAMP


def _patched(whole: bytes) -> Callable[[int], bytes]:
    """A function that puts a stamp into a piece that is otherwise always the same."""
    before, after = whole.split(_NO_STAMP.encode())

    def piece(stamp: int) -> bytes:
        return b"%s%016d%s" % (before, stamp, after)

    return piece


def _sse(change: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": change, "logprobs": None, "finish_reason": finish}
    event = {
        "id": "chatcmpl-0a1b2c3d4e5f6071",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": MODEL,
        "system_fingerprint": "fp_canned",
        "choices": [choice],
        **more,
    }
    return _chunk(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")


_USAGE = {"prompt_tokens": 14, "completion_tokens": 4096, "total_tokens": 4110}
SSE = Stream(
    _stream_head(b"text/event-stream") + _sse({"role": "assistant", "content": ""}),
    _patched(_sse({"content": _NO_STAMP + _WORDS})),
    _sse({}, "stop", usage=_USAGE) + _chunk(b"data: [DONE]\n\n") + _chunk(b""),
)


def _frame(kind: str, payload: bytes) -> bytes:
    """One message of AWS's event-stream coding, both checksums right."""
    headers = b"".join(
        struct.pack(">B", len(name)) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in (
            (b":event-type", kind.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return _chunk(message + struct.pack(">I", zlib.crc32(message)))


def _converse_delta(stamp: int) -> bytes:
    text = delta(stamp).encode()
    return _frame("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"%s"},"p":"abcdefghijkl"}' % text)


CONVERSE_STREAM = Stream(
    _stream_head(b"application/vnd.amazon.eventstream") + _frame("messageStart", b'{"role":"assistant"}'),
    _converse_delta,
    _frame("contentBlockStop", b'{"contentBlockIndex":0}')
    + _frame("messageStop", b'{"stopReason":"end_turn"}')
    + _frame(
        "metadata",
        b'{"usage":{"inputTokens":14,"outputTokens":4096,"totalTokens":4110},"metrics":{"latencyMs":11}}',
    )
    + _chunk(b""),
)

BLOCK = 4000
"""Deltas that are made, kept and sent as one piece of bytes."""


@lru_cache(maxsize=64)
def _kept(stream: Stream, first: int, count: int) -> bytes:
    return stream.block(first, count)


def burst(stream: Stream, count: int) -> Iterator[bytes]:
    """A whole streamed answer of `count` deltas without pauses, in large pieces."""
    if count <= BLOCK:
        yield stream.head + _kept(stream, 0, count) + stream.tail
        return
    yield stream.head
    for first in range(0, count, BLOCK):
        yield stream.block(first, min(BLOCK, count - first))
    yield stream.tail
