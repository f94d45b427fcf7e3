"""What many rounds of figures say: medians, and ratios within a round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

Round = Mapping[str, Any]
"""Figures by name; {"error": TEXT} when it came to nothing, and nothing at all when it was not made."""
Rounds = Mapping[str, Sequence[Round]]
"""By client: as many rounds for each, in the same order."""


def values(rounds: Rounds, client: str, figure: str) -> list[float]:
    """One client's figure in each round that has it."""
    return [found[figure] for found in rounds.get(client, ()) if figure in found]


def median(rounds: Rounds, client: str, figure: str) -> float | None:
    """The middle one; None when no round has it."""
    found = values(rounds, client, figure)
    return statistics.median(found) if found else None


def ratios(rounds: Rounds, client: str, over: str, figure: str) -> list[float]:
    """The client's figure over another's in the same round, of each round that has both."""
    pairs = zip(rounds.get(client, ()), rounds.get(over, ()), strict=False)
    return [mine[figure] / other[figure] for mine, other in pairs if figure in mine and other.get(figure)]


def ratio(rounds: Rounds, client: str, over: str, figure: str) -> float | None:
    """The middle one of `ratios`; None when there is none."""
    found = ratios(rounds, client, over, figure)
    return statistics.median(found) if found else None


def number(value: float | None) -> str:
    """Three digits, and no exponent: 0.0123, 1.23, 123, 12,300; a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    rounded = Decimal(f"{value:#.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:f}"


def error(rounds: Rounds, client: str) -> str | None:
    """The last line of the first error."""
    for found in rounds.get(client, ()):
        if "error" in found:
            return str(found["error"]).strip().splitlines()[-1]
    return None
