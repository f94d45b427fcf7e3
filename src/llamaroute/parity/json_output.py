"""`output=` for a target without JSON schemas: the schema goes into the prompt, or is that of a tool it must call.

What comes back is read and checked like any other answer (`output.py`); an answer that does not fit is asked again by
the repair layer.
"""

from __future__ import annotations

from typing import Any

from ..types.parts import Text, ToolCall
from ..types.request import ChatRequest
from ..types.response import ChatResponse
from ..types.tools import Tool, canonical_json
from .tool_prompt import with_system

__all__ = ["as_tool", "from_tool", "in_prompt"]


def in_prompt(request: ChatRequest) -> ChatRequest:
    """The request with the schema described in the system message."""
    schema = request.output
    assert schema is not None
    calling = bool(request.tools) and request.tool_choice != "none"
    when = "Unless you call a tool, answer" if calling else "Answer"
    text = (
        f"{when} with JSON alone: one object that fits this JSON Schema, without words before or after it and without "
        f"a code fence.\n{canonical_json(schema.schema)}"
    )
    return request.evolve(messages=with_system(request.messages, text), output=None)


def as_tool(request: ChatRequest) -> ChatRequest:
    """The request with one tool, which must be called, whose arguments are the answer."""
    schema = request.output
    assert schema is not None
    tool = Tool(schema.name, "Gives the answer.", schema.schema)
    return request.evolve(tools=(tool,), tool_choice=schema.name, output=None)


def from_tool(response: ChatResponse[Any], name: str) -> ChatResponse[Any]:
    """The answer to `as_tool`: the call's arguments as the text of an answer."""
    call = next((call for call in response.tool_calls if call.name == name), None)
    if call is None:
        return response  # it answered in words; reading them as JSON says what is wrong
    text = canonical_json(call.arguments) if call.error is None else call.raw_arguments
    finish = "stop" if response.finish_reason == "tool_calls" else response.finish_reason
    others = tuple(part for part in response.parts if not isinstance(part, Text | ToolCall))
    return response.model_copy(
        update={"text": text, "parts": (Text(text), *others), "tool_calls": (), "finish_reason": finish}
    )
