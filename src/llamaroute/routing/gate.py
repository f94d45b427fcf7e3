"""An account's gate: who of those that wait may send next. Pure; the time is handed in.

Three limits stand at it: requests a minute and tokens a minute (leaky buckets, "GCRA": a moment each, no history), and
calls under way. Beside them, what the host says: how much is left, how long to stay away, and that it was too much.

Calls come from many threads. Whoever changes something holds the lock that the gate was given; a call that ends never
waits for it: it may end in the middle of somebody's garbage collection. It leaves word, and whoever holds the lock
reads that before he goes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from ..types.dataclass import dataclass

__all__ = ["AGEING", "Answer", "Bucket", "Ended", "Gate", "Left", "Limits", "Refused", "Shared", "Ticket", "Wait"]

WINDOW = 60.0
ROUNDING = 1e-6
"""Seconds that are none: clocks that count from a machine's start are no more exact than that."""
BURST = 0.1
"""Share of a minute's limit that may go out at once. In no minute goes out more than the limit and this."""
AGEING = 5.0
"""Seconds of waiting that weigh as much as one step of priority: the least urgent call is overtaken for so long."""
LONGEST_HOLD = 60.0
"""Seconds for which a host's word to stay away is taken: most limits are counted by the minute, and those that are
not are asked again once a minute."""
CUT = 0.5
"""What a 429 leaves of the calls under way."""
SLOWER, SLOWEST, RECOVERY = 0.8, 0.25, 60.0
"""What a 429 leaves of the pace, the least that is left of it, and the seconds in which all of it is back."""
RECHECK = 0.25
"""Seconds after which shared limits are asked again that had nothing left."""
UNANSWERED = 0.25
"""Seconds after which the shared limits are taken for gone. Their own timeouts are shorter, but a name's look-up has
none."""


class Limits(NamedTuple):
    """What an account may use; None is no limit."""

    requests: int | None = None
    """A minute."""
    tokens: int | None = None
    """A minute."""
    concurrency: int | None = None
    queue: int = 1000
    """Calls that may wait."""
    max_wait: float | None = None
    """Seconds that one may."""
    adaptive: bool = True
    """Whether the host's word counts: 429s, Retry-After, what is left."""
    reserve_max_tokens: bool = True


_UNCOUNTED = (None, None, None)
"""Neither requests nor tokens nor calls under way are limited."""


@dataclass(slots=True)
class Bucket:
    """A rate: `per_minute`, of which `burst` may go out at once.

    In any time t, at most `per_minute * t / 60 + burst` goes out; a request that is larger than the burst goes out when
    the bucket is full, and is paid off afterwards.
    """

    per_minute: float
    burst: float
    full_at: float = float("-inf")
    """Moment at which the bucket will be full."""
    was_full: float = float("-inf")
    """Moment at which it last was, as far as anybody looked."""

    @classmethod
    def of(cls, per_minute: float, *, burst: float = BURST) -> Bucket:
        """With the usual burst: at least one."""
        return cls(per_minute, max(1.0, per_minute * burst))

    def wait(self, amount: float, now: float, pace: float = 1.0, ahead: float = 0.0) -> float:
        """Seconds until `amount` may go out, with `ahead` before it."""
        each = WINDOW / (self.per_minute * pace)
        wait = max(self.full_at, now) + (ahead + min(amount, self.burst) - self.burst) * each - now
        return wait if wait > ROUNDING else 0.0

    def take(self, amount: float, now: float, pace: float = 1.0) -> None:
        """`amount` goes out."""
        if self.full_at <= now:
            self.was_full = now
        self.full_at = max(self.full_at, now) + amount * WINDOW / (self.per_minute * pace)

    def give(self, amount: float, since: float) -> None:
        """So much less (or more, below 0) went out than was taken at the moment `since`.

        A bucket that has been full again since then owes nothing for it any more.
        """
        if amount < 0 or since >= self.was_full:
            self.full_at -= amount * WINDOW / self.per_minute

    def empty(self, now: float) -> None:
        """Nothing may go out at once, and what was taken before is not given back."""
        self.full_at = max(self.full_at, now + self.burst * WINDOW / self.per_minute)
        self.was_full = now


@dataclass(slots=True)
class _Allowance:
    """What the host said is left of a limit, counted on. Comes back evenly where the host's limit is known."""

    remaining: float
    since: float
    until: float
    each: float | None
    """Seconds in which one more is there again; None: all at once, at `until`."""
    most: float
    """What is there in all: no request is asked to wait for more."""

    def wait(self, amount: float, now: float) -> float:
        lacking = min(amount, self.most) - self.at(now)
        if now >= self.until or lacking <= ROUNDING:
            return 0.0
        left = self.until - now
        return left if self.each is None else min(left, lacking * self.each)

    def at(self, now: float) -> float:
        """What is left by now."""
        return self.remaining if self.each is None else self.remaining + (now - self.since) / self.each


@dataclass(slots=True, eq=False)
class Ticket:
    """A call at the gate."""

    tokens: int
    """What it may use, as far as that is known."""
    since: float
    until: float
    """Moment at which it gives up."""
    priority: int = 0
    wake: Callable[[], None] = lambda: None
    state: Literal["new", "waiting", "asking", "granted", "gone"] = "new"
    asked: float = 0.0
    began: float = 0.0
    key: tuple[float, int] = (0.0, 0)
    refusal: Refused | None = None
    shared: bool = False
    """Granted by all processes' limits rather than by this one's own."""


class Refused(NamedTuple):
    """It may not go out in time. `seconds` is what it would have had to wait at least, as far as that is known."""

    reason: str
    seconds: float | None = None


class Wait(NamedTuple):
    """Come back when woken, or after so many seconds."""

    seconds: float


Step: TypeAlias = Literal["granted"] | Wait | Refused


class Answer(NamedTuple):
    """What the place that keeps shared limits says: go, or how long to wait. None seconds: until somebody ends."""

    granted: bool
    seconds: float | None = None
    members: int = 1
    """Processes that share the limits now."""


class Shared(Protocol):
    """Limits that several processes share. Nothing here waits for anybody."""

    @property
    def up(self) -> bool:
        """Whether it answers at present, or is being asked whether it does again."""
        ...

    def ask(self, gate: Gate, ticket: Ticket, tokens: int, busy: int, limits: Limits, pace: float) -> None:
        """Ask for `ticket`; `gate.answered` is called with what came of it."""
        ...

    def lost(self) -> None:
        """It has not answered in time."""
        ...

    def tell(self, busy: int, tokens: int = 0, requests: int = 0, age: float = 0.0, hold: float = 0.0) -> None:
        """So many calls are under way; so many tokens and requests are given back that were taken `age` seconds ago;
        all stay away for so long."""
        ...


class Left(NamedTuple):
    """What a host says is left of its limit; see `wire.headers.limits_left`."""

    kind: str
    limit: int | None
    remaining: int
    reset: float | None


@dataclass(slots=True)
class Ended:
    """How an attempt ended. `used` is None where the host did not say; `sent` is False when nothing was."""

    used: int | None = None
    answer: int = 0
    """Tokens of those that were the answer's."""
    sent: bool = True
    answered: bool = False
    """It came to a good end."""
    limited: bool = False
    """It was answered with 429."""
    retry_after: float | None = None
    left: Iterable[Left] = ()


@dataclass(slots=True, eq=False)
class Gate:
    """The gate of one account. `lock` is taken by every method but `leave`, which never waits for it."""

    limits: Limits
    lock: Any
    shared: Shared | None = None
    busy: int = 0
    """Calls under way."""
    members: int = 1
    """Processes that shared the limits when that was last known."""
    queue: list[tuple[tuple[float, int], Ticket]] = field(default_factory=list)
    requests: Bucket | None = None
    tokens: Bucket | None = None
    ceiling: float | None = None
    """Calls under way that the host bears, after a 429; None as long as nothing is known."""
    _cut: float = float("-inf")
    _peak: float = 0.0
    _pace: float = 1.0
    _hold: float = float("-inf")
    _poll: float = float("-inf")
    """Moment before which the shared limits let nobody through."""
    _left: dict[str, _Allowance] = field(default_factory=dict)
    _answer: float = 256.0
    """Tokens of a usual answer."""
    _count: int = 0
    _word: deque[tuple[Ticket, Ended, float]] = field(default_factory=deque)
    _alone: bool = False
    """What is shared cannot be had: since then, the buckets are this process's share."""

    def __post_init__(self) -> None:
        self._fill()

    # -- settings -----------------------------------------------------------------------------------------------------

    def configure(self, limits: Limits, shared: Shared | None) -> None:
        """New limits, for those that wait already as well. What has been used stays used."""
        with self.lock:
            if limits != self.limits or shared is not self.shared:
                before = (self.requests, self.tokens)
                self.limits, self.shared = limits, shared
                self._fill()
                for old, new in zip(before, (self.requests, self.tokens), strict=True):
                    if old is not None and new is not None:
                        new.full_at = old.full_at
            self._wake()
        self._read()

    def _fill(self) -> None:
        share = 1 if self.shared is None else self.members
        rates = (self.limits.requests, self.limits.tokens)
        self.requests, self.tokens = (None if rate is None else Bucket.of(rate / share) for rate in rates)

    @property
    def degraded(self) -> bool:
        """Whether there are limits that are shared, but those of this process count, because the others cannot be
        asked."""
        if self.shared is None or self.limits[:3] == _UNCOUNTED:
            return False
        return self._alone or not self.shared.up

    def crowded(self, now: float) -> bool:
        """Whether a further call would wait, as far as can be told without asking for it."""
        limit = self.limits.concurrency
        return bool(self.queue) or now < max(self._hold, self._poll) or (limit is not None and self.busy >= limit)

    def reserve(self, prompt: int, max_tokens: int | None) -> int:
        """Tokens to set aside for a request."""
        if max_tokens is not None and self.limits.reserve_max_tokens:
            return prompt + max_tokens
        usual = int(self._answer)
        return prompt + (usual if max_tokens is None else min(usual, max_tokens))

    @property
    def counts_tokens(self) -> bool:
        """Whether a request's tokens have to be known."""
        return self.limits.tokens is not None or "tokens" in self._left

    # -- in -----------------------------------------------------------------------------------------------------------

    def step(self, ticket: Ticket, now: float) -> Step:
        """What `ticket` does next. A new one takes its place in the queue."""
        with self.lock:
            result = self._step(ticket, now)
        self._read()
        return result

    def _step(self, ticket: Ticket, now: float) -> Step:
        if ticket.state == "new":
            if self._is_open(ticket, now):
                self._grant(ticket, now)
                return "granted"
            if refusal := self._join(ticket, now):
                return refusal
        if ticket.state == "granted":
            return "granted"
        if ticket.refusal is not None:
            return ticket.refusal
        if now >= ticket.until:
            self._remove(ticket)
            self._wake()  # who stood behind it sleeps until told otherwise
            return Refused(f"no place came free in {ticket.until - ticket.since:.1f} s")
        if ticket.state == "asking":
            if (left := ticket.asked + UNANSWERED - now) > 0:
                return Wait(min(left, ticket.until - now))
            ticket.state = "waiting"
            if self.shared is not None:
                self.shared.lost()
        if self.queue[0][1] is not ticket:
            return Wait(ticket.until - now)
        wait = self._blocked(ticket, now)
        if wait is not None:
            return Wait(min(wait, ticket.until - now))
        if self.shared is not None and self.shared.up:
            if now < self._poll:
                return Wait(min(self._poll, ticket.until) - now)
            ticket.state, ticket.asked = "asking", now
            self.shared.ask(self, ticket, ticket.tokens, self.busy, self.limits, self._paced(now))
            return Wait(min(UNANSWERED, ticket.until - now))
        return self._on_our_own(ticket, now)

    def _on_our_own(self, ticket: Ticket, now: float) -> Step:
        if self.shared is not None and not self._alone:
            # The shared limits are gone: from here on our share of them, and no burst to begin with. It lasts until
            # they answer: a share that began anew with each look whether they do might never let anybody through.
            self._alone = True
            self._fill()
            for bucket in (self.requests, self.tokens):
                if bucket is not None:
                    bucket.empty(now)
        limit = self.limits.concurrency
        if limit is not None and self.busy >= max(1, limit // self.members if self.shared is not None else limit):
            return Wait(ticket.until - now)
        pace = self._paced(now)
        wait = 0.0 if self.requests is None else self.requests.wait(1, now, pace)
        wait = max(wait, 0.0 if self.tokens is None else self.tokens.wait(ticket.tokens, now, pace))
        if wait > 0:
            return Wait(min(wait, ticket.until - now))
        if self.requests is not None:
            self.requests.take(1, now, pace)
        if self.tokens is not None:
            self.tokens.take(ticket.tokens, now, pace)
        self._remove(ticket)
        self._grant(ticket, now)
        return "granted"

    def _is_open(self, ticket: Ticket, now: float) -> bool:
        """Whether nobody waits and nothing is counted, as for most calls: a ticket goes out without joining the
        queue."""
        return (
            not self.queue
            and self.shared is None
            and self.limits[:3] == _UNCOUNTED
            and now < ticket.until
            and self._blocked(ticket, now) is None
        )

    def _join(self, ticket: Ticket, now: float) -> Refused | None:
        if self.limits.max_wait is not None:
            ticket.until = min(ticket.until, ticket.since + self.limits.max_wait)
        if len(self.queue) >= self.limits.queue and (self.queue or not self._free(ticket, now)):
            ticket.state = "gone"
            return Refused(f"{len(self.queue)} calls wait already")
        self._count += 1
        # Each second of waiting brings a call nearer, whatever its priority: the order of two never changes.
        ticket.key = (ticket.since - AGEING * ticket.priority, self._count)
        place = bisect_left(self.queue, ticket.key, key=_key)
        wait = self._at_least(ticket, place, now)
        if now + wait > ticket.until:
            ticket.state = "gone"
            return Refused(f"a place comes free in {wait:.1f} s at the earliest", wait)
        ticket.state = "waiting"
        insort(self.queue, (ticket.key, ticket), key=_key_of)
        return None

    def _free(self, ticket: Ticket, now: float) -> bool:
        """Whether a ticket would go through without waiting, as far as this process knows."""
        limit = self.limits.concurrency
        return (
            self._blocked(ticket, now) is None
            and (limit is None or self.busy < limit)
            and not self._at_least(ticket, 0, now)
        )

    def _at_least(self, ticket: Ticket, place: int, now: float) -> float:
        """Seconds that it waits at least, at that place in the queue."""
        wait = max(0.0, self._hold - now)
        if self._alone or self.shared is None:
            pace = self._paced(now)
            if self.requests is not None:
                wait = max(wait, self.requests.wait(1, now, pace, place))
            if self.tokens is not None:
                ahead = sum(other.tokens for _, other in self.queue[:place])
                wait = max(wait, self.tokens.wait(ticket.tokens, now, pace, ahead))
        return wait

    def _blocked(self, ticket: Ticket, now: float) -> float | None:
        """Seconds until the host may be asked as far as it has said itself; None when nothing stands in the way."""
        if now < self._hold:
            return self._hold - now
        if self.ceiling is not None and self.busy >= max(1, int(self.ceiling)):
            return float("inf")
        wait = 0.0
        for kind, amount in (("requests", 1), ("tokens", ticket.tokens)):
            if (left := self._left.get(kind)) is not None:
                if now >= left.until:
                    del self._left[kind]
                else:
                    wait = max(wait, left.wait(amount, now))
        return wait or None

    def _grant(self, ticket: Ticket, now: float) -> None:
        ticket.state, ticket.began = "granted", now
        self.busy += 1
        for kind, amount in (("requests", 1), ("tokens", ticket.tokens)):
            if (left := self._left.get(kind)) is not None:
                left.remaining -= amount
        self._wake()

    def answered(self, ticket: Ticket, answer: Answer | None, now: float) -> None:
        """What came of `Shared.ask`; None when it cannot be had."""
        with self.lock:
            if answer is not None:
                self.met(answer.members)
            if ticket.state != "asking":  # it has gone meanwhile
                if answer is not None and answer.granted and self.shared is not None:
                    self.shared.tell(self.busy, ticket.tokens, 1)
            elif answer is not None and answer.granted:
                ticket.shared = True
                self._remove(ticket)
                self._grant(ticket, now)
            else:
                ticket.state = "waiting"
                if answer is not None:
                    self._denied(ticket, answer.seconds or 0.0, now)
            ticket.wake()
        self._read()

    def met(self, members: int) -> None:
        """The shared limits have answered, and count so many processes, this one with them: its share is used no
        more, and begins anew should they be lost again. Never waits."""
        self.members = max(1, members)
        self._alone = False

    def _denied(self, ticket: Ticket, seconds: float, now: float) -> None:
        # Others may give back what they do not need: it is asked again before its time.
        self._poll = now + min(seconds, RECHECK)
        if now + seconds > ticket.until:
            self._remove(ticket)
            ticket.refusal = Refused(f"a place comes free in {seconds:.1f} s at the earliest", seconds)
            self._wake()

    # -- out ----------------------------------------------------------------------------------------------------------

    def leave(self, ticket: Ticket, ended: Ended, now: float) -> None:
        """A granted ticket's call has ended, or a waiting one's caller has gone. Counts once, however often it is
        called. Never waits."""
        self._word.append((ticket, ended, now))
        self._read()

    def _read(self) -> None:
        """What those say that have left. Whoever holds the lock does this again once he has given it back."""
        while self._word and self.lock.acquire(blocking=False):
            try:
                while self._word:
                    self._settle(*self._word.popleft())
            finally:
                self.lock.release()

    def _settle(self, ticket: Ticket, ended: Ended, now: float) -> None:
        if ticket.state in ("waiting", "asking"):
            self._remove(ticket)
            self._wake()
            return
        if ticket.state != "granted":
            return
        ticket.state = "gone"
        self.busy -= 1
        if ended.answer:
            self._answer += (ended.answer - self._answer) / 16
        # What a host refused, or was never sent, it did not count.
        used = 0 if ended.limited or not ended.sent else ended.used
        tokens = 0 if used is None else ticket.tokens - used
        requests = 0 if ended.sent else 1  # a 429 is a request all the same
        if not ticket.shared:
            if self.requests is not None:
                self.requests.give(requests, ticket.began)
            if self.tokens is not None:
                self.tokens.give(tokens, ticket.began)
        hold = 0.0
        if self.limits.adaptive:
            hold = self._learn(ticket, ended, now)
        if self.shared is not None:
            self._poll = float("-inf")
            back = (tokens, requests) if ticket.shared else (0, 0)
            self.shared.tell(self.busy, *back, now - ticket.began, hold)
        self._wake()

    def _learn(self, ticket: Ticket, ended: Ended, now: float) -> float:
        """Take in what the host said; seconds that everybody stays away."""
        least: dict[str, Left] = {}
        for left in ended.left:  # a day's and a minute's: the one that is nearer its end
            if left.kind not in least or left.remaining < least[left.kind].remaining:
                least[left.kind] = left
        for left in least.values():
            self._take_in(left, now)
        if ended.limited:
            if ticket.began > self._cut:  # those sent before the last cut say nothing new
                before = self.busy + 1
                self._peak = float(before)
                self.ceiling = max(1.0, min(before, self.ceiling or before) * CUT)
                self._pace = max(SLOWEST, self._paced(now) * SLOWER)
                self._cut = now
            hold = min(ended.retry_after or 0.0, LONGEST_HOLD)
            self.hold(now + hold)
            return hold
        if ended.answered and self.ceiling is not None:
            self.ceiling += 1 / self.ceiling
            if self.ceiling >= 2 * self._peak or self.ceiling > (self.limits.concurrency or self.ceiling):
                self.ceiling = None
        return 0.0

    def _take_in(self, left: Left, now: float) -> None:
        if left.reset is None or left.reset <= 0:
            return
        until = now + min(left.reset, LONGEST_HOLD)
        gone = (left.limit or 0) - left.remaining
        each = left.reset / gone if left.limit is not None and gone > 0 else None
        remaining = float(left.remaining)
        known = self._left.get(left.kind)
        if known is not None and now < known.until:
            # Answers overtake each other: those that are under way are not in what an older one says.
            remaining = min(remaining, known.at(now)) if known.until >= until else remaining
        self._left[left.kind] = _Allowance(remaining, now, until, each, float(left.limit or 1))

    def hold(self, until: float) -> None:
        """Nobody goes out before then. Those that cannot wait so long are told at once."""
        if until <= self._hold:
            return
        self._hold = until
        for _, ticket in self.queue[:]:
            if ticket.until < until and ticket.state == "waiting":
                self._remove(ticket)
                ticket.refusal = Refused("the host asked to stay away for longer than the call can wait")
                ticket.wake()

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _paced(self, now: float) -> float:
        return min(1.0, self._pace + max(0.0, now - self._cut) / RECOVERY) if self._pace < 1 else 1.0

    def _remove(self, ticket: Ticket) -> None:
        ticket.state = "gone"
        place = bisect_left(self.queue, ticket.key, key=_key_of)
        if place < len(self.queue) and self.queue[place][1] is ticket:
            del self.queue[place]

    def _wake(self) -> None:
        """Whoever is first in the queue looks for himself."""
        if self.queue:
            self.queue[0][1].wake()


def _key_of(entry: tuple[tuple[float, int], Ticket]) -> tuple[float, int]:
    return entry[0]


_key = _key_of
