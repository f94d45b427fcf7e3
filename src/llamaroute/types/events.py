"""What a stream says, event by event.

    Started -> (TextDelta | ReasoningDelta | ToolCallStarted ToolCallDelta* ToolCallDone)* -> UsageReported? -> Finished

`Retrying` and `FailedOver` tell of attempts that came to nothing before the answer began. They are delivered right
after the commit point, in order, before `Started`.

A stream that breaks after it has begun may go on, where its route says so (`on_break`; docs/routing.md): then comes
`Restarted` or `Continued`, and a `Started` of its own.

Events are plain slotted values; treat them as read-only. They are not frozen because freezing doubles the cost of
making one, and a stream makes one per token.
"""

from __future__ import annotations

from typing import TypeAlias

from .dataclass import dataclass
from .messages import Message
from .parts import Part, Text, ToolCall
from .response import Attempt, FinishReason, Usage

__all__ = [
    "Continued",
    "FailedOver",
    "Finished",
    "ReasoningDelta",
    "Restarted",
    "Retrying",
    "RunEvent",
    "Started",
    "StreamEvent",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallDone",
    "ToolCallStarted",
    "ToolResult",
    "UsageReported",
]


@dataclass(slots=True)
class Started:
    """The answer begins; `target` gives it, under its own id `model_id`."""

    target: str
    model_id: str


@dataclass(slots=True)
class TextDelta:
    """More text."""

    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """More of a model's reasoning, where a server sends it apart (`reasoning_content`). Llama 4 has none."""

    text: str


@dataclass(slots=True)
class ToolCallStarted:
    """The model begins to call a tool; `index` counts the calls of this answer from 0."""

    index: int
    id: str
    name: str


@dataclass(slots=True)
class ToolCallDelta:
    """More of a call's arguments, as the JSON text the model writes."""

    index: int
    arguments: str


@dataclass(slots=True)
class ToolCallDone:
    """A call is complete."""

    index: int
    call: ToolCall


@dataclass(slots=True)
class Retrying:
    """An attempt failed and the same target is asked again."""

    attempt: Attempt


@dataclass(slots=True)
class FailedOver:
    """A target was given up after `attempt`; `target` is asked next."""

    attempt: Attempt
    target: str


@dataclass(slots=True)
class Restarted:
    """The answer broke off in `attempt`, and `target` begins it anew: all that was said before is void."""

    attempt: Attempt
    target: str


@dataclass(slots=True)
class Continued:
    """The answer broke off in `attempt`, and `target` goes on with it: the text that was said holds.

    `calls` are the indexes of tool calls that were not complete. They are void, and their indexes are used again.
    """

    attempt: Attempt
    target: str
    calls: tuple[int, ...] = ()


@dataclass(slots=True)
class UsageReported:
    """Tokens used, as the host counts them; when it comes more than once, the last one counts.

    After `Restarted` or `Continued`, these are the new attempt's alone; the response has the sum.
    """

    usage: Usage


@dataclass(slots=True)
class Finished:
    """The answer is complete; `raw_reason` is the host's own word for `reason`."""

    reason: FinishReason
    raw_reason: str | None = None


StreamEvent: TypeAlias = (
    Started
    | TextDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallDone
    | Retrying
    | FailedOver
    | Restarted
    | Continued
    | UsageReported
    | Finished
)


@dataclass(slots=True)
class ToolResult:
    """What a tool gave back, or why it did not: an event of `run_stream`, and a step of `RunResult.steps`.

    `call` is the call as it was carried out: its arguments fit the tool's schema, unless `error` says how they do not.
    `content` is what the model is told. With `error` set, nothing was called, or the tool raised, or took too long.
    """

    call: ToolCall
    content: tuple[Part, ...]
    error: str | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """All text of the content."""
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def message(self) -> Message:
        """The result as a message."""
        return Message("tool", self.content, tool_call_id=self.call.id, name=self.call.name)


RunEvent: TypeAlias = StreamEvent | ToolResult
"""What `run_stream` gives: each turn's events, and the tools' results between the turns."""
