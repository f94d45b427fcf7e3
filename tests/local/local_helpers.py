"""Requests for the engine in this process, and what reads its answers."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from typing import Any

from pydantic_core import from_json, to_json

from llamaroute.pipeline.ops import Send
from llamaroute.providers.local import SPEC, LocalSettings
from llamaroute.spi import Target, WireRequest
from llamaroute.transport.local import LocalTransport
from llamaroute.types.capability import ModelRow


def target_of(options: LocalSettings, provider: str = "local") -> Target:
    row = ModelRow(options.model, options.model)
    return Target(provider, "local", row.model, row.model_id, options, SPEC.refine(row, options))


def chat(content: Any = "Hello", **body: Any) -> dict[str, Any]:
    """A chat body, greedy and short unless told otherwise."""
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8, **body}


def send(body: Any, path: str = "v1/chat/completions", *, answer: float = 60.0, total: float | None = 60.0) -> Send:
    data = body if isinstance(body, bytes | tuple) else to_json(body)
    request = WireRequest("POST", f"local://local/{path}", {"content-type": "application/json"}, data)
    return Send(request, None, 5.0, answer, None if total is None else time.monotonic() + total)


def soon(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


def ask(transport: LocalTransport, body: Any, path: str = "v1/chat/completions", **times: Any) -> tuple[int, bytes]:
    response = transport.open(send(body, path, **times))
    try:
        pieces = []
        while data := response.read(soon(), "idle"):
            pieces.append(data)
        return response.head.status, b"".join(pieces)
    finally:
        response.close()


def answer(transport: LocalTransport, body: Any) -> dict[str, Any]:
    status, data = ask(transport, body)
    assert status == 200, data
    return from_json(data)


def events(body: bytes) -> list[Any]:
    """The data of a stream's events, `[DONE]` as text."""
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else from_json(line) for line in lines]


def png(width: int = 64, height: int = 48, colour: bytes = b"\xc8\x1e\x1e") -> str:
    """A plain image as a data URL."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + colour * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def picture(url: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
