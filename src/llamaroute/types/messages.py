"""Messages: one turn each of a conversation, and what callers may write instead of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ..errors import InputError
from .dataclass import dataclass
from .parts import Document, Image, Part, Text, ToolCall, Video

__all__ = ["Input", "Message", "Role", "assistant", "messages_from", "system", "tool_result", "user"]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
_ROLES = ("system", "user", "assistant", "tool")
_PARTS = (Text, Image, Document, Video, ToolCall)
_LOOSE = (str, Text, Image, Document, Video)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `tool_call_id` and `name` belong to tool results: the call answered and the tool's name."""

    role: Role
    parts: tuple[Part, ...]
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls of an assistant's turn."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def images(self) -> tuple[Image, ...]:
        """The images of this turn."""
        return tuple(part for part in self.parts if isinstance(part, Image))


InputItem: TypeAlias = str | Part | Message | Mapping[str, Any]
Input: TypeAlias = InputItem | Sequence[InputItem]


def system(content: str | Text) -> Message:
    """A system message: instructions that stand above the conversation."""
    return Message("system", _parts((content,)))


def user(*content: str | Part) -> Message:
    """A user's turn of text and images, in the order given."""
    return Message("user", _parts(content))


def assistant(*content: str | Part) -> Message:
    """A model's turn; `ToolCall` parts are the calls it made."""
    return Message("assistant", _parts(content))


def tool_result(
    call: ToolCall | str, content: str | Part | Sequence[str | Part], *, name: str | None = None
) -> Message:
    """What a tool gave back for `call` (a `ToolCall`, or its id together with `name`)."""
    items = (content,) if isinstance(content, str | Text | Image | Document | Video | ToolCall) else tuple(content)
    if isinstance(call, ToolCall):
        return Message("tool", _parts(items), tool_call_id=call.id, name=call.name)
    return Message("tool", _parts(items), tool_call_id=call, name=name)


def messages_from(value: Input, *, system_text: str | None = None) -> tuple[Message, ...]:
    """Turn what a caller may pass as `input` into messages.

    Strings and parts that stand beside each other form one user message. OpenAI-style message dicts are taken as they
    are, but may not name local files.

    Raises:
        InputError: the value is none of these, or there is no message at all.
    """
    if type(value) is str and system_text is None:
        return (Message("user", (Text(value),)),)  # most calls
    items: Sequence[Any]
    if isinstance(value, str | Text | Image | Document | Video | ToolCall | Message | Mapping):
        items = (value,)
    elif isinstance(value, Sequence):
        items = value
    else:
        raise InputError(f"input must be text, a part, a message or a list of these, not {type(value).__name__}")
    messages: list[Message] = [] if system_text is None else [system(system_text)]
    loose: list[str | Part] = []
    for index, item in enumerate(items):
        if isinstance(item, _LOOSE):
            loose.append(item)
            continue
        if loose:
            messages.append(user(*loose))
            loose = []
        if isinstance(item, Message):
            messages.append(item)
        elif isinstance(item, Mapping):
            messages.append(_message_from_dict(item, index))
        else:
            raise InputError(f"input[{index}] must be text, a part or a message, not {type(item).__name__}")
    if loose:
        messages.append(user(*loose))
    if not any(message.role != "system" for message in messages):
        raise InputError("input holds no message to answer; give some text or an image")
    return tuple(messages)


def _parts(content: Sequence[Any]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for item in content:
        if isinstance(item, str):
            parts.append(Text(item))
        elif isinstance(item, _PARTS):
            parts.append(item)
        else:
            raise InputError(f"a message is made of text and parts such as Image, not {type(item).__name__}")
    return tuple(parts)


def _message_from_dict(data: Mapping[str, Any], index: int) -> Message:
    """Read an OpenAI-style message.

    https://platform.openai.com/docs/api-reference/chat/create#chat-create-messages
    """
    where = f"input[{index}]"
    role = data.get("role")
    if role == "developer":  # OpenAI's newer name for the same thing; no host of Llama 4 knows it
        role = "system"
    if role not in _ROLES:
        raise InputError(f"{where}: role must be one of {', '.join(_ROLES)}, not {role!r}")
    content = data.get("content")
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append(Text(content))
    elif isinstance(content, Sequence):
        parts.extend(_part_from_dict(item, f"{where}.content[{i}]") for i, item in enumerate(content))
    elif content is not None:
        raise InputError(f"{where}.content must be text or a list of parts, not {type(content).__name__}")
    calls = data.get("tool_calls") or ()
    if isinstance(calls, str | Mapping) or not isinstance(calls, Sequence):
        raise InputError(f"{where}.tool_calls must be a list, not {type(calls).__name__}")
    for i, call in enumerate(calls):
        parts.append(_call_from_dict(call, f"{where}.tool_calls[{i}]"))
    call_id, name = _text(data, "tool_call_id", where), _text(data, "name", where)
    if role == "tool" and not call_id:
        raise InputError(f"{where}: a tool message needs tool_call_id, the id of the call it answers")
    return Message(role, tuple(parts), tool_call_id=call_id, name=name)


def _text(data: Mapping[str, Any], key: str, where: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}.{key} must be text, not {type(value).__name__}")
    return value


def _part_from_dict(item: Any, where: str) -> Part:
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, Text | Image | Document | Video | ToolCall):
        return item
    if isinstance(item, Mapping):
        match item.get("type"):
            case "text" if isinstance(item.get("text"), str):
                return Text(item["text"])
            case "image_url":
                reference = item.get("image_url")
                url = reference.get("url") if isinstance(reference, Mapping) else reference
                if isinstance(url, str):
                    detail: Any = reference.get("detail") if isinstance(reference, Mapping) else None
                    if detail not in (None, "low", "high", "auto"):
                        raise InputError(f"{where}: detail must be 'low', 'high' or 'auto', not {detail!r}")
                    image = Image(url, detail=detail)
                    image.from_dict = True
                    return image
    kind = item.get("type") if isinstance(item, Mapping) else type(item).__name__
    raise InputError(f"{where}: part of type {kind!r} is not known; use 'text' or 'image_url'")


def _call_from_dict(item: Any, where: str) -> ToolCall:
    from .tools import parse_arguments

    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{where}: a tool call needs function.name and function.arguments")
    arguments = function.get("arguments")
    if isinstance(arguments, Mapping):
        return ToolCall(str(item.get("id") or ""), function["name"], dict(arguments))
    if arguments is not None and not isinstance(arguments, str):
        raise InputError(f"{where}.function.arguments must be JSON text or a table, not {type(arguments).__name__}")
    parsed, error = parse_arguments(arguments or "")
    return ToolCall(str(item.get("id") or ""), function["name"], parsed, arguments or "", error)
