"""The innermost step of a call: one request to one host, up to the answer or to the stream's commit point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from ..errors import ProtocolError, ProviderError
from ..spi import MASK, DecoderEvent, RawPayload, StreamDecoder, WireRequest, WireResponse
from ..types.events import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from ..types.parts import Text, ToolCall
from ..types.response import ChatResponse, Notice, Phase
from .core import Call, Candidate, Reply, Transform
from .ops import Blocking, Head, Plan, Pull, Send

__all__ = ["COMMITTING", "exchange", "read_body", "redact", "reply_events", "send_signed"]

MAX_ERROR_BODY = 1 << 20
"""Bytes of an error's body that are read; more says nothing more."""
MAX_BODY = 64 << 20
"""Bytes of a plain answer. The longest context any host serves, as text, is far below."""
MAX_BUFFER = 64 << 10
"""Bytes of a stream that may come before its first text, call or finish (docs/architecture.md, "Commit")."""
MAX_HELD = 16 << 20
"""The same where text is held back that may become a tool call: an event of a few hundred bytes brings a token."""

SHORTEST_SECRET = 6
"""Characters; shorter ones would be found in ordinary words."""

_CREDENTIAL_HEADER = re.compile(r"(?i)authorization|token|secret|key|cookie")
_CREDENTIAL = re.compile(r"[^\s,;=]{24,}")
"""Longer than any word of an authorization header, such as the names of the headers that were signed."""

COMMITTING = (TextDelta, ToolCallStarted, Finished, ReasoningDelta)
"""Events that commit a stream: from here on it is never silently repeated."""


def exchange(call: Call) -> Plan[Reply]:
    """Build, sign, send; read the answer, or the stream up to its commit point.

    Raises:
        CapabilityError: the target's row excludes something the request needs; nothing was sent.
        ProviderError: whatever went wrong afterwards.
    """
    target, adapter = call.target, call.candidate.adapter
    try:
        if (location := call.candidate.location) is not None:
            from .locate import located

            call = yield from located(call, location)
            target = call.target
        request = adapter.build_request(call.request, target, stream=call.stream)
        for notice in request.warnings:
            call.ledger.notice(notice)
        head = yield from send_signed(call, request)
        try:
            if call.stream:
                return (yield from _stream(call, head))
            call.ledger.first_token = call.ledger.now - call.ledger.started
            body = yield from read_body(call, MAX_BODY)
            response = adapter.parse_response(WireResponse(head.status, head.headers, body), call.request, target)
            return Reply(target, response=response, headers=head.headers)
        except ProviderError as error:
            if error.status is None and isinstance(error, ProtocolError):
                error.status = head.status
            if error.request_id is None:
                error.request_id = adapter.map_error(WireResponse(head.status, head.headers), target).request_id
            raise
    except ProviderError as error:
        error.provider = error.provider or target.provider
        error.target = error.target or target.name
        error.model = error.model or target.model
        redact(error, call.candidate, call.ledger.signed)
        raise


def redact(error: ProviderError, candidate: Candidate, signed: Mapping[str, str] | None = None) -> None:
    """Hosts echo the key they refuse, or the whole signed request: it stays out of what is printed and logged.

    Args:
        error: what is changed.
        candidate: whose credentials are taken out.
        signed: headers of the request as it was sent; its signature is taken out as well.
    """
    secrets: list[str] = list(getattr(candidate.auth, "secrets", ()))
    for name, value in signed.items() if signed is not None else ():
        if _CREDENTIAL_HEADER.search(name):
            secrets += _CREDENTIAL.findall(value)
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET and (secret in str(error.args) or secret in str(error.raw)):
            error.args = tuple(_without(secret, value) for value in error.args)
            error.raw = _without(secret, error.raw)


def _without(secret: str, value: Any) -> Any:
    match value:
        case str():
            return value.replace(secret, MASK)
        case list():
            return [_without(secret, item) for item in value]
        case dict():
            return {key: _without(secret, item) for key, item in value.items()}
    return value


def send_signed(call: Call, request: WireRequest) -> Plan[Head]:
    """Sign and send; an answer that is no success is raised as the error it means.

    A 401 or 403 that fresh credentials may mend is tried once more.
    """
    ledger, auth, adapter, limits = call.ledger, call.candidate.auth, call.candidate.adapter, call.timeout
    renewed = False
    while True:
        if auth.stale(_wall(call)):
            yield Blocking(auth.refresh, call.deadline, flights=call.candidate.flights)
        signed = auth.sign(_with_headers(request, call), _wall(call))
        ledger.signed = signed.headers
        head: Head = yield Send(signed, call.target, limits.connect, limits.answer(stream=call.stream), call.deadline)
        ledger.connect = head.connect
        ledger.sent = head.sent or ledger.now  # a transport of a user's own may not say
        if 200 <= head.status < 300:
            return head
        body = yield from _error_body(call)
        answer = WireResponse(head.status, head.headers, body)
        # Databricks and AWS answer 403 to credentials that have expired.
        if head.status in (401, 403) and not renewed and auth.reject(signed, answer, _wall(call)):
            renewed = True
            continue
        raise adapter.map_error(answer, call.target)


def _with_headers(request: WireRequest, call: Call) -> WireRequest:
    """The account's own headers and the call's, over the adapter's."""
    own, given = call.target.options.headers, call.request.headers
    if not own and not given:
        return request
    return replace(request, headers={**request.headers, **{k.lower(): v for k, v in own.items()}, **given})


def read_body(call: Call, limit: int) -> Plan[bytes]:
    """The whole body of the open answer.

    Raises:
        ProtocolError: it is longer than `limit` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    while data := (yield _pull(call, call.ledger.now + call.timeout.idle, "idle")):
        pieces.append(data)
        size += len(data)
        if size > limit:
            raise ProtocolError(f"the answer is longer than {limit} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _error_body(call: Call) -> Plan[bytes]:
    """What can be had of an error's body; that it breaks off is no reason to lose the status."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < MAX_ERROR_BODY and (data := (yield _pull(call, call.ledger.now + call.timeout.idle, "idle"))):
            pieces.append(data)
            size += len(data)
    except ProviderError:
        pass
    return b"".join(pieces)


def _stream(call: Call, head: Head) -> Plan[Reply]:
    """Read until the stream commits, ends, or turns out to be no stream at all."""
    target, adapter = call.target, call.candidate.adapter
    decoder = _transformed(adapter.stream_decoder(call.request, target), call)
    phase: Phase = "first_token"
    until = call.ledger.sent + call.timeout.answer(stream=True)
    most = MAX_HELD if call.transforms else MAX_BUFFER
    events: list[DecoderEvent] = []
    size = 0
    opening: bytes | None = b""  # until the first character tells what kind of body this is
    while True:
        if isinstance(decoder, _Transformed) and decoder.heard:  # it speaks, and what it says is held back
            until, phase = call.ledger.now + call.timeout.idle, "idle"
        data: bytes = yield _pull(call, until, phase)
        end = not data
        if opening is not None:
            opening += data
            start = opening.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            if data and not start and len(opening) < MAX_BUFFER:
                continue
            data, opening = opening, None
            if start in (b"{", b"["):  # Google wraps its errors in an array
                return (yield from _plain(call, head, data))
            if start == b"<":
                raise ProtocolError(
                    "the host answered a stream request with a web page; check base_url",
                    raw=data[:2000].decode("utf-8", "replace"),
                )
        more = chain(decoder.feed(data), decoder.close() if end else ())
        for event in more:
            events.append(event)
            if isinstance(event, COMMITTING):
                call.ledger.first_token = call.ledger.now - call.ledger.started
                return Reply(
                    target,
                    events=events,
                    decoder=decoder,
                    rest=more,
                    headers=head.headers,
                    idle=call.timeout.idle,
                    ended=end,
                )
        if end:
            raise ProtocolError("the stream ended before the answer began", retryable=True)
        size += len(data)
        if size > most:
            raise ProtocolError(f"the stream brought {size} bytes without any answer")


def _plain(call: Call, head: Head, data: bytes) -> Plan[Reply]:
    """A host that answers a stream request with one JSON body: the same answer, as events."""
    body = data + (yield from read_body(call, MAX_BODY))
    target = call.target
    response = call.candidate.adapter.parse_response(
        WireResponse(head.status, head.headers, body), call.request, target
    )
    call.ledger.notice(
        Notice("stream_from_reply", f"{target.name} answered in one piece; the stream was made from it", "stream")
    )
    call.ledger.first_token = call.ledger.now - call.ledger.started
    events: Iterable[DecoderEvent] = reply_events(response)
    for make in call.transforms:
        events = make().convert(events)
    return Reply(target, events=list(events), decoder=None, headers=head.headers, ended=True)


class _Transformed:
    """A decoder whose events go through a `Transform`."""

    __slots__ = ("_inner", "_transform", "heard")

    def __init__(self, inner: StreamDecoder, transform: Transform) -> None:
        self._inner = inner
        self._transform = transform
        self.heard = False
        """Whether the host has said anything, if only to be held back."""

    def feed(self, data: bytes) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        return self._transform.convert(self._listened(self._inner.feed(data)))

    def close(self) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        return self._transform.convert(self._listened(self._inner.close()))

    def _listened(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        for event in events:
            if not self.heard and isinstance(event, COMMITTING):
                self.heard = True
            yield event


def _transformed(decoder: StreamDecoder, call: Call) -> StreamDecoder:
    for make in call.transforms:
        decoder = _Transformed(decoder, make())
    return decoder


_PIECE = re.compile(r"(?s).{1,24}\S{0,24}\s*")
"""A few words; a word is not parted from the space behind it. Compact JSON, and languages without spaces, have no words
of this kind and come in pieces all the same."""


def reply_events(response: ChatResponse[object]) -> Iterator[DecoderEvent]:
    """A whole answer as the events of a stream, its text in pieces: programs that show each as it comes need no case
    of their own."""
    yield RawPayload(response.raw)
    yield from response.warnings
    if response.reasoning:
        yield ReasoningDelta(response.reasoning)
    index = 0
    for part in response.parts:
        match part:
            case Text(text=text):
                for piece in _PIECE.findall(text):
                    yield TextDelta(piece)
            case ToolCall():
                yield ToolCallStarted(index, part.id, part.name)
                if part.raw_arguments:
                    yield ToolCallDelta(index, part.raw_arguments)
                yield ToolCallDone(index, part)
                index += 1
    if not response.usage.estimated:
        yield UsageReported(response.usage)
    yield Finished(response.finish_reason, response.raw_finish_reason)


def _pull(call: Call, until: float, phase: Phase) -> Pull:
    if call.deadline is not None and call.deadline < until:
        return Pull(call.deadline, "total")
    return Pull(until, phase)


def _wall(call: Call) -> float:
    return call.ledger.wall + (call.ledger.now - call.ledger.started)
