"""Token counts: Hugging Face's own processor as the oracle, through its recorded answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.media.tiles import MAX_TILES, TILE, grid, image_tokens, reduced, tiles_for, tokens_of

RECORDED = json.loads(Path(__file__).with_name("llama4_tiles.json").read_text("utf-8"))
sides = st.one_of(st.integers(1, 3000), st.integers(1, 40_000))


def tiles(width: int, height: int) -> int:
    rows, columns = grid(width, height)
    return rows * columns


@pytest.mark.parametrize("row", RECORDED["sizes"], ids=lambda row: f"{row[0]}x{row[1]}")
def test_counts_are_those_of_the_processor(row: list[int]) -> None:
    width, height, rows, columns, tokens = row
    assert grid(width, height) == (rows, columns)
    assert image_tokens(width, height) == tokens


def test_the_record_is_wide_enough() -> None:
    assert len({tuple(row[:2]) for row in RECORDED["sizes"]}) == len(RECORDED["sizes"]) >= 50
    assert {row[2] * row[3] for row in RECORDED["sizes"]} >= {1, 2, 3, 4, 6, 8, 9, 12, 15, 16}
    assert set(RECORDED["versions"]) >= {"transformers", "torch", "torchvision"}


def test_what_a_number_of_tokens_buys() -> None:
    assert [tokens_of(count) for count in (1, 2, 7, 8, 16)] == [147, 437, 1162, 1307, 2467]
    assert [tiles_for(tokens) for tokens in (1, 147, 436, 437, 1162, 1300, 1307, 2466, 2467, 9999)] == [
        1, 1, 1, 2, 7, 7, 8, 15, 16, 16,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "most", "small"),
    [
        ((4000, 3000), 7, (896, 672)),
        ((3000, 4000), 7, (672, 896)),
        ((4000, 3000), 16, (1344, 1008)),
        ((4000, 3000), 1, (336, 252)),
        ((1920, 1080), 7, (1008, 567)),
        ((1000, 1000), 7, (672, 672)),
        ((10_000, 500), 7, (2352, 117)),
        ((100_000, 3), 7, (2352, 1)),
        ((672, 672), 7, (672, 672)),
        ((20, 10), 1, (20, 10)),
    ],
)
def test_reduced(size: tuple[int, int], most: int, small: tuple[int, int]) -> None:
    assert reduced(*size, most) == small


@given(sides, sides, st.integers(1, MAX_TILES))
def test_reduced_keeps_the_shape_and_to_the_tiles(width: int, height: int, most: int) -> None:
    small = reduced(width, height, most)
    assert tiles(*small) <= most
    assert small[0] <= width
    assert small[1] <= height
    # Of the same shape, but for the rounding of one side to whole pixels, of which there is one at least.
    assert abs(small[0] * height - small[1] * width) < max(width, height) or 1 in small
    assert reduced(*small, most) == small
    # Nothing is given away: it is as it was, or fills a canvas in one direction.
    assert small == (width, height) or any(side % TILE == 0 for side in small)


@given(sides, sides)
def test_the_largest_size_costs_no_more_than_the_picture(width: int, height: int) -> None:
    """The processor shrinks what is larger than its largest canvas: doing so before sending changes no count."""
    assert image_tokens(*reduced(width, height, MAX_TILES)) <= image_tokens(width, height)
