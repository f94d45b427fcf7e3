"""What the engine in this process says, in the words of the OpenAI API: plain answers from chunks, errors as bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PlainAnswer", "Refusal", "refusal_of"]


class Refusal(Exception):
    """A request the engine does not serve, as status and error object."""

    def __init__(self, status: Any, kind: Any, message: Any, payload: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status: int = status if isinstance(status, int) and 400 <= status <= 599 else 500
        self.payload = payload or {"code": self.status, "type": kind or "server_error", "message": message}


# The engine throws these before an answer begins, and gives them no code.
_BY_TEXT = (
    ("image input is not supported", 400, "unsupported_image"),
    ("audio input is not supported", 400, "unsupported_audio"),
)


def refusal_of(error: BaseException, *, began: bool) -> Refusal:
    """A Python exception of the engine, as the answer it means.

    What it throws before the answer began is about the request (a message without role, a template that refuses the
    order of turns); afterwards it is the engine's own trouble.
    """
    text = str(error) or type(error).__name__
    for part, status, kind in _BY_TEXT:
        if part in text:
            return Refusal(status, kind, text)
    if began or isinstance(error, MemoryError | OSError):
        return Refusal(500, "server_error", text)
    return Refusal(400, "invalid_request_error", text)


class PlainAnswer:
    """Puts the chunks of one streamed answer together to a `chat.completion`."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._tail: dict[str, Any] = {}
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self._finish: str | None = None

    def add(self, chunk: Mapping[str, Any]) -> None:
        """One `chat.completion.chunk`; requests here have one choice."""
        if not self._head:
            self._head = {key: chunk[key] for key in ("id", "created", "model", "system_fingerprint") if key in chunk}
        for key in ("usage", "timings"):
            if chunk.get(key):
                self._tail[key] = chunk[key]
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            self._logprobs += (choice.get("logprobs") or {}).get("content") or ()
            for key, value in (choice.get("delta") or {}).items():
                if key == "tool_calls":
                    for piece in value or ():
                        self._call(piece)
                elif key != "role" and isinstance(value, str):
                    self._message[key] = (self._message.get(key) or "") + value

    def _call(self, piece: Mapping[str, Any]) -> None:
        empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(piece.get("index") or 0, empty)
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""

    def payload(self) -> dict[str, Any]:
        """The whole answer."""
        message = dict(self._message)
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self._finish}
        if self._logprobs:
            choice["logprobs"] = {"content": self._logprobs}
        return {**self._head, "object": "chat.completion", "choices": [choice], **self._tail}
