"""What both kinds of stream share: which events the caller sees, and what the answer comes to. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from .dialects.accumulate import Accumulator
from .errors import InputError, LlamarouteError, OutputValidationError, ProviderError, StreamInterruptedError
from .pipeline.core import Call, Finisher, Outcome, Reply
from .pipeline.exchange import redact
from .spi import DecoderEvent
from .tokens import estimate_usage
from .types.events import (
    FailedOver,
    Finished,
    ReasoningDelta,
    Retrying,
    Started,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from .types.response import ChatResponse, FinishReason

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["DRAIN", "PUBLIC", "StreamState"]

PUBLIC = frozenset(
    {
        Started,
        TextDelta,
        ReasoningDelta,
        ToolCallStarted,
        ToolCallDelta,
        ToolCallDone,
        Retrying,
        FailedOver,
        UsageReported,
        Finished,
    }
)
"""Events the caller sees; the others only end up on the response."""

DRAIN = 0.25
"""Seconds that a finished stream's connection may take to end, so that it can be used again."""


class StreamState:
    """One stream's answer so far."""

    def __init__(self, runtime: Runtime, call: Call, reply: Reply) -> None:
        self.runtime = runtime
        self.call = call
        self.output = call.output
        self.answer = Accumulator()
        self.reply = reply
        self.response: ChatResponse[Any] | None = None
        self.failure: LlamarouteError | None = None
        self.ended = False

    def opening(self) -> Iterator[DecoderEvent]:
        """The stream has committed: what is to be said first."""
        reply = self.reply
        first: list[DecoderEvent] = [*self.call.ledger.history, Started(reply.target.name, reply.target.model_id)]
        return chain(first, reply.events, reply.rest or ())

    def finishers(self) -> Iterator[Finisher]:
        """What layers left to be done at the end, last in first out, each handed out once."""
        while self.reply.finishers:
            yield self.reply.finishers.pop()

    def outcome(self, error: BaseException | None, *, interrupted: bool) -> Outcome:
        """How the stream ended. From here an error is written down: what it quotes of secrets is taken out first."""
        if isinstance(error, ProviderError):
            for candidate in self.call.candidates:
                if candidate.target.name == self.reply.target.name:
                    redact(error, candidate, self.call.ledger.signed)
        usage = self.answer.usage
        came = None if usage is not None else estimate_usage(self.call.request, self.answer.response()).output_tokens
        return Outcome(usage, error, interrupted, came)

    def settle(self, *, interrupted: bool) -> None:
        """Make the response of what came. Finishers have run: the ledger is complete."""
        reason: FinishReason | None = "interrupted" if interrupted else None
        response = self.runtime.finish(
            self.call, self.reply.target, self.answer.response(finish_reason=reason), self.reply.headers
        )
        if self.output is not None and not interrupted and not response.tool_calls:
            try:
                value = self.output.read(response)
            except OutputValidationError as error:
                self.failure = error
            else:
                response = response.model_copy(update={"output": value, "output_mode": self.reply.output_mode})
        self.response = response
        self.runtime.count(self.call, response)

    def broken(self, error: ProviderError) -> StreamInterruptedError:
        """The stream broke after the answer had begun: the error with everything that came."""
        self.settle(interrupted=True)
        broken = StreamInterruptedError(
            f"the stream broke off after it had begun: {error.args[0] if error.args else error}",
            provider=self.reply.target.provider,
            target=self.reply.target.name,
            model=self.reply.target.model,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            retry_after=error.retry_after,
            phase=error.phase,
            raw=error.raw,
        )
        broken.partial = self.response
        broken.attempts = tuple(self.call.ledger.attempts)
        self.failure = broken
        return broken

    def result(self) -> ChatResponse[Any]:
        """The complete answer, or the partial one of a stream that was left or interrupted.

        Raises:
            InputError: the stream has not ended.
            OutputValidationError: the answer does not fit `output=`.
            StreamInterruptedError: the stream broke.
        """
        if self.failure is not None:
            raise self.failure
        if self.response is None:
            raise InputError("the stream has not ended: read it to its end, or interrupt it, before .response")
        return self.response

    def partial(self) -> Any:
        """The structured output so far, as plain JSON data."""
        return None if self.output is None else self.output.partial(self.answer.text)


def public(event: DecoderEvent) -> StreamEvent:
    """For type checkers: an event of `PUBLIC`."""
    return event  # type: ignore[return-value]
