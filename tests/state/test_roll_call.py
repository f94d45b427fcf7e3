"""What the Redis server counts when processes come back from an outage one after another. The script is asked by hand:
a request in ten seconds and six at once, so that the time the test takes is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import redis

from llamaroute.state.scripts import SCRIPT

from ..servers.redis_server import RedisServer

EACH, BURST, LAPSE = 10.0, 6, 8.0
KEY = "test:acme"


class Said(NamedTuple):
    granted: bool
    wait: float
    members: int
    era: str


class Server:
    """Eras and numbers of processes are as each process has last heard them."""

    def __init__(self, url: str) -> None:
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.eras: dict[str, str] = {}

    def word(
        self, who: str, *, asks: bool = False, busy: int = 0, limit: int = 0, known: int = 1, away: float = 0.0,
        silent: float = 0.0, back: int = 0, age: float = 0.0,
    ) -> Said:  # fmt: skip
        answer = self.redis.eval(
            SCRIPT, 1, KEY, who, busy, 60 / EACH, BURST, 0, 0, limit, 0 if asks else -1, 0, back, age, 0, LAPSE,
            self.eras.get(who, ""), known, away, silent,
        )  # fmt: skip
        self.eras[who] = answer[3]
        return Said(answer[0] == 1, float(answer[1]), int(answer[2]), answer[3])

    def spend(self, who: str) -> int:
        """How many requests one process is let through at once."""
        count = 0
        while self.word(who, asks=True).granted:
            count += 1
        return count

    def empty(self) -> float:
        """For how many requests the bucket is empty."""
        seconds, micros = self.redis.time()
        full: float = float(self.redis.hget(KEY, "r")) - seconds - micros / 1e6
        return full / EACH

    def seen(self, who: str, ago: float) -> None:
        """It was heard of longer ago."""
        when, busy = self.redis.hget(KEY, f"p:{who}").split(" ")
        self.redis.hset(KEY, f"p:{who}", f"{float(when) - ago:.6f} {busy}")

    def passes(self, seconds: float) -> None:
        """Time, as far as the script looks at it."""
        for name, value in self.redis.hgetall(KEY).items():
            if name in ("r", "fr", "b", "s", "h"):
                self.redis.hset(KEY, name, f"{float(value) - seconds:.6f}")
            elif name.startswith("p:"):
                self.seen(name[2:], seconds)

    @property
    def in_roll_call(self) -> bool:
        return bool(self.redis.hexists(KEY, "k"))

    def dies(self) -> None:
        self.redis.flushall()


@pytest.fixture
def shared(server: RedisServer) -> Iterator[Server]:
    it = Server(server.url)
    yield it
    it.redis.close()


def near(value: float) -> Any:
    return pytest.approx(value, abs=0.4)


def four(shared: Server) -> None:
    """Processes that know of each other."""
    for who in "abcd":
        shared.word(who)


def test_what_is_new_begins_full(shared: Server) -> None:
    assert shared.spend("a") == BURST


def test_what_was_lost_begins_empty(shared: Server) -> None:
    four(shared)
    shared.dies()
    said = shared.word("a", asks=True, known=4, away=1.0)
    assert not said.granted
    assert said.wait == near(EACH)
    assert said.members == 4, "should it be lost again, the shares stay the same"


def test_so_it_does_for_who_has_not_noticed(shared: Server) -> None:
    """It was killed and started again between two questions."""
    four(shared)
    shared.dies()
    assert not shared.word("a", asks=True, known=4).granted


def test_those_that_are_missing_use_up_their_shares(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("a", known=4, away=1.0)
    shared.passes(4.0)
    shared.word("a", known=4)
    assert shared.empty() == near(BURST - 0.4 * 1 / 4)
    for who in "bcd":
        assert shared.in_roll_call
        shared.word(who, known=4, away=1.0)
    assert not shared.in_roll_call
    shared.passes(20.0)
    shared.word("a", known=4)
    assert shared.empty() == near(BURST - 0.1 - 2)


def test_those_that_do_not_come_back_lapse(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("a", known=4, away=1.0)
    shared.passes(LAPSE + 12)
    assert shared.word("a", known=4).members == 1
    assert not shared.in_roll_call
    assert shared.empty() == near(BURST - (LAPSE / 4 + 12) / EACH)


def test_each_that_is_missing_keeps_its_places(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("a", known=4, away=1.0)
    shared.redis.hset(KEY, "r", "0")
    assert shared.word("a", asks=True, busy=1, limit=8, known=4).granted
    shared.redis.hset(KEY, "r", "0")
    assert shared.word("a", asks=True, busy=2, limit=8, known=4).wait == -1
    shared.word("b", busy=2, known=4, away=1.0)
    assert shared.word("a", asks=True, busy=2, limit=8, known=4).wait == -1
    assert shared.word("a", asks=True, busy=1, limit=8, known=4).granted


def test_one_that_is_new_is_counted_besides(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("a", known=4, away=1.0)
    shared.word("e")
    for who in "bc":
        shared.word(who, known=4, away=1.0)
        assert shared.in_roll_call
    assert shared.word("d", known=4, away=1.0).members == 5
    assert not shared.in_roll_call


def test_one_that_is_new_and_first_does_not_hide_the_loss(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("e")
    assert not shared.word("a", asks=True, known=4, away=1.0).granted
    assert shared.in_roll_call


def test_one_that_began_in_the_outage_and_is_first_has_nothing_at_once(shared: Server) -> None:
    assert not shared.word("e", asks=True, away=1.0).granted


def test_a_frozen_server_has_not_filled_meanwhile(shared: Server) -> None:
    four(shared)
    assert shared.spend("a") == BURST
    shared.passes(50.0)  # five requests
    shared.eras["a"] = shared.eras["b"]
    shared.word("a", known=4, away=49.0, silent=50.0)
    assert shared.in_roll_call
    assert shared.empty() == near(BURST)


def test_nor_is_it_emptier_than_empty(shared: Server) -> None:
    four(shared)
    assert shared.spend("a") == BURST
    shared.word("a", known=4, away=400.0, silent=400.0)
    assert shared.empty() == near(BURST)


def test_one_that_was_cut_off_alone_has_used_its_share(shared: Server) -> None:
    four(shared)
    assert shared.spend("a") == BURST
    shared.passes(20.0)
    for who in "bcd":
        shared.word(who)
    shared.word("a", known=4, away=20.0, silent=20.0)
    assert not shared.in_roll_call
    assert shared.empty() == near(BURST - 2 + 0.5)


def test_what_was_taken_before_the_loss_is_not_given_back(shared: Server) -> None:
    four(shared)
    shared.dies()
    shared.word("a", known=4, away=1.0)
    shared.word("a", known=4, back=3, age=5.0)
    assert shared.empty() == near(BURST)
    shared.word("a", known=4, back=3, age=-1.0)  # taken since
    assert shared.empty() == near(BURST - 3)
