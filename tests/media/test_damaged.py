"""Damaged files of every kind: shown as far as they go, or an error of ours; never another one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from llamaroute.errors import InputError
from llamaroute.media.frames import frames
from llamaroute.media.pages import pages
from llamaroute.media.resize import Limits, Unfit, fit, refusal, surplus
from llamaroute.media.sniff import sniff

from .made import drawn_pdf, noise, pdf, quarters, saved, video

LIMITS = Limits(("image/png", "image/jpeg"), tiles=1, sent=100_000)


def damaged(data: bytes, seed: int) -> bytes:
    """Some bytes changed, mostly near the beginning, where the structure is; now and then the end is missing."""
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(chance.choice([1, 2, 8, 40])):
        changed[chance.randrange(min(len(data), chance.choice([64, 400, 1 << 30])))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(data))] if seed % 5 == 0 else changed)


def as_image(data: bytes) -> None:
    found = sniff(data)
    if found is None:
        raise InputError("not an image")
    refusal(data, found, LIMITS)
    surplus(data, found, LIMITS)
    made = fit(data, LIMITS, "it", max_pixels=1_000_000)
    again = sniff(made.data)
    assert again is not None
    assert refusal(made.data, again, LIMITS) is None


def as_document(data: bytes) -> None:
    pages(data, "it", LIMITS, wanted=None, most=5, dpi=72)


def as_video(data: bytes) -> None:
    frames(data, "it", LIMITS, count=3, max_pixels=1_000_000)


KINDS: list[tuple[str, Callable[[bytes], None], bytes]] = [
    *((form, as_image, saved(noise(120, 90), form)) for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")),
    ("moving GIF", as_image, saved(quarters(), "GIF", save_all=True, append_images=[noise(48, 32)])),
    ("moving PNG", as_image, saved(quarters(), "PNG", save_all=True, append_images=[noise(48, 32)])),
    ("PDF", as_document, pdf((9, 9, 9), (99, 9, 9))),
    ("PDF by hand", as_document, drawn_pdf("0 0 9 9 re f")),
    ("MP4", as_video, video(12)),
    ("WebM", as_video, video(12, form="webm", codec="libvpx-vp9")),
    ("AVI", as_video, video(12, form="avi")),
    ("MPEG-TS", as_video, video(12, form="mpegts", codec="mpeg2video")),
]


@pytest.mark.parametrize(("name", "show", "data"), KINDS, ids=[name for name, _, _ in KINDS])
def test_damage_is_told(name: str, show: Callable[[bytes], None], data: bytes) -> None:
    show(data)
    ends: dict[Any, int] = {}
    for seed in range(60):
        end: Any = "shown"
        try:
            show(damaged(data, seed))
        except (InputError, Unfit) as error:
            end = type(error)
        ends[end] = ends.get(end, 0) + 1
    assert ends.get(InputError, 0) > 5, "hardly any damage was seen"


def test_a_video_that_nobody_can_decode() -> None:
    data = video(5, form="avi")
    assert b"FMP4" in data
    with pytest.raises(InputError, match=r"^it cannot be read as a video: FFmpeg does not know how it is compressed$"):
        as_video(data.replace(b"FMP4", b"QQQQ"))
