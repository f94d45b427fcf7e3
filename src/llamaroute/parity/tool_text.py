"""Finds tool calls in text, piece by piece: what a host should have read as calls and let through as text.

The rules that keep ordinary text whole:

* Only names of the request's tools count, and only whole forms that read as nothing but calls (`tool_syntax.py`).
* A list or a JSON object counts where a model would put a call: at the start of a line or after the end of a sentence,
  and with nothing behind it on its line. `[weather(city="Oslo")] returns rain` is talk about a call.
* Code in fences is code. A fence of JSON that holds a call and nothing else counts where it opens or ends the answer, a
  fence of Python only where it is the whole answer and holds a list.
* A call without brackets or tags counts only when it is the whole answer.

Text is held back only while it may still become a call; everything else passes at once. Each character is looked at a
bounded number of times, whatever the text is, and what comes out does not depend on how the text was cut.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Final

from ..spi import DecoderEvent
from ..types.dataclass import dataclass
from ..types.events import TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted
from ..types.parts import ToolCall
from ..types.tools import Tool, canonical_json
from .tool_syntax import PREFIXES, NotACallError, Reader, Steps, Tools, Written, resolve

__all__ = ["ToolText"]

MAX_HELD: Final = 1 << 20
"""Characters of one call; a document passed as an argument fits, an endless bracket does not stop a stream for ever."""
RESCANS: Final = 4
"""How often a character may be looked at again, on average, because a call that began before it came to nothing."""
BLOCK: Final = 4096
"""Characters looked at in one go; long pieces are cut, so that no candidate copies all that is left."""

_WORD = re.compile(r"\w[\w.\-]*")
_EVENTFUL = re.compile(r"[\[{<`\n]")
_BEFORE: Final = frozenset(("", ".", "!", "?", ":", ";", "\u2026", ">", "*", "\u3002", "\uff1a"))
"""Last character before a call on its line; "" is the line's start."""
_SHOWN = re.compile(r"\d+[.:]|>.*|(?:In|Out) ?\[\d+\]:")
"""Beginnings of lines that show something instead of doing it: numbered lists, quotations, prompts of Python."""
_HEAD: Final = 16
"""So much of a line's beginning tells what the line is."""

_HEADERS: Final = ("<|header_start|>", "<|header_end|>", "<|start_header_id|>", "<|end_header_id|>")
_SPECIAL: Final = ("<|python_start|>", "<|python_tag|>", *_HEADERS)
"""Tokens of the models' own; nobody writes them by hand."""
_FUNCTION: Final = "<function="
_WRAPPERS: Final = ("<tool_call>", "<tool_calls>", "<tool-use>")
_OPENERS: Final = (*_SPECIAL, *_WRAPPERS, _FUNCTION)
_ENDS: Final = ("<|python_end|>", "<|eom|>", "<|eot|>", "<|eom_id|>", "<|eot_id|>", "<|end_of_text|>")
_CLOSERS: Final = (*_ENDS, "</tool_call>", "</tool_calls>", "</tool-use>", "</function>")
_LONGEST: Final = max(len(tag) for tag in _OPENERS)

_MAYBE_LIST = re.compile(r"\[\s*(?:\Z|[\w{])")
_MAYBE_OBJECT = re.compile(r"\{\s*(?:\Z|[\"'](?:\Z|\w))")
_JSON_FENCES: Final = frozenset(("", "json", "tool_call", "tool_calls", "tool_code"))
_CODE_FENCES: Final = frozenset(("", "python", "py"))


class ToolText:
    """Takes an answer's text in pieces and gives events: text that is text, and calls.

    Args:
        tools: the request's tools.
        index: number of the next call, where others came before.
    """

    __slots__ = ("_events", "_held", "_line", "_passed", "_queue", "_read", "_spent", "_tools", "called", "index")

    def __init__(self, tools: Sequence[Tool], index: int = 0) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.index = index
        self.called = False
        self._line = _Line()
        self._held: _Candidate | None = None
        self._queue: deque[str] = deque()
        self._passed: list[str] = []
        self._events: list[DecoderEvent] = []
        self._read = 0  # characters passed or called
        self._spent = 0  # characters of candidates that came to nothing

    def feed(self, text: str) -> list[DecoderEvent]:
        """Events for more text."""
        if self._held is None and self._line.started and text and _EVENTFUL.search(text) is None:
            self._read += len(text)
            self._line.add(text)
            return [TextDelta(text)]
        if len(text) <= BLOCK:
            self._queue.append(text)
        else:
            self._queue.extend(text[at : at + BLOCK] for at in range(0, len(text), BLOCK))
        return self._run(ended=False)

    def end(self) -> list[DecoderEvent]:
        """Events for the end of the answer."""
        return self._run(ended=True)

    def _run(self, ended: bool) -> list[DecoderEvent]:
        while True:
            if self._held is not None:
                self._go_on(self._held, ended)
            elif self._queue:
                self._look(self._queue.popleft())
            if not self._queue and (self._held is None or not ended):
                break
        self._tell_text()
        events, self._events = self._events, []
        return events

    def _look(self, text: str) -> None:
        """Let text pass up to where a call may begin."""
        line, at = self._line, 0
        if not line.started:
            lead = len(text) - len(text.lstrip())
            if lead < len(text) and self._may_name(text[lead:]):
                self._hold("bare", text, lead)
                return
        for match in _EVENTFUL.finditer(text):
            start, mark = match.start(), match[0]
            if at < start:
                line.add(text[at:start])
                at = start
            if mark == "\n":
                line.end()
                at += 1
            elif not line.fence and self._may_begin(mark, text, start):
                self._hold(mark, text, start)
                return
        if at < len(text):
            line.add(text[at:])
        self._pass(text)

    def _may_name(self, text: str) -> bool:
        """Whether the word that `text` begins with is a tool's name, or may become one."""
        match = _WORD.match(text)
        if match is None:
            return False
        word = match[0]
        if len(word) < len(text):
            return resolve(word, self._tools) is not None
        return any(f"{before}{name}.call".startswith(word) for name in self._tools for before in PREFIXES)

    def _may_begin(self, mark: str, text: str, at: int) -> bool:
        """Whether it is worth a closer look; this only spares it where the next characters are there and wrong."""
        line = self._line
        if mark == "`":
            return not line.head and "```".startswith(text[at : at + 3])
        if mark == "<":
            rest = text[at : at + _LONGEST]
            return line.before != "`" and any(tag.startswith(rest) or rest.startswith(tag) for tag in _OPENERS)
        if not line.open:
            return False
        return (_MAYBE_LIST if mark == "[" else _MAYBE_OBJECT).match(text, at) is not None

    def _hold(self, kind: str, text: str, at: int) -> None:
        self._pass(text[:at])
        opens = not self._line.started
        self._held = _Candidate(kind, _Place(opens, self._line.open), self._tools)
        self._queue.appendleft(text[at:])

    def _go_on(self, held: _Candidate, ended: bool) -> None:
        """Give what is queued to the candidate, and see what becomes of it."""
        while self._queue and not held.over:
            text = self._queue.popleft()
            room = MAX_HELD - held.size
            if len(text) > room:
                self._queue.appendleft(text[room:])
                text = text[:room]
            held.push(text)
            if held.size == MAX_HELD and not held.over:
                held.give_up()
        if ended and not held.over:
            held.finish()
        if held.over:
            self._held = None
            self._settle(held)

    def _settle(self, held: _Candidate) -> None:
        text = "".join(held.pieces)
        if held.calls:
            end = held.end
            self._tell_text()
            for call in held.calls:
                self._tell_call(call)
            self._read += end
            self._line.called()
        else:
            # It came to nothing. What is behind its first character may hold a call of its own.
            self._spent += held.seen
            end = 1 if self._spent <= RESCANS * (self._read + held.seen) else max(1, held.seen)
            self._line.add_lines(text[:end])
            self._pass(text[:end])
        # In blocks that begin at the same places, however the text came.
        self._queue.extendleft(reversed([text[at : at + BLOCK] for at in range(end, len(text), BLOCK)]))

    # -- what comes out -------------------------------------------------------------------------------------------

    def _pass(self, text: str) -> None:
        if text:
            self._read += len(text)
            self._passed.append(text)

    def _tell_text(self) -> None:
        if self._passed:
            self._events.append(TextDelta("".join(self._passed)))
            self._passed = []

    def _tell_call(self, call: Written) -> None:
        index, raw = self.index, canonical_json(call.arguments)
        made = ToolCall(f"call_{index}", call.name, call.arguments, raw)
        self._events.append(ToolCallStarted(index, made.id, call.name))
        self._events.append(ToolCallDelta(index, raw))
        self._events.append(ToolCallDone(index, made))
        self.index += 1
        self.called = True


class _Line:
    """Where in the answer the text that passed ends: on which line, behind what, in which fence."""

    __slots__ = ("before", "fence", "head", "started")

    def __init__(self) -> None:
        self.started = False  # anything but white space passed
        self.before = ""  # the last character on this line that is no space
        self.head = ""  # the line's first characters that are no space
        self.fence = ""

    def add(self, text: str) -> None:
        """More of the line."""
        solid = text.rstrip()
        if not solid:
            if 0 < len(self.head) < _HEAD:
                self.head = (self.head + text)[:_HEAD]
            return
        self.started = True
        self.before = solid[-1]
        if len(self.head) < _HEAD:
            self.head = (self.head + (text if self.head else text.lstrip()))[:_HEAD]

    def end(self) -> None:
        """The line is over."""
        head = self.head
        if head.startswith("```"):
            ticks = head[: len(head) - len(head.lstrip("`"))]
            if not self.fence:
                self.fence = ticks
            elif len(ticks) >= len(self.fence) and not head.strip("` \t\r"):
                self.fence = ""
        self.head = self.before = ""

    def add_lines(self, text: str) -> None:
        """More text, of any number of lines."""
        *lines, last = text.split("\n")
        for line in lines:
            self.add(line)
            self.end()
        self.add(last)

    def called(self) -> None:
        """A call was taken out of the text here."""
        self.started = True
        self.head = self.before = ""

    @property
    def open(self) -> bool:
        """Whether a call may begin here: at the start of the line or behind a sentence."""
        return self.before in _BEFORE and not (self.before and _SHOWN.fullmatch(self.head.rstrip()))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a candidate stands."""

    opens: bool
    """Nothing stands before it in the answer."""
    after_sentence: bool


class _Candidate:
    """Text that may be a call, until that is decided (`over`)."""

    __slots__ = ("_attempt", "_reader", "calls", "end", "over", "pieces", "seen", "size")

    def __init__(self, kind: str, place: _Place, tools: Tools) -> None:
        self._reader = Reader(tools, may_be_cut=place.opens or kind == "<")
        self._attempt = _KINDS[kind](self._reader, place, tools)
        self.pieces: list[str] = []
        self.size = 0
        self.over = False
        self.calls: list[Written] | None = None
        self.end = 0
        self.seen = 0

    def push(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)
        self._reader.feed(text)
        self._step()

    def finish(self) -> None:
        """There is no more text."""
        self._reader.ended = True
        self._step()

    def give_up(self) -> None:
        self.over, self.seen = True, self.size

    def _step(self) -> None:
        try:
            next(self._attempt)
        except StopIteration as stop:
            self.over = True
            self.calls, self.end = stop.value
        except NotACallError:
            self.over = True
            self.seen = max(1, self._reader.seen)


# -- the kinds of candidates: what they are, and what may stand behind them -----------------------------------------

_Found = tuple[list[Written], int]
"""Calls, and how many characters they take."""


def _list(reader: Reader, place: _Place, tools: Tools) -> Steps[_Found]:
    calls = yield from reader.calls_in_list()
    return calls, (yield from _behind(reader, tools))


def _object(reader: Reader, place: _Place, tools: Tools) -> Steps[_Found]:
    calls = yield from reader.calls_in_object()
    return calls, (yield from _behind(reader, tools))


def _bare(reader: Reader, place: _Place, tools: Tools) -> Steps[_Found]:
    """Calls without brackets that are the whole answer."""
    calls: list[Written] = []
    while True:
        calls.append((yield from reader.call()))
        while (yield from reader.spaces()) in (",", ";"):
            reader.skip()
        while (yield from reader.one_of(_ENDS)):
            yield from reader.spaces()
        if not (yield from reader.spaces()):
            return calls, reader.position


def _tagged(reader: Reader, place: _Place, tools: Tools) -> Steps[_Found]:
    tag = yield from reader.one_of(_OPENERS)
    while tag in _SPECIAL:
        if tag in _HEADERS:
            yield from _header(reader)
        if (yield from reader.spaces()) != "<":
            return (yield from _framed(reader))
        tag = yield from reader.one_of(_OPENERS)
    if tag is None:
        raise NotACallError
    if tag != _FUNCTION:
        calls, end = yield from _framed(reader)
        return calls, end if place.after_sentence else (yield from _behind(reader, tools))
    calls = yield from reader.calls_in_function_tag()
    return calls, (yield from (_closed(reader) if place.after_sentence else _behind(reader, tools)))


def _header(reader: Reader) -> Steps[None]:
    """The rest of `<|header_start|>assistant<|header_end|>`, or of what is left of it."""
    yield from reader.spaces()
    yield from reader.one_of(("assistant",))


def _framed(reader: Reader) -> Steps[_Found]:
    """Calls in any writing up to the tag that closes, the end of the answer, or a line that is something else."""
    calls: list[Written] = []
    end = 0
    while True:
        line_ends = (yield from reader.blanks()) in ("", "\r", "\n")
        char = yield from reader.spaces()
        if char == "<" and (tag := (yield from reader.one_of((*_CLOSERS, *_WRAPPERS)))):
            if calls and tag in _CLOSERS:
                return calls, (yield from _closed(reader))
        elif char in (",", ";"):
            reader.skip()
        else:
            try:
                calls += yield from _any(reader, char)
            except NotACallError:
                if calls and line_ends:
                    return calls, end
                raise
            end = reader.position


def _closed(reader: Reader) -> Steps[int]:
    """Past the tokens that close a call, where any stand here."""
    end = reader.position
    while (yield from reader.spaces()) == "<" and (yield from reader.one_of(_CLOSERS)):
        end = reader.position
    return end


def _any(reader: Reader, char: str) -> Steps[list[Written]]:
    if char == "[":
        return (yield from reader.calls_in_list())
    if char == "{":
        return (yield from reader.calls_in_object(framed=True))
    return [(yield from reader.call())]


def _fenced(reader: Reader, place: _Place, tools: Tools) -> Steps[_Found]:
    """Fences that hold calls and nothing else, and that open or end the answer."""
    calls: list[Written] = []
    while True:
        found, code = yield from _fence(reader)
        calls += found
        end = yield from _closed(reader)
        char = yield from reader.spaces()
        if code and (char or len(calls) > len(found) or not place.opens):
            raise NotACallError  # more than this list is in the answer
        if not char or (char != "`" and place.opens):
            return calls, end
        if char != "`":
            raise NotACallError


def _fence(reader: Reader) -> Steps[tuple[list[Written], bool]]:
    """One fence; whether what it holds is code unless it is the whole answer."""
    if not (yield from reader.one_of(("```",))):
        raise NotACallError
    info = (yield from reader.word()).lower()
    if info not in _JSON_FENCES and info not in _CODE_FENCES:
        raise NotACallError
    if (yield from reader.blanks()) not in ("\r", "\n"):
        raise NotACallError
    calls: list[Written] = []
    code = False
    while char := (yield from reader.spaces()):
        if char == "`" and calls:
            if not (yield from reader.one_of(("```",))):
                raise NotACallError
            break
        if char in (",", ";") and calls:
            reader.skip()
        elif char == "{" and info in _JSON_FENCES:
            calls += yield from reader.calls_in_object()
        elif char == "[":
            calls += yield from reader.calls_in_list()
            code = code or info not in _JSON_FENCES
        else:
            raise NotACallError
    if not calls:
        raise NotACallError
    return calls, code


def _behind(reader: Reader, tools: Tools) -> Steps[int]:
    """Where a call that ends its line is over, with the tokens that close it.

    Raises:
        NotACallError: something stands behind it that stands behind no call.
    """
    while True:
        end = reader.position
        char = yield from reader.blanks()
        if char != "<":
            break
        tag = yield from reader.one_of((*_CLOSERS, *_OPENERS))
        if tag is None:
            raise NotACallError
        if tag in _OPENERS:
            return end
    if char in ("", "\r", "\n", "{"):
        return end
    if char in (",", ";"):
        reader.skip()
        end = reader.position
        char = yield from reader.spaces()
        if char in ("", "{"):
            return end
    if char == "[":
        reader.skip()
        if (yield from reader.spaces()) == "{" or resolve((yield from reader.word()), tools):
            return end
    # Llama 4 goes on with a turn of its own; servers leave its header's tokens out, not the word between them.
    elif char == "a" and (yield from reader.word()) == "assistant" and (yield from reader.blanks()) in ("", "\r", "\n"):
        return end
    raise NotACallError


_KINDS: Final = {"[": _list, "{": _object, "bare": _bare, "<": _tagged, "`": _fenced}
