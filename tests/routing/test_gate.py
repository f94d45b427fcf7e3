"""Who may send next: every rule of the gate, on a clock that the test turns."""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.routing.gate import (
    AGEING,
    LONGEST_HOLD,
    Answer,
    Bucket,
    Ended,
    Gate,
    Left,
    Limits,
    Refused,
    Ticket,
    Wait,
)

T0 = 1000.0


class Lock:
    """Fails where a thread that holds it would wait for itself."""

    def __init__(self) -> None:
        self.held = False

    def acquire(self, blocking: bool = True) -> bool:
        assert not (blocking and self.held), "waits for itself"
        if self.held:
            return False
        self.held = True
        return True

    def release(self) -> None:
        assert self.held
        self.held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


def gate_of(**limits: Any) -> Gate:
    return Gate(Limits(**limits), Lock())


def ticket_of(now: float = T0, *, tokens: int = 0, patience: float = 100.0, priority: int = 0) -> Ticket:
    return Ticket(tokens, now, now + patience, priority)


def through(gate: Gate, now: float = T0, **more: Any) -> Ticket:
    ticket = ticket_of(now, **more)
    assert gate.step(ticket, now) == "granted"
    return ticket


# -- limits -----------------------------------------------------------------------------------------------------------


def test_without_limits_everybody_passes():
    gate = gate_of()
    for _ in range(1000):
        through(gate)
    assert gate.busy == 1000


def test_where_nothing_is_counted_nobody_joins_the_queue(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Gate, "_join", lambda *_: pytest.fail("it joined"))
    gate = gate_of()
    ticket = ticket_of()
    assert gate.step(ticket, T0) == "granted"
    assert gate.busy == 1


def test_requests_a_minute():
    gate = gate_of(requests=60)  # one a second, six at once
    for _ in range(6):
        through(gate)
    late = ticket_of()
    assert gate.step(late, T0) == Wait(pytest.approx(1.0))
    assert gate.step(late, T0 + 0.5) == Wait(pytest.approx(0.5))
    assert gate.step(late, T0 + 1.0) == "granted"
    assert isinstance(gate.step(ticket_of(T0 + 1), T0 + 1), Wait)


def test_tokens_a_minute_and_what_is_given_back():
    gate = gate_of(tokens=6000)  # a hundred a second, 600 at once
    first = through(gate, tokens=500)
    second = ticket_of(tokens=300)
    assert gate.step(second, T0) == Wait(pytest.approx(2.0))
    gate.leave(first, Ended(used=200, answer=50), T0 + 0.5)  # it used 300 less than was set aside
    assert gate.step(second, T0 + 0.5) == "granted"


def test_a_request_larger_than_the_burst_is_paid_off_afterwards():
    gate = gate_of(tokens=6000)
    through(gate, tokens=6000)
    assert gate.step(ticket_of(tokens=1), T0) == Wait(pytest.approx((6000 + 1 - 600) / 100))


def test_tokens_that_were_paid_off_long_ago_are_not_given_back_once_more():
    gate = gate_of(tokens=6000)
    first = through(gate, tokens=600)
    through(gate, T0 + 60, tokens=600)  # the bucket was full by then
    gate.leave(first, Ended(used=1), T0 + 60)
    assert gate.step(ticket_of(T0 + 60, tokens=600), T0 + 60) == Wait(pytest.approx(6.0))


def test_tokens_used_beyond_what_was_set_aside_are_owed():
    gate = gate_of(tokens=6000)
    gate.leave(through(gate, tokens=100), Ended(used=1100), T0)
    assert gate.step(ticket_of(tokens=100), T0) == Wait(pytest.approx(6.0))


def test_concurrency():
    gate = gate_of(concurrency=2)
    first, _ = through(gate), through(gate)
    woken: list[int] = []
    waiting = Ticket(0, T0, T0 + 100, wake=lambda: woken.append(1))
    assert gate.step(waiting, T0) == Wait(pytest.approx(100))
    assert not woken
    gate.leave(first, Ended(), T0 + 3)
    assert woken
    assert gate.step(waiting, T0 + 3) == "granted"
    assert gate.busy == 2


def test_leaving_twice_frees_one_place():
    gate = gate_of(concurrency=2)
    first, second = through(gate), through(gate)
    for _ in range(3):
        gate.leave(first, Ended(), T0)
    assert gate.busy == 1
    gate.leave(second, Ended(), T0)
    assert gate.busy == 0


def test_leaving_in_the_middle_of_another_thread_s_turn_waits_for_nobody():
    gate = gate_of(concurrency=1)
    first = through(gate)
    with gate.lock:  # as in a finaliser that runs while this thread holds the lock
        gate.leave(first, Ended(), T0)
        assert gate.busy == 1
    assert gate.step(ticket_of(), T0 + 1) != "granted"  # it looked before it read
    assert gate.busy == 0


def test_what_was_never_sent_is_given_back():
    gate = gate_of(requests=60, tokens=6000)
    for _ in range(50):
        gate.leave(through(gate, tokens=600), Ended(sent=False), T0)


# -- the queue --------------------------------------------------------------------------------------------------------


def order_of(gate: Gate, tickets: list[Ticket], now: float) -> list[int]:
    """In which order those that wait go out, one place at a time."""
    held = through(gate, tickets[0].since - 1)
    for ticket in tickets:
        assert isinstance(gate.step(ticket, ticket.since), Wait)
    order = []
    while len(order) < len(tickets):
        gate.leave(held, Ended(), now)
        (place,) = [i for i, t in enumerate(tickets) if i not in order and gate.step(t, now) == "granted"]
        held = tickets[place]
        order.append(place)
    return order


def test_first_come_first_served():
    assert order_of(gate_of(concurrency=1), [ticket_of(T0 + i) for i in range(5)], T0 + 10) == [0, 1, 2, 3, 4]


def test_the_urgent_go_first():
    tickets = [ticket_of(T0, priority=p) for p in (0, -1, 2, 0, 1)]
    assert order_of(gate_of(concurrency=1), tickets, T0 + 1) == [2, 4, 0, 3, 1]


def test_who_has_waited_long_goes_before_the_urgent():
    tickets = [ticket_of(T0), ticket_of(T0 + AGEING - 1, priority=1), ticket_of(T0 + AGEING + 1, priority=1)]
    assert order_of(gate_of(concurrency=1), tickets, T0 + 20) == [1, 0, 2]


def test_nobody_slips_past_those_that_wait():
    gate = gate_of(tokens=6000)
    through(gate, tokens=600)
    large = ticket_of(tokens=600)
    assert isinstance(gate.step(large, T0), Wait)
    small = ticket_of(T0 + 1, tokens=1)
    assert isinstance(gate.step(small, T0 + 1), Wait)  # there would be room for it
    assert gate.step(large, T0 + 6) == "granted"


def test_a_full_queue_refuses_at_once():
    gate = gate_of(concurrency=1, queue=2)
    held = through(gate)
    waiting = [ticket_of() for _ in range(2)]
    assert all(isinstance(gate.step(ticket, T0), Wait) for ticket in waiting)
    assert gate.step(ticket_of(), T0) == Refused("2 calls wait already")
    gate.leave(waiting[0], Ended(sent=False), T0)
    assert isinstance(gate.step(ticket_of(), T0), Wait)
    gate.leave(held, Ended(), T0)
    assert gate.step(waiting[1], T0) == "granted"


def test_without_a_queue_what_is_free_is_used_all_the_same():
    gate = gate_of(concurrency=1, requests=600, queue=0)
    held = through(gate)
    assert gate.step(ticket_of(), T0) == Refused("0 calls wait already")
    gate.leave(held, Ended(), T0)
    through(gate)


def test_who_cannot_go_in_time_is_told_at_once():
    gate = gate_of(requests=60)
    for _ in range(6):
        through(gate)
    for i in range(10):
        assert isinstance(gate.step(ticket_of(patience=20), T0), Wait), i
    refused = gate.step(ticket_of(patience=10.5), T0)  # ten are before it
    assert refused == Refused("a place comes free in 11.0 s at the earliest", pytest.approx(11.0))
    assert isinstance(gate.step(ticket_of(patience=11.5), T0), Wait)
    urgent = ticket_of(patience=1.5, priority=1)
    assert isinstance(gate.step(urgent, T0), Wait)
    assert gate.step(urgent, T0 + 1) == "granted"


def test_who_cannot_have_its_tokens_in_time_is_told_at_once():
    gate = gate_of(tokens=6000)
    through(gate, tokens=600)
    assert isinstance(gate.step(ticket_of(tokens=600), T0), Wait)
    assert isinstance(gate.step(ticket_of(tokens=600, patience=11), T0), Refused)


def test_who_waits_too_long_is_refused():
    gate = gate_of(concurrency=1)
    through(gate)
    waiting = ticket_of(patience=5)
    assert gate.step(waiting, T0) == Wait(pytest.approx(5))
    assert gate.step(waiting, T0 + 5) == Refused("no place came free in 5.0 s")
    assert gate.queue == []


def test_who_gives_up_makes_way():
    """While the host is to be left alone nobody leaves, and so nobody else would wake those behind."""
    gate = gate_of()
    woken: list[int] = []
    gate.leave(through(gate), Ended(limited=True, retry_after=3.0), T0)
    first = ticket_of(patience=4.0)
    second = Ticket(0, T0, T0 + 100, wake=lambda: woken.append(1))
    assert gate.step(first, T0) == Wait(3.0)
    assert gate.step(second, T0) == Wait(100.0)
    assert isinstance(gate.step(first, T0 + 4), Refused)
    assert woken == [1]
    assert gate.step(second, T0 + 4) == "granted"


def test_max_wait():
    gate = gate_of(concurrency=1, max_wait=2)
    through(gate)
    assert gate.step(ticket_of(), T0) == Wait(pytest.approx(2))


def test_who_goes_away_makes_way():
    gate = gate_of(requests=60)
    for _ in range(6):
        through(gate)
    woken: list[int] = []
    first, second = ticket_of(), Ticket(0, T0, T0 + 100, wake=lambda: woken.append(1))
    assert isinstance(gate.step(first, T0), Wait)
    assert isinstance(gate.step(second, T0), Wait)
    gate.leave(first, Ended(sent=False), T0 + 0.5)
    assert woken
    assert gate.step(second, T0 + 0.5) == Wait(pytest.approx(0.5))
    assert gate.step(second, T0 + 1) == "granted"


# -- what the host says -----------------------------------------------------------------------------------------------


def test_retry_after_holds_for_everybody():
    gate = gate_of()
    gate.leave(through(gate), Ended(limited=True, retry_after=7.0), T0)
    waiting = ticket_of()
    assert gate.step(waiting, T0) == Wait(pytest.approx(7))
    assert isinstance(gate.step(ticket_of(patience=6), T0), Refused)
    assert gate.step(waiting, T0 + 7) == "granted"


def test_those_that_cannot_wait_so_long_are_told_when_the_host_says_so():
    gate = gate_of(concurrency=2)
    first, _ = through(gate), through(gate)
    woken: list[int] = []
    hasty, patient = Ticket(0, T0, T0 + 5, wake=lambda: woken.append(1)), ticket_of()
    assert isinstance(gate.step(hasty, T0), Wait)
    assert isinstance(gate.step(patient, T0), Wait)
    gate.leave(first, Ended(limited=True, retry_after=10.0), T0 + 1)
    assert woken
    assert isinstance(gate.step(hasty, T0 + 1), Refused)
    assert gate.step(patient, T0 + 1) == Wait(pytest.approx(10))


def test_no_word_holds_longer_than_a_minute():
    gate = gate_of()
    gate.leave(through(gate), Ended(limited=True, retry_after=86400.0), T0)
    through(gate, T0 + LONGEST_HOLD)


def test_a_429_halves_what_is_under_way_and_answers_bring_it_back():
    gate = gate_of()
    under_way = [through(gate) for _ in range(16)]
    for ticket in under_way[:8]:  # a storm of them counts once
        gate.leave(ticket, Ended(limited=True), T0 + 1)
    assert gate.ceiling == 8
    waiting = ticket_of(T0 + 1)
    assert isinstance(gate.step(waiting, T0 + 1), Wait)
    gate.leave(under_way[8], Ended(answered=True), T0 + 2)
    assert gate.step(waiting, T0 + 2) == "granted"
    assert gate.ceiling == pytest.approx(8.125)
    for ticket in under_way[9:]:
        gate.leave(ticket, Ended(answered=True), T0 + 2)
    gate.leave(waiting, Ended(limited=True), T0 + 3)  # sent after the cut: it is cut again
    assert gate.ceiling is not None
    assert gate.ceiling <= 4
    for i in range(400):
        gate.leave(through(gate, T0 + 4 + i), Ended(answered=True), T0 + 4 + i)
    assert gate.ceiling is None


def test_a_429_slows_the_pace_for_a_minute():
    gate = gate_of(requests=60)
    gate.leave(through(gate), Ended(limited=True), T0)
    paces = []
    for now in (T0 + 10, T0 + 30, T0 + 90):
        fresh = gate._paced(now)
        paces.append(fresh)
    assert 0.8 <= paces[0] < paces[1] <= paces[2] == 1.0


def test_the_host_s_word_can_be_left_out():
    gate = gate_of(adaptive=False)
    gate.leave(through(gate), Ended(limited=True, retry_after=7.0, left=(Left("requests", 10, 0, 60.0),)), T0)
    through(gate)
    assert gate.ceiling is None


def test_what_is_left_at_the_host_is_counted_on():
    gate = gate_of()
    gate.leave(through(gate), Ended(used=1, left=(Left("requests", 60, 2, 58.0),)), T0)
    through(gate), through(gate)
    ticket = ticket_of()
    assert gate.step(ticket, T0) == Wait(pytest.approx(1.0))  # 58 come back in 58 seconds
    assert gate.step(ticket, T0 + 58) == "granted"


def test_without_a_limit_all_comes_back_at_the_reset():
    gate = gate_of()
    gate.leave(through(gate), Ended(used=1, left=(Left("requests", None, 0, 30.0),)), T0)
    waiting = ticket_of()
    assert gate.step(waiting, T0) == Wait(pytest.approx(30.0))
    assert gate.step(waiting, T0 + 30) == "granted"


def test_an_answer_that_was_overtaken_gives_nothing_back():
    gate = gate_of()
    gate.leave(through(gate), Ended(used=1, left=(Left("requests", None, 1, 30.0),)), T0)
    through(gate)
    gate.leave(through(gate_of()), Ended(used=1), T0)
    old = Ended(used=1, left=(Left("requests", None, 5, 29.0),))
    gate.leave(gate_ticket(gate), old, T0 + 1)
    assert isinstance(gate.step(ticket_of(T0 + 1), T0 + 1), Wait)


def gate_ticket(gate: Gate) -> Ticket:
    """A call that is under way at the gate, past its limits."""
    ticket = ticket_of()
    ticket.state = "granted"
    gate.busy += 1
    return ticket


def test_tokens_that_no_window_has_are_let_through_when_all_of_it_is_there():
    gate = gate_of()
    gate.leave(through(gate), Ended(used=1, left=(Left("tokens", 1000, 1000, 60.0),)), T0)
    assert gate.counts_tokens
    through(gate, tokens=5000)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_new_limits_hold_for_those_that_wait():
    gate = gate_of(concurrency=1)
    through(gate)
    woken: list[int] = []
    waiting = Ticket(0, T0, T0 + 100, wake=lambda: woken.append(1))
    assert isinstance(gate.step(waiting, T0), Wait)
    gate.configure(Limits(concurrency=2), None)
    assert woken
    assert gate.step(waiting, T0) == "granted"


def test_new_limits_forget_nothing():
    gate = gate_of(requests=60)
    for _ in range(6):
        through(gate)
    gate.configure(Limits(requests=60, concurrency=5), None)
    assert isinstance(gate.step(ticket_of(), T0), Wait)


def test_what_is_set_aside():
    gate = gate_of(tokens=1000)
    assert gate.reserve(100, 500) == 600
    assert gate.reserve(100, None) == 356
    thrifty = gate_of(tokens=1000, reserve_max_tokens=False)
    assert thrifty.reserve(100, 500) == 356
    assert thrifty.reserve(100, 50) == 150
    for _ in range(100):
        thrifty.leave(through(thrifty, tokens=10), Ended(used=10, answer=10), T0)
        assert thrifty.tokens is not None
        thrifty.tokens.full_at = T0
    assert thrifty.reserve(100, None) in (110, 111)


# -- shared limits ----------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Stands for what keeps shared limits: says what the test puts into `answers`."""

    up: bool = True
    asked: list[Ticket] = field(default_factory=list)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)

    def ask(self, gate: Gate, ticket: Ticket, tokens: int, busy: int, limits: Limits, pace: float) -> None:
        self.asked.append(ticket)
        self.busy.append(busy)

    def tell(self, *what: Any) -> None:
        self.told.append(what)

    def lost(self) -> None:
        self.up = False


def shared_gate(**limits: Any) -> tuple[Gate, Server]:
    server = Server()
    return Gate(Limits(**limits), Lock(), server), server


def test_shared_limits_are_asked_by_the_first_alone():
    gate, server = shared_gate(concurrency=3)
    first, second = ticket_of(), ticket_of()
    assert isinstance(gate.step(first, T0), Wait)
    assert isinstance(gate.step(second, T0), Wait)
    assert server.asked == [first]
    gate.answered(first, Answer(True, 0.0, 4), T0)
    assert gate.step(first, T0) == "granted"
    assert isinstance(gate.step(second, T0), Wait)
    gate.answered(second, Answer(False, 0.5, 4), T0)
    assert gate.step(second, T0) == Wait(pytest.approx(0.25))
    assert isinstance(gate.step(second, T0 + 0.25), Wait)
    assert server.asked == [first, second, second]
    assert server.busy == [0, 1, 1]


def test_who_cannot_have_what_is_shared_in_time_is_told_at_once():
    gate, _ = shared_gate(requests=60)
    hasty, patient = ticket_of(patience=5), ticket_of()
    gate.step(hasty, T0), gate.step(patient, T0)
    gate.answered(hasty, Answer(False, 6.0, 4), T0)
    assert gate.step(hasty, T0) == Refused("a place comes free in 6.0 s at the earliest", 6.0)
    assert gate.step(patient, T0) == Wait(pytest.approx(0.25))


def test_a_grant_for_somebody_who_has_gone_is_given_back():
    gate, server = shared_gate(tokens=6000)
    ticket = ticket_of(tokens=50)
    gate.step(ticket, T0)
    gate.leave(ticket, Ended(sent=False), T0)
    gate.answered(ticket, Answer(True, 0.0, 1), T0)
    assert gate.busy == 0
    assert server.told == [(0, 50, 1)]


def test_without_the_server_a_process_keeps_to_its_share():
    gate, server = shared_gate(requests=240, concurrency=8)
    first = ticket_of()
    gate.step(first, T0)
    gate.answered(first, Answer(True, 0.0, 4), T0)
    server.up = False
    waiting = ticket_of()
    assert gate.degraded
    assert gate.step(waiting, T0) == Wait(pytest.approx(1.0))  # 60 a minute, and nothing at once
    assert gate.step(waiting, T0 + 1) == "granted"
    last = ticket_of(T0 + 2)
    assert gate.step(last, T0 + 2) == Wait(pytest.approx(100))  # two of eight under way
    server.up = True
    assert gate.step(last, T0 + 2) == Wait(pytest.approx(0.25))
    assert server.asked == [first, last]


def test_a_look_that_fails_does_not_begin_the_share_anew():
    gate, server = shared_gate(requests=240)
    gate.met(4)
    server.up = False
    first = ticket_of()
    assert gate.step(first, T0) == Wait(pytest.approx(1.0))
    server.up = True  # it is asked whether it answers again
    assert gate.step(first, T0 + 0.5) == Wait(pytest.approx(0.25))
    assert gate.degraded
    server.up = False
    gate.answered(first, None, T0 + 0.6)
    assert gate.step(first, T0 + 0.6) == Wait(pytest.approx(0.4))
    gate.met(4)  # an answer does: from then on the others count on this one to have stopped
    assert gate.step(first, T0 + 0.7) == Wait(pytest.approx(1.0))


def test_a_share_is_given_nothing_back_that_was_taken_before_it_began():
    gate, server = shared_gate(tokens=6000)
    gate.met(1)
    server.up = False
    waiting = ticket_of(tokens=10)
    gate.step(waiting, T0)
    assert gate.tokens is not None
    full_at = gate.tokens.full_at
    gate.tokens.give(500, T0 - 1)
    assert gate.tokens.full_at == full_at


def test_a_server_that_does_not_answer_is_given_up():
    gate, server = shared_gate(concurrency=8)
    ticket = ticket_of()
    assert gate.step(ticket, T0) == Wait(pytest.approx(0.25))
    assert gate.step(ticket, T0 + 0.25) == "granted"
    assert not server.up
    gate.answered(ticket, Answer(True, 0.0, 1), T0 + 3)  # late
    assert gate.busy == 1


# -- in the large -----------------------------------------------------------------------------------------------------


@dataclass
class Arrival:
    at: float
    tokens: int
    used: float
    seconds: float
    priority: int
    patience: float
    leaves: bool


arrivals = st.lists(
    st.builds(
        Arrival,
        at=st.floats(0, 90),
        tokens=st.integers(0, 900),
        used=st.floats(0, 1),
        seconds=st.floats(0, 20),
        priority=st.integers(-2, 2),
        patience=st.floats(0.1, 120),
        leaves=st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals,
    st.one_of(st.none(), st.integers(1, 120)),
    st.one_of(st.none(), st.integers(60, 6000)),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_limits_hold_in_every_window_and_no_place_is_lost(
    calls: list[Arrival], requests: int | None, tokens: int | None, concurrency: int | None
):
    gate = gate_of(requests=requests, tokens=tokens, concurrency=concurrency)
    steps = itertools.count()
    events: list[tuple[float, int, str, int]] = [(c.at, next(steps), "come", i) for i, c in enumerate(calls)]
    heapq.heapify(events)
    tickets: dict[int, Ticket] = {}
    out: list[tuple[float, int]] = []
    ended = set[int]()
    now = 0.0
    while events:
        now, _, what, i = heapq.heappop(events)
        call = calls[i]
        if what == "come":
            wake = lambda i=i: heapq.heappush(events, (now, next(steps), "look", i))  # noqa: B023, E731
            tickets[i] = Ticket(call.tokens, now, now + call.patience, call.priority, wake)
            if call.leaves:
                heapq.heappush(events, (now + call.seconds, next(steps), "go", i))
        if what == "end":
            gate.leave(tickets[i], Ended(used=int(call.tokens * call.used)), now)
            ended.add(i)
        elif what == "go" and i not in ended and tickets[i].state in ("waiting", "granted"):
            gate.leave(tickets[i], Ended(), now)
            ended.add(i)
        elif i not in ended:
            step = gate.step(tickets[i], now)
            if isinstance(step, Wait):
                heapq.heappush(events, (now + step.seconds, next(steps), "look", i))
            else:
                ended.add(i)
                if step == "granted":
                    out.append((now, i))
                    heapq.heappush(events, (now + call.seconds, next(steps), "end", i))
        assert concurrency is None or gate.busy <= concurrency
    assert ended == set(range(len(calls))), "somebody waits for ever"
    assert gate.busy == 0
    assert gate.queue == []
    for (first, _), (last, _) in itertools.combinations_with_replacement(out, 2):
        inside = [i for at, i in out if first <= at <= last]
        if requests is not None:
            bucket = Bucket.of(requests)
            assert len(inside) <= bucket.burst + requests * (last - first) / 60 + 1e-3
        if tokens is not None:
            bucket = Bucket.of(tokens)
            used = sum(int(calls[i].tokens * calls[i].used) for i in inside)
            excess = max(0.0, max(calls[i].tokens for i in inside) - bucket.burst)
            assert used <= bucket.burst + excess + tokens * (last - first) / 60 + 1e-3


def test_threads_lose_no_place():
    gate = Gate(Limits(concurrency=3), threading.Lock())
    most: list[int] = []

    def work() -> None:
        for _ in range(200):
            woken = threading.Event()
            ticket = Ticket(0, T0, T0 + 1e6, wake=woken.set)
            while gate.step(ticket, T0) != "granted":
                assert woken.wait(10), "nobody woke it"
                woken.clear()
            most.append(gate.busy)
            gate.leave(ticket, Ended(used=1), T0)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 2400
    assert max(most) <= 3
    assert gate.busy == 0
