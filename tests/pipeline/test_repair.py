"""Answers that do not fit `output=` go back to the model."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from llamaroute.errors import OutputValidationError, ServerError
from llamaroute.layers.observe import observe
from llamaroute.layers.repair import repair
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.output import output_spec
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange
from llamaroute.types.response import ChatResponse, Usage

from .step import Adapter, Script, answer, call_of, candidate, drain, pull, send, sleep

handler = compose((repair, retry, observe), exchange)


class City(BaseModel):
    name: str
    people: int


GOOD = {"text": '{"name": "Cusco", "people": 428450}', "usage": [10, 5]}
BAD = {"text": '{"name": "Cusco"}', "usage": [7, 3]}


def run(script: Script, *, retries: int = 1, adapter: Adapter | None = None, **fields):
    call = call_of(candidate(adapter=adapter), output=output_spec(City), output_retries=retries, **fields)
    return script.run(handler(call), call.ledger), call


def test_an_answer_that_fits():
    reply, call = run(Script(answer(200, GOOD)))
    assert reply.response is not None
    assert reply.response.output == City(name="Cusco", people=428450)
    assert reply.response.output_mode == "native"
    assert call.ledger.notices == []


def test_an_answer_that_does_not_fit_goes_back_with_what_is_wrong():
    adapter = Adapter()
    reply, call = run(Script(answer(200, BAD), answer(200, GOOD)), adapter=adapter)
    assert reply.response is not None
    assert reply.response.output == City(name="Cusco", people=428450)
    first, second = adapter.built
    assert [message.role for message in first.messages] == ["user"]
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].text == BAD["text"]
    assert "people" in second.messages[2].text
    assert [notice.code for notice in call.ledger.notices] == ["output_repaired"]
    assert len(call.ledger.attempts) == 2


def test_usage_is_that_of_all_answers():
    reply, _ = run(Script(answer(200, BAD), answer(200, BAD), answer(200, GOOD)), retries=2)
    assert reply.response is not None
    assert reply.response.usage == Usage(24, 11, 35)


def test_cached_tokens_are_summed_too():
    class Caches(Adapter):
        def parse_response(self, response, request, target) -> ChatResponse:
            made = super().parse_response(response, request, target)
            return made.model_copy(update={"usage": Usage(10, 5, 15, cached_tokens=4)})

    reply, _ = run(Script(answer(200, BAD), answer(200, GOOD)), adapter=Caches())
    assert reply.response is not None
    assert reply.response.usage.cached_tokens == 8


def test_the_last_answer_does_not_fit_either():
    with pytest.raises(OutputValidationError) as caught:
        run(Script(answer(200, BAD), answer(200, BAD)))
    error = caught.value
    assert any("people" in line for line in error.errors)
    assert error.reply is not None
    assert error.reply.text == BAD["text"]


@pytest.mark.parametrize("retries", [0, 3])
def test_as_often_as_asked(retries: int):
    with pytest.raises(OutputValidationError):
        run(Script(*[answer(200, BAD)] * (retries + 1)), retries=retries)


def test_text_that_is_no_json():
    reply, _ = run(Script(answer(200, {"text": "Sure! Here you are:"}), answer(200, GOOD)))
    assert reply.response is not None
    assert reply.response.output is not None


def test_fenced_json_is_taken():
    reply, _ = run(Script(answer(200, {"text": '```json\n{"name": "x", "people": 1}\n```'})))
    assert reply.response is not None
    assert reply.response.output == City(name="x", people=1)


def test_each_asking_has_retries_of_its_own():
    policy = RetryPolicy(attempts=2, base=0)
    script = Script(answer(500, b""), sleep(), answer(200, BAD), answer(500, b""), sleep(), answer(200, GOOD))
    reply, call = run(script, retry=policy)
    assert reply.response is not None
    assert [attempt.status for attempt in call.ledger.attempts] == [500, 200, 500, 200]


def test_a_host_that_fails_while_asked_again_is_its_own_error():
    with pytest.raises(ServerError):
        run(Script(answer(200, BAD), answer(500, b"")))


def test_a_model_that_calls_a_tool_has_no_output_yet():
    reply, _ = run(Script(answer(200, {"calls": [["f", {}]]})))
    assert reply.response is not None
    assert reply.response.output is None
    assert reply.response.tool_calls[0].name == "f"


def test_a_tool_call_after_a_repair_costs_both_answers():
    reply, _ = run(Script(answer(200, BAD), answer(200, {"calls": [["f", {}]], "usage": [10, 5]})))
    assert reply.response is not None
    assert reply.response.usage == Usage(17, 8, 25)


def test_streams_pass_through():
    reply, _ = run(Script(send(), pull(b"T:not json\n")), stream=True)
    assert reply.decoder is not None
    assert drain(reply)


def test_without_output_nothing_is_looked_at():
    call = call_of()
    reply = Script(answer(200, {"text": "not json"})).run(handler(call), call.ledger)
    assert reply.response is not None
    assert reply.response.output is None
