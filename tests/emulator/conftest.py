"""Fixtures of the emulator's own tests. The clients here are other people's software: they decide what is right."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

import pytest

from llamaroute.emulator import Emulator


def png(width: int, height: int) -> bytes:
    """A valid grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\x00" + b"\x80" * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(scope="session")
def image_url() -> str:
    """A 64x48 PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(64, 48)).decode()


@pytest.fixture(scope="session")
def weather_tool() -> dict[str, object]:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "name"},
            "unit": {"enum": ["c", "f"], "type": "string"},
        },
        "required": ["city"],
    }
    return {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": schema}}
