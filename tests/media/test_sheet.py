"""Numbered sheets: which pictures go where, and what is to be seen there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL.Image import Image as Picture

from llamaroute.errors import InputError
from llamaroute.media.resize import Limits, Unfit
from llamaroute.media.sheet import MOST, Sheet, groups, merge
from llamaroute.media.sniff import Sniffed, sniff
from llamaroute.media.tiles import grid, image_tokens

from .made import noise, png_head, quarters, read, saved

BOTH = ("image/png", "image/jpeg")
LIMITS = Limits(BOTH, tiles=7, sent=1_000_000)
COLOURS = [(200, 40 * (number % 5), 30 * (number // 5)) for number in range(MOST)]


def pictures(count: int, size: tuple[int, int] = (400, 300)) -> list[tuple[bytes, str]]:
    return [
        (saved(Pil.new("RGB", size, colour), "PNG"), f"image {number}") for number, colour in enumerate(COLOURS[:count])
    ]


def one(sheets: tuple[Sheet | None, ...]) -> Sheet:
    (sheet,) = sheets
    assert sheet is not None
    return sheet


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [
        (2, 1, [2]),
        (16, 1, [16]),
        (3, 3, [1, 1, 1]),
        (4, 3, [2, 1, 1]),
        (10, 3, [4, 3, 3]),
        (9, 8, [2, 1, 1, 1, 1, 1, 1, 1]),
        (48, 3, [16, 16, 16]),
    ],
)
def test_groups(count: int, most: int, sizes: list[int]) -> None:
    assert [len(group) for group in groups(count, most)] == sizes


@given(st.integers(1, 300), st.integers(1, 20))
def test_groups_hold_every_picture_in_order(count: int, most: int) -> None:
    if count > most * MOST:
        with pytest.raises(Unfit, match=rf"^at most 16 images are merged into one, which makes \d+ here, not {count}$"):
            groups(count, most)
        return
    dealt = groups(count, most)
    assert [index for group in dealt for index in group] == list(range(count))
    assert len(dealt) == min(count, most)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert max(map(len, dealt)) <= MOST


def test_none_at_all_are_taken() -> None:
    with pytest.raises(Unfit):
        groups(2, 0)


def middles(sheet: Picture) -> list[tuple[int, int, int]]:
    """The colours to be seen, in reading order."""
    small = sheet.convert("RGB")
    seen: list[tuple[int, int, int]] = []
    for y in range(40, small.height, 8):
        for x in range(8, small.width, 8):
            pixel = small.getpixel((x, y))
            assert isinstance(pixel, tuple)
            near = [colour for colour in COLOURS if all(abs(a - b) < 6 for a, b in zip(pixel, colour, strict=True))]
            if near and near[0] not in seen:
                seen.append(near[0])
    return seen


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 9, 12, 16])
def test_all_pictures_are_there_in_order(count: int) -> None:
    sheet = one(merge(pictures(count), 1, LIMITS, max_pixels=10**7))
    assert (sheet.first, sheet.last) == (1, count)
    assert sniff(sheet.data) == Sniffed(sheet.media_type, *sheet.size)
    assert middles(read(sheet.data)) == COLOURS[:count]
    rows, columns = grid(*sheet.size)
    assert rows * columns <= 16
    assert len(sheet.data) * 4 / 3 <= 1_000_000


def test_pictures_of_several_shapes() -> None:
    shapes = [(1600, 200), (200, 1600), (30, 30), (900, 900)]
    given_pictures = [
        (saved(Pil.new("RGB", size, colour), "JPEG", quality=95), "it")
        for size, colour in zip(shapes, COLOURS, strict=False)
    ]
    sheet = read(one(merge(given_pictures, 1, LIMITS, max_pixels=10**7)).data)
    assert set(middles(sheet)) == set(COLOURS[:4])


def test_each_has_its_number() -> None:
    """The strip above each picture is black, with something white in it that differs from number to number."""
    sheet = one(merge(pictures(4, (300, 300)), 1, LIMITS, max_pixels=10**7))
    picture = read(sheet.data).convert("L")
    strips = []
    assert picture.size == (672, 672)
    for index in range(4):
        left, top = index % 2 * 336, index // 2 * 336
        strip = picture.crop((left, top + 1, left + 60, top + 31)).point(lambda shade: 255 if shade > 128 else 0)
        light = sum(strip.tobytes()) / 255 / (60 * 30)
        assert 0.01 < light < 0.3
        strips.append(strip.tobytes())
    assert len(set(strips)) == 4


def test_numbers_go_on_over_the_sheets() -> None:
    sheets = merge(pictures(5), 2, LIMITS, max_pixels=10**7)
    assert [(sheet.first, sheet.last) for sheet in sheets if sheet] == [(1, 3), (4, 5)]
    assert [sheet and (sheet.first, sheet.last) for sheet in merge(pictures(4), 3, LIMITS, max_pixels=10**7)] == [
        (1, 2),
        None,
        None,
    ]


@pytest.mark.parametrize("count", range(2, MOST + 1))
def test_no_sheet_is_a_long_strip(count: int) -> None:
    """The model's view of the whole squeezes it into a square."""
    sheet = one(merge(pictures(count, (800, 600)), 1, LIMITS, max_pixels=10**7))
    assert max(sheet.size) / min(sheet.size) <= 2


def test_a_sheet_costs_at_most_what_its_pictures_may() -> None:
    limits = Limits(BOTH, tiles=1)
    sheet = one(merge(pictures(3), 1, limits, max_pixels=10**7))
    rows, columns = grid(*sheet.size)
    assert rows * columns <= 3
    assert image_tokens(*sheet.size) <= 3 * 147 + 145


def test_a_host_that_takes_few_bytes() -> None:
    given_pictures = [(saved(noise(500, 400, seed), "PNG"), "it") for seed in range(3)]
    sheet = one(merge(given_pictures, 1, Limits(("image/png",), max_bytes=60_000), max_pixels=10**7))
    assert sheet.media_type == "image/png"
    assert len(sheet.data) <= 60_000


def test_the_same_sheet_every_time() -> None:
    assert merge(pictures(3), 1, LIMITS, max_pixels=10**7) == merge(pictures(3), 1, LIMITS, max_pixels=10**7)


def test_pictures_are_turned_and_flattened_first() -> None:
    exif = Pil.Exif()
    exif[274] = 6
    turned = (saved(quarters(400, 200), "PNG", exif=exif), "it")
    clear = (saved(Pil.new("RGBA", (200, 400), (0, 0, 0, 0)), "PNG"), "it")
    sheet = read(one(merge([turned, clear], 1, LIMITS, max_pixels=10**7)).data)
    cell = sheet.width // 2
    assert sheet.height > cell  # two upright pictures beside each other
    upper_left = sheet.getpixel((20, 60))
    assert isinstance(upper_left, tuple)
    assert upper_left[2] > 200 > upper_left[0]  # which was the lower left corner


def test_a_broken_one_is_named() -> None:
    broken = (saved(noise(50, 50), "PNG")[:3000], "image 'b.png'")
    with pytest.raises(InputError, match=r"^image 'b\.png' cannot be decoded"):
        merge([*pictures(1), broken], 1, LIMITS, max_pixels=10**7)
    with pytest.raises(InputError, match="bomb has 60,000 x 60,000 pixels"):
        merge([*pictures(1), (png_head(60_000, 60_000), "bomb")], 1, LIMITS, max_pixels=10**7)
