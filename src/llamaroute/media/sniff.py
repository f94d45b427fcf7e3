"""Which image format bytes are in, and how many pixels, read from their head. Pure, no Pillow, never raises.

Only heads are looked at: a file that begins well and is broken further on passes. Sizes are those stored in the file,
before any rotation that its metadata asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import error, unpack_from
from typing import TypeAlias

__all__ = ["Sniffed", "sniff"]


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What bytes were found to be; `width` and `height` are pixels, None when the head does not give them."""

    media_type: str
    width: int | None = None
    height: int | None = None


_Size: TypeAlias = tuple[int, int] | None
_STEPS = 10_000
"""Segments, entries or boxes looked at: far more than a true file has, and no file can make it slow."""
_MARKER = re.compile(rb"\xff[^\xff]")


def sniff(data: bytes) -> Sniffed | None:
    """Media type and pixel size of PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF and HEIC bytes; None for anything else."""
    for recognise, media_type, size in _FORMATS:
        if recognise(data):
            return _sniffed(media_type, size, data)
    if data[4:8] == b"ftyp":
        heif_type = _heif_type(data)
        return _sniffed(heif_type, _heif, data) if heif_type else None
    return None


def _sniffed(media_type: str, size: Callable[[bytes], _Size], data: bytes) -> Sniffed:
    try:
        found = size(data)
    except (error, IndexError, OverflowError):  # cut off before the size, or offsets beyond any memory
        found = None
    # No format allows an empty image; a JPEG of height 0 gives its height behind the pixels (ITU-T T.81, B.2.5).
    return Sniffed(media_type, *found) if found and all(found) else Sniffed(media_type)


def _png(data: bytes) -> _Size:
    """https://www.w3.org/TR/png-3/#11IHDR : always the first chunk."""
    return unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> _Size:
    """https://www.w3.org/Graphics/GIF/spec-gif89a.txt, section 18: the logical screen."""
    return unpack_from("<HH", data, 6)


def _jpeg(data: bytes) -> _Size:
    """https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B: walk the segments up to the frame header (SOF)."""
    at = 2
    for _ in range(_STEPS):
        # Like libjpeg, pass over rubbish between segments, and over any number of fill bytes 0xFF.
        found = _MARKER.search(data, at)
        if found is None:
            return None
        marker, at = found[0][1], found.end()
        if marker in (0xD9, 0xDA):  # the end, or the pixels: a frame header would have come before
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 3)
            return width, height
        if marker > 0x01 and not 0xD0 <= marker <= 0xD8:  # those stand alone, without a length
            at += max(unpack_from(">H", data, at)[0], 2)
    return None


def _webp(data: bytes) -> _Size:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    kind = data[12:16]
    if kind == b"VP8X":
        packed = unpack_from("<HBHB", data, 24)
        return 1 + packed[0] + (packed[1] << 16), 1 + packed[2] + (packed[3] << 16)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF  # the two upper bits are a scaling hint
    return None


_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Lengths of the header's versions. Checked because "BM" alone begins many a text."""


def _is_bmp(data: bytes) -> bool:
    return data[:2] == b"BM" and len(data) >= 18 and unpack_from("<I", data, 14)[0] in _BMP_HEADERS


def _bmp(data: bytes) -> _Size:
    """https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-header-types"""
    if data[14] == 12:
        return unpack_from("<HH", data, 18)
    width, height = unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height means: rows from top to bottom


_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _tiff(data: bytes) -> _Size:
    """TIFF 6.0 (1992), section 2, and BigTIFF: width is tag 256, height tag 257 of the first directory."""
    order = "<" if data[:1] == b"I" else ">"
    big = 43 in data[2:4]
    start = unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    (count,) = unpack_from(order + ("Q" if big else "H"), data, start)
    first, step, value = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    size = {}
    for at in range(first, min(first + step * min(count, _STEPS), len(data)), step):
        tag, kind = unpack_from(order + "HH", data, at)
        if tag in (256, 257) and kind in (3, 4, 16):
            size[tag] = unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], data, at + value)[0]
        if tag >= 257:  # tags are in ascending order
            break
    return (size[256], size[257]) if len(size) == 2 else None


_HEIF_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "image/heic"),
}


def _heif_type(data: bytes) -> str | None:
    """https://aomediacodec.github.io/av1-avif/#brands ; ISO/IEC 23008-12, annex B, for the brands of HEIC.

    The main brand decides; behind the general ones (`mif1`, `msf1`), the first compatible brand that says more.
    """
    end = min(max(int.from_bytes(data[:4], "big"), 16), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(end, len(data)), 4))]
    if brands[0] in _HEIF_BRANDS:
        return _HEIF_BRANDS[brands[0]]
    if brands[0] not in (b"mif1", b"msf1"):
        return None
    return next((_HEIF_BRANDS[brand] for brand in brands if brand in _HEIF_BRANDS), "image/heif")


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the contents of the boxes in a part of an ISO base media file (ISO/IEC 14496-12)."""
    for _ in range(_STEPS):
        if at + 8 > end:
            return
        size, kind, begin = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
        elif size == 0:  # up to the end
            size = end - at
        if size < begin - at:
            return
        yield kind, begin, min(at + size, end)
        at += size


def _heif(data: bytes) -> _Size:
    """The largest of the sizes listed (`ispe`): others are those of thumbnails and of the tiles of a grid."""
    at, end = 0, len(data)
    for wanted, skip in ((b"meta", 4), (b"iprp", 0), (b"ipco", 0)):
        found = next(((begin + skip, stop) for kind, begin, stop in _boxes(data, at, end) if kind == wanted), None)
        if found is None:
            return None
        at, end = found
    sizes = [unpack_from(">II", data, begin + 4) for kind, begin, stop in _boxes(data, at, end) if kind == b"ispe"]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


_FORMATS: tuple[tuple[Callable[[bytes], bool], str, Callable[[bytes], _Size]], ...] = (
    (lambda data: data[:8] == b"\x89PNG\r\n\x1a\n", "image/png", _png),
    (lambda data: data[:3] == b"\xff\xd8\xff", "image/jpeg", _jpeg),
    (lambda data: data[:6] in (b"GIF87a", b"GIF89a"), "image/gif", _gif),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", "image/webp", _webp),
    (_is_bmp, "image/bmp", _bmp),
    (lambda data: data[:4] in _TIFF_HEADS, "image/tiff", _tiff),
)
