"""Frames of a video as pictures. Pure; needs PyAV, which brings FFmpeg along, and Pillow (the extra `video`)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, InputError
from .load import looks_like
from .resize import Limits, check_pixels, encoded
from .sniff import sniff

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["MOST", "frames"]

TAKEN = "MP4, QuickTime, WebM, Matroska, AVI, FLV, MPEG, Ogg, WMV, GIF and animated PNG"
MOST = 100
"""Frames of one video."""

_FORMATS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"....(?:ftyp|moov|mdat|wide|free|skip)", "mov"),  # MP4, QuickTime
        (rb"\x1a\x45\xdf\xa3", "matroska"),  # and WebM
        (rb"RIFF....AVI ", "avi"),
        (rb"FLV\x01", "flv"),
        (rb"\x47.{187}\x47|.{4}\x47.{191}\x47", "mpegts"),
        (rb"\x00\x00\x01\xba", "mpeg"),
        (rb"OggS", "ogg"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),  # WMV
        (rb"GIF8[79]a", "gif"),
        (rb"\x89PNG\r\n\x1a\n", "apng"),
    )
)
"""How files begin, and FFmpeg's name of the reader. It is not left to guess: it would take playlists and lists of files
as well, which lead it to other files and addresses."""


def frames(data: bytes, what: str, limits: Limits, *, count: int, max_pixels: int) -> list[tuple[float, bytes, str]]:
    """Time in seconds, bytes and media type of `count` frames, evenly spread, or of all if there are no more.

    The video's time is cut into `count` equal parts; of each, the frame in the middle is taken.

    Raises:
        InputError: not a video, broken, without pictures, or of more than `max_pixels`.
        ConfigError: PyAV or Pillow is not installed.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise InputError(f"{what}: frames must be a number from 1 to {MOST}, not {count!r}")
    try:
        import av
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{what} needs an extra: pip install 'llamaroute[video]' ({error})") from error
    if not data:
        raise InputError(f"{what} is empty")
    form = next((name for pattern, name in _FORMATS if pattern.match(data)), None)
    if form is None:
        image = sniff(data)
        like = f"{image.media_type} (use Image)" if image else looks_like(data)
        raise InputError(f"{what} is not a video but looks like {like}; {TAKEN} are taken")
    try:
        with av.open(BytesIO(data), format=form, io_open=_no_other_file) as container:
            shown = _shown(container, what, limits, count, max_pixels)
    except InputError:
        raise
    except Exception as error:  # PyAV's readers raise whatever they like
        raise InputError(f"{what} cannot be read as a video: it is broken or cut off") from error
    if not shown:
        raise InputError(f"{what} cannot be read as a video: no frame of it can be decoded")
    made = []
    for seconds, picture in shown:
        content, media_type, _ = encoded(picture, limits, exact=False)
        made.append((seconds, content, media_type))
    return made


def _no_other_file(*_: Any) -> Any:
    raise PermissionError("a video may not lead to other files")


def _shown(container: Any, what: str, limits: Limits, count: int, max_pixels: int) -> list[tuple[float, Picture]]:
    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise InputError(f"{what} has no pictures, only sound or text")
    if stream.codec_context is None:
        raise InputError(f"{what} cannot be read as a video: FFmpeg does not know how it is compressed")
    check_pixels(stream.codec_context.width, stream.codec_context.height, what, max_pixels)
    # What packets say is read first: lengths in headers are missing or wrong in many files.
    packets = [
        (packet.pts, packet.pts if packet.dts is None else packet.dts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.pts is not None
    ]
    times = sorted(pts for pts, _, _ in packets)
    # Some formats (MPEG-TS) are searched by the time of decoding.
    keys = sorted((pts, dts) for pts, dts, key in packets if key)
    shown: list[tuple[float, Picture]] = []
    decoded: Iterator[Any] = iter(())
    last: int | None = None
    for wanted in _spread(times, count):
        key = bisect_right(keys, wanted, key=itemgetter(0)) - 1
        if last is None or (key >= 0 and keys[key][0] > last):  # else it comes in what is being decoded anyway
            decoded = _from(container, stream, wanted, keys[max(key, 0)][1] if keys else times[0])
        for frame in decoded:
            last = frame.pts
            if last >= wanted:
                check_pixels(frame.width, frame.height, what, max_pixels)
                shown.append((float((last - times[0]) * stream.time_base), _picture(frame, stream, limits)))
                break
    return shown


def _from(container: Any, stream: Any, wanted: int, place: int) -> Iterator[Any]:
    """The frames from `place` on; from the beginning, where seeking leads behind the wanted one."""
    first = None
    for at in (place, min(place, 0)):
        container.seek(at, stream=stream, backward=True)
        decoded = (frame for frame in container.decode(stream) if frame.pts is not None)
        first = next(decoded, None)
        if first is not None and first.pts <= wanted:
            break
    return decoded if first is None else chain((first,), decoded)


def _spread(times: Sequence[int], count: int) -> list[int]:
    """The times of the frames to take."""
    if len(times) <= count:
        return list(times)
    # The last frame is shown as long as the one before it.
    whole = times[-1] + (times[-1] - times[-2]) - times[0]
    taken: list[int] = []
    index = -1
    for part in range(count):
        middle = bisect_right(times, times[0] + whole * (2 * part + 1) // (2 * count)) - 1
        # Where frames stand still for long, the next ones that are left are taken.
        index = min(max(middle, index + 1), len(times) - (count - part))
        taken.append(times[index])
    return taken


def _picture(frame: Any, stream: Any, limits: Limits) -> Picture:
    """The frame as it is meant to be seen, upright and with square pixels, and reduced at once: many are kept."""
    from PIL import Image

    wide = stream.sample_aspect_ratio
    width = round(frame.width * wide) if wide and 0.1 < wide < 10 else frame.width
    picture: Picture = frame.to_image(width=width, height=frame.height)
    turn = round(frame.rotation)
    if turn:
        picture = picture.rotate(turn, expand=True)
    size = limits.size(*picture.size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
