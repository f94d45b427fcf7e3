"""Shared numbers of one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["MemoryCounter"]


class MemoryCounter:
    """`Counter` for the calls of one process. `clock` gives seconds since the epoch."""

    blocking = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[int, float]] = {}

    def reserve(self, name: str, amount: int, limit: int | None, until: float) -> tuple[bool, int]:
        """See `Counter.reserve`."""
        with self._lock:
            before = self._sum(name)
            granted = limit is None or before + amount <= limit
            if granted:
                self._put(name, before + amount, until)
            return granted, before

    def settle(self, name: str, amount: int, until: float) -> None:
        """See `Counter.settle`."""
        with self._lock:
            self._put(name, self._sum(name) + amount, until)

    def total(self, name: str) -> int:
        """See `Counter.total`."""
        with self._lock:
            return self._sum(name)

    def _sum(self, name: str) -> int:
        found = self._sums.get(name)
        return 0 if found is None else found[0]

    def _put(self, name: str, value: int, until: float) -> None:
        if name not in self._sums:  # a new day, say: the time to forget old ones
            now = self._clock()
            self._sums = {known: item for known, item in self._sums.items() if item[1] > now}
        self._sums[name] = (value, until)
