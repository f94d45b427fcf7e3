"""The layer that reads and fetches images, so that everything further in finds their bytes on the `Image` object.

It runs once per target, outside of retries. A target that fetches URLs by itself (`image_url = "native"`) gets them
untouched; any other gets bytes. What was loaded stays with the image: retries, other targets and later calls do not
load it again. What is done with the bytes then is in `pictures.py`.

What a URL leads to is not trusted: addresses are checked after DNS and connected to as checked, at every redirect
anew; bytes are counted while they come; content types, file names and lengths are never believed. Messages show URLs
without their query string, which can hold a signature.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from ..errors import CapabilityError, ConnectionError, InputError, ProtocolError, TimeoutError
from ..media.address import Place, check_address, place_of, redacted, redirected, scrubbed
from ..media.load import data_url_bytes, image_data, pil_bytes, too_large
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Blocking, Head, Plan, Pull, Send
from ..spi import Target, WireRequest
from ..types.parts import Image, ImageData, Part, PilImage
from .pictures import (
    ImageSettings,
    MediaIo,
    check_mergeable,
    check_path,
    expanded,
    fitted,
    merged,
    name_of,
    read_file,
    with_parts,
)

__all__ = ["ImageSettings", "MediaIo", "media"]


def media(call: Call, handler: Handler) -> Plan[Reply]:
    """Load every image that the target needs as bytes, one after the other, make it fit, and hand the request on.

    Documents and videos become images; more images than the target takes are merged into fewer.

    Raises:
        InputError: an image, document or video cannot be read or fetched, is none, or `[images]` forbids it.
        CapabilityError: the target does not take so many, so large or such images, and they cannot be changed.
        ConfigError: an extra that documents or videos need is not installed.
        TimeoutError: the call's total time ran out meanwhile.
    """
    call = yield from expanded(call)
    images = call.request.images
    if not images:
        return (yield from handler(call))
    most = call.target.row.image.max_count
    if most is not None and len(images) > most:
        check_mergeable(images, call)
        loaded = []
        for image in images:
            loaded.append((yield from _loaded(image, call)))
        call = yield from merged(loaded, most, call)
        images = call.request.images
    host_fetches = call.target.row.features.get("image_url") == "native"
    changed: dict[int, tuple[Part, ...]] = {}
    for image in images:
        if host_fetches and image.kind == "url":
            continue
        if image.kind == "storage":
            _check_storage(image, call.target)
            continue
        data = yield from _loaded(image, call)
        prepared = yield from fitted(image, data, call)
        if prepared is not data:
            # In a copy: the caller's own object stays as it is, for other targets.
            other = Image(image.source, detail=image.detail)
            other.from_dict, other.label = image.from_dict, image.label
            other.load(prepared)
            changed[id(image)] = (other,)
    if changed:
        call = call.evolve(request=with_parts(call.request, changed))
    return (yield from handler(call))


def _loaded(image: Image, call: Call) -> Plan[ImageData]:
    data = image.loaded()
    return data if data is not None else image.load((yield from _load(image, call)))


def _check_storage(image: Image, target: Target) -> None:
    """Object storage is the host's to read, with its own credentials; nothing here fetches from it."""
    if image.scheme not in target.row.image.storage:
        why = f"it cannot read {name_of(image)}; give the image's bytes, or an https URL"
        raise CapabilityError(f"{target.name}: {why}", missing={target.name: f"{image.scheme}:// images"})


def _load(image: Image, call: Call) -> Plan[ImageData]:
    """The image's bytes, from wherever it is."""
    limit = call.io.images.max_bytes
    source, what = image.source, name_of(image)
    match image.kind:
        case "url":
            return (yield from _fetch(str(source), call))
        case "storage":
            raise AssertionError("checked before, and never loaded")
        case "path":
            return (yield from _in_time(_reader(image, what, call.io), what, call))
        case "data-url":
            return image_data(data_url_bytes(str(source), max_bytes=limit, what=what), what, max_bytes=limit)
        case "bytes":
            assert isinstance(source, bytes)
            return image_data(source, what, max_bytes=limit)
        case "pil":
            # Compressing takes its time, and Pillow may not have read the file yet.
            assert isinstance(source, PilImage)
            picture: PilImage = source
            return (
                yield from _in_time(lambda: image_data(pil_bytes(picture, what), what, max_bytes=limit), what, call)
            )


def _reader(image: Image, what: str, io: MediaIo) -> Callable[[], ImageData]:
    """A function that reads the local file, for a `Blocking`."""
    path = image.source
    assert isinstance(path, str | os.PathLike)
    check_path(path, what, io, from_dict=image.from_dict)
    limit = io.images.max_bytes

    def read() -> ImageData:
        data = read_file(path, what, limit, io)
        if len(data) > limit:
            raise too_large(what, limit)
        return image_data(data, what, max_bytes=limit)

    return read


def _in_time(work: Callable[[], ImageData], what: str, call: Call) -> Plan[ImageData]:
    clock = _Clock(call)
    try:
        data: ImageData = yield Blocking(work, clock.until)
    except TimeoutError as error:
        if clock.is_the_calls(error):
            raise
        raise InputError(f"{what} was not read {clock.within}") from error
    return data


class _Clock:
    """One image's time: `[images] timeout`, unless the call's own time is over before that."""

    def __init__(self, call: Call) -> None:
        self._ledger = call.ledger
        self._deadline = call.deadline
        self._seconds: float = call.io.images.timeout
        ends = call.ledger.now + self._seconds
        self.until: float = ends if call.deadline is None else min(ends, call.deadline)
        self.connect = call.timeout.connect

    @property
    def left(self) -> float:
        """Seconds from now."""
        return max(self.until - self._ledger.now, 0.0)

    @property
    def within(self) -> str:
        """For messages."""
        return f"within {self._seconds:g} seconds ([images] timeout)"

    def is_the_calls(self, error: TimeoutError) -> bool:
        """Whether the call's own time ran out, and not just the image's."""
        return self.until == self._deadline and (error.phase == "total" or not self.left)


_HEADERS = {
    "accept": "image/*",
    # Compressed images gain nothing, and nothing here unpacks: no bomb can go off.
    "accept-encoding": "identity",
    "user-agent": "llamaroute",
}
_REDIRECTS = (301, 302, 303, 307, 308)
_ADDRESSES_TRIED = 3


def _fetch(url: str, call: Call) -> Plan[ImageData]:
    """GET a URL, following redirects by hand."""
    settings: ImageSettings = call.io.images
    what = f"image URL {redacted(url)}"
    clock = _Clock(call)
    place = place_of(url)
    try:
        for _ in range(settings.redirects + 1):
            head = yield from _open(place, call.io, clock)
            if head.status not in _REDIRECTS or not head.headers.get("location"):
                break
            place = redirected(place, head.headers["location"])
        else:
            raise InputError(f"{what} redirects more than {settings.redirects} times ([images] redirects)")
        if place.url != url and redacted(place.url) != redacted(url):
            what = f"{what} (redirected to {redacted(place.url)})"
        if not 200 <= head.status < 300:
            raise InputError(f"{what} answers with status {head.status}")
        data = yield from _body(head, what, settings.max_bytes, clock)
    except TimeoutError as error:
        if clock.is_the_calls(error):
            raise
        why = ": no connection in time" if error.phase == "connect" and clock.left else f" {clock.within}"
        raise InputError(f"{what} was not fetched{why}") from error
    except (ConnectionError, ProtocolError) as error:
        raise InputError(f"{what} cannot be fetched: {scrubbed(str(error), place.url)}") from error
    return image_data(data, what, max_bytes=settings.max_bytes)


def _open(place: Place, io: MediaIo, clock: _Clock) -> Plan[Head]:
    """Look the host up, check all its addresses, connect to one of them and ask for the image."""
    shown = redacted(place.url)

    def look_up() -> list[str]:
        try:
            return io.resolve(place.host, place.port)
        except (OSError, ValueError) as error:  # ValueError: a label too long for DNS
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"image URL {shown}: host {place.host} is not found: {reason}") from error

    addresses: list[str] = [place.host] if place.literal else (yield Blocking(look_up, clock.until, "connect"))
    if not addresses:
        raise InputError(f"image URL {shown}: host {place.host} is not found")
    for address in addresses:
        check_address(place, address, allow_private=io.images.allow_private)
    request = WireRequest("GET", place.url, _HEADERS)
    addresses = addresses[:_ADDRESSES_TRIED]
    for others in range(len(addresses) - 1, -1, -1):
        try:
            head: Head = yield Send(
                request,
                target=None,
                connect=min(clock.connect, clock.left / (others + 1)),
                answer=clock.left,
                total=clock.until,
                address=addresses[-1 - others],
            )
        except (ConnectionError, TimeoutError) as error:
            # A machine may know IPv6 addresses of the host and have no way to reach them.
            if error.phase != "connect" or not others or not clock.left:
                raise
        else:
            return head
    raise AssertionError("the last address returns or raises")


def _body(head: Head, what: str, limit: int, clock: _Clock) -> Plan[bytes]:
    """All bytes of the open answer. On an error the rest is left unread; the driver closes the answer."""
    length = head.headers.get("content-length", "")
    expected = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    if expected is not None and expected > limit:
        raise too_large(what, limit, expected)
    chunks: list[bytes] = []
    size = 0
    while chunk := (yield Pull(clock.until, "total")):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise too_large(what, limit)
    if expected is not None and size < expected:
        raise InputError(f"{what} was cut off: {size:,} of {expected:,} bytes came")
    return b"".join(chunks)
