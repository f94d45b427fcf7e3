"""What callers pass as `tools=` -> `Tool` values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..types.tools import Tool

__all__ = ["as_tool", "as_tools"]

_NAME = r"[a-zA-Z0-9_-]{1,64}"


def as_tools(tools: Sequence[Tool | Callable[..., Any] | Mapping[str, Any]], choice: str) -> tuple[Tool, ...]:
    """Check and convert `tools=` and `tool_choice=`.

    Raises:
        InputError: a bad tool, two of one name, or a choice that names none of them.
    """
    if isinstance(tools, Mapping | Tool | str) or not isinstance(tools, Iterable):
        raise InputError("tools= takes a list of tools")
    made = tuple(as_tool(tool) for tool in tools)
    names = [tool.name for tool in made]
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two tools are called {double!r}")
    if choice not in ("auto", "none", "required", *names):
        known = ", ".join(repr(name) for name in names) or "there are none"
        raise InputError(f"tool_choice must be 'auto', 'none', 'required' or a tool's name ({known}), not {choice!r}")
    if choice == "required" and not made:
        raise InputError("tool_choice='required' needs tools")
    return made


def as_tool(tool: Tool | Callable[..., Any] | Mapping[str, Any]) -> Tool:
    """A `Tool` from one, from a typed function, or from an OpenAI-style dict.

    Raises:
        InputError: it is none of these, or its name or schema cannot be used.
    """
    if isinstance(tool, Mapping):
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InputError("a tool as a dict needs function.name and function.parameters, as OpenAI writes them")
        made = Tool(
            function["name"],
            str(function.get("description") or ""),
            function.get("parameters") or {"type": "object", "properties": {}},
        )
    elif isinstance(tool, Tool):
        made = tool
    elif callable(tool):
        from .schema import tool_from_function

        made = tool_from_function(tool)
    else:
        raise InputError(f"a tool is a function, a Tool or a dict, not {type(tool).__name__}")
    if not re.fullmatch(_NAME, made.name):
        raise InputError(f"tool name {made.name!r}: hosts take 1 to 64 letters, digits, '_' and '-'")
    if not isinstance(made.schema, Mapping) or made.schema.get("type") != "object":
        raise InputError(f"tool {made.name!r}: the schema of its arguments must be of type object")
    return made
