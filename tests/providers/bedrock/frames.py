"""AWS event-stream frames, written by hand: the library's own writer is not used to test its reader.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import json
import string
import struct
from collections.abc import Mapping
from typing import Any
from zlib import crc32

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message whose headers are all text."""
    block = b""
    for name, value in headers.items():
        block += struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    message = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return message + struct.pack(">I", crc32(message))


def event(name: str, payload: dict[str, Any], padding: int = 20) -> bytes:
    """An event as Bedrock sends it: headers in this order, keys sorted, padded with a key `p` of random length."""
    body = json.dumps({**payload, "p": LETTERS[:padding]}, sort_keys=True, separators=(",", ":")).encode()
    return frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, body)


def exception(name: str, message: str) -> bytes:
    """An exception that the operation defines."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def error(code: str, message: str) -> bytes:
    """An error that no operation defines; it has no payload."""
    return frame({":error-code": code, ":error-message": message, ":message-type": "error"}, b"")


def start() -> bytes:
    return event("messageStart", {"role": "assistant"}, 47)


def text(piece: str, index: int = 0) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": piece}}, len(piece))


def stop(index: int = 0) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def end(reason: str = "end_turn", usage: Mapping[str, Any] | None = None) -> bytes:
    """The last two events."""
    given = {"inputTokens": 21, "outputTokens": 6, "serverToolUsage": {}, "totalTokens": 27} if usage is None else usage
    return event("messageStop", {"stopReason": reason}) + event(
        "metadata", {"metrics": {"latencyMs": 522}, "usage": dict(given)}, 3
    )
