"""Connections that nobody uses: how many are kept, for how long, and that a child process forgets its parent's."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["KEEP_ALIVE", "MAX_IDLE", "forget_in_children"]

KEEP_ALIVE = 60.0
"""Seconds an unused connection is kept; shorter than what load balancers allow, which is a minute or more."""
MAX_IDLE = 512
"""Unused connections kept per origin."""


class Forgetful(Protocol):
    """What keeps connections."""

    def forget(self) -> None:
        """Drop all connections without a word on the wire: after a fork they belong to the parent."""
        ...


_live: weakref.WeakSet[Forgetful] = weakref.WeakSet()
_live_lock = threading.Lock()


def forget_in_children(transport: Forgetful) -> None:
    """Have `forget` called in every process forked from this one."""
    with _live_lock:
        _live.add(transport)


def _after_fork() -> None:
    for transport in list(_live):
        transport.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
