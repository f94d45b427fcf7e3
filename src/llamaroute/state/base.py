"""What a place that keeps shared numbers has to do."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Counter"]


class Counter(Protocol):
    """Sums that calls add to, each under a name: what was spent on a day, say.

    Amounts are whole numbers, so that every place adds them exactly. Safe from any thread.
    """

    blocking: bool
    """Whether `reserve` may wait for somebody else; plans then ask for it as a `Blocking` operation."""

    def reserve(self, name: str, amount: int, limit: int | None, until: float) -> tuple[bool, int]:
        """Add `amount` to a sum unless that would carry it over `limit`, in one step.

        Args:
            name: the sum's.
            amount: at least 0.
            limit: what the sum may not exceed; None for no limit.
            until: moment (seconds since the epoch) from which the sum may be forgotten.

        Returns:
            Whether it was added, and the sum as it was before.
        """
        ...

    def settle(self, name: str, amount: int, until: float) -> None:
        """Add `amount`, which may be below 0, to a sum. Never waits and never fails: calls end there."""
        ...

    def total(self, name: str) -> int:
        """The sum, as far as it is known without asking anybody."""
        ...
