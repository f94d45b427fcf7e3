"""What both kinds of stream share: which events the caller sees, and what the answer comes to. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from .dialects.accumulate import Accumulator
from .errors import InputError, LlamarouteError, OutputValidationError, ProviderError, StreamInterruptedError
from .layers.resume import MOST, Join, can_continue, prefills, resume
from .pipeline.core import Call, Finisher, Outcome, Reply, failed_attempt
from .pipeline.exchange import redact
from .spi import DecoderEvent
from .tokens import estimate_usage
from .types.dataclass import dataclass
from .types.events import (
    Continued,
    FailedOver,
    Finished,
    ReasoningDelta,
    Restarted,
    Retrying,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from .types.parts import Text
from .types.response import Attempt, ChatResponse, FinishReason, Notice

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["DRAIN", "PUBLIC", "Resumption", "StreamState"]

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
        Restarted,
        Continued,
        UsageReported,
        Finished,
    }
)
"""Events the caller sees; the others only end up on the response."""

DRAIN = 0.25
"""Seconds that a finished stream's connection may take to end, so that it can be used again."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a broken stream goes on.

    Attributes:
        call: what is asked.
        row: the attempt that broke off.
        whole: what was said, if it holds.
        mark: how much of the ledger's history has been told.
        first_token: when the answer began.
    """

    call: Call
    row: Attempt
    whole: ChatResponse[Any] | None
    mark: int
    first_token: float | None


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
        self.text_only = False
        """The caller sees nothing but text, and could not be told that it is void."""
        self._before: ChatResponse[Any] | None = None
        """What the answer said before it broke off, and holds."""
        self._join: Join | None = None
        self._resumed = 0

    def opening(self) -> Iterator[DecoderEvent]:
        """The stream has committed: what is to be said first."""
        return self._opening(0)

    def _opening(self, mark: int) -> Iterator[DecoderEvent]:
        reply = self.reply
        first: list[DecoderEvent] = [
            *self.call.ledger.history[mark:],
            Started(reply.target.name, reply.target.model_id),
        ]
        return chain(first, self.heard(chain(reply.events, reply.rest or ())))

    def heard(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """Events as the caller hears them."""
        return iter(events) if self._join is None else self._join.convert(events)

    # -- a stream that breaks, and goes on -----------------------------------------------------------------------------

    def resumption(self, error: ProviderError) -> Resumption | None:
        """How the stream goes on after `error`; None when it does not. Finishers have run: the ledger is complete."""
        call, answer = self.call, self.answer
        if call.on_break == "fail" or self._resumed >= MOST or answer.has_calls:
            return None
        text = self._text()
        goes_on = can_continue(call, text)
        if not goes_on and self.text_only and text:
            return None
        whole = self._whole()
        said = text if goes_on else ""
        name = self.reply.target.name
        resumed = resume(call, error, name, said, estimate_usage(call.request, whole).output_tokens)
        if resumed is None:
            return None
        ledger = call.ledger
        row = ledger.attempts[-1] if ledger.attempts else failed_attempt(name, error)
        return Resumption(resumed, row, whole if goes_on else None, len(ledger.history), ledger.first_token)

    def go_on(self, resumption: Resumption, reply: Reply) -> Iterator[DecoderEvent]:
        """The stream goes on with `reply`: what is to be said first."""
        self._resumed += 1
        ledger, row, target = self.call.ledger, resumption.row, reply.target.name
        ledger.broken.append(row)
        event: Restarted | Continued
        if resumption.whole is None:
            event = Restarted(row, target)
            self._before = self._join = None
            notice = Notice("stream_restarted", f"the answer of {row.target} broke off; {target} began anew", "stream")
        else:
            event = Continued(row, target, self.answer.open_calls)
            parts = tuple(part for part in resumption.whole.parts if isinstance(part, Text))
            self._before = resumption.whole.model_copy(update={"parts": parts, "tool_calls": ()})
            candidates = (one for one in resumption.call.candidates if one.target.name == target)
            self._join = None if any(prefills(one) for one in candidates) else Join(self._before.text)
            ledger.first_token = resumption.first_token
            notice = Notice("stream_continued", f"the answer of {row.target} broke off; {target} went on", "stream")
        ledger.notice(notice)
        self.answer = Accumulator()
        self.reply = reply
        return chain([event], self._opening(resumption.mark))

    def _text(self) -> str:
        return self.answer.text if self._before is None else self._before.text + self.answer.text

    def _whole(self, finish_reason: FinishReason | None = None) -> ChatResponse[Any]:
        """The answer with what it said before it broke off."""
        response, before = self.answer.response(finish_reason=finish_reason), self._before
        if before is None:
            return response
        parts = response.parts
        if parts and isinstance(parts[0], Text):
            parts = (Text(before.text + parts[0].text), *parts[1:])
        else:
            parts = (Text(before.text), *parts)
        return response.model_copy(
            update={
                "text": before.text + response.text,
                "reasoning": before.reasoning + response.reasoning,
                "parts": parts,
                "warnings": (*before.warnings, *response.warnings),
                "logprobs": None if before.logprobs is None else (*before.logprobs, *(response.logprobs or ())),
                "raw": [*before.raw, *response.raw],
            }
        )

    # -- the end ------------------------------------------------------------------------------------------------------

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
        response = self.runtime.finish(self.call, self.reply.target, self._whole(reason), self.reply.headers)
        if self.output is not None and not interrupted and not response.tool_calls:
            try:
                value = self.output.read(response)
            except OutputValidationError as error:
                self.failure = error
            else:
                response = response.model_copy(update={"output": value, "output_mode": self.reply.output_mode})
        self.response = response
        self.runtime.count(self.call, response)

    def broken(self, error: ProviderError, then: LlamarouteError | None = None) -> StreamInterruptedError:
        """The stream broke after the answer had begun: the error with everything that came. `then` is why it could not
        go on."""
        self.settle(interrupted=True)
        message = f"the stream broke off after it had begun: {error.args[0] if error.args else error}"
        if then is not None:
            message += f"; it could not go on: {then.args[0] if then.args else then}"
        broken = StreamInterruptedError(
            message,
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
