"""Pages of PDFs, which were written by Pillow or by hand."""

from __future__ import annotations

import sys
from typing import Any

import pypdfium2
import pytest

from llamaroute.errors import ConfigError, InputError
from llamaroute.media.pages import pages
from llamaroute.media.resize import Limits
from llamaroute.media.tiles import image_tokens

from .made import drawn_pdf, pdf, read

LIMITS = Limits(("image/png", "image/jpeg"))
RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def shown(data: bytes, limits: Limits = LIMITS, **options: Any) -> list[tuple[int, Any]]:
    options = {"wanted": None, "most": 10, "dpi": 72.0, **options}
    return [(number, read(content)) for number, content, _ in pages(data, "document 'a.pdf'", limits, **options)]


def colour(picture: Any) -> tuple[int, ...]:
    return tuple(round(channel / 50) * 50 for channel in picture.getpixel((5, 5)))


def test_pages_in_their_order() -> None:
    found = shown(pdf(RED, GREEN, BLUE))
    assert [number for number, _ in found] == [1, 2, 3]
    assert [colour(picture) for _, picture in found] == [RED, GREEN, BLUE]
    assert {picture.size for _, picture in found} == {(200, 300)}


def test_chosen_pages_in_the_order_of_choice() -> None:
    found = shown(pdf(RED, GREEN, BLUE), wanted=(3, 1, 3))
    assert [(number, colour(picture)) for number, picture in found] == [(3, BLUE), (1, RED), (3, BLUE)]


@pytest.mark.parametrize(
    ("dpi", "tiles", "size"),
    [
        (72, 16, (200, 300)),
        (36, 16, (100, 150)),
        (144, 16, (400, 600)),
        (600, 16, (1008, 1511)),
        (144, 7, (400, 600)),
        (600, 7, (672, 1007)),
        (600, 1, (224, 336)),
    ],
)
def test_size_goes_by_dpi_as_far_as_the_tiles_let_it(dpi: float, tiles: int, size: tuple[int, int]) -> None:
    ((_, picture),) = shown(pdf(RED), Limits(("image/png",), tiles=tiles), dpi=dpi)
    assert picture.size == size


def test_a_page_of_paper() -> None:
    ((_, letter),) = shown(drawn_pdf("", box=(0, 0, 612, 792)), dpi=150)
    ((_, a4),) = shown(drawn_pdf("", box=(0, 0, 595.276, 841.89)), dpi=150)
    assert (letter.size, image_tokens(*letter.size)) == ((1038, 1344), 2467)
    assert (a4.size, image_tokens(*a4.size)) == ((1008, 1425), 2322)


@pytest.mark.parametrize(
    "box", [(0, 0, 14_400, 14_400), (0, 0, 1, 1), (0, 0, 14_400, 2), (0, 0, 0.4, 900), (-50, -50, 333.3, 99.9)]
)
def test_strange_pages(box: tuple[float, ...]) -> None:
    ((_, picture),) = shown(drawn_pdf("", box=box), dpi=300)
    assert image_tokens(*picture.size) <= 2467


def test_what_is_drawn() -> None:
    """Paper is white; a black square in the lower left quarter is black, at every resolution."""
    data = drawn_pdf("0 0 0 rg 0 0 100 150 re f")
    for dpi in (72, 150):
        ((_, picture),) = shown(data, dpi=dpi)
        grey = picture.convert("L")
        places = [(x * picture.width // 4, y * picture.height // 4) for y in (1, 3) for x in (1, 3)]
        assert [grey.getpixel(place) for place in places] == [255, 255, 0, 255]


def test_a_drawing_is_sent_without_loss_and_noise_within_the_limit() -> None:
    ((_, _, media_type),) = pages(drawn_pdf(""), "it", LIMITS, wanted=None, most=1, dpi=72)
    assert media_type == "image/png"
    bars = "".join(f"{i % 7 / 7} {i % 11 / 11} {i % 13 / 13} rg {i % 200} {i // 2} 1 1 re f\n" for i in range(600))
    limits = Limits(("image/png", "image/jpeg"), sent=10_000)
    ((_, content, media_type),) = pages(drawn_pdf(bars), "it", limits, wanted=None, most=1, dpi=300)
    assert media_type == "image/jpeg"
    assert len(content) <= 7500


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty$"),
        (b"hello", "is not a PDF but looks like text$"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a PDF but looks like binary data"),
        (b"PK\3\4" + bytes(50), "is not a PDF but looks like a ZIP archive or an Office document$"),
        (b"%PDF-1.7\nrubbish", "is broken: it cannot be read as a PDF$"),
        (pdf(RED)[:200], "is broken: it cannot be read as a PDF$"),
        (drawn_pdf("0 0 9 9 re f", locked=True), "is locked with a password; give a copy without one$"),
        (drawn_pdf("", count=0), "is broken: it cannot be read as a PDF$"),  # PDFium refuses one without pages
    ],
)
def test_what_cannot_be_read(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^document 'a\.pdf' {message}"):
        shown(data)


def test_the_locked_one_is_a_good_pdf_otherwise() -> None:
    assert len(pypdfium2.PdfDocument(drawn_pdf("", locked=True), password="secret")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": 2}, r"has 3 pages to show, and \[images\] max_pages is 2; choose some with Document\(\.\.\., pages="),
        ({"wanted": (4,)}, "has pages 1 to 3, and no page 4$"),
        ({"wanted": (0,)}, "has pages 1 to 3, and no page 0$"),
        ({"wanted": (-1,)}, "and no page -1$"),
        ({"wanted": ("1",)}, "and no page '1'$"),
        ({"wanted": (True,)}, "and no page True$"),
        ({"wanted": ()}, ": pages= names no page$"),
    ],
)
def test_pages_that_are_not_there(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^document 'a\.pdf'.*{message}"):
        shown(pdf(RED, GREEN, BLUE), **options)


def test_chosen_pages_of_a_long_document() -> None:
    assert len(shown(drawn_pdf("", count=50), wanted=range(40, 43), most=3)) == 3


@pytest.mark.parametrize("missing", ["pypdfium2", "PIL.Image"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"^document 'a\.pdf' needs an extra: pip install 'llamaroute\[documents\]'"):
        shown(pdf(RED))


def test_the_same_bytes_every_time() -> None:
    data = drawn_pdf("1 0 0 rg 20 20 100 150 re f")
    first, second = (pages(data, "it", LIMITS, wanted=None, most=1, dpi=150) for _ in range(2))
    assert first == second
