"""Sums of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from llamaroute.state.memory import MemoryCounter


def test_up_to_the_limit_and_no_further() -> None:
    counter = MemoryCounter(lambda: 0.0)
    assert counter.reserve("a", 7, 10, 100.0) == (True, 0)
    assert counter.reserve("a", 4, 10, 100.0) == (False, 7)
    assert counter.reserve("a", 3, 10, 100.0) == (True, 7)
    assert counter.reserve("a", 0, 10, 100.0) == (True, 10)
    assert counter.reserve("b", 4, None, 100.0) == (True, 0)
    assert (counter.total("a"), counter.total("b"), counter.total("c")) == (10, 4, 0)


def test_what_is_settled_makes_room() -> None:
    counter = MemoryCounter(lambda: 0.0)
    counter.reserve("a", 10, 10, 100.0)
    counter.settle("a", -6, 100.0)
    assert counter.reserve("a", 7, 10, 100.0) == (False, 4)
    assert counter.reserve("a", 6, 10, 100.0) == (True, 4)
    counter.settle("a", 5, 100.0)
    assert counter.total("a") == 15, "what was spent counts, over the limit too"


def test_old_sums_are_forgotten() -> None:
    now = [0.0]
    counter = MemoryCounter(lambda: now[0])
    for day in range(50):
        now[0] = day * 86_400.0
        counter.reserve(f"day {day}", 1, None, now[0] + 2 * 86_400.0)
    assert len(counter._sums) <= 3
    assert counter.total("day 49") == 1
    assert counter.total("day 0") == 0


def test_threads_never_exceed_the_limit_together() -> None:
    counter = MemoryCounter()

    def work(_: int) -> int:
        return sum(counter.reserve("a", 3, 1000, 1e12)[0] for _ in range(100))

    with ThreadPoolExecutor(8) as pool:
        granted = sum(pool.map(work, range(8)))
    assert granted == 333
    assert counter.total("a") == 999


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40), st.integers(0, 200))
def test_what_is_set_aside_is_never_above_the_limit(steps: list[tuple[int, int]], limit: int) -> None:
    """Each step sets aside `most` and settles with what it did cost, which is no more."""
    counter = MemoryCounter(lambda: 0.0)
    spent = 0
    for most, cost in steps:
        granted, before = counter.reserve("a", most, limit, 1.0)
        assert before == spent
        assert granted == (before + most <= limit)
        assert counter.total("a") <= limit
        if granted:
            paid = min(cost, most)
            counter.settle("a", paid - most, 1.0)
            spent += paid
    assert counter.total("a") == spent <= limit
