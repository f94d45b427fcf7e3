"""The limits layer, stepped: what takes a place at the gate, what gives it back, and what the caller is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from llamaroute.errors import CapabilityError, OverloadedError, ProviderError, RateLimitError
from llamaroute.layers.failover import failover
from llamaroute.layers.limits import limits
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import Call, Candidate, Outcome, Reply, compose
from llamaroute.pipeline.ops import Plan, Wait
from llamaroute.routing.gate import Ended, Gate, Limits, Ticket
from llamaroute.types.response import ChatResponse, Usage

from .step import START, Handler, Script, call_of, candidate, finish, sleep, wait


def gate_of(**settings: Any) -> Gate:
    return Gate(Limits(**settings), threading.Lock())


def at(gate: Gate, provider: str = "acme") -> Candidate:
    made = candidate(provider)
    made.gate = gate
    return made


def occupy(gate: Gate) -> Callable[[], None]:
    """Take a place; what is returned gives it back."""
    ticket = Ticket(0, START, START + 1000)
    assert gate.step(ticket, START) == "granted"
    return lambda: gate.leave(ticket, Ended(), START)


def run(call: Call, *outcomes: Any, steps: tuple[Any, ...] = ()) -> tuple[Reply, Handler]:
    handler = Handler(list(outcomes))
    return Script(*steps).run(limits(call, handler), call.ledger), handler


def answer(tokens_in: int, tokens_out: int) -> Reply:
    usage = Usage(tokens_in, tokens_out, tokens_in + tokens_out)
    return Reply(candidate().target, response=ChatResponse[Any](text="Hi", usage=usage))


def test_an_account_without_a_gate_is_left_alone():
    reply, _ = run(call_of(), "Hi")
    assert reply.response.text == "Hi"


def test_a_place_is_taken_for_the_attempt_and_given_back():
    gate = gate_of(concurrency=1)
    seen: list[int] = []

    def handler(call: Call) -> Plan[Reply]:
        seen.append(gate.busy)
        return answer(1, 1)
        yield

    for _ in range(3):
        call = call_of(at(gate))
        Script().run(limits(call, handler), call.ledger)
    assert seen == [1, 1, 1]
    assert gate.busy == 0


def test_waits_until_a_place_is_free():
    gate = gate_of(concurrency=1)
    free = occupy(gate)
    call = call_of(at(gate))
    run(call, answer(1, 1), steps=(wait(2.0, meanwhile=free),))
    assert call.ledger.now == START + 2
    (notice,) = call.ledger.notices
    assert notice.code == "queued"
    assert "2.0 s" in notice.message
    assert gate.busy == 0


def test_a_wake_too_many_is_no_place():
    gate = gate_of(concurrency=1)
    free = occupy(gate)
    run(call_of(at(gate)), answer(1, 1), steps=(wait(0.1), wait(0.1), wait(0.1, meanwhile=free)))


def test_a_wait_that_ends_too_late_is_refused_at_once():
    gate = gate_of(requests=1)
    occupy(gate)
    call = call_of(at(gate), total=30.0)
    with pytest.raises(RateLimitError) as caught:
        run(call)
    error = caught.value
    assert (error.phase, error.retryable, error.failover, error.target) == ("queue", False, True, "acme:llama-4-scout")
    assert "60.0 s at the earliest" in str(error)
    assert "[limits.acme]" in str(error)


def test_a_wait_ends_at_the_deadline():
    gate = gate_of(concurrency=1)
    occupy(gate)
    call = call_of(at(gate), total=30.0)
    with pytest.raises(RateLimitError, match=r"no place came free in 30\.0 s"):
        run(call, steps=(wait(),))
    assert call.ledger.now == START + 30
    assert gate.queue == []


def test_where_another_target_can_be_asked_the_wait_is_short():
    gate = gate_of(concurrency=1)
    occupy(gate)
    first, second = at(gate), at(gate_of(), "globex")
    call = call_of(first, second)
    handler = Handler(["Hi"])
    reply = Script(wait()).run(compose([failover, limits], handler)(call), call.ledger)
    assert call.ledger.now == START + 1
    assert reply.target.provider == "globex"
    assert [attempt.phase for attempt in call.ledger.attempts] == ["queue"]


def test_the_last_target_is_waited_for():
    gate, other = gate_of(concurrency=1), gate_of(concurrency=1)
    occupy(gate)
    free = occupy(other)
    call = call_of(at(gate), at(other, "globex"))
    script = Script(wait(), wait(5.0, meanwhile=free))
    script.run(compose([failover, limits], Handler(["Hi"]))(call), call.ledger)
    assert call.ledger.now == START + 6


def test_priority_is_the_call_s():
    gate = gate_of(concurrency=1)
    free = occupy(gate)
    usual = call_of(at(gate))
    plan = limits(usual, Handler(["usual"]))
    assert isinstance(next(plan), Wait)
    urgent = call_of(at(gate), priority=1)
    run(urgent, "urgent", steps=(wait(0.0, meanwhile=free),))
    with pytest.raises(StopIteration):
        plan.send(None)


@pytest.mark.parametrize(
    "error",
    [RateLimitError("429"), OverloadedError("503"), ProviderError("400"), CapabilityError("no"), KeyError("bug")],
)
def test_errors_give_the_place_back(error: Exception):
    gate = gate_of(concurrency=1)
    with pytest.raises(type(error)):
        run(call_of(at(gate)), error)
    assert gate.busy == 0


def test_an_abandoned_attempt_gives_the_place_back():
    gate = gate_of(concurrency=1)

    def handler(call: Call) -> Plan[Reply]:
        yield from sleeping()
        raise AssertionError("unreachable")

    plan = limits(call_of(at(gate)), handler)
    next(plan)
    assert gate.busy == 1
    plan.close()
    assert gate.busy == 0


def sleeping() -> Plan[None]:
    from llamaroute.pipeline.ops import Sleep

    yield Sleep(1)


def test_who_goes_away_while_it_waits_leaves_the_queue():
    gate = gate_of(concurrency=1)
    occupy(gate)
    plan = limits(call_of(at(gate)), Handler([]))
    next(plan)
    assert len(gate.queue) == 1
    plan.close()
    assert gate.queue == []
    assert gate.busy == 1


def test_a_stream_keeps_its_place_until_it_ends():
    gate = gate_of(concurrency=1, tokens=6000)
    call = call_of(at(gate), stream=True, request={"max_tokens": 500})
    reply, _ = run(call, Reply(call.target))
    assert gate.busy == 1
    assert finish(reply, Outcome(Usage(10, 20, 30))) == 1
    assert gate.busy == 0
    assert finish(reply, Outcome(None)) == 0


def test_tokens_are_set_aside_and_settled():
    gate = gate_of(tokens=6000)  # 600 at once
    call = call_of(at(gate), request={"max_tokens": 590})
    run(call, answer(10, 90))
    second = call_of(at(gate), request={"max_tokens": 450})
    run(second, answer(10, 440))  # goes out at once: 500 were given back
    third = call_of(at(gate), request={"max_tokens": 450})
    run(third, answer(1, 1), steps=(wait(),))
    assert 3.5 < third.ledger.now - START < 6


def test_tokens_that_the_host_did_not_report_stay_set_aside():
    gate = gate_of(tokens=6000)
    silent = Reply(candidate().target, response=ChatResponse[Any](text="Hi", usage=Usage(estimated=True)))
    run(call_of(at(gate), request={"max_tokens": 590}), silent)
    second = call_of(at(gate), request={"max_tokens": 590})
    run(second, answer(1, 1), steps=(wait(),))
    assert second.ledger.now - START > 5


def test_each_attempt_is_a_ticket_and_retry_after_holds():
    gate = gate_of(requests=600)
    handler = Handler([RateLimitError("429", retry_after=3.0), answer(1, 1)])
    call = call_of(at(gate), retry=RetryPolicy(attempts=2, base=0.0))
    script = Script(sleep())
    script.run(compose([retry, limits], handler)(call), call.ledger)
    assert script.slept == [3.0]
    assert gate.requests is not None
    assert gate.requests.full_at > START + 3  # both count
    # Another call of the account stays away as well.
    gate.leave(_granted(gate), Ended(limited=True, retry_after=5.0), START + 3)
    other = call_of(at(gate))
    other.ledger.now = START + 3
    run(other, answer(1, 1), steps=(wait(),))
    assert other.ledger.now == pytest.approx(START + 8)


def _granted(gate: Gate) -> Ticket:
    ticket = Ticket(0, START + 3, START + 100)
    assert gate.step(ticket, START + 3) == "granted"
    return ticket


def test_what_the_headers_say_is_left_is_kept_to():
    gate = gate_of()
    call = call_of(at(gate))
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    reply = answer(1, 1)
    reply.headers = headers
    run(call, reply)
    second = call_of(at(gate))
    run(second, answer(1, 1), steps=(wait(),))
    assert second.ledger.now == pytest.approx(START + 1)


def test_limits_that_are_not_shared_are_told():
    class Gone:
        up = False

        def tell(self, *what: Any) -> None:
            pass

    gate = Gate(Limits(concurrency=1), threading.Lock(), Gone())  # type: ignore[arg-type]
    call = call_of(at(gate))
    run(call, answer(1, 1))
    assert [notice.code for notice in call.ledger.notices] == ["limits_not_shared"]
