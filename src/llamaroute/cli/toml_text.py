"""TOML out of plain values: the standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_key", "toml_table", "toml_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(name: str) -> str:
    """A key, in quotes where TOML wants them."""
    return name if _BARE.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A value; tables become inline ones."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL; other characters than ASCII go in as they are.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(toml_value(item) for item in value)}]"


def toml_table(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    """A table as lines, its header first."""
    header = ".".join(toml_key(step) for step in path)
    return [f"[{header}]", *(f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items())]
