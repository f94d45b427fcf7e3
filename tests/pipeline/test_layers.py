"""The frame: layers nest in their order, and a user's own stand inside retry and outside the ledger."""

from __future__ import annotations

import pytest

from llamaroute.errors import RateLimitError
from llamaroute.layers.failover import failover
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.pipeline.ops import Sleep
from llamaroute.runtime import Runtime
from llamaroute.types.messages import user

from .step import Adapter, Script, answer, call_of, candidate, sleep


def test_the_first_layer_is_outermost():
    order = []

    def layer(name):
        def wrapped(call, inner):
            order.append(f"{name} in")
            reply = yield from inner(call)
            order.append(f"{name} out")
            return reply

        return wrapped

    call = call_of()
    Script(answer(200, {"text": "x"})).run(compose((layer("a"), layer("b")), exchange)(call), call.ledger)
    assert order == ["a in", "b in", "b out", "a out"]


def test_no_layer_at_all():
    call = call_of()
    assert compose((), exchange) is exchange
    assert Script(answer(200, {"text": "x"})).run(compose((), exchange)(call), call.ledger).response is not None


def test_a_layer_may_change_the_request_and_the_answer():
    adapter = Adapter()

    def shout(call, inner):
        reply = yield from inner(call.evolve(request=call.request.evolve(messages=(user("HI"),))))
        reply.response = reply.response.model_copy(update={"text": reply.response.text.upper()})
        return reply

    call = call_of(candidate(adapter=adapter))
    reply = Script(answer(200, {"text": "hello"})).run(compose((shout, observe), exchange)(call), call.ledger)
    assert adapter.built[0].messages[0].text == "HI"
    assert reply.response is not None
    assert reply.response.text == "HELLO"


def test_a_layer_may_wait_and_ask_twice():
    def twice(call, inner):
        try:
            return (yield from inner(call))
        except RateLimitError:
            yield Sleep(5)
            return (yield from inner(call))

    call = call_of()
    script = Script(answer(429, b""), sleep(), answer(200, {"text": "x"}))
    script.run(compose((twice, observe), exchange)(call), call.ledger)
    assert script.slept == [5]
    assert [attempt.status for attempt in call.ledger.attempts] == [429, 200]


def test_closing_a_plan_runs_every_layers_finally():
    cleaned = []

    def careful(call, inner):
        try:
            return (yield from inner(call))
        finally:
            cleaned.append(call.target.name)

    call = call_of()
    plan = compose((failover, retry, careful, observe), exchange)(call)
    plan.send(None)
    plan.close()
    assert cleaned == ["acme:llama-4-scout"]


CONFIG = {
    "providers": {"box": {"kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}},
}


def test_a_clients_own_layers_see_each_attempt_and_stand_outside_the_ledger():
    seen = []

    def layer(name):
        def wrapped(call, inner):
            rows = len(call.ledger.attempts)
            seen.append((name, rows))
            try:
                return (yield from inner(call))
            finally:
                seen.append((f"{name} after", len(call.ledger.attempts)))

        return wrapped

    runtime = Runtime(CONFIG, profile=None, env={}, observers=(), layers=(layer("first"), layer("second")))
    call, _ = runtime.prepare("Hi", {"retry": RetryPolicy(attempts=2, base=0)}, stream=False)
    done = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    script = Script(answer(503, {"error": {"message": "busy"}}), sleep(), answer(200, done))
    reply = script.run(runtime.handler(call), call.ledger)
    assert reply.response is not None
    assert seen == [
        ("first", 0),
        ("second", 0),
        ("second after", 1),
        ("first after", 1),
        ("first", 1),
        ("second", 1),
        ("second after", 2),
        ("first after", 2),
    ]


def test_a_clients_own_layer_that_refuses_is_retried_by_the_policy():
    refusals = [RateLimitError("own limiter"), RateLimitError("own limiter")]

    def limiter(call, inner):
        if refusals:
            raise refusals.pop()
        return (yield from inner(call))

    runtime = Runtime(CONFIG, profile=None, env={}, observers=(), layers=(limiter,))
    call, _ = runtime.prepare("Hi", {"retry": RetryPolicy(attempts=3, base=0)}, stream=False)
    done = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
    reply = Script(sleep(), sleep(), answer(200, done)).run(runtime.handler(call), call.ledger)
    assert reply.response is not None


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_clients_own_layer_that_always_refuses_is_the_error(attempts: int):
    def limiter(call, inner):
        raise RateLimitError("own limiter")
        yield

    runtime = Runtime(CONFIG, profile=None, env={}, observers=(), layers=(limiter,))
    call, _ = runtime.prepare("Hi", {"retry": RetryPolicy(attempts=attempts, base=0)}, stream=False)
    with pytest.raises(RateLimitError, match="own limiter"):
        Script(*[sleep()] * (attempts - 1)).run(runtime.handler(call), call.ledger)
