"""Budgets: what is set aside before an attempt, and what takes its place afterwards."""

from __future__ import annotations

import datetime
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from llamaroute.errors import (
    CapabilityError,
    ConnectionError,
    PolicyError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from llamaroute.layers.failover import failover
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.layers.spending import Limit, Spending, nano, spending, usd
from llamaroute.pipeline.core import Call, Outcome, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.state.memory import MemoryCounter
from llamaroute.tokens import ESTIMATE_MARGIN, estimate_tokens
from llamaroute.types.capability import ModelRow
from llamaroute.types.response import Usage

from .step import WALL, Handler, Script, answer, blocking, call_of, candidate, finish, pull, send, send_fails, sleep

handler = compose((failover, retry, spending, observe), exchange)
PRICED = ModelRow("m", "m", input_price=Decimal(1), output_price=Decimal(2), context_window=1000)
DAY = datetime.datetime.fromtimestamp(WALL, datetime.UTC).date()
SUM = f"spent:{DAY}"
PER_DAY, PER_CALL = "policy.budget.usd_per_day", "policy.budget.usd_per_call"


def priced(provider: str = "acme", **more: Any) -> Any:
    row = PRICED.evolve(**{k: more.pop(k) for k in list(more) if hasattr(PRICED, k)})
    return candidate(provider, row=row, **more)


class Money:
    """A budget, and what is spent of it."""

    def __init__(self, per_day: str | None = "1", per_call: str | None = None, unpriced: str = "key") -> None:
        self.counter = MemoryCounter(lambda: WALL)
        limits = [Limit(PER_CALL, Decimal(per_call))] if per_call is not None else []
        limits += [Limit(PER_DAY, Decimal(per_day), "spent")] if per_day is not None else []
        self.budget = Spending(tuple(limits), self.counter, unpriced)

    @property
    def spent(self) -> Decimal:
        return usd(self.counter.total(SUM))

    def call(self, *candidates: Any, max_tokens: int | None = 100, **fields: Any) -> Call:
        fields.setdefault("retry", None)
        return call_of(*candidates, spending=self.budget, request={"max_tokens": max_tokens}, **fields)


def run(script: Script, call: Call) -> Any:
    return script.run(handler(call), call.ledger)


def prompt(call: Call) -> Decimal:
    """What the prompt costs at most, at 1 $ a million."""
    import math

    return Decimal(math.ceil(estimate_tokens(call.request) * ESTIMATE_MARGIN)) / 1_000_000


# -- before -----------------------------------------------------------------------------------------------------------


def test_money_is_whole_numbers_rounded_up():
    assert nano(Decimal("0.0000000001")) == 1
    assert nano(Decimal("0.25")) == 250_000_000
    assert usd(250_000_000) == Decimal("0.25")


def test_while_the_attempt_is_under_way_the_most_that_it_may_cost_is_set_aside():
    money = Money()
    call = money.call(priced())
    plan = handler(call)
    plan.send(None)
    assert money.spent == prompt(call) + Decimal("0.0002"), "100 tokens of answer at 2 $ a million"
    assert usd(call.ledger.spent) == money.spent
    plan.close()


def test_afterwards_the_real_cost_takes_its_place():
    money = Money()
    call = money.call(priced())
    run(Script(answer(200, {"text": "x", "usage": [10, 20]})), call)
    assert money.spent == usd(call.ledger.spent) == Decimal("0.00005")


@pytest.mark.parametrize(
    ("max_tokens", "row", "most"),
    [
        (50, {}, 50),
        (None, {"max_output": 70}, 70),
        (None, {}, 1000),  # the window, less the prompt
        (9000, {"max_output": 70}, 9000),  # what is asked for counts; the host may say no
    ],
)
def test_the_longest_answer(max_tokens: int | None, row: dict[str, Any], most: int):
    money = Money()
    call = money.call(priced(**row), max_tokens=max_tokens)
    plan = handler(call)
    plan.send(None)
    tokens = Decimal(most) - (prompt(call) * 1_000_000 if most == 1000 else 0)
    assert money.spent == prompt(call) + tokens * 2 / 1_000_000
    plan.close()


def test_a_call_that_could_cost_more_than_is_left_is_not_sent():
    money = Money("0.0001")
    call = money.call(priced())
    with pytest.raises(PolicyError) as caught:
        run(Script(), call)
    error = caught.value
    assert (error.rule, error.target, error.limit) == (PER_DAY, "acme:llama-4-scout", Decimal("0.0001"))
    assert (error.spent, error.cost) == (Decimal(0), prompt(call) + Decimal("0.0002"))
    assert "of $0.0001, $0.00 are spent or set aside today, and this attempt may cost up to $0.0002" in str(error)
    assert money.spent == 0
    assert call.ledger.spent == 0
    assert call.ledger.attempts == []


def test_what_is_set_aside_for_others_counts():
    money = Money("0.0005")
    first, second = money.call(priced()), money.call(priced())
    plan = handler(first)
    plan.send(None)
    run(Script(answer(200, {"text": "x", "usage": [10, 20]})), second)
    third = money.call(priced())
    plan_3 = handler(third)
    plan_3.send(None)
    with pytest.raises(PolicyError) as caught:
        run(Script(), money.call(priced()))
    assert caught.value.spent == money.spent > Decimal("0.0004")
    plan.close()
    plan_3.close()


def test_a_call_may_cost_exactly_what_is_left():
    call = Money().call(priced())
    most = prompt(call) + Decimal("0.0002")
    run(Script(answer(200, {"text": "x", "usage": [1, 1]})), Money(str(most)).call(priced()))
    with pytest.raises(PolicyError):
        run(Script(), Money(str(most - Decimal("0.000000001"))).call(priced()))


def test_a_new_day_begins_with_nothing_spent():
    money = Money("0.0003")
    run(Script(answer(200, {"text": "x", "usage": [200, 0]})), money.call(priced()))
    with pytest.raises(PolicyError):
        run(Script(), money.call(priced()))
    tomorrow = money.call(priced())
    tomorrow.ledger.wall += 86_400
    run(Script(answer(200, {"text": "x", "usage": [200, 0]})), tomorrow)
    assert usd(money.counter.total(f"spent:{DAY + datetime.timedelta(days=1)}")) == Decimal("0.0002")


def test_a_call_under_way_at_midnight_is_settled_where_it_was_set_aside():
    money = Money()
    call = money.call(priced(), total=None)
    run(Script(answer(200, {"text": "x", "usage": [10, 20]}, seconds=86_400)), call)
    assert money.spent == Decimal("0.00005")


def test_two_limits_and_the_second_says_no():
    counter = MemoryCounter(lambda: WALL)
    limits = (Limit(PER_DAY, Decimal(1), "spent"), Limit("routes.r.policy.budget.usd_per_day", Decimal(0), "spent:r"))
    call = call_of(priced(), spending=Spending(limits, counter, ""), request={"max_tokens": 1}, retry=None)
    with pytest.raises(PolicyError) as caught:
        run(Script(), call)
    assert caught.value.rule == "routes.r.policy.budget.usd_per_day"
    assert counter.total(SUM) == 0, "what the first had set aside was given back"


# -- per call ---------------------------------------------------------------------------------------------------------


def test_a_call_alone():
    with pytest.raises(PolicyError) as caught:
        run(Script(), Money(None, "0.0001").call(priced()))
    assert caught.value.rule == PER_CALL
    assert "by this call" in str(caught.value)


def test_all_attempts_of_a_call_together():
    """The first was answered and broke off, so that its prompt counts: there is not enough for a second."""
    money = Money(None, "0.00025")
    call = money.call(priced(retry=RetryPolicy(attempts=3, base=0)), text="word " * 20)
    lost = ConnectionError("gone", phase="idle")
    with pytest.raises(ConnectionError):
        run(Script(send(), pull(lost), sleep()), call)
    assert usd(call.ledger.spent) == prompt(call)
    (notice,) = call.ledger.notices
    assert (notice.code, PER_CALL in notice.message) == ("not_retried", True)
    assert call.ledger.history == []


def test_the_next_target_may_be_cheap_enough():
    cheap = priced("b", input_price=Decimal("0.1"), output_price=Decimal("0.1"))
    script = Script(answer(200, {"text": "x", "usage": [10, 20]}))
    call = Money("0.0001").call(priced("a"), cheap)
    run(script, call)
    assert script.hosts == ["b"]
    assert [notice.code for notice in call.ledger.notices] == ["passed_over"]


# -- what failed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "error", "billed"),
    [
        (answer(429, b"slow"), RateLimitError, False),
        (answer(500, b"broke"), ServerError, False),
        ([send_fails(ConnectionError("refused", phase="connect"))], ConnectionError, False),
        ([send_fails(RateLimitError("own queue", phase="queue"))], RateLimitError, False),
        ([send_fails(TimeoutError("late", phase="first_token"))], TimeoutError, True),
        ([send(), pull(ConnectionError("gone", phase="idle"))], ConnectionError, True),
        (answer(200, b"{"), ProtocolError, True),
    ],
    ids=["429", "500", "connect", "queue", "first-token", "broken", "not-json"],
)
def test_an_attempt_that_failed(steps: Any, error: type[Exception], billed: bool):
    money = Money()
    call = money.call(priced())
    with pytest.raises(error):
        run(Script(steps), call)
    assert money.spent == usd(call.ledger.spent) == (prompt(call) if billed else 0)


def test_what_was_never_sent_costs_nothing():
    money = Money()
    call = money.call(priced())
    with pytest.raises(CapabilityError):
        Script().run(spending(call, Handler([CapabilityError("no")])), call.ledger)
    assert money.spent == call.ledger.spent == 0


def test_a_caller_that_goes_away():
    money = Money()
    call = money.call(priced())
    plan = handler(call)
    plan.send(None)
    plan.close()
    assert money.spent == prompt(call)


def test_both_attempts_count():
    money = Money()
    call = money.call(priced("a"), priced("b"))
    run(
        Script([send(), pull(ConnectionError("gone", phase="idle"))], answer(200, {"text": "x", "usage": [10, 20]})),
        call,
    )
    assert money.spent == usd(call.ledger.spent) == prompt(call) + Decimal("0.00005")


# -- streams ----------------------------------------------------------------------------------------------------------


def stream(money: Money) -> tuple[Call, Any]:
    call = money.call(priced(), stream=True)
    return call, run(Script(send(), pull(b"T:x\n")), call)


def test_a_stream_is_settled_at_its_end():
    money = Money()
    call, reply = stream(money)
    assert money.spent == prompt(call) + Decimal("0.0002")
    finish(reply, Outcome(Usage(10, 20, 30)))
    assert money.spent == usd(call.ledger.spent) == Decimal("0.00005")


@pytest.mark.parametrize("error", [None, ConnectionError("gone", phase="idle")], ids=["left", "broken"])
def test_a_stream_that_did_not_come_to_its_end_costs_the_prompt_and_what_came(error: Exception | None):
    money = Money()
    call, reply = stream(money)
    finish(reply, Outcome(None, error, interrupted=error is None, output_tokens=30))
    assert money.spent == prompt(call) + Decimal("0.00006")


# -- without a price --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (ModelRow("m", "m"), "its price is not known"),
        (ModelRow("m", "m", input_price=Decimal(1)), "its price is not known"),
        (ModelRow("m", "m", input_price=Decimal(1), output_price=Decimal(1)), "how long its answer may become"),
    ],
)
def test_what_cannot_be_foreseen_is_refused(row: ModelRow, why: str):
    call = Money(unpriced="policy.budget.unpriced").call(candidate(row=row), max_tokens=None)
    with pytest.raises(PolicyError, match=why) as caught:
        run(Script(), call)
    assert caught.value.rule == "policy.budget.unpriced"
    assert 'policy.budget.unpriced = "allow"' in str(caught.value)


def test_or_let_through_where_the_configuration_says_so():
    money = Money(unpriced="")
    run(Script(answer(200, {"text": "x", "usage": [10, 20]})), money.call(candidate()))
    assert money.spent == 0


def test_what_is_free_is_never_refused():
    free = priced(input_price=Decimal(0), output_price=Decimal(0), context_window=None)
    run(Script(answer(200, {"text": "x", "usage": [10, 20]})), Money("0").call(free, max_tokens=None))


def test_an_answer_without_usage_costs_what_it_seems_to():
    money = Money()
    call = money.call(priced())
    reply = run(Script(answer(200, {"text": "Hello there"})), call)
    (row,) = call.ledger.attempts
    assert row.usage == reply.response.usage
    assert row.usage.estimated
    assert row.cost is not None
    assert money.spent == row.cost.usd > 0


# -- kept elsewhere ---------------------------------------------------------------------------------------------------


class Far(MemoryCounter):
    """Asked over a network."""

    blocking = True


def test_a_counter_that_may_wait_is_asked_as_an_operation():
    counter = Far(lambda: WALL)
    call = call_of(
        priced(),
        spending=Spending((Limit(PER_DAY, Decimal(1), "spent"),), counter),
        request={"max_tokens": 100},
        retry=None,
    )
    script = Script(blocking(), answer(200, {"text": "x", "usage": [10, 20]}))
    run(script, call)
    assert usd(counter.total(SUM)) == Decimal("0.00005")
    assert script.ops[0].until == call.deadline


def test_a_caller_that_goes_away_while_it_is_asked():
    counter = Far(lambda: WALL)
    limit = Limit(PER_DAY, Decimal(1), "spent")
    call = call_of(priced(), spending=Spending((limit,), counter), request={"max_tokens": 100}, retry=None)
    plan = handler(call)
    plan.send(None)
    plan.close()
    assert counter.total(SUM) == call.ledger.spent == 0


def test_what_is_granted_after_the_caller_went_away_is_given_back():
    counter = Far(lambda: WALL)
    limit = Limit(PER_DAY, Decimal(1), "spent")
    call = call_of(priced(), spending=Spending((limit,), counter), request={"max_tokens": 100}, retry=None)
    plan = handler(call)
    asked = plan.send(None)
    plan.close()
    assert asked.fn() == (True, 0), "the thread was left behind, and comes to its end"
    assert counter.total(SUM) == call.ledger.spent == 0


def test_what_was_granted_just_before_the_caller_went_away_is_given_back():
    counter = Far(lambda: WALL)
    limit = Limit(PER_DAY, Decimal(1), "spent")
    call = call_of(priced(), spending=Spending((limit,), counter), request={"max_tokens": 100}, retry=None)
    plan = handler(call)
    plan.send(None).fn()
    assert counter.total(SUM) > 0
    with pytest.raises(TimeoutError):
        plan.throw(TimeoutError("too late", phase="total", failover=False, retryable=False))
    assert counter.total(SUM) == call.ledger.spent == 0


def test_a_model_in_this_process_costs_nothing():
    here = candidate()
    here.target = replace(here.target, transport="local")
    run(Script(answer(200, {"text": "x", "usage": [10, 20]})), Money("0").call(here, max_tokens=None))
