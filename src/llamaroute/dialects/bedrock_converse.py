"""Bedrock's Converse and ConverseStream: the wire of every model there, Llama among them.

https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import to_json

from ..errors import ProtocolError, ProviderError
from ..spi import DecoderEvent, RawPayload, Target, WireResponse
from ..types.events import Finished, ReasoningDelta, TextDelta, UsageReported
from ..types.response import ChatResponse, FinishReason, Notice, Usage
from ..types.tools import canonical_json
from ..wire.eventstream import EventStreamDecoder, Message
from .accumulate import CallAssembler, fold
from .json_body import loads

__all__ = [
    "EXCEPTIONS",
    "STOP_REASONS",
    "ConverseDecoder",
    "answer_events",
    "exception_name",
    "parse_answer",
    "usage_of",
]

STOP_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, `stopReason`"""

EXCEPTIONS: Mapping[str, int] = {
    "ValidationException": 400,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ModelStreamErrorException": 424,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}
"""The status that an exception inside a stream would have had before it.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html"""

MAX_NUMBER = 1e15
"""Larger numbers are no counts but nonsense."""

MAX_NAMED = 64 << 10
"""Bytes of an error's body in which its name is looked for."""

MapError = Callable[[WireResponse, Target], ProviderError]


def exception_name(response: WireResponse) -> str:
    """The exception that an error answer names, or an empty text.

    `ValidationException`, from the header's `ValidationException:http://internal.amazon.com/...` (recorded), or from
    the body's `com.amazon.coral.service#ValidationException` (https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html).
    """
    name: Any = response.headers.get("x-amzn-errortype")
    if not name and b"__type" in response.body[:MAX_NAMED]:
        try:
            name = _table(loads(response.body, "the error")).get("__type")
        except ProtocolError:
            name = None
    return name.partition(":")[0].rpartition("#")[2].strip() if isinstance(name, str) else ""


def parse_answer(response: WireResponse, target: Target, map_error: MapError) -> ChatResponse[Any]:
    """The answer of a plain call.

    Raises:
        ProviderError: the body is an error, or no answer of Converse.
    """
    payload = loads(response.body, "the answer")
    if not isinstance(payload, Mapping):
        raise ProtocolError(f"the answer is not a JSON object but {type(payload).__name__}", raw=payload)
    if not isinstance(payload.get("output"), Mapping):
        if any(key in payload for key in ("message", "Message", "__type")):
            raise map_error(WireResponse(500, response.headers, response.body), target)
        raise ProtocolError("the answer has no 'output'; is this the URL of a Bedrock runtime?", raw=payload)
    return fold(answer_events(payload), raw=payload)


def answer_events(payload: Mapping[str, Any]) -> Iterator[DecoderEvent]:
    """The events of a plain answer."""
    calls = CallAssembler()
    content = _table(_table(payload.get("output")).get("message")).get("content")
    for position, block in enumerate(content if isinstance(content, list) else ()):
        block = _table(block)
        if text := _text(block.get("text")):
            yield TextDelta(text)
        reasoning = _table(_table(block.get("reasoningContent")).get("reasoningText"))
        if text := _text(reasoning.get("text")):
            yield ReasoningDelta(text)
        if use := _table(block.get("toolUse")):
            given = use.get("input")
            arguments = given if isinstance(given, str) else canonical_json({} if given is None else given)
            yield from calls.piece(position, _text(use.get("toolUseId")), _text(use.get("name")), arguments)
    yield from calls.done()
    if usage := _table(payload.get("usage")):
        yield UsageReported(usage_of(usage))
    yield from _finish(_text(payload.get("stopReason")), bool(calls))


class ConverseDecoder:
    """Decodes a ConverseStream.

    An answer is whole when both `messageStop` and `metadata` have come: AWS's own readers take a stream that was cut
    off for one that has ended.
    """

    __slots__ = ("_calls", "_frames", "_map_error", "_over", "_stop", "_target", "_usage")

    def __init__(self, target: Target, map_error: MapError) -> None:
        self._frames = EventStreamDecoder()
        self._target = target
        self._map_error = map_error
        self._calls = CallAssembler()
        self._stop: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._over = False

    def feed(self, data: bytes) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        return self._events(self._frames.feed(data))

    def close(self) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        try:
            self._frames.close()
        except ProtocolError as error:
            error.retryable = True
            raise
        if not self._over:
            missing = "messageStop" if self._stop is None else "metadata"
            raise ProtocolError(f"the stream ended without {missing}: it was cut off", retryable=True)
        return iter(())

    def _events(self, frames: Iterable[Message]) -> Iterator[DecoderEvent]:
        for frame in frames:
            headers = frame.headers
            kind = headers.get(":message-type")
            if kind == "event" and headers.get(":event-type") == "contentBlockDelta" and not self._over:
                event = _object(frame.payload, "contentBlockDelta")
                # The common case first: one piece of text and nothing else.
                delta = event.get("delta")
                if type(delta) is dict and type(text := delta.get("text")) is str and text:
                    yield TextDelta(text)
                else:
                    yield from self._delta(event)
                continue
            if kind == "exception" or kind == "error":
                raise self._error(frame)
            if kind == "event" and not self._over:
                yield from self._event(str(headers.get(":event-type")), frame.payload)

    def _event(self, name: str, payload: bytes) -> Iterator[DecoderEvent]:
        if name == "contentBlockStart":
            event = _object(payload, name)
            if use := _table(_table(event.get("start")).get("toolUse")):
                index = _index(event)
                yield from self._calls.piece(index, _text(use.get("toolUseId")), _text(use.get("name")), None)
        elif name == "messageStop":
            event = _object(payload, name)
            yield RawPayload({name: event})
            self._stop = _text(event.get("stopReason")) or ""
        elif name == "metadata":
            event = _object(payload, name)
            yield RawPayload({name: event})
            self._usage = _table(event.get("usage"))
        else:  # messageStart and contentBlockStop say nothing new; others are of a later day
            return
        if self._stop is not None and self._usage is not None:
            self._over = True
            yield from self._calls.done()
            if self._usage:
                yield UsageReported(usage_of(self._usage))
            yield from _finish(self._stop or None, bool(self._calls))

    def _delta(self, event: Mapping[str, Any]) -> Iterator[DecoderEvent]:
        delta = _table(event.get("delta"))
        if text := _text(delta.get("text")):
            yield TextDelta(text)
        elif use := _table(delta.get("toolUse")):
            yield from self._calls.piece(_index(event), None, None, _text(use.get("input")))
        elif text := _text(_table(delta.get("reasoningContent")).get("text")):
            yield ReasoningDelta(text)

    def _error(self, frame: Message) -> ProviderError:
        """An exception that the model's service defines, or an error of what stands before it."""
        if frame.headers.get(":message-type") == "exception":
            name = str(frame.headers.get(":exception-type"))
            body = frame.payload
        else:
            name = str(frame.headers.get(":error-code"))
            body = to_json({"message": str(frame.headers.get(":error-message") or "")})
        name = name[:1].upper() + name[1:]  # as it is called before a stream
        status = EXCEPTIONS.get(name, 500)
        return self._map_error(WireResponse(status, {"x-amzn-errortype": name}, body), self._target)


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Tokens. `inputTokens` leaves out those read from and written to a prompt cache.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    cached = raw.get("cacheReadInputTokens")
    tokens_in = _count(raw.get("inputTokens")) + _count(cached) + _count(raw.get("cacheWriteInputTokens"))
    tokens_out = _count(raw.get("outputTokens"))
    total = _count(raw.get("totalTokens")) or tokens_in + tokens_out
    return Usage(tokens_in, tokens_out, total, _count(cached) if cached is not None else None, raw=dict(raw))


def _finish(raw: str | None, called: bool) -> Iterator[DecoderEvent]:
    if raw in ("malformed_model_output", "malformed_tool_use"):
        yield Notice("malformed_answer", f"the host says that what the model wrote was malformed ({raw})", "text")
    reason = STOP_REASONS.get(raw, "unknown") if raw else "unknown"
    yield Finished("tool_calls" if called and reason == "stop" else reason, raw)


def _object(payload: bytes, name: str) -> Mapping[str, Any]:
    event = loads(payload, f"the stream's {name}")
    if not isinstance(event, dict):  # what JSON has; to ask for a `Mapping` takes ten times as long
        raise ProtocolError(f"the stream's {name} is not a JSON object but {type(event).__name__}", raw=event)
    return event


# What a host sends is looked at before it is believed: any of these may be of any type.


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _index(event: Mapping[str, Any]) -> int | None:
    """The place of a block in the answer, which its pieces are known by."""
    index = event.get("contentBlockIndex")
    return index if isinstance(index, int) else None


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_NUMBER:
        return 0
    return int(value)
