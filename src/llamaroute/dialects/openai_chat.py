"""The OpenAI chat-completions dialect: the wire of most hosts.

A host configures it with fields and functions; see `providers/openai_compatible.py` for the plainest use.
https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from ..errors import ProtocolError, ProviderError
from ..spi import AnswerMeta, DecoderEvent, LogprobsReported, RawPayload, Target, WireRequest, WireResponse
from ..types.dataclass import dataclass
from ..types.events import Finished, ReasoningDelta, TextDelta, UsageReported
from ..types.parts import Text
from ..types.request import ChatRequest
from ..types.response import ChatResponse, FinishReason, Notice, TokenLogprob, TopLogprob, Usage, response_of
from ..types.tools import canonical_json
from ..wire.sse import SSEDecoder
from .accumulate import CallAssembler, fold, moment
from .content_filter import filter_notice, prompt_filters, stopped_by
from .http_errors import CODES, map_http_error
from .json_body import loads
from .openai_request import SchemaFormat, encode_body, openai_format, parameters

__all__ = ["FINISH_REASONS", "OpenAIChat", "finish_reason", "text_of", "usage_of"]

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos_token": "stop",  # TGI 2
    "stop_sequence": "stop",  # TGI
    "end_turn": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Cloudflare
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",  # Vertex AI with Llama Guard
}

MOULDS = 64
"""Moulds that are made for one stream: where chunks differ in more than their text, looking for more is in vain."""

MAX_NUMBER = 1e15
"""Larger numbers are no counts, no times and no log probabilities but nonsense."""

_JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json", "accept": "application/json"}
_STREAM_HEADERS: Mapping[str, str] = {"content-type": "application/json", "accept": "text/event-stream"}


def _no_headers(request: ChatRequest, target: Target) -> Mapping[str, str]:
    return {}


def _never(target: Target) -> bool:
    return False


def _always(target: Target) -> bool:
    return True


def _as_it_is(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    pass


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """An adapter for a host of this dialect.

    Args:
        url: the full URL of a target's chat completions.
        schema_format: how the host wants a JSON schema in `response_format`.
        headers: what the host wants beside the usual headers.
        adjust: the last word over the parameters (the body without model and messages), before the caller's `extra`.
        content_or_calls: whether the host takes either text or tool calls in an assistant's turn, not both.
        codes: error codes that say more than the status.
        stream_usage: ask for usage at the end of streams (`stream_options.include_usage`).
        names_model: whether the body says which model is meant; some hosts have it in the URL alone.
    """

    url: Callable[[Target], str]
    schema_format: Callable[[Target], SchemaFormat] = field(default=lambda target: openai_format)
    headers: Callable[[ChatRequest, Target], Mapping[str, str]] = _no_headers
    adjust: Callable[[dict[str, Any], ChatRequest, Target], None] = _as_it_is
    content_or_calls: Callable[[Target], bool] = _never
    codes: Mapping[str, type[ProviderError]] = field(default_factory=lambda: CODES)
    stream_usage: bool = True
    names_model: Callable[[Target], bool] = _always

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        body = parameters(request, self.schema_format(target))
        if stream:
            body["stream"] = True
            if self.stream_usage:
                body["stream_options"] = {"include_usage": True}
        self.adjust(body, request, target)
        headers = {**(_STREAM_HEADERS if stream else _JSON_HEADERS), **self.headers(request, target)}
        either = self.content_or_calls(target)
        head = {"model": target.model_id} if self.names_model(target) else {}
        encoded = encode_body(head, request, body, target, content_or_calls=either)
        lost = either and any(message.tool_calls and message.text for message in request.messages)
        message = f"{target.name} takes no text beside tool calls: the text of earlier turns with calls was left out"
        warnings = (Notice("text_beside_calls", message, "tools"),) if lost else ()
        return WireRequest("POST", self.url(target), headers, encoded, warnings)

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """See `spi.Adapter`."""
        payload = open_answer(response, target, self.map_error)
        if not isinstance(payload.get("choices"), list):
            raise ProtocolError("the answer has no 'choices'; is this the URL of a chat-completions API?", raw=payload)
        return text_answer(payload) or fold(answer_events(payload), raw=payload)

    def stream_decoder(self, request: ChatRequest, target: Target) -> OpenAIDecoder:
        """See `spi.Adapter`."""
        return OpenAIDecoder(lambda response: self.map_error(response, target))

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`."""
        return map_http_error(response, target, self.codes)


class OpenAIDecoder:
    """Decodes a stream of `chat.completion.chunk`s.

    `Finished` is held back until the end, because usage comes after the chunk that carries the finish reason.
    """

    __slots__ = (
        "_calls",
        "_filtered",
        "_finish",
        "_map_error",
        "_meta",
        "_mould",
        "_moulds",
        "_over",
        "_sse",
        "_usage",
    )

    text_key = b'"content"'
    """Under what a chunk has its text."""

    def __init__(self, map_error: Callable[[WireResponse], ProviderError]) -> None:
        self._sse = SSEDecoder()
        self._map_error = map_error
        self._calls = CallAssembler()
        self._meta = False
        self._filtered: list[str] = []
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._over = False
        self._mould: _Mould | None = None
        self._moulds = MOULDS

    def feed(self, data: bytes) -> Iterable[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        event = self._sse.single(data)
        if event is None:
            return self._events(self._sse.feed(data))
        if self._mould is not None and not self._over and (text := self._mould.text(event)):
            return (TextDelta(text),)
        return self._events(((b"", event),))

    def close(self) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        yield from self._events(self._sse.close())
        if self._over:
            return
        if self._finish is None:
            raise ProtocolError("the stream ended without a finish reason: it was cut off", retryable=True)
        yield from self._end()

    def _events(self, events: Iterable[tuple[bytes, bytes]]) -> Iterator[DecoderEvent]:
        for name, data in events:
            if self._over:
                return
            if self._mould is not None and name != b"error" and (text := self._mould.text(data)):
                yield TextDelta(text)
                continue
            if data.startswith(b"[DONE]"):
                yield from self._end()
                return
            if not data or data.isspace():
                continue
            chunk = _unwrapped(loads(data, "an event of the stream"))
            if not isinstance(chunk, dict):
                if name == b"error":
                    raise self._map_error(WireResponse(500, {}, data))
                continue
            if is_error(chunk) or (name == b"error" and "choices" not in chunk):
                raise self._map_error(WireResponse(error_status(chunk), {}, data))
            told = 0
            for event in self._chunk(chunk):
                told += 1
                yield event
            if told == 1 and type(event) is TextDelta and self._finish is None and self._usage is None and self._moulds:
                self._moulds -= 1
                self._mould = _Mould.of(data, self.text_key, event.text)

    def _chunk(self, chunk: Mapping[str, Any]) -> Iterator[DecoderEvent]:
        choice = first_choice(chunk)
        delta = _table(choice.get("delta") or choice.get("message")) if choice else None
        # The common case first: one piece of text and nothing else.
        content = delta.get("content") if delta else None
        if type(content) is str:
            if content:
                yield TextDelta(content)
        elif content is not None:
            yield from content_events(content)
        filtered: tuple[str, ...] = ()
        if choice is None:
            filtered = tuple(prompt_filters(chunk))
        elif results := choice.get("content_filter_results"):
            filtered = tuple(stopped_by(results))
        if filtered:
            self._filtered += filtered
        if not self._meta and chunk.get("id"):  # a gateway's ping may come first
            self._meta = True
            yield AnswerMeta(str(chunk.get("id") or ""), _seconds(chunk.get("created")))
            yield RawPayload(chunk)
        elif usage_in(chunk) or not choice or choice.get("finish_reason") or filtered:
            yield RawPayload(chunk)
        if delta:
            yield from self._more(delta)
        if choice:
            if logprobs := choice.get("logprobs"):
                yield from logprob_events(logprobs)
            if isinstance(finish := choice.get("finish_reason"), str) and finish:
                self._finish = finish
        if usage := usage_in(chunk):
            self._usage = usage_of(usage)

    def _more(self, delta: Mapping[str, Any]) -> Iterator[DecoderEvent]:
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            if isinstance(reasoning, str):
                yield ReasoningDelta(reasoning)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            yield TextDelta(refusal)
        for position, call in enumerate(call_list(delta)):
            yield from call_events(self._calls, call, position)

    def _end(self) -> Iterator[DecoderEvent]:
        self._over = True
        yield from self._calls.done()
        if self._filtered:
            yield filter_notice(self._filtered)
        if self._usage is not None:
            yield UsageReported(self._usage)
        yield Finished(finish_reason(self._finish, bool(self._calls)), self._finish)


class _Mould:
    """What stands around the text in a chunk that says nothing but a piece of text.

    A host's chunks differ in that text alone, for hundreds in a row. Once one of them was read as JSON, the next that
    begins and ends with the same bytes says the same but for the text, and need not be: 0.4 us instead of 2.1.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    @classmethod
    def of(cls, chunk: bytes, key: bytes, text: str) -> _Mould | None:
        """The mould of a chunk that was read as `text`; None where its bytes do not show for certain where that is."""
        before, found, value = chunk.partition(key)
        quoted = b'"' + text.encode("utf-8", "replace") + b'"'
        value, colon, after = value.partition(quoted)
        if not found or not colon or value.strip() != b":" or b"\\" in chunk:
            return None
        if key in after or chunk.count(quoted) > 1:
            return None
        return cls(before + found + value + b'"', b'"' + after)

    def text(self, chunk: bytes) -> str | None:
        """The text of a chunk of this mould; None where it is of another, or its text needs a JSON reader."""
        if not chunk.startswith(self._before) or not chunk.endswith(self._after):
            return None
        text = chunk[len(self._before) : -len(self._after)]
        if b'"' in text or b"\\" in text:
            return None
        try:
            return text.decode()
        except UnicodeDecodeError:
            return None


def text_answer(payload: Mapping[str, Any]) -> ChatResponse[Any] | None:
    """The answer that is one text and nothing else, as most are; None for all others.

    The same as `answer_events` folded, in 4 us instead of 8.
    """
    choice = first_choice(payload)
    message = choice.get("message") if choice is not None else None
    if choice is None or type(message) is not dict or "prompt_filter_results" in payload:
        return None
    content = message.get("content")
    if type(content) is not str or not content:
        return None
    for name in _BESIDE_TEXT:
        if message.get(name):
            return None
    if choice.get("logprobs") or choice.get("content_filter_results"):
        return None
    finish = choice.get("finish_reason")
    if not isinstance(finish, str):
        finish = None
    usage = usage_in(payload)
    return response_of(
        id=str(payload.get("id") or ""),
        text=content,
        reasoning="",
        parts=(Text(content),),
        tool_calls=(),
        finish_reason=finish_reason(finish, False),
        raw_finish_reason=finish,
        usage=usage_of(usage) if usage else Usage(estimated=True),
        created=moment(_seconds(payload.get("created"))),
        warnings=(),
        logprobs=None,
        raw=payload,
    )


_BESIDE_TEXT = ("tool_calls", "function_call", "reasoning_content", "reasoning")
"""What a message may hold beside its text."""


def answer_events(payload: Mapping[str, Any]) -> Iterator[DecoderEvent]:
    """The events of a plain `chat.completion`."""
    yield AnswerMeta(str(payload.get("id") or ""), _seconds(payload.get("created")))
    choice = first_choice(payload)
    finish: str | None = None
    calls = CallAssembler()
    if choice is not None:
        message = _table(choice.get("message") or choice.get("delta"))
        if reasoning := message.get("reasoning_content") or message.get("reasoning"):
            if isinstance(reasoning, str):
                yield ReasoningDelta(reasoning)
        if (content := message.get("content")) not in (None, ""):
            yield from content_events(content)
        elif isinstance(refusal := message.get("refusal"), str) and refusal:
            yield TextDelta(refusal)
        for position, call in enumerate(call_list(message)):
            yield from call_events(calls, call, position, whole=True)
        if logprobs := choice.get("logprobs"):
            yield from logprob_events(logprobs)
        if isinstance(reason := choice.get("finish_reason"), str):
            finish = reason
    else:
        yield Notice("empty_answer", "the host answered with no choice at all", "text")
    yield from calls.done()
    results = choice.get("content_filter_results") if choice is not None else None
    if results or "prompt_filter_results" in payload:
        if filtered := [*prompt_filters(payload), *stopped_by(results)]:
            yield filter_notice(filtered)
    if usage := usage_in(payload):
        yield UsageReported(usage_of(usage))
    yield Finished(finish_reason(finish, bool(calls)), finish)


def call_list(message: Mapping[str, Any]) -> list[Any]:
    """The tool calls of a message or delta.

    TGI 2 sends a single one without a list around it. Old servers know `function_call` alone; llama-cpp-python says the
    same call both ways, so that one counts only where the other is missing.
    """
    calls = message.get("tool_calls")
    if calls:
        return [calls] if isinstance(calls, dict) else calls if isinstance(calls, list) else []
    function = message.get("function_call")
    return [{"index": 0, "function": function}] if isinstance(function, dict) else []


def call_events(calls: CallAssembler, call: Any, position: int, *, whole: bool = False) -> Iterator[DecoderEvent]:
    """A piece of a tool call, of OpenAI's form or flat `{"name", "arguments"}` (Cloudflare)."""
    if not isinstance(call, dict):
        return
    function = call.get("function")
    source = function if isinstance(function, dict) else call
    arguments = source.get("arguments")
    if arguments is None:
        arguments = source.get("parameters")
    complete = arguments is not None and not isinstance(arguments, str)
    if complete:
        arguments = canonical_json(arguments)
    index = call.get("index")
    # Whole calls are told apart by their place: some servers number all of them 0.
    key: object = position if whole or not isinstance(index, int | str) else index
    call_id, name = call.get("id"), source.get("name")
    if not whole and index is None and not call_id and name and (source is call or complete):
        key = object()  # a call that is whole by itself and has nothing to be known by
    elif not whole and index is None and not call_id and name:
        # Vertex AI sends neither id nor index: a name after a whole call begins the next one.
        calls.close(key, None if arguments else name)
    yield from calls.piece(
        key, str(call_id) if call_id else None, name if isinstance(name, str) and name else None, arguments
    )


def finish_reason(raw: str | None, called: bool) -> FinishReason:
    """The reason in our words. An answer with tool calls finishes with `tool_calls`, also where a host says `stop`."""
    if called and raw in (None, "stop", "eos_token", "stop_sequence", "tool_calls", "function_call"):
        return "tool_calls"
    return FINISH_REASONS.get(raw, "unknown") if raw else "unknown"


def usage_in(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage object, if it says anything; Workers AI sends null for numbers it does not have. Groq puts it under
    `x_groq` in streams."""
    usage = chunk.get("usage")
    if not usage and isinstance(groq := chunk.get("x_groq"), dict):
        usage = groq.get("usage")
    if usage and isinstance(usage, dict):
        for name in _COUNTS:
            if usage.get(name) is not None:
                return usage
    return None


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Any number may be null or missing."""
    details = raw.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else raw.get("cached_tokens")
    tokens_in, tokens_out = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    return Usage(
        tokens_in,
        tokens_out,
        _count(raw.get("total_tokens")) or tokens_in + tokens_out,
        cached if isinstance(cached, int) else None,
        raw=dict(raw),
    )


def text_of(content: Any) -> str:
    """Content as text: hosts send strings, lists of parts, numbers, and in JSON mode objects already parsed."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content):
        return "".join(str(part.get("text") or "") for part in content if part["type"] != "reasoning")
    return canonical_json(content)


def content_events(content: Any) -> Iterator[DecoderEvent]:
    """Content that is no string: reasoning among its parts is kept apart from the text."""
    if reasoning := reasoning_of(content):
        yield ReasoningDelta(reasoning)
    if text := text_of(content):
        yield TextDelta(text)


def reasoning_of(content: Any) -> str:
    """The reasoning among the parts of a content, as Databricks sends it: `text`, or a `summary` of such parts.

    databricks/databricks-ai-bridge: integrations/ai-sdk-provider/src/fmapi-language-model/fmapi-schema.ts
    """
    if not isinstance(content, list):
        return ""
    found: list[str] = []
    for part in content:
        if isinstance(part, dict) and part.get("type") == "reasoning":
            summary = part.get("summary")
            pieces = [part, *(summary if isinstance(summary, list) else ())]
            found.extend(text for piece in pieces if isinstance(text := _table(piece).get("text"), str))
    return "".join(found)


def logprob_events(logprobs: Any) -> Iterator[DecoderEvent]:
    """Log probabilities, of OpenAI's chat form or the older form with parallel lists."""
    if not isinstance(logprobs, dict):
        return
    items: list[TokenLogprob] = []
    if isinstance(content := logprobs.get("content"), list):
        for entry in content:
            if (value := _finite(_table(entry).get("logprob"))) is not None:
                items.append(TokenLogprob(str(entry.get("token")), value, _alternatives(entry.get("top_logprobs"))))
    elif isinstance(tokens := logprobs.get("tokens"), list):
        values, tops = logprobs.get("token_logprobs"), logprobs.get("top_logprobs")
        values = values if isinstance(values, list) else []
        tops = tops if isinstance(tops, list) else [None] * len(tokens)
        for token, value, best in zip(tokens, values, tops, strict=False):
            number = _finite(value if value is not None else 0.0)
            if number is not None:
                listed = [{"token": k, "logprob": v} for k, v in _table(best).items()]
                items.append(TokenLogprob(str(token), number, _alternatives(listed)))
    if items:
        yield LogprobsReported(tuple(items))


def is_error(payload: Mapping[str, Any]) -> bool:
    """Whether a payload is an error, whatever its status was."""
    if payload.get("error"):
        return True
    if payload.get("choices"):
        return False
    if payload.get("errors") or payload.get("error_code"):  # Cloudflare's and Databricks' names
        return True
    return payload.get("object") == "error" or payload.get("success") is False


def error_status(payload: Mapping[str, Any]) -> int:
    """The status that an error inside a 200 stands for: its own code where it is one, else 500."""
    inner = payload.get("error")
    source: Mapping[str, Any] = inner if isinstance(inner, dict) else payload
    for name in ("http_status_code", "status_code", "code", "status", "error_code"):
        value = source.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return 400 if source.get("type") in ("invalid_request_error", "BadRequestError") else 500


def open_answer(
    response: WireResponse, target: Target, map_error: Callable[[WireResponse, Target], ProviderError]
) -> Mapping[str, Any]:
    """The JSON object of a whole answer. An error that came under a status of success is raised as what it is.

    Raises `ProtocolError` if the body is no JSON object, and what `map_error` makes of an error inside it.
    """
    payload = _unwrapped(loads(response.body, "the answer"))
    if not isinstance(payload, dict):
        raise ProtocolError(f"the answer is not a JSON object but {type(payload).__name__}", raw=payload)
    if is_error(payload):
        raise map_error(WireResponse(error_status(payload), response.headers, response.body), target)
    return payload


def _unwrapped(payload: Any) -> Any:
    """Google wraps its errors in an array."""
    if isinstance(payload, list) and payload and isinstance(payload[0], Mapping) and is_error(payload[0]):
        return payload[0]
    return payload


def first_choice(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first of `choices`: only one is ever asked for, and others (`n` in `extra`) are not mixed into it."""
    choices = payload.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return None


def _alternatives(listed: Any) -> tuple[TopLogprob, ...]:
    if not isinstance(listed, list):
        return ()
    return tuple(
        TopLogprob(str(entry.get("token")), value)
        for entry in map(_table, listed)
        if (value := _finite(entry.get("logprob"))) is not None
    )


# What a host sends is looked at before it is believed: any of these may be of any type. What was read from JSON is
# asked whether it is a `dict`: to ask for a `Mapping` takes ten times as long.


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _finite(value: Any) -> float | None:
    kind = type(value)
    if (kind is not int and kind is not float) or not abs(value) < MAX_NUMBER:
        return None
    return float(value)


def _count(value: Any) -> int:
    if type(value) is int and 0 < value < MAX_NUMBER:
        return value  # nearly all
    number = _finite(value)
    return int(number) if number is not None and number > 0 else 0


def _seconds(value: Any) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0 else None
