"""The ledger, observers and finishers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from llamaroute.errors import CapabilityError, ConnectionError, RateLimitError, StreamInterruptedError
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.pipeline.core import Outcome, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.types.capability import ModelRow
from llamaroute.types.response import AttemptError, Usage

from .step import START, Handler, Script, answer, call_of, candidate, finish, pull, send, sleep

handler = compose((observe,), exchange)
PRICED = ModelRow("m", "m", input_price=Decimal(1), output_price=Decimal(2))


class Watcher:
    def __init__(self):
        self.seen = []

    def attempt_started(self, call):
        self.seen.append(("started", call.target.name))

    def attempt_ended(self, call, attempt):
        self.seen.append(("ended", attempt))


def test_a_good_attempt():
    call = call_of(candidate(row=PRICED))
    Script(answer(200, {"text": "x", "usage": [10, 20]}, seconds=2)).run(handler(call), call.ledger)
    (row,) = call.ledger.attempts
    assert (row.target, row.status, row.error, row.seconds) == ("acme:llama-4-scout", 200, None, 2)
    assert row.usage == Usage(10, 20, 30)
    assert row.cost is not None
    assert row.cost.usd == Decimal("0.00005")


def test_a_failed_attempt():
    call = call_of()
    with pytest.raises(RateLimitError):
        Script(answer(429, b"slow down", {"retry-after": "3"}, seconds=1)).run(handler(call), call.ledger)
    (row,) = call.ledger.attempts
    assert (row.status, row.retry_after, row.seconds) == (429, 3, 1)
    assert row.error == AttemptError("RateLimitError", "slow down")
    assert len(call.ledger.errors) == 1


def test_a_broken_connection_has_a_phase_and_no_status():
    call = call_of()
    lost = ConnectionError("gone", phase="first_token")
    with pytest.raises(ConnectionError):
        Script(send(), pull(lost)).run(handler(call), call.ledger)
    (row,) = call.ledger.attempts
    assert (row.status, row.phase) == (None, "first_token")


def test_what_was_never_sent_leaves_no_row():
    watcher = Watcher()
    call = call_of(observers=[watcher])
    with pytest.raises(CapabilityError):
        Script().run(observe(call, Handler([CapabilityError("no")])), call.ledger)
    assert call.ledger.attempts == []


def test_a_caller_that_goes_away_leaves_an_abandoned_row():
    watcher = Watcher()
    call = call_of(observers=[watcher])
    plan = handler(call)
    plan.send(None)
    call.ledger.now += 4
    plan.close()
    (row,) = call.ledger.attempts
    assert row.error is not None
    assert row.error.type == "Abandoned"
    assert row.seconds == 4
    assert watcher.seen == [("started", "acme:llama-4-scout"), ("ended", row)]


def test_observers_hear_of_every_attempt_in_order():
    watcher = Watcher()
    call = call_of(observers=[watcher], retry=RetryPolicy(attempts=2, base=0))
    script = Script(answer(500, b"no"), sleep(), answer(200, {"text": "x"}))
    script.run(compose((retry, observe), exchange)(call), call.ledger)
    assert [kind for kind, _ in watcher.seen] == ["started", "ended", "started", "ended"]
    assert [item.status for kind, item in watcher.seen if kind == "ended"] == [500, 200]


def test_both_methods_of_an_observer_are_optional():
    class Half:
        def attempt_ended(self, call, attempt):
            self.attempt = attempt

    half = Half()
    call = call_of(observers=[half, object()])
    Script(answer(200, {"text": "x"})).run(handler(call), call.ledger)
    assert half.attempt.status == 200


# -- finishers --------------------------------------------------------------------------------------------------------


def open_stream(**fields):
    call = call_of(candidate(row=PRICED), stream=True, **fields)
    reply = Script(send(seconds=1), pull(b"T:x\n", seconds=1)).run(handler(call), call.ledger)
    return call, reply


def test_a_stream_is_over_for_observers_only_when_it_ends():
    watcher = Watcher()
    call, reply = open_stream(observers=[watcher])
    assert [kind for kind, _ in watcher.seen] == ["started"]
    assert call.ledger.attempts[0].status == 200
    call.ledger.now = START + 9
    assert finish(reply, Outcome(Usage(10, 20, 30))) == 1
    (row,) = call.ledger.attempts
    assert watcher.seen[1:] == [("ended", row)]
    assert (row.seconds, row.usage, row.error) == (9, Usage(10, 20, 30), None)
    assert row.cost is not None
    assert row.cost.usd == Decimal("0.00005")


def test_a_stream_that_breaks_has_its_error_in_the_row():
    call, reply = open_stream()
    finish(reply, Outcome(None, StreamInterruptedError("cut", phase="idle", code="x1")))
    (row,) = call.ledger.attempts
    assert row.status == 200
    assert row.error is not None
    assert (row.error.type, row.error.message, row.error.code, row.phase) == (
        "StreamInterruptedError",
        "cut",
        "x1",
        "idle",
    )
    assert row.cost is None


def test_messages_of_errors_are_the_same_before_and_after_the_commit():
    call, reply = open_stream()
    finish(reply, Outcome(None, ConnectionError("gone", target="acme:m", status=200, request_id="r")))
    assert call.ledger.attempts[0].error is not None
    assert call.ledger.attempts[0].error.message == "gone"


def test_finishers_run_last_in_first_out():
    order = []

    def layer(name):
        def wrapped(call, inner):
            reply = yield from inner(call)
            reply.finishers.append(lambda outcome: order.append((name, outcome.interrupted)))
            return reply

        return wrapped

    call = call_of(stream=True)
    script = Script(send(), pull(b"T:x\n"))
    reply = script.run(compose((layer("outer"), layer("inner"), observe), exchange)(call), call.ledger)
    assert finish(reply, Outcome(None, interrupted=True)) == 3
    assert order == [("outer", True), ("inner", True)]
    assert finish(reply, Outcome(None)) == 0


# -- observers ------------------------------------------------------------------------------------------------------


def test_who_heard_of_a_start_hears_of_the_end_also_of_what_was_not_sent():
    watcher = Watcher()
    call = call_of(observers=[watcher])
    with pytest.raises(CapabilityError):
        Script().run(observe(call, Handler([CapabilityError("no")])), call.ledger)
    assert [kind for kind, _ in watcher.seen] == ["started", "ended"]
    assert watcher.seen[1][1].error == AttemptError("CapabilityError", "no")


class Broken:
    def attempt_started(self, call):
        raise ZeroDivisionError

    def attempt_ended(self, call, attempt):
        raise ZeroDivisionError


def test_an_observer_that_raises_changes_nothing():
    watcher = Watcher()
    call = call_of(observers=[Broken(), watcher])
    reply = Script(answer(200, {"text": "x"})).run(handler(call), call.ledger)
    assert reply.response.text == "x"
    assert [kind for kind, _ in watcher.seen] == ["started", "ended"], "the others are told all the same"
    assert [notice.code for notice in call.ledger.notices] == ["observer_failed"] * 2
    assert "Broken.attempt_ended raised ZeroDivisionError" in call.ledger.notices[1].message


def test_an_observer_that_raises_at_the_end_of_a_stream_keeps_no_finisher_from_running():
    call, reply = open_stream(observers=[Broken()])
    finish(reply, Outcome(Usage(10, 20, 30)))
    assert call.ledger.attempts[0].usage == Usage(10, 20, 30)


def test_attempts_side_by_side_write_their_own_rows():
    """Two legs of one call share its ledger; the one that sends nothing takes its row away, and no other."""
    call = call_of(candidate("a"))
    first, second, third = handler(call), handler(call), observe(call, silent)
    first.send(None)
    third.send(None)
    second.send(None)
    with pytest.raises(CapabilityError):
        third.throw(CapabilityError("no"))
    first.close()
    assert [attempt.error and attempt.error.type for attempt in call.ledger.attempts] == ["Abandoned", None]
    second.close()
    assert [attempt.error and attempt.error.type for attempt in call.ledger.attempts] == ["Abandoned", "Abandoned"]


def silent(call):
    yield None


def test_usage_that_the_host_did_not_report_is_estimated_in_the_row():
    call = call_of(candidate(row=PRICED))
    reply = Script(answer(200, {"text": "Hello there"})).run(handler(call), call.ledger)
    (row,) = call.ledger.attempts
    assert row.usage == reply.response.usage
    assert row.usage.estimated
    assert row.usage.output_tokens > 0
    assert row.cost is not None
    assert row.cost.estimated


def test_of_a_stream_that_was_left_too():
    watcher = Watcher()
    call, reply = open_stream(observers=[watcher])
    finish(reply, Outcome(None, interrupted=True, output_tokens=7))
    (row,) = call.ledger.attempts
    assert (row.usage.output_tokens, row.usage.estimated) == (7, True)
    assert watcher.seen[1:] == [("ended", row)], "observers see what the ledger has"
