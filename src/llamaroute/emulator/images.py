"""Just enough of the image formats to tell what arrived: media type and size in pixels, from the first bytes."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from dataclasses import dataclass

__all__ = ["ImageSeen", "from_data_url", "image_tokens", "sniff"]

_DATA = re.compile(r"data:(?P<mime>[^;,]*)(?P<params>[^,]*),(?P<data>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """An image part of a request. `width` is 0 when the bytes are no known image; `url` is set for images sent by
    link."""

    mime: str
    width: int = 0
    height: int = 0
    size: int = 0
    url: str | None = None

    def __str__(self) -> str:
        if self.url is not None:
            return self.url
        return f"{self.mime}, {self.width}x{self.height}" if self.width else f"{self.mime}, {self.size} bytes"


def sniff(data: bytes) -> tuple[str, int, int] | None:
    """Media type, width and height of PNG, JPEG, GIF and WebP bytes; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return "image/png", width, height
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return "image/gif", width, height
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    return None


def _webp(data: bytes) -> tuple[str, int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return "image/webp", 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return "image/webp", 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return "image/webp", width & 0x3FFF, height & 0x3FFF


def _jpeg(data: bytes) -> tuple[str, int, int] | None:
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return "image/jpeg", width, height
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def from_data_url(url: str) -> ImageSeen | None:
    """What a data URL holds; None if it is no data URL or its base64 is broken. Unknown bytes give width 0."""
    match = _DATA.fullmatch(url)
    if match is None:
        return None
    try:
        data = base64.b64decode(match["data"], validate=True)
    except (binascii.Error, ValueError):
        return None
    seen = sniff(data)
    if seen is None:
        return ImageSeen(match["mime"] or "application/octet-stream", size=len(data))
    return ImageSeen(seen[0], seen[1], seen[2], len(data))


def image_tokens(image: ImageSeen) -> int:
    """Prompt tokens of an image in Llama 4: 144 a tile of 336x336 pixels, at most 16 tiles and one overview."""
    if not image.width:
        return 147
    across, down = -(-image.width // 336), -(-image.height // 336)
    tiles = min(16, across * down)
    return 144 * (tiles + 1 if tiles > 1 else 1) + 3
