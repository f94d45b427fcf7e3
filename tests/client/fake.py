"""Minimal transports, as a user might write them for `Client(transport=...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llamaroute.pipeline.ops import Head, Send

Answer = tuple[int, list[bytes]]
Answerer = Callable[[Send], Answer]


class FakeResponse:
    """One answer in pieces; remembers how it was used."""

    def __init__(self, owner: Any, answer: Answer) -> None:
        status, self.pieces = answer[0], list(answer[1])
        self.head = Head(status, {"content-type": "application/json"})
        self.closed = 0
        self.limits: list[tuple[float, str]] = []
        self.ended = False
        self.owner = owner

    def read(self, until: float, phase: str) -> bytes:
        assert not self.closed, "read after close"
        assert not self.ended, "read after the end"
        self.limits.append((until, phase))
        if not self.pieces:
            self.ended = True
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


class AsyncFakeResponse(FakeResponse):
    async def read(self, until: float, phase: str) -> bytes:  # type: ignore[override]
        return FakeResponse.read(self, until, phase)

    async def aclose(self) -> None:
        FakeResponse.close(self)


class FakeTransport:
    """Answers what `answerer` says."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self.sent: list[Send] = []
        self.responses: list[FakeResponse] = []
        self.closed = 0

    def open(self, send: Send) -> FakeResponse:
        self.sent.append(send)
        response = FakeResponse(self, self.answerer(send))
        self.responses.append(response)
        return response

    def close(self) -> None:
        self.closed += 1


class AsyncFakeTransport(FakeTransport):
    async def open(self, send: Send) -> AsyncFakeResponse:  # type: ignore[override]
        self.sent.append(send)
        response = AsyncFakeResponse(self, self.answerer(send))
        self.responses.append(response)
        return response

    async def aclose(self) -> None:
        self.closed += 1
