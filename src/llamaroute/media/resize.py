"""Pictures made to fit: turned upright, reduced to the pixels and bytes that a host takes and a model looks at.

Pure: bytes in, bytes out, and the same bytes for the same picture with the same Pillow. Pillow (the extra `images`) is
imported when a picture has to be changed, and not before: what fits goes as it is, byte for byte.

All that is changed comes out upright, in sRGB or grey with 8 bits, without transparency and without metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..types.dataclass import dataclass
from .sniff import Sniffed, animated, orientation, sniff
from .tiles import MAX_TILES, reduced

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = [
    "INSTALL",
    "Fitted",
    "Limits",
    "Unfit",
    "check_pixels",
    "encoded",
    "fit",
    "opened",
    "pillow_is_there",
    "refusal",
    "surplus",
]

INSTALL = "pip install 'llamaroute[images]'"


class Unfit(Exception):
    """A picture cannot be made what the host takes. The message says why, without the picture's name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture must keep to (what the host takes), and what it should keep to (`tiles` and `sent`).

    `tiles` is the largest canvas, without the tile that shows the whole picture; `sent` is the bytes of base64 text.
    None means no limit.
    """

    media_types: tuple[str, ...]
    max_bytes: int | None = None
    max_pixels: int | None = None
    tiles: int = MAX_TILES
    sent: int | None = None

    @property
    def bytes(self) -> int | None:
        """The smaller of the two limits on bytes."""
        both = [limit for limit in (self.max_bytes, self.sent and self.sent // 4 * 3) if limit is not None]
        return min(both, default=None)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size to reduce a picture to."""
        if self.max_pixels is not None and width * height > self.max_pixels:
            scale = (self.max_pixels / (width * height)) ** 0.5
            width, height = max(int(width * scale), 1), max(int(height * scale), 1)
            width, height = min(width, self.max_pixels), min(height, self.max_pixels)  # next to a side of 1
        return reduced(width, height, self.tiles)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A changed picture. Sizes are pixels, as seen: `before` is the size it had."""

    data: bytes
    media_type: str
    size: tuple[int, int]
    before: tuple[int, int]


def pillow_is_there() -> bool:
    """Whether pictures can be changed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def refusal(data: bytes, found: Sniffed, limits: Limits) -> str | None:
    """Why the host would not take the picture as it is, or None."""
    if found.media_type not in limits.media_types:
        return f"it takes {', '.join(limits.media_types)}, not {found.media_type}"
    if limits.max_bytes is not None and len(data) > limits.max_bytes:
        return f"it takes images of at most {limits.max_bytes:,} bytes, not {len(data):,}"
    if limits.max_pixels is not None and found.width and found.height:
        if found.width * found.height > limits.max_pixels:
            return f"it takes images of at most {limits.max_pixels:,} pixels, not {found.width:,} x {found.height:,}"
    return None


def surplus(data: bytes, found: Sniffed, limits: Limits) -> str | None:
    """Why the picture should be changed although the host takes it, or None."""
    if found.width and found.height:
        width, height = _upright(found.width, found.height, orientation(data))
        if limits.size(width, height) != (width, height):
            return f"it has {width:,} x {height:,} pixels"
    if limits.bytes is not None and len(data) > limits.bytes:
        return f"it has {len(data):,} bytes"
    if orientation(data) != 1:
        return "it does not stand upright"
    return "it is animated" if animated(data) else None


def check_pixels(width: int, height: int, what: str, most: int) -> None:
    """Refuse a picture for its declared size, before anything is decoded.

    Raises:
        InputError: more than `most` pixels.
    """
    if width * height > most:
        raise InputError(
            f"{what} has {width:,} x {height:,} pixels, and [images] max_pixels is {most:,}: "
            "it would take too much memory to decode"
        )


def fit(data: bytes, limits: Limits, what: str, *, max_pixels: int) -> Fitted:
    """The picture in a form that keeps to `limits`.

    Raises:
        InputError: it is broken, or has more than `max_pixels`.
        Unfit: there is no such form.
    """
    picture, before = opened(data, what, limits.size, max_pixels=max_pixels)
    # What was compressed with loss is a photograph, mostly, and gains nothing from being kept exactly.
    found = sniff(data)
    exact = found is not None and found.media_type not in _LOSSY and data[12:16] != b"VP8 "
    content, media_type, size = encoded(picture, limits, exact=exact)
    return Fitted(content, media_type, size, before)


_LOSSY = ("image/jpeg", "image/avif", "image/heic", "image/heif")

_PLUGINS = {
    "image/png": ("PNG",),
    "image/jpeg": ("JPEG", "MPO"),
    "image/gif": ("GIF",),
    "image/webp": ("WEBP",),
    "image/bmp": ("BMP",),
    "image/tiff": ("TIFF",),
    "image/avif": ("AVIF",),
    "image/heic": ("HEIF",),
    "image/heif": ("HEIF",),
}
"""Pillow's readers. No other is tried: some of them start programs, and fewer of them are fewer risks."""


def opened(
    data: bytes, what: str, size: Callable[[int, int], tuple[int, int]], *, max_pixels: int
) -> tuple[Picture, tuple[int, int]]:
    """The first picture in `data`, upright and reduced to `size` of its own size, and that size.

    Its mode is `RGB` or `L`.

    Raises:
        InputError: it is broken, or has more than `max_pixels`.
        Unfit: Pillow has no reader for it.
    """
    from PIL import Image

    found = sniff(data)
    if found is None:
        raise InputError(f"{what} is not an image")
    if found.width and found.height:
        check_pixels(found.width, found.height, what, max_pixels)
    Image.init()
    plugins = [name for name in _PLUGINS[found.media_type] if name in Image.OPEN]
    if not plugins:
        raise Unfit(f"Pillow cannot read {found.media_type} here; convert it to JPEG or PNG first")
    try:
        with Image.open(BytesIO(data), formats=plugins) as picture:
            check_pixels(*picture.size, what, max_pixels)
            return _reduced(picture, size)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{what} takes more memory to decode than there is") from error
    except Exception as error:  # Pillow's readers raise whatever they like
        raise InputError(f"{what} cannot be decoded, it is broken or cut off: {error}") from error


def _reduced(picture: Picture, size: Callable[[int, int], tuple[int, int]]) -> tuple[Picture, tuple[int, int]]:
    from PIL import Image

    if picture.format == "JPEG":  # decoded at a half, a quarter or an eighth, when that is still twice what is needed
        turn = _turn(picture)
        before = _upright(*picture.size, turn)
        wanted = _upright(*size(*before), turn)
        picture.draft(None, (wanted[0] * 2, wanted[1] * 2))
        picture.load()
    else:
        picture.load()  # which turns a TIFF by itself
        turn = _turn(picture)
        before = _upright(*picture.size, turn)
        wanted = _upright(*size(*before), turn)
    profile = picture.info.get("icc_profile")
    plain = _plain(picture)
    if plain.size != wanted:
        plain = plain.resize(wanted, Image.Resampling.LANCZOS)
    plain = _srgb(_opaque(plain), profile)
    if turn != 1:
        plain = plain.transpose(_TURNS[turn])
    return plain, before


# EXIF's orientations as Pillow's `Transpose`: CIPA DC-008 (Exif 3.0), 4.6.5.1.
_FLIPPED, _ROTATED_90, _ROTATED_180, _ROTATED_270, _UPSIDE_DOWN, _TRANSPOSED, _TRANSVERSED = 0, 2, 3, 4, 1, 5, 6
_TURNS: dict[int, Any] = {
    2: _FLIPPED,
    3: _ROTATED_180,
    4: _UPSIDE_DOWN,
    5: _TRANSPOSED,
    6: _ROTATED_270,
    7: _TRANSVERSED,
    8: _ROTATED_90,
}


def _turn(picture: Picture) -> int:
    try:
        turn = picture.getexif().get(274, 1)
    except Exception:  # broken metadata is no reason to refuse a picture
        return 1
    return turn if turn in _TURNS else 1


def _upright(width: int, height: int, turn: int) -> tuple[int, int]:
    """The size after turning; and before it, given that after."""
    return (height, width) if turn >= 5 else (width, height)


def _plain(picture: Picture) -> Picture:
    """The picture in a mode with 8 bits a channel: `L`, `RGB`, `RGBA` or `CMYK`."""
    mode = picture.mode
    if mode[0] in "IF":
        return _eight_bits(picture)
    if mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        assert converted is not None, "not done in place"
        return converted
    if picture.has_transparency_data:
        return picture.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)).convert("RGBA")
    return picture if mode in ("L", "RGB", "CMYK") else picture.convert("L" if mode == "1" else "RGB")


def _eight_bits(picture: Picture) -> Picture:
    """Grey of 16 or 32 bits or of floating point, as grey of 8. Pillow's own conversion cuts off above 255."""
    if picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    low, high = picture.getextrema()
    assert not isinstance(low, tuple)  # one channel
    assert not isinstance(high, tuple)
    if low >= 0 and high <= (1 if picture.mode == "F" else 65535):
        factor, offset = (255.0, 0.0) if picture.mode == "F" else (1 / 257, 0.0)
    elif low >= 0 and high <= 255:
        factor, offset = 1.0, 0.0
    else:  # no scale is known: the darkest becomes black, the lightest white
        factor = 255 / (high - low) if high > low else 0.0
        offset = -low * factor
    return picture.point(lambda value: value * factor + (offset + 0.5)).convert("L")


def _opaque(picture: Picture) -> Picture:
    """Without transparency: on white, or on dark grey where nearly all that can be seen is white itself."""
    if picture.mode != "RGBA":
        return picture
    from PIL import Image, ImageChops, ImageStat

    alpha = picture.getchannel("A")
    colours = picture.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return colours
    grey = colours.convert("L")
    seen = ImageStat.Stat(alpha).sum[0]
    light = ImageStat.Stat(ImageChops.multiply(grey, alpha)).sum[0] / seen * 255 if seen else 0
    ground = Image.new("RGB", picture.size, (64, 64, 64) if light > 230 else (255, 255, 255))
    ground.paste(colours, mask=alpha)
    return ground


def _srgb(picture: Picture, profile: bytes | None) -> Picture:
    """In the colours that are meant where nothing is said: models are shown numbers, not colour profiles."""
    if profile and picture.mode in ("RGB", "CMYK"):
        from PIL import ImageCms

        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB") or picture
        except (ImageCms.PyCMSError, OSError, ImportError):
            pass  # a profile that is broken, or for other pictures than this
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


# ---- writing

_QUALITIES = (95, 85, 75, 60, 45)
_ROUNDS = 10
"""How often a picture is made smaller by three tenths when no quality makes it small enough."""


def encoded(picture: Picture, limits: Limits, *, exact: bool) -> tuple[bytes, str, tuple[int, int]]:
    """An `RGB` or `L` picture as bytes, with their media type and the picture's size, which may be smaller now.

    `exact` prefers a format without loss, where that keeps to the limits.

    Raises:
        Unfit: the host takes no format that is written here, or nothing so small.
    """
    from PIL import Image

    most = limits.bytes
    smallest: int | None = None
    for _ in range(_ROUNDS):
        for media_type, options in _ways(limits.media_types, exact=exact):
            content = _saved(picture, **options)
            if most is None or len(content) <= most:
                return content, media_type, picture.size
            smallest = len(content)
        width, height = picture.size
        smaller = limits.size(max(width * 7 // 10, 1), max(height * 7 // 10, 1))
        if smallest is None or smaller == picture.size:
            break
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)
    if smallest is None:
        raise Unfit(f"it takes {', '.join(limits.media_types)}, and PNG, JPEG and WebP are what is written here")
    raise Unfit(f"it takes images of at most {most:,} bytes, and this one cannot be made smaller than {smallest:,}")


def _ways(media_types: tuple[str, ...], *, exact: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """The forms to try, best first."""
    png = ("image/png", {"format": "PNG"})
    if exact and "image/png" in media_types:
        yield png
    if "image/jpeg" in media_types:
        for quality in _QUALITIES:
            # Full colour resolution while there is room: letters and thin lines need it.
            sampling = 0 if quality >= 95 else 2
            # Without `optimize`: the buffer that Pillow has for it is too small for noise, and it fails.
            yield "image/jpeg", {"format": "JPEG", "quality": quality, "subsampling": sampling}
    elif "image/webp" in media_types:
        for quality in _QUALITIES:
            yield "image/webp", {"format": "WEBP", "quality": quality, "method": 4}
    if not exact and "image/png" in media_types:
        yield png


def _saved(picture: Picture, **options: Any) -> bytes:
    # A copy carries no metadata along: PNG's and WebP's writers take profile and EXIF out of `info`.
    bare = picture.copy()
    bare.info = {}
    buffer = BytesIO()
    bare.save(buffer, **options)
    return buffer.getvalue()
