"""When a second leg begins, stepped by hand: the race is asked what it would do at a moment."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from llamaroute.errors import CapabilityError, OverloadedError
from llamaroute.layers.failover import failover
from llamaroute.layers.hedge import hedge
from llamaroute.layers.observe import observe
from llamaroute.layers.watch import watch
from llamaroute.pipeline.core import Call, Candidate, Reply, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.pipeline.ops import Leg, Plan, Race, Raced, Send
from llamaroute.routing.gate import Gate, Limits
from llamaroute.routing.hedging import Hedge
from llamaroute.routing.traffic import Traffic
from llamaroute.spi import Target
from llamaroute.types.capability import ModelRow

from .step import START, answer, call_of, candidate
from .step import Script as Steps

LAYERS = compose((failover, watch, observe), exchange)
RULE = Hedge(1.0, seconds=2.0)


def hedged(*candidates: Candidate, rule: Hedge = RULE, **fields: Any) -> tuple[Call, Plan[Reply], Race]:
    """A call whose race has been asked for."""
    call = call_of(*(candidates or (candidate("a"), candidate("b"))), hedge=rule, traffic=traffic_of(fields), **fields)
    plan = hedge(call, LAYERS)
    race = next(plan)
    assert isinstance(race, Race)
    return call, plan, race


def traffic_of(fields: dict[str, Any]) -> Traffic:
    return fields.pop("traffic", None) or Traffic(random.Random(1))


def leg_target(leg: Leg) -> Target:
    """Whom the leg's request is under way to."""
    (row,) = leg.ledger.attempts
    return candidate(row.target.partition(":")[0]).target


def begun(race: Race) -> Send:
    """The first leg's request goes out."""
    op = next(race.first.plan)
    assert isinstance(op, Send)
    return op


def test_the_time_counts_from_the_request():
    call, _, race = hedged()
    assert race.after == 2.0
    assert race.second(START + 2.0) == 2.0, "nothing is sent yet: it waits in a queue of ours"
    call.ledger.now = START + 3.0
    begun(race)
    assert race.second(START + 4.0) == pytest.approx(1.0)
    leg = race.second(START + 5.0)
    assert isinstance(leg, Leg)
    op = next(leg.plan)
    assert isinstance(op, Send)
    assert op.target is not None
    assert op.target.provider == "b"
    assert leg.ledger.now == START + 5.0
    assert leg.ledger.attempts is not call.ledger.attempts
    assert leg.ledger.payer is call.ledger


def test_what_has_failed_is_not_hedged():
    _, _, race = hedged()
    begun(race)
    race.first.plan.throw(OverloadedError("busy", provider="a", target="a"))
    assert race.second(START + 9.0) is None


def test_nobody_else_could_serve_it():
    small = ModelRow("llama-4-scout", "b-llama-4-scout", context_window=4, window_sure=True)
    _, _, race = hedged(candidate("a"), candidate("b", row=small), text="word " * 40)
    begun(race)
    assert race.second(START + 9.0) is None


def test_one_that_cools_down_is_not_asked():
    traffic = Traffic(random.Random(1))
    ill = candidate("b")
    for _ in range(3):
        traffic.failed(ill.target, OverloadedError("busy", provider="b", target="b"), START)
    _, _, race = hedged(candidate("a"), ill, candidate("c"), traffic=traffic)
    begun(race)
    leg = race.second(START + 3.0)
    assert isinstance(leg, Leg)
    op = next(leg.plan)
    assert isinstance(op, Send)
    assert op.target is not None
    assert op.target.provider == "c"


def test_one_whose_limits_are_used_up_is_not_asked():
    full = candidate("b")
    full.gate = Gate(Limits(concurrency=1), threading.Lock())
    _, _, race = hedged(candidate("a"), full)
    begun(race)
    full.gate.busy = 1
    assert race.second(START + 3.0) is None
    full.gate.busy = 0
    assert isinstance(race.second(START + 3.0), Leg)


def test_a_first_leg_that_failed_was_not_outwaited():
    call, plan, race = hedged()
    begun(race)
    leg = race.second(START + 2.0)
    assert isinstance(leg, Leg)
    next(leg.plan)
    with pytest.raises(OverloadedError) as failed:
        race.first.plan.throw(OverloadedError("busy", provider="a", target="a"))
    with pytest.raises(StopIteration):
        plan.send(Raced(leg, Reply(leg_target(leg)), (failed.value, None)))
    assert call.traffic is not None
    assert not call.traffic.load("a:llama-4-scout").waits


def test_a_leg_that_comes_too_late_has_nobody_to_ask():
    _, _, race = hedged()
    begun(race)
    leg = race.second(START + 2.0)
    assert isinstance(leg, Leg)
    moved = race.first.plan.throw(OverloadedError("busy", provider="a", target="a"))
    assert isinstance(moved, Send)
    with pytest.raises(CapabilityError, match="another leg"):
        next(leg.plan)


def test_not_behind_the_deadline():
    _, _, race = hedged(total=5.0)
    begun(race)
    assert race.second(START + 5.0) is None


def test_a_dearer_target_takes_more_of_the_allowance():
    cheap = ModelRow("llama-4-scout", "m", input_price=1, output_price=1)
    dear = ModelRow("llama-4-scout", "m", input_price=3, output_price=3)
    traffic = Traffic(random.Random(1))
    begins = []
    for _ in range(6):
        _, plan, race = hedged(candidate("a", row=cheap), candidate("b", row=dear), traffic=traffic)
        begun(race)
        begins.append(isinstance(race.second(START + 3.0), Leg))
        plan.close()
        race.first.plan.close()
    assert begins == [False, False, True, False, False, True]


def test_the_second_leg_s_rows_come_behind_the_first_s():
    call, plan, race = hedged()
    begun(race)
    leg = race.second(START + 2.0)
    assert isinstance(leg, Leg)
    reply = Steps(answer(200, {"text": "Hello"}, seconds=0.5)).run(leg.plan, leg.ledger)
    race.first.ledger.outrun = True
    race.first.plan.close()
    with pytest.raises(StopIteration) as stop:
        plan.send(Raced(leg, reply, (None, None)))
    assert stop.value.value is reply
    assert [(row.target[0], row.error and row.error.type) for row in call.ledger.attempts] == [
        ("a", "Abandoned"),
        ("b", None),
    ]
    assert call.ledger.first_token == pytest.approx(2.5)
    assert call.traffic is not None
    assert not call.traffic.load("a:llama-4-scout").flying
    assert call.traffic.load("a:llama-4-scout").waits[False], "how long it was waited for counts, too"


def test_the_caller_goes_away():
    call, plan, race = hedged()
    begun(race)
    leg = race.second(START + 2.0)
    assert isinstance(leg, Leg)
    next(leg.plan)
    leg.plan.close()
    race.first.plan.close()
    plan.close()
    assert [row.target[0] for row in call.ledger.attempts] == ["a", "b"]
    assert all(row.error is not None and "went away" in row.error.message for row in call.ledger.attempts)


@pytest.mark.parametrize(
    ("candidates", "fields"),
    [
        ((candidate("a"),), {}),
        ((candidate("a"), candidate("b")), {"hedge": None}),
        ((candidate("a"), candidate("b")), {"hedge": Hedge(1.0, part=0.95)}),
    ],
    ids=["one target", "no rule", "too few calls known"],
)
def test_no_race_at_all(candidates, fields):
    call = call_of(*candidates, traffic=Traffic(random.Random(1)), **{"hedge": RULE, **fields})
    script = Steps(answer(200, {"text": "Hello"}))
    reply = script.run(hedge(call, LAYERS), call.ledger)
    assert reply.response is not None
    assert reply.response.text == "Hello"
