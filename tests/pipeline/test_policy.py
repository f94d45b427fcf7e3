"""Targets that a rule or their model's end keeps from being asked: passed over, also after a failure."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from llamaroute.errors import (
    CapabilityError,
    ContextLengthError,
    ModelRetiredError,
    PolicyError,
    ServerError,
)
from llamaroute.layers.adapt import adapt
from llamaroute.layers.failover import failover
from llamaroute.layers.observe import observe
from llamaroute.layers.retry import retry
from llamaroute.layers.window import window
from llamaroute.pipeline.core import Call, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.routing.policy import Allowed, Rules
from llamaroute.types.capability import EndOfLife, ModelRow
from llamaroute.types.events import FailedOver
from llamaroute.types.messages import messages_from
from llamaroute.types.parts import Image

from .step import WALL, Script, answer, blocking, call_of, candidate, pull, send

handler = compose((failover, window, adapt, retry, observe), exchange)
OK = answer(200, {"text": "Hello"})
TODAY = datetime.datetime.fromtimestamp(WALL, datetime.UTC).date()


def only(*names: str) -> Rules:
    return Rules(providers=Allowed(names, "policy.providers"))


def ends(provider: str, days: int, *, sure: bool = True) -> Any:
    """A target whose model ends so many days from now."""
    end = EndOfLife(TODAY + datetime.timedelta(days=days), sure, "a page")
    return candidate(provider, row=ModelRow("llama-4-scout", "x", end_of_life=end))


def deaf(provider: str) -> Any:
    return candidate(provider, row=ModelRow("llama-4-scout", "x", features={"stream": "refuse"}))


def narrow(provider: str) -> Any:
    return candidate(provider, row=ModelRow("llama-4-scout", "x", context_window=1, window_sure=True))


def run(script: Script, *candidates: Any, **fields: Any) -> tuple[Any, Call]:
    call = call_of(*candidates, retry=None, **fields)
    return script.run(handler(call), call.ledger), call


def codes(call: Call) -> list[str]:
    return [notice.code for notice in call.ledger.notices]


# -- rules ------------------------------------------------------------------------------------------------------------


def test_a_forbidden_target_is_passed_over_unasked():
    script = Script(OK)
    reply, call = run(script, candidate("a"), candidate("b"), rules=only("b"))
    assert script.hosts == ["b"]
    assert reply.target.provider == "b"
    assert [attempt.target for attempt in call.ledger.attempts] == ["b:llama-4-scout"]
    assert call.ledger.history == []
    (notice,) = call.ledger.notices
    assert (notice.code, notice.feature) == ("passed_over", "policy")
    assert "a:llama-4-scout was passed over" in notice.message
    assert "policy.providers" in notice.message


def test_nothing_is_sent_when_all_are_forbidden():
    with pytest.raises(PolicyError) as caught:
        run(Script(), candidate("a"), candidate("b"), rules=only("c"))
    assert caught.value.rule == "policy.providers"
    assert "a:llama-4-scout is forbidden" in str(caught.value)
    assert "b:llama-4-scout is forbidden" in str(caught.value)


def test_failover_never_leads_to_a_forbidden_target():
    script = Script(answer(500, b"no"))
    with pytest.raises(ServerError) as caught:
        run(script, candidate("a"), candidate("b"), rules=only("a"))
    assert script.hosts == ["a"]
    assert len(caught.value.attempts) == 1


def test_failover_goes_past_a_forbidden_target():
    script = Script(answer(500, b"no"), OK)
    _, call = run(script, candidate("a"), candidate("b"), candidate("c"), rules=only("a", "c"))
    assert script.hosts == ["a", "c"]
    (event,) = call.ledger.history
    assert isinstance(event, FailedOver)
    assert event.target == "c:llama-4-scout"


def test_the_rule_says_no_before_anything_of_the_target_is_done():
    """No credentials are fetched, no image is read, nothing is counted."""
    forbidden = candidate("a")
    with pytest.raises(PolicyError):
        run(Script(), forbidden, rules=only("b"))
    assert forbidden.adapter.built == []
    assert forbidden.auth.asked == []


def test_images_of_an_operator_in_the_union():
    request = messages_from(["Look", Image(b"\x89PNG\r\n\x1a\n")])
    call = call_of(candidate("a"), rules=Rules(domicile="DE"), retry=None)
    call = call.evolve(request=call.request.evolve(messages=request))
    with pytest.raises(PolicyError) as caught:
        Script().run(handler(call), call.ledger)
    assert caught.value.rule == "policy.operator_domicile"


def test_streams_too():
    script = Script(send(), pull(b"T:x\n"))
    run(script, candidate("a"), candidate("b"), rules=only("b"), stream=True)
    assert script.hosts == ["b"]


# -- the end of a model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "sure", "told"), [(91, True, 0), (90, True, 1), (90, False, 1), (-9, False, 1)])
def test_a_model_that_is_about_to_end_is_asked_and_the_caller_told(days: int, sure: bool, told: int):
    script = Script(OK)
    _, call = run(script, ends("a", days, sure=sure))
    assert script.hosts == ["a"]
    assert codes(call) == ["model_ending"] * told


def test_it_is_told_once_however_often_the_target_is_asked():
    script = Script(answer(500, b"no"), OK)
    _, call = run(script, ends("a", 5), ends("b", 95))
    assert codes(call) == ["model_ending"]


def test_on_the_day_the_call_goes_elsewhere():
    script = Script(OK)
    reply, call = run(script, ends("a", 0), candidate("b"))
    assert (script.hosts, reply.target.provider) == (["b"], "b")
    assert len(call.ledger.attempts) == 1
    (notice,) = call.ledger.notices
    assert (notice.code, notice.feature) == ("passed_over", "lifecycle")


def test_with_no_target_left_the_model_is_retired():
    with pytest.raises(ModelRetiredError, match="nothing was sent") as caught:
        run(Script(), ends("a", 0))
    assert caught.value.target == "a:llama-4-scout"
    with pytest.raises(ModelRetiredError) as caught:
        run(Script(), ends("a", 0), ends("b", -3))
    assert "a:llama-4-scout" in str(caught.value)
    assert "b:llama-4-scout" in str(caught.value)


def test_midnight_in_the_middle_of_a_call():
    """The day is that of the moment, not that of the call's beginning."""
    late = answer(500, b"no", seconds=86_400)
    script = Script(late, OK)
    call = call_of(candidate("a"), ends("b", 1), candidate("c"), retry=None, total=None)
    script.run(handler(call), call.ledger)
    assert script.hosts == ["a", "c"]


def test_what_a_host_calls_retired_is_a_failure_like_others():
    """It was asked: the error is in the ledger."""
    gone = candidate("a")
    gone.adapter.map_error = lambda response, target: ModelRetiredError("gone", status=404)
    script = Script(answer(404, b"gone"), OK)
    _, call = run(script, gone, candidate("b"))
    assert [attempt.status for attempt in call.ledger.attempts] == [404, 200]
    assert codes(call) == []


# -- which error when several reasons meet ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "rules", "expected"),
    [
        ((deaf("a"), candidate("b")), only("a"), PolicyError),
        ((narrow("a"), candidate("b")), only("a"), PolicyError),
        ((ends("a", 0), candidate("b")), only("a"), PolicyError),
        ((ends("a", 0), deaf("b")), None, CapabilityError),
        ((ends("a", 0), narrow("b")), None, ContextLengthError),
        ((deaf("a"), narrow("b")), None, ContextLengthError),
    ],
    ids=["deaf", "narrow", "ended", "ended-deaf", "ended-narrow", "deaf-narrow"],
)
def test_the_error_is_about_what_could_be_changed(candidates: tuple[Any, ...], rules: Rules | None, expected: type):
    call = call_of(*candidates, stream=True, rules=rules, retry=None)
    counted = [blocking() for each in candidates if each.target.row.context_window]  # by the window layer
    with pytest.raises(expected) as caught:
        Script(counted).run(handler(call), call.ledger)
    for each in candidates:
        assert each.target.name in str(caught.value)
