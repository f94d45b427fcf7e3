"""The default engine: httpx below, one connection per httpx transport, idle ones on a stack per origin.

httpx's own pool looks at every connection for every other one whenever a request starts or ends, which at 64
concurrent calls costs more than everything else together (docs/performance.md). Here taking a connection and giving it
back are a pop and a push; httpx still does TLS, proxies and HTTP parsing.

The only module that imports httpx. Its types do not leave it.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import weakref
import zlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from time import monotonic
from typing import Any, NoReturn

import httpx

from ..errors import ConfigError, ConnectionError, InputError, ProtocolError, ProviderError, TimeoutError
from ..pipeline.ops import Head, Send
from ..types.response import Phase
from .deadline import AsyncDeadlineBackend, DeadlineBackend, Watch

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]

KEEP_ALIVE = 60.0
"""Seconds an unused connection is kept; shorter than what load balancers allow, which is a minute or more."""
MAX_IDLE = 512
"""Unused connections kept per origin."""

_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE)

Origin = tuple[str, str, int | None]


@lru_cache(maxsize=16)
def _tls(verify: bool | str) -> ssl.SSLContext:
    """One TLS context per way of verifying and process: loading the certificates takes some 20 ms."""
    if isinstance(verify, str):
        try:
            if os.path.isdir(verify):
                return ssl.create_default_context(capath=verify)
            return ssl.create_default_context(cafile=verify)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"verify: cannot read the certificates in {verify!r}: {error}", key="verify") from None
    return httpx.create_ssl_context(verify=verify)


@lru_cache(maxsize=1)
def _no_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for plain http: never used, and cheap to make


def _proxy_for(url: httpx.URL, proxy: str | None) -> str | None:
    """The proxy configured, else the one the environment names (HTTPS_PROXY, NO_PROXY and their kind)."""
    if proxy is not None:
        return proxy
    import urllib.request

    found = urllib.request.getproxies()
    value = found.get(url.scheme) or found.get("all")
    if not value or urllib.request.proxy_bypass(f"{url.host}:{url.port}" if url.port else url.host):
        return None
    return value if "://" in value else f"http://{value}"


class _Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, so that a large image is not copied once more to join it."""

    def __init__(self, parts: tuple[bytes, ...]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


def _parse_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r} is not a URL: {error}", key="base_url") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r} is not an http or https URL with a host; check base_url", key="base_url")
    return parsed


@lru_cache(maxsize=256)
def _target(url: str) -> tuple[httpx.URL, Origin, bytes]:
    """URL, origin and Host header; the same few URLs are asked for all the time."""
    parsed = _parse_url(url)
    return parsed, (parsed.scheme, parsed.host, parsed.port), parsed.netloc


def _request(send: Send) -> tuple[httpx.Request, Origin]:
    wire = send.request
    url, origin, host = _target(wire.url)
    body = wire.body
    size = len(body) if isinstance(body, bytes) else sum(map(len, body))
    headers = [(b"host", host), (b"user-agent", b"llamaroute"), (b"accept-encoding", b"identity")]
    try:
        headers += [(name.encode("ascii"), value.encode("latin-1")) for name, value in wire.headers.items()]
    except UnicodeEncodeError:
        raise InputError("a request header has characters that no HTTP header may hold") from None
    if body or wire.method != "GET":
        headers.append((b"content-length", b"%d" % size))
    extensions: dict[str, Any] = {"timeout": {}}
    if isinstance(body, bytes):
        return httpx.Request(wire.method, url, headers=headers, content=body, extensions=extensions), origin
    return httpx.Request(wire.method, url, headers=headers, stream=_Parts(body), extensions=extensions), origin


def _head(response: httpx.Response, watch: Watch) -> Head:
    headers: dict[str, str] = {}
    for raw, value in response.headers.raw:
        name = raw.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Head(response.status_code, headers, watch.connect_seconds, watch.sent)


def _decompressor(head: Head) -> Any:
    """For hosts and proxies that compress although they were asked not to."""
    encoding = head.headers.get("content-encoding", "identity").lower()
    if encoding in ("identity", ""):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise ProtocolError(f"the host compressed its answer as {encoding!r} although it was asked not to")


_PHASES = {
    "connect": "connecting took",
    "first_token": "the answer did not begin for",
    "idle": "nothing came for",
    "total": "the whole call took",
    "queue": "waiting took",
}


def _raise(error: BaseException, watch: Watch, url: str) -> NoReturn:
    """A foreign error as ours. Messages name the host alone: a URL can hold secrets in its query."""
    host = httpx.URL(url).host
    phase = watch.phase
    if isinstance(error, httpx.TimeoutException):
        raise timed_out(phase, f"{host}: {_PHASES[phase]} longer than allowed") from None
    if isinstance(error, httpx.LocalProtocolError):
        # h11 quotes the offending header value, which may be a key.
        raise InputError("the request has a header that HTTP does not allow") from None
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        raise ConfigError(f"cannot send to {host!r}: {error}", key="base_url") from None
    text = str(error) or type(error).__name__
    lost = isinstance(error, httpx.RemoteProtocolError) and ("disconnected" in text or "closed connection" in text)
    if isinstance(error, httpx.RemoteProtocolError) and not lost:
        raise ProtocolError(f"{host} does not speak HTTP as it should: {text}", phase=phase) from None
    if isinstance(error, httpx.ProxyError):
        raise ConnectionError(f"the proxy to {host} refused: {text}", phase="connect") from None
    what = "cannot connect to" if phase == "connect" else "lost the connection to"
    raise ConnectionError(f"{what} {host}: {text}", phase=phase) from None


def timed_out(phase: Phase, message: str) -> TimeoutError:
    """A timeout; when the whole call's time is over, nobody is asked again."""
    more = phase != "total"
    return TimeoutError(message, phase=phase, retryable=more, failover=more)


class _Connection:
    """A blocking httpx transport of one connection, with its watch."""

    __slots__ = ("transport", "watch")

    def __init__(self, url: httpx.URL, verify: bool | str, proxy: str | None) -> None:
        self.watch = Watch()
        secure = url.scheme == "https" or bool(proxy and proxy.startswith("https"))
        try:
            self.transport = httpx.HTTPTransport(
                verify=_tls(verify) if secure else _no_tls(), limits=_LIMITS, trust_env=False, proxy=proxy
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(f"proxy: {error}", key="proxy") from None
        # httpx has no parameter for httpcore's public `network_backend`; a test notices when this place moves.
        self.transport._pool._network_backend = DeadlineBackend(self.watch)


class HttpxTransport:
    """Blocking; safe to share between threads."""

    def __init__(self, *, verify: bool | str = True, proxy: str | None = None) -> None:
        self._verify = verify
        self._proxy = proxy
        self._idle: dict[Origin, deque[tuple[float, _Connection]]] = {}
        self._closed = False
        _forget_in_children(self)

    def open(self, send: Send) -> HttpxResponse:
        """See `base.Transport`."""
        request, origin = _request(send)
        # A pinned address is not an origin's: its connection is used once.
        stack = self._idle.get(origin) if send.address is None else None
        try:
            connection = stack.pop()[1] if stack else None
        except IndexError:
            connection = None
        if connection is None:
            proxy = _proxy_for(request.url, self._proxy)
            connection = _Connection(request.url, self._verify, proxy)
        watch = connection.watch
        watch.begin(send.connect, send.answer, send.total, send.address)
        try:
            response = connection.transport.handle_request(request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            connection.transport.close()
            _raise(error, watch, send.request.url)
        except BaseException:
            connection.transport.close()
            raise
        give_back = None if send.address is not None else lambda: self._push(origin, connection)
        return HttpxResponse(response, connection, send.request.url, give_back)

    def _push(self, origin: Origin, connection: _Connection) -> None:
        if self._closed:
            connection.transport.close()
            return
        now = monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, connection))
        while len(stack) > MAX_IDLE or (stack and now - stack[0][0] > KEEP_ALIVE):
            try:
                stack.popleft()[1].transport.close()
            except IndexError:
                break

    def close(self) -> None:
        """See `base.Transport`."""
        self._closed = True
        for stack in list(self._idle.values()):
            while stack:
                stack.pop()[1].transport.close()

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        self._idle = {}


class HttpxResponse:
    """An open answer."""

    __slots__ = ("_connection", "_ended", "_give_back", "_inflate", "_parts", "_response", "_url", "head")

    def __init__(self, response: httpx.Response, connection: _Connection, url: str, give_back: Any) -> None:
        self._response = response
        self._connection = connection
        self._url = url
        self._give_back = give_back
        self._ended = False
        self.head = _head(response, connection.watch)
        try:
            self._inflate = _decompressor(self.head)
        except ProviderError:
            self.close()
            raise
        assert isinstance(response.stream, httpx.SyncByteStream)
        self._parts = iter(response.stream)

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
        except httpx.HTTPError as error:
            _raise(error, watch, self._url)
        except zlib.error as error:
            raise ProtocolError(f"the host's compressed answer is broken: {error}") from None

    def close(self) -> None:
        """See `base.Response`."""
        give_back, self._give_back = self._give_back, None
        connection = self._connection
        try:
            self._response.close()
            if self._ended and give_back is not None:
                give_back()
            else:
                connection.transport.close()
        except Exception:
            connection.transport.close()


class _AsyncConnection:
    """An async httpx transport of one connection, with its watch."""

    __slots__ = ("transport", "watch")

    def __init__(self, url: httpx.URL, verify: bool | str, proxy: str | None) -> None:
        self.watch = Watch()
        secure = url.scheme == "https" or bool(proxy and proxy.startswith("https"))
        try:
            self.transport = httpx.AsyncHTTPTransport(
                verify=_tls(verify) if secure else _no_tls(), limits=_LIMITS, trust_env=False, proxy=proxy
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(f"proxy: {error}", key="proxy") from None
        self.transport._pool._network_backend = AsyncDeadlineBackend(self.watch)


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
        _forget_in_children(self)

    async def open(self, send: Send) -> AsyncHttpxResponse:
        """See `base.AsyncTransport`."""
        from anyio.lowlevel import current_token

        loop = current_token()
        if loop != self._loop:
            self._loop, self._idle = loop, {}
        request, origin = _request(send)
        stack = self._idle.get(origin) if send.address is None else None
        if stack:
            connection = stack.pop()[1]
        else:
            proxy = _proxy_for(request.url, self._proxy)
            connection = _AsyncConnection(request.url, self._verify, proxy)
        watch = connection.watch
        watch.begin(send.connect, send.answer, send.total, send.address)
        try:
            response = await connection.transport.handle_async_request(request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            await _aclose(connection)
            _raise(error, watch, send.request.url)
        except BaseException:
            await _aclose(connection)
            raise
        keep = None if send.address is not None else self
        return AsyncHttpxResponse(response, connection, send.request.url, keep, origin)

    async def _push(self, origin: Origin, connection: _AsyncConnection) -> None:
        if self._closed:
            await _aclose(connection)
            return
        now = monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append((now, connection))
        while len(stack) > MAX_IDLE or (stack and now - stack[0][0] > KEEP_ALIVE):
            await _aclose(stack.popleft()[1])

    async def aclose(self) -> None:
        """See `base.AsyncTransport`."""
        self._closed = True
        from anyio.lowlevel import current_token

        stacks = list(self._idle.values()) if current_token() == self._loop else []
        self._idle = {}
        for stack in stacks:
            while stack:
                await _aclose(stack.pop()[1])

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        self._idle = {}


class AsyncHttpxResponse:
    """An open answer."""

    __slots__ = ("_connection", "_ended", "_inflate", "_keep", "_origin", "_parts", "_response", "_url", "head")

    def __init__(
        self,
        response: httpx.Response,
        connection: _AsyncConnection,
        url: str,
        keep: AsyncHttpxTransport | None,
        origin: Origin,
    ) -> None:
        self._response = response
        self._connection = connection
        self._url = url
        self._keep = keep
        self._origin = origin
        self._ended = False
        self.head = _head(response, connection.watch)
        self._inflate = _decompressor(self.head)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._parts = aiter(response.stream)

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
        except httpx.HTTPError as error:
            _raise(error, watch, self._url)
        except zlib.error as error:
            raise ProtocolError(f"the host's compressed answer is broken: {error}") from None

    async def aclose(self) -> None:
        """See `base.AsyncResponse`."""
        import anyio

        keep, self._keep = self._keep, None
        # Closing must finish although the task that closes may be cancelled already.
        with anyio.CancelScope(shield=True):
            try:
                await self._response.aclose()
                if self._ended and keep is not None:
                    await keep._push(self._origin, self._connection)
                    return
            except Exception:
                pass
            await _aclose(self._connection)


async def _aclose(connection: _AsyncConnection) -> None:
    import anyio

    with anyio.CancelScope(shield=True):
        with contextlib.suppress(Exception):  # the connection is gone either way
            await connection.transport.aclose()


_live: weakref.WeakSet[HttpxTransport | AsyncHttpxTransport] = weakref.WeakSet()
_live_lock = threading.Lock()


def _forget_in_children(transport: HttpxTransport | AsyncHttpxTransport) -> None:
    with _live_lock:
        _live.add(transport)


def _after_fork() -> None:
    for transport in list(_live):
        transport.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
