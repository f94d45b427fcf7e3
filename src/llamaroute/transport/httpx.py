"""The default engine: httpx's own HTTP core, one connection each, idle ones on a stack per origin.

httpx's pool looks at every connection for every other one whenever a request starts or ends, which at 64 concurrent
calls costs more than everything else together (docs/performance.md). Here taking a connection and giving it back are a
pop and a push. What is below is httpx's: httpcore speaks HTTP and does proxies, through its public interface, and httpx
sets up TLS. Its client layer is left out, also because importing it costs a quarter of a program's start
(docs/architecture.md, "The engine").

The only module besides `deadline.py` that knows these packages. Their types do not leave it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from time import monotonic
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpcore

from ..errors import ConfigError, ConnectionError, InputError, ProtocolError, ProviderError
from ..pipeline.ops import Head, Send
from ..types.response import Phase
from .deadline import AsyncDeadlineBackend, DeadlineBackend, Watch
from .idle import KEEP_ALIVE, MAX_IDLE, forget_in_children
from .origin import Origin, Url, proxy_for, shown
from .outcome import decompressor, out_of_time

__all__ = ["AsyncHttpxTransport", "HttpxTransport", "tls"]


@lru_cache(maxsize=16)
def tls(verify: bool | str) -> ssl.SSLContext:
    """One TLS context per way of verifying and process: loading the certificates takes some 20 ms."""
    context = _tls_context(verify)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    if isinstance(verify, str):
        try:
            if os.path.isdir(verify):
                return ssl.create_default_context(capath=verify)
            return ssl.create_default_context(cafile=verify)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"verify: cannot read the certificates in {verify!r}: {error}", key="verify") from None
    import httpx

    return httpx.create_ssl_context(verify=verify)


class _Url(Url):
    __slots__ = ("core",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        scheme, host, port = self.origin
        self.core = httpcore.URL(scheme=scheme.encode(), host=host.encode(), port=port, target=self.target)


_url = lru_cache(maxsize=256)(_Url)


def _options(url: _Url, verify: bool | str, proxy: str) -> dict[str, Any]:
    """Arguments for httpcore: a pool of one connection, through a proxy."""
    options: dict[str, Any] = {
        "ssl_context": tls(verify) if url.secure else None,
        "max_connections": 1,
        "max_keepalive_connections": 1,
        "keepalive_expiry": KEEP_ALIVE,
    }
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname:
        raise ConfigError(f"proxy: {shown(proxy)!r} is not an http, https or socks5 URL with a host", key="proxy")
    if parts.scheme == "https":
        options["proxy_ssl_context"] = tls(verify)
    options["proxy_url"] = httpcore.URL(
        scheme=parts.scheme.encode(), host=parts.hostname.encode(), port=parts.port, target=b"/"
    )
    if parts.username is not None:
        from urllib.parse import unquote

        options["proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return options


class _Body:
    """A request's body, in pieces so that a large image is not copied once more to join it.

    Iterators by hand and not async generators: one that a failing upload leaves behind would have trio warn.
    """

    __slots__ = ("_parts",)

    def __init__(self, body: bytes | tuple[bytes, ...]) -> None:
        self._parts = (body,) if isinstance(body, bytes) else body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def __aiter__(self) -> _AsyncParts:
        return _AsyncParts(iter(self._parts))


class _AsyncParts:
    __slots__ = ("_parts",)

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> _AsyncParts:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            raise StopAsyncIteration from None


def _request(send: Send, url: _Url) -> httpcore.Request:
    wire = send.request
    body = wire.body
    size = len(body) if isinstance(body, bytes) else sum(map(len, body))
    headers = {b"host": url.host_header, b"user-agent": b"llamaroute", b"accept-encoding": b"identity"}
    try:
        for name, value in wire.headers.items():
            headers[name.lower().encode("ascii")] = value.encode("latin-1")
    except UnicodeEncodeError:
        raise InputError("a request header has characters that no HTTP header may hold") from None
    if body or wire.method != "GET":
        headers[b"content-length"] = b"%d" % size
    return httpcore.Request(wire.method.encode(), url.core, headers=list(headers.items()), content=_Body(body))


def _pinned(send: Send, proxied: bool) -> str | None:
    """The address to connect to, if it was checked before. Behind a proxy the connection goes to the proxy, which looks
    the host up itself: what it may reach is for whoever runs it to say."""
    return None if proxied else send.address


def _head(response: httpcore.Response, watch: Watch) -> Head:
    if (known := watch.chunks.headers) is not None:
        return Head(response.status, known, watch.connect_seconds, watch.sent)
    headers: dict[str, str] = {}
    for raw, value in response.headers:
        name = raw.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Head(response.status, headers, watch.connect_seconds, watch.sent)


# What httpcore raises, and nothing else of its own.
_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


def _raise(error: BaseException, watch: Watch, host: str) -> NoReturn:
    """A foreign error as ours. Messages name host and port alone: a URL can hold secrets in its query."""
    phase = watch.phase
    if isinstance(error, httpcore.TimeoutException):
        raise out_of_time(phase, host) from None
    if isinstance(error, httpcore.LocalProtocolError):
        # h11 quotes the offending header value, which may be a key.
        raise InputError("the request has a header that HTTP does not allow") from None
    text = str(error) or type(error).__name__
    lost = isinstance(error, httpcore.RemoteProtocolError) and ("disconnected" in text or "closed connection" in text)
    if isinstance(error, httpcore.RemoteProtocolError) and not lost:
        raise ProtocolError(f"{host} does not speak HTTP as it should: {text}", phase=phase) from None
    if isinstance(error, httpcore.ProxyError):
        raise ConnectionError(f"the proxy to {host} refused: {text}", phase="connect") from None
    if not watch.sent:  # the whole call's end may have been sooner than that of connecting
        phase = "connect"
    what = "cannot connect to" if phase == "connect" else "lost the connection to"
    raise ConnectionError(f"{what} {host}: {text}", phase=phase) from None


def _check_asked(watch: Watch) -> None:
    """h11 keeps what came behind an answer, and would take it for the answer to the next request.

    Raises:
        httpcore.ReadError: nothing has come since the request.
    """
    if not watch.heard:
        raise httpcore.ReadError("it had brought an answer that nobody asked for")


class _Connection:
    """A blocking connection, made for its first request, with its watch. Through a proxy, it is httpcore's pool of one,
    which knows how to ask the proxy; a pool where none is needed would be a sixth of a call's cost."""

    __slots__ = ("_direct", "_pool", "_secure", "_url", "proxied", "watch")

    def __init__(self, url: _Url, verify: bool | str, proxy: str | None) -> None:
        self.watch = Watch()
        self._url = url
        self._direct: httpcore.HTTP11Connection | None = None
        self._pool: httpcore.ConnectionPool | None = None
        proxy = proxy_for(url, proxy)
        self.proxied = proxy is not None
        if proxy is None:
            self._secure = tls(verify) if url.secure else None
            return
        options = _options(url, verify, proxy)
        options["network_backend"] = DeadlineBackend(self.watch)
        if options["proxy_url"].scheme.startswith(b"socks"):
            with _socks():
                self._pool = httpcore.SOCKSProxy(**options)
        else:
            self._pool = httpcore.HTTPProxy(**options)

    def send(self, request: httpcore.Request) -> httpcore.Response:
        if self._pool is not None:
            return self._pool.handle_request(request)
        if self._direct is None:
            self._direct = self._connect()
        return self._direct.handle_request(request)

    def _connect(self) -> httpcore.HTTP11Connection:
        url = self._url
        stream = DeadlineBackend(self.watch).connect_tcp(url.host, url.port)
        if self._secure is not None:
            stream = stream.start_tls(self._secure, server_hostname=url.host)
        return httpcore.HTTP11Connection(url.core.origin, stream, keepalive_expiry=KEEP_ALIVE)

    @property
    def over(self) -> bool:
        """Whether the last answer has closed it."""
        return self._direct is not None and self._direct.is_closed()

    @property
    def stale(self) -> bool:
        """Whether no request may be sent any more: the host may have closed it meanwhile."""
        return self._direct is not None and self._direct.has_expired()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the connection is gone either way
            if self._pool is not None:
                self._pool.close()
            elif self._direct is not None:
                self._direct.close()


@contextlib.contextmanager
def _socks() -> Iterator[None]:
    try:
        yield
    except (ImportError, RuntimeError):
        raise ConfigError("proxy: a socks5 proxy needs the package socksio; pip install socksio", key="proxy") from None


class HttpxTransport:
    """Blocking; safe to share between threads."""

    def __init__(self, *, verify: bool | str = True, proxy: str | None = None) -> None:
        self._verify = verify
        self._proxy = proxy
        self._idle: dict[Origin, deque[tuple[float, _Connection]]] = {}
        self._closed = False
        forget_in_children(self)

    def open(self, send: Send) -> HttpxResponse:
        """See `base.Transport`."""
        url = _url(send.request.url)
        request = _request(send, url)
        # A pinned address is not an origin's: its connection is used once.
        connection = self._pop(url.origin) if send.address is None else None
        if connection is None:
            connection = _Connection(url, self._verify, self._proxy)
        watch = connection.watch
        watch.begin(send.connect, send.answer, send.total, _pinned(send, connection.proxied))
        if send.stop is not None and send.stop.listen(watch.abort):
            watch.abort()
        try:
            response = connection.send(request)
            _check_asked(watch)
        except _FAILURES as error:
            connection.close()
            _raise(error, watch, url.place)
        except BaseException:
            connection.close()
            raise
        return HttpxResponse(response, connection, url, self if send.address is None else None)

    def _pop(self, origin: Origin) -> _Connection | None:
        """The connection that was used last and is good for another request."""
        stack = self._idle.get(origin)
        while stack:
            try:
                connection = stack.pop()[1]
            except IndexError:  # another thread was faster
                break
            if not connection.stale:
                return connection
            connection.close()
        return None

    def _push(self, origin: Origin, connection: _Connection) -> None:
        if self._closed or connection.over:
            connection.close()
            return
        now = monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, connection))
        while len(stack) > MAX_IDLE or (stack and now - stack[0][0] > KEEP_ALIVE):
            try:
                stack.popleft()[1].close()
            except IndexError:
                break

    def close(self) -> None:
        """See `base.Transport`."""
        self._closed = True
        for stack in list(self._idle.values()):
            while stack:
                stack.pop()[1].close()

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        self._idle = {}


class HttpxResponse:
    """An open answer."""

    __slots__ = ("_connection", "_ended", "_inflate", "_keep", "_parts", "_response", "_url", "head")

    def __init__(
        self, response: httpcore.Response, connection: _Connection, url: _Url, keep: HttpxTransport | None
    ) -> None:
        self._response = response
        self._connection = connection
        self._url = url
        self._keep = keep
        self._ended = False
        self.head = _head(response, connection.watch)
        try:
            self._inflate = decompressor(self.head)
        except ProviderError:
            self.close()
            raise
        self._parts: Iterator[bytes] = iter(response.stream)  # type: ignore[arg-type]

    def read(self, until: float, phase: Phase) -> bytes:
        """See `base.Response`."""
        watch = self._connection.watch
        watch.limit(until, phase)
        try:
            while True:
                data = next(self._parts, b"")
                if not data:
                    self._ended = True
                    return self._inflate.flush() if self._inflate is not None else b""
                if self._inflate is None:
                    return data
                if data := self._inflate.decompress(data):
                    return bytes(data)
        except _FAILURES as error:
            _raise(error, watch, self._url.place)
        except zlib.error as error:
            raise ProtocolError(f"the host's compressed answer is broken: {error}") from None

    def close(self) -> None:
        """See `base.Response`."""
        keep, self._keep = self._keep, None
        if not self._ended:
            self._connection.watch.abort()
        try:
            self._response.close()
        except Exception:
            keep = None
        if self._ended and keep is not None:
            keep._push(self._url.origin, self._connection)
        else:
            self._connection.close()


class _AsyncConnection:
    """The same for an event loop."""

    __slots__ = ("_direct", "_pool", "_secure", "_url", "proxied", "watch")

    def __init__(self, url: _Url, verify: bool | str, proxy: str | None) -> None:
        self.watch = Watch()
        self._url = url
        self._direct: httpcore.AsyncHTTP11Connection | None = None
        self._pool: httpcore.AsyncConnectionPool | None = None
        proxy = proxy_for(url, proxy)
        self.proxied = proxy is not None
        if proxy is None:
            self._secure = tls(verify) if url.secure else None
            return
        options = _options(url, verify, proxy)
        options["network_backend"] = AsyncDeadlineBackend(self.watch)
        if options["proxy_url"].scheme.startswith(b"socks"):
            with _socks():
                self._pool = httpcore.AsyncSOCKSProxy(**options)
        else:
            self._pool = httpcore.AsyncHTTPProxy(**options)

    async def send(self, request: httpcore.Request, loop: object) -> httpcore.Response:
        if self._pool is not None:
            return await self._pool.handle_async_request(request)
        if self._direct is None:
            self._direct = await self._connect(loop)
        return await self._direct.handle_async_request(request)

    async def _connect(self, loop: object) -> httpcore.AsyncHTTP11Connection:
        from .asyncio_stream import AsyncioBackend, is_asyncio

        url = self._url
        backend = AsyncioBackend(self.watch) if is_asyncio(loop) else AsyncDeadlineBackend(self.watch)
        stream = await backend.connect_tcp(url.host, url.port)
        if self._secure is not None:
            stream = await stream.start_tls(self._secure, server_hostname=url.host)
        return httpcore.AsyncHTTP11Connection(url.core.origin, stream, keepalive_expiry=KEEP_ALIVE)

    @property
    def over(self) -> bool:
        """See `_Connection`."""
        return self._direct is not None and self._direct.is_closed()

    @property
    def stale(self) -> bool:
        """See `_Connection`."""
        return self._direct is not None and self._direct.has_expired()

    async def aclose(self) -> None:
        import anyio

        # Closing must finish although the task that closes may be cancelled already.
        with anyio.CancelScope(shield=True), contextlib.suppress(Exception):
            if self._pool is not None:
                await self._pool.aclose()
            elif self._direct is not None:
                await self._direct.aclose()


def _running_loop() -> object:
    """What runs this task: trio, or asyncio's loop, which may itself be where trio is a guest."""
    if "trio" in sys.modules:
        import trio

        with contextlib.suppress(RuntimeError):
            return trio.lowlevel.current_trio_token()
    import asyncio

    return asyncio.get_running_loop()


class AsyncHttpxTransport:
    """For asyncio and trio; safe to share between tasks.

    Connections belong to the event loop that made them: one that has ended takes its connections with it.
    """

    def __init__(self, *, verify: bool | str = True, proxy: str | None = None) -> None:
        self._verify = verify
        self._proxy = proxy
        self._idle: dict[Origin, deque[tuple[float, _AsyncConnection]]] = {}
        self._loop: object = None
        self._closed = False
        forget_in_children(self)

    async def open(self, send: Send) -> AsyncHttpxResponse:
        """See `base.AsyncTransport`."""
        loop = _running_loop()
        if loop is not self._loop:
            self._loop, self._idle = loop, {}
        url = _url(send.request.url)
        request = _request(send, url)
        connection = await self._pop(url.origin) if send.address is None else None
        if connection is None:
            connection = _AsyncConnection(url, self._verify, self._proxy)
        watch = connection.watch
        watch.begin(send.connect, send.answer, send.total, _pinned(send, connection.proxied))
        try:
            response = await connection.send(request, loop)
            _check_asked(watch)
        except _FAILURES as error:
            await connection.aclose()
            _raise(error, watch, url.place)
        except BaseException:
            await connection.aclose()
            raise
        answer = AsyncHttpxResponse(response, connection, url, self if send.address is None else None)
        await answer.prepare()
        return answer

    async def _pop(self, origin: Origin) -> _AsyncConnection | None:
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()[1]
            if not connection.stale:
                return connection
            await connection.aclose()
        return None

    async def _push(self, origin: Origin, connection: _AsyncConnection) -> None:
        if self._closed or connection.over:
            await connection.aclose()
            return
        now = monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, connection))
        while len(stack) > MAX_IDLE or (stack and now - stack[0][0] > KEEP_ALIVE):
            await stack.popleft()[1].aclose()

    async def aclose(self) -> None:
        """See `base.AsyncTransport`."""
        self._closed = True
        stacks = list(self._idle.values()) if _running_loop() is self._loop else []
        self._idle = {}
        for stack in stacks:
            while stack:
                await stack.pop()[1].aclose()

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        self._idle = {}


class AsyncHttpxResponse:
    """An open answer."""

    __slots__ = ("_connection", "_ended", "_inflate", "_keep", "_parts", "_response", "_url", "head")

    def __init__(
        self, response: httpcore.Response, connection: _AsyncConnection, url: _Url, keep: AsyncHttpxTransport | None
    ) -> None:
        self._response = response
        self._connection = connection
        self._url = url
        self._keep = keep
        self._ended = False
        self.head = _head(response, connection.watch)
        self._inflate: Any = None
        self._parts: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]

    async def prepare(self) -> None:
        """Find out how the body is packed; closes itself when it cannot be read."""
        try:
            self._inflate = decompressor(self.head)
        except ProviderError:
            await self.aclose()
            raise

    async def read(self, until: float, phase: Phase) -> bytes:
        """See `base.AsyncResponse`."""
        watch = self._connection.watch
        watch.limit(until, phase)
        try:
            while True:
                data = await anext(self._parts, b"")
                if not data:
                    self._ended = True
                    return self._inflate.flush() if self._inflate is not None else b""
                if self._inflate is None:
                    return data
                if data := self._inflate.decompress(data):
                    return bytes(data)
        except _FAILURES as error:
            _raise(error, watch, self._url.place)
        except zlib.error as error:
            raise ProtocolError(f"the host's compressed answer is broken: {error}") from None

    async def aclose(self) -> None:
        """See `base.AsyncResponse`."""
        import anyio

        keep, self._keep = self._keep, None
        with anyio.CancelScope(shield=True):
            try:
                await self._response.aclose()
                if not self._ended:
                    await _unwind(self._parts)
            except Exception:
                keep = None
            if self._ended and keep is not None:
                await keep._push(self._url.origin, self._connection)
            else:
                await self._connection.aclose()


async def _unwind(parts: AsyncIterator[bytes]) -> None:
    """Run httpcore's nested generators to their end: its connection is closed, so the next read fails in the innermost.

    Left suspended, each is found by the garbage collector, and trio warns about every one.
    """
    with contextlib.suppress(StopAsyncIteration, Exception):
        while True:
            await anext(parts)
