"""Reads the corpus: `leaks.jsonl` and `harmless.jsonl`, one entry a line, and the leaks that `made.py` makes.

id       the entry's name
kind     recorded (a real model's answer), reported (quoted in an issue), documented (the vendor's example), made
source   where it was found; entries of kind made have none
tools    the request's tools: their names, or their names with their parameters in order
text     what the model wrote
calls    leaks only: what it called, [name, arguments]
rest     leaks only: what of the text is no call, spaces aside; nothing where it is not given
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamaroute.types.tools import Tool

from . import made

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One text, and what the recogniser must make of it."""

    id: str
    kind: str
    source: str
    tools: tuple[Tool, ...]
    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    rest: str = ""

    def __str__(self) -> str:
        return self.id


def leaks() -> list[Entry]:
    """Texts that hold calls."""
    return [_entry(row) for row in (*_rows("leaks.jsonl"), *made.leaks())]


def harmless() -> list[Entry]:
    """Texts that hold none, though some names in them are tools."""
    return [_entry(row) for row in _rows("harmless.jsonl")]


def tool(name: str, *parameters: str) -> Tool:
    """A tool with these parameters."""
    return Tool(name, "", {"type": "object", "properties": {parameter: {} for parameter in parameters}})


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").split("\n") if line]


def _entry(row: dict[str, Any]) -> Entry:
    named = row["tools"] if isinstance(row["tools"], dict) else dict.fromkeys(row["tools"], ())
    return Entry(
        id=row["id"],
        kind=row["kind"],
        source=row.get("source", ""),
        tools=tuple(tool(name, *parameters) for name, parameters in named.items()),
        text=row["text"],
        calls=tuple((name, arguments) for name, arguments in row.get("calls", ())),
        rest=row.get("rest", ""),
    )
