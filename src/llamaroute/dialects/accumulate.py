"""Events -> one `ChatResponse`, and pieces of tool calls -> whole ones.

The same folding serves streams (event by event) and plain answers (a dialect turns the body into events first), so
that both agree by construction.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any

from ..spi import AnswerMeta, DecoderEvent, LogprobsReported, RawPayload
from ..types.dataclass import dataclass
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
from ..types.response import ChatResponse, FinishReason, Notice, ResponsePart, TokenLogprob, Usage, response_of
from ..types.tools import parse_arguments

__all__ = ["Accumulator", "CallAssembler", "fold", "moment"]


class CallAssembler:
    """Gathers the pieces of an answer's tool calls and says what happened as events.

    Hosts number calls by `index`, by id, or not at all; some repeat id and name with every piece, some send a whole
    call at once, some send a call without an id, which then gets `call_<index>`.
    """

    __slots__ = ("_by_key", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Gathering] = []
        self._by_key: dict[object, int] = {}

    def __bool__(self) -> bool:
        return bool(self._calls) and any(call.named for call in self._calls)  # a call that never got a name is none

    def piece(self, key: object, id: str | None, name: str | None, arguments: str | None) -> Iterator[DecoderEvent]:
        """A piece of the call that the host knows as `key`; empty pieces of unknown calls say nothing."""
        index = self._by_key.get(key)
        if index is not None and id and name and self._calls[index].id != id and self._calls[index].named:
            index = None  # a new call under a number that was used before (Gemini-style gateways number all of them 0)
        if index is None:
            if not name and not id and not arguments:
                return
            index = len(self._calls)
            self._by_key[key] = index
            self._calls.append(_Gathering())
        call = self._calls[index]
        if id and not call.id:
            call.id = id
        if name and not call.named:
            call.id = call.id or self._free_id(index)
            call.named = name
            yield ToolCallStarted(index, call.id, name)
            if call.pieces:  # arguments that came before the name
                yield ToolCallDelta(index, "".join(call.pieces))
        if arguments:
            call.pieces.append(arguments)
            if call.named:
                yield ToolCallDelta(index, arguments)

    def close(self, key: object, name: str | None) -> None:
        """Let a new call begin under `key` if the one known as that is whole: its arguments are an object.

        `name`, if given, is a name that must differ: some hosts repeat it with every piece.
        """
        index = self._by_key.get(key)
        if index is not None and (call := self._calls[index]).pieces and call.named != name:
            if parse_arguments("".join(call.pieces))[1] is None:
                del self._by_key[key]

    def _free_id(self, index: int) -> str:
        given = {call.id for call in self._calls}
        return next(name for n in itertools.count(index) if (name := f"call_{n}") not in given)

    def done(self) -> Iterator[DecoderEvent]:
        """All calls are complete."""
        for index, call in enumerate(self._calls):
            if call.finished or not call.named:
                continue
            call.finished = True
            raw = "".join(call.pieces)
            arguments, error = parse_arguments(raw)
            yield ToolCallDone(index, ToolCall(call.id, call.named, arguments, raw, error))


@dataclass(slots=True, eq=False)
class _Gathering:
    id: str = ""
    named: str = ""
    pieces: list[str] = field(default_factory=list)
    finished: bool = False


class Accumulator:
    """Folds events into the response. `add` is called once per event of a stream: keep it cheap."""

    __slots__ = (
        "_calls",
        "_order",
        "_raw",
        "_reasoning",
        "_text",
        "created",
        "finish",
        "id",
        "logprobs",
        "notices",
        "raw_finish",
        "usage",
    )

    def __init__(self) -> None:
        self._order: list[list[str] | int] = []  # runs of text, and indexes of calls, as they came
        self._text: list[str] | None = None
        self._reasoning: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str], ToolCall | None]] = {}
        self._raw: list[Any] = []
        self.id = ""
        self.created: float | None = None
        self.finish: FinishReason | None = None
        self.raw_finish: str | None = None
        self.usage: Usage | None = None
        self.logprobs: list[TokenLogprob] = []
        self.notices: list[Notice] = []

    def add(self, event: DecoderEvent) -> None:
        """Fold one event in."""
        kind = type(event)
        if kind is TextDelta:
            if self._text is None:
                self._text = []
                self._order.append(self._text)
            self._text.append(event.text)  # type: ignore[union-attr]
            return
        match event:
            case ToolCallDelta(index=index, arguments=arguments):
                self._calls[index][2].append(arguments)
            case ToolCallStarted(index=index, id=call_id, name=name):
                self._text = None
                self._order.append(index)
                self._calls[index] = (call_id, name, [], None)
            case ToolCallDone(index=index, call=call):
                started = self._calls[index]
                self._calls[index] = (*started[:3], call)
            case UsageReported(usage=usage):
                self.usage = usage  # the last one counts: some hosts count up, none counts in pieces
            case Finished(reason=reason, raw_reason=raw_reason):
                self.finish, self.raw_finish = reason, raw_reason
            case ReasoningDelta(text=text):
                self._reasoning.append(text)
            case AnswerMeta(id=answer_id, created=created):
                self.id, self.created = answer_id or self.id, created if created is not None else self.created
            case LogprobsReported(items=items):
                self.logprobs.extend(items)
            case RawPayload(payload=payload):
                self._raw.append(payload)
            case Notice():
                self.notices.append(event)
            case _:
                pass  # Started, Retrying, FailedOver: about the call, not about the answer

    @property
    def open_calls(self) -> tuple[int, ...]:
        """Indexes of the tool calls that have begun and are not complete."""
        return tuple(index for index, call in self._calls.items() if call[3] is None)

    @property
    def has_calls(self) -> bool:
        """Whether a tool call is complete."""
        return any(call[3] is not None for call in self._calls.values())

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join("".join(run) for run in self._order if isinstance(run, list))

    def response(self, *, finish_reason: FinishReason | None = None, raw: Any = None) -> ChatResponse[Any]:
        """What came so far, as a response; `raw` replaces the payloads that were gathered."""
        parts: list[ResponsePart] = []
        calls: list[ToolCall] = []
        for run in self._order:
            if isinstance(run, list):
                if text := "".join(run):
                    parts.append(Text(text))
            else:
                call_id, name, pieces, call = self._calls[run]
                if call is None:  # the stream broke off inside this call
                    call = ToolCall(call_id, name, {}, "".join(pieces), "the answer broke off inside this call")
                parts.append(call)
                calls.append(call)
        created = self.created
        return response_of(
            id=self.id,
            text="".join(part.text for part in parts if isinstance(part, Text)),
            reasoning="".join(self._reasoning),
            parts=tuple(parts),
            tool_calls=tuple(calls),
            finish_reason=finish_reason or self.finish or "unknown",
            raw_finish_reason=self.raw_finish,
            usage=self.usage or Usage(estimated=True),
            created=moment(created),
            warnings=tuple(self.notices),
            logprobs=tuple(self.logprobs) if self.logprobs else None,
            raw=self._raw if raw is None else raw,
        )


def moment(seconds: float | None) -> datetime.datetime | None:
    """Seconds since the epoch as a date."""
    if seconds is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return None  # a host's nonsense; `raw` still has it


def fold(events: Iterable[DecoderEvent], *, raw: Any = None) -> ChatResponse[Any]:
    """The response that a whole sequence of events means.

    Raises:
        ProviderError: what the events' own iteration raises.
    """
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response(raw=raw)
