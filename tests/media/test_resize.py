"""Pictures of every mode and format, made to fit: Pillow reads what came out, and is the oracle for turning."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageChops, ImageCms, ImageOps
from PIL.Image import Image as Picture

from llamaroute.errors import InputError
from llamaroute.media.resize import (
    Limits,
    Unfit,
    encoded,
    fit,
    opened,
    pillow_is_there,
    refusal,
    surplus,
)
from llamaroute.media.sniff import Sniffed, animated, orientation, sniff
from llamaroute.media.tiles import image_tokens

from .made import QUARTERS, noise, photo, png_head, quarters, read, saved

MOST = 20_000_000
BOTH = ("image/png", "image/jpeg")
DEFAULT = Limits(BOTH, tiles=7, sent=1_000_000)
HIGH = Limits(BOTH)


def same(width: int, height: int) -> tuple[int, int]:
    return width, height


def decoded(data: bytes) -> Picture:
    return opened(data, "it", same, max_pixels=MOST)[0]


def found(data: bytes) -> Sniffed:
    seen = sniff(data)
    assert seen is not None
    return seen


def apart(one: Picture, other: Picture) -> int:
    """The largest difference of two pictures in any channel."""
    extremes = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema()
    return max(high for _, high in extremes)  # type: ignore[misc]


# ---- every mode


RGB, GREY = (200, 120, 40), 135  # 135 is what Pillow makes of RGB as grey


def in_mode(mode: str, size: tuple[int, int] = (40, 24)) -> Picture:
    plain = Pil.new("RGB", size, RGB)
    match mode:
        case "1":
            return Pil.new("1", size, 1)
        case "P":
            return plain.quantize(8)
        case "PA":
            return plain.quantize(8).convert("PA")
        case "I;16" | "I;16B":
            return Pil.new(mode, size, GREY * 257)
        case "I":
            return Pil.new("I", size, GREY * 257)
        case "F":
            return Pil.new("F", size, GREY / 255)
        case "LAB":
            srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
            converted = ImageCms.profileToProfile(plain, srgb, lab, outputMode="LAB")
            assert converted is not None
            return converted
        case _:
            return plain.convert(mode)


WRITTEN: list[tuple[str, str, dict[str, Any], int]] = [
    *(("PNG", mode, {}, 0) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("JPEG", mode, {}, 3) for mode in ("L", "RGB", "CMYK", "YCbCr")),
    ("JPEG", "RGB", {"progressive": True}, 3),
    *(("GIF", mode, {}, 0) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("WEBP", mode, {"lossless": True}, 0) for mode in ("RGB", "RGBA")),
    ("WEBP", "RGB", {}, 6),
    *(("BMP", mode, {}, 0) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("TIFF", mode, {}, 0) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F")),
    ("TIFF", "YCbCr", {}, 2),
    ("TIFF", "LAB", {}, 3),
    ("TIFF", "RGB", {"compression": "tiff_deflate"}, 0),
    ("AVIF", "RGB", {}, 6),
    ("AVIF", "RGBA", {}, 6),
]


@pytest.mark.parametrize(
    ("form", "mode", "options", "off"),
    WRITTEN,
    ids=[f"{form}-{mode}-{len(options)}" for form, mode, options, _ in WRITTEN],
)
def test_every_mode_of_every_format(form: str, mode: str, options: dict[str, Any], off: int) -> None:
    data = saved(in_mode(mode), form, **options)
    grey = mode in ("L", "LA", "I;16", "I;16B", "I", "F")
    want = (255,) * 3 if mode == "1" else (GREY,) * 3 if grey else RGB
    picture, before = opened(data, "it", same, max_pixels=MOST)
    assert picture.mode in ("RGB", "L")
    assert before == picture.size == (40, 24)
    assert apart(picture, Pil.new("RGB", (40, 24), want)) <= max(off, 1 if grey else 0)
    for limits, media_type in (
        (HIGH, None),
        (Limits(("image/jpeg",)), "image/jpeg"),
        (Limits(("image/webp",)), "image/webp"),
    ):
        made = fit(data, limits, "it", max_pixels=MOST)
        assert made.media_type == (
            media_type
            or ("image/jpeg" if form in ("JPEG", "AVIF") or (form == "WEBP" and not options) else "image/png")
        )
        assert sniff(made.data) == Sniffed(made.media_type, 40, 24)
        assert apart(read(made.data), picture) <= (0 if made.media_type == "image/png" else 4)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"],
)
def test_every_mode_that_pillow_has(mode: str) -> None:
    from llamaroute.media import resize

    picture = {"La": lambda: in_mode("LA").convert("La"), "RGBa": lambda: in_mode("RGBA").convert("RGBa")}.get(
        mode, lambda: in_mode(mode)
    )()
    picture.format = None
    made, before = resize._reduced(picture, lambda width, height: (width // 2, height // 2))
    assert before == (40, 24)
    assert made.size == (20, 12)
    grey = mode in ("L", "LA", "La", "I", "I;16", "F")
    want = (255,) * 3 if mode == "1" else (GREY,) * 3 if grey else RGB
    assert apart(made, Pil.new("RGB", (20, 12), want)) <= 3


def test_16_bits_keep_every_shade() -> None:
    ramp = Pil.new("I;16", (256, 1))
    ramp.putdata([shade * 257 for shade in range(256)])
    assert decoded(saved(ramp, "PNG")).tobytes() == bytes(range(256))
    dark = Pil.new("I;16", (1, 1), 300)  # Pillow's own conversion makes everything above 255 white
    assert decoded(saved(dark, "PNG")).getpixel((0, 0)) == 1


def test_16_bits_a_channel() -> None:
    """Pillow does not write such a PNG."""
    pixel = struct.pack(">HHH", *(channel * 257 for channel in RGB))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress((b"\0" + pixel * 3) * 2)), (b"IEND", b"")):
        body += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    assert apart(decoded(body), Pil.new("RGB", (3, 2), RGB)) == 0


@pytest.mark.parametrize(
    ("mode", "values", "shades"),
    [
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 100.0, 250.0], [0, 100, 250]),
        ("F", [-1.0, 0.0, 1.0], [0, 128, 255]),
        ("F", [5.0, 5.0, 5.0], [5, 5, 5]),
        ("F", [-5.0, -5.0, -5.0], [0, 0, 0]),
        ("I", [0, 32896, 65535], [0, 128, 255]),
        ("I", [-100_000, 0, 100_000], [0, 128, 255]),
    ],
)
def test_numbers_without_a_scale(mode: str, values: list[float], shades: list[int]) -> None:
    picture = Pil.new(mode, (3, 1))
    picture.putdata(values)
    assert list(decoded(saved(picture, "TIFF")).tobytes()) == shades


def test_cmyk_is_not_inverted() -> None:
    cyan = Pil.new("CMYK", (32, 32), (255, 0, 0, 0))
    assert apart(decoded(saved(cyan, "JPEG")), Pil.new("RGB", (32, 32), (0, 255, 255))) <= 4


def test_colour_profiles_are_applied() -> None:
    """A profile in which red and blue have changed places: what is stored as blue is red."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    blue_picture = Pil.new("RGB", (8, 8), (0, 0, 255))
    assert (
        apart(decoded(saved(blue_picture, "PNG", icc_profile=bytes(swapped))), Pil.new("RGB", (8, 8), (255, 0, 0))) <= 3
    )
    assert apart(decoded(saved(blue_picture, "PNG", icc_profile=b"rubbish")), blue_picture) == 0


# ---- transparency


def logo(colour: tuple[int, int, int]) -> Picture:
    picture = Pil.new("RGBA", (64, 64), (*colour, 0))
    picture.paste((*colour, 255), (16, 16, 48, 48))
    return picture


@pytest.mark.parametrize(
    ("colour", "ground"),
    [((0, 0, 0), (255, 255, 255)), ((200, 30, 30), (255, 255, 255)), ((255, 255, 255), (64, 64, 64))],
)
def test_what_is_transparent_does_not_hide_the_rest(colour: tuple[int, int, int], ground: tuple[int, int, int]) -> None:
    for data in (saved(logo(colour), "PNG"), saved(logo(colour), "WEBP", lossless=True), saved(logo(colour), "GIF")):
        picture = decoded(data)
        assert picture.mode == "RGB"
        assert picture.getpixel((32, 32)) == colour
        assert picture.getpixel((2, 2)) == ground


def test_half_transparent_is_half_white() -> None:
    assert decoded(saved(Pil.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")).getpixel((0, 0)) == (127, 127, 127)
    assert decoded(saved(Pil.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decoded(saved(Pil.new("RGBA", (4, 4), (9, 9, 9, 255)), "PNG")).getpixel((0, 0)) == (9, 9, 9)


def test_a_colour_that_stands_for_transparent() -> None:
    picture = Pil.new("RGB", (8, 8), (1, 2, 3))
    picture.paste((90, 90, 90), (0, 0, 4, 8))
    out = decoded(saved(picture, "PNG", transparency=(1, 2, 3)))
    assert (out.getpixel((1, 1)), out.getpixel((6, 6))) == ((90, 90, 90), (255, 255, 255))


# ---- which way up


def with_orientation(form: str, turn: int, size: tuple[int, int] = (48, 32)) -> bytes:
    exif = Pil.Exif()
    exif[274] = turn
    exif[271] = "Camera"
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    return saved(quarters(*size), form, exif=exif, **options)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_as_pillow_turns(form: str, turn: int) -> None:
    data = with_orientation(form, turn)
    if form != "TIFF":
        assert orientation(data) == turn
    oracle = ImageOps.exif_transpose(Pil.open(BytesIO(data))).convert("RGB")
    picture, before = opened(data, "it", same, max_pixels=MOST)
    assert before == picture.size == oracle.size == ((32, 48) if turn >= 5 else (48, 32))
    assert picture.tobytes() == oracle.tobytes()
    made = fit(data, HIGH, "it", max_pixels=MOST)
    assert orientation(made.data) == 1
    assert made.size == oracle.size
    assert apart(read(made.data), oracle) <= 20


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_and_reduced(turn: int) -> None:
    """JPEG files are decoded at a fraction of their size here."""
    data = with_orientation("JPEG", turn, (3000, 1000))
    made = fit(data, Limits(BOTH, tiles=2), "it", max_pixels=MOST)
    oracle = ImageOps.exif_transpose(Pil.open(BytesIO(data)))
    assert made.before == oracle.size
    assert made.size == ((224, 672) if turn >= 5 else (672, 224))
    small = read(made.data)
    for x in (0.25, 0.75):
        for y in (0.25, 0.75):
            want = oracle.getpixel((int(x * oracle.width), int(y * oracle.height)))
            got = small.getpixel((int(x * small.width), int(y * small.height)))
            assert all(abs(a - b) < 12 for a, b in zip(want, got, strict=True)), (want, got)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xe1\x00\x10Exif\0\0MM\0*",
        b"\xff\xd8\xff\xe1\x00\x20Exif\0\0II*\0\xff\xff\xff\xff",
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04eXIfabcd",
        b"RIFF\0\0\0\0WEBPEXIF\x04\0\0\0II*\0",
        b"\xff\xd8\xff\xe1\x00\x1eExif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
    ],
)  # fmt: skip
def test_broken_metadata_turns_nothing(data: bytes) -> None:
    assert orientation(data) == 1


@given(
    st.binary(max_size=200),
    st.sampled_from([b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF....WEBPVP8X"]),
)
def test_heads_of_rubbish_are_no_trouble(rubbish: bytes, head: bytes) -> None:
    assert 1 <= orientation(head + rubbish) <= 8
    assert animated(head + rubbish) in (True, False)


# ---- what moves


def moving(form: str, count: int = 3, **options: Any) -> bytes:
    frames = [Pil.new("RGB", (30, 20), colour) for colour in QUARTERS[:count]]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100, **options)


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_only_the_first_frame_is_taken(form: str, options: dict[str, Any]) -> None:
    data = moving(form, **options)
    assert animated(data)
    assert surplus(data, found(data), DEFAULT) == "it is animated"
    made = fit(data, DEFAULT, "it", max_pixels=MOST)
    assert not animated(made.data)
    assert made.media_type == "image/png"
    assert apart(read(made.data), Pil.new("RGB", (30, 20), QUARTERS[0])) == 0


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "JPEG", "BMP"])
def test_what_stands_still(form: str) -> None:
    data = saved(quarters(), form)
    assert not animated(data)
    assert not animated(data[: len(data) // 2])


def test_a_gif_that_is_cut_off_or_endless() -> None:
    data = moving("GIF")
    second = data.index(b"\x2c", data.index(b"\x2c") + 40)
    assert [animated(data[:cut]) for cut in (0, 6, 12, 40, second)] == [False] * 5
    assert animated(b"GIF89a" + bytes(7) + b"\x21\xfe\x01a" * 400_000) is False


# ---- what is refused


BOMBS = [
    png_head(60_000, 60_000),
    b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + bytes(20),
    b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 65_000, 65_000) + bytes(20),
    b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\x00\xff\xff\x00" + bytes(20),
    b"BM" + bytes(12) + struct.pack("<Iii", 40, 50_000, 50_000) + bytes(40),
]


@pytest.mark.parametrize("data", BOMBS, ids=lambda data: str(data[:4]))
def test_bombs_are_refused_before_anything_is_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pil, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match=r"^it has [0-9,]+ x [0-9,]+ pixels, and \[images\] max_pixels is 20,000,000"):
        fit(data, DEFAULT, "it", max_pixels=MOST)


def test_what_the_head_did_not_say_is_asked_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    tiff = saved(Pil.new("L", (5000, 5000)), "TIFF", compression="tiff_deflate")
    monkeypatch.setattr("llamaroute.media.resize.sniff", lambda data: Sniffed("image/tiff"))
    with pytest.raises(InputError, match="5,000 x 5,000 pixels"):
        opened(tiff, "it", same, max_pixels=MOST)


def test_pillows_own_guard_is_the_second_line() -> None:
    with pytest.raises(InputError, match=r"it cannot be decoded.*decompression bomb"):
        fit(png_head(30_000, 30_000), DEFAULT, "it", max_pixels=10**12)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_files_that_are_cut_off(form: str) -> None:
    data = saved(noise(200, 150), form)
    with pytest.raises(
        InputError, match=r"^image 'x' (cannot be decoded, it is broken or cut off: .+|is not an image)$"
    ):
        opened(data[: len(data) * 2 // 3], "image 'x'", same, max_pixels=MOST)


def test_a_format_without_reader() -> None:
    heic = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(Unfit, match="Pillow cannot read image/heic here; convert it to JPEG or PNG first"):
        fit(heic, DEFAULT, "it", max_pixels=MOST)


def test_no_other_reader_is_asked() -> None:
    """Whatever stands behind a head: an EPS in a PNG's clothes does not reach the reader that starts Ghostscript."""
    with pytest.raises(InputError, match="cannot be decoded"):
        opened(png_head(9, 9)[:40] + b"%!PS-Adobe-3.0 EPSF-3.0\n", "it", same, max_pixels=MOST)


# ---- what it may cost


SIZES = [
    (4000, 3000), (3000, 4000), (4032, 2268), (3840, 2160), (2560, 1440), (2048, 1536), (1920, 1080), (1080, 1920),
    (1600, 1200), (1500, 1500), (1366, 768), (1280, 720), (1179, 2556), (1024, 768), (1008, 672), (1009, 673),
    (1000, 1000), (850, 1100), (800, 600), (673, 673), (672, 672), (640, 480), (500, 2000), (4000, 500),
    (5000, 300), (300, 5000), (7000, 60), (336, 2352), (337, 2353), (2353, 337), (90, 60),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_noisy_pictures_cost_at_most_1300_tokens_and_a_megabyte(size: tuple[int, int]) -> None:
    data = saved(photo(*size), "JPEG", quality=95)
    if surplus(data, found(data), DEFAULT) is not None:
        made = fit(data, DEFAULT, "it", max_pixels=MOST)
        assert made.before == size
        data = made.data
    seen = found(data)
    assert seen.width is not None
    assert seen.height is not None
    assert image_tokens(seen.width, seen.height) <= 1300
    assert len(data) * 4 / 3 <= 1_000_000
    assert abs(seen.width / seen.height / (size[0] / size[1]) - 1) < 0.05
    assert surplus(data, seen, DEFAULT) is None


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("size", [(2000, 1500), (1008, 672)], ids=str)
def test_pure_noise_without_loss_becomes_a_jpeg(form: str, size: tuple[int, int]) -> None:
    data = saved(noise(*size), form, **({"lossless": True} if form == "WEBP" else {}))
    made = fit(data, DEFAULT, "it", max_pixels=MOST)
    assert made.media_type == "image/jpeg"
    assert len(made.data) <= 750_000
    assert image_tokens(*made.size) <= 1300


def test_drawings_stay_without_loss() -> None:
    made = fit(saved(quarters(2000, 1000), "PNG"), DEFAULT, "it", max_pixels=MOST)
    assert (made.media_type, made.size) == ("image/png", (1008, 504))


def test_detail_high_keeps_what_the_model_can_see() -> None:
    data = saved(photo(4000, 3000), "JPEG", quality=95)
    made = fit(data, HIGH, "it", max_pixels=MOST)
    assert made.size == (1344, 1008)
    assert image_tokens(*made.size) == image_tokens(4000, 3000) == 1887


def test_one_tile() -> None:
    made = fit(saved(photo(800, 600), "JPEG"), Limits(BOTH, tiles=1), "it", max_pixels=MOST)
    assert made.size == (336, 252)
    assert image_tokens(*made.size) == 147


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 16), st.one_of(st.none(), st.integers(1, 500_000)))
@settings(max_examples=60, deadline=None)
def test_any_size_fits(width: int, height: int, tiles: int, pixels: int | None) -> None:
    limits = Limits(BOTH, tiles=tiles, max_pixels=pixels)
    data = saved(Pil.new("L", (width, height), 99), "PNG")
    made = fit(data, limits, "it", max_pixels=MOST)
    seen = found(made.data)
    assert (seen.width, seen.height) == made.size
    assert refusal(made.data, seen, limits) is None
    assert surplus(made.data, seen, limits) is None
    assert made.size == (width, height) or surplus(data, found(data), limits) is not None


@pytest.mark.parametrize("most", [200_000, 50_000, 8_000, 1_500])
@pytest.mark.parametrize("media_types", [("image/jpeg",), ("image/png",), ("image/webp",), BOTH])
def test_a_hosts_limit_on_bytes(most: int, media_types: tuple[str, ...]) -> None:
    limits = Limits(media_types, max_bytes=most)
    made = fit(saved(noise(400, 300), "PNG"), limits, "it", max_pixels=MOST)
    assert len(made.data) <= most
    assert made.media_type in media_types
    assert refusal(made.data, found(made.data), limits) is None


def test_what_cannot_be_done() -> None:
    data = saved(quarters(), "PNG")
    with pytest.raises(
        Unfit, match=r"^it takes images of at most 30 bytes, and this one cannot be made smaller than \d+$"
    ):
        fit(data, Limits(BOTH, max_bytes=30), "it", max_pixels=MOST)
    with pytest.raises(Unfit, match=r"^it takes image/gif, and PNG, JPEG and WebP are what is written here$"):
        fit(data, Limits(("image/gif",)), "it", max_pixels=MOST)


def test_the_search_for_a_quality_ends() -> None:
    """However small the limit is."""
    saves: list[Any] = []

    original = Pil.Image.save

    def counting(self: Picture, *arguments: Any, **options: Any) -> None:
        saves.append(options.get("format"))
        original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pil.Image, "save", counting)
        with pytest.raises(Unfit):
            encoded(noise(300, 300), Limits(BOTH, max_bytes=10), exact=True)
    assert 10 < len(saves) <= 60


# ---- what comes out


def test_the_same_bytes_every_time() -> None:
    for data in (saved(photo(1500, 1200), "JPEG"), saved(noise(900, 900), "PNG"), saved(logo((0, 0, 0)), "PNG")):
        first = fit(data, DEFAULT, "it", max_pixels=MOST)
        assert fit(data, DEFAULT, "other", max_pixels=MOST) == first
        assert fit(data, Limits(BOTH, tiles=7, sent=1_000_000), "it", max_pixels=MOST).data == first.data


def test_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys, hashlib; from llamaroute.media.resize import Limits, fit;"
        "limits = Limits(('image/png', 'image/jpeg'), tiles=7, sent=10**6);"
        "made = fit(sys.stdin.buffer.read(), limits, 'it', max_pixels=10**8);"
        "print(hashlib.sha256(made.data).hexdigest())"
    )
    data = saved(photo(1200, 1200), "JPEG")
    seen = {
        subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert seen == {hashlib.sha256(fit(data, DEFAULT, "it", max_pixels=MOST).data).hexdigest().encode() + b"\n"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_no_metadata_is_left(form: str) -> None:
    exif = Pil.Exif()
    exif[271] = "SECRET camera"
    exif[274] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"comment": b"SECRET comment"} if form == "JPEG" else {}
    data = saved(photo(300, 200), form, exif=exif, icc_profile=profile, **options)
    assert b"SECRET" in data
    for media_type in ("image/jpeg", "image/png", "image/webp"):
        made = fit(data, Limits((media_type,)), "it", max_pixels=MOST)
        assert b"SECRET" not in made.data
        out = read(made.data)
        assert not set(out.info) & {"exif", "icc_profile", "comment", "xmp"}
        assert made.size == (200, 300)


# ---- what is not touched


@pytest.mark.parametrize(
    ("data", "limits", "why"),
    [
        (saved(quarters(), "PNG"), DEFAULT, None),
        (saved(logo((0, 0, 0)), "PNG"), DEFAULT, None),
        (saved(quarters(1008, 672), "JPEG"), DEFAULT, None),
        (saved(quarters(1009, 672), "JPEG"), DEFAULT, "it has 1,009 x 672 pixels"),
        (saved(quarters(1344, 1008), "JPEG"), HIGH, None),
        (saved(quarters(400, 300), "JPEG"), Limits(BOTH, tiles=1), "it has 400 x 300 pixels"),
        (with_orientation("JPEG", 3), DEFAULT, "it does not stand upright"),
        (with_orientation("JPEG", 1), DEFAULT, None),
        (saved(noise(600, 500), "PNG"), DEFAULT, "it has 901,"),
        (saved(noise(600, 500), "PNG"), HIGH, None),
    ],
)  # fmt: skip
def test_only_what_does_not_fit_is_changed(data: bytes, limits: Limits, why: str | None) -> None:
    seen = surplus(data, found(data), limits)
    assert seen == why if why is None or not why.endswith(",") else seen is not None and seen.startswith(why)
    assert refusal(data, found(data), limits) is None


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(("image/jpeg",)), "it takes image/jpeg, not image/png"),
        (Limits(BOTH, max_bytes=20), "it takes images of at most 20 bytes, not "),
        (Limits(BOTH, max_pixels=1000), "it takes images of at most 1,000 pixels, not 48 x 32"),
        (Limits(BOTH, max_pixels=48 * 32), None),
    ],
)
def test_what_the_host_refuses(limits: Limits, why: str | None) -> None:
    data = saved(quarters(), "PNG")
    seen = refusal(data, found(data), limits)
    assert seen is None if why is None else seen is not None and seen.startswith(why)


# ---- without Pillow


def test_pillow_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pillow_is_there()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert not pillow_is_there()


def test_what_fits_needs_no_pillow() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None;"
        "from llamaroute.media import frames, pages, resize, sheet, sniff;"
        "data = sys.stdin.buffer.read(); limits = resize.Limits(('image/png',));"
        "print(resize.refusal(data, sniff.sniff(data), limits), resize.surplus(data, sniff.sniff(data), limits));"
        "print(resize.pillow_is_there())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=saved(quarters(), "PNG"), capture_output=True, check=True)
    assert done.stdout.split() == [b"None", b"None", b"False"]
