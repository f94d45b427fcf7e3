"""Which targets are worth asking: circuits that open when a target fails and close when it answers. Pure.

A circuit is closed, cools for some time, and then is half open: one call at a time may try, the others pass over,
until one answers. As long as others answer, a try is a request more than the calls need: of the client's calls, one
in thirty tries. Rate limits only cool: a host that said when to come back is not broken. What is wrong with the
account (its key, its quota) cools all its targets; what is wrong with the request cools nothing.

Shared by all calls of a client, from any thread: every change is one operation on a dict or an attribute, and two
threads that race at worst open a circuit twice or let two calls try.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..errors import (
    AuthenticationError,
    ContentFilterError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
)
from ..spi import Target
from ..types.dataclass import dataclass

__all__ = ["THRESHOLD", "Admission", "Circuit", "Dice", "Health"]

THRESHOLD = 3
"""Failures in a row that open a circuit."""
LONGEST_WISH = 3600.0
"""Seconds of a host's `Retry-After` that are heeded."""
TRY = 30.0
"""Seconds after which a second call may try, though the first has not come back."""

SPARE = 30
"""Answers of other targets that one try is spent on."""
PATIENCE = 300.0
"""Seconds after which a target is tried again, however few calls there are."""
SOON = 1.0
"""Seconds for which a target is said to cool that waits for its try: when that comes is up to the calls."""


class Dice(Protocol):
    """Where chance comes from; a `random.Random`."""

    def random(self) -> float:
        """A number from 0 to 1, without 1."""
        ...


class Pace(NamedTuple):
    """How long a circuit cools: `first` seconds, twice as long each further time in a row, at most `longest`."""

    first: float
    longest: float

    def seconds(self, trips: int) -> float:
        """The cooldown after so many before it."""
        return min(self.first * 2.0 ** min(trips, 32), self.longest)


BROKEN = Pace(5.0, 30.0)
LIMITED = Pace(2.0, 60.0)
FORBIDDEN = Pace(60.0, 600.0)
USED_UP = Pace(300.0, 3600.0)
GONE = Pace(300.0, 3600.0)


@dataclass(slots=True, eq=False)
class Circuit:
    """What went wrong at a target or an account since it last answered."""

    failures: int = 0
    trips: int = 0
    """How often in a row it has cooled."""
    until: float = 0.0
    """Moment at which the cooldown ends; 0 before the first."""
    half_open: bool = False
    """Whether a call has to try it first, after the cooldown."""
    reason: str = ""
    """Class name of the last error."""
    trying: tuple[object, float] | None = None
    """The call that tries, and since when."""
    before: int = 0
    """Answers that the client had had when it opened."""


class Admission(NamedTuple):
    """Whether a target may be asked."""

    until: float = 0.0
    """Moment before which it should not be asked; 0 where it may."""
    trial: bool = False
    """Its circuit has opened: whoever asks it asks once."""
    reason: str = ""


_FREE = Admission()


class Health:
    """The circuits of a client's targets and accounts."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self.targets: dict[str, Circuit] = {}
        self.accounts: dict[str, Circuit] = {}
        self.answers = 0
        """Of all targets."""

    def admit(self, target: Target, now: float, holder: object) -> Admission:
        """Ask whether `holder` may ask a target now; where its circuit is half open, take the place of the one who
        tries. To be given back with `release`."""
        found = self._circuits(target)
        if not found:
            return _FREE  # nearly all calls
        waiting = [circuit for circuit in found if self._closed_until(circuit, now) > now]
        if waiting:
            last = max(waiting, key=lambda circuit: self._closed_until(circuit, now))
            return Admission(self._closed_until(last, now), any(circuit.half_open for circuit in found), last.reason)
        trial = False
        for circuit in found:
            if circuit.half_open:
                circuit.trying = (holder, now)
                trial = True
        return Admission(trial=trial)

    def cools(self, target: Target, now: float) -> bool:
        """Whether a call that came now would have to pass over a target."""
        return any(self._closed_until(circuit, now) > now for circuit in self._circuits(target))

    def others_failed(self, target: Target, failures: int) -> bool:
        """Whether a target's circuit has opened, and not by the failures of one call alone: retries are for
        passing troubles, and this is none."""
        circuit = self.targets.get(target.name)
        return circuit is not None and circuit.half_open and circuit.failures > failures

    def release(self, target: Target, holder: object) -> None:
        """Give back the place of the one who tries, whatever came of it."""
        for circuit in self._circuits(target):
            if circuit.trying is not None and circuit.trying[0] is holder:
                circuit.trying = None

    def answered(self, target: Target) -> None:
        """A target gave a whole answer: all is forgiven."""
        self.answers += 1
        self.targets.pop(target.name, None)
        self.accounts.pop(target.provider, None)

    def began(self, target: Target) -> None:
        """A stream has begun: others may ask, too. Forgiven it is when it has come to its end."""
        self.accounts.pop(target.provider, None)
        circuit = self.targets.get(target.name)
        if circuit is not None:
            circuit.until, circuit.half_open, circuit.trying = 0.0, False, None
            circuit.failures = min(circuit.failures, THRESHOLD - 1)

    def failed(self, target: Target, error: ProviderError, now: float) -> None:
        """A target failed."""
        if error.phase == "queue":
            return  # our own queue
        match error:
            case InvalidRequestError() | ContentFilterError() | PayloadTooLargeError():
                self.answered(target)  # it is there, and it is this request that it does not want
                return
            case RateLimitError():
                self._cool(self.targets, target.name, LIMITED, error, now, half_open=False)
            case AuthenticationError():
                self._cool(self.accounts, target.provider, FORBIDDEN, error, now)
            case QuotaExhaustedError():
                self._cool(self.accounts, target.provider, USED_UP, error, now)
            case PermissionDeniedError():
                self._cool(self.targets, target.name, FORBIDDEN, error, now)
            case NotFoundError():
                self._cool(self.targets, target.name, GONE, error, now)
            case _ if error.failover:
                circuit = self.targets.setdefault(target.name, Circuit())
                circuit.failures += 1
                circuit.reason = type(error).__name__
                if circuit.failures >= THRESHOLD or error.retry_after:
                    # A host that says when to come back is busy rather than broken, the first times.
                    broken = circuit.failures >= THRESHOLD
                    self._cool(self.targets, target.name, BROKEN, error, now, half_open=broken)

    def forget(self, account: str) -> None:
        """An account's settings have changed: what is known of it says nothing any more."""
        self.accounts.pop(account, None)
        for name in [name for name in self.targets if name.startswith(f"{account}:")]:
            self.targets.pop(name, None)

    def _cool(
        self,
        circuits: dict[str, Circuit],
        name: str,
        pace: Pace,
        error: ProviderError,
        now: float,
        *,
        half_open: bool = True,
    ) -> None:
        circuit = circuits.setdefault(name, Circuit())
        circuit.reason = type(error).__name__
        if error.retry_after:
            seconds = min(error.retry_after, LONGEST_WISH)
        elif now < circuit.until:
            return  # asked before it cooled, or all the same: this says nothing new
        else:
            seconds = pace.seconds(circuit.trips)
        # Many clients see the same failure at the same time, and should not come back at the same time.
        circuit.until = max(circuit.until, now + seconds * (1.0 + 0.25 * self._dice.random()))
        circuit.trips += 1
        circuit.before = self.answers
        circuit.half_open = circuit.half_open or half_open

    def _circuits(self, target: Target) -> list[Circuit]:
        if not self.targets and not self.accounts:
            return []
        both = self.targets.get(target.name), self.accounts.get(target.provider)
        return [circuit for circuit in both if circuit is not None]

    def _closed_until(self, circuit: Circuit, now: float) -> float:
        """Moment at which the next call may ask."""
        if now < circuit.until:
            return circuit.until
        if not circuit.half_open:
            return 0.0
        if circuit.trying is not None:
            return circuit.trying[1] + TRY
        # Where nobody else answers, there is nothing better than to try.
        if 0 < self.answers - circuit.before < SPARE and now < circuit.until + PATIENCE:
            return now + SOON
        return 0.0
