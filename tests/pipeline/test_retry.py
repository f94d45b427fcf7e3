"""Asking the same target again: whose rules count, how long is waited, and when it is over."""

from __future__ import annotations

import pytest
import tenacity

from llamaroute.errors import InputError, ProtocolError, ProviderError, RateLimitError, ServerError
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.types.events import Retrying, TextDelta

from .step import START, Handler, Script, answer, call_of, candidate, drain, pull, send, sleep

handler = compose((retry, observe), exchange)
OK = answer(200, {"text": "Hello"})


def failed(status: int = 500, **headers: str):
    return answer(status, b"no", {name.replace("_", "-"): value for name, value in headers.items()})


def run(script: Script, policy, **fields):
    call = call_of(retry=policy, **fields)
    return script.run(handler(call), call.ledger), call


def test_what_went_well_is_not_repeated():
    reply, call = run(Script(OK), RetryPolicy(attempts=3))
    assert reply.response is not None
    assert [attempt.status for attempt in call.ledger.attempts] == [200]
    assert call.ledger.history == []


def test_until_it_goes_well():
    reply, call = run(Script(failed(500), sleep(), failed(429), sleep(), OK), RetryPolicy(attempts=3))
    assert reply.response is not None
    assert [attempt.status for attempt in call.ledger.attempts] == [500, 429, 200]
    history = call.ledger.history
    assert [type(event) for event in history] == [Retrying, Retrying]
    assert [event.attempt.status for event in history] == [500, 429]
    assert len(call.ledger.errors) == 2


def test_attempts_are_all_attempts():
    with pytest.raises(ServerError):
        run(Script(failed(), sleep(), failed()), RetryPolicy(attempts=2))


def test_one_attempt_means_no_retry():
    with pytest.raises(ServerError):
        run(Script(failed()), RetryPolicy(attempts=1))


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_is_not_retryable_is_not_retried(status: int):
    with pytest.raises(ProviderError) as caught:
        run(Script(failed(status)), RetryPolicy(attempts=5))
    assert caught.value.status == status


def test_the_error_decides_and_not_its_class():
    call = call_of(retry=RetryPolicy(attempts=5))
    outcomes = Handler([ServerError("hopeless", retryable=False)])
    with pytest.raises(ServerError, match="hopeless"):
        Script().run(retry(call, outcomes), call.ledger)


def test_waits_double_up_to_the_longest_and_are_drawn_from_zero():
    policy = RetryPolicy(attempts=8, base=1, max=10)
    ceilings = [1, 2, 4, 8, 10, 10, 10]
    highest = [0.0] * 7
    for _ in range(40):
        script = Script(*[step for _ in range(7) for step in (failed(), sleep())], OK)
        run(script, policy, total=None)
        assert all(0 <= wait <= ceiling for wait, ceiling in zip(script.slept, ceilings, strict=True)), script.slept
        highest = [max(pair) for pair in zip(highest, script.slept, strict=True)]
    assert all(high > ceiling / 2 for high, ceiling in zip(highest, ceilings, strict=True)), highest


def test_no_base_means_no_wait():
    script = Script(failed(), sleep(), OK)
    run(script, RetryPolicy(attempts=2, base=0))
    assert script.slept == [0]


def test_retry_after_is_waited_for():
    script = Script(failed(429, retry_after="7"), sleep(), OK)
    run(script, RetryPolicy(attempts=2, base=0.5, max=20))
    assert script.slept == [7]


def test_retry_after_0_leaves_the_policys_own_wait():
    script = Script(failed(429, retry_after="0"), sleep(), OK)
    run(script, RetryPolicy(attempts=2, base=0.5))
    assert 0 <= script.slept[0] <= 0.5


def test_a_longer_retry_after_than_the_policys_longest_wait_gives_up_at_once():
    with pytest.raises(RateLimitError) as caught:
        run(Script(failed(429, retry_after="21")), RetryPolicy(attempts=5, max=20))
    assert caught.value.retry_after == 21


def test_a_wait_past_the_calls_end_is_not_begun():
    with pytest.raises(RateLimitError):
        run(Script(failed(429, retry_after="10")), RetryPolicy(attempts=5), total=10)


def test_a_wait_that_ends_before_the_calls_end_is():
    script = Script(failed(429, retry_after="9"), sleep(), OK)
    run(script, RetryPolicy(attempts=5), total=10)
    assert script.slept == [9]


def test_no_end_means_any_wait():
    script = Script(failed(429, retry_after="20"), sleep(), OK)
    run(script, RetryPolicy(attempts=2), total=None)
    assert script.slept == [20]


def test_each_attempt_signs_anew():
    script = Script(failed(), sleep(), OK)
    run(script, RetryPolicy(attempts=2))
    assert script.sent[0].request is not script.sent[1].request


def test_a_stream_whose_first_event_is_an_error_is_asked_again():
    script = Script(send(), pull(b"E:503\n"), sleep(), send(), pull(b"T:Hello\n"))
    reply, call = run(script, RetryPolicy(attempts=2), stream=True)
    assert drain(reply) == [TextDelta("Hello")]
    assert [type(event) for event in call.ledger.history] == [Retrying]


def test_a_protocol_error_is_not_asked_again():
    with pytest.raises(ProtocolError):
        run(Script(answer(200, b"nonsense")), RetryPolicy(attempts=3))


def test_what_is_no_provider_error_passes_through():
    call = call_of(retry=RetryPolicy(attempts=3))
    with pytest.raises(ZeroDivisionError):
        Script().run(retry(call, Handler([ZeroDivisionError()])), call.ledger)


def test_a_layer_within_that_raises_before_anything_was_sent_is_retried_too():
    """A user's own layer stands between retry and the ledger: there may be no attempt to tell of."""
    call = call_of(retry=RetryPolicy(attempts=2, base=0))
    reply = Script(sleep()).run(retry(call, Handler([RateLimitError("own limiter"), "Hello"])), call.ledger)
    assert reply.response is not None
    assert reply.response.text == "Hello"


@pytest.mark.parametrize(
    "fields",
    [{"attempts": 0}, {"attempts": -1}, {"base": -0.1}, {"max": -1}, {"base": float("nan")}, {"max": float("nan")}],
)
def test_policies_that_make_no_sense(fields):
    with pytest.raises(InputError):
        RetryPolicy(**fields)


# -- tenacity's own objects -------------------------------------------------------------------------------------------


def test_stop_and_wait_of_a_tenacity_object():
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_incrementing(start=1, increment=2)
    )
    script = Script(failed(), sleep(), failed(), sleep(), failed())
    with pytest.raises(ServerError):
        run(script, policy)
    assert script.slept == [1, 3]


def test_a_tenacity_object_that_says_nothing_of_errors_leaves_it_to_them():
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
    with pytest.raises(ProviderError) as caught:
        run(Script(failed(401)), policy)
    assert caught.value.status == 401


def test_a_tenacity_object_that_says_which_errors_is_obeyed():
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2), retry=tenacity.retry_if_exception(lambda e: e.status == 404)
    )
    reply, _ = run(Script(failed(404), sleep(), OK), policy)
    assert reply.response is not None
    with pytest.raises(ServerError):
        run(Script(failed(500)), policy)


@pytest.mark.parametrize(
    ("condition", "again"),
    [
        (tenacity.retry_if_exception_type(ServerError), True),
        (tenacity.retry_if_exception_type(RateLimitError), False),
        (tenacity.retry_if_not_exception_type(ServerError), False),
        (tenacity.retry_if_exception_message(match=".*no.*"), True),
        (tenacity.retry_if_exception_type(RateLimitError) | tenacity.retry_if_exception_type(ServerError), True),
        (tenacity.retry_if_exception_type(ServerError) & tenacity.retry_if_exception_message(match="x"), False),
        (tenacity.retry_never, False),
        (tenacity.retry_always, True),
        (tenacity.retry_if_result(lambda value: True), False),
        (lambda state: state.outcome.failed and state.attempt_number == 1, True),
    ],
)
def test_tenacitys_conditions(condition, again: bool):
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry=condition)
    script = Script(failed(), sleep(), OK) if again else Script(failed())
    try:
        run(script, policy)
    except ServerError:
        assert not again
    else:
        assert again


def test_stop_after_delay_counts_on_the_calls_own_clock():
    policy = tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(4))
    slow = [send(500, seconds=1), pull(b"")]
    script = Script(slow, sleep(), slow, sleep(), slow)
    with pytest.raises(ServerError):
        run(script, policy)
    assert script.slept == [4, 4]


def test_stop_before_delay_knows_the_wait_to_come():
    policy = tenacity.Retrying(stop=tenacity.stop_before_delay(10), wait=tenacity.wait_fixed(4))
    slow = [send(500, seconds=1), pull(b"")]
    script = Script(slow, sleep(), slow)
    with pytest.raises(ServerError):
        run(script, policy)
    assert script.slept == [4], "after 6 s another wait of 4 would reach 10"


def test_stop_and_wait_see_attempt_number_and_error():
    seen = []

    def stop(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        seen.append((state.attempt_number, type(state.outcome.exception()).__name__, state.seconds_since_start))
        return state.attempt_number == 2

    def wait(state: tenacity.RetryCallState) -> float:
        return 10.0 * state.attempt_number

    script = Script([send(500, seconds=1), pull(b"")], sleep(), failed(429))
    with pytest.raises(RateLimitError):
        run(script, tenacity.Retrying(stop=stop, wait=wait))
    assert seen == [(1, "ServerError", 1.0), (2, "RateLimitError", 11.0)]
    assert script.slept == [10]


@pytest.mark.parametrize(
    ("wait", "slept"),
    [
        (tenacity.wait_none(), [0, 0]),
        (tenacity.wait_exponential(multiplier=1), [1, 2]),
        (tenacity.wait_chain(tenacity.wait_fixed(3), tenacity.wait_fixed(5)), [3, 5]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3]),
    ],
)
def test_tenacitys_waits(wait, slept):
    script = Script(failed(), sleep(), failed(), sleep(), OK)
    run(script, tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=wait))
    assert script.slept == slept


def test_a_host_that_asks_for_more_than_tenacitys_wait_gets_it():
    script = Script(failed(429, retry_after="30"), sleep(), OK)
    run(script, tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(1)))
    assert script.slept == [30]


def test_a_tenacity_object_may_not_outlast_the_call():
    with pytest.raises(ServerError):
        run(Script(failed()), tenacity.Retrying(wait=tenacity.wait_fixed(11)), total=10)


def test_the_policys_sleep_is_never_called():
    def never(seconds: float) -> None:
        raise AssertionError("the plan sleeps by asking for it")

    script = Script(failed(), sleep(), OK)
    run(script, tenacity.Retrying(stop=tenacity.stop_after_attempt(2), sleep=never, wait=tenacity.wait_fixed(2)))
    assert script.slept == [2]


def test_a_candidates_own_policy_is_used_by_failover():
    from llamaroute.layers.failover import failover

    call = call_of(candidate(retry=RetryPolicy(attempts=2, base=0)), retry=None)
    script = Script(failed(), sleep(), OK)
    script.run(compose((failover, retry, observe), exchange)(call), call.ledger)
    assert len(script.sent) == 2
    assert call.ledger.now == START
