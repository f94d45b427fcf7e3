"""Limits and sums that processes and machines share through a Redis server.

One thread of its own talks to the server, over one connection: what many calls ask at the same time goes out in one
piece, nobody waits for a socket but this thread, and a call that ends leaves word and goes. Calls wait for the thread
no longer than `routing.gate.UNANSWERED`; a server that does not answer is asked again twice a second, and until it does
each process keeps to its share of the limits.

Each account is one hash. `r` and `t` are the moments at which the buckets of requests and tokens are full (the server's
clock; seconds), `fr` and `ft` those at which they last were, `h` the moment until which all stay away, and
`p:<process>` what a process says of itself: when, and its calls under way. They are said whole each time, not counted
up and down, so that nothing is lost when a process is killed (what it said lapses), or when the server starts again
empty (all say it anew). `era` tells a hash from one of the same name that was lost before it.

**The way back from an outage.** While the server is away, each of n processes sends a share of 1/n, from a bucket that
was empty when it began. They come back one after another, and those that are not back yet go on with their shares. So
that no moment has more than all of the limit, the server counts these shares as well: the first that comes back opens
a *roll-call* (`b` when, `k` and `x` how many are to be heard: known of before, and new since; `s` up to when their
shares are counted). Until all have been heard, or what is not heard has lapsed, each that is missing uses up its share
of the rates and of the calls under way. A bucket that was lost begins empty; one that was not (the server was frozen)
has not filled meanwhile. docs/limits.md says what comes of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..routing.gate import Answer, Bucket, Gate, Limits, Ticket
from ..types.dataclass import dataclass
from .scripts import GOODBYE, SCRIPT, SUM

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["RedisAccount", "RedisCounter", "RedisState"]

_log = logging.getLogger("llamaroute")

TIMEOUT = 0.1
"""Seconds for connecting, and for an answer."""
AGAIN = 0.5
"""Seconds between two looks at a server that did not answer."""
HEARTBEAT = 2.0
LAPSE = 8.0
"""Seconds after which what a process said of itself does not count any more."""
IDLE = 60.0
"""Seconds without a call after which a process says nothing any more, and so is not counted as one."""
MEMORY = 590.0
"""Seconds after which a process does not expect its account's hash to be there: a little less than it is kept."""
POLL = (0.02, 0.08)
"""Seconds between two looks at whether another process has ended a call; drawn, so that they do not look together."""
LEAST = 0.001
"""Seconds that an outage lasts at least, so that it is told from none."""
RESERVE = 0.25
"""Seconds that the question for a sum may take."""


@dataclass(slots=True)
class _Command:
    """A script, and who wants to know what came of it (None: it did not)."""

    script: str
    key: str
    arguments: tuple[str | float, ...]
    done: Callable[[Any], None] | None = None
    late: Callable[[], tuple[str | float, ...]] | None = None
    """More arguments, that are known when it is sent."""


class RedisState:
    """A connection to a server that keeps what is shared. `close` ends its thread.

    Raises:
        ConfigError: the extra is not installed, or the URL is none of Redis.
    """

    def __init__(self, url: str, prefix: str = "llamaroute") -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ConfigError(
                f"state.url: {error.name or error} is not installed; pip install 'llamaroute[redis]'", key="state.url"
            ) from error
        try:
            self._redis: Redis = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                max_connections=1,
                decode_responses=True,
            )
        except ValueError as error:
            # The URL is not shown: it may hold a password.
            raise ConfigError(
                "state.url: should be redis://host:port/number, rediss://... or unix:///path", key="state.url"
            ) from error
        self.prefix = prefix
        self.process = ""
        self.up = True
        self._pid = 0
        self._told = False
        self.tried = float("-inf")
        self.asking = False
        """Whether it is being asked now."""
        self.answered = time.monotonic()
        """When it was last asked something that it answered."""
        self._accounts: dict[str, RedisAccount] = {}
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def account(self, key: str) -> RedisAccount:
        """An account's limits."""
        with self._lock:
            if key not in self._accounts:
                self._accounts[key] = RedisAccount(self, f"{self.prefix}:{key}")
            return self._accounts[key]

    def put(self, command: _Command) -> None:
        """Have it carried out. Never waits."""
        self.process_id()  # starts the thread
        self._inbox.put(command)

    def process_id(self) -> str:
        """What this process is called among those that share the server."""
        if self._pid != os.getpid():
            self._start()
        return self.process

    def _start(self) -> None:
        """Start the thread, in a process that was forked off as well."""
        with self._lock:
            if self._pid == os.getpid() or self._closed:
                return
            self._inbox = queue.SimpleQueue()
            self.process = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
            self._thread = threading.Thread(
                target=_work,
                args=(self._inbox, weakref.ref(self, _end(self._inbox)), self._redis),
                daemon=True,
                name="llamaroute-redis",
            )
            self._thread.start()
            self._pid = os.getpid()

    def close(self) -> None:
        """Carry out what was left to do, and end the thread. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self.up:
            for account in self._accounts.values():
                self._inbox.put(account.goodbye())
        self._inbox.put(None)
        if thread is not None and self._pid == os.getpid():
            thread.join(3 * TIMEOUT)
        self._redis.close()

    def lost(self, why: object = "no answer in time") -> None:
        """It does not answer."""
        self.up = False
        now = time.monotonic()
        for account in list(self._accounts.values()):
            account.leave_alone(now)
        if not self._told:
            self._told = True
            name = type(why).__name__ if isinstance(why, Exception) else why
            _log.warning(
                "state.url: the Redis server does not answer (%s); each process keeps to its share of the limits", name
            )

    def carry_out(self, commands: list[_Command]) -> None:
        """Send all in one piece, and hand out what comes back. Called by the thread alone."""
        now = time.monotonic()
        if not self.up and now - self.tried < AGAIN:
            results: list[Any] = [None] * len(commands)  # asked when it was just about to be given up
        else:
            # Once the server has heard of this process, it counts it no more as one that keeps to its share: from
            # before it is asked until it is known whether it answers, no share is used.
            self.tried, self.asking = now, True
            try:
                results = self._answers(commands)
            except Exception as error:  # of many kinds: the network's, the server's while it loads, the package's own
                self.lost(error)
                results = [None] * len(commands)
            else:
                # Told apart from a server that is gone: one that is too full, or has no script, is of no use either.
                if failed := next((result for result in results if isinstance(result, Exception)), None):
                    self.lost(failed)
                else:
                    self.answered = now
                    if self._told:
                        self._told = False
                        _log.warning("state.url: the Redis server answers again; limits are shared")
                    self.up = True
            self.asking = False
        for command, result in zip(commands, results, strict=True):
            if command.done is not None:
                command.done(None if isinstance(result, Exception) else result)

    def _answers(self, commands: list[_Command]) -> list[Any]:
        import redis

        pipe = self._redis.pipeline(transaction=False)
        late = [() if command.late is None else command.late() for command in commands]
        for again in (True, False):
            for command, more in zip(commands, late, strict=True):
                pipe.eval(command.script, 1, command.key, *command.arguments, *more)
            try:
                return pipe.execute(raise_on_error=False)
            except redis.ConnectionError:  # one that lay idle and was closed by the other side, perhaps
                if not (again and self.up):
                    raise
        raise AssertionError("unreachable: the second try returns or raises")

    def in_use(self) -> list[RedisAccount]:
        """Accounts that this process has to be heard about."""
        return [account for account in list(self._accounts.values()) if account.in_use]


def _end(inbox: queue.SimpleQueue[_Command | None]) -> Callable[[object], None]:
    return lambda _: inbox.put(None)


def _work(inbox: queue.SimpleQueue[_Command | None], owner: weakref.ref[RedisState], connection: Any) -> None:
    """The thread. Holds the state only while it works: one that nobody has any more ends it, and its connection."""
    beat = time.monotonic()
    pause: float | None = HEARTBEAT
    while True:
        commands, ended = _gathered(inbox, pause)
        state = owner()
        if state is None:
            connection.close()
            return
        now = time.monotonic()
        if now - beat >= (HEARTBEAT if state.up else AGAIN) and not ended:
            beat = now
            said = {command.key for command in commands}
            commands += [account.heartbeat() for account in state.in_use() if account.key not in said]
        if commands:
            state.carry_out(commands)
        if ended:
            return
        # As long as nothing has to be said by and by, nobody wakes.
        pause = (HEARTBEAT if state.up else AGAIN) if state.in_use() else None
        commands.clear()
        del state


def _gathered(inbox: queue.SimpleQueue[_Command | None], pause: float | None) -> tuple[list[_Command], bool]:
    """All that has been put in, once something has, or nothing after `pause`; and whether it was the last."""
    commands: list[_Command] = []
    with contextlib.suppress(queue.Empty):
        item = inbox.get(timeout=pause)
        while item is not None:
            commands.append(item)
            item = inbox.get_nowait()
        return commands, True
    return commands, False


class RedisAccount:
    """`routing.gate.Shared` for one account of this process."""

    def __init__(self, state: RedisState, key: str) -> None:
        self._state = state
        self.key = key
        self.gate: Gate | None = None
        """Whose calls it tells of."""
        self._rates: tuple[float, ...] | None = None
        self._asking = 0
        """Questions without an answer; those that will be granted count as under way until that is known."""
        self._used = float("-inf")
        self._era = ""
        """What the hash is known by, and when that was last heard."""
        self._heard = float("-inf")
        self._alone = None if state.up else time.monotonic()
        """Since when this process has been on its own; until the server has been told of it."""
        self._again: float | None = None
        """The same, when that has begun anew while the server was being told."""
        self._telling = False

    @property
    def up(self) -> bool:
        """See `Shared`."""
        return self._state.up or self._state.asking

    @property
    def in_use(self) -> bool:
        """Whether there are calls, or were some lately."""
        busy = self.gate is not None and self.gate.busy > 0
        return busy or time.monotonic() - self._used < IDLE

    def lost(self) -> None:
        """See `Shared`."""
        self._state.lost()

    def ask(self, gate: Gate, ticket: Ticket, tokens: int, busy: int, limits: Limits, pace: float) -> None:
        """See `Shared`."""

        def done(result: Any) -> None:
            answer = None
            if result is not None:
                granted, seconds, members = int(result[0]), float(result[1]), int(result[2])
                answer = Answer(granted == 1, random.uniform(*POLL) if seconds < 0 else seconds, members)
            gate.answered(ticket, answer, time.monotonic())
            self._asking -= 1
            self._known(result)

        self._rates = _rates(limits, pace)
        self._used = time.monotonic()
        self._state.put(self._said(busy, limits.concurrency or 0, tokens, done=done))
        self._asking += 1

    def tell(self, busy: int, tokens: int = 0, requests: int = 0, age: float = 0.0, hold: float = 0.0) -> None:
        """See `Shared`."""
        self._used = now = time.monotonic()
        if self._state.up or now - self._state.tried > AGAIN:
            self._state.put(self._said(busy, tokens=tokens, requests=requests, age=age, hold=hold))

    def heartbeat(self) -> _Command:
        """Says again what was said."""
        return self._said(0 if self.gate is None else self.gate.busy)

    def goodbye(self) -> _Command:
        """This process uses the account no more."""
        return _Command(GOODBYE, self.key, (self._state.process,))

    def _said(
        self,
        busy: int,
        concurrency: int = 0,
        asked: int = -1,
        *,
        tokens: int = 0,
        requests: int = 0,
        age: float = 0.0,
        hold: float = 0.0,
        done: Callable[[Any], None] | None = None,
    ) -> _Command:
        if self._rates is None:
            self._rates = _rates(Limits() if self.gate is None else self.gate.limits, 1.0)
        arguments: tuple[str | float, ...] = (
            self._state.process_id(), busy + self._asking, *self._rates, concurrency, asked, tokens, requests, age,
            hold, LAPSE,
        )  # fmt: skip
        return _Command(SCRIPT, self.key, arguments, done or self._known, self._memory)

    def _memory(self) -> tuple[str | float, ...]:
        """What this process knows of the account's hash, and for how long it has been on its own. That is told once."""
        now = time.monotonic()
        era = self._era if now - self._heard < MEMORY else ""
        alone = 0.0
        if self._alone is not None and not self._telling:
            self._telling = True
            alone = now - self._alone + LEAST
        known = 1 if self.gate is None else self.gate.members
        return era, known, alone, now - self._state.answered

    def _known(self, result: Any) -> None:
        """Take in an answer of the server; None: it has not answered."""
        if self._telling:
            self._telling = False
            if result is not None:
                self._alone, self._again = self._again, None
        if result is not None:
            self._era, self._heard = result[3], time.monotonic()
            if self.gate is not None:
                self.gate.met(int(result[2]))

    def leave_alone(self, now: float) -> None:
        """The server is gone: from here on this process is on its own."""
        if self._alone is None:
            self._alone = now
        elif self._telling and self._again is None:
            self._again = now


def _rates(limits: Limits, pace: float) -> tuple[float, ...]:
    """Requests a minute and their burst, tokens a minute and theirs; 0 for no limit."""
    rates: list[float] = []
    for limit in (limits.requests, limits.tokens):
        bucket = None if limit is None else Bucket.of(limit * pace)
        rates += (0, 0) if bucket is None else (bucket.per_minute, bucket.burst)
    return tuple(rates)


@dataclass(slots=True)
class _Addition:
    """What is to be added to a sum. Sent again when it is not known whether it arrived, under the same name."""

    amount: int
    until: float
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


class RedisCounter:
    """`state.base.Counter` for all that share the server. While it does not answer, the sums of this process count,
    from what was last known of them; what was added meanwhile is told once it answers again."""

    blocking = True

    def __init__(self, state: RedisState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self._owed: dict[str, list[_Addition]] = {}

    def reserve(self, name: str, amount: int, limit: int | None, until: float) -> tuple[bool, int]:
        """See `Counter.reserve`."""
        state, addition = self._state, _Addition(amount, until)
        if state.up or time.monotonic() - state.tried > AGAIN:
            box: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._pay(name)
            state.put(self._sum(name, addition, limit, box.put))
            with contextlib.suppress(queue.Empty):
                result = box.get(timeout=RESERVE)
                if result is not None:
                    granted, before = int(result[0]) == 1, int(result[1])
                    with self._lock:
                        self._known[name] = before + amount * granted
                    return granted, before
            state.lost()
        with self._lock:
            before = self._known.get(name, 0)
            granted = limit is None or before + amount <= limit
            if granted:
                self._owe(name, addition)
            return granted, before

    def settle(self, name: str, amount: int, until: float) -> None:
        """See `Counter.settle`."""
        with self._lock:
            self._owe(name, _Addition(amount, until))
        if self._state.up:
            self._pay(name)

    def total(self, name: str) -> int:
        """See `Counter.total`."""
        with self._lock:
            return self._known.get(name, 0)

    def _owe(self, name: str, addition: _Addition) -> None:
        self._known[name] = self._known.get(name, 0) + addition.amount
        self._owed.setdefault(name, []).append(addition)

    def _pay(self, name: str) -> None:
        """Tell what was added without asking. What cannot be told is owed again."""
        with self._lock:
            owed = self._owed.pop(name, ())
        for addition in owed:
            self._state.put(self._sum(name, addition, None, partial(self._paid, name, addition)))

    def _paid(self, name: str, addition: _Addition, result: Any) -> None:
        with self._lock:
            if result is None:
                self._owed.setdefault(name, []).append(addition)
            elif name not in self._owed:
                self._known[name] = int(result[1]) + addition.amount

    def _sum(self, name: str, addition: _Addition, limit: int | None, done: Callable[[Any], None]) -> _Command:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        arguments = (addition.amount, "" if limit is None else limit, int(addition.until) + 1, addition.name)
        return _Command(SUM, f"{self._state.prefix}:sum:{digest}", arguments, done)
