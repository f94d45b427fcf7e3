"""`ChatRequest` -> the body of Bedrock's Converse and ConverseStream, which are the same.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError

from ..errors import CapabilityError, InputError
from ..spi import Target
from ..types.parts import Image, Text
from ..types.request import ChatRequest
from ..types.response import Notice
from ..types.tools import canonical_json
from .bedrock_turns import Block, Call, Conversation, Result, arrange
from .json_body import Body, merge
from .openai_request import extra_for

__all__ = ["Adjust", "encode_converse"]

Adjust = Callable[[dict[str, Any], ChatRequest, Target], None]

_INFERENCE = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
_ABSENT = ("top_k", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "logprobs")
"""Knobs that Converse has no field for."""


def encode_converse(
    request: ChatRequest, target: Target, adjust: Adjust
) -> tuple[bytes | tuple[bytes, ...], tuple[Notice, ...]]:
    """The body, and what was changed for it.

    `adjust` has the last word over everything but the messages, before the caller's `extra`.

    Raises:
        InputError: something in it cannot be written as JSON, or the conversation's calls and results do not match.
        CapabilityError: Converse has no place for something in it.
    """
    try:
        with_tools = bool(request.tools) and request.tool_choice != "none"
        conversation = arrange(request.messages, target, tools=with_tools)
        if any(image.detail is not None for image in request.images):
            conversation.note("image_detail", f"{target.name} knows no `detail` of images: it was left out", "images")
        body = _parameters(request, target, conversation)
        if with_tools:
            body["toolConfig"] = _tool_config(request, target)
        adjust(body, request, target)
        return _encode(conversation, body, extra_for(request, target), target), tuple(conversation.notices)
    except PydanticSerializationError as error:
        raise InputError(f"extra=, a tool or a message holds what JSON cannot: {error}") from None


def _parameters(request: ChatRequest, target: Target, conversation: Conversation) -> dict[str, Any]:
    for name in _ABSENT:
        if (value := getattr(request, name)) is not None:
            raise CapabilityError(
                f"{target.name} cannot take {name}={value}: Converse has no such parameter; what a model knows beyond "
                "it goes into extra= as additionalModelRequestFields",
                missing={target.name: f"{name}={value}"},
            )
    if request.parallel_tool_calls is False and request.tools:
        raise CapabilityError(
            f"{target.name} cannot be told to make one tool call at a time; leave parallel_tool_calls out",
            missing={target.name: "parallel_tool_calls=False"},
        )
    body: dict[str, Any] = {}
    if conversation.system:
        body["system"] = [{"text": text} for text in conversation.system]
    inference = {name: value for key, name in _INFERENCE.items() if (value := getattr(request, key)) is not None}
    if request.stop:
        inference["stopSequences"] = list(request.stop)
    if inference:
        body["inferenceConfig"] = inference
    if request.output is not None:
        _require("json_schema", "JSON schemas", target)
        schema = {"schema": canonical_json(request.output.schema), "name": request.output.name}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    return body


def _tool_config(request: ChatRequest, target: Target) -> dict[str, Any]:
    tools = []
    for tool in request.tools:
        spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": tool.schema}}
        if tool.description.strip():
            spec["description"] = tool.description
        tools.append({"toolSpec": spec})
    config: dict[str, Any] = {"tools": tools}
    # `auto` is what Llama does without a word, and any word may be refused: langchain-ai/langchain-aws sends none.
    if request.tool_choice != "auto":
        _require("forced_tools", "forced tool calls", target)
        named = request.tool_choice != "required"
        config["toolChoice"] = {"tool": {"name": request.tool_choice}} if named else {"any": {}}
    return config


def _require(feature: Any, what: str, target: Target) -> None:
    if target.row.features.get(feature) != "native":
        raise CapabilityError(f"{target.name} has no {what}", missing={target.name: what})


def _encode(
    conversation: Conversation, rest: dict[str, Any], extra: Mapping[str, Any], target: Target
) -> bytes | tuple[bytes, ...]:
    merge(rest, {key: value for key, value in extra.items() if key != "messages"})
    body = Body()
    body.write(b'{"messages":')
    if "messages" in extra:
        body.value(extra["messages"])
    else:
        _messages(body, conversation, target)
    for key, value in rest.items():
        body.write(b",")
        body.value(key)
        body.write(b":")
        body.value(value)
    body.write(b"}")
    return body.finish()


def _messages(body: Body, conversation: Conversation, target: Target) -> None:
    body.write(b"[")
    for comma, turn in _between(conversation.turns):
        body.write(comma + b'{"role":"' + turn.role.encode() + b'","content":')
        _blocks(body, turn.blocks, target)
        body.write(b"}")
    body.write(b"]")


def _blocks(body: Body, blocks: Any, target: Target) -> None:
    body.write(b"[")
    for comma, block in _between(blocks):
        body.write(comma)
        _block(body, block, target)
    body.write(b"]")


def _block(body: Body, block: Block, target: Target) -> None:
    match block:
        case Text(text=text):
            body.value({"text": text})
        case Image():
            _image(body, block, target)
        case Call(id=id, call=call):
            body.value({"toolUse": {"toolUseId": id, "name": block.name, "input": call.arguments}})
        case Result(id=id, parts=parts):
            body.write(b'{"toolResult":{"toolUseId":')
            body.value(id)
            body.write(b',"content":')
            _blocks(body, parts, target)
            body.write(b"}}")


def _image(body: Body, image: Image, target: Target) -> None:
    data = image.loaded()
    if data is None:
        raise CapabilityError(
            f"{target.name} takes images as data only, and {image!r} was not loaded",
            missing={target.name: "image URLs"},
        )
    # The format must be that of the bytes, or the host refuses them: boto/boto3 issue 4415. It was found in them.
    kind = data.media_type.removeprefix("image/")
    if kind not in ("png", "jpeg", "gif", "webp"):
        raise CapabilityError(
            f"{target.name} takes PNG, JPEG, GIF and WebP, {image!r} is {data.media_type}",
            missing={target.name: data.media_type},
        )
    body.write(b'{"image":{"format":"' + kind.encode() + b'","source":{"bytes":"')
    body.blob(data.base64)
    body.write(b'"}}}')


def _between(items: Any) -> Iterator[tuple[bytes, Any]]:
    """Each item with the comma before it."""
    for position, item in enumerate(items):
        yield b"," if position else b"", item
