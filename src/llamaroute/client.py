"""`Client` and `AsyncClient`, their streams, and the two drivers that do what plans ask for.

The twins below are kept alike by hand, and by one body of tests that runs on both; everything that can be shared is in
`runtime.py` and `streaming.py`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from .config.models import Config
from .errors import (
    CapabilityError,
    ConfigError,
    InputError,
    LlamarouteError,
    ProtocolError,
    ProviderError,
    TimeoutError,
)
from .pipeline.core import Layer, Ledger, Reply
from .pipeline.ops import Blocking, Plan, Pull, Send, Sleep
from .runtime import ChatOptions, Runtime, Totals
from .spi import DecoderEvent, ProviderSettings, Target
from .streaming import DRAIN, PUBLIC, StreamState, public
from .tokens import TokenCount
from .transport.base import AsyncResponse, AsyncTransport, Response, Transport
from .types.events import Finished, StreamEvent, TextDelta
from .types.messages import Input
from .types.response import ChatResponse

__all__ = ["AsyncClient", "AsyncStream", "Client", "Stream"]

T = TypeVar("T")
TransportT = TypeVar("TransportT")

Source = str | os.PathLike[str] | Mapping[str, Any] | Config | None

_WATCH = 1.0
"""Seconds between two looks at the config file of `watch=True`."""


class _Base(Generic[TransportT]):
    """What both clients do alike: hold the configuration, reload it, and keep one transport per kind of connection."""

    def __init__(
        self,
        config: Source = None,
        *,
        profile: str | None = None,
        transport: TransportT | None = None,
        observers: Sequence[Any] = (),
        layers: Sequence[Layer] = (),
        watch: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._source = config
        self._options: dict[str, Any] = {"profile": profile, "env": env, "observers": observers, "layers": layers}
        self._runtime = Runtime(config, **self._options)
        self._given = transport
        self._transports: list[tuple[tuple[object, ...], TransportT]] = []
        self._by_options: dict[int, tuple[ProviderSettings | None, TransportT]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._watch = watch
        self._looked = time.monotonic()
        self._stamps = self._stamp() if watch else ()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._runtime.config

    @property
    def config_origin(self) -> str:
        """Where it is from: the file's path, `environment variables`, or `config` when it was passed as an object."""
        return self._runtime.loaded.origin

    def usage(self) -> Totals:
        """What this client has used so far, as of now."""
        return self._runtime.used()

    def reload(self) -> None:
        """Read the configuration again. Calls under way end with the old one.

        Raises:
            ConfigError: it is wrong; the old one stays in force.
        """
        fresh = Runtime(self._source, **self._options)
        fresh.totals = self._runtime.totals
        with self._lock:
            self._runtime = fresh
            self._by_options = {}

    def _current(self) -> Runtime:
        """The configuration in force; with `watch=True`, looks at its files at most once a second."""
        if self._closed:
            raise ConfigError("this client is closed")
        if self._watch and time.monotonic() - self._looked > _WATCH:
            self._looked = time.monotonic()
            stamps = self._stamp()
            if stamps != self._stamps:
                self._stamps = stamps
                try:
                    self.reload()
                except ConfigError as error:
                    import logging

                    logging.getLogger("llamaroute").warning("config not reloaded, the last good one stays: %s", error)
        return self._runtime

    def _stamp(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for path in self._runtime.loaded.files:
            try:
                status = path.stat()
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                stamps.append(None)
        return tuple(stamps)

    def _transport(self, target: Target | None) -> TransportT:
        """The transport of a target's account; of none, for requests that belong to no provider."""
        found = self._by_options.get(0 if target is None else id(target.options))
        return found[1] if found is not None else self._make(target)

    def _make(self, target: Target | None) -> TransportT:
        """Accounts that connect alike share a transport. Known by the account's settings, not by its name: after a
        reload, a call that still runs with the old ones keeps what belongs to them."""
        options = None if target is None else target.options
        with self._lock:
            if target is not None and target.transport == "local":
                transport = self._shared(("local", target.provider, options), lambda: self._local(target))
            elif self._given is not None:
                transport = self._given
            else:
                verify = True if options is None else options.verify
                proxy = None if options is None else options.proxy
                transport = self._shared(("http", verify, proxy), lambda: self._http(verify, proxy))
            # The settings are kept beside it, so that their id stays theirs.
            self._by_options[0 if options is None else id(options)] = (options, transport)
            return transport

    def _shared(self, key: tuple[object, ...], make: Callable[[], TransportT]) -> TransportT:
        for known, transport in self._transports:
            if known == key:
                return transport
        transport = make()
        self._transports.append((key, transport))
        return transport

    def _local(self, target: Target) -> TransportT:
        raise NotImplementedError

    def _http(self, verify: bool | str, proxy: str | None) -> TransportT:
        raise NotImplementedError


# -- blocking ---------------------------------------------------------------------------------------------------------


class Client(_Base[Transport]):
    """Sends chat requests to the configured providers, from any thread.

    Args:
        config: a config file's path, a dict, or a `Config`. Default: `LLAMAROUTE_CONFIG`, then llamaroute.toml (.yaml,
            .json) here or in a parent folder, then the user's config folder, then the environment variables that the
            vendors' own tools read.
        profile: a `[profiles.X]` table to merge over the rest. Default: `LLAMAROUTE_PROFILE`.
        transport: replaces what speaks http and https (see `llamaroute.transport.base`). Not closed by the client.
        observers: told about every attempt (see `llamaroute.pipeline.core.Observer`).
        layers: own layers around every attempt, outermost first (see docs/architecture.md).
        watch: read the config file anew when it changes.
        env: the environment. Default: the process's.

    Raises:
        ConfigError: no configuration, or a wrong one.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and engines. Idempotent."""
        self._closed = True
        with self._lock:
            transports, self._transports, self._by_options = self._transports, [], {}
        for _, transport in transports:
            transport.close()

    @overload
    def chat(self, input: Input, *, output: type[T], **options: Unpack[ChatOptions]) -> ChatResponse[T]: ...
    @overload
    def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]: ...
    def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]:
        """Ask, and wait for the whole answer. No tool is ever executed.

        Args:
            input: text, a part, a message, or a list of these; strings and parts beside each other form one user
                message.
            output: a type (pydantic model, dataclass, TypedDict, list, union...) or a JSON Schema the answer must fit
                (before Python 3.12, pydantic wants typing_extensions' TypedDict);
                `.output` of the response is the validated value.
            **options: see `ChatOptions`.

        Raises:
            InputError, ConfigError, CapabilityError: nothing was sent.
            ProviderError: the one target asked failed; `.attempts` has every try.
            AllTargetsFailedError: several targets were asked, and all failed.
            OutputValidationError: the answer does not fit `output=`.
        """
        runtime = self._current()
        call = runtime.prepare(input, options, output=output, stream=False)
        driver = _Driver(self._transport, call.ledger)
        try:
            reply: Reply = driver.run(runtime.handler(call))
        except LlamarouteError as error:
            if isinstance(error, CapabilityError):
                runtime.suggest(call, error)
            runtime.count(call, None)
            raise
        response = runtime.complete(call, reply)
        runtime.count(call, response)
        return response

    def stream(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> Stream:
        """Ask, and read the answer as it comes: `with client.stream(...) as stream: for event in stream: ...`.

        Nothing is sent before the `with` block is entered; entering waits for the answer to begin, and raises what
        `chat` raises. Takes what `chat` takes.
        """
        return Stream(self, input, output, options)

    def count_tokens(self, input: Input, **options: Unpack[ChatOptions]) -> TokenCount:
        """Input tokens of a request at the first target it would go to; exact where the target can count."""
        runtime = self._current()
        call = runtime.prepare(input, options, output=None, stream=False)
        return _Driver(self._transport, call.ledger).run(runtime.count_plan(call))

    def _local(self, target: Target) -> Transport:
        from .transport.local import LocalTransport

        return LocalTransport(target.options, account=target.provider)  # type: ignore[arg-type]

    def _http(self, verify: bool | str, proxy: str | None) -> Transport:
        from .transport.httpx import HttpxTransport

        return HttpxTransport(verify=verify, proxy=proxy)


class _Driver:
    """Does what a plan asks for. Owns at most one open answer."""

    __slots__ = ("_ledger", "_transport", "response")

    def __init__(self, transport: Callable[[Target | None], Transport], ledger: Ledger) -> None:
        self._transport = transport
        self._ledger = ledger
        self.response: Response | None = None

    def run(self, plan: Plan[T], *, keep: bool = False) -> T:
        """Run `plan` to its end. `keep` leaves the answer open, for a stream to read on."""
        value: Any = None
        error: BaseException | None = None
        done = False
        try:
            while True:
                self._ledger.now = time.monotonic()
                try:
                    op = plan.send(value) if error is None else plan.throw(error)
                except StopIteration as stop:
                    done = True
                    return stop.value  # type: ignore[no-any-return]
                value = error = None
                try:
                    match op:
                        case Pull(until=until, phase=phase):
                            assert self.response is not None
                            value = self.response.read(until, phase)
                        case Send():
                            self.close()
                            self.response = self._transport(op.target).open(op)
                            value = self.response.head
                        case Sleep(seconds=seconds):
                            self.close()
                            time.sleep(seconds)
                        case Blocking():
                            value = _blocking(op)
                except Exception as raised:
                    error = raised
        finally:
            if not (done and keep):
                self.close()
            if not done:
                self._ledger.now = time.monotonic()
                plan.close()

    def close(self) -> None:
        """Close the open answer, if any."""
        response, self.response = self.response, None
        if response is not None:
            response.close()


def _blocking(op: Blocking) -> Any:
    """Call what may block; with an end in sight, in a thread that is left behind when it comes."""
    if op.until is None:
        return op.fn()
    box: list[Any] = []

    def work() -> None:
        try:
            box.extend((True, op.fn()))
        except BaseException as error:
            box.extend((False, error))

    thread = threading.Thread(target=work, daemon=True, name="llamaroute-blocking")
    thread.start()
    thread.join(max(0.0, op.until - time.monotonic()))
    if not box:
        raise TimeoutError(
            "getting ready took longer than the call may take", phase=op.phase, retryable=False, failover=False
        )
    if box[0]:
        return box[1]
    raise box[1]


class Stream:
    """An answer as it comes. A context manager, and an iterator of events.

    Leaving the block early closes the connection at once.
    """

    def __init__(self, client: Client, input: Input, output: Any, options: ChatOptions) -> None:
        self._client = client
        self._arguments = (input, output, options)
        self._state: StreamState | None = None
        self._driver: _Driver | None = None
        self._events: Iterator[DecoderEvent] = iter(())
        self._interrupted = False

    def __enter__(self) -> Self:
        runtime = self._client._current()
        input, output, options = self._arguments
        call = runtime.prepare(input, options, output=output, stream=True)
        self._driver = driver = _Driver(self._client._transport, call.ledger)
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
        state = self._started()
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
                        return public(event)
                self._events = self._read()
            except ProviderError as error:
                if self._interrupted:
                    raise StopIteration from None
                self._end(error, interrupted=False)
                raise state.broken(error) from error

    def _read(self) -> Iterator[DecoderEvent]:
        state, response = self._started(), self._response()
        reply = state.reply
        if reply.ended or reply.decoder is None or response is None:
            raise ProtocolError("the stream ended without a finish")
        data = response.read(time.monotonic() + reply.idle, "idle")
        if data:
            return iter(reply.decoder.feed(data))
        reply.ended = True
        return iter(reply.decoder.close())

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
        state, driver = self._started(), self._driver
        if state.ended:
            return
        state.ended = True
        if driver is not None:
            driver.close()
        ledger = state.call.ledger
        ledger.now = time.monotonic()
        for finisher in state.finishers():
            plan = finisher(state.outcome(error, interrupted=interrupted))
            if plan is not None:
                _Driver(self._client._transport, ledger).run(plan)

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
        """Just the text."""
        for event in self:
            if type(event) is TextDelta:
                yield event.text

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


# -- async ------------------------------------------------------------------------------------------------------------


class AsyncClient(_Base[AsyncTransport]):
    """`Client` for asyncio and trio: the same names, arguments and results. Safe to share between tasks."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections and engines. Idempotent."""
        self._closed = True
        with self._lock:
            transports, self._transports, self._by_options = self._transports, [], {}
        for _, transport in transports:
            await transport.aclose()

    @overload
    async def chat(self, input: Input, *, output: type[T], **options: Unpack[ChatOptions]) -> ChatResponse[T]: ...
    @overload
    async def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]: ...
    async def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]:
        """See `Client.chat`."""
        runtime = self._current()
        call = runtime.prepare(input, options, output=output, stream=False)
        driver = _AsyncDriver(self._transport, call.ledger)
        try:
            reply: Reply = await driver.run(runtime.handler(call))
        except LlamarouteError as error:
            if isinstance(error, CapabilityError):
                runtime.suggest(call, error)
            runtime.count(call, None)
            raise
        response = runtime.complete(call, reply)
        runtime.count(call, response)
        return response

    def stream(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> AsyncStream:
        """See `Client.stream`: `async with client.stream(...) as stream: async for event in stream: ...`."""
        return AsyncStream(self, input, output, options)

    async def count_tokens(self, input: Input, **options: Unpack[ChatOptions]) -> TokenCount:
        """See `Client.count_tokens`."""
        runtime = self._current()
        call = runtime.prepare(input, options, output=None, stream=False)
        return await _AsyncDriver(self._transport, call.ledger).run(runtime.count_plan(call))

    def _local(self, target: Target) -> AsyncTransport:
        from .transport.local import AsyncLocalTransport

        return AsyncLocalTransport(target.options, account=target.provider)  # type: ignore[arg-type]

    def _http(self, verify: bool | str, proxy: str | None) -> AsyncTransport:
        from .transport.httpx import AsyncHttpxTransport

        return AsyncHttpxTransport(verify=verify, proxy=proxy)


class _AsyncDriver:
    """Does what a plan asks for. Owns at most one open answer."""

    __slots__ = ("_ledger", "_transport", "response")

    def __init__(self, transport: Callable[[Target | None], AsyncTransport], ledger: Ledger) -> None:
        self._transport = transport
        self._ledger = ledger
        self.response: AsyncResponse | None = None

    async def run(self, plan: Plan[T], *, keep: bool = False) -> T:
        """Run `plan` to its end. `keep` leaves the answer open, for a stream to read on."""
        value: Any = None
        error: BaseException | None = None
        done = False
        try:
            while True:
                self._ledger.now = time.monotonic()
                try:
                    op = plan.send(value) if error is None else plan.throw(error)
                except StopIteration as stop:
                    done = True
                    return stop.value  # type: ignore[no-any-return]
                value = error = None
                try:
                    match op:
                        case Pull(until=until, phase=phase):
                            assert self.response is not None
                            value = await self.response.read(until, phase)
                        case Send():
                            await self.aclose()
                            self.response = await self._transport(op.target).open(op)
                            value = self.response.head
                        case Sleep(seconds=seconds):
                            await self.aclose()
                            await _sleep(seconds)
                        case Blocking():
                            value = await _async_blocking(op)
                except Exception as raised:
                    error = raised
        finally:
            if not (done and keep):
                await self.aclose()
            if not done:
                self._ledger.now = time.monotonic()
                plan.close()

    async def aclose(self) -> None:
        """Close the open answer, if any."""
        response, self.response = self.response, None
        if response is not None:
            await response.aclose()


async def _sleep(seconds: float) -> None:
    import anyio

    await anyio.sleep(seconds)


async def _async_blocking(op: Blocking) -> Any:
    import anyio
    import anyio.to_thread

    seconds = None if op.until is None else max(0.0, op.until - time.monotonic())
    with anyio.move_on_after(seconds):
        return await anyio.to_thread.run_sync(op.fn, abandon_on_cancel=True)
    raise TimeoutError(
        "getting ready took longer than the call may take", phase=op.phase, retryable=False, failover=False
    )


class AsyncStream:
    """An answer as it comes. An async context manager, and an async iterator of events.

    Leaving the block early, or cancelling the task, closes the connection at once.
    """

    def __init__(self, client: AsyncClient, input: Input, output: Any, options: ChatOptions) -> None:
        self._client = client
        self._arguments = (input, output, options)
        self._state: StreamState | None = None
        self._driver: _AsyncDriver | None = None
        self._events: Iterator[DecoderEvent] = iter(())
        self._interrupted = False

    async def __aenter__(self) -> Self:
        runtime = self._client._current()
        input, output, options = self._arguments
        call = runtime.prepare(input, options, output=output, stream=True)
        self._driver = driver = _AsyncDriver(self._client._transport, call.ledger)
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
        state = self._started()
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
                        return public(event)
                self._events = await self._read()
            except ProviderError as error:
                if self._interrupted:
                    raise StopAsyncIteration from None
                await self._end(error, interrupted=False)
                raise state.broken(error) from error

    async def _read(self) -> Iterator[DecoderEvent]:
        state, response = self._started(), self._response()
        reply = state.reply
        if reply.ended or reply.decoder is None or response is None:
            raise ProtocolError("the stream ended without a finish")
        data = await response.read(time.monotonic() + reply.idle, "idle")
        if data:
            return iter(reply.decoder.feed(data))
        reply.ended = True
        return iter(reply.decoder.close())

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
        state, driver = self._started(), self._driver
        if state.ended:
            return
        state.ended = True
        if driver is not None:
            await driver.aclose()
        ledger = state.call.ledger
        ledger.now = time.monotonic()
        for finisher in state.finishers():
            plan = finisher(state.outcome(error, interrupted=interrupted))
            if plan is not None:
                await _AsyncDriver(self._client._transport, ledger).run(plan)

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
        """Just the text."""
        async for event in self:
            if type(event) is TextDelta:
                yield event.text

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
