"""Tool loops as they go: `RunStream` and `AsyncRunStream`. Kept alike by hand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..arguments import RunOptions
from ..errors import InputError, LlamarouteError, OutputValidationError, StreamInterruptedError
from ..streams import AsyncStream, Stream
from ..types.events import RunEvent, TextDelta
from ..types.messages import Input
from ..types.run import RunResult
from .loop import Loop, carry_out, carry_out_async

if TYPE_CHECKING:
    from anyio import CancelScope, Event

    from ..client import AsyncClient, Client

__all__ = ["AsyncRunStream", "RunStream"]


class RunStream:
    """A tool loop as it goes. A context manager, and an iterator of every turn's events, with `ToolResult`s between.

    Leaving the block early closes the connection at once; calls that were not carried out yet stay so.
    """

    def __init__(self, client: Client, input: Input, tools: Sequence[Any], output: Any, options: RunOptions) -> None:
        self._client = client
        self._arguments = (input, tools, output, options)
        self._loop: Loop | None = None
        self._stream: Stream | None = None
        self._events: Generator[RunEvent, None, None] | None = None
        self._failure: LlamarouteError | None = None
        self._stopped = False
        self._running = False
        self._lock = threading.RLock()
        self._text_only = False

    def __enter__(self) -> Self:
        input, tools, _, options = self._arguments
        self._loop = loop = Loop(input, tools, options)
        if not loop.pending:
            self._stream = self._open(loop)
        self._events = self._play(loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RunEvent:
        loop = self._started()
        assert self._events is not None
        self._running = True
        try:
            return next(self._events)
        except LlamarouteError as error:
            self._failure = error
            loop.blame(error)
            raise
        finally:
            self._running = False

    def _play(self, loop: Loop) -> Generator[RunEvent, None, None]:
        try:
            while self._goes_on(loop):
                if loop.pending:
                    for result in carry_out(loop):
                        yield result
                        if not self._goes_on(loop):
                            return
                    continue
                if self._stream is None:
                    self._stream = self._open(loop)
                yield from self._stream
                if not self._goes_on(loop):
                    return
                stream, self._stream = self._stream, None
                loop.answered(stream.response)
        finally:
            self._end(loop)

    def _goes_on(self, loop: Loop) -> bool:
        return loop.finish is None and not self._stopped

    def _open(self, loop: Loop) -> Stream:
        messages, more = loop.turn()
        stream = self._client.stream(messages, output=self._arguments[2], **more).__enter__()
        if self._text_only:
            stream.only_text()
        return stream

    def _end(self, loop: Loop) -> None:
        """Close the stream of a turn that is under way, and keep what it said."""
        self._stopped = True
        with self._lock:  # whoever comes second waits until it is kept
            stream, self._stream = self._stream, None
            if stream is not None:
                with _kept(loop):
                    loop.answered(stream.interrupt(), left=True)

    def _close(self) -> None:
        if self._loop is not None and self._events is not None:
            self._stopped = True
            if not self._running:  # else another thread waits for an event, or a tool of this run calls: it ends itself
                self._events.close()
            self._end(self._loop)

    def _started(self) -> Loop:
        if self._loop is None:
            raise InputError("a run is used as a context manager: with client.run_stream(...) as stream")
        return self._loop

    def text(self) -> Iterator[str]:
        """Just the text, of all turns. See `Stream.text` about answers that break off."""
        self._started()
        self._text_only = True
        if self._stream is not None:
            self._stream.only_text()
        for event in self:
            if type(event) is TextDelta:
                yield event.text

    def interrupt(self) -> RunResult[Any]:
        """Stop here, and keep what was said and done."""
        self._started()
        self._close()
        return self.result

    @property
    def result(self) -> RunResult[Any]:
        """What the run came to, once it has ended; what there is of it, after `interrupt()` or an early exit.

        Raises:
            InputError: it has not ended.
            LlamarouteError: what ended it.
        """
        loop = self._started()
        if self._failure is not None:
            raise self._failure
        if not self._stopped:
            raise InputError("the run has not ended: read it to its end, or interrupt it, before .result")
        return loop.result()

    @property
    def partial(self) -> Any:
        """This turn's structured output so far (`output=`), as plain JSON data; None before anything can be read."""
        self._started()
        return None if self._stream is None else self._stream.partial


class AsyncRunStream:
    """A tool loop as it goes. An async context manager, and an async iterator of every turn's events, with
    `ToolResult`s between.

    Leaving the block early, or cancelling the task, closes the connection and cancels running async tools at once.
    """

    def __init__(
        self, client: AsyncClient, input: Input, tools: Sequence[Any], output: Any, options: RunOptions
    ) -> None:
        self._client = client
        self._arguments = (input, tools, output, options)
        self._loop: Loop | None = None
        self._stream: AsyncStream | None = None
        self._events: AsyncGenerator[RunEvent, None] | None = None
        self._failure: LlamarouteError | None = None
        self._stopped = False
        self._running = False
        self._text_only = False
        self._calls: CancelScope | None = None
        self._ending: Event | None = None

    async def __aenter__(self) -> Self:
        input, tools, _, options = self._arguments
        self._loop = loop = Loop(input, tools, options)
        if not loop.pending:
            self._stream = await self._open(loop)
        self._events = self._play(loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RunEvent:
        loop = self._started()
        assert self._events is not None
        self._running = True
        try:
            return await anext(self._events)
        except LlamarouteError as error:
            self._failure = error
            loop.blame(error)
            raise
        finally:
            self._running = False

    async def _play(self, loop: Loop) -> AsyncGenerator[RunEvent, None]:
        try:
            while self._goes_on(loop):
                if loop.pending:
                    for result in await carry_out_async(loop, self._calling):
                        yield result
                    continue
                if self._stream is None:
                    self._stream = await self._open(loop)
                async for event in self._stream:
                    yield event
                if not self._goes_on(loop):
                    return
                stream, self._stream = self._stream, None
                loop.answered(stream.response)
        finally:
            await self._end(loop)

    def _calling(self, scope: CancelScope) -> None:
        self._calls = scope

    def _goes_on(self, loop: Loop) -> bool:
        return loop.finish is None and not self._stopped

    async def _open(self, loop: Loop) -> AsyncStream:
        messages, more = loop.turn()
        stream = await self._client.stream(messages, output=self._arguments[2], **more).__aenter__()
        if self._text_only:
            stream.only_text()
        return stream

    async def _end(self, loop: Loop) -> None:
        """Close the stream of a turn that is under way, and keep what it said."""
        import anyio

        self._stopped = True
        stream, self._stream = self._stream, None
        if stream is None:
            if self._ending is not None:  # another task is at it
                with anyio.CancelScope(shield=True):
                    await self._ending.wait()
            return
        self._ending = anyio.Event()
        try:
            with _kept(loop):
                loop.answered(await stream.interrupt(), left=True)
        finally:
            self._ending.set()

    async def _close(self) -> None:
        if self._loop is not None and self._events is not None:
            self._stopped = True
            if not self._running:
                await self._events.aclose()
            elif (
                self._calls is not None
            ):  # another task waits for an event, or a tool of this run calls: it ends itself
                self._calls.cancel()
            await self._end(self._loop)

    def _started(self) -> Loop:
        if self._loop is None:
            raise InputError("a run is used as a context manager: async with client.run_stream(...) as stream")
        return self._loop

    async def text(self) -> AsyncIterator[str]:
        """Just the text, of all turns. See `AsyncStream.text` about answers that break off."""
        self._started()
        self._text_only = True
        if self._stream is not None:
            self._stream.only_text()
        async for event in self:
            if type(event) is TextDelta:
                yield event.text

    async def interrupt(self) -> RunResult[Any]:
        """Stop here, and keep what was said and done."""
        self._started()
        await self._close()
        return self.result

    @property
    def result(self) -> RunResult[Any]:
        """See `RunStream.result`."""
        loop = self._started()
        if self._failure is not None:
            raise self._failure
        if not self._stopped:
            raise InputError("the run has not ended: read it to its end, or interrupt it, before .result")
        return loop.result()

    @property
    def partial(self) -> Any:
        """See `RunStream.partial`."""
        self._started()
        return None if self._stream is None else self._stream.partial


@contextlib.contextmanager
def _kept(loop: Loop) -> Iterator[None]:
    """Note the answer of a turn that broke off or did not fit, too."""
    try:
        yield
    except StreamInterruptedError as error:
        if error.partial is not None:
            loop.answered(error.partial, left=True)
    except OutputValidationError as error:
        if error.reply is not None:
            loop.answered(error.reply, left=True)
