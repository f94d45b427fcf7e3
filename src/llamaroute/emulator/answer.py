"""The two things a host module and the HTTP server exchange: the request that arrived and the answer to write."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from .script import Fault

__all__ = ["Answer", "Headers", "RecordedRequest", "dumps", "json_answer"]


class Headers(Mapping[str, str]):
    """HTTP headers: look-up ignores case, repeated ones are joined with a comma, `raw` keeps what was received."""

    def __init__(self, raw: Iterable[tuple[str, str]] = ()) -> None:
        self.raw = list(raw)
        self._joined: dict[str, str] = {}
        for name, value in self.raw:
            key = name.lower()
            self._joined[key] = f"{self._joined[key]}, {value}" if key in self._joined else value

    def __getitem__(self, name: str) -> str:
        return self._joined[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._joined

    def __iter__(self) -> Iterator[str]:
        return iter(self._joined)

    def __len__(self) -> int:
        return len(self._joined)

    def __repr__(self) -> str:
        return f"Headers({self._joined!r})"


@dataclass(slots=True, eq=False)
class RecordedRequest:
    """One request that arrived, whether or not it was answered.

    path: as the real host would see it (percent-decoded, without the emulator's host prefix); `target` is the raw line.
    host: the emulated host's name, "" if the prefix names none.
    started, finished: `time.monotonic()` seconds; `finished` is None while the answer is under way.
    disconnected: the client hung up (closed or half-closed) before the answer, or the request, was complete.
    status: the HTTP status sent; None if the connection was dropped before a status line.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: Headers
    body: bytes
    host: str
    started: float
    http_version: str = "1.1"
    finished: float | None = None
    disconnected: bool = False
    status: int | None = None

    @property
    def json(self) -> Any:
        """The body read as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @classmethod
    def read(
        cls, method: str, target: str, headers: Headers, body: bytes, started: float, http_version: str
    ) -> RecordedRequest:
        """Split the request target into host name, path and query."""
        raw_path, _, raw_query = target.partition("?")
        host, slash, rest = unquote(raw_path).lstrip("/").partition("/")
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        return cls(method, target, slash + rest or "/", query, headers, body, host, started, http_version)


@dataclass(slots=True)
class Answer:
    """What the server writes: a complete body, or frames that are written as they come."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    frames: AsyncIterator[bytes] | None = None
    fault: Fault | None = None
    delay: float = 0.0
    reset: bool = False
    hangup: bool = False


def dumps(value: Any) -> bytes:
    """Compact JSON with raw UTF-8, the way all emulated hosts write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON answer."""
    return Answer(status, {"content-type": "application/json", **(headers or {})}, dumps(value))
