"""Server-sent events: bytes in, `(event, data)` out. Knows nothing of chat.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

Bytes throughout: `str.splitlines` (and every HTTP client's `iter_lines`) also splits at U+2028 and U+0085, which may
stand unescaped in JSON and are no line ends here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import ProtocolError

__all__ = ["MAX_EVENT", "SSEDecoder"]

MAX_EVENT = 16 << 20
"""Bytes of one event. The largest seen are a few KiB; the limit only keeps a broken peer from filling the memory."""


class SSEDecoder:
    """Cuts a body into events, however the bytes were split."""

    __slots__ = ("_bom", "_data", "_event", "_held", "_kept", "_partial", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line whose end has not come yet
        self._partial = 0  # bytes in them
        self._data: list[bytes] = []  # data lines of the event that is being read
        self._kept = 0  # bytes in them
        self._event = b""
        self._held = b""  # a trailing CR: the next byte tells whether a LF belongs to it
        self._bom = True

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The events that `data` completes, as `(event name or b"", data)`; to be read to its end before the next call.

        Raises:
            ProtocolError: an event is longer than `MAX_EVENT`; those before it were given out.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):
                data, self._held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._keep(data)
            return
        if self._pieces:
            data = b"".join((*self._pieces, data))
            self._pieces, self._partial = [], 0
        if self._bom:
            data = data.removeprefix(b"\xef\xbb\xbf")
            self._bom = False
        *blocks, rest = data.split(b"\n\n")
        for block in blocks:
            # Nearly all events are one line of data.
            alone = not self._data and not self._event and len(block) <= MAX_EVENT
            if alone and block.startswith(b"data: ") and b"\n" not in block:
                yield b"", block[6:]
            else:
                yield from self._read(block.split(b"\n"))
                yield from self._read((b"",))
        *lines, tail = rest.split(b"\n")
        yield from self._read(lines)
        if tail:
            self._keep(tail)

    def single(self, data: bytes) -> bytes | None:
        """The data of the one nameless event that `data` is; None where it is anything else, and has to be fed.

        Most hosts send each event as a chunk of HTTP, and most engines hand these on one by one: this takes 0.4 us,
        `feed` 1.3.
        """
        if data.count(b"\n") != 2 or not (data.startswith(b"data: ") and data.endswith(b"\n\n")) or b"\r" in data:
            return None
        if self._data or self._event or self._pieces or self._held or len(data) > MAX_EVENT:
            return None
        self._bom = False
        return data[6:-2]

    def _read(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for line in lines:
            if not line:
                if self._data:
                    parts = self._data
                    name, self._event = self._event, b""
                    self._data, self._kept = [], 0
                    yield name, parts[0] if len(parts) == 1 else b"\n".join(parts)
                else:
                    self._event = b""
            elif line.startswith(b"data:"):
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[7:] if line[6:7] == b" " else line[6:]
            elif line == b"data":
                self._add(b"")
            elif line == b"event":
                self._event = b""
            # comments (":"), `id`, `retry` and unknown fields mean nothing for an answer that is read once

    def close(self) -> Iterator[tuple[bytes, bytes]]:
        """What was left when the body ended.

        The specification drops an event without its blank line; servers that close right after the last event are
        common, and vendors' own readers take it, so it is given out. Whether it is whole, its reader finds out.
        """
        return self.feed(b"\n\n")

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._kept += len(value) + 1
        if self._kept > MAX_EVENT:
            raise ProtocolError(f"an event of the stream is longer than {MAX_EVENT} bytes")

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._partial += len(piece)
        if self._partial > MAX_EVENT + len(b"data: "):
            raise ProtocolError(f"an event of the stream is longer than {MAX_EVENT} bytes")
