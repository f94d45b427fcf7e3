"""What becomes of a request, said alike by all engines: a phase that ran out, a body that is packed."""

from __future__ import annotations

import zlib
from typing import Any

from ..errors import ProtocolError, TimeoutError
from ..pipeline.ops import Head
from ..types.response import Phase

__all__ = ["decompressor", "out_of_time", "timed_out"]

_PHASES = {
    "connect": "connecting took",
    "first_token": "the answer did not begin for",
    "idle": "nothing came for",
    "total": "the whole call took",
    "queue": "waiting took",
}


def out_of_time(phase: Phase, host: str) -> TimeoutError:
    """A phase of an exchange with `host` took longer than it may."""
    return timed_out(phase, f"{host}: {_PHASES[phase]} longer than allowed")


def timed_out(phase: Phase, message: str) -> TimeoutError:
    """A timeout; when the whole call's time is over, nobody is asked again."""
    more = phase != "total"
    return TimeoutError(message, phase=phase, retryable=more, failover=more)


def decompressor(head: Head) -> Any:
    """For hosts and proxies that compress although they were asked not to."""
    encoding = head.headers.get("content-encoding", "identity").lower()
    if encoding in ("identity", ""):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise ProtocolError(f"the host compressed its answer as {encoding!r} although it was asked not to")
