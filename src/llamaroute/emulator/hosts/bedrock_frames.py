"""The binary event stream of AWS: frames with two checksums, written from the format's public description.

Frame (big-endian): total length, length of the headers, CRC-32 of these eight bytes, headers, payload, CRC-32 of all
before it. Header: length of the name (1 byte), name, type (7 = text), length of the value (2 bytes), value.
https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html and
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import random
import string
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from ..answer import dumps

__all__ = ["error_frame", "event_frame", "exception_frame", "frame", "padding", "spoilt"]

_TEXT = 7
# Recorded paddings are a beginning of this alphabet, of random length
# (pydantic/pydantic-ai:tests/models/cassettes/test_bedrock/test_bedrock_model_stream_empty_text_delta.yaml).
_PADDING = string.ascii_letters + string.digits


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame; all headers are text."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _TEXT, len(text)) + text


def event_frame(kind: str, payload: Mapping[str, Any]) -> bytes:
    """An event; the headers stand in the recorded order."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, dumps(dict(sorted(payload.items()))))


def exception_frame(kind: str, payload: Mapping[str, Any]) -> bytes:
    """An error of the service's model, such as throttlingException."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, dumps(payload))


def error_frame(code: str, message: str) -> bytes:
    """An error outside the service's model: everything is in the headers."""
    return frame({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


def padding() -> str:
    """The `p` that hides the size of an event."""
    return _PADDING[: random.randint(1, len(_PADDING))]


def spoilt(data: bytes) -> bytes:
    """The frame with one bit of its payload turned over: the second checksum no longer fits."""
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
