"""One target after another: who is asked, who is passed over, and what is raised at the end."""

from __future__ import annotations

import threading

import pytest

from llamaroute.errors import (
    AllTargetsFailedError,
    CapabilityError,
    InputError,
    OutputValidationError,
    ProviderError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from llamaroute.layers.adapt import adapt
from llamaroute.layers.failover import failover
from llamaroute.layers.limits import limits
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import Call, Timeout, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.routing.gate import Gate, Limits
from llamaroute.types.capability import ModelRow
from llamaroute.types.events import FailedOver, Retrying, TextDelta

from .step import Handler, Script, answer, call_of, candidate, drain, pull, send, send_fails, sleep

handler = compose((failover, adapt, retry, observe), exchange)
OK = answer(200, {"text": "Hello"})


def failed(status: int = 500):
    return answer(status, f"no {status}".encode())


def deaf(provider: str):
    """A target that takes no images and, here, no streams."""
    row = ModelRow("m", "m", features={"stream": "refuse"})
    return candidate(provider, model="m", row=row)


def run(script: Script, *candidates, **fields) -> tuple[object, Call]:
    call = call_of(*candidates, retry=None, **fields)
    return script.run(handler(call), call.ledger), call


def test_the_first_answers():
    script = Script(OK)
    run(script, candidate("a"), candidate("b"))
    assert script.hosts == ["a"]


def test_the_order_is_kept():
    script = Script(failed(), failed(), OK)
    reply, call = run(script, candidate("a"), candidate("b"), candidate("c"))
    assert script.hosts == ["a", "b", "c"]
    assert reply.target.provider == "c"
    assert [attempt.target for attempt in call.ledger.attempts] == [f"{name}:llama-4-scout" for name in "abc"]
    first, second = call.ledger.history
    assert isinstance(first, FailedOver)
    assert (first.attempt.target, first.target) == ("a:llama-4-scout", "b:llama-4-scout")
    assert isinstance(second, FailedOver)
    assert (second.attempt.target, second.target) == ("b:llama-4-scout", "c:llama-4-scout")


def test_each_target_has_its_own_limits_and_policy():
    script = Script(failed(), sleep(), failed(), OK)
    run(
        script,
        candidate("a", timeout=Timeout(connect=1), retry=RetryPolicy(attempts=2, base=0)),
        candidate("b", timeout=Timeout(connect=2)),
    )
    assert [op.connect for op in script.sent] == [1, 1, 2]


def test_the_calls_policy_goes_before_the_targets():
    call = call_of(candidate("a", retry=RetryPolicy(attempts=5)), retry=RetryPolicy(attempts=1))
    with pytest.raises(ServerError):
        Script(failed()).run(handler(call), call.ledger)


def test_one_deadline_for_all():
    call = call_of(candidate("a"), candidate("b"), retry=None, total=77)
    script = Script(failed(), OK)
    script.run(handler(call), call.ledger)
    assert {op.total for op in script.sent} == {call.deadline}


def test_events_tell_of_retries_and_failover_in_order():
    policy = RetryPolicy(attempts=2, base=0)
    script = Script(failed(500), sleep(), failed(503), failed(429), sleep(), send(), pull(b"T:Hi\n"))
    reply, call = run(script, candidate("a", retry=policy), candidate("b", retry=policy), stream=True)
    assert drain(reply) == [TextDelta("Hi")]
    assert [type(event) for event in call.ledger.history] == [Retrying, FailedOver, Retrying]
    assert [event.attempt.status for event in call.ledger.history] == [500, 503, 429]


# -- errors -----------------------------------------------------------------------------------------------------------


def test_one_target_asked_means_its_own_error_with_all_attempts():
    script = Script(failed(500), sleep(), failed(503))
    with pytest.raises(ProviderError) as caught:
        run(script, candidate("a", retry=RetryPolicy(attempts=2, base=0)))
    assert caught.value.status == 503
    assert [attempt.status for attempt in caught.value.attempts] == [500, 503]


def test_several_asked_means_a_group_with_one_exception_per_attempt():
    policy = RetryPolicy(attempts=2, base=0)
    script = Script(failed(500), sleep(), failed(429), failed(404))
    with pytest.raises(AllTargetsFailedError) as caught:
        run(script, candidate("a", retry=policy), candidate("b", retry=policy))
    group = caught.value
    assert [error.status for error in group.exceptions] == [500, 429, 404]
    assert group.last is group.exceptions[-1]
    assert group.last.status == 404
    assert [attempt.status for attempt in group.attempts] == [500, 429, 404]
    assert "a:llama-4-scout" in str(group)
    assert "b:llama-4-scout" in str(group)
    assert group.__cause__ is group.last
    with pytest.raises(RateLimitError):
        raise group.exceptions[1]
    limited, rest = group.split(RateLimitError)
    assert isinstance(limited, AllTargetsFailedError)
    assert len(limited.exceptions) == 1
    assert rest is not None
    assert len(rest.exceptions) == 2


def test_an_error_that_another_target_would_repeat_stops_there():
    with pytest.raises(ProviderError) as caught:
        run(Script(failed(400)), candidate("a"), candidate("b"))
    assert caught.value.status == 400
    assert len(caught.value.attempts) == 1


def test_it_stops_there_also_in_the_middle():
    with pytest.raises(AllTargetsFailedError) as caught:
        run(Script(failed(500), failed(400)), candidate("a"), candidate("b"), candidate("c"))
    assert [error.status for error in caught.value.exceptions] == [500, 400]


def test_an_own_failover_flag_counts_and_not_the_class():
    hopeless = ServerError("broken for all", retryable=False, failover=False)
    with pytest.raises(ServerError, match="broken for all"):
        run(Script(send_fails(hopeless)), candidate("a"), candidate("b"))


@pytest.mark.parametrize("error", [InputError("bad image"), OutputValidationError("no fit"), ZeroDivisionError()])
def test_what_is_no_provider_error_ends_the_call(error: Exception):
    call = call_of(candidate("a"), candidate("b"))
    outcomes = Handler([error])
    with pytest.raises(type(error)):
        Script().run(failover(call, outcomes), call.ledger)
    assert len(outcomes.calls) == 1


# -- passed over ------------------------------------------------------------------------------------------------------


def test_a_target_that_cannot_serve_is_passed_over_unasked():
    script = Script(send(), pull(b"T:x\n"))
    reply, call = run(script, deaf("a"), candidate("b"), stream=True)
    assert script.hosts == ["b"]
    assert call.ledger.history == []
    assert len(call.ledger.attempts) == 1
    assert reply.target.provider == "b"


def test_a_target_passed_over_after_a_failure_leaves_no_event():
    script = Script(failed(), send(), pull(b"T:x\n"))
    _, call = run(script, candidate("a"), deaf("b"), candidate("c"), stream=True)
    assert script.hosts == ["a", "c"]
    (event,) = call.ledger.history
    assert isinstance(event, FailedOver)
    assert event.target == "c:llama-4-scout"


def test_none_can_serve():
    with pytest.raises(CapabilityError) as caught:
        run(Script(), deaf("a"), deaf("b"), stream=True)
    assert caught.value.missing == {"a:m": "streaming", "b:m": "streaming"}
    assert "a:m" in str(caught.value)
    assert "b:m" in str(caught.value)


def test_the_only_one_cannot_serve():
    with pytest.raises(CapabilityError) as caught:
        run(Script(), deaf("a"), stream=True)
    assert caught.value.missing == {"a:m": "streaming"}


def test_one_failed_and_the_other_cannot_serve():
    with pytest.raises(ServerError) as caught:
        run(Script(failed()), candidate("a"), deaf("b"), stream=True)
    assert len(caught.value.attempts) == 1


def test_capability_errors_of_the_adapter_leave_no_row():
    class Refuses(type(candidate().adapter)):
        def build_request(self, request, target, *, stream):
            raise CapabilityError("no", missing={target.name: "this"})

    script = Script(OK)
    _, call = run(script, candidate("a", adapter=Refuses()), candidate("b"))
    assert script.hosts == ["b"]
    assert [attempt.target for attempt in call.ledger.attempts] == ["b:llama-4-scout"]


# -- layers that raise by themselves ----------------------------------------------------------------------------------


def test_a_layer_that_raises_before_sending_lets_the_next_target_answer():
    call = call_of(candidate("a"), candidate("b"))
    outcomes = Handler([RateLimitError("own limiter"), "Hello"])
    reply = Script().run(failover(call, outcomes), call.ledger)
    assert reply.response is not None
    assert reply.response.text == "Hello"


def test_a_layer_that_raises_for_every_target_is_one_exception_per_target():
    call = call_of(candidate("a"), candidate("b"))
    with pytest.raises(AllTargetsFailedError) as caught:
        Script().run(failover(call, Handler([RateLimitError("one"), RateLimitError("two")])), call.ledger)
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
    assert str(caught.value.last) == "two"


def test_the_last_error_of_the_group_is_the_last_that_came_even_when_nothing_was_sent():
    call = call_of(candidate("a"), candidate("b"), retry=None)

    def limiter(call, inner):
        if call.target.provider == "b":
            raise RateLimitError("own limiter")
        return (yield from inner(call))

    with pytest.raises(AllTargetsFailedError) as caught:
        Script(failed(500)).run(compose((failover, retry, limiter, observe), exchange)(call), call.ledger)
    assert [type(error) for error in caught.value.exceptions] == [ServerError, RateLimitError]


def test_a_call_whose_time_is_over_says_so_and_asks_nobody_else():
    """Also with a full set of layers: no limit is to blame, and the next target is not asked."""
    late = send_fails(TimeoutError("silent", phase="first_token"), seconds=10)
    gated = compose((failover, adapt, retry, limits, observe), exchange)
    one, two = candidate("a"), candidate("b")
    two.gate = Gate(Limits(), threading.Lock())
    call = call_of(one, two, retry=None, total=10)
    with pytest.raises(AllTargetsFailedError) as caught:
        Script(late).run(gated(call), call.ledger)
    assert isinstance(caught.value.last, TimeoutError)
    assert [error.phase for error in caught.value.exceptions] == ["first_token", "total"]
