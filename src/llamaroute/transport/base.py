"""What a transport is: the only thing that a driver asks for I/O.

`Client(transport=...)` takes any object of these shapes, to replace what speaks http and https (a recorder, a proxy of
your own, a test double). Plain values only: no type of an HTTP library crosses this line.

All moments are on the clock of `time.monotonic()`. A transport raises `llamaroute.TimeoutError` with the phase that
ran out, `llamaroute.ConnectionError` when there is no connection or it broke, and `llamaroute.ProtocolError` when the
peer does not speak HTTP; nothing else.
"""

from __future__ import annotations

from typing import Protocol

from ..pipeline.ops import Head, Send
from ..types.response import Phase

__all__ = ["AsyncResponse", "AsyncTransport", "Response", "Transport"]


class Response(Protocol):
    """An open answer."""

    @property
    def head(self) -> Head:
        """Status and headers."""
        ...

    def read(self, until: float, phase: Phase) -> bytes:
        """The next bytes as they come, `b""` at the end. `phase` is what ran out when `until` passes."""
        ...

    def close(self) -> None:
        """Give the connection back when the answer was read to its end, else close it at once. Never raises."""
        ...


class Transport(Protocol):
    """Sends requests, from any thread."""

    def open(self, send: Send) -> Response:
        """Send and wait for the headers."""
        ...

    def close(self) -> None:
        """Close all connections. Idempotent."""
        ...


class AsyncResponse(Protocol):
    """An open answer."""

    @property
    def head(self) -> Head:
        """Status and headers."""
        ...

    async def read(self, until: float, phase: Phase) -> bytes:
        """The next bytes as they come, `b""` at the end. `phase` is what ran out when `until` passes."""
        ...

    async def aclose(self) -> None:
        """Give the connection back when the answer was read to its end, else close it at once. Never raises."""
        ...


class AsyncTransport(Protocol):
    """Sends requests, from any task."""

    async def open(self, send: Send) -> AsyncResponse:
        """Send and wait for the headers."""
        ...

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        ...
