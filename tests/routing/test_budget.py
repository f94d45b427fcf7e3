"""The retry budget: what is earned, what is spent, and the bound that comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.routing.budget import FLOOR, MEMORY, REFILL, SHARE, RetryBudget

NOW = 1000.0


def spend(budget: RetryBudget, now: float = NOW, name: str = "a:m") -> int:
    """Takes all there is."""
    taken = 0
    while budget.take(name, now):
        taken += 1
        assert taken < 10_000
    return taken


def test_a_client_that_has_not_asked_yet_may_retry_a_little():
    budget = RetryBudget()
    assert budget.left("a:m", NOW) == FLOOR
    assert spend(budget) == FLOOR
    assert budget.left("a:m", NOW) == 0


def test_what_is_in_hand_can_be_left_alone():
    budget = RetryBudget()
    assert not budget.take("a:m", NOW, earned=True)
    for _ in range(11):
        budget.earn("a:m", NOW)
    assert budget.take("a:m", NOW, earned=True)
    assert not budget.take("a:m", NOW, earned=True)
    assert budget.left("a:m", NOW) == FLOOR


def test_targets_have_purses_of_their_own():
    budget = RetryBudget()
    spend(budget)
    assert spend(budget, name="b:m") == FLOOR


def test_answers_pay_for_a_tenth_of_themselves():
    budget = RetryBudget()
    for _ in range(1000):
        budget.earn("a:m", NOW)
    assert spend(budget) == pytest.approx(1000 * SHARE + FLOOR, abs=1)


def test_what_was_earned_long_ago_pays_for_nothing():
    budget = RetryBudget()
    for _ in range(1000):
        budget.earn("a:m", NOW)
    assert budget.left("a:m", NOW + MEMORY) == pytest.approx(1000 * SHARE / 2.718 + FLOOR, abs=1)
    assert spend(budget, NOW + 20 * MEMORY) == FLOOR


def test_the_floor_comes_back_slowly_and_not_above_itself():
    budget = RetryBudget()
    spend(budget)
    assert spend(budget, NOW + 1 / REFILL - 1) == 0
    assert spend(budget, NOW + 1 / REFILL) == 1
    assert spend(budget, NOW + 10_000) == FLOOR


def test_a_clock_that_does_not_move_on_gives_nothing():
    budget = RetryBudget()
    spend(budget)
    assert spend(budget, NOW - 500) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=400))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_retries_never_exceed_a_tenth_of_the_answers_and_the_floor(calls: list[tuple[float, bool]]) -> None:
    budget, now, answers, retries = RetryBudget(), NOW, 0, 0
    for pause, good in calls:
        now += pause
        if good:
            budget.earn("a:m", now)
            answers += 1
        else:
            retries += budget.take("a:m", now) + budget.take("a:m", now)
    assert retries <= SHARE * answers + FLOOR + (now - NOW) * REFILL + 1e-6
