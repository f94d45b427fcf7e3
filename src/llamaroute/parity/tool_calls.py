"""What came back of a request with tools: calls that a host let through as text become calls, native ones stay.

`CallsFromText` does it with a stream's events, `read_calls` with a whole answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..spi import DecoderEvent
from ..types.events import Finished, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted, UsageReported
from ..types.parts import Text, ToolCall
from ..types.request import ChatRequest
from ..types.response import ChatResponse, Notice, ResponsePart
from .tool_arguments import check_call
from .tool_text import ToolText

__all__ = ["CallsFromText", "read_calls"]

FOUND = "tool_calls_from_text"


def _notice(target: str) -> Notice:
    return Notice(FOUND, f"{target} wrote its tool calls as text; they were read from it", "tools")


class CallsFromText:
    """A `Transform`: text that is a call comes out as one, numbered along with the host's own calls.

    Args:
        request: whose tools count.
        target: for the notice; empty for none, where calls in text are what was asked for.
    """

    __slots__ = ("_calls", "_mapped", "_next", "_reader", "_target", "_tools", "_usage")

    def __init__(self, request: ChatRequest, target: str) -> None:
        self._tools = request.tools
        self._target = target
        self._reader = ToolText(request.tools)
        self._next = 0
        self._calls = False
        self._mapped: dict[int, int] = {}
        self._usage: UsageReported | None = None

    def convert(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """See `pipeline.core.Transform`."""
        for event in events:
            match event:
                case TextDelta(text=text):
                    yield from self._found(self._reader.feed(text), event)
                case ToolCallStarted(index=index):
                    yield from self._found(self._reader.end(), None)
                    self._mapped[index] = self._next
                    yield replace(event, index=self._next)
                    self._next += 1
                    self._reader = ToolText(self._tools, self._next)
                case ToolCallDelta(index=index):
                    yield replace(event, index=self._mapped[index])
                case ToolCallDone(index=index, call=call):
                    yield ToolCallDone(self._mapped[index], check_call(call, self._tools))
                case UsageReported():
                    self._usage = event  # what was held back stands before it
                case Finished(reason=reason, raw_reason=raw):
                    yield from self._found(self._reader.end(), None)
                    if self._calls and self._target:
                        yield _notice(self._target)
                    if self._usage is not None:
                        yield self._usage
                    called = self._calls and reason in ("stop", "unknown", "tool_calls")
                    yield Finished("tool_calls" if called else reason, raw)
                case _:
                    yield event

    def _found(self, found: list[DecoderEvent], event: TextDelta | None) -> Iterator[DecoderEvent]:
        if event is not None and len(found) == 1 and found[0] == event:
            yield event
            return
        for one in found:
            yield ToolCallDone(one.index, check_call(one.call, self._tools)) if isinstance(one, ToolCallDone) else one
        if self._reader.index != self._next:
            self._calls = True
            self._next = self._reader.index


def read_calls(response: ChatResponse[Any], request: ChatRequest, target: str) -> ChatResponse[Any]:
    """The same for a whole answer. `target` as for `CallsFromText`."""
    parts: list[ResponsePart] = []
    found = False
    index = len(response.tool_calls)
    for part in response.parts:
        if not isinstance(part, Text):
            parts.append(part)
            continue
        reader = ToolText(request.tools, index)
        for event in (*reader.feed(part.text), *reader.end()):
            if isinstance(event, TextDelta):
                parts.append(Text(event.text))
            elif isinstance(event, ToolCallDone):
                found = True
                parts.append(check_call(event.call, request.tools))
        index = reader.index
    if not found:
        return response
    parts = _joined(parts)
    finish = response.finish_reason
    update: dict[str, Any] = {
        "parts": tuple(parts),
        "text": "".join(part.text for part in parts if isinstance(part, Text)),
        "tool_calls": tuple(part for part in parts if isinstance(part, ToolCall)),
        "finish_reason": "tool_calls" if finish in ("stop", "unknown") else finish,
    }
    if target:
        update["warnings"] = (*response.warnings, _notice(target))
    return response.model_copy(update=update)


def _joined(parts: list[ResponsePart]) -> list[ResponsePart]:
    """Pieces of text that stand beside each other as one; those of white space alone around calls are dropped."""
    joined: list[ResponsePart] = []
    for part in parts:
        if isinstance(part, Text) and joined and isinstance(joined[-1], Text):
            joined[-1] = Text(joined[-1].text + part.text)
        else:
            joined.append(part)
    return [part for part in joined if not isinstance(part, Text) or part.text.strip()]
