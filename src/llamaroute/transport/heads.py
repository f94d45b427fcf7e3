"""Heads of answers without what h11 does not act on.

h11 and httpcore look at each header several times, 1.5 us each in all, and an answer has fifteen to thirty. h11 acts on
four. All are read here at once, and h11 is given those four; but only where the whole head is as it should be: one with
a folded line, a control character or anything else out of the ordinary is h11's to read, or to refuse.

https://www.rfc-editor.org/rfc/rfc9112#section-5
"""

from __future__ import annotations

import re
from sys import intern

__all__ = ["framing"]

# No two ways to match the same bytes: what does not fit is refused in the time it takes to look at it once.
_HEAD = re.compile(
    rb"HTTP/1\.1 [0-9]{3} [^\x00-\x1f\x7f]*\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*"
    rb"\r\n"
)
_FRAMING = re.compile(rb"(?i)(?<=\n)(?:connection|content-length|transfer-encoding|upgrade):[^\r\n]*\r\n")


def framing(head: bytes) -> tuple[bytes, dict[str, str]] | None:
    """A head with no headers but those that h11 acts on, and all headers, by their names in lower case; None for a head
    that is not plain."""
    if _HEAD.fullmatch(head) is None:
        return None
    status, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        # The same few names come with every answer: those of a stream stay as long as it is open.
        name, value = intern(name.lower()), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return head[: len(status) + 2] + b"".join(_FRAMING.findall(head)) + b"\r\n", headers
