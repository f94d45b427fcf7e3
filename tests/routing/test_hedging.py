"""How long a target is waited for, and what second requests may cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.routing.hedging import HAND, KEPT, LEAST, Allowance, Hedge, Waits


def test_nothing_is_known_of_a_few_calls():
    waits = Waits()
    for seconds in range(LEAST - 1):
        waits.add(float(seconds))
        assert waits.within(0.95) is None
    waits.add(0.0)
    assert waits.within(0.95) is not None


@pytest.mark.parametrize(("part", "seconds"), [(0.5, 50.0), (0.9, 90.0), (0.95, 95.0), (0.99, 99.0)])
def test_a_part_of_the_calls(part, seconds):
    waits = Waits()
    for wait in range(100, 0, -1):
        waits.add(float(wait))
    assert waits.within(part) == seconds


def test_what_is_long_ago_is_forgotten():
    waits = Waits()
    for _ in range(KEPT):
        waits.add(9.0)
    assert waits.within(0.5) == 9.0
    for _ in range(KEPT):
        waits.add(1.0)
    assert waits.within(0.99) == 1.0


@given(st.lists(st.floats(0, 600), min_size=LEAST, max_size=2 * KEPT), st.integers(50, 99))
def test_it_is_a_wait_that_so_many_did_not_exceed(seconds, percent):
    waits = Waits()
    for wait in seconds:
        waits.add(wait)
    latest = seconds[-KEPT:]
    found = waits.within(percent / 100)
    assert found in latest
    assert sum(wait <= found for wait in latest) >= len(latest) * percent / 100
    assert sum(wait < found for wait in latest) < len(latest) * percent / 100 + 1e-9


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 5)), max_size=300), st.floats(0, 1))
def test_never_more_than_the_share(calls, share):
    allowance, spent = Allowance(), 0.0
    for count, (slow, cost) in enumerate(calls, 1):
        allowance.earn(share)
        if slow and allowance.take(cost):
            spent += cost
        assert spent <= share * count + 1e-9
        assert allowance.left <= HAND


def test_a_rule_in_seconds_needs_no_calls():
    assert Hedge.of(0.8, 0.1).patience(None) == 0.8
    assert Hedge.of("p95", 0.1).patience(None) is None
    assert Hedge.of("p95", 0.1) == Hedge(0.1, part=0.95)
