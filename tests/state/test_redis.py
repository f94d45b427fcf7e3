"""What processes share through Redis. Each `RedisState` stands for one process; `test_processes.py` has real ones."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.routing.gate import Ended, Gate, Limits, Ticket
from llamaroute.state import redis as module
from llamaroute.state.redis import RedisCounter, RedisState

from ..servers.redis_server import RedisServer


class Process:
    """One of those that share: its gate, asked and waited for as a plan does it."""

    def __init__(self, url: str, **limits: Any) -> None:
        self.state = RedisState(url)
        account = self.state.account("acme:0")
        self.gate = Gate(Limits(**limits), threading.Lock(), account)
        account.gate = self.gate

    def ask(self, tokens: int = 0, patience: float = 0.5) -> Ticket | None:
        """A ticket that was let through, or None."""
        woken = threading.Event()
        now = time.monotonic()
        ticket = Ticket(tokens, now, now + patience, wake=woken.set)
        while (step := self.gate.step(ticket, time.monotonic())) != "granted":
            if not hasattr(step, "seconds") or hasattr(step, "reason"):
                return None
            woken.wait(step.seconds)
            woken.clear()
        return ticket

    def end(self, ticket: Ticket | None, **how: Any) -> None:
        assert ticket is not None
        self.gate.leave(ticket, Ended(**how), time.monotonic())

    def vanish(self) -> None:
        """As after kill -9: nothing is said any more."""
        self.state._inbox.put(None)
        assert self.state._thread is not None
        self.state._thread.join(2)
        self.state._redis.close()


@pytest.fixture
def process(server: RedisServer) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**limits: Any) -> Process:
        made.append(Process(server.url, **limits))
        return made[-1]

    yield make
    for one in made:
        one.state.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "llamaroute-redis"] == []


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_requests_are_shared(process: Callable[..., Process]):
    a, b = process(requests=60), process(requests=60)
    went = [one.ask(patience=0.2) is not None for one in (a, b) * 4]
    assert went == [True] * 6 + [False] * 2


def test_tokens_are_shared_and_given_back(process: Callable[..., Process]):
    a, b = process(tokens=600), process(tokens=600)  # 60 at once
    first = a.ask(tokens=60)
    assert first is not None
    assert b.ask(tokens=50) is None
    a.end(first, used=5)
    eventually(lambda: b.ask(tokens=50) is not None, 1.0)


def test_a_bucket_that_was_full_again_is_not_given_back_to(process: Callable[..., Process]):
    a, b = process(tokens=6000), process(tokens=6000)  # a hundred a second, 600 at once
    first = a.ask(tokens=20)
    time.sleep(0.3)
    assert b.ask(tokens=600) is not None  # it was full
    a.end(first, used=0)
    time.sleep(0.05)
    assert b.ask(tokens=600, patience=4.0) is None


def test_concurrency_is_shared(process: Callable[..., Process]):
    a, b = process(concurrency=2), process(concurrency=2)
    first, second = a.ask(), b.ask()
    assert a.ask() is None
    assert b.ask() is None
    a.end(first)
    third = b.ask()
    assert third is not None
    assert a.ask() is None
    b.end(second), b.end(third)
    assert a.ask() is not None


def test_a_wait_for_another_process_is_short(process: Callable[..., Process]):
    a, b = process(concurrency=1), process(concurrency=1)
    held = a.ask()
    threading.Timer(0.3, a.end, [held]).start()
    began = time.monotonic()
    assert b.ask(patience=3.0) is not None
    assert 0.29 < time.monotonic() - began < 0.55


def test_all_stay_away_when_one_is_told_to(process: Callable[..., Process]):
    a, b = process(requests=6000), process(requests=6000)
    a.end(a.ask(), limited=True, retry_after=0.8)
    time.sleep(0.05)
    assert b.ask(patience=0.4) is None
    assert b.ask(patience=1.0) is not None


def test_a_killed_process_gives_its_places_back(process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LAPSE", 1.0)
    a, b = process(concurrency=2), process(concurrency=2)
    assert a.ask() is not None
    assert a.ask() is not None
    assert b.ask() is None
    a.vanish()
    began = time.monotonic()
    assert b.ask(patience=5.0) is not None
    assert time.monotonic() - began < 2.0


def test_a_process_that_lives_keeps_its_places(process: Callable[..., Process], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LAPSE", 1.0)
    monkeypatch.setattr(module, "HEARTBEAT", 0.3)
    a, b = process(concurrency=1), process(concurrency=1)
    held = a.ask()
    assert held is not None
    assert b.ask(patience=2.5) is None


def test_a_process_that_ends_says_so(process: Callable[..., Process]):
    a, b = process(concurrency=1), process(concurrency=1)
    assert a.ask() is not None
    a.state.close()
    assert b.ask() is not None


def test_one_round_trip_for_each_question(process: Callable[..., Process]):
    a = process(requests=6000, tokens=10**6, concurrency=100)
    for _ in range(50):
        a.end(a.ask(tokens=10), used=10)
    eventually(lambda: a.gate.busy == 0)
    time.sleep(0.1)
    stats = a.state._redis.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] <= 100 + 2  # one to ask, one to tell


# -- outages ----------------------------------------------------------------------------------------------------------


def test_an_outage_leaves_each_its_share(
    process: Callable[..., Process], server: RedisServer, caplog: pytest.LogCaptureFixture
):
    a, b = process(concurrency=4, requests=6000), process(concurrency=4, requests=6000)
    tickets = [a.ask(), b.ask(), a.ask()]  # both know of each other
    assert all(tickets)
    server.stop()
    with caplog.at_level(logging.WARNING, "llamaroute"):
        assert b.ask(patience=1.0) is not None
        assert b.ask(patience=1.0) is None  # two of four
        assert a.ask(patience=1.0) is None
        server.start()
        eventually(lambda: a.state.up and b.state.up)
    texts = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in text for text in texts) == 2  # once each
    assert sum("answers again" in text for text in texts) == 2
    assert server.url not in " ".join(texts)
    # It knows nothing any more, and is told again what is under way: four.
    eventually(lambda: a.ask(patience=0.1) is None and b.ask(patience=0.1) is None)
    a.end(tickets[0])
    assert b.ask() is not None


def test_after_an_outage_nothing_goes_out_at_once(process: Callable[..., Process], server: RedisServer):
    a = process(requests=600)
    assert a.ask() is not None
    server.stop()
    assert a.ask(patience=1.0) is not None
    server.start()
    eventually(lambda: a.state.up)
    began = time.monotonic()
    for _ in range(5):
        assert a.ask() is not None
    assert time.monotonic() - began > 0.35  # ten a second; the burst of sixty is not there


def test_a_server_that_says_nothing_holds_nobody_up(process: Callable[..., Process], server: RedisServer):
    a = process(requests=60000)
    assert a.ask() is not None
    server.freeze()
    began = time.monotonic()
    assert a.ask(patience=5.0) is not None
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    for _ in range(20):
        assert a.ask(patience=5.0) is not None
    assert time.monotonic() - began < 0.5
    server.thaw()
    eventually(lambda: a.state.up)


def test_a_server_that_was_never_there(server: RedisServer, process: Callable[..., Process]):
    server.stop()
    a = process(concurrency=1)
    held = a.ask(patience=2.0)
    assert held is not None
    assert a.gate.degraded
    assert a.ask() is None
    server.start()
    a.end(held)
    eventually(lambda: a.state.up)


# -- life -------------------------------------------------------------------------------------------------------------


def test_a_state_that_nobody_has_any_more_ends_its_thread(server: RedisServer):
    one = Process(server.url, requests=600)
    assert one.ask() is not None
    thread = one.state._thread
    assert thread is not None
    del one
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("url", ["http://secret@example.org", "localhost:6379", "redis://localhost:port"])
def test_a_wrong_url(url: str):
    with pytest.raises(lr.ConfigError, match=r"state\.url: should be redis://host:port/number") as caught:
        RedisState(url)
    assert url not in str(caught.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(lr.ConfigError, match=r"pip install 'llamaroute\[redis\]'"):
        lr.Client({"providers": {"local": {}}, "state": {"url": "redis://localhost"}}, env={})


def test_keys_hold_no_secret_and_other_accounts_are_others(server: RedisServer):
    with Emulator(keys={"openai": "sk-very-secret"}) as emu:
        table = {**emu.providers("openai")["openai"], "model": "llama-4-scout", "headers": {"x-secret": "sk-hidden"}}
        config = {"providers": {"box": table}, "limits": {"box": {"concurrency": 5}}, "state": {"url": server.url}}
        elsewhere = {**table, "base_url": f"{table['base_url']}/", "api_key": "sk-other"}
        with lr.Client(config, env={}) as one, lr.Client({**config, "providers": {"box": elsewhere}}, env={}) as two:
            one.chat("Hi")
            with pytest.raises(lr.ProviderError):
                two.chat("Hi")
            store = RedisState(server.url)
            keys = store._redis.keys("*")
            assert len(keys) == 2
            held = str(keys) + str([store._redis.hgetall(key) for key in keys])
            store.close()
    assert all(key.startswith("llamaroute:box:") for key in keys)
    assert "sk-" not in held


def test_the_url_is_not_shown():
    config = lr.Config.model_validate({"state": {"url": "redis://:hunter2@localhost"}})
    assert "hunter2" not in repr(config) + config.model_dump_json() + str(config.state)


# -- sums -------------------------------------------------------------------------------------------------------------

UNTIL = time.time() + 1000


def test_sums_are_shared(server: RedisServer):
    a, b = RedisState(server.url), RedisState(server.url)
    one, two = RedisCounter(a), RedisCounter(b)
    assert one.reserve("day", 60, 100, UNTIL) == (True, 0)
    assert two.reserve("day", 60, 100, UNTIL) == (False, 60)
    one.settle("day", -50, UNTIL)
    eventually(lambda: two.reserve("day", 0, None, UNTIL) == (True, 10))
    assert two.reserve("day", 90, 100, UNTIL) == (True, 10)
    assert two.reserve("other", 1, None, UNTIL) == (True, 0)
    assert two.total("day") == 100
    a.close(), b.close()


def test_sums_survive_an_outage(server: RedisServer):
    state = RedisState(server.url)
    counter = RedisCounter(state)
    assert counter.reserve("day", 60, 100, UNTIL) == (True, 0)
    server.freeze()
    began = time.monotonic()
    assert counter.reserve("day", 50, 100, UNTIL) == (False, 60)
    assert counter.reserve("day", 30, 100, UNTIL) == (True, 60)
    counter.settle("day", 5, UNTIL)
    assert counter.total("day") == 95
    assert time.monotonic() - began < 1
    server.thaw()
    eventually(lambda: counter.reserve("day", 0, None, UNTIL) == (True, 95) and state.up, 10)
    state.close()


def test_what_a_frozen_server_took_is_added_once(server: RedisServer):
    state = RedisState(server.url)
    counter = RedisCounter(state)
    assert counter.reserve("day", 60, None, UNTIL) == (True, 0)
    server.freeze()
    counter.settle("day", -50, UNTIL)  # it lies in the server's socket, and is owed
    assert counter.reserve("day", 5, None, UNTIL)[0]
    eventually(lambda: not state.up)
    server.thaw()
    eventually(lambda: counter.reserve("day", 0, None, UNTIL) == (True, 15) and state.up)
    time.sleep(0.2)
    assert counter.reserve("day", 0, None, UNTIL) == (True, 15)
    assert counter.total("day") == 15
    state.close()


def test_sums_are_forgotten(server: RedisServer):
    state = RedisState(server.url)
    counter = RedisCounter(state)
    counter.reserve("day", 60, 100, time.time() + 0.1)
    time.sleep(2.2)
    assert counter.reserve("day", 0, None, UNTIL) == (True, 0)
    state.close()
