"""What calls add up to, by target, account, route and day."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from llamaroute.pipeline.core import Call
from llamaroute.state.usage import DAYS, Tally
from llamaroute.types.response import Attempt, AttemptError, ChatResponse, Cost, Usage
from tests.pipeline.step import WALL, call_of, candidate

TODAY = datetime.datetime.fromtimestamp(WALL, datetime.UTC).date()


def attempt(
    target: str, *, tokens: tuple[int, int] | None = (10, 20), cost: str | None = "1", error: str = ""
) -> Attempt:
    usage = Usage(*tokens, sum(tokens)) if tokens else None
    failed = AttemptError(error, "x") if error else None
    return Attempt(target, status=200, error=failed, usage=usage, cost=Cost(Decimal(cost)) if cost else None)


def call(*attempts: Attempt, days: int = 0, **fields: Any) -> Call:
    made = call_of(candidate("a"), **fields)
    made.ledger.wall += days * 86_400
    made.ledger.attempts.extend(attempts)
    return made


def answered(target: str) -> ChatResponse[Any]:
    return ChatResponse[Any](text="x", target=target)


def test_an_answer_counts_where_it_was_given_and_an_attempt_where_it_was_made():
    tally = Tally()
    tally.count(call(attempt("a:m", tokens=None, cost=None, error="ServerError"), attempt("b:m")), answered("b:m"))
    totals = tally.totals()
    assert (totals.calls, totals.failed, totals.attempts, totals.cost) == (1, 0, 2, 1)
    assert {name: (part.calls, part.attempts, part.cost) for name, part in totals.by_target.items()} == {
        "a:m": (0, 1, 0),
        "b:m": (1, 1, 1),
    }
    assert {name: (part.calls, part.attempts) for name, part in totals.by_provider.items()} == {
        "a": (0, 1),
        "b": (1, 1),
    }


def test_what_was_given_up_was_paid_for():
    """The quicker of two won, and the other had begun."""
    tally = Tally()
    tally.count(call(attempt("a:m", cost="0.25", error="Abandoned"), attempt("b:m")), answered("b:m"))
    totals = tally.totals()
    assert (totals.abandoned, totals.cost, totals.input_tokens, totals.output_tokens) == (1, Decimal("1.25"), 20, 40)
    assert totals.by_target["a:m"].abandoned == 1


def test_a_failed_call_counts_where_it_began():
    tally = Tally()
    tally.count(call(attempt("a:m", cost=None), attempt("b:m", tokens=None, cost=None)), None)
    totals = tally.totals()
    assert (totals.calls, totals.failed, totals.attempts, totals.unpriced) == (1, 1, 2, 1)
    assert (totals.by_provider["a"].failed, totals.by_provider["b"].failed) == (1, 0)


def test_routes():
    tally = Tally()
    tally.count(call(attempt("a:m"), route="r"), answered("a:m"))
    tally.count(call(attempt("a:m")), answered("a:m"))
    assert {name: part.calls for name, part in tally.totals().by_route.items()} == {"r": 1}


def test_days_and_no_more_of_them_than_a_year():
    tally = Tally()
    for day in range(2 * DAYS):
        tally.count(call(attempt("a:m"), days=day), answered("a:m"))
    totals = tally.totals()
    assert totals.calls == 2 * DAYS
    assert len(totals.by_day) == DAYS
    assert max(totals.by_day) == (TODAY + datetime.timedelta(days=2 * DAYS - 1)).isoformat()
    assert {part.calls for part in totals.by_day.values()} == {1}


def test_the_day_is_that_on_which_the_call_ended():
    tally = Tally()
    made = call(attempt("a:m"))
    made.ledger.now += 86_400
    tally.count(made, answered("a:m"))
    assert list(tally.totals().by_day) == [(TODAY + datetime.timedelta(days=1)).isoformat()]


def test_a_layer_that_answers_by_itself():
    """A cache, say: no attempt was made, and its answer's own numbers count."""
    tally = Tally()
    response = answered("a:m").model_copy(update={"usage": Usage(3, 4, 7), "cost": Cost(Decimal(2))})
    tally.count(call(), response)
    totals = tally.totals()
    assert (totals.attempts, totals.input_tokens, totals.output_tokens, totals.cost) == (0, 3, 4, 2)


def test_totals_are_copies():
    tally = Tally()
    tally.count(call(attempt("a:m"), route="r"), answered("a:m"))
    before = tally.totals()
    tally.count(call(attempt("a:m"), route="r"), answered("a:m"))
    assert (before.calls, before.by_target["a:m"].calls, before.by_route["r"].calls) == (1, 1, 1)
    before.by_target.clear()
    assert tally.totals().by_target["a:m"].calls == 2


def test_threads():
    tally = Tally()

    def work(number: int) -> None:
        for _ in range(100):
            tally.count(call(attempt(f"{'ab'[number % 2]}:m")), answered(f"{'ab'[number % 2]}:m"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    totals = tally.totals()
    assert (totals.calls, totals.attempts, totals.cost) == (800, 800, 800)
    assert {name: part.calls for name, part in totals.by_provider.items()} == {"a": 400, "b": 400}
