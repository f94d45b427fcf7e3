"""From what a caller has (bytes, a data URL, a PIL image) to an image's bytes with a media type that is true.

Pure: files and URLs are read by `layers/media.py`, which hands the bytes in here. Errors never show the bytes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from ..errors import InputError
from ..types.parts import ImageData, PilImage
from .sniff import sniff

__all__ = ["TAKEN", "data_url_bytes", "image_data", "looks_like", "pil_bytes", "too_large"]

TAKEN = "PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF and HEIC"
"""The formats `sniff` knows, for messages."""

_SIZE_IN_HEAD = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
"""Formats whose size is always near the beginning, so that none found means a broken or cut off file."""


def image_data(data: bytes, what: str, *, max_bytes: int) -> ImageData:
    """Check `data` and find its media type; `what` names the source in messages ("image 'cat.jpg'").

    Raises:
        InputError: no bytes at all, more than `max_bytes`, not an image, or one that ends before its size.
    """
    if not data:
        raise InputError(f"{what} is empty (0 bytes)")
    if len(data) > max_bytes:
        raise too_large(what, max_bytes, len(data))
    found = sniff(data)
    if found is None:
        raise InputError(f"{what} is not an image but looks like {looks_like(data)}; {TAKEN} are taken")
    if found.width is None and found.media_type in _SIZE_IN_HEAD:
        raise InputError(
            f"{what} begins like {found.media_type} but its {len(data)} bytes give no width and height: "
            "it is broken or cut off"
        )
    return ImageData.of(found.media_type, data)


def too_large(what: str, max_bytes: int, size: int | None = None, *, key: str = "max_bytes") -> InputError:
    """The error for more than `max_bytes`; `size` is None when reading stopped at the limit."""
    has = "more" if size is None else f"{size:,} bytes"
    return InputError(f"{what} is too large: [images] {key} is {max_bytes:,}, it has {has}")


def data_url_bytes(url: str, *, max_bytes: int, what: str = "the data URL") -> bytes:
    """The bytes of a `data:` URL, base64 or percent-encoded. Its media type is not believed and so not returned.

    As browsers do, white space in base64 is passed over and missing padding forgiven.
    https://datatracker.ietf.org/doc/html/rfc2397, https://infra.spec.whatwg.org/#forgiving-base64-decode

    Raises:
        InputError: no comma, characters that are not base64, or more than `max_bytes`.
    """
    head, comma, text = url.partition(",")
    if not comma:
        raise InputError(f"{what} has no comma; it should begin like 'data:image/png;base64,'")
    is_base64 = head.rpartition(";")[2].strip().lower() == "base64" and ";" in head
    if not is_base64:
        if _BASE64_OF_IMAGE.match(text):
            raise InputError(f"{what} holds base64 text but does not say so; it should begin with '{head};base64,'")
        try:
            return unquote_to_bytes(text)
        except UnicodeEncodeError:  # half of a surrogate pair
            raise InputError(f"{what} is text that cannot be encoded") from None
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError:
        raise InputError(f"{what} is not base64: it has characters outside ASCII") from None
    if b"%" in encoded:
        encoded = unquote_to_bytes(encoded)
    encoded = encoded.translate(None, b" \t\r\n\f").rstrip(b"=")
    size = len(encoded) * 3 // 4
    if size > max_bytes:  # known before decoding
        raise too_large(what, max_bytes, size)
    try:
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except binascii.Error as error:
        hint = "; '-' and '_' are of another alphabet (base64url)" if re.search(rb"[-_]", encoded) else ""
        raise InputError(f"{what} is not base64: {str(error).lower()} ({len(encoded)} characters){hint}") from None


_BASE64_OF_IMAGE = re.compile(r"iVBORw0KGgo|/9j/|R0lGOD|UklGR")
"""How PNG, JPEG, GIF and WebP begin in base64."""


def pil_bytes(image: PilImage, what: str = "the PIL image") -> bytes:
    """The image as PNG, which loses nothing. A PIL image that was opened and not yet read is read from its file here.

    Modes that PNG has not become the nearest that it has: CMYK and YCbCr RGB, for example.

    Raises:
        InputError: Pillow cannot read or write it.
    """
    try:
        try:
            return _png(image)
        except (OSError, ValueError, KeyError):
            # Pillow says "cannot write mode CMYK as PNG" as an OSError, like a broken file: try once more, converted.
            convert: Callable[[str], PilImage] | None = getattr(image, "convert", None)
            if convert is None or image.mode in _PNG_MODES:
                raise
            return _png(convert(_NEAREST.get(image.mode, "RGB")))
    except Exception as error:  # Pillow's plugins raise whatever they like
        raise InputError(f"{what} cannot be written as PNG: {error}") from error


_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_NEAREST = {"RGBa": "RGBA", "PA": "RGBA", "La": "LA", "F": "L", "I": "I;16"}


def _png(image: PilImage) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _text_like(data: bytes) -> bool:
    head = data[:512]
    return b"\0" not in head and sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head) * 50 <= len(head)


_LOOKS: tuple[tuple[Any, str], ...] = (
    (rb"%PDF-", "a PDF (use Document)"),
    (rb"\x1f\x8b", "gzip-compressed data"),
    (rb"PK\x03\x04", "a ZIP archive or an Office document"),
    (rb"Rar!|7z\xbc\xaf", "an archive"),
    (rb"....ftyp(?:M4A|M4B)", "an audio file"),
    (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI |FLV\x01|\x00\x00\x01\xba|OggS|\x30\x26\xb2\x75", "a video (use Video)"),
    (rb"ID3|RIFF....WAVE|fLaC|\xff[\xfb\xf3\xf2]", "an audio file"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\x00\x00\x01\x00", "an icon (ICO)"),
    (rb"8BPS", "a Photoshop file"),
    (rb"v/1\x01", "an OpenEXR image"),
    (rb"version https://git-lfs", "a Git LFS pointer instead of the file"),
    (rb"data:", "a data URL; pass it as text (str)"),
    (rb"iVBORw0KGgo|/9j/|R0lGOD|UklGR", "base64 text; decode it, or write 'data:image/png;base64,' before it"),
)
_LOOKS_COMPILED = tuple((re.compile(pattern, re.DOTALL | re.IGNORECASE), name) for pattern, name in _LOOKS)


def looks_like(data: bytes) -> str:
    """What bytes that are no image seem to be, with an article: "an HTML page"."""
    head = data[:4096]
    for pattern, name in _LOOKS_COMPILED:
        if pattern.match(head):
            return name
    if not _text_like(head):
        return "binary data of an unknown kind"
    return _markup(head.removeprefix(b"\xef\xbb\xbf").lstrip().lower())


def _markup(text: bytes) -> str:
    xml = text.startswith(b"<?xml")
    while text.startswith((b"<?", b"<!--")):
        _, found, text = text.partition(b"-->" if text.startswith(b"<!--") else b"?>")
        text = text.lstrip()
        if not found:
            break
    if text.startswith((b"<svg", b"<!doctype svg")):
        return "an SVG drawing"
    if text.startswith((b"<html", b"<!doctype html", b"<head", b"<body")):
        return "an HTML page"
    if xml:
        return "an XML document"
    return "JSON" if text.startswith((b"{", b"[")) else "text"
