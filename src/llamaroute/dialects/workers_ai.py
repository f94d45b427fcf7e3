"""Cloudflare's native dialect: `/ai/run/<model>`, an envelope around answers and a stream of `response` pieces.

https://developers.cloudflare.com/ai/models/@cf/meta/llama-4-scout-17b-16e-instruct/
The answer has no id, model or finish reason, and comes in three shapes (docs/hosts.md, "Cloudflare native").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from ..errors import ProtocolError, ProviderError
from ..spi import DecoderEvent, RawPayload, Target, WireRequest, WireResponse
from ..types.dataclass import dataclass
from ..types.events import Finished, TextDelta, ToolCallDelta, ToolCallStarted, UsageReported
from ..types.request import ChatRequest
from ..types.response import ChatResponse
from ..types.tools import JsonSchema
from .accumulate import CallAssembler, fold
from .http_errors import CODES, map_http_error
from .openai_chat import (
    OpenAIDecoder,
    answer_events,
    call_events,
    call_list,
    finish_reason,
    first_choice,
    open_answer,
    text_of,
    usage_in,
    usage_of,
)
from .openai_request import encode_body, parameters

__all__ = ["WorkersAI", "bare_format"]


def bare_format(schema: JsonSchema) -> Mapping[str, Any]:
    """`response_format` with the JSON Schema itself, not OpenAI's `{name, strict, schema}` around it."""
    return {"type": "json_schema", "json_schema": schema.schema}


@dataclass(frozen=True, slots=True)
class WorkersAI:
    """The adapter for `/ai/run`. The fields mean the same as those of `OpenAIChat`."""

    url: Callable[[Target], str]
    headers: Callable[[ChatRequest, Target], Mapping[str, str]]
    adjust: Callable[[dict[str, Any], ChatRequest, Target], None]
    codes: Mapping[str, type[ProviderError]] = field(default_factory=lambda: CODES)

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        body = parameters(request, bare_format)
        if stream:
            body["stream"] = True
        self.adjust(body, request, target)
        headers = {"content-type": "application/json", **self.headers(request, target)}
        return WireRequest("POST", self.url(target), headers, encode_body({}, request, body, target))

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """See `spi.Adapter`."""
        payload = open_answer(response, target, self.map_error)
        result = payload.get("result", payload)  # a gateway may take the envelope off
        if isinstance(result, str | int | float) and not isinstance(result, bool):
            result = {"response": result}
        if not isinstance(result, Mapping):
            raise ProtocolError("the answer's 'result' is neither a table nor text", raw=payload)
        if "choices" in result:  # newer backends answer in OpenAI's shape inside the envelope
            return fold(answer_events(result), raw=payload)
        if not result.keys() & {"response", "tool_calls", "usage"}:
            raise ProtocolError("the answer has neither 'response' nor 'tool_calls'", raw=payload)
        return fold(_native_events(result, request.max_tokens), raw=payload)

    def stream_decoder(self, request: ChatRequest, target: Target) -> WorkersAIDecoder:
        """See `spi.Adapter`."""
        return WorkersAIDecoder(lambda response: self.map_error(response, target), request.max_tokens)

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`."""
        return map_http_error(response, target, self.codes)


def _native_events(result: Mapping[str, Any], max_tokens: int | None) -> Iterator[DecoderEvent]:
    if (text := result.get("response")) not in (None, ""):
        yield TextDelta(text_of(text))
    calls = CallAssembler()
    for position, call in enumerate(call_list(result)):
        yield from call_events(calls, call, position, whole=True)
    yield from calls.done()
    usage = usage_in(result)
    if usage:
        yield UsageReported(usage_of(usage))
    raw = result.get("finish_reason")
    yield _finished(raw if isinstance(raw, str) else None, bool(calls), usage, max_tokens)


def _finished(raw: str | None, called: bool, usage: Mapping[str, Any] | None, max_tokens: int | None) -> Finished:
    """The native shape has no finish reason: an answer as long as it was allowed to be was cut off."""
    if raw:
        return Finished(finish_reason(raw, called), raw)
    if called:
        return Finished("tool_calls")
    full = usage is not None and max_tokens is not None and usage_of(usage).output_tokens >= max_tokens
    return Finished("length" if full else "stop")


class WorkersAIDecoder(OpenAIDecoder):
    """Native pieces, OpenAI chunks, and hybrids of both, as the backend has it.

    Backends that send usage with every piece send it incrementally and the whole at last: the last one counts.
    """

    __slots__ = ("_max_tokens", "_raw_usage")

    text_key = b'"response"'

    def __init__(self, map_error: Callable[[WireResponse], ProviderError], max_tokens: int | None) -> None:
        super().__init__(map_error)
        self._max_tokens = max_tokens
        self._raw_usage: Mapping[str, Any] | None = None

    def _chunk(self, chunk: Mapping[str, Any]) -> Iterator[DecoderEvent]:
        if usage := usage_in(chunk):
            self._raw_usage = usage
        choice = first_choice(chunk)
        worded = called = False
        if choice is not None:
            for event in super()._chunk(chunk):
                worded = worded or type(event) is TextDelta
                called = called or type(event) in (ToolCallStarted, ToolCallDelta)
                yield event
        elif not self._meta or usage or chunk.keys() & {"tool_calls", "finish_reason"}:
            self._meta = True
            yield RawPayload(chunk)
        # A hybrid event says the same thing in both forms: what the one said, the other does not add.
        text = chunk.get("response")
        if text is not None and text != "" and not worded:
            yield TextDelta(text if type(text) is str else text_of(text))
        if not called:
            for position, call in enumerate(call_list(chunk)):
                yield from call_events(self._calls, call, position)
        if usage:
            self._usage = usage_of(usage)
        if isinstance(finish := chunk.get("finish_reason"), str):
            self._finish = finish

    def _end(self) -> Iterator[DecoderEvent]:
        self._over = True
        yield from self._calls.done()
        if self._usage is not None:
            yield UsageReported(self._usage)
        yield _finished(self._finish, bool(self._calls), self._raw_usage, self._max_tokens)
