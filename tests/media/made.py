"""Small pictures, PDFs and videos, made on the spot."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
from PIL import Image as Pil
from PIL.Image import Image as Picture

QUARTERS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10))
"""Upper left, upper right, lower left, lower right of `quarters`."""


def saved(picture: Picture, form: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def read(data: bytes) -> Picture:
    picture = Pil.open(BytesIO(data))
    picture.load()
    return picture


def noise(width: int, height: int, seed: int = 1) -> Picture:
    """The picture that compresses worst."""
    return Pil.frombytes("RGB", (width, height), random.Random(seed).randbytes(width * height * 3))


def photo(width: int, height: int, seed: int = 1) -> Picture:
    """Smooth colours with the noise of a sensor in the dark."""
    grain = Pil.frombytes("RGB", (512, 512), random.Random(seed).randbytes(512 * 512 * 3)).resize((width, height))
    shade = Pil.linear_gradient("L").resize((width, height)).convert("RGB")
    return Pil.blend(shade, grain, 0.4)


def quarters(width: int = 48, height: int = 32) -> Picture:
    """Four colours, so that every turn shows."""
    picture = Pil.new("RGB", (width, height))
    for index, colour in enumerate(QUARTERS):
        box = (index % 2 * width // 2, index // 2 * height // 2)
        picture.paste(colour, (*box, box[0] + width // 2, box[1] + height // 2))
    return picture


def png_head(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that declares a size, and has hardly any pixels."""
    body = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, content in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        body += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return body


def pdf(*colours: tuple[int, int, int], size: tuple[int, int] = (200, 300)) -> bytes:
    """A PDF of one page per colour, each point a pixel."""
    pages = [Pil.new("RGB", size, colour) for colour in colours]
    return saved(pages[0], "PDF", save_all=True, append_images=pages[1:], resolution=72)


def drawn_pdf(content: str, *, box: Sequence[float] = (0, 0, 200, 300), count: int = 1, locked: bool = False) -> bytes:
    """A PDF written by hand: `content` in PDF's drawing language on each page.

    `locked` encrypts it, with the user password "secret": ISO 32000-1, 7.6.3, revision 2 (RC4 with 40 bits).
    """
    identity = b"0123456789abcdef"
    stream = content.encode()
    padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    encrypt = ""
    if locked:
        padded = (b"secret" + padding)[:32]
        owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
        key = hashlib.md5(padded + owner + struct.pack("<i", -4) + identity).digest()[:5]
        user = _rc4(key, padding)
        encrypt = f"<</Filter/Standard/V 1/R 2/P -4/O<{owner.hex()}>/U<{user.hex()}>>>"
        stream = _rc4(hashlib.md5(key + struct.pack("<IH", 4, 0)[:3] + b"\0\0").digest()[:10], stream)
    kids = " ".join(f"{5 + index} 0 R" for index in range(count))
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[{' '.join(map(str, box))}]/Contents 4 0 R/Resources<<>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {count}>>".encode(),
        (encrypt or "null").encode(),
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        *([page.encode()] * count),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{at:010} 00000 n \n" for at in places)
    lock = f"/Encrypt 3 0 R/ID[<{identity.hex()}><{identity.hex()}>]" if locked else ""
    trailer = f"trailer\n<</Size {len(objects) + 1}/Root 1 0 R{lock}>>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + table.encode() + trailer.encode()


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def grey(index: int, count: int) -> int:
    """How light frame `index` of `count` is: the first black, the last white."""
    return round(255 * index / max(count - 1, 1))


def video(
    count: int,
    *,
    form: str = "mp4",
    codec: str = "mpeg4",
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    gop: int = 12,
    pictures: Sequence[Picture] = (),
    times: Sequence[int] = (),
) -> bytes:
    """A video of ever lighter frames (or of `pictures`), `rate` a second (or at `times`, in parts of a second)."""
    out = BytesIO()
    with av.open(out, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        for index in range(count):
            picture = pictures[index] if pictures else Pil.new("RGB", size, (grey(index, count),) * 3)
            frame = av.VideoFrame.from_image(picture)
            frame.pts = times[index] if times else index
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def turned(mp4: bytes) -> bytes:
    """The same video, to be shown a quarter turn clockwise: ISO/IEC 14496-12, 8.3.2, the matrix of the track header."""
    place = mp4.index(b"tkhd") + 4
    assert mp4[place] == 0, "of version 0"
    matrix = place + 4 + 36
    assert mp4[matrix : matrix + 4] == b"\0\1\0\0"
    return mp4[:matrix] + struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30) + mp4[matrix + 36 :]


def sound() -> bytes:
    """A file with sound alone."""
    out = BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.planes[0].update(bytes(1600))
        frame.sample_rate = 8000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
