"""The six operations a plan may ask for, and what it gets back.

A plan is a generator. It yields an operation, a driver (`drivers.py` has two, one blocking and one async) does it and
sends the result in, or throws the error in. All behaviour lives in plans; all I/O lives in drivers. A test steps a
plan by hand, without clock or network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..spi import Target, WireRequest
from ..types.dataclass import dataclass
from ..types.response import Phase

if TYPE_CHECKING:
    from .core import Ledger, Outcome, Reply

__all__ = ["Blocking", "Head", "Leg", "Op", "Plan", "Pull", "Race", "Raced", "Send", "Signal", "Sleep", "Wait"]

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
        stop: set from another thread when nobody waits for the answer any more. A blocking transport that listens to it
            gives up at once; one that does not is left behind in its thread.
    """

    request: WireRequest
    target: Target | None
    connect: float
    answer: float
    total: float | None = None
    address: str | None = None
    stop: Signal | None = None


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


class Signal:
    """What a plan waits for. Set from any thread, also from a finaliser: it takes no lock."""

    __slots__ = ("_set", "_wake")

    def __init__(self) -> None:
        self._set = False
        self._wake: Callable[[], object] | None = None

    def set(self) -> None:
        """Wake whoever waits, or whoever waits next."""
        self._set = True  # before the look at who waits: `listen` does the two the other way round
        if (wake := self._wake) is not None:
            wake()

    def listen(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called when it is set; True when it is set already."""
        self._wake = wake
        return self._set

    def deafen(self) -> None:
        """Nobody waits any more; whether it is set stays as it is."""
        self._wake = None

    def clear(self) -> None:
        """Nobody waits any more, and it is not set."""
        self._wake = None
        self._set = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `signal` is set, at most so many seconds. It is clear again afterwards."""

    signal: Signal
    seconds: float


@dataclass(slots=True, eq=False)
class Leg:
    """One of two plans that are carried out side by side, and the ledger that it keeps."""

    plan: Plan[Reply]
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Race:
    """Carry out `first`, and beside it what `second` gives; what answers first counts, and the other is left.

    Steps of the two plans are never taken at the same time. A driver closes the plan that is left, having set its
    ledger's `outrun`, and the answer that it may have open.

    Args:
        first: begins at once.
        after: seconds until `second` is asked.
        second: given the moment, what to do then: a leg to begin, seconds after which to ask again, or None for none.
        decides: whether an error of the first ends the race, although the second is still under way.
        lost: called when both have answered, with the reply that came second; how its finishers are told that it ended.
    """

    first: Leg
    after: float
    second: Callable[[float], Leg | float | None]
    decides: Callable[[Exception], bool]
    lost: Callable[[Leg, Reply], Outcome]


@dataclass(frozen=True, slots=True)
class Raced:
    """How a race ended: with the reply of the leg `winner`, or, where that is None, with `errors` alone.

    `errors` has what each leg failed with; None for one that did not, or never began.
    """

    winner: Leg | None
    reply: Reply | None
    errors: tuple[Exception | None, Exception | None]


Op: TypeAlias = Send | Pull | Sleep | Wait | Blocking | Race
Plan: TypeAlias = Generator[Op, Any, T]
