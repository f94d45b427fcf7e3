"""How many input tokens a picture costs: the tile rule of Llama 4's image processor. Pure arithmetic, no Pillow.

A picture is laid on a canvas of 336 x 336 tiles, at most 16 of them: the canvas that enlarges it least, or, where none
holds it whole, the one that shrinks it least; of several such, the smallest. Each tile becomes 144 patches and is
followed by a separator. A picture of more than one tile is shown once more as a whole, in one further tile. The rule
is that of transformers' `Llama4ImageProcessorFast` and `Llama4Processor`:
https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama4/image_processing_llama4_fast.py
https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama4/processing_llama4.py
tests/media/llama4_tiles.json holds its own answers.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["MAX_TILES", "ONE_TILE", "TILE", "canvases", "grid", "image_tokens", "reduced", "tiles_for", "tokens_of"]

TILE = 336
"""Pixels of a tile's side."""
MAX_TILES = 16
"""Tiles of the largest canvas, without the one that shows the whole picture."""
PATCHES = (TILE // 14) ** 2 // 4
"""Tokens of one tile: patches of 14 x 14 pixels, four of which the pixel shuffle makes one: 144."""
MARKS = 3
"""`<|image_start|>`, `<|image|>` and `<|image_end|>`."""
ONE_TILE = PATCHES + MARKS
"""Tokens of a picture of one tile: 147."""


@lru_cache(maxsize=MAX_TILES)
def canvases(tiles: int) -> tuple[tuple[int, int], ...]:
    """All (rows, columns) of at most so many tiles."""
    return tuple((rows, columns) for rows in range(1, tiles + 1) for columns in range(1, tiles // rows + 1))


def grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of tiles that a picture of this size is laid on."""

    def rank(canvas: tuple[int, int]) -> tuple[bool, float, int]:
        rows, columns = canvas
        scale = min(rows * TILE / height, columns * TILE / width)
        return scale < 1, scale if scale >= 1 else -scale, rows * columns

    return min(canvases(MAX_TILES), key=rank)


@lru_cache(maxsize=1024)
def image_tokens(width: int, height: int) -> int:
    """Input tokens of a picture of so many pixels."""
    return tokens_of(_tiles(width, height))


def tokens_of(tiles: int) -> int:
    """Input tokens of a picture on a canvas of so many tiles: each is followed by a separator, the whole comes last."""
    return ONE_TILE if tiles == 1 else tiles * (PATCHES + 1) + ONE_TILE


def tiles_for(tokens: int) -> int:
    """Tiles of the largest canvas that costs at most `tokens`; at least 1, which is the least that a picture costs."""
    return max(tiles for tiles in range(1, MAX_TILES + 1) if tiles == 1 or tokens_of(tiles) <= tokens)


def reduced(width: int, height: int, tiles: int) -> tuple[int, int]:
    """The largest size of the same shape, and no larger, that is laid on at most `tiles` tiles and not shrunk there."""
    rows, columns = grid(width, height)
    if rows * columns <= tiles and width <= columns * TILE and height <= rows * TILE:
        return width, height
    sizes = {_fitted(width, height, *canvas) for canvas in canvases(tiles)}
    # A picture that is larger than none of the sides can still be laid on more tiles than the canvas has.
    laid = [(w * h, -_tiles(w, h), w, h) for w, h in sizes if _tiles(w, h) <= tiles]
    return max(laid)[2:]


def _tiles(width: int, height: int) -> int:
    rows, columns = grid(width, height)
    return rows * columns


def _fitted(width: int, height: int, rows: int, columns: int) -> tuple[int, int]:
    """The size that fills the canvas in one direction, exactly: the rule then finds no canvas that fits better."""
    if columns * height <= rows * width:  # in exact numbers: the width decides
        side = min(columns * TILE, width)
        return side, max(height * side // width, 1)
    side = min(rows * TILE, height)
    return max(width * side // height, 1), side
