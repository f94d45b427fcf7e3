"""The four operations a plan may ask for, and what it gets back.

A plan is a generator. It yields an operation, a driver (`drivers.py` has two, one blocking and one async) does it and
sends the result in, or throws the error in. All behaviour lives in plans; all I/O lives in drivers. A test steps a
plan by hand, without clock or network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ..spi import Target, WireRequest
from ..types.response import Phase

__all__ = ["Blocking", "Head", "Op", "Plan", "Pull", "Send", "Sleep"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` and return its `Head` once the headers are there.

    Args:
        target: whose connections to use; None for a request that belongs to no provider (fetching an image).
        connect: seconds for DNS, TCP and TLS together.
        answer: seconds from the request's sending to the answer's headers.
        total: moment (on `Ledger.now`'s clock) at which the whole call's time is over, or None.
        address: connect to this IP address; the URL's host stays in the Host header and in TLS. Used where the
            address was checked before (fetching an image), so that a second DNS answer cannot change it.
    """

    request: WireRequest
    target: Target | None
    connect: float
    answer: float
    total: float | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The answer's status and headers (lower-case names).

    `connect` is the seconds spent on connecting, 0 on a connection used again; `sent` the moment at which the
    connection was there and the request went out.
    """

    status: int
    headers: Mapping[str, str]
    connect: float = 0.0
    sent: float = 0.0


@dataclass(frozen=True, slots=True)
class Pull:
    """The next bytes of the open answer; `b""` at its end. `until` is a moment, `phase` what ran out by then."""

    until: float
    phase: Phase


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Blocking:
    """Call `fn`, which may block: a file, a token, DNS. Given up, not stopped, once the moment `until` has passed.

    `flights` is a table that calls share: those of an `AsyncClient` that come with the same `fn` while it runs wait for
    what it gives, rather than for a thread each.
    """

    fn: Callable[[], Any]
    until: float | None = None
    phase: Phase = "total"
    flights: dict[Any, Any] | None = None


Op: TypeAlias = Send | Pull | Sleep | Blocking
Plan: TypeAlias = Generator[Op, Any, T]
