"""Which image format bytes are in, how many pixels, which way up and whether they move. Pure, no Pillow, never raises.

Only heads are looked at: a file that begins well and is broken further on passes. Sizes are those stored in the file,
before any rotation that its metadata asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from struct import error, unpack_from
from typing import TypeAlias

from ..types.dataclass import dataclass

__all__ = ["Sniffed", "animated", "orientation", "sniff"]


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


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker, and place of the length, of a JPEG's segments up to its pixels.

    https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B
    """
    at = 2
    for _ in range(_STEPS):
        # Like libjpeg, pass over rubbish between segments, and over any number of fill bytes 0xFF.
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, at = found[0][1], found.end()
        if marker in (0xD9, 0xDA):  # the end, or the pixels: a frame header would have come before
            return
        yield marker, at
        if marker > 0x01 and not 0xD0 <= marker <= 0xD8:  # those stand alone, without a length
            at += max(unpack_from(">H", data, at)[0], 2)


def _jpeg(data: bytes) -> _Size:
    """As the frame header (SOF) says."""
    for marker, at in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 3)
            return width, height
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
    """Width is tag 256, height tag 257."""
    tags = _directory(data, 0, (256, 257))
    return (tags[256], tags[257]) if len(tags) == 2 else None


def _directory(data: bytes, base: int, wanted: tuple[int, ...]) -> dict[int, int]:
    """The wanted tags of the first directory of the TIFF at `base`: TIFF 6.0 (1992), section 2, and BigTIFF."""
    order = "<" if data[base : base + 1] == b"I" else ">"
    big = 43 in data[base + 2 : base + 4]
    start = base + unpack_from(order + ("Q" if big else "I"), data, base + (8 if big else 4))[0]
    (count,) = unpack_from(order + ("Q" if big else "H"), data, start)
    first, step, value = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    tags = {}
    for at in range(first, min(first + step * min(count, _STEPS), len(data)), step):
        tag, kind = unpack_from(order + "HH", data, at)
        if tag in wanted and kind in (3, 4, 16):
            tags[tag] = unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], data, at + value)[0]
        if tag >= wanted[-1]:  # tags are in ascending order
            break
    return tags


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


# ---- which way up


def orientation(data: bytes) -> int:
    """How an image has to be turned to be seen upright, as EXIF counts it: 1 (not at all) to 8.

    Looked for where cameras and phones write it, in JPEG, PNG and WebP: tag 274 of Exif 3.0 (CIPA DC-008), 4.6.5.1.
    """
    try:
        at = next((place(data) for recognise, place in _EXIF if recognise(data)), None)
        if at is None:
            return 1
        if data[at : at + 6] == b"Exif\0\0":
            at += 6
        found = _directory(data, at, (274,)).get(274, 1) if data[at : at + 4] in _TIFF_HEADS else 1
    except (error, IndexError, OverflowError):
        return 1
    return found if 1 <= found <= 8 else 1


def _jpeg_exif(data: bytes) -> int | None:
    segments = ((at + 2) for marker, at in _segments(data) if marker == 0xE1)
    return next((at for at in segments if data[at : at + 6] == b"Exif\0\0"), None)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Type, and begin of the contents, of a PNG's chunks: https://www.w3.org/TR/png-3/#5Chunk-layout"""
    at = 8
    for _ in range(_STEPS):
        if at + 8 > len(data):
            return
        yield data[at + 4 : at + 8], at + 8
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 12
    for _ in range(_STEPS):
        if at + 8 > len(data):
            return
        yield data[at : at + 4], at + 8
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2


_EXIF: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], int | None]], ...] = (
    (lambda data: data[:3] == b"\xff\xd8\xff", _jpeg_exif),
    (
        lambda data: data[:8] == b"\x89PNG\r\n\x1a\n",
        lambda data: next((at for kind, at in _png_chunks(data) if kind == b"eXIf"), None),
    ),
    (
        lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
        lambda data: next((at for kind, at in _riff_chunks(data) if kind == b"EXIF"), None),
    ),
)


# ---- whether they move


def animated(data: bytes) -> bool:
    """Whether a GIF, PNG or WebP has several pictures."""
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif_pictures(data) > 1
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        # https://www.w3.org/TR/png-3/#acTL-chunk : before the first pixels
        for kind, at in _png_chunks(data):
            if kind == b"acTL":
                return int.from_bytes(data[at : at + 4], "big") > 1
            if kind == b"IDAT":
                break
        return False
    return data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and bool(data[20:21] and data[20] & 0x02)


def _gif_pictures(data: bytes) -> int:
    """How many pictures, as far as two. https://www.w3.org/Graphics/GIF/spec-gif89a.txt"""

    def behind_table(at: int, packed: int) -> int:
        return at + (3 << (packed & 7) + 1 if packed & 0x80 else 0)

    pictures = steps = 0
    try:
        at = behind_table(13, data[10])
        for _ in range(_STEPS):
            if data[at] == 0x2C:
                pictures += 1
                if pictures == 2:
                    break
                at = behind_table(at + 10, data[at + 9]) + 1
            elif data[at] == 0x21:
                at += 2
            else:  # the end, or rubbish
                break
            while data[at] and steps < _GIF_STEPS:
                at += data[at] + 1
                steps += 1
            at += 1
    except IndexError:
        pass
    return pictures


_GIF_STEPS = 200_000
"""Blocks of at most 255 bytes: more than 50 MB."""
