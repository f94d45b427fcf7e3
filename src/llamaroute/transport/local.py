"""A model in this process, as a transport: requests with the scheme `local:` go to an engine instead of a socket.

    local://ACCOUNT/v1/chat/completions    OpenAI's chat completions, plain or as server-sent events
    local://ACCOUNT/count                  the same body; answers {"input_tokens": n}, exactly, images included

Two thin classes over one `LocalEngine` (see local_engine.py), which starts with the first request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from ..errors import ConnectionError, TimeoutError
from ..pipeline.ops import Head, Send
from ..types.response import Phase
from .local_engine import LocalEngine
from .local_job import Job

if TYPE_CHECKING:
    from ..providers.local import LocalSettings

__all__ = ["AsyncLocalResponse", "AsyncLocalTransport", "LocalEngine", "LocalResponse", "LocalTransport"]

COUNT_PATIENCE = 60.0
"""Seconds a count may take when the call has no end of its own."""


class LocalTransport:
    """Blocking; safe to share between threads.

    Args:
        options: the account's settings.
        account: the account's name.
        engine: use this engine, which then several transports share; by default one is made.

    `open` raises `ConfigError` when the package, the model or one of its files is missing. Of a request's times,
    `connect` means nothing here: the first request also waits for the model to load, bounded by `total` alone.
    """

    def __init__(self, options: LocalSettings, *, account: str, engine: LocalEngine | None = None) -> None:
        self.engine = engine or LocalEngine(options, account=account)

    def open(self, send: Send) -> LocalResponse:
        """See `base.Transport`."""
        asked = monotonic()
        job = _submit(self.engine, send)
        if send.stop is not None and send.stop.listen(job.cancel):
            job.cancel()
        try:
            if not job.wait(job.started, send.total):
                _time_out(job, "total")
            until, phase = _answer_by(job, send)
            if not job.wait(job.answered, until):
                _time_out(job, phase)
            return LocalResponse(job, _head(job, asked))
        except BaseException:
            job.cancel()
            raise

    def close(self) -> None:
        """See `base.Transport`. Running answers end."""
        self.engine.close()


class LocalResponse:
    """An open answer."""

    __slots__ = ("_job", "head")

    def __init__(self, job: Job, head: Head) -> None:
        self._job = job
        self.head = head

    def read(self, until: float, phase: Phase) -> bytes:
        """See `base.Response`."""
        job = self._job
        if not job.wait(job.readable, until):
            _time_out(job, phase)
        return job.take()

    def close(self) -> None:
        """See `base.Response`. Generation ends at its next token."""
        self._job.cancel()

    def __del__(self) -> None:
        self._job.cancel()


class AsyncLocalTransport:
    """For asyncio and trio; safe to share between tasks. See `LocalTransport` for arguments and errors."""

    def __init__(self, options: LocalSettings, *, account: str, engine: LocalEngine | None = None) -> None:
        self.engine = engine or LocalEngine(options, account=account)

    async def open(self, send: Send) -> AsyncLocalResponse:
        """See `base.AsyncTransport`."""
        asked = monotonic()
        job = _submit(self.engine, send)
        try:
            if not await _wait(job, job.started, send.total):
                _time_out(job, "total")
            until, phase = _answer_by(job, send)
            if not await _wait(job, job.answered, until):
                _time_out(job, phase)
            return AsyncLocalResponse(job, _head(job, asked))
        except BaseException:
            job.cancel()
            raise

    async def aclose(self) -> None:
        """See `base.AsyncTransport`. Running answers end."""
        import anyio

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.engine.close)


class AsyncLocalResponse:
    """An open answer."""

    __slots__ = ("_job", "head")

    def __init__(self, job: Job, head: Head) -> None:
        self._job = job
        self.head = head

    async def read(self, until: float, phase: Phase) -> bytes:
        """See `base.AsyncResponse`."""
        job = self._job
        if not await _wait(job, job.readable, until):
            _time_out(job, phase)
        return job.take()

    async def aclose(self) -> None:
        """See `base.AsyncResponse`. Generation ends at its next token."""
        self._job.cancel()

    def __del__(self) -> None:
        self._job.cancel()


def _submit(engine: LocalEngine, send: Send) -> Job:
    body = send.request.body
    wait = COUNT_PATIENCE if send.total is None else max(0.1, send.total - monotonic())
    return engine.submit(urlsplit(send.request.url).path, body if isinstance(body, bytes) else b"".join(body), wait)


def _answer_by(job: Job, send: Send) -> tuple[float, Phase]:
    until = (job.began or monotonic()) + send.answer
    return (until, "first_token") if send.total is None or until < send.total else (send.total, "total")


def _head(job: Job, asked: float) -> Head:
    if job.failure is not None:
        raise job.failure
    if job.cancelled:  # by `Send.stop`, from another thread
        raise ConnectionError("the engine in this process: the request was given up", phase="first_token")
    assert job.status is not None
    assert job.began is not None
    # Only the request that starts the engine waits here for longer than a thread takes to start.
    started = job.began - asked
    return Head(job.status, {"content-type": job.media_type}, started if started > 0.01 else 0.0, job.began)


def _time_out(job: Job, phase: Phase) -> NoReturn:
    job.cancel()
    what = {
        "first_token": "the answer did not begin in time",
        "idle": "the model made no token in time",
        "total": "the whole call took longer than allowed",
    }.get(phase, "time ran out")
    more = phase != "total"
    raise TimeoutError(f"the engine in this process: {what}", phase=phase, retryable=more, failover=more)


async def _wait(job: Job, ready: Callable[[], bool], until: float | None) -> bool:
    """`Job.wait` for an event loop: the engine's thread wakes this task, nothing is polled."""
    import anyio

    call_soon = _call_soon()
    while True:
        event = anyio.Event()
        if job.notify(ready, _waker(call_soon, event.set)):
            return True
        with anyio.move_on_after(None if until is None else max(0.0, until - monotonic())) as scope:
            await event.wait()
        if scope.cancelled_caught:
            return ready()


def _waker(call_soon: Callable[[Callable[[], Any]], Any], wake: Callable[[], Any]) -> Callable[[], None]:
    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            call_soon(wake)

    return call


def _call_soon() -> Callable[[Callable[[], Any]], Any]:
    """The running event loop's way to be called from another thread."""
    if "trio" in sys.modules:
        import trio

        try:
            return trio.lowlevel.current_trio_token().run_sync_soon
        except RuntimeError:  # trio is loaded, and this is asyncio
            pass
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe
