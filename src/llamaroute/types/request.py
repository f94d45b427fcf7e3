"""One request, after the caller's arguments were checked and before any provider has seen it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any

from .dataclass import dataclass
from .messages import Message
from .parts import Document, Image, Video
from .tools import JsonSchema, Tool

__all__ = ["NUMBERS", "SAMPLING_FIELDS", "ChatRequest"]

_PICTURES = (Image, Document, Video)
_NOTHING: Mapping[str, Any] = MappingProxyType({})

NUMBERS: Mapping[str, type] = MappingProxyType(
    {
        "max_tokens": int,
        "temperature": float,
        "top_p": float,
        "top_k": int,
        "seed": int,
        "frequency_penalty": float,
        "presence_penalty": float,
        "repetition_penalty": float,
    }
)
"""The knobs that are plain numbers, and whether they are whole."""

SAMPLING_FIELDS = (*NUMBERS, "stop", "logprobs", "parallel_tool_calls")
"""The knobs of a request that a host may know, know in a range, or not know at all."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Everything about a chat request that a provider could need. None means: leave it to the host.

    Ranges and defaults are the host's; `llamaroute.catalog` lists them with their sources.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    output: JsonSchema | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: int | None = None
    """How many alternatives per token to report; 0 means only the chosen one."""
    parallel_tool_calls: bool | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NOTHING)
    """Merged last into the body, per account name or provider kind."""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """For observers and logs; never sent."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in order."""
        return tuple(image for message in self.messages for image in message.images)

    @property
    def has_pictures(self) -> bool:
        """Whether there are images, or documents or videos, which become images on the way."""
        for message in self.messages:
            for part in message.parts:
                if isinstance(part, _PICTURES):
                    return True
        return False

    def evolve(self, **changes: Any) -> ChatRequest:
        """A copy with some fields changed."""
        return replace(self, **changes)
