"""Words about routes: how targets are chosen, and how they do."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .dataclass import dataclass

__all__ = ["Strategy", "TargetHealth"]

Strategy: TypeAlias = Literal["failover", "weighted", "round-robin", "lowest-latency", "cheapest", "least-busy"]
"""Which target of a route is asked first."""


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """How a target does, as this client has seen it.

    Attributes:
        target: `provider:model`.
        state: `closed` is healthy; `cooling` is passed over while another target can be asked; `half-open` has cooled,
            and one call at a time tries it.
        seconds: left of the cooldown.
        reason: class name of the last error, empty where none is remembered.
        failures: in a row.
        in_flight: calls under way.
        first_token: running mean of a stream's seconds to its first text, or None.
        plain: the same of plain calls, to their headers.
        retries: attempts that the retry budget would pay for.
    """

    target: str
    state: Literal["closed", "cooling", "half-open"] = "closed"
    seconds: float = 0.0
    reason: str = ""
    failures: int = 0
    in_flight: int = 0
    first_token: float | None = None
    plain: float | None = None
    retries: int = 0
