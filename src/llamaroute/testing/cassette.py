"""Recording what went over the wire, and playing it back: tests of an application without a network or an account.

```python
with record("weather.json") as tape, lr.Client(transport=tape.transport) as client:
    client.chat("Will it rain in Cusco?")

with replay("weather.json") as tape, lr.Client(transport=tape.transport, env=...) as client:
    client.chat("Will it rain in Cusco?")       # the same answer, in the same pieces
```

A recording holds prompts and answers, and no credentials: of headers, only those of a short list keep their values, and
what was sent as a credential is blotted out wherever a host echoes it, character by character, so that pieces keep
their size. Tokens that a vendor's own library exchanges do not pass here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .. import errors
from ..errors import InputError, ProviderError
from ..pipeline.ops import Head, Send
from ..spi import MASK
from ..transport.base import AsyncResponse, AsyncTransport, Response, Transport
from ..types.response import Phase

__all__ = ["Recording", "Replaying", "record", "replay"]

VERSION = 1
SENT = frozenset({"accept", "content-type", "content-length", "extra-parameters", "host", "user-agent"})
"""Request headers whose values are written down; all others may hold a credential, or a signature."""
HIDDEN = re.compile(r"(?i)cookie|token|secret|authorization|api-?key|signature|credential")
"""Names of headers that hold credentials."""
QUERY = frozenset({"api-version", "alt", "$alt"})
"""Parameters of a URL whose values are written down."""
SHORTEST = 6
"""Characters of a credential; shorter ones would be found in ordinary words."""
LONG = 16
"""Characters from which the value of any other header is taken for one."""


@dataclass(slots=True)
class Exchange:
    """One request and what came of it. Pieces are `(seconds since the one before, bytes)`."""

    method: str
    url: str
    sent: dict[str, str]
    body: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


def record(path: str | os.PathLike[str], *, verify: bool | str = True, proxy: str | None = None) -> Recording:
    """Write down what goes over the wire into `path` (JSON), at the end of the `with` block.

    Args:
        path: the file; one that is there is replaced.
        verify: as in a provider's table: false, or the path of a CA bundle.
        proxy: as in a provider's table.
    """
    return Recording(Path(path), verify, proxy)


def replay(path: str | os.PathLike[str], *, timing: bool = False) -> Replaying:
    """Answer from a recording. Requests are known by method, URL and body; each recorded one is played once.

    Args:
        path: what `record` wrote.
        timing: wait as long as the host took, before the answer and between its pieces.

    Raises:
        InputError: no such file, or it is no recording; later: a request that was not recorded.
    """
    return Replaying(Path(path), timing)


class Recording:
    """What `record` gives: `transport` for `Client(transport=...)`, `async_transport` for `AsyncClient`."""

    def __init__(self, path: Path, verify: bool | str, proxy: str | None) -> None:
        from ..transport.httpx import AsyncHttpxTransport, HttpxTransport

        self._path = path
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._inner = HttpxTransport(verify=verify, proxy=proxy)
        self.transport: Transport = _RecordingTransport(self._inner, self._begin)
        self.async_transport: AsyncTransport = _AsyncRecordingTransport(
            AsyncHttpxTransport(verify=verify, proxy=proxy), self._begin
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()
        self._inner.close()

    def save(self) -> None:
        """Write what has been recorded so far."""
        with self._lock:
            exchanges = [_written(exchange) for exchange in self._exchanges]
        text = json.dumps({"version": VERSION, "exchanges": exchanges}, ensure_ascii=False, indent=1)
        self._path.write_text(text + "\n", "utf-8")

    def _begin(self, send: Send) -> Exchange:
        request = send.request
        hidden = {name: value for name, value in request.headers.items() if name.lower() not in SENT}
        secrets = {
            part
            for name, value in hidden.items()
            for part in (value, *re.split(r"[\s,]+", value))
            if len(part) >= (SHORTEST if HIDDEN.search(name) else LONG)
        }
        exchange = Exchange(
            request.method,
            _without_secrets(request.url),
            {name.lower(): MASK if name in hidden else value for name, value in request.headers.items()},
            _joined(request.body),
            secrets=tuple(sorted(secrets, key=len, reverse=True)),
        )
        with self._lock:
            self._exchanges.append(exchange)
        return exchange


class Replaying:
    """What `replay` gives: `transport` for `Client(transport=...)`, `async_transport` for `AsyncClient`."""

    def __init__(self, path: Path, timing: bool) -> None:
        self._path = path
        self._timing = timing
        self._left = _read(path)
        self._lock = threading.Lock()
        self.transport: Transport = _ReplayingTransport(self)
        self.async_transport: AsyncTransport = _AsyncReplayingTransport(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def left(self) -> int:
        """Recorded requests that nobody has made yet."""
        with self._lock:
            return len(self._left)

    def find(self, send: Send) -> Exchange:
        """The recorded exchange of a request; it counts as played."""
        request = send.request
        url, body = _without_secrets(request.url), _canonical(_joined(request.body))
        with self._lock:
            for index, exchange in enumerate(self._left):
                if (exchange.method, exchange.url) == (request.method, url) and _canonical(exchange.body) == body:
                    return self._left.pop(index)
            same = any((e.method, e.url) == (request.method, url) for e in self._left)
        why = "with this body" if same else "(or it was played already)"
        raise InputError(f"{self._path}: {request.method} {url} was not recorded {why}; record it anew")


# -- recording ------------------------------------------------------------------------------------------------------


class _Begin(Protocol):
    def __call__(self, send: Send) -> Exchange: ...


class _RecordingTransport:
    def __init__(self, inner: Transport, begin: _Begin) -> None:
        self._inner, self._begin = inner, begin

    def open(self, send: Send) -> Response:
        exchange = self._begin(send)
        began = time.monotonic()
        try:
            response = self._inner.open(send)
        except ProviderError as error:
            exchange.failure = _failure(error)
            raise
        _head(exchange, response.head, began)
        return _RecordingResponse(response, exchange)

    def close(self) -> None:
        self._inner.close()


class _AsyncRecordingTransport:
    def __init__(self, inner: AsyncTransport, begin: _Begin) -> None:
        self._inner, self._begin = inner, begin

    async def open(self, send: Send) -> AsyncResponse:
        exchange = self._begin(send)
        began = time.monotonic()
        try:
            response = await self._inner.open(send)
        except ProviderError as error:
            exchange.failure = _failure(error)
            raise
        _head(exchange, response.head, began)
        return _AsyncRecordingResponse(response, exchange)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Pieces:
    """Notes the pieces of an answer as they are read."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._last = time.monotonic()

    def _note(self, data: bytes) -> bytes:
        now = time.monotonic()
        if data:
            self._exchange.pieces.append((now - self._last, data))
        self._last = now
        return data


class _RecordingResponse(_Pieces):
    def __init__(self, inner: Response, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._inner = inner

    @property
    def head(self) -> Head:
        return self._inner.head

    def read(self, until: float, phase: Phase) -> bytes:
        try:
            return self._note(self._inner.read(until, phase))
        except ProviderError as error:
            self._exchange.failure = _failure(error)
            raise

    def close(self) -> None:
        self._inner.close()


class _AsyncRecordingResponse(_Pieces):
    def __init__(self, inner: AsyncResponse, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._inner = inner

    @property
    def head(self) -> Head:
        return self._inner.head

    async def read(self, until: float, phase: Phase) -> bytes:
        try:
            return self._note(await self._inner.read(until, phase))
        except ProviderError as error:
            self._exchange.failure = _failure(error)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


def _head(exchange: Exchange, head: Head, began: float) -> None:
    exchange.wait = time.monotonic() - began
    exchange.status = head.status
    exchange.headers = {name: MASK if HIDDEN.search(name) else value for name, value in head.headers.items()}


def _failure(error: ProviderError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": str(error.args[0]), "phase": error.phase}


# -- playing --------------------------------------------------------------------------------------------------------


class _ReplayingTransport:
    def __init__(self, tape: Replaying) -> None:
        self._tape = tape

    def open(self, send: Send) -> Response:
        exchange = self._tape.find(send)
        if self._tape._timing:
            time.sleep(exchange.wait)
        return _Playing(exchange, self._tape._timing)

    def close(self) -> None:
        pass


class _AsyncReplayingTransport:
    def __init__(self, tape: Replaying) -> None:
        self._tape = tape

    async def open(self, send: Send) -> AsyncResponse:
        import anyio

        exchange = self._tape.find(send)
        if self._tape._timing:
            await anyio.sleep(exchange.wait)
        return _AsyncPlaying(exchange, self._tape._timing)

    async def aclose(self) -> None:
        pass


class _Playing:
    def __init__(self, exchange: Exchange, timing: bool) -> None:
        if exchange.status == 0:
            raise _raised(exchange)
        self.head = Head(exchange.status, exchange.headers, sent=time.monotonic())
        self._exchange, self._timing, self._at = exchange, timing, 0

    def _next(self) -> tuple[float, bytes]:
        if self._at < len(self._exchange.pieces):
            self._at += 1
            seconds, data = self._exchange.pieces[self._at - 1]
            return (seconds if self._timing else 0.0), data
        if self._exchange.failure is not None:
            raise _raised(self._exchange)
        return 0.0, b""

    def read(self, until: float, phase: Phase) -> bytes:
        seconds, data = self._next()
        if seconds:
            time.sleep(seconds)
        return data

    def close(self) -> None:
        pass


class _AsyncPlaying(_Playing):
    async def read(self, until: float, phase: Phase) -> bytes:  # type: ignore[override]
        import anyio

        seconds, data = self._next()
        if seconds:
            await anyio.sleep(seconds)
        return data

    async def aclose(self) -> None:
        pass


def _raised(exchange: Exchange) -> ProviderError:
    failure = exchange.failure or {}
    kind = getattr(errors, str(failure.get("type")), errors.ConnectionError)
    kind = kind if isinstance(kind, type) and issubclass(kind, ProviderError) else errors.ConnectionError
    return kind(str(failure.get("message", "the recording ends here")), phase=failure.get("phase"))


# -- the file -------------------------------------------------------------------------------------------------------


def _written(exchange: Exchange) -> dict[str, Any]:
    whole = b"".join(data for _, data in exchange.pieces)
    whole = _blotted(whole, exchange.secrets)
    pieces, at = [], 0
    for seconds, data in exchange.pieces:
        pieces.append({"after": round(seconds, 4), **_encoded(whole[at : at + len(data)])})
        at += len(data)
    headers = {name: _blotted(text.encode(), exchange.secrets).decode() for name, text in exchange.headers.items()}
    failure = exchange.failure
    if failure is not None:
        failure = {**failure, "message": _blotted(failure["message"].encode(), exchange.secrets).decode()}
    return {
        "request": {
            "method": exchange.method,
            "url": exchange.url,
            "headers": exchange.sent,
            **_encoded(_blotted(exchange.body, exchange.secrets)),
        },
        "response": {
            "status": exchange.status,
            "headers": headers,
            "wait": round(exchange.wait, 4),
            "pieces": pieces,
            **({"failure": failure} if failure else {}),
        },
    }


def _read(path: Path) -> list[Exchange]:
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["version"] != VERSION:
            raise InputError(f"{path}: a recording of version {data['version']}; this is version {VERSION}")
        return [_exchange(item["request"], item["response"]) for item in data["exchanges"]]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no recording of this library ({type(error).__name__}: {error})") from None


def _exchange(request: Mapping[str, Any], response: Mapping[str, Any]) -> Exchange:
    return Exchange(
        request["method"],
        request["url"],
        dict(request["headers"]),
        _decoded(request),
        response["status"],
        dict(response["headers"]),
        response["wait"],
        [(piece["after"], _decoded(piece)) for piece in response["pieces"]],
        response.get("failure"),
    )


def _encoded(data: bytes) -> dict[str, str]:
    """Text where it is text: a recording is read by people. A piece may end inside a character."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _decoded(table: Mapping[str, Any]) -> bytes:
    return base64.b64decode(table["base64"]) if "base64" in table else str(table["text"]).encode()


def _blotted(data: bytes, secrets: Iterable[str]) -> bytes:
    for secret in secrets:
        found = secret.encode()
        if found in data:
            data = data.replace(found, b"*" * len(found))
    return data


def _without_secrets(url: str) -> str:
    """The URL without a password, and with the values of unknown parameters hidden."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = [(name, value if name in QUERY else MASK) for name, value in parse_qsl(parts.query, True)]
    return urlunsplit(parts._replace(netloc=host, query=urlencode(query, safe="*")))


def _joined(body: bytes | tuple[bytes, ...]) -> bytes:
    return body if isinstance(body, bytes) else b"".join(body)


def _canonical(body: bytes) -> object:
    """A body to compare: the order of keys does not matter."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body
