"""JSON in and out, as bytes: bodies with images spliced in, and lenient reading of what hosts send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from ..errors import ProtocolError

__all__ = ["Body", "loads", "merge"]


class Body:
    """A JSON body put together from pieces, so that an image's base64 text is never copied into a string.

    Encoding a 1 MiB image through a JSON encoder costs about as much as everything else in a call together; here it is
    encoded once per image object and spliced.
    """

    __slots__ = ("_pieces", "_text")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._text: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add JSON text."""
        self._text.append(data)

    def value(self, value: Any) -> None:
        """Add a value as JSON."""
        self._text.append(to_json(value, inf_nan_mode="null"))  # JSON has no other word for them

    def blob(self, data: bytes) -> None:
        """Add a large piece by reference."""
        self._pieces.append(b"".join(self._text))
        self._pieces.append(data)
        self._text = []

    def finish(self) -> bytes | tuple[bytes, ...]:
        """The whole: bytes, or pieces when there are large ones."""
        tail = b"".join(self._text)
        return (*self._pieces, tail) if self._pieces else tail


def merge(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` over `base`: tables are merged, everything else replaced."""
    for key, value in extra.items():
        current = base.get(key)
        if isinstance(current, dict) and isinstance(value, Mapping):
            base[key] = merge(dict(current), value)
        else:
            base[key] = value
    return base


def loads(data: bytes, what: str) -> Any:
    """Read JSON that a host sent.

    Raises:
        ProtocolError: it is not JSON. `what` names the thing in the message.
    """
    try:
        return from_json(data)
    except ValueError:
        data = data.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, which Python's reader of bytes takes as well
    import json

    # Half of a surrogate pair as an escape, or a character cut in two by a server's own chunking: Python's reader
    # takes both, and U+FFFD stands for what cannot be mended. The fast reader refuses them.
    try:
        return _without_surrogates(json.loads(data.decode("utf-8", "replace"), strict=False))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what} is not JSON: {error}", raw=data[:2000].decode("utf-8", "replace")) from None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value
