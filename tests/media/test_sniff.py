"""Formats and sizes: Pillow as the oracle for whole images, hand-made heads for what Pillow does not write."""

from __future__ import annotations

import importlib
import random
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.media.sniff import Sniffed, sniff

pil_image = importlib.import_module("PIL.Image")
features = importlib.import_module("PIL.features")

WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "RGB", {"optimize": True}),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", {"exif": b"Exif\0\0" + b"\xff\xc0" * 20_000, "comment": b"\xff\xd9\xff\xda"}),
    ("JPEG", "RGB", {"icc_profile": bytes(range(256)) * 600, "restart_marker_blocks": 1}),
    *(("GIF", mode, {}) for mode in ("1", "L", "P", "RGB")),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("TIFF", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I;16B")),
    ("TIFF", "RGB", {"compression": "tiff_deflate"}),
    ("TIFF", "RGB", {"big_tiff": True}),
    *((("AVIF", "RGB", {}), ("AVIF", "RGBA", {"quality": 30})) if features.check("avif") else ()),
]
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def written(format_: str, mode: str, size: tuple[int, int], options: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    pil_image.new(mode, size).save(buffer, format_, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> Sniffed:
    with pil_image.open(BytesIO(data)) as image:
        return Sniffed(pil_image.MIME[image.format], *image.size)


@pytest.mark.parametrize(("format_", "mode", "options"), WRITTEN)
def test_pillow_agrees(format_: str, mode: str, options: dict[str, Any]) -> None:
    numbers = random.Random(format_ + mode)
    for size in ((1, 1), (1, 200), (640, 3), *((numbers.randint(1, 400), numbers.randint(1, 400)) for _ in range(4))):
        data = written(format_, mode, size, options)
        assert sniff(data) == pillow(data) == Sniffed(pil_image.MIME[format_], *size)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([one for one in WRITTEN if one[0] != "AVIF"]), sizes)
def test_pillow_agrees_at_any_size(kind: tuple[str, str, dict[str, Any]], size: tuple[int, int]) -> None:
    format_, mode, options = kind
    assert sniff(written(format_, mode, size, options)) == Sniffed(pil_image.MIME[format_], *size)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames(format_: str) -> None:
    buffer = BytesIO()
    frames = [pil_image.new("RGB", (30, 20), color) for color in ("red", "green", "blue")]
    frames[0].save(buffer, format_, save_all=True, append_images=frames[1:])
    assert sniff(buffer.getvalue()) == pillow(buffer.getvalue())


@pytest.mark.parametrize("size", [(16_383, 1), (1, 16_383), (65_000, 1), (1, 65_000)])
def test_long_sides(size: tuple[int, int]) -> None:
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "TIFF", *(("WEBP",) if max(size) < 16_384 else ())):
        assert sniff(written(format_, "L" if format_ != "WEBP" else "RGB", size, {})) == Sniffed(
            pil_image.MIME[format_], *size
        )


@pytest.mark.parametrize(("format_", "mode", "options"), WRITTEN)
def test_cut_off_anywhere(format_: str, mode: str, options: dict[str, Any]) -> None:
    """However little of an image there is: its type and size, its type, or nothing, but never another one."""
    data = written(format_, mode, (31, 17), options)
    media_type = pil_image.MIME[format_]
    allowed = (None, Sniffed(media_type), Sniffed(media_type, 31, 17))
    for end in {*range(min(len(data), 700)), *range(0, len(data), 997)}:
        assert sniff(data[:end]) in allowed


@settings(max_examples=300)
@given(st.data())
def test_damaged_images_never_raise(data: st.DataObject) -> None:
    format_, mode, options = data.draw(st.sampled_from(WRITTEN))
    image = bytearray(written(format_, mode, (9, 5), options)[:2000])
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, min(len(image) - 1, 300)))] = data.draw(st.integers(0, 255))
    found = sniff(bytes(image))
    assert found is None or (found.width is None) == (found.height is None)


HEADS = [
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xff\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"RIFF    WEBPVP8X",
    b"RIFF    WEBPVP8L    \x2f", b"RIFF    WEBPVP8 ", b"BM", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0",
    b"\0\0\0\x18ftypavif", b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1\0\0\0\x40meta\0\0\0\0\0\0\0\x30iprp\0\0\0\x28ipco",
    b"\xff\xff\xff\xffftypheic", b"\0\0\0\1ftypavif",
]  # fmt: skip


@settings(max_examples=500)
@given(st.sampled_from([b"", *HEADS]), st.binary(max_size=200))
def test_any_bytes_never_raise(head: bytes, rest: bytes) -> None:
    found = sniff(head + rest)
    if found is not None and found.width is not None:
        assert found.width > 0
        assert found.height
        assert found.height > 0


@pytest.mark.parametrize("head", HEADS)
def test_time_is_bounded(head: bytes) -> None:
    """Megabytes of the same byte behind a head: no walk over them is slow or endless."""
    for fill in (b"\0", b"\xff", b"\xff\xc4", b"\xff\x01", b"\0\0\0\x08ispe", b"\0\0\0\x08free"):
        sniff(head + fill * (20_000_000 // len(fill)))


def sof(marker: int, width: int = 7, height: int = 5) -> bytes:
    return struct.pack(">BBHBHHB", 0xFF, marker, 8, 8, height, width, 1)


def jpegs() -> Iterator[tuple[str, bytes, Sniffed]]:
    size = Sniffed("image/jpeg", 7, 5)
    for marker in range(0xC0, 0xD0):
        if marker not in (0xC4, 0xC8, 0xCC):
            yield f"SOF{marker - 0xC0}", b"\xff\xd8" + sof(marker), size
    yield "tables first", b"\xff\xd8\xff\xc4\0\4\0\0\xff\xcc\0\2" + sof(0xC0), size
    yield "fill bytes", b"\xff\xd8\xff\xff\xff\xff" + sof(0xC0)[1:], size
    yield "rubbish between", b"\xff\xd8\xff\xe0\0\4ab" + b"\0rubbish" + sof(0xC0), size
    yield "a segment that holds a frame header", b"\xff\xd8\xff\xe1\0\x0c" + sof(0xC0, 99, 99) + sof(0xC2), size
    yield "restart and temporary markers", b"\xff\xd8\xff\xd0\xff\x01" + sof(0xC0), size
    yield "pixels first", b"\xff\xd8\xff\xda\0\2" + sof(0xC0), Sniffed("image/jpeg")
    yield "height given later", b"\xff\xd8" + sof(0xC0, 7, 0), Sniffed("image/jpeg")
    yield "a length of zero", b"\xff\xd8\xff\xe0\0\0" + sof(0xC0), size


@pytest.mark.parametrize(("data", "expected"), [pytest.param(data, e, id=name) for name, data, e in jpegs()])
def test_jpeg_segments(data: bytes, expected: Sniffed) -> None:
    assert sniff(data) == expected


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I", 8 + len(body)) + kind + body


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", bytes(4), struct.pack(">II", width, height))


def heif(brand: bytes, *compatible: bytes, sizes: bytes = b"") -> bytes:
    meta = box(b"meta", bytes(4), box(b"hdlr", bytes(24)), box(b"iprp", box(b"ipco", box(b"hvcC", b"x" * 9), sizes)))
    return box(b"ftyp", brand, bytes(4), *compatible) + box(b"free") + meta


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (heif(b"heic", b"mif1", sizes=ispe(40, 30)), Sniffed("image/heic", 40, 30)),
        (heif(b"mif1", b"mif1", b"heic", sizes=ispe(40, 30)), Sniffed("image/heic", 40, 30)),
        (heif(b"mif1", b"avif", sizes=ispe(40, 30)), Sniffed("image/avif", 40, 30)),
        (heif(b"mif1", b"mif1"), Sniffed("image/heif")),
        (heif(b"avif", sizes=ispe(512, 512) + ispe(2000, 1500) + ispe(160, 120)), Sniffed("image/avif", 2000, 1500)),
        (heif(b"avis"), Sniffed("image/avif")),
        (heif(b"heic")[:20], Sniffed("image/heic")),
        (heif(b"isom", b"mp42", b"avif", sizes=ispe(40, 30)), None),
        (heif(b"qt  "), None),
        (b"\0\0\0\x1cftypM4A ", None),
    ],
)
def test_heif(data: bytes, expected: Sniffed | None) -> None:
    assert sniff(data) == expected


def bmp(size_of_header: int, *fields: bytes) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<I", size_of_header) + b"".join(fields) + bytes(20)


def tiff(order: str, kind: int, *, tags: tuple[int, int] = (256, 257)) -> bytes:
    code = {3: "H", 4: "I"}[kind]
    entries = b"".join(
        struct.pack(order + "HHI" + code, tag, kind, 1, value).ljust(12, b"\0")
        for tag, value in zip(tags, (600, 400), strict=True)
    )
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bmp(40, struct.pack("<ii", 64, -48)), Sniffed("image/bmp", 64, 48)),
        (bmp(12, struct.pack("<HH", 64, 48)), Sniffed("image/bmp", 64, 48)),
        (bmp(124, struct.pack("<ii", 64, 48)), Sniffed("image/bmp", 64, 48)),
        (bmp(40, struct.pack("<ii", 64, 0)), Sniffed("image/bmp")),
        (b"BMW is a maker of cars and motorcycles", None),
        (b"BM", None),
        (tiff("<", 3), Sniffed("image/tiff", 600, 400)),
        (tiff(">", 3), Sniffed("image/tiff", 600, 400)),
        (tiff(">", 4), Sniffed("image/tiff", 600, 400)),
        (tiff("<", 4, tags=(256, 300)), Sniffed("image/tiff")),
        (b"II*\0\xff\xff\xff\xff", Sniffed("image/tiff")),
        (b"GIF88a" + bytes(20), None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"RIFF\0\0\0\0WEBPJUNK" + bytes(30), Sniffed("image/webp")),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIDAT" + b"\0\0\0\1" * 2, Sniffed("image/png")),
        (b"\x89PNG\n\x1a\n", None),  # line ends converted on the way, as the signature is there to show
        (b"\xff\xd8", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_other_heads(data: bytes, expected: Sniffed | None) -> None:
    assert sniff(data) == expected
