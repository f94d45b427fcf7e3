"""Chunks of HTTP that have come together, as one chunk.

Hosts send each event of a stream as a chunk of its own, and h11 takes 5 us for each, whatever is in it: more than all
that is done with the event afterwards. A model that is quick, or a caller that is slow, finds hundreds of them in one
read of the socket. Here, between the socket and h11, chunks that are complete are put into one: 0.5 us each.

Nothing is decided here that is h11's to decide. What is no plain chunk (an extension, the last one and its trailers, a
length that is none, a chunk that is not complete yet) is handed on as it came, and h11 finds the same body, or the same
fault, as without.

https://www.rfc-editor.org/rfc/rfc9112#section-7.1
"""

from __future__ import annotations

import re
from functools import lru_cache

from .heads import framing

__all__ = ["Chunks"]

MOST_HEAD = 64 << 10
"""Bytes of an answer's head that are looked at; h11 refuses longer ones."""
MOST_LINE = 16
"""Bytes of the line that says how long a chunk is, with its end; longer ones have an extension."""

_END = re.compile(rb"\n\r?\n")  # as h11 has it
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")
_INTERIM = re.compile(rb"HTTP/1\.1 1\d\d")
_LENGTH = re.compile(rb"[0-9A-Fa-f]{1,7}")


class Chunks:
    """What one connection brings, from the request on."""

    __slots__ = ("_head", "_inside", "_line", "_plain", "headers")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A request goes out: what comes next is a head."""
        self._head: bytes | None = b""
        """Of the head that has not come to its end; None behind it."""
        self._plain = False
        """What follows is handed on as it comes."""
        self._inside = 0
        """Bytes to come of a chunk whose beginning was handed on, its line break among them."""
        self._line = b""
        """The beginning of the line before a chunk."""
        self.headers: dict[str, str] | None = None
        """The answer's, where h11 was not given them all; see `heads.py`."""

    def merged(self, data: bytes) -> bytes:
        """What h11 is given in the place of `data`; empty when nothing can be said before more has come.

        Empty data is the end of the connection: what it gives then is the last there is.
        """
        if not data:
            data, self._line = self._line, b""
            return data
        if self._plain:
            return data
        if self._head is not None:
            return self._behind_head(data)
        return self._body(data)

    def _behind_head(self, data: bytes) -> bytes:
        assert self._head is not None
        head = self._head + data
        found = _END.search(head)
        if found is None:
            self._head, self._plain = head, len(head) > MOST_HEAD
            return data
        body = len(data) - (len(head) - found.end())  # where it begins in `data`
        if _INTERIM.match(head):  # another head follows
            self._head = b""
            return data[:body] + (self._behind_head(data[body:]) if len(data) > body else b"")
        whole, self._head = not self._head, None
        self._plain = len(_CHUNKED.findall(head, 0, found.end())) != 1
        begin, rest = data[:body], data[body:]
        if whole and (known := framing(begin)) is not None:
            begin, self.headers = known
        return begin + (rest if self._plain else self._body(rest))

    def _body(self, data: bytes) -> bytes:
        passed = b""
        if self._inside:
            passed, data = data[: self._inside], data[self._inside :]
            self._inside -= len(passed)
        data = self._line + data
        self._line = b""
        pieces: list[bytes] = []
        at = 0
        while (end := data.find(b"\r\n", at, at + MOST_LINE)) >= 0:
            length = _length(data[at:end])
            begin = end + 2
            end = begin + length
            if not length or data[end : end + 2] != b"\r\n":
                break
            pieces.append(data[begin:end])
            at = end + 2
        rest = self._rest(data[at:])
        if len(pieces) < 2:
            return passed + data[: len(data) - len(self._line)]
        body = b"".join(pieces)
        return b"%b%x\r\n%b\r\n%b" % (passed, len(body), body, rest)

    def _rest(self, data: bytes) -> bytes:
        """What is handed on of something that is no complete chunk."""
        line, found, begun = data.partition(b"\r\n")
        if not found and len(data) < MOST_LINE:
            self._line = data
            return b""
        length = _length(line)
        left = length + 2 - len(begun)
        if length and (left > 2 or (left > 0 and b"\r\n".startswith(begun[length:]))):
            self._inside = left
        else:
            self._plain = True  # the last chunk, or none at all
        return data


@lru_cache(maxsize=4096)  # looking up takes a quarter of the time of reading
def _length(line: bytes) -> int:
    """The length that a line says; 0 where it says none, or more than that."""
    return int(line, 16) if _LENGTH.fullmatch(line) else 0
