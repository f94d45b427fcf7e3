"""Conversations as JSON files; docs/conversation.md has the form."""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from pydantic_core import from_json, to_json

from ..errors import InputError
from ..media.load import image_data, pil_bytes
from ..types.dataclass import dataclass
from ..types.messages import Message
from ..types.parts import Document, Image, ImageData, Part, Text, ToolCall, Video
from ..types.response import Cost, Usage

__all__ = ["Images", "Loaded", "dump", "load", "read", "write"]

FORMAT, VERSION = "llamaroute.conversation", 1

Images: TypeAlias = Literal["inline", "reference"]

_NEVER = ("headers",)
"""Options that may hold credentials."""


@dataclass(slots=True)
class Loaded:
    """What a file holds; `needs` are the options that it does not."""

    messages: tuple[Message, ...]
    options: dict[str, Any]
    needs: list[str]
    usages: list[Usage]
    costs: list[Cost | None]


def dump(
    messages: Sequence[Message],
    options: Mapping[str, Any],
    usages: Sequence[Usage],
    costs: Sequence[Cost | None],
    images: Images,
) -> bytes:
    """The file's content.

    Raises:
        InputError: an image's file cannot be read.
    """
    if images not in ("inline", "reference"):
        raise InputError(f"images= takes 'inline' or 'reference', not {images!r}")
    kept = {name: value for name, value in options.items() if name not in _NEVER and _is_plain(value)}
    data = {
        "format": FORMAT,
        "version": VERSION,
        "options": kept,
        "needs": [name for name in options if name not in kept],
        "messages": [_dump_message(message, images) for message in messages],
        "usage": [{name: value for name, value in asdict(usage).items() if name != "raw"} for usage in usages],
        "cost": [None if cost is None else {"usd": str(cost.usd), "estimated": cost.estimated} for cost in costs],
    }
    return to_json(data, indent=2) + b"\n"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _dump_message(message: Message, images: Images) -> dict[str, Any]:
    data: dict[str, Any] = {"role": message.role, "parts": [_dump_part(part, images) for part in message.parts]}
    if message.tool_call_id is not None:
        data["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        data["name"] = message.name
    return data


def _dump_part(part: Part, images: Images) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case ToolCall():
            return asdict(part)
        case Image():
            return {"type": "image", "detail": part.detail, **_dump_image(part, images)}
        case Document():
            data = {"type": "document", "detail": part.detail, "pages": part.pages}
            if isinstance(part.source, bytes):
                return {**data, "base64": base64.b64encode(part.source).decode()}
            path = os.fspath(part.source)
            if images == "reference":
                return {**data, "path": path}
            return {**data, "base64": base64.b64encode(_bytes(path, "document")).decode()}
        case Video():  # films are too large for a text file
            path = os.fspath(part.source)
            return {"type": "video", "path": path, "frames": part.frames, "detail": part.detail}


def _dump_image(image: Image, images: Images) -> dict[str, Any]:
    source, kind = image.source, image.kind
    if kind == "storage" or (kind == "url" and (images == "reference" or image.loaded() is None)):
        return {"url": str(source)}
    if kind == "path" and images == "reference":
        if image.from_dict:
            raise InputError("an image from a message dict names a local file, which such may not")
        return {"path": os.fspath(source)}  # type: ignore[arg-type]
    if kind == "data-url":
        return {"url": str(source)}
    data = image.loaded() or _load(image)
    return {"media_type": data.media_type, "base64": data.base64.decode()}


def _load(image: Image) -> ImageData:
    source = image.source
    if isinstance(source, bytes):
        return image_data(source, "the image", max_bytes=len(source))
    if isinstance(source, str | os.PathLike):
        if image.from_dict:
            raise InputError("an image from a message dict names a local file, which such may not")
        path = os.fspath(source)
        data = _bytes(path, "image")
        return image_data(data, f"image {path!r}", max_bytes=len(data))
    data = pil_bytes(source, "the PIL image")
    return image_data(data, "the PIL image", max_bytes=len(data))


def _bytes(path: str, what: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as opened:
            return opened.read()
    except OSError as error:
        raise InputError(
            f"cannot save the {what} {path!r}: {error.strerror or error}; images='reference' saves its name alone"
        ) from error


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file by one with this content: whole, or not at all.

    Raises:
        InputError: it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".conversation-")
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(data)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise InputError(f"cannot save the conversation as {path}: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> bytes:
    """The file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise InputError(f"cannot load the conversation {path}: {error.strerror or error}") from error


def load(content: bytes, where: str) -> Loaded:
    """What `dump` wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        data = from_json(content)
    except ValueError as error:
        raise InputError(f"{where} is no saved conversation: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{where} is no saved conversation: it has no format {FORMAT!r}")
    if data.get("version") != VERSION:
        raise InputError(
            f"{where} is a conversation of version {data.get('version')!r}; this llamaroute reads version {VERSION}"
        )
    try:
        return Loaded(
            messages=tuple(_load_message(message) for message in data["messages"]),
            options=dict(data["options"]),
            needs=list(data["needs"]),
            usages=[Usage(**usage) for usage in data["usage"]],
            costs=[None if cost is None else Cost(Decimal(cost["usd"]), cost["estimated"]) for cost in data["cost"]],
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{where} is a damaged conversation: {type(error).__name__}: {error}") from None


def _load_message(data: Any) -> Message:
    if data["role"] not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"no role {data['role']!r}")
    parts = tuple(_load_part(part) for part in data["parts"])
    return Message(data["role"], parts, tool_call_id=data.get("tool_call_id"), name=data.get("name"))


def _load_part(data: Any) -> Part:
    fields = {name: value for name, value in data.items() if name != "type"}
    match data["type"]:
        case "text":
            return Text(str(fields["text"]))
        case "tool_call":
            return ToolCall(**fields)
        case "image":
            return _load_image(fields)
        case "document":
            source = fields["path"] if "path" in fields else _decoded(fields["base64"])
            return Document(source, pages=fields.get("pages"), detail=fields.get("detail"))
        case "video":
            return Video(fields["path"], frames=fields["frames"], detail=fields.get("detail"))
        case kind:
            raise ValueError(f"no part is of type {kind!r}")


def _load_image(fields: Mapping[str, Any]) -> Image:
    detail = fields.get("detail")
    if "url" in fields:
        return Image(fields["url"], detail=detail)
    if "path" in fields:
        return Image(fields["path"], detail=detail)
    data = _decoded(fields["base64"])
    image = Image(data, detail=detail)
    image.load(ImageData.of(fields["media_type"], data))
    return image


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64 is damaged: {error}") from None
