"""What every emulated host has in common: the contract with the emulator, and Server-Sent Events with their faults."""

from __future__ import annotations

import random
import string
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, dumps
from ..prompt import Prompt
from ..script import Fault, Piece
from ..tokens import Tokens

__all__ = ["DONE", "Call", "Event", "Host", "Options", "new_id", "strip_usage"]

DONE = "[DONE]"
Event = dict[str, Any] | str | bytes
"""A stream event: a dict becomes a data line of JSON, a str a data line as it is, bytes go out as they are."""

_ALPHANUMERIC = string.ascii_letters + string.digits


def new_id(length: int, alphabet: str = _ALPHANUMERIC) -> str:
    """A random identifier."""
    return "".join(random.choices(alphabet, k=length))


@dataclass(frozen=True)
class Options:
    """Settings of the emulator that hosts read; see `Emulator` for their meaning."""

    keys: Mapping[str, str | None] = field(default_factory=dict)
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    context: Mapping[str, int] = field(default_factory=dict)
    quirks: frozenset[str] = frozenset()
    account_id: str = "0123456789abcdef0123456789abcdef"
    max_body: int = 10_000_000
    cold_start: float = 0.0
    loading: float = 0.0
    engine: str = "tgi"
    tokens: Tokens = field(default_factory=Tokens)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Call:
    """One request on its way through a host."""

    request: RecordedRequest
    generate: Callable[[Prompt], Coroutine[Any, Any, AsyncIterator[Piece]]]
    fault: Fault | None = None
    reply_headers: dict[str, str] = field(default_factory=dict)

    @property
    def wants_usage(self) -> bool:
        """False if a fault asks that usage be missing."""
        return not (self.fault is not None and self.fault.missing_usage)


class Host:
    """One emulated host. A subclass is one file; it is listed in `hosts.HOSTS` under its name.

    name: first segment of the path on the emulator.   base_path: what follows it in the base URL that clients get.
    kind: the value of `kind` in a llamaroute config.
    key: the accepted key unless the emulator was given another; None = no authentication.
    models: accepted model ids.   context: tokens of the context window.
    quirks: switches that this host knows, with their default.
    known_settings: what `Emulator(settings={name: {...}})` may set here, with the defaults. Hosts of one family name
      the one of them that holds the settings of all in `settings_host`.
    root_paths: first segments of paths without the host's name in front that are this host's, for clients that keep
      nothing of a base URL but its address.
    """

    name: ClassVar[str] = ""
    base_path: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    default_key: ClassVar[str | None] = None
    default_models: ClassVar[Sequence[str]] = ()
    default_context: ClassVar[int] = 131_072
    known_quirks: ClassVar[Mapping[str, bool]] = {}
    root_paths: ClassVar[Sequence[str]] = ()
    known_settings: ClassVar[Mapping[str, Any]] = {}
    settings_host: ClassVar[str] = ""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.key = options.keys.get(self.name, self.default_key)
        self.models = tuple(options.models.get(self.name, self.default_models))
        self.context = options.context.get(self.name, self.default_context)
        self.first_request: float | None = None

    def quirk(self, name: str) -> bool:
        """Whether a quirk is on: by default, by `name`, or off by `no-name`."""
        on = self.known_quirks[name] or name in self.options.quirks
        return on and f"no-{name}" not in self.options.quirks

    def setting(self, name: str) -> Any:
        """What was set, or the default."""
        given = self.options.settings.get(self.settings_host or self.name, {})
        return given.get(name, self.known_settings[name])

    # ── to be written by a host ──

    def is_inference(self, request: RecordedRequest) -> bool:
        """Whether the request asks for a model's answer; faults without a path strike only these."""
        raise NotImplementedError

    async def handle(self, call: Call) -> Answer:
        """The answer of the host."""
        raise NotImplementedError

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        """The host's own error body for a status (used by faults)."""
        raise NotImplementedError

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        """The events with which the host reports an error after status 200."""
        raise NotImplementedError

    def provider(self, base_url: str) -> dict[str, Any]:
        """What stands under `[providers.<name>]` in a config that uses the emulator.

        Raises:
            ValueError: the host has no kind: it issues tokens, or lists things.
        """
        if not self.kind:
            raise ValueError(f"{self.name} answers no chat: it is no provider")
        settings: dict[str, Any] = {"kind": self.kind, "base_url": base_url}
        if self.key is not None:
            settings["api_key"] = self.key
        return settings

    # ── shared tools ──

    def seconds_since_first(self) -> float:
        """Seconds since the first call of this method: the age of a server that is just waking up."""
        now = time.monotonic()
        if self.first_request is None:
            self.first_request = now
        return now - self.first_request

    def bearer_ok(self, request: RecordedRequest) -> bool:
        """Whether the request carries the accepted key as a bearer token (or none is needed)."""
        if self.key is None:
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and token.strip() == self.key

    def stream(self, call: Call, events: AsyncIterator[Event], headers: Mapping[str, str]) -> Answer:
        """An event stream."""
        return Answer(200, dict(headers), frames=self._frames(call, events))

    async def _frames(self, call: Call, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        fault = call.fault or Fault()
        end = "\r\n" if fault.crlf else "\n"
        comment = fault.keepalive if isinstance(fault.keepalive, str) else ": keep-alive"
        count = 0
        error_at = 0 if fault.error_first else fault.error_after
        broken = self.stream_error(call.request, fault.status or 500, fault.message, fault.code)
        async for event in events:
            if error_at is not None and count >= error_at:
                break
            shown = event
            if fault.missing_usage and isinstance(event, dict):
                kept = strip_usage(event)
                if kept is None:
                    continue
                shown = kept
            if event == DONE and fault.no_done:
                continue
            if fault.garbage and count == fault.garbage_after:
                yield f'data: {{"choices": [{{"delta": {{"cont{end}{end}'.encode()
            if fault.keepalive and count:
                yield f"{comment}{end}{end}".encode()
            count += 1
            yield encode(shown, end)
        if error_at is not None:
            for event in broken:
                yield encode(event, end)


def encode(event: Event, end: str = "\n") -> bytes:
    """An event in `text/event-stream` form (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    if isinstance(event, bytes):
        return event
    data = dumps(event) if isinstance(event, dict) else event.encode()
    return b"data: " + data + (end + end).encode()


def strip_usage(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event or body without its usage; None if nothing else was in it."""
    if "usage" not in event and "usage" not in (event.get("result") or {}):
        return dict(event)
    kept = {key: value for key, value in event.items() if key != "usage"}
    if isinstance(kept.get("result"), dict):
        kept["result"] = {key: value for key, value in kept["result"].items() if key != "usage"}
    if kept.get("choices") == [] and str(kept.get("object", "")).endswith(".chunk"):
        return None
    return None if kept in ({}, {"response": ""}) else kept


def request_uuid() -> str:
    """A random UUID as text."""
    return str(uuid.uuid4())
