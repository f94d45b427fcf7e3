"""The provider contract: everything a third party must read to add a host.

Begin with: you may need no code. A host that speaks the OpenAI dialect is a table in the config file
(`kind = "openai-compatible"`). A host whose wire differs is an `Adapter`: three pure functions and a stream decoder,
registered as a `ProviderSpec` through the entry-point group `llamaroute.providers`.

An adapter is pure: no clock, no environment, no network, no logging of bodies; the same input gives the same bytes.
The rules, each a check in `llamaroute.testing.check_adapter`:

* split-proof: a body fed whole, byte by byte or cut anywhere gives the same events;
* agreement: folding the events of a stream equals `parse_response` of the same answer;
* loud end: `close()` raises when no finish was seen or bytes are left over;
* given what its row excludes, it raises `CapabilityError`;
* `map_error` decides class, `retryable`, `failover`, `retry_after` and `request_id` from status and code, never from
  message text where a code exists;
* the account's `extra` is merged last, and `raw` is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from .errors import ProviderError
from .types.capability import Feature, ModelRow, Support
from .types.dataclass import dataclass
from .types.events import StreamEvent
from .types.request import ChatRequest
from .types.response import ChatResponse, Notice, TokenLogprob
from .types.settings import RetrySettings, TimeoutSettings

__all__ = [
    "SPI_VERSION",
    "Adapter",
    "AnswerMeta",
    "Auth",
    "AuthSettings",
    "DecoderEvent",
    "EndpointLocator",
    "HeaderText",
    "LogprobsReported",
    "ProviderSettings",
    "ProviderSpec",
    "RawPayload",
    "StreamDecoder",
    "Target",
    "TokenCounter",
    "WireRequest",
    "WireResponse",
]

SPI_VERSION = 1

MASK = "**********"
"""Stands for a secret in dumps, as pydantic writes it."""

HeaderText = Annotated[str, Field(pattern=r"^[ -~]+$")]
"""A setting that becomes a header: printable ASCII, at least one character."""


class ProviderSettings(BaseModel):
    """A `[providers.X]` table of the config file. A kind's own table adds its keys to these."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, protected_namespaces=(), hide_input_in_errors=True
    )

    path_keys: ClassVar[tuple[str, ...]] = ("verify",)
    """Keys that may hold a path; a relative one starts from the config file's folder."""

    kind: str
    """Kind of provider; defaults to the table's name."""
    api_key: SecretStr | None = None
    """Key or token."""
    base_url: str | None = Field(default=None, repr=False)
    """Point it at a proxy, a gateway or the emulator."""
    model: str | None = None
    """Model used when a call names the account alone."""
    models: dict[str, str] = Field(default_factory=dict)
    """Canonical name (or any name of yours) -> the provider's own id."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent with every request."""
    timeout: TimeoutSettings | None = None
    """Seconds in all, or `{connect, first_token, idle, total}`."""
    retry: RetrySettings | None = None
    """Attempts in all, or `{attempts, base, max}`."""
    verify: bool | str = True
    """False, or the path of a CA bundle."""
    proxy: str | None = Field(default=None, repr=False)
    """Proxy URL; without it, the usual environment variables count."""
    features: dict[Feature, Support] = Field(default_factory=dict)
    """Override what the catalogue says a host can do."""
    region: str | None = None
    """Where the account's models run, for `[policy]`. Default: not known."""

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise PydanticCustomError("header", "{name} is no name of a header", {"name": name})
            if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", value):
                # The value is not shown: it may be a key.
                raise PydanticCustomError(
                    "header", "the value of {name} has characters no header may hold", {"name": name}
                )
        return headers

    @model_serializer(mode="wrap")
    def _without_secrets(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dumps show neither headers' values nor what a URL may hold: a password, a key in its query."""
        shown: dict[str, Any] = dump(self)
        shown["headers"] = dict.fromkeys(self.headers, MASK)
        for name, value in shown.items():
            if isinstance(value, str) and "://" in value:
                value = re.sub("://[^/?#]*@", f"://{MASK}@", value)
                shown[name] = re.sub(r"\?.*", f"?{MASK}", value)
        return shown

    @field_validator("base_url", "url", "endpoint", "proxy", check_fields=False)
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                whole = bool(parts.scheme and parts.hostname) and (parts.port is None or parts.port > 0)
            except ValueError:
                whole = False
            if not whole:
                # The value is not shown: a URL may hold a password or a key.
                raise PydanticCustomError("url", "should be a URL such as https://host/path")
        return value

    _live_credential: Any = PrivateAttr(default=None)

    @property
    def live_credential(self) -> Any:
        """A credential object of a vendor's SDK that the application has already; None in what a file configures."""
        return self._live_credential

    def with_live_credential(self, credential: Any) -> Self:
        """A copy that signs with `credential`; see `llamaroute.interop`. It is in no dump."""
        copy = self.model_copy()
        copy._live_credential = credential
        return copy

    def default_timeout(self) -> Mapping[str, float]:
        """Limits (`connect`, `first_token`, `idle`, `total`) this account needs where nothing else is configured."""
        return {}


@dataclass(frozen=True, slots=True)
class Target:
    """A model at a configured account: what a request is sent to.

    `options` are the settings of the account's table, already of the adapter's own settings class.
    """

    provider: str
    kind: str
    model: str
    model_id: str
    options: ProviderSettings
    row: ModelRow
    transport: Literal["http", "local"] = "http"
    """What speaks to it: sockets, or an engine in this process."""
    located: str | None = None
    """Base URL that the host itself gave for this endpoint; see `EndpointLocator`."""

    name: str = field(init=False, repr=False, compare=False)
    """`provider:model`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.provider}:{self.model}")


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as bytes, unsigned: auth is added later, afresh for each attempt."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)  # once signed, they hold secrets, and a URL's query may
    body: bytes | tuple[bytes, ...] = field(default=b"", repr=False)
    """Parts around pre-encoded images are joined by the engine."""
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class WireResponse:
    """An answer as bytes. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class AnswerMeta:
    """Facts about the answer that are not its content; decoders emit it, users see it on the response."""

    id: str = ""
    created: float | None = None
    """Seconds since the epoch."""


@dataclass(slots=True)
class LogprobsReported:
    """More log probabilities."""

    items: tuple[TokenLogprob, ...]


@dataclass(slots=True)
class RawPayload:
    """A payload that carried more than a piece of text, kept for `ChatResponse.raw`."""

    payload: Any


DecoderEvent: TypeAlias = StreamEvent | AnswerMeta | LogprobsReported | RawPayload | Notice
"""What a decoder may emit: the public events, and what only ends up on the response."""


class StreamDecoder(Protocol):
    """Bytes of one streamed body to events. Its result must not depend on where the bytes were cut."""

    def feed(self, data: bytes) -> Iterable[DecoderEvent]:
        """Decode more bytes, lazily: events before a bad frame are yielded, then it raises.

        Raises:
            ProviderError: the host reported an error inside the stream, or the frame is broken.
        """
        ...

    def close(self) -> Iterable[DecoderEvent]:
        """End of the body.

        Raises:
            ProtocolError: no finish was seen, or bytes are left over.
        """
        ...


class Adapter(Protocol):
    """What a host does differently."""

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """The request as bytes.

        Raises:
            CapabilityError: the target's row excludes something the request needs.
        """
        ...

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """The answer of a plain (not streamed) call.

        Raises:
            ProviderError: the body is an error in disguise, or not what the contract says.
        """
        ...

    def stream_decoder(self, request: ChatRequest, target: Target) -> StreamDecoder:
        """A fresh decoder for one streamed answer."""
        ...

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """The error that an answer with status >= 400 means."""
        ...


@runtime_checkable
class EndpointLocator(Protocol):
    """An adapter whose host gives the address of an endpoint in an exchange of its own, once per client and target.

    `locate` gives the request that asks (None: nothing to ask for this target), `parse_location` the base URL. Requests
    are then built for a target that has it as its `located`.
    """

    def locate(self, target: Target) -> WireRequest | None:
        """The request that asks for the address, unsigned."""
        ...

    def parse_location(self, response: WireResponse, target: Target) -> str:
        """The base URL of the endpoint.

        Raises:
            ProviderError: the endpoint is not one that can be called.
        """
        ...


@runtime_checkable
class Prefiller(Protocol):
    """An adapter of hosts that may go on from a last turn of the assistant, rather than answer it."""

    def prefills(self, target: Target) -> bool:
        """Whether this one is known to."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """An adapter whose host can count a request's tokens exactly."""

    def count_request(self, request: ChatRequest, target: Target) -> WireRequest:
        """The request that asks for the count."""
        ...

    def parse_count(self, response: WireResponse, target: Target) -> int:
        """Input tokens."""
        ...


class Auth(Protocol):
    """Signs requests of one account. Shared by all calls of a client, from any thread.

    An attribute `secrets`, a sequence of texts, is taken out of hosts' error messages when they echo it.
    """

    def stale(self, now: float) -> bool:
        """Whether `refresh` has to run before the next `sign`; `now` in seconds since the epoch."""
        ...

    def refresh(self) -> None:
        """Get a fresh token. May block; the only method that may. Single flight."""
        ...

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """The host refused the signed `request` with a 401 or 403: drop what is cached, if that is what was refused.

        True when one more try pays: with fresh credentials, or with those that another call has got meanwhile.
        """
        ...

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with credentials."""
        ...


@dataclass(slots=True, eq=False)
class AuthSettings:
    """What an auth is made from: the account's name, its table, and the environment variables it may read."""

    provider: str
    options: ProviderSettings
    env: Mapping[str, str] = field(repr=False)  # it holds secrets


@dataclass(slots=True, eq=False)
class ProviderSpec:
    """What an entry point of the group `llamaroute.providers` resolves to.

    Attributes:
        name: the kind, as written in the config file.
        adapter: pure, shared by all accounts of the kind.
        auth: makes the account's `Auth`; a string such as `"llamaroute.auth.base:api_key"` is imported on first use.
        settings: the kind's table in the config file, a subclass of `ProviderSettings`.
        catalog: rows of models at this provider, as `llamaroute.catalog.parse` takes them; left out, the library's own
            file for the kind counts, and hosts that serve what you deploy have none.
        from_env: environment -> this kind's table, or None when its variables are not set (zero-config).
        refine: the row as the account's own settings make it (another dialect, an engine's flags); pure, and the
            same when done twice.
        default_model: canonical name used when a call names the account alone and the table has no `model`.
        env: names of the variables `from_env` looks for, for messages.
        transport: `http`, or `local` for an engine in this process.
        extra: the pip extra that this kind needs, if any.
    """

    name: str
    adapter: Adapter
    auth: Callable[[AuthSettings], Auth] | str
    settings: type[ProviderSettings] = ProviderSettings
    catalog: Mapping[str, Any] | None = None
    from_env: Callable[[Mapping[str, str]], dict[str, Any] | None] | None = None
    refine: Callable[[ModelRow, Any], ModelRow] | None = None
    default_model: str | None = None
    env: tuple[str, ...] = ()
    transport: Literal["http", "local"] = "http"
    extra: str | None = None
    spi_version: int = SPI_VERSION
