"""Frames of videos that PyAV wrote: ever lighter ones, so that each shows when it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pil

from llamaroute.errors import ConfigError, InputError
from llamaroute.media.frames import frames
from llamaroute.media.resize import Limits
from llamaroute.media.tiles import image_tokens

from .made import QUARTERS, grey, pdf, quarters, read, saved, sound, turned, video

LIMITS = Limits(("image/png", "image/jpeg"), tiles=7, sent=1_000_000)


def shown(data: bytes, count: int, limits: Limits = LIMITS) -> list[tuple[float, Any]]:
    found = frames(data, "video 'a.mp4'", limits, count=count, max_pixels=10**7)
    return [(round(seconds, 3), read(content)) for seconds, content, _ in found]


def lights(found: list[tuple[float, Any]]) -> list[int]:
    return [picture.convert("L").getpixel((9, 9)) for _, picture in found]


def near(found: list[int], wanted: list[int]) -> bool:
    return len(found) == len(wanted) and all(abs(one - other) <= 4 for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("form", "codec", "gop"),
    [
        ("mp4", "mpeg4", 12),
        ("mp4", "mpeg4", 1),
        ("mp4", "mpeg4", 200),
        ("mp4", "libx264", 12),
        ("matroska", "libx264", 12),
        ("webm", "libvpx-vp9", 12),
        ("mpegts", "mpeg2video", 12),
        ("avi", "mpeg4", 12),
        ("flv", "flv1", 12),
        ("asf", "wmv2", 12),
        ("mpeg", "mpeg2video", 12),
        ("ogg", "libvpx", 12),
        ("mov", "libx264", 12),
    ],
)
def test_evenly_spread_in_every_format(form: str, codec: str, gop: int) -> None:
    found = shown(video(40, form=form, codec=codec, gop=gop), 4)
    assert [seconds for seconds, _ in found] == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=0.06)
    assert near(lights(found), [grey(index, 40) for index in (5, 15, 25, 35)])


@pytest.mark.parametrize(
    ("there", "asked", "taken"),
    [
        (80, 8, [5, 15, 25, 35, 45, 55, 65, 75]),
        (8, 8, list(range(8))),
        (5, 8, list(range(5))),
        (1, 8, [0]),
        (9, 8, [0, 1, 2, 3, 5, 6, 7, 8]),
        (30, 1, [15]),
        (30, 100, list(range(30))),
    ],
)
def test_how_many(there: int, asked: int, taken: list[int]) -> None:
    found = shown(video(there), asked)
    assert [round(seconds * 10) for seconds, _ in found] == taken
    assert near(lights(found), [grey(index, there) for index in taken])


def test_spread_over_time_and_not_over_frames() -> None:
    """Ten frames in the first second, two in the nine after it: frames stand until the next one comes."""
    found = shown(video(12, times=[*range(10), 50, 99]), 4)
    # Four parts of 3.7 seconds, with 0.9, 5.0, 5.0 and 9.9 in the middle. None is taken twice, so others move up.
    assert [round(seconds * 10) for seconds, _ in found] == [8, 9, 50, 99]


def test_large_frames_are_reduced() -> None:
    ((_, picture),) = shown(video(1, size=(1920, 1080)), 1)
    assert picture.size == (1008, 567)
    assert image_tokens(*picture.size) == 1017


def test_turned_as_the_file_says() -> None:
    """A quarter turn clockwise puts what was the lower left corner into the upper left one."""
    upright = video(3, pictures=[quarters(64, 48)] * 3)
    for data, size, first in ((upright, (64, 48), QUARTERS[0]), (turned(upright), (48, 64), QUARTERS[2])):
        ((_, picture),) = shown(data, 1)
        assert picture.size == size
        seen = picture.getpixel((10, 10))
        assert all(abs(a - b) < 60 for a, b in zip(seen, first, strict=True)), (seen, first)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not a video but looks like text; MP4, .* are taken$"),
        (bytes(2000), "is not a video but looks like binary data of an unknown kind; "),
        (pdf((1, 2, 3)), r"is not a video but looks like a PDF \(use Document\); "),
        (saved(quarters(), "JPEG"), r"is not a video but looks like image/jpeg \(use Image\); "),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(500), "cannot be read as a video: it is broken or cut off"),
        (video(20)[:200], "cannot be read as a video: it is broken or cut off"),
        (video(20)[:-300], "cannot be read as a video: it is broken or cut off"),
        (sound(), "has no pictures, only sound or text"),
    ],
)
def test_what_cannot_be_read(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=rf"^video 'a\.mp4' {message}"):
        shown(data, 4)


def test_a_stream_that_is_cut_off_is_shown_as_far_as_it_goes() -> None:
    whole = video(40, form="mpegts", codec="mpeg2video")
    found = shown(whole[: len(whole) // 2], 4)
    assert len(found) == 4
    assert all(seconds < 2.5 for seconds, _ in found)


@pytest.mark.parametrize("how", ["hls", "concat"])
def test_playlists_lead_nowhere(how: str, tmp_path: Path) -> None:
    """FFmpeg would read the files that they name."""
    other = tmp_path / "other.ts"
    other.write_bytes(video(10, form="mpegts", codec="mpeg2video"))
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{other}'\n",
    }
    with pytest.raises(InputError, match="is not a video but looks like text"):
        shown(lists[how].encode(), 2)


def test_a_video_of_too_many_pixels() -> None:
    with pytest.raises(InputError, match=r"^it has 64 x 48 pixels, and \[images\] max_pixels is 3,000"):
        frames(video(3), "it", LIMITS, count=1, max_pixels=3000)


@pytest.mark.parametrize("count", [0, -1, 101, True, 2.0, "8"])
def test_how_many_can_be_asked_for(count: Any) -> None:
    with pytest.raises(InputError, match="frames must be a number from 1 to 100, not "):
        frames(video(3), "it", LIMITS, count=count, max_pixels=10**7)


@pytest.mark.parametrize("missing", ["av", "PIL.Image"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = video(3)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"^video 'a\.mp4' needs an extra: pip install 'llamaroute\[video\]'"):
        frames(data, "video 'a.mp4'", LIMITS, count=1, max_pixels=10**7)


def test_an_animated_gif_is_a_video_too() -> None:
    pictures = [Pil.new("RGB", (40, 40), (60 * number,) * 3) for number in range(4)]
    data = saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=200)
    assert near(lights(shown(data, 4)), [0, 60, 120, 180])


def test_the_same_bytes_every_time() -> None:
    data = video(20)
    assert frames(data, "it", LIMITS, count=3, max_pixels=10**7) == frames(
        data, "it", LIMITS, count=3, max_pixels=10**7
    )
