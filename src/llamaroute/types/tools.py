"""Tools a model may call, and how it is told to call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from pydantic_core import from_json, to_json

from .dataclass import dataclass

__all__ = ["JsonSchema", "Tool", "canonical_json", "parse_arguments"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call.

    Args:
        name: letters, digits, `_` and `-`, at most 64; what the model writes to call it.
        description: what it does and when to use it.
        schema: JSON Schema of its arguments, of type object.
        call: the function itself, sync or async, called with the arguments by name; only `run` calls it, `chat` and
            `stream` never do.
        timeout: seconds a call of it may take in `run`; None leaves it to `tool_timeout=`.
        bind: JSON arguments -> the function's own types (models, enums, dates); set for typed functions. Raises
            ValueError, one complaint a line.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    call: Callable[..., Any] | None = None
    timeout: float | None = None
    bind: Callable[[Mapping[str, Any]], dict[str, Any]] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The JSON that `output=` asks for: a name, a JSON Schema, and whether it must be kept to the letter."""

    name: str
    schema: Mapping[str, Any]
    strict: bool = True


def parse_arguments(text: str) -> tuple[dict[str, Any], str | None]:
    """Read a model's arguments: `({...}, None)`, or `({}, why)` when the text is no JSON object.

    An empty text means no arguments: hosts send it for functions without parameters.
    """
    if not text.strip():
        return {}, None
    try:
        value = from_json(text)
    except ValueError as error:
        import json

        try:  # a line break inside a string, as models write them; Python's reader can let it pass
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return {}, f"not JSON: {error}"
    if isinstance(value, dict):
        return value, None
    return {}, f"not a JSON object but {type(value).__name__}"


def canonical_json(value: Any) -> str:
    """`value` as JSON text, compact, in the order given."""
    return to_json(value, inf_nan_mode="null").decode()
