"""What calls teach the client about its targets, and what the next calls make of it: plans stepped by hand."""

from __future__ import annotations

import threading

import pytest

from llamaroute import errors as e
from llamaroute.layers.adapt import adapt
from llamaroute.layers.failover import failover
from llamaroute.layers.limits import limits
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.layers.watch import watch
from llamaroute.pipeline.core import Call, Outcome, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.pipeline.ops import Send
from llamaroute.routing.budget import FLOOR
from llamaroute.routing.gate import Gate, Limits
from llamaroute.routing.health import BROKEN, PATIENCE, THRESHOLD
from llamaroute.routing.traffic import Traffic
from llamaroute.types.capability import ModelRow
from llamaroute.types.events import FailedOver

from .step import START, Script, answer, call_of, candidate, drain, finish, pull, send, send_fails, sleep, wait

handler = compose((failover, adapt, retry, watch, observe), exchange)
OK = answer(200, {"text": "Hello"})
A, B, C = candidate("a"), candidate("b"), candidate("c")
AT = {one.target.provider: one.target.name for one in (A, B, C)}


class Dice:
    def __init__(self, value: float = 0.999) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(Dice(0.0))


def failed(status: int = 500, **headers: str):
    return answer(status, b"no", {name.replace("_", "-"): value for name, value in headers.items()})


def call_at(traffic: Traffic, *candidates, now: float = 0.0, **fields) -> Call:
    fields.setdefault("retry", None)
    call = call_of(*candidates, traffic=traffic, **fields)
    call.ledger.now = call.ledger.started = START + now
    if call.deadline is not None:
        call.deadline += now
    return call


def run(traffic: Traffic, script: Script, *candidates, **fields) -> Call:
    call = call_at(traffic, *candidates, **fields)
    script.run(handler(call), call.ledger)
    return call


def break_down(traffic: Traffic, name: str, times: int = THRESHOLD, now: float = START) -> None:
    for _ in range(times):
        traffic.failed({"a": A, "b": B, "c": C}[name].target, e.ServerError("no"), now)


def codes(call: Call) -> list[str]:
    return [notice.code for notice in call.ledger.notices]


# -- passing over -----------------------------------------------------------------------------------------------------


def test_a_target_that_keeps_failing_is_passed_over_and_the_caller_is_told(traffic: Traffic):
    for _ in range(THRESHOLD):
        call = run(traffic, Script(failed(), OK), A, B)
        assert codes(call) == []
    script = Script(OK)
    call = run(traffic, script, A, B, now=1)
    assert script.hosts == ["b"]
    (notice,) = call.ledger.notices
    assert (notice.code, notice.feature) == ("target_cooling", "routing")
    assert notice.message == "a:llama-4-scout was passed over: it cools down for 4 s (ServerError)"
    assert call.ledger.history == []
    assert [attempt.target for attempt in call.ledger.attempts] == [AT["b"]]


def test_when_all_cool_down_the_one_that_ends_first_is_asked(traffic: Traffic):
    break_down(traffic, "b", now=START)
    break_down(traffic, "a", now=START + 2)
    script = Script(OK)
    call = run(traffic, script, A, B, now=3)
    assert script.hosts == ["b"]
    assert [notice.message.split(" ")[0] for notice in call.ledger.notices] == [AT["a"]]


def test_those_that_cool_down_come_after_those_that_do_not_have_failed(traffic: Traffic):
    break_down(traffic, "a")
    script = Script(failed(), OK)
    call = run(traffic, script, A, B)
    assert script.hosts == ["b", "a"]
    (event,) = call.ledger.history
    assert isinstance(event, FailedOver)
    assert event.target == AT["a"]
    assert codes(call) == []


def test_a_last_resort_is_paid_for(traffic: Traffic):
    break_down(traffic, "a")
    while traffic.budget.take(AT["a"], START):
        pass
    with pytest.raises(e.ServerError) as caught:
        run(traffic, Script(failed()), A, B)
    assert [attempt.target for attempt in caught.value.attempts] == [AT["b"]]


def test_whom_our_own_queue_turned_away_makes_nobody_a_last_resort(traffic: Traffic):
    """Nothing has been sent: the next request is the call's first, and free."""
    break_down(traffic, "a")
    while traffic.budget.take(AT["a"], START):
        pass
    held = candidate("b")
    held.gate = Gate(Limits(), threading.Lock())
    held.gate.hold(START + 1000)
    call = call_at(traffic, A, held)
    call.deadline = START + 60
    script = Script(OK)
    script.run(compose((failover, retry, limits, watch, observe), exchange)(call), call.ledger)
    assert script.hosts == ["a"]
    assert [attempt.phase for attempt in call.ledger.attempts] == ["queue", None]


def test_who_waited_in_our_own_queue_for_a_second_goes_back_there_when_the_others_fail(traffic: Traffic):
    held = candidate("a")
    held.gate = Gate(Limits(), threading.Lock())
    held.gate.hold(START + 20)
    call = call_at(traffic, held, B, C)
    call.deadline = START + 60
    script = Script(failed(), failed(), wait(20), OK)
    script.run(compose((failover, retry, limits, watch, observe), exchange)(call), call.ledger)
    assert script.hosts == ["b", "c", "a"]
    assert [(a.target, a.phase) for a in call.ledger.attempts if a.phase] == [(AT["a"], "queue")]
    assert call.ledger.now >= START + 20


def test_the_error_names_it_once(traffic: Traffic):
    held = candidate("a")
    held.gate = Gate(Limits(), threading.Lock())
    held.gate.hold(START + 20)
    call = call_at(traffic, held, B)
    call.deadline = START + 60
    with pytest.raises(e.AllTargetsFailedError, match="none of a:llama-4-scout, b:llama-4-scout answered"):
        Script(failed(), wait(20), failed()).run(
            compose((failover, retry, limits, watch, observe), exchange)(call), call.ledger
        )
    assert len(call.ledger.attempts) == 3


def test_the_error_says_who_was_not_asked(traffic: Traffic):
    break_down(traffic, "a")
    while traffic.budget.take(AT["a"], START):
        pass
    with pytest.raises(e.AllTargetsFailedError, match=r"not asked, because they cool down: a:llama-4-scout"):
        run(traffic, Script(failed(), failed()), A, B, C)


def test_an_error_that_ends_the_call_asks_nobody_else_and_holds_no_place(traffic: Traffic):
    break_down(traffic, "b")
    later = BROKEN.first
    with pytest.raises(e.ProviderError) as caught:
        run(traffic, Script(failed(400)), A, B, now=later)
    assert caught.value.status == 400
    assert not traffic.health.cools(B.target, START + later), "nobody tries b"


def test_a_cooling_target_that_cannot_serve_is_no_last_resort(traffic: Traffic):
    deaf = candidate("a", row=ModelRow("m", "m", features={"stream": "refuse"}))
    break_down(traffic, "a")
    with pytest.raises(e.ServerError):
        run(traffic, Script(failed()), deaf, B, stream=True)


def test_a_wrong_key_cools_the_account(traffic: Traffic):
    traffic.failed(A.target, e.AuthenticationError("no"), START)
    sibling = candidate("a", model="llama-4-maverick")
    script = Script(OK)
    call = run(traffic, script, sibling, B)
    assert script.hosts == ["b"]
    assert "AuthenticationError" in call.ledger.notices[0].message


# -- half open --------------------------------------------------------------------------------------------------------


def test_one_call_tries_while_others_pass_over(traffic: Traffic):
    break_down(traffic, "a")
    first = call_at(traffic, A, B, now=BROKEN.first)
    plan = handler(first)
    op = plan.send(None)
    assert isinstance(op, Send)
    assert op.target is not None
    assert op.target.provider == "a"
    meanwhile = Script(OK)
    assert codes(run(traffic, meanwhile, A, B, now=BROKEN.first + 1)) == ["target_cooling"]
    assert meanwhile.hosts == ["b"]
    plan.close()  # the caller goes away: nothing is known of the target
    again = Script(OK)
    run(traffic, again, A, B, now=BROKEN.first + PATIENCE)
    assert again.hosts == ["a"]
    after = Script(OK)
    assert codes(run(traffic, after, A, B, now=BROKEN.first + 2)) == []
    assert after.hosts == ["a"]


def test_who_tries_asks_once(traffic: Traffic):
    break_down(traffic, "a")
    script = Script(failed(), OK)
    policy = RetryPolicy(attempts=3, base=0)
    call = run(traffic, script, A, B, now=BROKEN.first, retry=policy)
    assert script.hosts == ["a", "b"]
    assert codes(call) == []


def test_so_does_who_asks_a_single_target_that_cools_down(traffic: Traffic):
    break_down(traffic, "a")
    with pytest.raises(e.ServerError):
        run(traffic, Script(failed()), A, now=1, retry=RetryPolicy(attempts=3))


@pytest.mark.parametrize("now", [1, BROKEN.first], ids=["cooling", "half-open"])
def test_also_when_the_circuit_closes_before_it_has_failed(traffic: Traffic, now: float):
    break_down(traffic, "a")
    call = call_at(traffic, A, now=now, retry=RetryPolicy(attempts=9, base=0))
    plan = handler(call)
    plan.send(None)
    traffic.answered(A.target, START + now)
    with pytest.raises(e.TimeoutError):
        plan.throw(e.TimeoutError("silent since the outage", phase="first_token"))
    assert len(call.ledger.attempts) == 1


def test_a_call_that_began_before_the_circuit_opened_keeps_its_retries(traffic: Traffic):
    for _ in range(30):
        traffic.budget.earn(AT["a"], START)
    script = Script(*(step for _ in range(THRESHOLD + 1) for step in (failed(), sleep())), OK)
    run(traffic, script, A, retry=RetryPolicy(attempts=9, base=0))
    assert script.hosts == ["a"] * (THRESHOLD + 2)
    assert traffic.health.targets == {}, "it has answered"


def test_failures_of_other_calls_end_its_retries(traffic: Traffic):
    call = call_at(traffic, A, retry=RetryPolicy(attempts=9, base=0))
    plan = handler(call)
    plan.send(None)
    break_down(traffic, "a")
    with pytest.raises(e.ServerError):
        plan.throw(e.ServerError("no"))
    assert len(call.ledger.attempts) == 1
    assert traffic.budget.left(AT["a"], START) == FLOOR


def test_a_rate_limit_does_not_take_the_retries_away(traffic: Traffic):
    traffic.failed(A.target, e.RateLimitError("no", retry_after=2), START)
    script = Script(failed(429, retry_after="1"), sleep(), OK)
    run(traffic, script, A, retry=RetryPolicy(attempts=2))
    assert script.slept == [1]


# -- the budget -------------------------------------------------------------------------------------------------------


def test_retries_end_when_the_budget_does(traffic: Traffic):
    while traffic.budget.take(AT["a"], START):
        pass
    call = call_at(traffic, A, retry=RetryPolicy(attempts=3))
    with pytest.raises(e.ServerError):
        Script(failed()).run(handler(call), call.ledger)
    (notice,) = call.ledger.notices
    assert (notice.code, notice.feature) == ("retry_budget", "routing")


def test_each_retry_is_paid_for_and_each_answer_earns(traffic: Traffic):
    run(traffic, Script(failed(), sleep(), failed(503), sleep(), OK), A, retry=RetryPolicy(attempts=3, base=0))
    assert traffic.budget.left(AT["a"], START) == FLOOR - 2
    for _ in range(10):
        run(traffic, Script(OK), A)
    assert traffic.budget.left(AT["a"], START) == FLOOR - 1


def test_where_another_is_well_what_is_in_hand_is_not_spent(traffic: Traffic):
    script = Script(failed(), OK)
    call = run(traffic, script, A, B, retry=RetryPolicy())
    assert script.hosts == ["a", "b"]
    assert codes(call) == []
    assert traffic.budget.left(AT["a"], START) == FLOOR


def test_but_what_was_earned_is(traffic: Traffic):
    for _ in range(20):
        traffic.budget.earn(AT["a"], START)
    script = Script(failed(), sleep(), OK)
    run(traffic, script, A, B, retry=RetryPolicy())
    assert script.hosts == ["a", "a"]


def test_what_the_policy_gives_up_costs_nothing(traffic: Traffic):
    with pytest.raises(e.ServerError):
        run(traffic, Script(failed()), A, retry=RetryPolicy(attempts=1))
    with pytest.raises(e.ProviderError):
        run(traffic, Script(failed(404)), A, retry=RetryPolicy(attempts=5))
    assert traffic.budget.left(AT["a"], START) == FLOOR


def test_what_a_host_asks_for_is_free(traffic: Traffic):
    asks = (step for _ in range(6) for step in (failed(429, retry_after="1"), sleep()))
    run(traffic, Script(*asks, OK), A, retry=RetryPolicy(attempts=7, base=0))
    assert traffic.budget.left(AT["a"], START) == FLOOR
    run(traffic, Script(failed(429), sleep(), OK), A, retry=RetryPolicy(attempts=7, base=0))
    assert traffic.budget.left(AT["a"], START) == FLOOR - 1, "one that does not say when is paid for"
    run(traffic, Script(failed(503, retry_after="1"), sleep(), OK), A, retry=RetryPolicy(attempts=7, base=0))
    assert traffic.budget.left(AT["a"], START) == FLOOR - 2, "and so is any of a host that is down"


def test_moving_on_to_a_healthy_target_is_free(traffic: Traffic):
    run(traffic, Script(failed(), failed(503), OK), A, B, C)
    assert [traffic.budget.left(name, START) for name in AT.values()] == [FLOOR] * 3


@pytest.mark.parametrize(("dice", "slept"), [(0.0, 8.0), (0.5, 9.0), (1.0, 10.0)])
def test_clients_that_are_told_the_same_moment_come_back_apart(dice: float, slept: float):
    traffic = Traffic(Dice(dice))
    script = Script(failed(429, retry_after="8"), sleep(), OK)
    run(traffic, script, A, retry=RetryPolicy(attempts=2, base=0))
    assert script.slept == [pytest.approx(slept)]


def test_coming_apart_does_not_lead_past_the_calls_end():
    script = Script(failed(429, retry_after="8"), sleep(), OK)
    run(Traffic(Dice(1.0)), script, A, retry=RetryPolicy(attempts=2, base=0), total=9)
    assert script.slept == [8.5]


# -- what is seen of an attempt ---------------------------------------------------------------------------------------


def test_a_plain_call_is_under_way_until_it_has_its_answer(traffic: Traffic):
    call = call_at(traffic, A)
    plan = handler(call)
    plan.send(None)
    assert len(traffic.load(AT["a"]).flying) == 1
    plan.close()
    assert traffic.load(AT["a"]).flying == set()
    with pytest.raises(e.ServerError):
        run(traffic, Script(failed()), A)
    assert traffic.load(AT["a"]).flying == set()
    run(traffic, Script(answer(200, {"text": "Hi"}, seconds=0.75)), A)
    assert traffic.load(AT["a"]).flying == set()
    assert traffic.load(AT["a"]).speed[False].seconds == 0.75
    assert True not in traffic.load(AT["a"]).speed


def test_a_stream_is_under_way_until_it_ends(traffic: Traffic):
    call = call_at(traffic, A, stream=True)
    script = Script(send(seconds=0.25), pull(b"T:Hi\n", seconds=0.5))
    reply = script.run(handler(call), call.ledger)
    drain(reply)
    load = traffic.load(AT["a"])
    assert len(load.flying) == 1
    assert load.speed[True].seconds == 0.75
    assert traffic.budget.left(AT["a"], START) == FLOOR
    finish(reply, Outcome(None))
    assert load.flying == set()


def test_the_first_token_counts_from_the_attempt_and_not_from_the_call(traffic: Traffic):
    slow = answer(500, b"no", seconds=20)
    run(traffic, Script(slow, answer(200, {"text": "Hi"}, seconds=0.5)), A, B)
    assert traffic.load(AT["b"]).speed[False].seconds == 0.5
    assert traffic.load(AT["a"]).speed == {}


def test_streams_that_break_after_they_began_open_the_circuit(traffic: Traffic):
    for _ in range(THRESHOLD):
        call = call_at(traffic, A, stream=True)
        reply = Script(send(), pull(b"T:Hi\n")).run(handler(call), call.ledger)
        finish(reply, Outcome(None, e.ConnectionError("reset", phase="idle")))
    script = Script(OK)
    run(traffic, script, A, B)
    assert script.hosts == ["b"]


def test_a_stream_the_caller_leaves_is_no_failure(traffic: Traffic):
    break_down(traffic, "a", THRESHOLD - 1)
    call = call_at(traffic, A, stream=True)
    reply = Script(send(), pull(b"T:Hi\n")).run(handler(call), call.ledger)
    finish(reply, Outcome(None, interrupted=True))
    assert traffic.health.targets == {}


def test_requests_a_target_refuses_do_not_make_it_ill(traffic: Traffic):
    for _ in range(2 * THRESHOLD):
        with pytest.raises(e.InvalidRequestError):
            run(traffic, Script(send_fails(e.InvalidRequestError("no"))), A)
    assert traffic.health.targets == {}


# -- strategies -------------------------------------------------------------------------------------------------------


def test_round_robin_gives_no_turn_to_those_that_cannot_take_it(traffic: Traffic):
    deaf = candidate("a", row=ModelRow("m", "m", features={"stream": "refuse"}))
    break_down(traffic, "b", now=START)
    d = candidate("d")
    hosts = []
    for _ in range(4):
        script = Script(send(), pull(b"T:x\n"))
        run(traffic, script, deaf, B, C, d, stream=True, strategy="round-robin", route="r")
        hosts += script.hosts
    assert hosts == ["c", "d", "c", "d"]


def test_the_others_follow_when_the_first_fails(traffic: Traffic):
    traffic.load(AT["a"]).flying.add(object())
    script = Script(failed(), failed(), OK)
    run(traffic, script, A, B, C, strategy="least-busy", route="r")
    assert script.hosts == ["b", "c", "a"]


def test_a_cooling_target_is_passed_over_whatever_the_strategy_says(traffic: Traffic):
    break_down(traffic, "b")
    traffic.load(AT["a"]).flying.add(object())
    script = Script(OK)
    run(traffic, script, A, B, strategy="least-busy", route="r")
    assert script.hosts == ["a"]
