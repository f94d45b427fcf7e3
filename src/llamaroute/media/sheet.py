"""Several pictures as one, each with its number: for hosts that take fewer pictures than a request has.

Pure; needs Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ..types.dataclass import dataclass
from .resize import Limits, Unfit, encoded, opened
from .tiles import MAX_TILES, TILE, canvases, reduced

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["MOST", "Sheet", "groups", "merge"]

MOST = 16
"""Pictures on one sheet: a tile each is the least in which something can be seen."""
_STRIP = 32
"""Pixels above each picture, for its number."""
_GAP = 4
"""Pixels between pictures."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A picture of the pictures `first` to `last`, counted from 1."""

    first: int
    last: int
    data: bytes
    media_type: str
    size: tuple[int, int]


def groups(pictures: int, count: int) -> tuple[range, ...]:
    """`pictures` in their order, dealt out to at most `count` sheets as evenly as can be; counted from 0.

    Raises:
        Unfit: there are more than fit on so many sheets.
    """
    if count < 1 or pictures > count * MOST:
        raise Unfit(f"at most {MOST} images are merged into one, which makes {count * MOST} here, not {pictures}")
    count = min(count, pictures)
    each, more = divmod(pictures, count)
    ends = accumulate((each + (index < more) for index in range(count)), initial=0)
    return tuple(range(begin, end) for begin, end in pairwise(ends))


def merge(
    pictures: Sequence[tuple[bytes, str]], count: int, limits: Limits, *, max_pixels: int
) -> tuple[Sheet | None, ...]:
    """One entry per group of `groups`: the sheet, or None for a picture that stays alone.

    `pictures` are bytes with names for messages. A sheet may cost as many tiles as its pictures together, up to
    the 16 that a picture can have.

    Raises:
        InputError: one of them is broken, or has more than `max_pixels`.
        Unfit: there are too many, or the host takes no form of a sheet.
    """
    return tuple(
        _sheet(pictures[group.start : group.stop], group.start + 1, limits, max_pixels) if len(group) > 1 else None
        for group in groups(len(pictures), count)
    )


def _sheet(pictures: Sequence[tuple[bytes, str]], first: int, limits: Limits, max_pixels: int) -> Sheet:
    from PIL import Image

    limits = replace(limits, tiles=min(limits.tiles * len(pictures), MAX_TILES))
    # As small as it can be without loss on any sheet: all of them are in memory at once.
    shown = [
        opened(data, what, lambda width, height: reduced(width, height, MAX_TILES), max_pixels=max_pixels)[0]
        for data, what in pictures
    ]
    width, height, columns = _layout(tuple(picture.size for picture in shown), limits.tiles)
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (width, height), "white")
    for index, picture in enumerate(shown):
        left, top = index % columns * width // columns, index // columns * height // rows
        _place(sheet, picture, str(first + index), (left, top, width // columns, height // rows))
    content, media_type, size = encoded(sheet, limits, exact=False)
    return Sheet(first, first + len(pictures) - 1, content, media_type, size)


@lru_cache(maxsize=64)
def _layout(sizes: tuple[tuple[int, int], ...], tiles: int) -> tuple[int, int, int]:
    """Width, height and columns of the sheet on which the picture that is shown worst is shown best."""
    best: tuple[float, float, int] | None = None
    chosen = (TILE, TILE, 1)
    for down, across in canvases(tiles):
        width, height = across * TILE, down * TILE
        for columns in range(1, len(sizes) + 1):
            rows = -(-len(sizes) // columns)
            inner = (width // columns - _GAP, height // rows - _STRIP - _GAP)
            if min(inner) < 1:
                continue
            scales = [min(1.0, inner[0] / size[0], inner[1] / size[1]) for size in sizes]
            # Long strips are shown worse than their pixels say: the model's view of the whole is a square.
            shape = (min(width, height) / max(width, height)) ** 0.25
            rank = (min(scales) * shape, sum(scales), -down * across)
            if best is None or rank > best:
                best, chosen = rank, (width, height, columns)
    return chosen


def _place(sheet: Picture, picture: Picture, number: str, cell: tuple[int, int, int, int]) -> None:
    from PIL import Image, ImageDraw, ImageFont

    left, top, width, height = cell
    scale = min(1.0, (width - _GAP) / picture.width, (height - _STRIP - _GAP) / picture.height)
    if scale < 1:
        size = max(int(picture.width * scale), 1), max(int(picture.height * scale), 1)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(picture, (left, top + _STRIP))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + width - _GAP - 1, top + _STRIP - 1), fill="black")
    draw.text((left + 6, top + 3), number, fill="white", font=ImageFont.load_default(24))
