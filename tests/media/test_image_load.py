"""Bytes, data URLs and PIL images to `ImageData`, and what the errors say."""

from __future__ import annotations

import base64
import importlib
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.errors import InputError
from llamaroute.media.load import data_url_bytes, image_data, looks_like, pil_bytes
from llamaroute.media.sniff import Sniffed, sniff

GIF = b"GIF89a\3\0\2\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\3\0\2\0\0\2\2\x84\x5c\0;"
LIMIT = 1000


def test_image_data() -> None:
    data = image_data(GIF, "it", max_bytes=len(GIF))
    assert (data.media_type, data.data, base64.b64decode(data.base64)) == ("image/gif", GIF, GIF)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^cat\.jpg is empty \(0 bytes\)$"),
        (GIF + bytes(2000), r"^cat\.jpg is too large: \[images\] max_bytes is 1,000, it has 2,035 bytes$"),
        (b"<!DOCTYPE html><html>", r"^cat\.jpg is not an image but looks like an HTML page; PNG, JPEG, .* taken$"),
        (b"%PDF-1.7", r"looks like a PDF \(use Document\)"),
        (GIF[:7], r"begins like image/gif but its 7 bytes give no width and height: it is broken or cut off"),
        (b"\xff\xd8\xff\xe0" + bytes(90), r"begins like image/jpeg"),
    ],
)  # fmt: skip
def test_what_is_no_image(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        image_data(data, "cat.jpg", max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xef\xbb\xbf \n<html lang='en'>", "an HTML page"),
        (b"<!-- hello --> <!-- <svg -->\n<!doctype HTML>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<!-- by hand --><svg width="1">', "an SVG drawing"),
        (b"<svg/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (b'{"error": "no"}', "JSON"),
        (b"[1, 2]", "JSON"),
        (b"Not found\n", "text"),
        ("Größe".encode(), "text"),
        (b"<", "text"),
        (b"<!--", "text"),
        (b"\0\0\0\x20ftypisom", "a video (use Video)"),
        (b"\0\0\0\x20ftypM4A ", "an audio file"),
        (b"\x1aE\xdf\xa3", "a video (use Video)"),
        (b"RIFF\0\0\0\0AVI LIST", "a video (use Video)"),
        (b"RIFF\0\0\0\0WAVEfmt ", "an audio file"),
        (b"ID3\x04", "an audio file"),
        (b"\x1f\x8b\x08\0", "gzip-compressed data"),
        (b"PK\x03\x04", "a ZIP archive or an Office document"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\0\0\1\0\1\0", "an icon (ICO)"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer instead of the file"),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n"), "base64 text; decode it, or write 'data:image/png;base64,' before it"),
        (b"data:image/png;base64,AAAA", "a data URL; pass it as text (str)"),
        (bytes(range(32)) * 9, "binary data of an unknown kind"),
        (b"BM not a bitmap", "text"),
    ],
)
def test_looks_like(data: bytes, name: str) -> None:
    assert looks_like(data) == name


@given(st.binary(max_size=300))
def test_looks_like_takes_any_bytes(data: bytes) -> None:
    assert looks_like(data)


@pytest.mark.parametrize("piece", [b"<!---->", b"<?xml", b"<!--", b"<?xml?>", b" ", b"<!doctype svg", b"[", b"<"])
def test_looks_like_is_quick(piece: bytes) -> None:
    assert looks_like(piece * 100_000)


@given(st.binary(max_size=200).filter(lambda data: not data.startswith((b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR"))))
def test_data_urls_give_their_bytes_back(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    for url in (
        f"data:image/png;base64,{text}",
        f"DATA:image/png;name=a.png;BASE64,{text}",
        f"data:;base64,{quote(text, safe='')}",
        f"data:;base64,{text.rstrip('=')}",
        "data:;base64," + "\n".join(text[i : i + 7] for i in range(0, len(text), 7)),
        f"data:application/octet-stream,{quote_from_bytes(data)}",
    ):
        assert data_url_bytes(url, max_bytes=LIMIT) == data


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64", "has no comma"),
        ("data:image/png;base64,AAA*", "not base64: only base64 data is allowed"),
        ("data:image/png;base64,AAAAA", "not base64: invalid base64-encoded string"),
        ("data:image/png;base64,AA=AA", "not base64: "),
        ("data:image/png;base64,AA-_", "base64url"),
        ("data:image/png;base64,AAAÄ", "outside ASCII"),
        ("data:image/png;base64,AA%ZZ", "not base64"),
        ("data:image/png;base64," + "A" * 2000, r"too large: \[images\] max_bytes is 1,000, it has 1,500 bytes"),
        ("data:image/png,iVBORw0KGgoAAAA", "should begin with 'data:image/png;base64,'"),
        ("data:image/png,\ud800", "cannot be encoded"),
    ],
)
def test_bad_data_urls(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_url_bytes(url, max_bytes=LIMIT)


@given(st.text())
def test_any_text_after_data(text: str) -> None:
    with suppress(InputError):
        data_url_bytes("data:" + text, max_bytes=LIMIT)


def test_data_url_errors_do_not_show_the_data() -> None:
    with pytest.raises(InputError) as caught:
        data_url_bytes("data:image/png;base64," + "c2VjcmV0" * 50 + "*", max_bytes=LIMIT)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB", "F", "I", "I;16"],
)
def test_pil_images_of_every_mode_become_png(mode: str) -> None:
    image = importlib.import_module("PIL.Image").new(mode, (6, 4))
    assert sniff(pil_bytes(image)) == Sniffed("image/png", 6, 4)


def test_pil_image_loses_nothing() -> None:
    pil = importlib.import_module("PIL.Image")
    image = pil.effect_mandelbrot((30, 20), (-2, -1, 1, 1), 50).convert("RGBA")
    with pil.open(BytesIO(pil_bytes(image))) as back:
        assert (back.mode, back.tobytes()) == ("RGBA", image.tobytes())


def test_pil_image_whose_file_is_broken() -> None:
    pil = importlib.import_module("PIL.Image")
    buffer = BytesIO()
    pil.effect_noise((50, 50), 90).save(buffer, "PNG")
    with (
        pil.open(BytesIO(buffer.getvalue()[:500])) as image,
        pytest.raises(InputError, match=r"the PIL image cannot be written as PNG: .*truncated"),
    ):
        pil_bytes(image)


def test_an_object_that_only_looks_like_a_pil_image() -> None:
    class Broken:
        mode = "X"

        def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
            raise OSError("no such mode")

    with pytest.raises(InputError, match="no such mode"):
        pil_bytes(Broken())
