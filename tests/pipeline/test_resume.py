"""Streams that break and go on: who is asked, with what, and how the pieces are joined. No clock, no network."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llamaroute import errors as e
from llamaroute.layers.adapt import adapt
from llamaroute.layers.failover import failover
from llamaroute.layers.observe import observe
from llamaroute.layers.resume import Join, anchor, can_continue, continued, prefills, resume
from llamaroute.layers.watch import watch
from llamaroute.pipeline.core import Call, Candidate, Outcome, compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.routing.budget import FLOOR
from llamaroute.routing.traffic import Traffic
from llamaroute.spi import Target
from llamaroute.types.events import Finished, TextDelta, ToolCallStarted
from llamaroute.types.messages import assistant, system, user
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import Attempt, AttemptError
from llamaroute.types.tools import JsonSchema

from .step import START, Adapter, Script, call_of, candidate, drain, finish, pull, send, send_fails

handler = compose((failover, adapt, watch, observe), exchange)
CUT = e.ConnectionError("cut off", phase="idle")


class Prefilling(Adapter):
    def prefills(self, target: Target) -> bool:
        return target.provider == "good"


def broken(*candidates: Candidate, error: Exception = CUT, traffic: Traffic | None = None, **fields: Any) -> Call:
    """A call whose stream from its first candidate said "Hello wor" and broke."""
    fields.setdefault("on_break", "continue")
    call = call_of(*candidates, stream=True, traffic=traffic, **fields)
    script = Script(send(), pull(b"T:Hello wor\n"))
    reply = script.run(handler(call), call.ledger)
    assert [event.text for event in drain(reply) if isinstance(event, TextDelta)] == ["Hello wor"]
    finish(reply, Outcome(None, error, output_tokens=3))
    return call


def names(call: Call | None) -> list[str]:
    assert call is not None
    return [one.target.provider for one in call.candidates]


# -- who is asked -----------------------------------------------------------------------------------------------------


def test_the_target_that_broke_off_comes_last() -> None:
    call = broken(candidate("a"), candidate("b"), candidate("c"))
    resumed = resume(call, CUT, "a:llama-4-scout", "Hello wor", 3)
    assert names(resumed) == ["b", "c", "a"]
    assert resumed is not None
    reply = Script(send_fails(CUT), send(), pull(b"T:ld\n")).run(handler(resumed), call.ledger)
    assert reply.target.provider == "c"
    assert [(one.target[0], one.error and one.error.type) for one in call.ledger.attempts] == [
        ("a", "ConnectionError"),
        ("b", "ConnectionError"),
        ("c", None),
    ]


def test_the_only_target_is_asked_again_for_errors_that_may_pass() -> None:
    call = broken(candidate("a"))
    assert names(resume(call, CUT, "a:llama-4-scout", "Hello wor", 3)) == ["a"]
    lasting = e.ProtocolError("no JSON")
    assert (lasting.retryable, lasting.failover) == (False, True)
    assert resume(call, lasting, "a:llama-4-scout", "Hello wor", 3) is None
    both = broken(candidate("a"), candidate("b"))
    assert names(resume(both, lasting, "a:llama-4-scout", "Hello wor", 3)) == ["b", "a"]


@pytest.mark.parametrize(
    "error",
    [
        e.InvalidRequestError("no"),
        e.ContentFilterError("no", failover=False),
        e.TimeoutError("over", phase="total", retryable=False, failover=False),
    ],
)
def test_errors_that_no_target_mends_end_the_stream(error: e.ProviderError) -> None:
    call = broken(candidate("a"), candidate("b"), error=error)
    assert resume(call, error, "a:llama-4-scout", "Hello wor", 3) is None


def test_not_where_the_route_says_nothing_of_it_and_not_after_the_deadline() -> None:
    call = broken(candidate("a"), candidate("b"), on_break="fail")
    assert resume(call, CUT, "a:llama-4-scout", "", 3) is None
    call = broken(candidate("a"), candidate("b"), on_break="restart", total=10.0)
    assert resume(call, CUT, "a:llama-4-scout", "", 3) is not None
    call.ledger.now = START + 10.0
    assert resume(call, CUT, "a:llama-4-scout", "", 3) is None


def test_the_same_target_again_is_paid_from_the_retry_budget() -> None:
    class Dice:
        def random(self) -> float:
            return 0.0

    traffic = Traffic(Dice())
    granted = 0
    for _ in range(20):
        call = broken(candidate("a"), traffic=traffic)
        granted += resume(call, CUT, "a:llama-4-scout", "Hello wor", 3) is not None
    assert FLOOR <= granted <= FLOOR + 2
    call = broken(candidate("c"), candidate("b"), traffic=traffic)
    before = traffic.budget.left("b:llama-4-scout", call.ledger.now)
    assert names(resume(call, CUT, "c:llama-4-scout", "Hello wor", 3)) == ["b", "c"]
    assert traffic.budget.left("b:llama-4-scout", call.ledger.now) == before, "another target is free"


# -- with what --------------------------------------------------------------------------------------------------------


def test_one_whose_queue_had_no_place_has_not_failed() -> None:
    traffic = Traffic(Random(1))
    call = broken(candidate("a"), candidate("b"), traffic=traffic)
    while traffic.budget.take("b:llama-4-scout", START):
        pass
    call.ledger.attempts.insert(0, Attempt("b:llama-4-scout", error=AttemptError("RateLimitError", ""), phase="queue"))
    lasting = e.ProtocolError("no JSON")
    assert names(resume(call, lasting, "a:llama-4-scout", "Hello wor", 3)) == ["b", "a"]


def test_each_target_is_asked_in_its_own_way() -> None:
    good, plain = Prefilling(), Adapter()
    call = broken(candidate("a"), candidate("good", adapter=good), candidate("plain", adapter=plain))
    resumed = resume(call, CUT, "a:llama-4-scout", "Hello wor", 3)
    assert resumed is not None
    Script(send_fails(CUT), send(), pull(b"T:ld\n")).run(handler(resumed), call.ledger)
    assert [message.role for message in good.built[0].messages] == ["user", "assistant"]
    assert good.built[0].messages[-1].text == "Hello wor"
    assert [message.role for message in plain.built[0].messages] == ["user", "assistant", "user"]
    assert plain.built[0].messages[-1].text.endswith("\n\nHello wor")
    assert [prefills(one) for one in call.candidates] == [False, True, False]


def test_only_adapters_that_say_so_for_the_target_prefill() -> None:
    assert prefills(candidate("good", adapter=Prefilling()))
    assert not prefills(candidate("other", adapter=Prefilling()))


@pytest.mark.parametrize("provider", ["good", "other"])
def test_a_prefill_of_the_caller_s_own_is_gone_on_with(provider: str) -> None:
    request = ChatRequest((system("Be brief."), user("Hi"), assistant("Well, ")))
    asked = continued(request, "hello wor", candidate(provider, adapter=Prefilling()))
    roles = [message.role for message in asked.messages]
    assert roles == ["system", "user", "assistant"] + ([] if provider == "good" else ["user"])
    assert asked.messages[2].text == "Well, hello wor"


def test_what_was_said_is_taken_off_max_tokens() -> None:
    call = broken(candidate("a"), candidate("b"), request={"max_tokens": 100})
    left = [resume(call, CUT, "a:llama-4-scout", text, used) for text, used in (("x", 30), ("x", 99), ("", 30))]
    assert [one.request.max_tokens for one in left if one is not None] == [70, 16, 100]


def test_json_that_a_host_is_held_to_begins_anew() -> None:
    call = call_of(candidate("a"), stream=True, on_break="continue")
    assert can_continue(call, "Hello")
    assert not can_continue(call, " \n")
    schema = JsonSchema("thing", {"type": "object"})
    assert not can_continue(call.evolve(request=call.request.evolve(output=schema)), '{"a"')
    assert not can_continue(call.evolve(on_break="restart"), "Hello")


def test_the_last_words() -> None:
    assert anchor("  Short. \n") == "Short."
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    assert anchor(long) == "five six seven eight nine ten eleven twelve thirteen fourteen"[-60:].partition(" ")[2]
    assert long.endswith(anchor(long))
    assert anchor("x" * 200) == "x" * 60


# -- the seam ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "then", "joined"),
    [
        ("I went to the kitch", "I went to the kitchen.", "I went to the kitchen."),
        ("I went to the kitch", "\n went to the kitchen.", "I went to the kitchen."),
        ("I went to the kitch", "the kitchen. I", "I went to the kitchen. I"),
        ("I went to the", "store today.", "I went to the store today."),
        ("I went to the ", "store today.", "I went to the store today."),
        ("I went to the", " store today.", "I went to the store today."),
        ("I went to the store", ", and left.", "I went to the store, and left."),
        ("First paragraph ends.\n\n", "paragraph ends.\n\nSecond.", "First paragraph ends.\n\nSecond."),
        ("First paragraph ends.\n\n", "paragraph ends. Second.", "First paragraph ends.\n\nSecond."),
        ("the end of it all.", "the end of it all.", "the end of it all."),
        ("na na na na na", "na na na na na batman", "na na na na na batman"),
        ("1, 2, 3, 4, 5", "6, 7", "1, 2, 3, 4, 5 6, 7"),
        ("Hi", "Hi there", "Hi there"),
        ("Ein Gruß aus Köln, vo", "Gruß aus Köln, von mir", "Ein Gruß aus Köln, von mir"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_repeated_is_said_once(said: str, then: str, joined: str, size: int) -> None:
    events = [TextDelta(then[i : i + size]) for i in range(0, len(then), size)]
    out = list(Join(said).convert([*events, Finished("stop")]))
    assert said + "".join(event.text for event in out if isinstance(event, TextDelta)) == joined
    assert isinstance(out[-1], Finished)
    assert all(event.text for event in out if isinstance(event, TextDelta))


@given(
    whole=st.text(st.sampled_from("ab \n.ß"), min_size=1, max_size=300),
    at=st.integers(1, 300),
    sizes=st.lists(st.integers(1, 40), min_size=1),
)
def test_a_model_that_does_as_it_is_asked_leaves_no_seam(whole: str, at: int, sizes: list[int]) -> None:
    said = whole[:at]
    assume(said.strip())
    then = said[len(said.rstrip()) - len(anchor(said)) - len(said) :] + whole[at:]
    events, left = [], then
    for size in [*sizes, len(then)]:
        events.append(TextDelta(left[:size]))
        left = left[size:]
    out = Join(said).convert([*(event for event in events if event.text), Finished("stop")])
    joined = said + "".join(event.text for event in out if isinstance(event, TextDelta))
    if said != said.rstrip():  # white space at the seam is said once, whoever says how much of it
        said, rest = said.rstrip(), joined[len(said.rstrip()) :]
        assert joined == said + rest
        assert rest.lstrip() == whole[len(said) :].lstrip()
    else:
        assert joined == whole


def test_text_that_is_held_back_comes_before_a_call_and_over_several_reads() -> None:
    join = Join("I went to the store")
    assert list(join.convert([TextDelta("went ")])) == []
    assert list(join.convert([TextDelta("to the")])) == []
    call = ToolCallStarted(0, "c", "f")
    assert list(join.convert([call, TextDelta("x")])) == [TextDelta(" went to the"), call, TextDelta("x")]
