"""What is wrong with a configuration, and how it is said: file, key path, nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ..errors import ConfigError
from ..types.dataclass import dataclass

__all__ = ["KeyPath", "Problem", "config_error", "did_you_mean", "dotted", "nearest"]

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `kind` is pydantic's name of the error, or empty."""

    path: KeyPath
    text: str
    kind: str = ""


def dotted(path: KeyPath) -> str:
    """`("routes", "a.b", "targets", 0)` as `routes."a.b".targets[0]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = str(step)
            text += ("." if text else "") + (name if _BARE.fullmatch(name) else f'"{name}"')
    return text


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that `name` was probably meant to be, or None."""
    from difflib import get_close_matches

    found = get_close_matches(name, sorted(set(map(str, names))), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of names, or nothing when there are none."""
    names = sorted(set(map(str, names)))
    if (close := nearest(name, names)) is not None:
        return f"; did you mean {close!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def config_error(problems: Sequence[Problem], *, label: str, file: str | None) -> ConfigError:
    """One error for all problems, one line each. `label` says whose problems they are, usually the file."""
    unique = list(dict.fromkeys(problems))
    lines = [f"{dotted(problem.path)}: {problem.text}" if problem.path else problem.text for problem in unique]
    text = lines[0] if len(lines) == 1 else f"{len(lines)} problems" + "".join(f"\n  {line}" for line in lines)
    return ConfigError(f"{label}: {text}", file=file, key=dotted(unique[0].path) or None)
