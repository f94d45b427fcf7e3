"""`Client` and `AsyncClient`.

The twins are kept alike by hand, and by one body of tests that runs on both; everything that can be shared is in
`runtime.py` and `streaming.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack, overload

from .arguments import ChatOptions, RunOptions
from .config.models import Config
from .drivers import AsyncDriver, Driver
from .errors import CapabilityError, ConfigError, LlamarouteError
from .pipeline.core import Layer, Reply, Timeout
from .runtime import Runtime
from .spi import ProviderSettings, Target
from .state.usage import Totals
from .streams import AsyncStream, Stream
from .tokens import TokenCount
from .transport.base import AsyncTransport, Transport
from .types.messages import Input
from .types.plan import Plan
from .types.response import ChatResponse
from .types.routing import TargetHealth
from .types.tools import Tool

if TYPE_CHECKING:
    from .conversation import AsyncConversation, Conversation
    from .tools.streams import AsyncRunStream, RunStream
    from .types.discovery import Discovery
    from .types.run import RunResult

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
TransportT = TypeVar("TransportT")

Tools = Sequence[Tool | Callable[..., Any]]
Engine = Literal["httpx", "aiohttp"]
Source = str | os.PathLike[str] | Mapping[str, Any] | Config | None

_WATCH = 1.0
"""Seconds between two looks at the config file of `watch=True`."""


class _Base(Generic[TransportT]):
    """What both clients do alike: hold the configuration, reload it, and keep one transport per kind of connection."""

    _ENGINES: tuple[Engine, ...] = ("httpx",)

    def __init__(
        self,
        config: Source = None,
        *,
        profile: str | None = None,
        transport: TransportT | Engine | None = None,
        observers: Sequence[Any] = (),
        layers: Sequence[Layer] = (),
        watch: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._source = config
        self._options: dict[str, Any] = {"profile": profile, "env": env, "observers": observers, "layers": layers}
        self._runtime = Runtime(config, **self._options)
        if isinstance(transport, str) and transport not in self._ENGINES:
            raise ConfigError(
                f"transport: {type(self).__name__} has no engine {transport!r}; there is {', '.join(self._ENGINES)}",
                key="transport",
            )
        self._engine = transport if isinstance(transport, str) else None
        self._given = None if isinstance(transport, str) else transport
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

    @property
    def attribution(self) -> str:
        """What the licences of the configured models want to be shown to your users, such as "Built with Llama"; empty
        when they want nothing. See docs/policy.md."""
        return self._runtime.attribution

    def usage(self) -> Totals:
        """What this client has used so far, as of now: calls, tokens and dollars, also by target, provider, route and
        day."""
        return self._runtime.used()

    def health(self) -> tuple[TargetHealth, ...]:
        """How the targets do that routes name or calls have asked: which cool down, why and how long, how fast they
        answer, and how many calls are under way. A snapshot; see docs/routing.md."""
        return self._runtime.health()

    def explain(
        self, input: Input, *, output: Any = None, stream: bool = False, **options: Unpack[ChatOptions]
    ) -> Plan:
        """Which targets `chat` (or, with `stream=True`, `stream`) would ask, in which order, and what would be made up
        or refused there, and why. Sends nothing, and reads no image.

        Raises:
            InputError, ConfigError, CapabilityError: as `chat` before it sends; a target that cannot serve the request
                is no error but is said to be passed over.
        """
        runtime = self._current()
        return runtime.explain(runtime.prepare(input, options, output=output, stream=stream), options.get("model"))

    def reload(self) -> None:
        """Read the configuration again. Calls under way end with the old one.

        Raises:
            ConfigError: it is wrong; the old one stays in force.
        """
        fresh = Runtime(self._source, **self._options)
        fresh.inherit(self._runtime)
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


class Client(_Base[Transport]):
    """Sends chat requests to the configured providers, from any thread.

    Args:
        config: a config file's path, a dict, or a `Config`. Default: `LLAMAROUTE_CONFIG`, then llamaroute.toml (.yaml,
            .json) here or in a parent folder, then the user's config folder, then the environment variables that the
            vendors' own tools read.
        profile: a `[profiles.X]` table to merge over the rest. Default: `LLAMAROUTE_PROFILE`.
        transport: replaces what speaks http and https (see `llamaroute.transport.base`). Not closed by the client. Or
            the name of an engine: "httpx", the only one of `Client`, or "aiohttp". Default: "httpx"; for `AsyncClient`
            "aiohttp" where it is installed (see docs/engines.md).
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
        self._runtime.gates.close()

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
        return self._chat(input, output, options)

    def _chat(self, input: Input, output: Any, options: ChatOptions, *, repair_calls: bool = True) -> ChatResponse[Any]:
        runtime = self._current()
        call = runtime.prepare(input, options, output=output, stream=False, repair_calls=repair_calls)
        driver = Driver(self._transport, call.ledger)
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

    @overload
    def run(self, input: Input, *, tools: Tools, output: type[T], **options: Unpack[RunOptions]) -> RunResult[T]: ...
    @overload
    def run(
        self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]: ...
    def run(self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]) -> RunResult[Any]:
        """Ask, carry out the tool calls that the model makes, tell it what came of them, and so on until it answers.

        Calls of one turn are carried out one after another; async functions in an event loop of their own.

        Args:
            input: what `chat` takes. One that ends with calls which have no result begins with these.
            tools: typed functions, sync or async, or `Tool`s with `call=`.
            output: what the last answer must fit; see `chat`.
            **options: see `RunOptions`.

        Raises:
            ToolError: a tool raised and `on_error="raise"`, or the model's calls do not fit the tools.
            LlamarouteError: what `chat` raises; `.run` has what was done until then.
        """
        from .tools.loop import run

        return run(self, input, tools, output, options)

    def run_stream(self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]) -> RunStream:
        """`run` as it goes: `with client.run_stream(...) as stream: for event in stream: ...`, then `stream.result`.

        One stream over all turns: each turn's events, and a `ToolResult` for each call between them.
        """
        from .tools.streams import RunStream

        return RunStream(self, input, tools, output, options)

    def conversation(self, *, messages: Input = (), output: Any = None, **options: Unpack[ChatOptions]) -> Conversation:
        """A conversation, which keeps what was said: `conversation.send(...)`, `.stream(...)`, `.interrupt()`,
        `.run(...)`, `.save(...)`.

        Args:
            messages: turns to begin with.
            output: what each answer must fit; see `chat`.
            **options: hold for each turn that does not say otherwise, `system=` for all; see `ChatOptions`.

        Raises:
            InputError: an argument cannot be used.
        """
        from .conversation import Conversation

        return Conversation(self, {**options} if output is None else {**options, "output": output}, messages)

    def count_tokens(self, input: Input, **options: Unpack[ChatOptions]) -> TokenCount:
        """Input tokens of a request at the first target it would go to, and the window that it serves.

        Exact where the target can count, and for Llama 4 with the extra `tokenizer`; see `TokenCount`. Images are read
        or fetched for it. Nothing is sent to targets that cannot count.
        """
        runtime = self._current()
        call = runtime.prepare(input, options, output=None, stream=False)
        return Driver(self._transport, call.ledger).run(runtime.count_plan(call))

    def discover(self, provider: str, *, timeout: float | Timeout | None = None) -> Discovery:
        """What an account can call: Llama 4 models, deployments, inference profiles and endpoints, and whatever its
        table names, as the host's control plane lists them.

        Args:
            provider: the account's name.
            timeout: seconds in all, or a `Timeout`. Default: the account's, else 60.

        Raises:
            InputError: no account is called so. All else that goes wrong (a permission, an extra, a host that does
                not answer) is in `.problems`, each with its remedy.
        """
        plan, ledger = self._current().survey(provider, timeout)
        return Driver(self._transport, ledger).run(plan)

    def _local(self, target: Target) -> Transport:
        from .transport.local import LocalTransport

        return LocalTransport(target.options, account=target.provider)  # type: ignore[arg-type]

    def _http(self, verify: bool | str, proxy: str | None) -> Transport:
        from .transport.httpx import HttpxTransport

        return HttpxTransport(verify=verify, proxy=proxy)


class AsyncClient(_Base[AsyncTransport]):
    """`Client` for asyncio and trio: the same names, arguments and results. Safe to share between tasks."""

    _ENGINES = ("httpx", "aiohttp")

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
        self._runtime.gates.close()

    @overload
    async def chat(self, input: Input, *, output: type[T], **options: Unpack[ChatOptions]) -> ChatResponse[T]: ...
    @overload
    async def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]: ...
    async def chat(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]:
        """See `Client.chat`."""
        return await self._chat(input, output, options)

    async def _chat(
        self, input: Input, output: Any, options: ChatOptions, *, repair_calls: bool = True
    ) -> ChatResponse[Any]:
        runtime = self._current()
        call = runtime.prepare(input, options, output=output, stream=False, repair_calls=repair_calls)
        driver = AsyncDriver(self._transport, call.ledger)
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

    @overload
    async def run(
        self, input: Input, *, tools: Tools, output: type[T], **options: Unpack[RunOptions]
    ) -> RunResult[T]: ...
    @overload
    async def run(
        self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]: ...
    async def run(
        self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]:
        """See `Client.run`. Calls of one turn are carried out at once; sync functions in threads."""
        from .tools.loop import async_run

        return await async_run(self, input, tools, output, options)

    def run_stream(
        self, input: Input, *, tools: Tools, output: Any = None, **options: Unpack[RunOptions]
    ) -> AsyncRunStream:
        """See `Client.run_stream`: `async with client.run_stream(...) as stream: async for event in stream: ...`."""
        from .tools.streams import AsyncRunStream

        return AsyncRunStream(self, input, tools, output, options)

    def conversation(
        self, *, messages: Input = (), output: Any = None, **options: Unpack[ChatOptions]
    ) -> AsyncConversation:
        """See `Client.conversation`; its `send`, `run` and `interrupt` are awaited."""
        from .conversation import AsyncConversation

        return AsyncConversation(self, {**options} if output is None else {**options, "output": output}, messages)

    async def count_tokens(self, input: Input, **options: Unpack[ChatOptions]) -> TokenCount:
        """See `Client.count_tokens`."""
        runtime = self._current()
        call = runtime.prepare(input, options, output=None, stream=False)
        return await AsyncDriver(self._transport, call.ledger).run(runtime.count_plan(call))

    async def discover(self, provider: str, *, timeout: float | Timeout | None = None) -> Discovery:
        """See `Client.discover`."""
        plan, ledger = self._current().survey(provider, timeout)
        return await AsyncDriver(self._transport, ledger).run(plan)

    def _local(self, target: Target) -> AsyncTransport:
        from .transport.local import AsyncLocalTransport

        return AsyncLocalTransport(target.options, account=target.provider)  # type: ignore[arg-type]

    def _http(self, verify: bool | str, proxy: str | None) -> AsyncTransport:
        if self._engine != "httpx":
            try:
                from .transport.aiohttp import AiohttpTransport
            except ImportError as error:
                if self._engine == "aiohttp":
                    raise ConfigError(
                        f"transport='aiohttp': {error}; pip install 'llamaroute[aiohttp]'", key="transport"
                    ) from None
            else:
                return AiohttpTransport(verify=verify, proxy=proxy)
        from .transport.httpx import AsyncHttpxTransport

        return AsyncHttpxTransport(verify=verify, proxy=proxy)
