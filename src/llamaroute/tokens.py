"""Token counts without the host's help. Estimates only: exact counts need a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .types.messages import Message
from .types.parts import Image, Text, ToolCall
from .types.request import ChatRequest
from .types.response import ChatResponse, Usage
from .types.tools import canonical_json

__all__ = ["TokenCount", "estimate_tokens", "estimate_usage"]

BYTES_PER_TOKEN = 4
"""What English prose comes to with Llama 4's vocabulary; other languages and code have fewer bytes a token."""
PER_MESSAGE = 4
"""Header tokens around every message in Llama 4's chat format."""
PER_IMAGE = 147
"""A picture of at most one 336 x 336 tile: 144 patches and 3 marks; larger ones cost more."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Input tokens of a request; `estimated` is False when the target counted them itself."""

    tokens: int
    estimated: bool


def estimate_tokens(request: ChatRequest) -> int:
    """About how many input tokens a request has."""
    total = sum(_message(message) for message in request.messages)
    return total + sum(_text(tool.name + tool.description + canonical_json(tool.schema)) for tool in request.tools)


def estimate_usage(request: ChatRequest, response: ChatResponse[Any]) -> Usage:
    """Usage for a host that reported none."""
    tokens_in = estimate_tokens(request)
    calls = sum(_text(call.name + call.raw_arguments) for call in response.tool_calls)
    tokens_out = _text(response.text) + calls
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, estimated=True)


def _message(message: Message) -> int:
    total = PER_MESSAGE
    for part in message.parts:
        match part:
            case Text(text=text):
                total += _text(text)
            case Image():
                total += PER_IMAGE
            case ToolCall():
                total += _text(part.name + (part.raw_arguments or canonical_json(part.arguments)))
            case _:
                pass
    return total


def _text(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
