"""One request at the engine of a model in this process: a thread inside the engine, a small buffer, one reader.

See local_engine.py for what the engine is like.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from ..errors import ConnectionError
from .local_answer import PlainAnswer, Refusal, refusal_of

if TYPE_CHECKING:
    from .local_engine import LocalEngine

__all__ = ["Job"]

MAX_BUFFER = 1 << 20
"""Bytes of an answer that may wait for its reader; then the engine's thread waits. A whole answer is rarely 64 KiB."""
KEEP_ALIVE = 1.0
"""Seconds between the blanks that show a plain answer's reader that tokens are being made. JSON ignores them."""


class Job:
    """One request at the engine. Its thread writes, one reader takes.

    Attributes:
        status: of the answer; None until its first chunk or its error is there.
        media_type: of the body.
        began: moment at which the engine was there to take the request.
        failure: what has to be raised instead of an answer.
        ended: the body is complete.
        cancelled: nobody wants the answer any more.
    """

    def __init__(self, engine: LocalEngine, path: str, body: bytes, wait: float) -> None:
        self.status: int | None = None
        self.media_type = "application/json"
        self.began: float | None = None
        self.failure: Exception | None = None
        self.ended = False
        self.cancelled = False
        self.thread = threading.Thread(target=self._run, name=f"llamaroute-{engine.account}", daemon=True)
        self._engine = engine
        self._path = path
        self._body = body
        self._wait = wait
        self._changed = threading.Condition()
        self._call_back: Callable[[], None] | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._plain: PlainAnswer | None = None
        self._finished = False
        self._shown = 0.0

    # -- the reader's side --------------------------------------------------------------------------------------------

    def started(self) -> bool:
        """Whether the engine has the request, or there will be no answer."""
        return self.began is not None or self.failure is not None or self.cancelled

    def answered(self) -> bool:
        """Whether the status is there, or there will be no answer."""
        return self.status is not None or self.failure is not None or self.cancelled

    def readable(self) -> bool:
        """Whether there is something to take, or nothing more will come."""
        return bool(self._pieces) or self.ended or self.failure is not None

    def wait(self, ready: Callable[[], bool], until: float | None) -> bool:
        """Block until `ready()`, at most until that moment; whether it is."""
        with self._changed:
            return self._changed.wait_for(ready, None if until is None else max(0.0, until - monotonic()))

    def notify(self, ready: Callable[[], bool], call_back: Callable[[], None]) -> bool:
        """True when `ready()` already; else `call_back` is called once, from another thread, at the next change."""
        with self._changed:
            if ready():
                return True
            self._call_back = call_back
            return False

    def take(self) -> bytes:
        """What has come so far; `b""` at the end."""
        with self._changed:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._changed.notify_all()
            return data

    def cancel(self) -> None:
        """Nobody reads on: generation ends at its next token. Never blocks."""
        if not self.cancelled:
            with self._changed:
                self.cancelled = True
                self._pieces.clear()
                self._changed.notify_all()
            self._engine.cancelled()

    # -- the engine's side --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        engine = self._engine
        try:
            server = engine.server()
            if server is None:
                raise ConnectionError(f"{engine.account}: the engine is closed", retryable=False)
            with self._changed:
                self.began = monotonic()
            self._announce()
            try:
                self._serve(server)
            except Refusal as refusal:
                self._refuse(refusal)
            except Exception as error:  # the engine's own: C++ exceptions by their text
                self._refuse(refusal_of(error, began=self.status is not None))
        except Exception as error:
            with self._changed:
                self.failure = error
        finally:
            with self._changed:
                self.ended = True
            self._announce()
            engine.done(self)

    def _serve(self, server: Any) -> None:
        body = self._request()
        if self._path == "/count":
            self._count(server, to_json(body))
            return
        if self._path != "/v1/chat/completions":
            raise Refusal(404, "not_found_error", f"the engine has no {self._path}")
        stream = bool(body.get("stream"))
        if not stream:
            self._plain = PlainAnswer()
        payload = {
            "temperature": self._engine.temperature,
            **body,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }
        text = to_json(payload)
        if not self._engine.enter(self):
            return
        try:
            server.handle_chat_completions(text, self._chunk)
        finally:
            self._engine.leave()
        if self.cancelled:
            return
        if self._plain is not None and self._finished:
            self._write(to_json(self._plain.payload()))
        elif self._finished:
            self._write(b"data: [DONE]\n\n")
        elif self.status is None:
            raise Refusal(500, "server_error", "the engine ended without an answer")
        # else: cut off in the middle, which its reader sees from what is missing

    def _request(self) -> dict[str, Any]:
        """The body, checked for what the engine would do that a model in this process must not."""
        body = from_json(self._body)
        self._body = b""
        if not isinstance(body, dict):
            raise Refusal(400, "invalid_request_error", "the body is no JSON object")
        names = self._engine.options.served_names()
        if (model := body.get("model")) is not None and model not in names:
            raise Refusal(
                404,
                "model_not_found",
                f"{self._engine.account} serves {', '.join(names)}, not {model}; a second model needs an account of "
                "its own",
            )
        for message in body.get("messages") or ():
            content = message.get("content") if isinstance(message, Mapping) else None
            for part in content if isinstance(content, list) else ():
                link = part.get("image_url") if isinstance(part, Mapping) else None
                url = link.get("url") if isinstance(link, Mapping) else link
                if isinstance(url, str) and not url.startswith("data:"):
                    # The engine would fetch it itself, past every rule of [images].
                    raise Refusal(400, "unsupported_image", "the engine in this process takes images as data URLs only")
        return body

    def _chunk(self, data: bytes) -> bool:
        """Called by the engine, from this job's thread. True makes it stop."""
        # Inside a JSON string the quotes would stand escaped, so these can only be keys (or a string of that word).
        if b'"prompt_progress"' in data or b'"error"' in data:
            value = from_json(data)
            if "prompt_progress" in value:
                return self.cancelled
            if isinstance(error := value.get("error"), dict):
                self._refuse(Refusal(error.get("code"), error.get("type"), error.get("message"), error))
                return True
        if b'"finish_reason":"' in data:
            self._finished = True
        if self._plain is None:
            self._write(b"data: %b\n\n" % data, "text/event-stream")
        else:
            self._plain.add(from_json(data))
            if (now := monotonic()) - self._shown >= KEEP_ALIVE:
                self._shown = now
                self._write(b" ")
        return self.cancelled

    def _count(self, server: Any, body: bytes) -> None:
        status, answer = self._engine.count(server, body, self._wait)
        value = from_json(answer)
        if status == 200 and isinstance(value, dict) and isinstance(value.get("input_tokens"), int):
            self._write(to_json({"input_tokens": value["input_tokens"]}))
            return
        error = value.get("error") if isinstance(value, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        raise refusal_of(RuntimeError(message or f"the engine answered {status} without a count"), began=False)

    def _refuse(self, refusal: Refusal) -> None:
        body = to_json({"error": refusal.payload})
        if self.status is not None and self._plain is None:  # the stream has begun: an error event, and no [DONE]
            self._write(b"data: %b\n\n" % body)
            return
        with self._changed:
            self.status = self.status or refusal.status
        self._write(body)

    def _write(self, data: bytes, media_type: str | None = None) -> None:
        with self._changed:
            if self.status is None:
                self.status = 200
                self.media_type = media_type or self.media_type
            self._changed.wait_for(lambda: self._size < MAX_BUFFER or self.cancelled)
            if not self.cancelled:
                self._pieces.append(data)
                self._size += len(data)
        self._announce()

    def _announce(self) -> None:
        with self._changed:
            call_back, self._call_back = self._call_back, None
            self._changed.notify_all()
        if call_back is not None:
            call_back()
