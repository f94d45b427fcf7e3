"""The frame: layers nest in their order. Where a client puts a user's own: tests/client/test_transport.py."""

from __future__ import annotations

from llamaroute.errors import RateLimitError
from llamaroute.layers.failover import failover
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import retry
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.pipeline.ops import Sleep
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
