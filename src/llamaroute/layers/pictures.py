"""What the media layer does with pictures once it has their bytes: makes them fit, merges them, and makes pictures of
documents and videos.

What takes time is done in a `Blocking`, once per object and per set of limits: it stays with the image, document or
video, so that retries, other targets with the same limits and later calls find it there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ..errors import CapabilityError, InputError
from ..media.address import redacted
from ..media.load import too_large
from ..media.resize import INSTALL, Fitted, Limits, Unfit, check_pixels, fit, pillow_is_there, refusal, surplus
from ..media.sheet import MOST, Sheet, groups, merge
from ..media.sniff import Sniffed, animated, sniff
from ..media.tiles import MAX_TILES, tiles_for
from ..pipeline.core import Call
from ..pipeline.ops import Blocking, Plan
from ..spi import Target
from ..types.dataclass import dataclass
from ..types.parts import Document, Image, ImageData, ImageDetail, Part, Text, Video
from ..types.request import ChatRequest
from ..types.response import Notice

__all__ = [
    "ImageSettings",
    "MediaIo",
    "check_mergeable",
    "check_path",
    "expanded",
    "fitted",
    "merged",
    "name_of",
    "read_file",
    "with_parts",
]

T = TypeVar("T")


class ImageSettings(Protocol):
    """The `[images]` table of the config file."""

    @property
    def max_bytes(self) -> int:
        """Bytes of one image, as read or fetched."""
        ...

    @property
    def max_pixels(self) -> int:
        """Pixels of an image or of a video's frame that are decoded."""
        ...

    @property
    def max_tokens(self) -> int:
        """Input tokens of one image, unless it asks for another `detail`."""
        ...

    @property
    def max_sent(self) -> int:
        """Bytes of one image as sent, in base64, unless it asks for `detail="high"`."""
        ...

    @property
    def merge(self) -> bool:
        """Whether images may be merged where a host takes fewer than there are."""
        ...

    @property
    def max_file_bytes(self) -> int:
        """Bytes of one document or video."""
        ...

    @property
    def max_pages(self) -> int:
        """Pages of one document."""
        ...

    @property
    def dpi(self) -> float:
        """Pixels an inch for pages."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds for one image: reading it, or DNS and all redirects together."""
        ...

    @property
    def redirects(self) -> int:
        """Redirects followed for one image."""
        ...

    @property
    def allow_private(self) -> bool:
        """Whether private, loopback and link-local addresses may be fetched from."""
        ...

    @property
    def allow_files(self) -> bool:
        """Whether images may name local files; message dicts never may."""
        ...


class MediaIo(Protocol):
    """What the layer needs of the world; `Call.io` is one. All methods may block and are called in a `Blocking`."""

    @property
    def images(self) -> ImageSettings:
        """The limits."""
        ...

    def read_file(self, path: str | os.PathLike[str], limit: int) -> bytes:
        """A regular file's bytes, at most `limit` + 1 of them.

        Raises:
            OSError: no such file, no permission, or not a regular file.
        """
        ...

    def resolve(self, host: str, port: int) -> list[str]:
        """The host's IP addresses, best first.

        Raises:
            OSError: there is no such host, or nobody to ask.
        """
        ...

    def alone(self, work: Callable[[], T]) -> T:
        """Call `work` while no other thread of the process is in such a call."""
        ...


def limits_for(target: Target, detail: ImageDetail | None, settings: ImageSettings) -> Limits:
    """What an image has to keep to on its way to `target`."""
    rule = target.row.image
    return _budget(Limits(rule.media_types, max_bytes=rule.max_bytes, max_pixels=rule.max_pixels), detail, settings)


def _budget(limits: Limits, detail: ImageDetail | None, settings: ImageSettings) -> Limits:
    """With what `detail` lets an image cost."""
    if detail == "high":  # the model itself reduces what is larger than its largest canvas
        return replace(limits, tiles=MAX_TILES, sent=None)
    return replace(limits, tiles=1 if detail == "low" else tiles_for(settings.max_tokens), sent=settings.max_sent)


def with_parts(request: ChatRequest, changed: Mapping[int, tuple[Part, ...]]) -> ChatRequest:
    """The request with other parts in the place of some, which are given by their `id`."""
    return request.evolve(
        messages=tuple(
            replace(message, parts=tuple(new for part in message.parts for new in changed.get(id(part), (part,))))
            if any(id(part) in changed for part in message.parts)
            else message
            for message in request.messages
        )
    )


# ---- one image


@dataclass(frozen=True, slots=True)
class _Made:
    """What came out, and what the caller should know of it each time it is used."""

    data: ImageData
    notices: tuple[Notice, ...] = ()


def fitted(image: Image, data: ImageData, call: Call) -> Plan[ImageData]:
    """The image's bytes as the target takes them; `data` itself where it takes those.

    What it returns is sent to this target alone; the image itself keeps `data` for the others.

    Raises:
        InputError: broken, or more than `[images] max_pixels`.
        CapabilityError: over a limit of the target's `ImageRule`, and it cannot be changed.
    """
    settings: ImageSettings = call.io.images
    limits = limits_for(call.target, image.detail, settings)
    key = (limits, settings.max_pixels)
    made: _Made | None = image.made.get(key)
    if made is None:
        made = yield from _fitted(image, data, limits, call)
        image.made[key] = made
    for notice in made.notices:
        call.ledger.notice(notice)
    return made.data


def _fitted(image: Image, data: ImageData, limits: Limits, call: Call) -> Plan[_Made]:
    what, target = name_of(image), call.target
    most = call.io.images.max_pixels
    found = sniff(data.data) or Sniffed(data.media_type)
    if found.width and found.height:
        check_pixels(found.width, found.height, what, most)
    refused = refusal(data.data, found, limits)
    wish = surplus(data.data, found, limits)
    if refused is None and wish is None:
        return _Made(data)
    if not pillow_is_there():
        if refused is not None:
            why = f"{refused}, and {what} cannot be changed without Pillow: {INSTALL}"
            raise CapabilityError(f"{target.name}: {why}", missing={target.name: why})
        message = f"{what} was sent as it is, although {wish}: it cannot be changed without Pillow ({INSTALL})"
        return _Made(data, (Notice("image_not_reduced", message, "images"),))

    def change() -> tuple[Fitted, ImageData]:
        changed = fit(data.data, limits, what, max_pixels=most)
        return changed, ImageData.of(changed.media_type, changed.data)

    try:
        changed, encoded = yield Blocking(change, call.deadline)
    except Unfit as error:
        raise CapabilityError(f"{target.name}: {error} ({what})", missing={target.name: str(error)}) from error
    return _Made(encoded, tuple(_changes(what, found, data, changed)))


def _changes(what: str, found: Sniffed, data: ImageData, changed: Fitted) -> Iterator[Notice]:
    """What was lost. Turning a picture upright loses nothing."""
    if animated(data.data):
        yield Notice("image_first_frame", f"{what} is animated; only its first frame was sent", "images")
    if changed.size != changed.before:
        (old_width, old_height), (width, height) = changed.before, changed.size
        yield Notice(
            "image_resized",
            f"{what} was reduced from {old_width} x {old_height} to {width} x {height} pixels",
            "images",
        )
    elif changed.media_type != found.media_type:
        message = f"{what} was sent as {changed.media_type} instead of {found.media_type}"
        yield Notice("image_converted", message, "images")
    elif len(changed.data) < len(data.data) // 2:
        message = f"{what} was compressed from {len(data.data):,} to {len(changed.data):,} bytes"
        yield Notice("image_compressed", message, "images")


# ---- fewer images than there are


def check_mergeable(images: Sequence[Image], call: Call) -> None:
    """Whether merging is a way out for a target that takes fewer images; checked before any is fetched.

    Raises:
        CapabilityError: it is none.
    """
    target, given = call.target, len(images)
    most = target.row.image.max_count or 0
    why = f"it takes at most {most} image{'' if most == 1 else 's'} in a request, this one has {given}"
    stored = next((image for image in images if image.kind == "storage"), None)
    if most and not call.io.images.merge:
        why += ", and [images] merge is false"
    elif most and given > most * MOST:
        why += f", and at most {MOST} are merged into one"
    elif most and stored is not None:
        why += f", and {name_of(stored)} cannot be merged with others: only the host can read it"
    elif most and not pillow_is_there():
        why += f", and they cannot be merged without Pillow: {INSTALL}"
    elif most:
        return
    raise CapabilityError(f"{target.name}: {why}", missing={target.name: why})


@dataclass(frozen=True, slots=True)
class _Sheets:
    """The sheets of some images, their bytes by the number of their first image."""

    of: tuple[ImageData, ...]
    sheets: tuple[Sheet | None, ...]
    encoded: dict[int, ImageData]


def merged(loaded: Sequence[ImageData], most: int, call: Call) -> Plan[Call]:
    """The call with its images, whose bytes are `loaded`, on at most `most` numbered sheets.

    A sheet stands where the first of its images stood; where each of them stood, a text says which it was.
    """
    images, target, settings = call.request.images, call.target, call.io.images
    details: set[ImageDetail | None] = {image.detail for image in images}
    detail: ImageDetail | None = "high" if "high" in details else "low" if details == {"low"} else None
    limits = limits_for(target, detail, settings)
    pictures = [(data.data, name_of(image)) for image, data in zip(images, loaded, strict=True)]
    key = (limits, settings.max_pixels, most)
    kept: _Sheets | None = images[0].made.get(key)
    # Only the last sheets are kept: in a conversation, each turn's images make others.
    if kept is None or list(map(id, kept.of)) != list(map(id, loaded)):

        def work() -> _Sheets:
            sheets = merge(pictures, most, limits, max_pixels=settings.max_pixels)
            encoded = {sheet.first: ImageData.of(sheet.media_type, sheet.data) for sheet in sheets if sheet}
            return _Sheets(tuple(loaded), sheets, encoded)

        try:
            kept = yield Blocking(work, call.deadline)
        except Unfit as error:
            raise CapabilityError(f"{target.name}: {error}", missing={target.name: str(error)}) from error
        images[0].made[key] = kept
    shown: list[tuple[Part, ...]] = [(Text(f"\n[Image {number}]\n"),) for number in range(1, len(images) + 1)]
    for group, sheet in zip(groups(len(images), most), kept.sheets, strict=True):
        if sheet is None:
            shown[group.start] = (*shown[group.start], images[group.start])
            continue
        whole = Image(sheet.data, detail=detail)
        whole.label = f"the sheet of images {sheet.first} to {sheet.last}"
        data = whole.load(kept.encoded[sheet.first])
        whole.made[limits, settings.max_pixels] = _Made(data)  # it fits already, as large as it is
        title = Text(f"\n[Images {sheet.first} to {sheet.last}, each below its number]\n")
        shown[group.start] = (whole, title, *shown[group.start])
    takes = f"{target.name} takes at most {most} image{'' if most == 1 else 's'} in a request"
    message = f"{takes}; {len(images)} images were merged into {len(kept.sheets)}, with their numbers"
    call.ledger.notice(Notice("images_merged", message, "images"))
    return call.evolve(request=_in_order(call.request, shown))


def _in_order(request: ChatRequest, shown: Sequence[tuple[Part, ...]]) -> ChatRequest:
    """The request with other parts in the place of each image; the same image may stand there twice."""
    following = iter(shown)
    return request.evolve(
        messages=tuple(
            replace(
                message,
                parts=tuple(
                    new for part in message.parts for new in (next(following) if isinstance(part, Image) else (part,))
                ),
            )
            if message.images
            else message
            for message in request.messages
        )
    )


# ---- documents and videos


_PLAIN = ("image/png", "image/jpeg")
"""What pages and frames are made into: every host takes both."""


def expanded(call: Call) -> Plan[Call]:
    """The call with images in the place of its documents and videos.

    Raises:
        InputError: one of them cannot be read or is none, or `[images]` forbids it.
        CapabilityError: the target takes no images.
        ConfigError: an extra is not installed.
    """
    parts = [part for message in call.request.messages for part in message.parts if isinstance(part, Document | Video)]
    if not parts:
        return call
    target = call.target
    if target.row.features.get("images") == "refuse" or target.row.image.max_count == 0:
        what = "documents and videos"
        raise CapabilityError(f"{target.name} takes no images, and so no {what}", missing={target.name: what})
    changed: dict[int, tuple[Part, ...]] = {}
    for part in parts:
        if id(part) not in changed:
            changed[id(part)] = yield from (_pages(part, call) if isinstance(part, Document) else _frames(part, call))
    return call.evolve(request=with_parts(call.request, changed))


def _pages(document: Document, call: Call) -> Plan[tuple[Image, ...]]:
    settings, io = call.io.images, call.io
    what = _file_name("document", document.source)
    limits = _budget(Limits(_PLAIN), document.detail, settings)
    key = (limits, settings.max_pages, settings.dpi)
    images: tuple[Image, ...] | None = document.made.get(key)
    if images is None:

        def work() -> tuple[Image, ...]:
            from ..media.pages import pages

            data = _file(document.source, what, io)
            made = io.alone(
                lambda: pages(data, what, limits, wanted=document.pages, most=settings.max_pages, dpi=settings.dpi)
            )
            return tuple(
                _made_image(content, media_type, document.detail, f"page {number} of {what}")
                for number, content, media_type in made
            )

        images = yield Blocking(work, call.deadline)
        document.made[key] = images
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    call.ledger.notice(Notice("document_pages", f"{what} was sent as {count}, one a page", "images"))
    return images


def _frames(video: Video, call: Call) -> Plan[tuple[Image, ...]]:
    settings, io = call.io.images, call.io
    what = _file_name("video", video.source)
    limits = _budget(Limits(_PLAIN), video.detail, settings)
    key = (limits, settings.max_pixels)
    kept: tuple[tuple[Image, ...], tuple[float, ...]] | None = video.made.get(key)
    if kept is None:

        def work() -> tuple[tuple[Image, ...], tuple[float, ...]]:
            from ..media.frames import frames

            data = _file(video.source, what, io)
            made = frames(data, what, limits, count=video.frames, max_pixels=settings.max_pixels)
            return (
                tuple(
                    _made_image(content, media_type, video.detail, f"the frame of {what} at {seconds:.1f} s")
                    for seconds, content, media_type in made
                ),
                tuple(seconds for seconds, _, _ in made),
            )

        kept = yield Blocking(work, call.deadline)
        video.made[key] = kept
    images, times = kept
    count = f"{len(images)} image{'' if len(images) == 1 else 's'}"
    when = ", ".join(f"{seconds:.1f}" for seconds in times)
    call.ledger.notice(Notice("video_frames", f"{what} was sent as {count}: its frames at {when} seconds", "images"))
    return images


def _made_image(content: bytes, media_type: str, detail: ImageDetail | None, label: str) -> Image:
    image = Image(content, detail=detail)
    image.label = label
    image.load(ImageData.of(media_type, content))
    return image


def _file(source: str | os.PathLike[str] | bytes, what: str, io: MediaIo) -> bytes:
    """A document's or video's bytes. May block."""
    limit = io.images.max_file_bytes
    given: object = source
    if isinstance(given, bytes | bytearray):
        data = bytes(given)
    elif not isinstance(source, str | os.PathLike) or isinstance(source, bytes):
        raise InputError(f"{what}: a path or bytes are taken, not {type(given).__name__}")
    else:
        check_path(source, what, io)
        data = read_file(source, what, limit, io)
    if len(data) > limit:
        raise too_large(what, limit, len(data) if isinstance(given, bytes) else None, key="max_file_bytes")
    return data


def _file_name(kind: str, source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return f"{kind} {_shortened(os.fsdecode(source))}"
    return f"the {kind} (bytes)"


# ---- files


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)  # two letters at least: C:/ is a drive


def check_path(path: str | os.PathLike[str], what: str, io: MediaIo, *, from_dict: bool | None = None) -> None:
    """Whether a local file of this name may be read. `from_dict` is None for what cannot be given in a dict.

    Raises:
        InputError: it may not.
    """
    scheme = _SCHEME.match(path) if isinstance(path, str) else None
    if from_dict is None and (scheme or os.fsdecode(path)[:5].lower() == "data:"):
        raise InputError(f"{what}: only paths and bytes are taken, no URLs")
    if scheme:
        raise InputError(f"{what}: {scheme[1]}: is not taken; give an http(s):// URL, a data: URL, a path or bytes")
    if from_dict:
        raise InputError(
            f"{what}: message dicts may not name local files; use Image(path), an http(s) URL or a data URL"
        )
    if not io.images.allow_files:
        raise InputError(f"{what}: local files are not allowed ([images] allow_files is false)")


def read_file(path: str | os.PathLike[str], what: str, limit: int, io: MediaIo) -> bytes:
    """The file's bytes, at most `limit` + 1 of them. May block.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return io.read_file(path, limit)
    except OSError as error:
        raise InputError(f"{what} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"{what} cannot be read: {error}") from error


def _shortened(path: str) -> str:
    if path[:5].lower() == "data:":
        return "(a data URL)"
    if "://" in path:
        path = redacted(path)
    return repr(path) if len(path) <= 200 else f"{path[:199]!r}..."


def name_of(image: Image) -> str:
    """What the image is called in messages. Never its bytes."""
    if image.label:
        return image.label
    match image.kind:
        case "url":
            return f"image URL {redacted(str(image.source))}"
        case "storage":
            return f"image {redacted(str(image.source))!r}"
        case "path":
            return f"image {_shortened(str(image.source))}"
        case "data-url":
            return "the image's data URL"
        case "bytes":
            return "the image (bytes)"
        case "pil":
            return "the PIL image"
