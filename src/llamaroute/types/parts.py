"""What messages are made of: text, images, documents, videos and tool calls.

Pure data. Nothing here opens a file or a socket: a source that has to be read or fetched is read by the media layer
when the request is sent.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from .dataclass import dataclass

__all__ = ["Document", "Image", "ImageData", "ImageDetail", "Part", "PilImage", "Text", "ToolCall", "Video"]

ImageDetail: TypeAlias = Literal["low", "high", "auto"]


@runtime_checkable
class PilImage(Protocol):
    """What of a `PIL.Image.Image` is used here, so that Pillow need not be installed."""

    @property
    def mode(self) -> str:
        """How pixels are stored: `RGB`, `L`, ..."""
        ...

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the image to the file object `fp`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of the request's tools, made by the model.

    `arguments` is `{}` and `error` says why when the model's text (`raw_arguments`) was no JSON object.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw_arguments: str = ""
    error: str | None = None
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class ImageData:
    """An image as bytes, with the media type found in them and the base64 text that hosts want.

    Encoded once per image object, however many calls and retries carry it.
    """

    media_type: str
    data: bytes
    base64: bytes

    @classmethod
    def of(cls, media_type: str, data: bytes) -> ImageData:
        """Encode `data`."""
        return cls(media_type, data, base64.b64encode(data))


class Image:
    """An image from a path, an http(s) URL, bytes, a data URL, a PIL image, or a cloud's object storage.

    Args:
        source: `str` (a path, an `http(s)://` URL, a `data:` URL, or a `gs://` or `s3://` address, which the host must
            be able to read by itself), `os.PathLike`, `bytes`, or a PIL image.
        detail: how closely the model should look, which decides how far the image is reduced before it is sent:
            "low" to one tile of 336 x 336 pixels, None and "auto" to `[images] max_tokens`, "high" to what the model
            can see at most. Told to the host too, where it knows such a setting.

    The media type is found in the bytes, never taken from a file's name or a server's header. Files and URLs are read
    when the first request that holds the image is sent, and kept with the object.

    Raises:
        InputError: when sent: no such file, not an image, empty, larger than `[images] max_bytes`, or an address
            that `[images]` does not allow.
    """

    __slots__ = ("_loaded", "detail", "from_dict", "label", "made", "source")

    def __init__(
        self, source: str | os.PathLike[str] | bytes | bytearray | PilImage, *, detail: ImageDetail | None = None
    ) -> None:
        given: object = source
        if not isinstance(given, str | os.PathLike | bytes | bytearray | PilImage):
            from ..errors import InputError

            raise InputError(
                f"Image() takes a path, an http(s) or data URL, bytes or a PIL image, not {type(given).__name__}"
            )
        self.source: str | os.PathLike[str] | bytes | PilImage = (
            bytes(source) if isinstance(source, bytearray) else source
        )
        self.detail: ImageDetail | None = detail
        self.from_dict = False
        """True when it came out of an OpenAI-style message dict, which may not name local files."""
        self._loaded: ImageData | None = None
        self.label = ""
        """What it is called in messages, where its source says too little."""
        self.made: dict[Any, Any] = {}
        """What the media layer made of it for hosts that do not take it as it is, by what they take."""

    @property
    def scheme(self) -> str:
        """Of an image in object storage: `gs` or `s3`."""
        return str(self.source)[:2].lower() if self.kind == "storage" else ""

    @property
    def kind(self) -> Literal["url", "storage", "data-url", "path", "bytes", "pil"]:
        """Where the bytes come from."""
        source = self.source
        if isinstance(source, str):
            head = source[:8].lower()
            if head.startswith("data:"):
                return "data-url"
            if head.startswith(("gs://", "s3://")):
                return "storage"
            return "url" if head.startswith(("http://", "https://")) else "path"
        if isinstance(source, bytes):
            return "bytes"
        return "path" if isinstance(source, os.PathLike) else "pil"

    def loaded(self) -> ImageData | None:
        """The image's bytes when they were read already, else None."""
        return self._loaded

    def load(self, data: ImageData) -> ImageData:
        """Keep `data` as this image's bytes (the media layer calls this; see `layers/media.py`)."""
        self._loaded = data
        self.made = {}
        return data

    def __repr__(self) -> str:
        kind = self.kind
        if kind in ("url", "storage", "path"):
            what = repr(str(self.source))
        elif isinstance(self.source, bytes):
            what = f"<{len(self.source)} bytes>"
        else:
            what = f"<{kind}>"
        return f"Image({what})" if self.detail is None else f"Image({what}, detail={self.detail!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return self.detail == other.detail and self.source == other.source

    def __hash__(self) -> int:
        source = self.source
        return hash((self.detail, source if isinstance(source, str | bytes | os.PathLike) else id(source)))


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF, from a path or bytes; its pages are shown to the model as images.

    `pages` chooses some of them, counted from 1, in the order given; None means all, of which `[images] max_pages` may
    be there. `detail` is that of the images: "high", unless told otherwise, since text on a page is small.
    """

    source: str | os.PathLike[str] | bytes
    pages: Sequence[int] | None = None
    detail: ImageDetail | None = "high"
    made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The pages as images, once they were made; see `layers/media.py`."""

    def __post_init__(self) -> None:
        if self.pages is not None:
            object.__setattr__(self, "pages", tuple(self.pages))


@dataclass(frozen=True, slots=True)
class Video:
    """A video file; `frames` of it, evenly spread over its time, are shown to the model as images.

    `detail` is that of the images. What is heard is not used.
    """

    source: str | os.PathLike[str]
    frames: int = 8
    detail: ImageDetail | None = None
    made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The frames as images, once they were made; see `layers/media.py`."""


Part: TypeAlias = Text | Image | Document | Video | ToolCall
