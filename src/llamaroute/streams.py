"""Answers as they come: `Stream` and `AsyncStream`. Kept alike by hand; what they share is in `streaming.py`."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .dialects.accumulate import Accumulator
from .drivers import AsyncDriver, Driver
from .errors import CapabilityError, InputError, LlamarouteError, ProtocolError, ProviderError
from .pipeline.core import Reply
from .spi import DecoderEvent
from .streaming import DRAIN, PUBLIC, StreamState
from .transport.base import AsyncResponse, Response
from .types.events import Finished, StreamEvent, TextDelta
from .types.messages import Input
from .types.response import ChatResponse

if TYPE_CHECKING:
    from .arguments import ChatOptions
    from .client import AsyncClient, Client

__all__ = ["AsyncStream", "Stream"]


class Stream:
    """An answer as it comes. A context manager, and an iterator of events.

    Leaving the block early closes the connection at once.
    """

    def __init__(self, client: Client, input: Input, output: Any, options: ChatOptions) -> None:
        self._client = client
        self._arguments = (input, output, options)
        self._state: StreamState | None = None
        self._driver: Driver | None = None
        self._events: Iterator[DecoderEvent] = iter(())
        self._interrupted = False

    def __enter__(self) -> Self:
        runtime = self._client._current()
        input, output, options = self._arguments
        call = runtime.prepare(input, options, output=output, stream=True)
        self._driver = driver = Driver(self._client._transport, call.ledger)
        try:
            reply: Reply = driver.run(runtime.handler(call), keep=True)
        except LlamarouteError as error:
            if isinstance(error, CapabilityError):
                runtime.suggest(call, error)
            runtime.count(call, None)
            raise
        self._state = StreamState(runtime, call, reply)
        self._events = self._state.opening()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        state = self._state or self._started()
        add = state.answer.add
        while True:
            if state.ended:
                if state.failure is not None and not self._interrupted:
                    raise state.failure
                raise StopIteration
            try:
                for event in self._events:
                    add(event)
                    kind = type(event)
                    if kind in PUBLIC:
                        if kind is Finished:
                            self._finish()
                        return event  # type: ignore[return-value]
                self._events = self._read()
            except ProviderError as error:
                if self._interrupted:
                    raise StopIteration from None
                self._break(error)
                add = state.answer.add

    def _read(self) -> Iterator[DecoderEvent]:
        state, response = self._started(), self._response()
        reply = state.reply
        if reply.ended or reply.decoder is None or response is None:
            raise ProtocolError("the stream ended without a finish")
        data = response.read(time.monotonic() + reply.idle, "idle")
        if data:
            return state.heard(reply.decoder.feed(data))
        reply.ended = True
        return state.heard(reply.decoder.close())

    def _break(self, error: ProviderError) -> None:
        """Go on as the route says, or end.

        Raises:
            StreamInterruptedError: the stream does not go on.
        """
        state = self._started()
        self._release(error, interrupted=False)
        then: LlamarouteError | None = None
        resumption = None if state.ended else state.resumption(error)  # it may have been interrupted meanwhile
        if resumption is not None:
            self._driver = driver = Driver(self._client._transport, state.call.ledger)
            try:
                reply: Reply = driver.run(state.runtime.handler(resumption.call), keep=True)
            except LlamarouteError as failure:
                then = failure
            else:
                if not state.ended:
                    self._events = state.go_on(resumption, reply)
                    return
                state.reply, state.answer = reply, Accumulator()
                self._release(None, interrupted=True)
        if not state.ended:
            state.ended = True
            raise state.broken(error, then) from error

    def _finish(self) -> None:
        """The answer is complete: let the connection end, so that it can be used again."""
        state, response = self._started(), self._response()
        if response is not None and not state.reply.ended:
            until = time.monotonic() + DRAIN
            try:
                while response.read(until, "idle"):
                    pass
            except ProviderError:
                pass  # the answer is whole; the connection is closed instead
        self._end(None, interrupted=False)
        state.settle(interrupted=False)

    def _end(self, error: BaseException | None, *, interrupted: bool) -> None:
        state = self._started()
        if not state.ended:
            state.ended = True
            self._release(error, interrupted=interrupted)

    def _release(self, error: BaseException | None, *, interrupted: bool) -> None:
        """Give the connection back, and do what layers left to be done."""
        state, driver = self._started(), self._driver
        if driver is not None:
            driver.close()
        ledger = state.call.ledger
        ledger.now = time.monotonic()
        for finisher in state.finishers():
            plan = finisher(state.outcome(error, interrupted=interrupted))
            if plan is not None:
                Driver(self._client._transport, ledger).run(plan)

    def _close(self) -> None:
        state = self._state
        if state is not None and not state.ended:
            self._end(None, interrupted=True)
            state.settle(interrupted=True)

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state is not None and not state.ended and not sys.is_finalizing():
            self._close()

    def _response(self) -> Response | None:
        return None if self._driver is None else self._driver.response

    def _started(self) -> StreamState:
        if self._state is None:
            raise InputError("a stream is used as a context manager: with client.stream(...) as stream")
        return self._state

    def text(self) -> Iterator[str]:
        """Just the text. An answer that breaks off is not begun anew: text that is out cannot be told to be void."""
        self.only_text()
        for event in self:
            if type(event) is TextDelta:
                yield event.text

    def only_text(self) -> None:
        """Nothing but the text is shown: once there is some, the answer is not begun anew."""
        self._started().text_only = True

    def interrupt(self) -> ChatResponse[Any]:
        """Stop here and keep what was said: the partial answer, with `finish_reason="interrupted"`."""
        self._interrupted = True
        self._close()
        return self.response

    @property
    def response(self) -> ChatResponse[Any]:
        """The complete answer once the stream has ended; the partial one after `interrupt()` or an early exit.

        Raises:
            InputError: the stream has not ended.
            OutputValidationError: the answer does not fit `output=`.
            StreamInterruptedError: the stream broke.
        """
        return self._started().result()

    @property
    def partial(self) -> Any:
        """The structured output so far (`output=`), as plain JSON data; None before anything can be read."""
        return self._started().partial()


class AsyncStream:
    """An answer as it comes. An async context manager, and an async iterator of events.

    Leaving the block early, or cancelling the task, closes the connection at once.
    """

    def __init__(self, client: AsyncClient, input: Input, output: Any, options: ChatOptions) -> None:
        self._client = client
        self._arguments = (input, output, options)
        self._state: StreamState | None = None
        self._driver: AsyncDriver | None = None
        self._events: Iterator[DecoderEvent] = iter(())
        self._interrupted = False

    async def __aenter__(self) -> Self:
        runtime = self._client._current()
        input, output, options = self._arguments
        call = runtime.prepare(input, options, output=output, stream=True)
        self._driver = driver = AsyncDriver(self._client._transport, call.ledger)
        try:
            reply: Reply = await driver.run(runtime.handler(call), keep=True)
        except LlamarouteError as error:
            if isinstance(error, CapabilityError):
                runtime.suggest(call, error)
            runtime.count(call, None)
            raise
        self._state = StreamState(runtime, call, reply)
        self._events = self._state.opening()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        state = self._state or self._started()
        add = state.answer.add
        while True:
            if state.ended:
                if state.failure is not None and not self._interrupted:
                    raise state.failure
                raise StopAsyncIteration
            try:
                for event in self._events:
                    add(event)
                    kind = type(event)
                    if kind in PUBLIC:
                        if kind is Finished:
                            await self._finish()
                        return event  # type: ignore[return-value]
                self._events = await self._read()
            except ProviderError as error:
                if self._interrupted:
                    raise StopAsyncIteration from None
                await self._break(error)
                add = state.answer.add

    async def _read(self) -> Iterator[DecoderEvent]:
        state, response = self._started(), self._response()
        reply = state.reply
        if reply.ended or reply.decoder is None or response is None:
            raise ProtocolError("the stream ended without a finish")
        data = await response.read(time.monotonic() + reply.idle, "idle")
        if data:
            return state.heard(reply.decoder.feed(data))
        reply.ended = True
        return state.heard(reply.decoder.close())

    async def _break(self, error: ProviderError) -> None:
        """Go on as the route says, or end.

        Raises:
            StreamInterruptedError: the stream does not go on.
        """
        state = self._started()
        await self._release(error, interrupted=False)
        then: LlamarouteError | None = None
        resumption = None if state.ended else state.resumption(error)  # it may have been interrupted meanwhile
        if resumption is not None:
            self._driver = driver = AsyncDriver(self._client._transport, state.call.ledger)
            try:
                reply: Reply = await driver.run(state.runtime.handler(resumption.call), keep=True)
            except LlamarouteError as failure:
                then = failure
            else:
                if not state.ended:
                    self._events = state.go_on(resumption, reply)
                    return
                state.reply, state.answer = reply, Accumulator()
                await self._release(None, interrupted=True)
        if not state.ended:
            state.ended = True
            raise state.broken(error, then) from error

    async def _finish(self) -> None:
        """The answer is complete: let the connection end, so that it can be used again."""
        state, response = self._started(), self._response()
        if response is not None and not state.reply.ended:
            until = time.monotonic() + DRAIN
            try:
                while await response.read(until, "idle"):
                    pass
            except ProviderError:
                pass  # the answer is whole; the connection is closed instead
        await self._end(None, interrupted=False)
        state.settle(interrupted=False)

    async def _end(self, error: BaseException | None, *, interrupted: bool) -> None:
        state = self._started()
        if not state.ended:
            state.ended = True
            await self._release(error, interrupted=interrupted)

    async def _release(self, error: BaseException | None, *, interrupted: bool) -> None:
        """Give the connection back, and do what layers left to be done."""
        state, driver = self._started(), self._driver
        if driver is not None:
            await driver.aclose()
        ledger = state.call.ledger
        ledger.now = time.monotonic()
        for finisher in state.finishers():
            plan = finisher(state.outcome(error, interrupted=interrupted))
            if plan is not None:
                await AsyncDriver(self._client._transport, ledger).run(plan)

    async def _close(self, error: BaseException | None = None) -> None:
        state = self._state
        if state is not None and not state.ended:
            await self._end(None, interrupted=True)
            state.settle(interrupted=True)

    def _response(self) -> AsyncResponse | None:
        return None if self._driver is None else self._driver.response

    def _started(self) -> StreamState:
        if self._state is None:
            raise InputError("a stream is used as a context manager: async with client.stream(...) as stream")
        return self._state

    async def text(self) -> AsyncIterator[str]:
        """Just the text. An answer that breaks off is not begun anew: text that is out cannot be told to be void."""
        self.only_text()
        async for event in self:
            if type(event) is TextDelta:
                yield event.text

    def only_text(self) -> None:
        """Nothing but the text is shown: once there is some, the answer is not begun anew."""
        self._started().text_only = True

    async def interrupt(self) -> ChatResponse[Any]:
        """Stop here and keep what was said: the partial answer, with `finish_reason="interrupted"`."""
        self._interrupted = True
        await self._close()
        return self.response

    @property
    def response(self) -> ChatResponse[Any]:
        """See `Stream.response`."""
        return self._started().result()

    @property
    def partial(self) -> Any:
        """See `Stream.partial`."""
        return self._started().partial()
