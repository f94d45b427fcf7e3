"""Tools for a target that has none, made up from a JSON schema that allows nothing but calls.

    required        {"name": "<a tool>", "arguments": {...}}
    "<tool name>"   the same, of that one tool
    auto            the same, or {"reply": "<text>"}

`rewrite` turns a request with tools into one with such a schema, `unfold_response` and `CallsFromJson` turn the answer
back. One call per answer: a schema for any number of calls lets a small model go on for ever. Pure, like all of parity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic_core import from_json

from ..errors import CapabilityError, InputError
from ..spi import DecoderEvent
from ..types.events import Finished, TextDelta, ToolCallDelta, ToolCallDone, ToolCallStarted, UsageReported
from ..types.messages import Message
from ..types.parts import Part, Text, ToolCall
from ..types.request import ChatRequest
from ..types.response import ChatResponse, Notice
from ..types.tools import JsonSchema, Tool, canonical_json
from .tool_prompt import as_turns, with_system

__all__ = ["CallsFromJson", "rewrite", "unfold", "unfold_response"]

MALFORMED: Final = "tool_call_malformed"


def rewrite(request: ChatRequest) -> ChatRequest:
    """The request without tools, with a schema in their place and the tools described in the system message.

    Raises:
        CapabilityError: the request also asks for `output`; there is one schema and two who want it.
        InputError: `tool_choice` names no tool of the request.
    """
    tools = _allowed(request)
    messages = _history(request.messages)
    if not tools:
        return request.evolve(messages=messages, tools=(), tool_choice="auto", parallel_tool_calls=None)
    if request.output is not None:
        raise CapabilityError("a target without tools of its own cannot serve tools and output= in one request")
    return request.evolve(
        messages=with_system(messages, _instructions(tools, request)),
        tools=(),
        tool_choice="auto",
        parallel_tool_calls=None,
        output=JsonSchema("tool_call", _schema(tools, reply=request.tool_choice == "auto")),
    )


def unfold(text: str, request: ChatRequest) -> list[Text | ToolCall]:
    """What the model wrote under `rewrite`'s schema: a call, a reply, or, when it is neither, the text as it is."""
    return _read(text, request)[0]


def _read(text: str, request: ChatRequest) -> tuple[list[Text | ToolCall], tuple[Notice, ...]]:
    reader = _Reader(request)
    replied, calls, notices = "", [], []
    for event in (*reader.feed(text), *reader.end()):
        match event:
            case TextDelta(text=piece):
                replied += piece
            case ToolCallDone(call=call):
                calls.append(call)
            case Notice():
                notices.append(event)
            case _:
                pass
    return [Text(replied), *calls] if replied else [*calls], tuple(notices)


def unfold_response(response: ChatResponse[Any], request: ChatRequest) -> ChatResponse[Any]:
    """A plain answer to `rewrite(request)`, as an answer to `request`."""
    if not _allowed(request):
        return response
    parts, notices = _read(response.text, request)
    calls = tuple(part for part in parts if isinstance(part, ToolCall))
    changes: dict[str, Any] = {
        "parts": tuple(parts),
        "text": "".join(part.text for part in parts if isinstance(part, Text)),
        "tool_calls": calls,
        "warnings": (*response.warnings, *notices),
    }
    if calls:
        changes["finish_reason"] = "tool_calls"
    return response.model_copy(update=changes)


class CallsFromJson:
    """A `Transform` of a stream: text that is a call in JSON comes out as a tool call.

    A reply is handed on as it comes, decoded out of its JSON string; a call when it is complete.
    """

    __slots__ = ("_reader", "_usage")

    def __init__(self, request: ChatRequest) -> None:
        self._reader = _Reader(request)
        self._usage: UsageReported | None = None

    def convert(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """See `pipeline.core.Transform`."""
        for event in events:
            match event:
                case TextDelta(text=text):
                    yield from self._reader.feed(text)
                case UsageReported():
                    self._usage = event  # a call is known to be complete at the end only, and stands before the usage
                case Finished(reason=reason, raw_reason=raw_reason):
                    yield from self._reader.end()
                    if self._usage is not None:
                        yield self._usage
                    yield Finished("tool_calls" if self._reader.called else reason, raw_reason)
                case _:
                    yield event


_REPLY = re.compile(r'\s*\{\s*"reply"\s*:\s*"')
# As much of a JSON string's inside as is complete. An escape that is cut stays behind, and so does the high half of a
# surrogate pair whose other half may still come. An escape that JSON does not know is let through as it is.
_STRING = re.compile(
    r'(?:[^"\\]|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=[^\\]|\\[^u])))*"
)
_LONGEST_ESCAPE = len(r"\ud83d\ude00")


class _Reader:
    """Reads the model's JSON piece by piece."""

    __slots__ = ("_may_reply", "_names", "_over", "_pending", "_replying", "called")

    def __init__(self, request: ChatRequest) -> None:
        self._names = {tool.name for tool in _allowed(request)}
        self._may_reply = request.tool_choice == "auto"
        self._pending = ""
        self._replying = False
        self._over = False
        self.called = False

    def feed(self, text: str) -> Iterator[DecoderEvent]:
        if self._over:
            return
        self._pending += text
        if not self._replying:
            found = _REPLY.match(self._pending)
            if found is None or not self._may_reply:
                return
            self._replying = True
            self._pending = self._pending[found.end() :]
        yield from self._reply()

    def end(self) -> Iterator[DecoderEvent]:
        """The answer is complete, or was cut off; what is left is given out as well as it can be."""
        if self._over:
            return
        self._over = True
        text = self._pending
        if self._replying:  # it was cut off; what is left is a piece of an escape, or no JSON at all
            if len(text) >= _LONGEST_ESCAPE:
                yield TextDelta(text)
            return
        if not text:
            return
        call = self._call(text)
        if call is None:
            yield TextDelta(text)
            yield _malformed()
            return
        self.called = True
        yield ToolCallStarted(0, call.id, call.name)
        yield ToolCallDelta(0, call.raw_arguments)
        yield ToolCallDone(0, call)

    def _reply(self) -> Iterator[DecoderEvent]:
        found = _STRING.match(self._pending)
        assert found is not None  # it may match nothing, which is a match
        self._pending = self._pending[found.end() :]
        if piece := found.group():
            yield TextDelta(_unescaped(piece))
        self._over = self._pending.startswith('"')

    def _call(self, text: str) -> ToolCall | None:
        try:
            value = from_json(text)
        except ValueError:
            return None
        if not isinstance(value, dict):
            return None
        name, arguments = value.get("name"), value.get("arguments", {})
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
            return None
        return ToolCall("call_0", name, arguments, canonical_json(arguments))


def _unescaped(piece: str) -> str:
    # Not strict: models put bare line breaks into strings. Half a surrogate pair is no character.
    try:
        text: str = json.loads(f'"{piece}"', strict=False)
    except ValueError:
        return piece
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _malformed() -> Notice:
    return Notice(MALFORMED, "the model's answer is no complete call of a tool; it is given as text", "tools")


def _allowed(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that the model may call in this answer."""
    if not request.tools or request.tool_choice == "none":
        return ()
    if request.tool_choice in ("auto", "required"):
        return request.tools
    named = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not named:
        names = ", ".join(tool.name for tool in request.tools)
        raise InputError(f"tool_choice={request.tool_choice!r} names no tool of this request (tools: {names})")
    return named


def _schema(tools: tuple[Tool, ...], *, reply: bool) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    choices = [_object(name={"const": tool.name}, arguments=_hoisted(tool, definitions)) for tool in tools]
    if reply:
        choices.append(_object(reply={"type": "string"}))
    schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return {**schema, "$defs": definitions} if definitions else schema


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _hoisted(tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    """The tool's schema, fit to stand inside another one: its `$defs` move to the root, under names of their own."""
    schema = dict(tool.schema) or {"type": "object"}
    own = {**schema.pop("definitions", {}), **schema.pop("$defs", {})}
    for name, definition in own.items():
        definitions[f"{tool.name}.{name}"] = _repointed(definition, tool.name)
    hoisted: dict[str, Any] = _repointed(schema, tool.name)
    return hoisted


def _repointed(value: Any, prefix: str) -> Any:
    if isinstance(value, Mapping):
        return {
            key: re.sub(r"^#/(?:\$defs|definitions)/", f"#/$defs/{prefix}.", item)
            if key == "$ref" and isinstance(item, str)
            else _repointed(item, prefix)
            for key, item in value.items()
        }
    return [_repointed(item, prefix) for item in value] if isinstance(value, list | tuple) else value


def _instructions(tools: tuple[Tool, ...], request: ChatRequest) -> str:
    functions = canonical_json(
        [{"name": tool.name, "description": tool.description, "parameters": tool.schema} for tool in tools]
    )
    if request.tool_choice == "auto":
        return (
            'Answer with JSON: {"name": ..., "arguments": {...}} to call one of these functions when it is needed, or '
            f'{{"reply": "..."}} to answer in words. Functions: {functions}'
        )
    return f"Call one of these functions with the right arguments: {functions}"


def _history(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Earlier calls and their results as plain turns.

    In words: a small model that sees its call as JSON writes the same JSON again instead of using the result.
    """
    return as_turns(messages, _in_words, "The result of {name} is: ")


def _in_words(message: Message) -> tuple[Part, ...]:
    return tuple(_as_text(part) if isinstance(part, ToolCall) else part for part in message.parts)


def _as_text(call: ToolCall) -> Text:
    return Text(f"Let me call {call.name}({canonical_json(call.arguments) if call.arguments else ''}).")
