"""The answer: one schema for all providers.

Published as docs/response.schema.json (`llamaroute config schema --response`) and versioned by `schema_version`.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from .dataclass import dataclass
from .messages import Message
from .parts import Text, ToolCall

__all__ = [
    "SCHEMA_VERSION",
    "Attempt",
    "AttemptError",
    "ChatResponse",
    "Cost",
    "FinishReason",
    "Notice",
    "OutputMode",
    "Phase",
    "ResponsePart",
    "Timing",
    "TokenLogprob",
    "TopLogprob",
    "Usage",
    "response_of",
]

SCHEMA_VERSION = 1

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "interrupted", "unknown"]
OutputMode: TypeAlias = Literal["native", "tool", "prompt"]
Phase: TypeAlias = Literal["queue", "connect", "first_token", "idle", "total"]
"""Where time ran out or a thing broke: waiting for a free place, connecting, waiting for the answer to begin, between
two pieces of it, or over everything."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the host counts them.

    `estimated` is True when the host said nothing and the numbers are the library's own estimate (four bytes of text a
    token). `cached_tokens` are those input tokens that the host took from its prompt cache. `raw` is the host's own
    object.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int | None = None
    estimated: bool = False
    raw: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars, from the catalogue's dated prices; `estimated` when the tokens were."""

    usd: Decimal
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `connect` is 0 on a connection used again; `first_token` counts from the request's start to the first
    piece of the answer (of a plain call: to its headers); `total` covers retries and failover."""

    connect: float = 0.0
    first_token: float | None = None
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class AttemptError:
    """An attempt's error as data: class name, message, and the host's own code if it gave one."""

    type: str
    message: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request sent (or tried to be sent) to one target. `status` is the HTTP status, `retry_after` seconds."""

    target: str
    status: int | None = None
    error: AttemptError | None = None
    phase: Phase | None = None
    retry_after: float | None = None
    seconds: float = 0.0
    usage: Usage | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the caller should know: `code` for programs, `message` for people, `feature` it is about."""

    code: str
    message: str
    feature: str | None = None


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """An alternative the model weighed at one place."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer with its natural-log probability and the best alternatives."""

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


ResponsePart: TypeAlias = Text | ToolCall


class ChatResponse(BaseModel, Generic[T]):
    """A complete answer. Frozen; `model_dump_json()` and `model_validate_json()` round-trip."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), defer_build=True)

    schema_version: int = SCHEMA_VERSION
    """Version of this schema."""
    id: str = ""
    """The host's id of the answer, empty if it gives none."""
    text: str = ""
    """All text of the answer."""
    reasoning: str = ""
    """What a reasoning model behind a generic server thought aloud; Llama 4 leaves it empty."""
    parts: tuple[ResponsePart, ...] = ()
    """Text and tool calls in the order they came."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Tool calls in the order they came."""
    output: T | None = None
    """The validated object, when `output=` was given."""
    output_mode: OutputMode | None = None
    """How `output` was obtained: the host's own JSON schema mode, a forced tool call, or a prompt."""
    finish_reason: FinishReason = "unknown"
    """Why the answer ended."""
    raw_finish_reason: str | None = None
    """The host's own word for it."""
    usage: Usage = Usage()
    """Tokens used."""
    cost: Cost | None = None
    """What the call cost, or None when the catalogue has no price."""
    provider: str = ""
    """Your name of the account that answered."""
    provider_kind: str = ""
    """Its kind: `cloudflare`, `bedrock`, ..."""
    model: str = ""
    """Canonical model name."""
    model_id: str = ""
    """The provider's own id of the model."""
    target: str = ""
    """`provider:model`."""
    request_id: str | None = None
    """The host's id of the request, to quote to its support."""
    created: datetime.datetime | None = None
    """When the host says it answered (UTC), or None."""
    timing: Timing = Timing()
    """Seconds taken."""
    attempts: tuple[Attempt, ...] = ()
    """Every request sent for this answer, failed and abandoned ones too."""
    warnings: tuple[Notice, ...] = ()
    """What was made up, changed or could not be honoured exactly."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Per token of the text, when asked for and the host gives them."""
    raw: Any = None
    """The provider's payload, JSON or text. Of a stream: the payloads that carried more than text."""

    @property
    def message(self) -> Message:
        """This answer as a message; append it to go on with the conversation."""
        return Message("assistant", self.parts)


_BLANK: ChatResponse[Any] = ChatResponse.model_construct()


def response_of(**fields: Any) -> ChatResponse[Any]:
    """A response of values that are known to be right, for adapters and layers.

    `ChatResponse.model_construct` copies the defaults deeply each time, which takes 13 us; a copy of a blank one takes
    2, and nothing in it can be changed.
    """
    return _BLANK.model_copy(update=fields)
