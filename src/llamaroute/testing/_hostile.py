"""Bodies that no good host sends, made from good ones; the same ones every time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

__all__ = ["hostile_bodies"]

MOST_MUTANTS = 150
"""Bodies with one value of another type, made from one body."""

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e300, 10**30, 10**400, "", "x", "\u00b2", "NaN", "9" * 5000, [], [None], [[]], ["x"], [0],
    {}, {"x": None}, {"index": []}, [{}], [{"x": 1}],
)  # fmt: skip
_NOT_JSON = (b"1e999", b"NaN", b"-Infinity", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b"[" * 3000, b"9" * 5000)


def hostile_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Bodies that a broken or malicious host could send, made from a good one. The same every time."""
    chance = random.Random(len(body))
    yield "no bytes", b""
    for size in (1, 7, 300):
        yield f"{size} random bytes", chance.randbytes(size)
    yield "deep lists", b"[" * 100_000
    yield "deep objects", b'data: {"choices":' + b'{"a":' * 100_000
    for _ in range(40):
        damaged = bytearray(body)
        for _ in range(1 + chance.randrange(4)):
            place = chance.randrange(len(damaged) + 1)
            match chance.randrange(4):
                case 0:
                    damaged[place : place + 1] = chance.randbytes(1)
                case 1:
                    del damaged[place : place + 1 + chance.randrange(9)]
                case 2:
                    damaged[place:place] = chance.choice((b"\n", b"\r", b"\n\n", b"{", b"]", b"\x00", b"\xff", b'"'))
                case _:
                    damaged[place:place] = damaged[: chance.randrange(40)]
        yield f"damaged to {bytes(damaged[:400])!r}", bytes(damaged)
    changes = [(*spot, other) for spot in _spots(body) for other in (*_VALUES, *_NOT_JSON)]
    for start, end, value, path, other in chance.sample(changes, min(len(changes), MOST_MUTANTS)):
        if isinstance(other, bytes):
            changed = json.dumps(_replaced(value, path, _HOLE)).encode().replace(f'"{_HOLE}"'.encode(), other)
        else:
            changed = json.dumps(_replaced(value, path, other)).encode()
        shown = repr(other)
        where = ".".join(map(str, path))
        yield f"{where} becomes {shown[:40]}", body[:start] + changed + body[end:]


def _spots(body: bytes) -> Iterator[tuple[int, int, Any, tuple[str | int, ...]]]:
    """Every value inside the JSON of a body: the JSON text's place and value, and the way to the value."""
    pieces = [body]
    if not body.lstrip().startswith((b"{", b"[")):
        pieces = body.splitlines(keepends=True)
    place = 0
    for piece in pieces:
        start = piece.find(b"{")
        text = piece[start:].rstrip() if start >= 0 else b""
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        for path in _paths(value):
            yield place + start, place + start + len(text), value, path
        place += len(piece)


_HOLE = "conformance-hole"


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _replaced(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    if not path:
        return other
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {k: _replaced(v, rest, other) if k == key else v for k, v in value.items()}
    return [_replaced(v, rest, other) if i == key else v for i, v in enumerate(value)]
