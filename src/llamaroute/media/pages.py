"""The pages of a PDF as pictures. Needs pypdfium2 and Pillow (the extra `documents`).

Pure, but for one thing: PDFium bears one thread at a time in the whole process, which the caller has to see to.
https://pypdfium2.readthedocs.io/en/stable/python_api.html#incompatibility-with-threading
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, InputError
from .load import looks_like
from .resize import Limits, encoded

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["pages"]

_POINTS = 72
"""PDF's units in an inch: ISO 32000-2, 8.3.2.3."""
_PASSWORD = 4
"""`FPDF_ERR_PASSWORD`: https://pdfium.googlesource.com/pdfium/+/refs/heads/main/public/fpdfview.h"""


def pages(
    data: bytes, what: str, limits: Limits, *, wanted: Sequence[int] | None, most: int, dpi: float
) -> list[tuple[int, bytes, str]]:
    """Number, bytes and media type of each page, in the order of `wanted` (counted from 1; None means all).

    Each is drawn at `dpi`, or at less where that is more than `limits` lets through. Filled-in forms and annotations
    are drawn too. The text in the file is not looked at.

    Raises:
        InputError: not a PDF, broken, locked with a password, without pages or without one of those wanted, or more
            than `most` of them.
        ConfigError: pypdfium2 or Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401
        import pypdfium2
    except ImportError as error:
        raise ConfigError(f"{what} needs an extra: pip install 'llamaroute[documents]' ({error})") from error
    if b"%PDF-" not in data[:1024]:  # readers look for it so far: ISO 32000-2, annex on implementation notes
        raise InputError(f"{what} is not a PDF but looks like {looks_like(data)}" if data else f"{what} is empty")
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        # Where PDFium gives no reason of its own, the code is that of the last document before this one.
        if error.err_code == _PASSWORD and b"/Encrypt" in data:
            raise InputError(f"{what} is locked with a password; give a copy without one") from error
        raise InputError(f"{what} is broken: it cannot be read as a PDF") from error
    try:
        document.init_forms()
        numbers = _chosen(len(document), what, wanted, most)
        drawn = []
        for number in numbers:
            try:
                picture = _drawn(document, number - 1, limits, dpi)
            except (pypdfium2.PdfiumError, ValueError, MemoryError) as error:
                raise InputError(f"{what}: page {number} cannot be drawn: {error}") from error
            content, media_type, _ = encoded(picture, limits, exact=True)
            drawn.append((number, content, media_type))
        return drawn
    finally:
        document.close()


def _chosen(count: int, what: str, wanted: Sequence[int] | None, most: int) -> Sequence[int]:
    numbers = range(1, count + 1) if wanted is None else wanted
    if not numbers:
        raise InputError(f"{what} has no pages" if wanted is None else f"{what}: pages= names no page")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= count:
            raise InputError(f"{what} has pages 1 to {count}, and no page {number!r}")
    if len(numbers) > most:
        raise InputError(
            f"{what} has {len(numbers)} pages to show, and [images] max_pages is {most}; "
            f"choose some with Document(..., pages=range(1, {most + 1}))"
        )
    return numbers


def _drawn(document: Any, index: int, limits: Limits, dpi: float) -> Picture:
    page = document[index]
    try:
        width, height = (max(side, 1e-3) for side in page.get_size())
        size = max(round(width * dpi / _POINTS), 1), max(round(height * dpi / _POINTS), 1)
        size = limits.size(*size)
        # PDFium rounds up. A pixel more than the tile rule allows would cost another row of tiles.
        scale = min(size[0] / width, size[1] / height) * (1 - 1e-6)
        bitmap = page.render(scale=scale)
        try:
            picture: Picture = bitmap.to_pil().convert("RGB")
        finally:
            bitmap.close()
        return picture.crop((0, 0, min(size[0], picture.width), min(size[1], picture.height)))
    finally:
        page.close()
