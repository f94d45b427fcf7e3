"""`ChatRequest` -> the OpenAI chat-completions body. Shared by every host that takes OpenAI's messages.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from ..errors import CapabilityError, InputError
from ..spi import Target
from ..types.messages import Message
from ..types.parts import Document, Image, Text, ToolCall, Video
from ..types.request import NUMBERS, ChatRequest
from ..types.tools import JsonSchema, canonical_json
from .json_body import Body, merge

__all__ = ["SchemaFormat", "encode_body", "extra_for", "openai_format", "parameters"]

_TEXT = (Text, ToolCall)
_NUMBERS = tuple(NUMBERS)
SchemaFormat = Callable[[JsonSchema], Mapping[str, Any]]


def openai_format(schema: JsonSchema) -> Mapping[str, Any]:
    """`response_format` as OpenAI, vLLM, SGLang and llama.cpp take it."""
    return {
        "type": "json_schema",
        "json_schema": {"name": schema.name, "strict": schema.strict, "schema": schema.schema},
    }


def parameters(request: ChatRequest, schema_format: SchemaFormat) -> dict[str, Any]:
    """All but model and messages: the knobs that were set, under OpenAI's names (`top_k` and `repetition_penalty` under
    vLLM's), tools, and the JSON schema as the host wants it."""
    body = {name: value for name in _NUMBERS if (value := getattr(request, name)) is not None}
    if request.stop:
        body["stop"] = list(request.stop)  # TGI takes no string here; everybody takes a list
    if request.logprobs is not None:
        body["logprobs"] = True
        if request.logprobs > 0:
            body["top_logprobs"] = request.logprobs
    if request.parallel_tool_calls is not None and request.tools:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.tools:
        body["tools"] = _tool_list(request)
        body["tool_choice"] = _tool_choice(request)
    if request.output is not None:
        body["response_format"] = schema_format(request.output)
    return body


def _tool_list(request: ChatRequest) -> list[dict[str, Any]]:
    """`tools`."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.schema},
        }
        for tool in request.tools
    ]


def _tool_choice(request: ChatRequest) -> Any:
    """`tool_choice`: a word, or the named function."""
    if request.tool_choice in ("auto", "none", "required"):
        return request.tool_choice
    return {"type": "function", "function": {"name": request.tool_choice}}


def extra_for(request: ChatRequest, target: Target) -> dict[str, Any]:
    """The caller's `extra` for this target: first the kind's, then, over it, the account's."""
    extra: dict[str, Any] = {}
    if request.extra:
        for name in dict.fromkeys((target.kind, target.provider)):
            if name in request.extra:
                merge(extra, request.extra[name])
    return extra


def encode_body(
    head: dict[str, Any], request: ChatRequest, tail: dict[str, Any], target: Target, *, content_or_calls: bool = False
) -> bytes | tuple[bytes, ...]:
    """The body: `head` (the model stands first, so that routers can read it early), the messages, `tail`.

    The caller's `extra` is merged last, over all three. `content_or_calls` leaves text out of turns with tool calls.

    Raises:
        InputError: something in it cannot be written as JSON.
    """
    try:
        return _encode(head, request, tail, target, content_or_calls)
    except PydanticSerializationError as error:
        raise InputError(f"extra=, a tool or a message holds what JSON cannot: {error}") from None


def _encode(
    head: dict[str, Any], request: ChatRequest, tail: dict[str, Any], target: Target, content_or_calls: bool
) -> bytes | tuple[bytes, ...]:
    messages: Any = None
    extra = extra_for(request, target)
    if extra:
        messages = extra.pop("messages", None)
        for key in head.keys() & extra.keys():
            head[key] = merge({key: head[key]}, {key: extra.pop(key)})[key]
        merge(tail, extra)
    if messages is None and all(_is_text(message) for message in request.messages):
        messages = [_text_message(message, place, content_or_calls) for place, message in enumerate(request.messages)]
    if messages is not None:
        return to_json({**head, "messages": messages, **tail}, inf_nan_mode="null")
    body = Body()
    body.write(b"{")
    for key, value in head.items():
        body.value(key)
        body.write(b":")
        body.value(value)
        body.write(b",")
    body.write(b'"messages":')
    _messages(body, request, target, content_or_calls)
    for key, value in tail.items():
        body.write(b",")
        body.value(key)
        body.write(b":")
        body.value(value)
    body.write(b"}")
    return body.finish()


def _messages(body: Body, request: ChatRequest, target: Target, content_or_calls: bool) -> None:
    body.write(b"[")
    for position, message in enumerate(request.messages):
        if position:
            body.write(b",")
        if _is_text(message):
            body.value(_text_message(message, position, content_or_calls))
        else:
            _mixed_message(body, message, target)
    body.write(b"]")


def _is_text(message: Message) -> bool:
    """Whether a message's content goes as a string, as that of text alone does everywhere: servers that know no parts
    refuse an array (Cloudflare's 5006 "Type mismatch of '/messages/0/content', 'array' not in 'string'")."""
    return all(isinstance(part, _TEXT) for part in message.parts)


def _text_message(message: Message, position: int, content_or_calls: bool) -> dict[str, Any]:
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    out: dict[str, Any] = {
        "role": message.role,
        "content": "".join(texts) if message.role == "assistant" else "\n".join(texts),
    }
    if len(texts) < len(message.parts) and (calls := message.tool_calls):
        out["tool_calls"] = [
            {
                "id": call.id or f"call_{position}_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.raw_arguments or canonical_json(call.arguments)},
            }
            for index, call in enumerate(calls)
        ]
        if content_or_calls:
            del out["content"]
    if message.role == "tool":
        out["tool_call_id"] = message.tool_call_id
    if message.name:
        out["name"] = message.name
    return out


def _mixed_message(body: Body, message: Message, target: Target) -> None:
    body.write(b'{"role":')
    body.value(message.role)
    if message.role == "tool":
        body.write(b',"tool_call_id":')
        body.value(message.tool_call_id)
    if message.name:
        body.write(b',"name":')
        body.value(message.name)
    body.write(b',"content":[')
    for position, part in enumerate(message.parts):
        if position:
            body.write(b",")
        match part:
            case Text(text=text):
                body.value({"type": "text", "text": text})
            case Image():
                _image(body, part, target)
            case Document() | Video():
                kind = type(part).__name__
                raise CapabilityError(
                    f"{target.name} takes text and images, not a {kind}; turn it into images first",
                    missing={target.name: kind.lower()},
                )
            case ToolCall():
                raise CapabilityError(
                    f"{target.name} takes no tool call beside an image in one message",
                    missing={target.name: "images in assistant messages"},
                )
    body.write(b"]}")


def _host_reads(image: Image, target: Target) -> bool:
    """Whether the host gets the image by its address."""
    if image.kind == "storage":
        return image.scheme in target.row.image.storage
    return image.kind == "url" and target.row.features.get("image_url") == "native"


def _image(body: Body, image: Image, target: Target) -> None:
    data = image.loaded()
    body.write(b'{"type":"image_url","image_url":{"url":')
    if data is not None:
        body.write(b'"data:' + data.media_type.encode() + b";base64,")
        body.blob(data.base64)
        body.write(b'"')
    elif _host_reads(image, target):
        body.value(image.source)
    else:
        raise CapabilityError(
            f"{target.name} takes images as data only, and {image!r} was not loaded",
            missing={target.name: "image URLs"},
        )
    if image.detail is not None:
        body.write(b',"detail":')
        body.value(image.detail)
    body.write(b"}}")
