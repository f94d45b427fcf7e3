"""What the emulator answers: scripted replies, faults, and the pieces that every host turns into its own wire format.

A `Reply` says what the model would have said; a `Fault` says what goes wrong on the way. Both are plain data, so a test
reads like a story. The pieces (`Text`, `CallStart`, `CallArgs`, `End`) are the host-neutral form between a reply (or a
real model) and the host modules; no host sees a `Reply`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Call",
    "CallArgs",
    "CallStart",
    "End",
    "Fault",
    "Piece",
    "Reply",
    "Text",
    "Whole",
    "collect",
    "play",
    "tokens",
]


@dataclass(frozen=True)
class Reply:
    """One scripted answer of the model.

    text: what the model says. Cut to the request's output limit, as a real host would, unless `exact`.
    tool_calls: `(name, arguments)` pairs; arguments are a dict, or a str that is put on the wire as it is (even if
      it is no JSON).
    finish_reason: one of `stop`, `length`, `tool_calls`, `content_filter` or any other word; None derives it.
    usage: `(prompt_tokens, completion_tokens)`; None estimates both.
    cached_tokens: prompt tokens said to come from a cache, where the host has a place for them.
    delay: seconds before the answer begins (before the response headers).
    chunks: how a streamed text is cut: a list of pieces (they replace `text`), a number of characters; None = tokens.
    chunk_delay: seconds between two pieces of a stream.
    headers: response headers added to the host's own.
    exact: True keeps `text` whole whatever `max_tokens` and `stop` in the request say.
    """

    text: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    finish_reason: str | None = None
    usage: tuple[int, int] | None = None
    cached_tokens: int = 0
    delay: float = 0.0
    chunks: Sequence[str] | int | None = None
    chunk_delay: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. Fields combine; those that strike before the model answers consume no scripted reply.

    Before the answer:
      status: HTTP status; the body is the host's own error body for it unless `body` is given.
      code: the host's error code, where one status has several (Cloudflare 429: 3036 quota, 3040 capacity).
      message: text inside the host's error body.
      body: bytes, str or a JSON value sent instead of the host's body (status 200 if `status` is None).
      reset: TCP RST without an answer.   hangup: orderly close without an answer.
      stall: seconds of silence before the response headers (with `stall_after`: after that many stream events instead).
    On any answer:
      headers, retry_after (seconds, or a ready text such as an HTTP date), content_type: replace or add headers.
      cut: bytes of the body after which the connection is dropped, or "mid-frame" = inside the data frame that follows
        `cut_after` whole ones (a plain body: in its middle).
      framing: "chunked", "length" or "close". With "close" a cut can't be told from the end by HTTP alone.
      dribble: one byte a write; True, or the seconds between two bytes.
      close_idle: the connection is closed right after an answer that promised keep-alive.
    In a stream:
      error_first: status 200, then the host's in-stream error as the first event.   error_after: the same after N
        events.
      missing_usage: no usage anywhere (plain bodies too).   no_done: the end marker is left out.
      garbage: a data line that is no JSON, after `garbage_after` events.
      keepalive: comment lines between the events; a str is sent as it is.   crlf: lines end with CRLF.
      split_utf8: every multi-byte character is split over two writes (and two HTTP chunks).
    """

    status: int | None = None
    code: int | str | None = None
    message: str | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | str | None = None
    content_type: str | None = None
    reset: bool = False
    hangup: bool = False
    stall: float = 0.0
    stall_after: int | None = None
    cut: int | Literal["mid-frame"] | None = None
    cut_after: int = 1
    framing: Literal["chunked", "length", "close"] | None = None
    dribble: bool | float = False
    close_idle: bool = False
    error_first: bool = False
    error_after: int | None = None
    missing_usage: bool = False
    no_done: bool = False
    garbage: bool = False
    garbage_after: int = 1
    keepalive: bool | str = False
    crlf: bool = False
    split_utf8: bool = False

    @property
    def replaces_answer(self) -> bool:
        """True when the model is never asked, so that no scripted reply is used up."""
        return self.reset or self.hangup or self.status is not None or self.body is not None or self.error_first


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArgs:
    """A piece of a tool call's JSON arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete. `reason` uses OpenAI's words; each host translates it."""

    reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    stop_sequence: str | None = None


Piece = Text | CallStart | CallArgs | End


@dataclass(slots=True)
class Call:
    """A complete tool call; `arguments` is the text as the model wrote it."""

    name: str
    arguments: str = ""


@dataclass(slots=True)
class Whole:
    """A complete answer."""

    text: str
    calls: list[Call]
    end: End


async def collect(pieces: AsyncIterator[Piece]) -> Whole:
    """Fold the pieces of one answer."""
    text: list[str] = []
    calls: list[Call] = []
    end = End("stop", 0, 0)
    async for piece in pieces:
        match piece:
            case Text(text=part):
                text.append(part)
            case CallStart(name=name):
                calls.append(Call(name))
            case CallArgs(index=index, text=part):
                calls[index].arguments += part
            case End():
                end = piece
    return Whole("".join(text), calls, end)


# Tokens of about four characters: no host publishes a tokenizer that an emulator could ship, and all that clients may
# rely on is that counts exist, grow with the text and that pieces joined give the text.
_TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]|\s")


def tokens(text: str) -> list[str]:
    """The text in token-like pieces; joined they give the text again."""
    return _TOKEN.findall(text)


def _pieces(text: str, chunks: Sequence[str] | int | None) -> list[str]:
    if chunks is None:
        return tokens(text)
    if isinstance(chunks, int):
        return [text[i : i + chunks] for i in range(0, len(text), max(1, chunks))]
    joined = "".join(chunks)
    if text == joined:
        return list(chunks)
    kept: list[str] = []  # the text was cut: keep the given borders up to the cut
    left = len(text)
    for chunk in chunks:
        if left <= 0:
            break
        kept.append(chunk[:left])
        left -= len(chunk)
    return kept


def _limit(text: str, max_tokens: int | None, stop: Sequence[str]) -> tuple[str, str | None, str | None]:
    """The text as the request's limits leave it, the finish reason they force (or None), the stop string that
    struck."""
    hits = [(at, word) for word in stop if word and (at := text.find(word)) >= 0]
    struck: str | None = None
    if hits:
        at, struck = min(hits)
        text = text[:at]
    parts = tokens(text)
    if max_tokens is not None and len(parts) > max_tokens:
        return "".join(parts[:max_tokens]), "length", None
    return text, ("stop" if struck is not None else None), struck


async def play(
    reply: Reply, *, prompt_tokens: int, max_tokens: int | None = None, stop: Sequence[str] = ()
) -> AsyncIterator[Piece]:
    """The reply as pieces, with its pauses, cut by the request's limits."""
    text = reply.text if reply.chunks is None or isinstance(reply.chunks, int) else "".join(reply.chunks)
    forced: str | None = None
    struck: str | None = None
    if not reply.exact:
        text, forced, struck = _limit(text, max_tokens, stop)
    calls = [
        Call(name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))
        for name, arguments in reply.tool_calls
    ]
    produced = len(tokens(text)) + sum(8 + len(tokens(call.arguments)) for call in calls)
    first = True
    for part in _pieces(text, reply.chunks):
        if reply.chunk_delay and not first:
            await asyncio.sleep(reply.chunk_delay)
        first = False
        yield Text(part)
    for index, call in enumerate(calls):
        if reply.chunk_delay and not first:
            await asyncio.sleep(reply.chunk_delay)
        first = False
        yield CallStart(index, call.name)
        size = max(1, -(-len(call.arguments) // 3))  # three pieces: enough to make a client join them
        for at in range(0, len(call.arguments), size):
            yield CallArgs(index, call.arguments[at : at + size])
    reason = reply.finish_reason or forced or ("tool_calls" if calls else "stop")
    prompt, completion = reply.usage or (prompt_tokens, produced)
    yield End(reason, prompt, completion, reply.cached_tokens, struck)
