"""The textual forms of a tool call, as Llama 4 and its relatives write them, read while they arrive.

    [f(a=1), g(b="x")]                                     Llama 4's own, any literals, nested
    {"name": "f", "parameters": {...}}                     Llama 3's; also "arguments", also in a list
    {"type": "function", "function": {"name": "f", ...}}   OpenAI's, leaked
    <function=f>{...}</function>                           Llama 3's own functions; also <parameter=a>...</parameter>

A recursive descent whose methods are generators: they yield while they wait for more text, and raise `NotACallError` at
the first token that no call can have. Where calls stand in an answer is `tool_text.py`'s business. Format of Llama 4:
https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias, TypeVar

from ..types.dataclass import dataclass
from ..types.tools import Tool

__all__ = ["PREFIXES", "NotACallError", "Reader", "Steps", "Tools", "Written", "resolve"]

MAX_DEPTH: Final = 64
"""Brackets within brackets. Deeper is nothing a model writes as a call."""
MAX_WORD: Final = 400
"""Characters of a name, a keyword or a number."""

PREFIXES: Final = ("", "functions.", "tools.")
"""What models put before a tool's name."""

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Yields while it waits for text, returns a T."""
Tools: TypeAlias = Mapping[str, Tool]


class NotACallError(Exception):
    """The text is something else."""


@dataclass(slots=True)
class Written:
    """A call as it was written: `arguments` by name."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def resolve(word: str, tools: Tools) -> str | None:
    """The tool that `word` names, alone or as `functions.f` or `f.call`."""
    if word in tools:
        return word
    word = word.removesuffix(".call")
    found = (word[len(before) :] for before in PREFIXES if word.startswith(before))
    return next((name for name in found if name in tools), None)


_SPACES = re.compile(r"\s*")
_BLANKS = re.compile(r"[ \t]*")
_WORD = re.compile(r"[\w.+\-]*")
_NAME = re.compile(r"\w[\w.\-]*")
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?")
_HEX = re.compile(r"[-+]?0[xX][0-9a-fA-F]+")
_LITERALS: Final[Mapping[str, bool | None]] = {
    "True": True,
    "true": True,
    "False": False,
    "false": False,
    "None": None,
    "null": None,
}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_BODIES = {
    # A string's inside as far as the text goes; a backslash waits for its second half, a quote of three for the others.
    '"': re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL),
    "'": re.compile(r"[^'\\]*+(?:\\.[^'\\]*+)*+", re.DOTALL),
    '"""': re.compile(r'[^"\\]*+(?:(?:\\.|"(?!"")(?=..))[^"\\]*+)*+', re.DOTALL),
    "'''": re.compile(r"[^'\\]*+(?:(?:\\.|'(?!'')(?=..))[^'\\]*+)*+", re.DOTALL),
}

_NAMES = frozenset(("name", "function", "tool", "tool_name", "function_name"))
_ARGUMENTS = frozenset(("parameters", "arguments", "args", "input", "tool_input", "kwargs"))
_LISTS = frozenset(("tool_calls", "function_calls", "calls"))
_ASIDE = frozenset(("id", "index", "call_id", "tool_call_id"))
_KEYS = _NAMES | _ARGUMENTS | _LISTS | _ASIDE | {"type"}
_TYPES = frozenset(("function", "function_call", "tool_call", "tool_use", "tool"))


class Reader:
    """Text that arrives in pieces, and the grammar of calls over it.

    Args:
        tools: what may be called.
        may_be_cut: brackets around complete calls may be missing at the end of the answer.
    """

    __slots__ = ("_at", "_base", "_may_be_cut", "_text", "_tools", "ended", "seen")

    def __init__(self, tools: Tools, may_be_cut: bool = False) -> None:
        self._tools = tools
        self._may_be_cut = may_be_cut
        self._text = ""
        self._at = 0
        self._base = 0
        self.ended = False
        self.seen = 0
        """How far tokens were read: the same for the same text, however it was cut."""

    @property
    def position(self) -> int:
        """How many characters were read."""
        return self._base + self._at

    def feed(self, text: str) -> None:
        """More text."""
        self._base += self._at
        self._text = self._text[self._at :] + text
        self._at = 0

    # -- characters -----------------------------------------------------------------------------------------------

    def skip(self, count: int = 1) -> None:
        """Go past what was looked at."""
        self._at += count
        self.seen = self.position

    def _through(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Go past all that `pattern` takes; the character behind it, "" at the end."""
        while True:
            match = pattern.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text):
                self.seen = self.position
                return self._text[self._at]
            if self.ended:
                self.seen = self.position
                return ""
            yield

    def spaces(self) -> Steps[str]:
        """Go past white space; the character behind it, "" at the end."""
        return self._through(_SPACES)

    def blanks(self) -> Steps[str]:
        """Go past spaces and tabs; the character behind them, "" at the end."""
        return self._through(_BLANKS)

    def word(self, pattern: re.Pattern[str] = _NAME) -> Steps[str]:
        """Go past a whole word, "" when there is none."""
        while True:
            match = pattern.match(self._text, self._at)
            end = match.end() if match else self._at
            if end - self._at > MAX_WORD:
                raise NotACallError
            if end < len(self._text) or self.ended:
                break
            yield
        word = self._text[self._at : end]
        self.skip(len(word))
        return word

    def one_of(self, marks: Sequence[str]) -> Steps[str | None]:
        """Go past the one of `marks` that comes next, if one does. None of them begins another."""
        while True:
            rest = self._text[self._at :]
            for mark in marks:
                if rest.startswith(mark):
                    self.skip(len(mark))
                    return mark
            if self.ended or not any(mark.startswith(rest) for mark in marks):
                return None
            yield

    def _expect(self, mark: str) -> Steps[None]:
        if (yield from self.spaces()) != mark:
            raise NotACallError
        self.skip()

    def _until(self, mark: str) -> Steps[str]:
        """Go past `mark`; the text before it."""
        parts = []
        while (end := self._text.find(mark, self._at)) < 0:
            keep = max(self._at, len(self._text) - len(mark) + 1)
            parts.append(self._text[self._at : keep])
            self._at = keep
            if self.ended:
                self.seen = self.position
                raise NotACallError
            yield
        parts.append(self._text[self._at : end])
        self._at = end
        self.skip(len(mark))
        return "".join(parts)

    # -- literals -------------------------------------------------------------------------------------------------

    def literal(self, depth: int = 0) -> Steps[Any]:
        """A value of Python or JSON."""
        char = yield from self.spaces()
        if char in ("'", '"'):
            return (yield from self._strings())
        if char in _CLOSING:
            return (yield from self._group(char, depth + 1))
        return (yield from self._plain((yield from self.word(_WORD)), depth))

    def _plain(self, word: str, depth: int) -> Steps[Any]:
        """What `word` says where a value is expected: a constant, a number, or a string's prefix."""
        if word in _LITERALS:
            return _LITERALS[word]
        if word and word in "rRuUbB" and (yield from self.blanks()) in ("'", '"'):
            return (yield from self._strings(raw=word in "rR"))
        return _number(word)

    def _strings(self, raw: bool = False) -> Steps[str]:
        text = yield from self.string(raw=raw)
        while (yield from self.spaces()) in ("'", '"'):  # Python joins strings that stand beside each other
            text += yield from self.string()
        return text

    def string(self, limit: int | None = None, raw: bool = False) -> Steps[str]:
        """A string in quotes of any kind; at most `limit` characters long."""
        quote = self._text[self._at]
        while len(self._text) - self._at < 3 and not self.ended and not self._text[self._at :].strip(quote):
            yield
        mark = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self.skip(len(mark))
        pattern = _BODIES[mark]
        parts: list[str] = []
        size = 0
        while True:
            match = pattern.match(self._text, self._at)
            assert match is not None
            parts.append(match[0])
            size += len(match[0])
            self._at = match.end()
            if limit is not None and size > limit:
                raise NotACallError
            if self._text.startswith(mark, self._at):
                break
            if self.ended:
                self.seen = self._base + len(self._text)
                raise NotACallError
            yield
        self.skip(len(mark))
        body = "".join(parts)
        return _characters(body if raw or "\\" not in body else _ESCAPE.sub(_character, body))

    def _group(self, opening: str, depth: int) -> Steps[Any]:
        """A list, tuple, set or mapping."""
        if depth > MAX_DEPTH:
            raise NotACallError
        self.skip()
        closing = _CLOSING[opening]
        items: list[Any] = []
        pairs: dict[str, Any] = {}
        comma = False
        while (yield from self.spaces()) != closing:
            item = yield from self.literal(depth)
            after = yield from self.spaces()
            if opening == "{" and not items and after == ":":
                self.skip()
                pairs[_key(item)] = yield from self.literal(depth)
                after = yield from self.spaces()
            elif pairs:
                raise NotACallError
            else:
                items.append(item)
            if comma := after == ",":
                self.skip()
            elif after != closing:
                raise NotACallError
        self.skip()
        if opening == "{" and not items:
            return pairs
        if opening == "(" and len(items) == 1 and not comma:
            return items[0]  # a value in brackets; a tuple of one has its comma
        return items

    # -- calls as Python ------------------------------------------------------------------------------------------

    def call(self) -> Steps[Written]:
        """`name(a=1, ...)`; arguments without a name are those of the schema, in its order."""
        name = yield from self.name()
        char = yield from self.blanks()
        if char == "{":  # the rest of <function=name{...}</function>, whose first token was taken away
            arguments = yield from self.literal()
            if not isinstance(arguments, dict) or not (yield from self.one_of(("</function>",))):
                raise NotACallError
            return Written(name, arguments)
        if char != "(":
            raise NotACallError
        self.skip()
        named: dict[str, Any] = {}
        placed: list[Any] = []
        while (yield from self.spaces()) != ")":
            key, value = yield from self._argument()
            if key is None:
                if named:
                    raise NotACallError  # by place, after one by name
                placed.append(value)
            elif key in named:
                raise NotACallError
            else:
                named[key] = value
            after = yield from self.spaces()
            if after == ",":
                self.skip()
            elif after != ")":
                raise NotACallError
        self.skip()
        return Written(name, _by_name(placed, named, self._tools[name]) if placed else named)

    def name(self) -> Steps[str]:
        """The name of a tool."""
        name = resolve((yield from self.word()), self._tools)
        if name is None:
            raise NotACallError
        return name

    def _argument(self) -> Steps[tuple[str | None, Any]]:
        char = yield from self.spaces()
        if not (char.isalnum() or char == "_"):
            return None, (yield from self.literal())
        word = yield from self.word(_WORD)
        if word not in _LITERALS and (yield from self.spaces()) == "=":
            self.skip()
            return word, (yield from self.literal())
        return None, (yield from self._plain(word, 0))

    def calls_in_list(self) -> Steps[list[Written]]:
        """`[...]` of calls in either writing."""
        self.skip()
        calls: list[Written] = []
        while True:
            char = yield from self.spaces()
            if char == "]" and calls:
                self.skip()
                return calls
            calls += (yield from self.calls_in_object()) if char == "{" else [(yield from self.call())]
            after = yield from self.spaces()
            if after == ",":
                self.skip()
            elif not after and self._may_be_cut:
                return calls
            elif after != "]":
                raise NotACallError

    # -- calls as JSON --------------------------------------------------------------------------------------------

    def calls_in_object(self, framed: bool = False) -> Steps[list[Written]]:
        """`{"name": ..., "parameters": ...}` and its kin, decided by the first key that a call does not have.

        Args:
            framed: something else says that this is a call; it needs no arguments then.
        """
        entry = _Entry()
        yield from self._fields(entry)
        return entry.calls(self._tools, framed)

    def _fields(self, entry: _Entry) -> Steps[None]:
        yield from self._expect("{")
        while True:
            char = yield from self.spaces()
            if char not in ("'", '"'):
                raise NotACallError
            key = yield from self.string(limit=MAX_WORD)
            if key not in _KEYS:
                raise NotACallError
            yield from self._expect(":")
            yield from self._field(key, entry)
            after = yield from self.spaces()
            if after == ",":
                self.skip()
            elif after == "}":
                self.skip()
                return
            elif after or not self._may_be_cut or entry.name is None or entry.arguments is _MISSING:
                raise NotACallError
            else:
                return  # all that matters is there

    def _field(self, key: str, entry: _Entry) -> Steps[None]:
        char = yield from self.spaces()
        if key in _NAMES and entry.name is None:
            if char == "{" and key == "function":
                entry.framed = True
                yield from self._fields(entry)
                return
            if char not in ("'", '"'):
                raise NotACallError
            entry.name = resolve((yield from self.string(limit=MAX_WORD)), self._tools)
            if entry.name is None:
                raise NotACallError
        elif key in _ARGUMENTS and entry.arguments is _MISSING:
            entry.arguments = yield from self.literal()
        elif key == "type" and char in ("'", '"'):
            if (yield from self.string(limit=MAX_WORD)) not in _TYPES:
                raise NotACallError
            entry.framed = True
        elif key in _LISTS and char == "[":
            entry.listed += yield from self._listed_calls()
        elif key in _ASIDE:
            yield from self.literal()
        else:
            raise NotACallError

    def _listed_calls(self) -> Steps[list[Written]]:
        self.skip()
        calls: list[Written] = []
        while (yield from self.spaces()) != "]":
            calls += yield from self.calls_in_object(framed=True)
            if (yield from self.spaces()) == ",":
                self.skip()
        self.skip()
        return calls

    # -- calls as tags --------------------------------------------------------------------------------------------

    def calls_in_function_tag(self) -> Steps[list[Written]]:
        """What stands behind `<function=`: the name, and a JSON object or a tag for each parameter.

        Models leave out or replace the bracket behind the name: `<function=f{...}</function>`, `<function=f={...}`.
        """
        name = yield from self.name()
        char = yield from self.spaces()
        if char in (">", "=", ",", "("):
            self.skip()
            char = yield from self.spaces()
        if char == "{":
            arguments = yield from self.literal()
            if (yield from self.spaces()) in (")", ">"):
                self.skip()
        else:
            arguments = yield from self._parameters()
        if not isinstance(arguments, dict):
            raise NotACallError
        yield from self.spaces()
        closed = yield from self.one_of(("</function>",))
        if not closed and not arguments:
            raise NotACallError
        return [Written(name, arguments)]

    def _parameters(self) -> Steps[dict[str, Any]]:
        made: dict[str, Any] = {}
        while (yield from self.spaces()) == "<" and (yield from self.one_of(("<parameter=",))):
            key = yield from self.word()
            if not key or (yield from self.one_of((">",))) is None:
                raise NotACallError
            text = _characters((yield from self._until("</parameter>")))
            made[key] = _loose(text.removeprefix("\r").removeprefix("\n").removesuffix("\n").removesuffix("\r"))
        return made


_MISSING: Final = object()


@dataclass(slots=True)
class _Entry:
    """What a JSON object says of a call, key by key."""

    name: str | None = None
    arguments: Any = _MISSING
    framed: bool = False
    listed: list[Written] = field(default_factory=list)

    def calls(self, tools: Tools, framed: bool) -> list[Written]:
        if self.name is None:
            if self.listed and self.arguments is _MISSING:
                return self.listed
            raise NotACallError
        if self.arguments is _MISSING:
            if not (framed or self.framed):
                raise NotACallError  # `{"name": "f"}` alone is an answer about something called f
            return [Written(self.name)]
        arguments = _whole(self.arguments) if isinstance(self.arguments, str) else self.arguments
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict) or _describes(arguments, tools[self.name]):
            raise NotACallError
        return [Written(self.name, arguments)]


def _describes(arguments: Mapping[str, Any], tool: Tool) -> bool:
    """Whether these are no arguments but the schema of some: an answer that shows the tool itself."""
    shown = arguments.get("type") == "object" and isinstance(arguments.get("properties"), dict)
    return shown and "properties" not in _properties(tool)


def _properties(tool: Tool) -> Mapping[str, Any]:
    known = tool.schema.get("properties")
    return known if isinstance(known, Mapping) else {}


def _by_name(placed: Sequence[Any], named: Mapping[str, Any], tool: Tool) -> dict[str, Any]:
    """Arguments given by place, under the names that the schema has in those places."""
    known = _properties(tool)
    names = list(known)
    only = placed[0] if len(placed) == 1 and not named else None
    if isinstance(only, dict) and only and only.keys() <= known.keys():
        first = known[names[0]]
        if not (isinstance(first, Mapping) and first.get("type") == "object"):
            return only  # f({"a": 1}), as small models write f(a=1)
    made = dict(zip(names, placed, strict=False))
    if len(placed) > len(names) or made.keys() & named.keys():
        raise NotACallError
    return {**made, **named}


def _key(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, int | float) and not isinstance(item, bool):
        return str(item)
    raise NotACallError


def _whole(text: str) -> Any:
    """The value that a text consists of; {} when it is empty."""
    reader = Reader({})
    reader.feed(text)
    reader.ended = True
    if not _finish(reader.spaces()):
        return {}
    value = _finish(reader.literal())
    if _finish(reader.spaces()):
        raise NotACallError
    return value


def _loose(text: str) -> Any:
    """A parameter's text: a value where it is one, else the text itself."""
    try:
        value = _whole(text) if text.strip() else text
    except NotACallError:
        return text
    return text if isinstance(value, str) else value


def _finish(steps: Steps[T]) -> T:
    """Run steps whose text is all there."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _number(text: str) -> int | float:
    if _HEX.fullmatch(text):
        return int(text, 16)
    if not _NUMBER.fullmatch(text):
        raise NotACallError
    digits = text.replace("_", "")
    if digits.lstrip("+-").isdecimal():
        return int(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise NotACallError
    return value


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(\r?\n)|(.))", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIMPLE: Final[Mapping[str, str]] = {
    **dict(zip("ntrbfv0a", "\n\t\r\b\f\v\0\a", strict=True)),
    **{mark: mark for mark in "\"'\\/"},
}


def _characters(text: str) -> str:
    """`text` with halves of characters put together, as JSON writes what lies beyond 16 bits; a lone half is lost."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(match: re.Match[str]) -> str:
    short, byte, long, line, other = match.groups()
    if digits := short or byte or long:
        code = int(digits, 16)
        return chr(code) if code < 0x110000 else match[0]
    if line:
        return ""
    return _SIMPLE.get(other, match[0])
