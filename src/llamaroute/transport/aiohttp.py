"""The fast engine of `AsyncClient` on asyncio: aiohttp's connector, HTTP parser and stream reader.

aiohttp's session costs twice what is below it: a request and a response object, a task that writes the body, headers
merged and written anew for every call (docs/performance.md). So only what is below is used, and what is left is little:
the connector connects (DNS, TLS, tunnels of http proxies), the protocol parses, the stream reader keeps what came.
Requests are rendered here, their constant part once; idle connections are on a stack per origin, as in `httpx.py`.

From aiohttp are taken: `TCPConnector.connect`, whose connection has `protocol`, `transport` and `close`; the protocol's
`set_response_params`, `read`, `set_exception`, `exception`, `closed` and `should_close`; `StreamReader`. Some of these
are public but hardly documented, so releases beyond `_SUPPORTED` are not used before they were tested.

Every wait ends at a moment, as in `deadline.py`. One timer per connection serves all its waits: it is set when it would
ring too late, not for each wait, and what it finds waiting past its moment it wakes by an exception.

What aiohttp does not do is left to the other engine: trio, and proxies that are spoken to in TLS or SOCKS.

The only module that knows aiohttp. Its types do not leave it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import select
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from ..errors import ConfigError, ConnectionError, InputError, LlamarouteError, ProtocolError
from ..pipeline.ops import Head, Send
from ..spi import WireRequest
from ..types.response import Phase
from .base import AsyncResponse
from .idle import KEEP_ALIVE, MAX_IDLE, forget_in_children
from .origin import Origin, Url, proxy_for, shown
from .outcome import decompressor, out_of_time

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

    from .httpx import AsyncHttpxTransport

__all__ = ["AiohttpTransport"]

_SUPPORTED = "3.14."
"""Releases of aiohttp that this was tested with; pyproject.toml names the same."""

if not aiohttp.__version__.startswith(_SUPPORTED):
    raise ImportError(f"aiohttp {aiohttp.__version__} is installed, and {_SUPPORTED}x is needed")

_MAX_HEAD = 100 << 10
"""Bytes that a line of an answer's head may have; what the other engine takes for all of them."""
_MAX_HEADERS = 1000
_BUFFER = 64 << 10
"""Bytes of an answer that wait to be read before the host is held back; twice as many at most, and what one read from
the socket brings."""
_SMALL = 64 << 10
"""Bytes up to which a body is joined to its head, to be sent in one piece."""
_MAX_HEADS = 128
"""Rendered heads that are kept."""

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)  # the moments are kept here

# https://www.rfc-editor.org/rfc/rfc9110.html#section-5.1 and 5.5; as strict as h11, which the other engine has
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(rb"(?:[^\x00\s]+(?:[ \t]+[^\x00\s]+)*)?").fullmatch

_url = lru_cache(maxsize=256)(Url)
_lower = lru_cache(maxsize=256)(str.lower)


class _TimeIsUp(Exception):
    """Wakes who waits when the moment has come."""


class _Closed(Exception):
    """Wakes who reads when another task closes the answer."""


class AiohttpTransport:
    """For asyncio; safe to share between tasks. Where aiohttp does not go, it does as `AsyncHttpxTransport`.

    Connections belong to the event loop that made them: one that has ended takes its connections with it.
    """

    def __init__(self, *, verify: bool | str = True, proxy: str | None = None) -> None:
        self._verify = verify
        self._proxy = proxy
        self._pool: _Pool | None = None
        self._closed = False
        self._heads: dict[tuple[object, ...], bytes] = {}
        self._other: AsyncHttpxTransport | None = None
        self._parents: list[object] = []
        forget_in_children(self)

    async def open(self, send: Send) -> AsyncResponse:
        """See `base.AsyncTransport`."""
        loop = _loop()
        if loop is None:
            return await self._httpx().open(send)
        pool = self._pool
        if pool is None or pool.loop is not loop:
            pool = self._pool = _Pool(loop)
            pool.closed = self._closed
        request = send.request
        url = _url(request.url)
        started = monotonic()
        # A pinned address is not an origin's: its connection is used once.
        link = pool.pop(url.origin, started) if send.address is None else None
        connected, head = started, None
        if link is None:
            way = _way(url, self._proxy)
            if way is None:
                return await self._httpx().open(send)
            head = self._head(request, url, way)
            link = await pool.connect(url, way, self._verify, send, started)
            connected = monotonic()
        try:
            if head is None:
                head = self._head(request, url, link.way)
            status, headers, content = await link.exchange(head, request, connected + send.answer, send.total)
            told = Head(status, headers, connected - started, connected)
            return AiohttpResponse(told, link, content, decompressor(told), pool if send.address is None else None)
        except BaseException as error:
            await link.aclose()
            if isinstance(error, Exception) and not isinstance(error, LlamarouteError):
                link.fail(error)
            raise

    def _head(self, request: WireRequest, url: Url, way: _Way) -> bytes:
        """The request's head without its end; the same few are sent all the time."""
        key = (request.method, request.url, way.absolute, way.login, *request.headers.items())
        head = self._heads.get(key)
        if head is None:
            head = _render(request, url, way)
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _httpx(self) -> AsyncHttpxTransport:
        if self._other is None:
            from .httpx import AsyncHttpxTransport

            self._other = AsyncHttpxTransport(verify=self._verify, proxy=self._proxy)
        return self._other

    async def aclose(self) -> None:
        """See `base.AsyncTransport`."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.closed = True
            if pool.loop is _loop():
                await pool.aclose()
        if self._other is not None:
            await self._other.aclose()

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        self._parents.append(self._pool)  # collected, they would be closed
        self._pool = None


def _loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop; None where it is not asyncio that runs this."""
    try:
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None


class _Way:
    """How requests get to a host: directly, or through an http proxy."""

    __slots__ = ("absolute", "login", "proxy")

    def __init__(self, proxy: URL | None = None, login: str | None = None, *, absolute: bool = False) -> None:
        self.proxy = proxy
        self.login = login
        """What the proxy is told with each request, `absolute`, or with the one for a tunnel."""
        self.absolute = absolute


_DIRECTLY = _Way()


def _way(url: Url, configured: str | None) -> _Way | None:
    """None when it is a way for the other engine."""
    proxy = proxy_for(url, configured)
    if proxy is None:
        return _DIRECTLY
    parts = urlsplit(proxy)
    if parts.scheme != "http":
        return None
    if not parts.hostname:
        raise ConfigError(f"proxy: {shown(proxy)!r} is not an http, https or socks5 URL with a host", key="proxy")
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    where = URL.build(scheme="http", host=parts.hostname, port=parts.port or 80)
    return _Way(where, login, absolute=not url.secure)


def _render(request: WireRequest, url: Url, way: _Way) -> bytes:
    headers = {b"host": url.host_header, b"user-agent": b"llamaroute", b"accept-encoding": b"identity"}
    try:
        for name, value in request.headers.items():
            headers[name.lower().encode("ascii")] = value.encode("latin-1")
    except UnicodeEncodeError:
        raise InputError("a request header has characters that no HTTP header may hold") from None
    headers.pop(b"content-length", None)
    if way.absolute and way.login is not None:
        headers[b"proxy-authorization"] = way.login.encode()
    # What is wrong is not quoted: it may be a key.
    if b"transfer-encoding" in headers or not all(_NAME(name) and _VALUE(value) for name, value in headers.items()):
        raise InputError("the request has a header that HTTP does not allow")
    target = b"%s://%s%s" % (url.origin[0].encode(), url.host_header, url.target) if way.absolute else url.target
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), target)]
    lines += [b"%s: %s" % header for header in headers.items()]
    return b"\r\n".join(lines) + b"\r\n"


class _Pool:
    """Connections of one event loop: makes them, and keeps those that nobody uses."""

    __slots__ = ("_connector", "_idle", "_requests", "closed", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self._idle: dict[Origin, deque[_Link]] = {}
        self._requests: dict[Origin, aiohttp.ClientRequest] = {}
        # It never gets a connection back, so it has nothing to close. Names are looked up as everywhere in the process,
        # also where another resolver is installed.
        self._connector = aiohttp.TCPConnector(limit=0, resolver=aiohttp.ThreadedResolver(loop))

    def pop(self, origin: Origin, now: float) -> _Link | None:
        """An idle connection that is still good."""
        stack = self._idle.get(origin)
        while stack:
            link = stack.pop()
            if now - link.since <= KEEP_ALIVE and link.reusable() and not link.stirs():
                return link
            link.abort()
        return None

    async def push(self, origin: Origin, link: _Link) -> None:
        """Keep a connection for the next request."""
        if self.closed:
            await link.aclose()
            return
        link.since = now = monotonic()
        stack = self._idle.setdefault(origin, deque())
        stack.append(link)
        while len(stack) > MAX_IDLE or (stack and now - stack[0].since > KEEP_ALIVE):
            stack.popleft().abort()

    def _request(self, url: Url, way: _Way, verify: bool | str, address: str | None) -> aiohttp.ClientRequest:
        """What tells the connector where to connect to, and nothing else; one for all connections to an origin."""
        known = self._requests.get(url.origin) if way is _DIRECTLY and address is None else None
        if known is not None:
            return known
        scheme, host, port = url.origin
        if way.proxy is not None:
            address = None  # the proxy looks the host up itself
        place = address or host
        tls: Any = True
        if url.secure:
            from .httpx import tls as context

            tls = context(verify)
            tls.set_alpn_protocols(["http/1.1"])
        request = aiohttp.ClientRequest(
            "GET",
            URL.build(scheme=scheme, host=f"[{place}]" if ":" in place else place, port=port, encoded=True),
            loop=self.loop,
            ssl=tls,
            server_hostname=host if address else None,
            proxy=way.proxy,
            proxy_headers=None if way.proxy is None else _tunnel_headers(way),
        )
        if way is _DIRECTLY and address is None:
            self._requests[url.origin] = request
        return request

    async def connect(self, url: Url, way: _Way, verify: bool | str, send: Send, started: float) -> _Link:
        """A new connection, within what the request allows."""
        until, phase = _sooner(started + send.connect, "connect", send.total)
        try:
            request = self._request(url, way, verify, send.address)
            async with asyncio.timeout(until - started) as limit:
                connection = await self._connector.connect(request, [], _NO_TIMEOUT)
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                connection.close()
                raise aiohttp.ServerDisconnectedError
            return _Link(connection, protocol, transport, self.loop, url, way)
        except Exception as error:
            await _settle()
            if isinstance(error, TimeoutError) and limit.expired():
                raise out_of_time(phase, url.place) from None
            _unreachable(error, url.place)
        except BaseException:
            await _settle()
            raise

    async def aclose(self) -> None:
        """Close what nobody uses."""
        for stack in self._idle.values():
            while stack:
                stack.pop().abort()
        await _settle()


def _sooner(until: float, phase: Phase, total: float | None) -> tuple[float, Phase]:
    """The end of a phase, or of the whole call if that is sooner."""
    return (until, phase) if total is None or until <= total else (total, "total")


def _tunnel_headers(way: _Way) -> dict[str, str]:
    headers = {"User-Agent": "llamaroute"}
    if way.login is not None:
        headers["Proxy-Authorization"] = way.login
    return headers


async def _settle() -> None:
    """Let the event loop close what was aborted; it does so in its next round. Also in a task that is cancelled."""
    import anyio

    with anyio.CancelScope(shield=True):
        await asyncio.sleep(0)


def _unreachable(error: Exception, host: str) -> NoReturn:
    """An error on the way to a host as ours. aiohttp's own texts have URLs in them, these have not."""
    if isinstance(error, ConfigError):
        raise error
    if isinstance(error, aiohttp.ClientHttpProxyError):
        raise ConnectionError(f"the proxy to {host} refused: {error.status} {error.message}", phase="connect") from None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = str(error.certificate_error)
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = str(error.os_error)
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "the connection was closed"
    elif isinstance(error, aiohttp.ClientResponseError):
        text = "the proxy does not speak HTTP as it should"
    elif isinstance(error, OSError | ValueError | aiohttp.ClientError | RuntimeError):
        text = str(error)
    else:
        raise error
    raise ConnectionError(f"cannot connect to {host}: {text or type(error).__name__}", phase="connect") from None


class _Link:
    """A connection, with the moment at which what waits on it is woken."""

    __slots__ = (
        "__weakref__", "_connection", "_content", "_loop", "_protocol", "_rings", "_timer", "_transport", "_until",
        "_wake", "phase", "since", "total", "url", "way",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        protocol: ResponseHandler,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        url: Url,
        way: _Way,
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._transport = transport
        self._loop = loop
        self.url = url
        self.way = way
        self.since = 0.0
        self.phase: Phase = "connect"
        self.total: float | None = None
        self._until = self._rings = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wake: Callable[[Exception], object] | None = None
        self._content: aiohttp.StreamReader | None = None
        if (closed := protocol.closed) is not None:
            closed.add_done_callback(partial(_lost, weakref.ref(self)))

    def __del__(self) -> None:
        # An answer that was forgotten, perhaps collected in another thread. Where the loop has ended, nothing can be
        # closed any more, and Python says so of the socket.
        if not self._transport.is_closing() and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(_abort, self._connection, self._transport)

    async def exchange(
        self, head: bytes, request: WireRequest, until: float, total: float | None
    ) -> tuple[int, dict[str, str], aiohttp.StreamReader]:
        """Send, and wait for the status and the headers. Raises what `fail` understands."""
        protocol = self._protocol
        self.total = total
        self._until, self.phase = _sooner(until, "first_token", total)
        if self._until <= monotonic():
            raise _TimeIsUp
        protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_BUFFER,
            max_line_size=_MAX_HEAD,
            max_field_size=_MAX_HEAD,
            max_headers=_MAX_HEADERS,
        )
        self._send(head, request)
        self._expect(protocol.set_exception)
        try:
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code < 200 or message.code == 101:
                    break
        finally:
            self._wake = None
        headers: dict[str, str] = {}
        for key, value in message.headers.items():
            name = _lower(key)
            # The parser keeps these texts as long as the answer is open, so they are not made anew.
            text = value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        self._content = content
        return message.code, headers, content

    def _send(self, head: bytes, request: WireRequest) -> None:
        """Hand all to the socket, which keeps what the host does not take at once."""
        body = request.body
        parts = (body,) if isinstance(body, bytes) else body
        size = sum(map(len, parts))
        end = b"content-length: %d\r\n\r\n" % size if size or request.method != "GET" else b"\r\n"
        if size <= _SMALL:
            self._transport.write(b"".join((head, end, *parts)))
            return
        self._transport.write(head + end)
        for part in parts:
            if self._transport.is_closing():
                break  # reading says why
            self._transport.write(part)

    def waiting(self, content: aiohttp.StreamReader, until: float, phase: Phase) -> None:
        """Somebody waits for more of an answer's body. Raises when the moment has passed already."""
        self._until, self.phase = _sooner(until, phase, self.total)
        if self._until <= monotonic():
            raise out_of_time(self.phase, self.url.place)
        self._expect(content.set_exception)

    def relax(self) -> None:
        """Nobody waits any more."""
        self._wake = None

    def _expect(self, wake: Callable[[Exception], object]) -> None:
        """From now on, `wake` is called when the moment has come."""
        self._wake = wake
        if self._timer is None or self._until < self._rings:
            if self._timer is not None:
                self._timer.cancel()
            self._ring_later()

    def _ring_later(self) -> None:
        self._rings = self._until
        # Not every event loop has the clock of `monotonic`, or its precision.
        # An answer that is forgotten is not held by its timer.
        self._timer = self._loop.call_at(self._loop.time() + self._until - monotonic(), _ring, weakref.ref(self))

    def ring(self) -> None:
        """The timer rings."""
        self._timer = None
        if self._wake is None:
            return
        if self._until > monotonic():
            self._ring_later()
        else:
            self._wake(_TimeIsUp())

    def lost(self) -> None:
        """The connection has ended. aiohttp leaves who reads an answer waiting if it was broken by what is no HTTP."""
        content = self._content
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(self._protocol.exception() or aiohttp.ServerDisconnectedError())

    def fail(self, error: BaseException) -> NoReturn:
        """A foreign error as ours. Messages name host and port alone: a URL can hold secrets in its query."""
        phase, host = self.phase, self.url.place
        if isinstance(error, _TimeIsUp):
            raise out_of_time(phase, host) from None
        broken = error if isinstance(error, HttpProcessingError) else self._protocol.exception()
        if isinstance(broken, HttpProcessingError):
            text = (broken.message or "").partition("\n")[0].rstrip(": ")
            raise ProtocolError(
                f"{host} does not speak HTTP as it should: {text or 'bad answer'}", phase=phase
            ) from None
        if isinstance(error, _Closed):
            text = "it was closed"
        elif isinstance(error, OSError):
            text = str(error) or type(error).__name__
        elif isinstance(error, aiohttp.ClientError | aiohttp.EofStream | RuntimeError):
            text = "it ended before the answer did"
        else:
            raise error
        raise ConnectionError(f"lost the connection to {host}: {text}", phase=phase) from None

    def reusable(self) -> bool:
        """Whether it is whole, and the last exchange on it complete."""
        transport = self._transport
        return not (transport.is_closing() or self._protocol.should_close or transport.get_write_buffer_size())

    def stirs(self) -> bool:
        """Whether something has come that nobody asked for, mostly the end: the event loop may not have looked yet."""
        socket = self._transport.get_extra_info("socket")
        return socket is None or _readable(socket.fileno())

    def abort(self) -> None:
        """Close at once, without waiting for what is to be sent, or for the peer's part of TLS."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _abort(self._connection, self._transport)

    async def aclose(self) -> None:
        """`abort`, and done when this returns."""
        self.abort()
        await _settle()


def _abort(connection: Connection, transport: asyncio.Transport) -> None:
    transport.abort()
    connection.close()


def _ring(link: weakref.ref[_Link]) -> None:
    if (known := link()) is not None:
        known.ring()


def _lost(link: weakref.ref[_Link], closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()  # looked at, or asyncio says that nobody did
    if (known := link()) is not None:
        known.lost()


if hasattr(select, "poll"):

    def _readable(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:

    def _readable(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])


class AiohttpResponse:
    """An open answer."""

    __slots__ = ("_broken", "_content", "_inflate", "_link", "_pool", "head")

    def __init__(
        self, head: Head, link: _Link, content: aiohttp.StreamReader, inflate: Any, keep: _Pool | None
    ) -> None:
        self.head = head
        self._link: _Link | None = link
        self._content = content
        self._inflate = inflate
        self._pool = keep
        self._broken: BaseException | None = None

    async def read(self, until: float, phase: Phase) -> bytes:
        """See `base.AsyncResponse`."""
        link, content = self._link, self._content
        if link is None:
            raise ConnectionError("the answer is closed", phase=phase)
        link.waiting(content, until, phase)
        try:
            while True:
                if (broken := content.exception()) is not None:
                    # What came before the break comes first; the reader would keep it to itself.
                    self._broken = self._broken or broken
                    content.set_exception(None)  # type: ignore[arg-type]
                data = content.read_nowait()
                if not data and not content.at_eof():
                    if self._broken is not None:
                        link.fail(self._broken)
                    try:
                        data = await content.readany()
                    except Exception as error:
                        if isinstance(error, _TimeIsUp) or content.exception() is None:
                            link.fail(error)
                        continue
                if self._inflate is None:
                    return data
                if not data:
                    return bytes(self._inflate.flush())
                if data := self._inflate.decompress(data):
                    return bytes(data)
        except zlib.error as error:
            raise ProtocolError(f"the host's compressed answer is broken: {error}") from None
        finally:
            link.relax()

    async def aclose(self) -> None:
        """See `base.AsyncResponse`."""
        link, self._link = self._link, None
        if link is None:
            return
        if self._pool is not None and self._broken is None and self._content.is_eof() and link.reusable():
            await self._pool.push(link.url.origin, link)
        else:
            self._content.set_exception(_Closed())
            await link.aclose()
