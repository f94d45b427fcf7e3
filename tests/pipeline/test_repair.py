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
from llamaroute.types.tools import Tool

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


# -- tools ------------------------------------------------------------------------------------------------------------

WEATHER = Tool("weather", "", {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]})


def run_tools(script: Script, *, retries: int = 1, adapter: Adapter | None = None, choice: str = "auto"):
    fields = {"tools": (WEATHER,), "tool_choice": choice}
    call = call_of(candidate(adapter=adapter), output_retries=retries, request=fields)
    return script.run(handler(call), call.ledger), call


def calls(*made: tuple[str, dict]):
    return {"text": "", "calls": [list(one) for one in made], "usage": [3, 2]}


def test_arguments_of_the_wrong_type_are_put_right():
    reply, call = run_tools(Script(answer(200, calls(("weather", {"days": "3"})))))
    assert [made.arguments for made in reply.response.tool_calls] == [{"days": 3}]
    assert [part.arguments for part in reply.response.parts] == [{"days": 3}]
    assert call.ledger.notices == []


@pytest.mark.parametrize(
    ("bad", "said"), [(("weather", {"days": "many"}), "days"), (("wetter", {"days": 1}), "no tool 'wetter'")]
)
def test_a_call_that_does_not_fit_goes_back_with_what_is_wrong(bad, said):
    adapter = Adapter()
    script = Script(answer(200, calls(bad)), answer(200, calls(("weather", {"days": 1}))))
    reply, call = run_tools(script, adapter=adapter)
    assert [(made.name, made.error) for made in reply.response.tool_calls] == [("weather", None)]
    first, second = adapter.built
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    assert said in second.messages[-1].text
    assert [notice.code for notice in call.ledger.notices] == ["tool_call_repaired"]
    assert reply.response.usage == Usage(6, 4, 10)
    assert len(first.messages) == 1


def test_a_call_that_is_never_right_is_given_to_the_caller():
    bad = answer(200, calls(("weather", {})))
    reply, _ = run_tools(Script(bad, bad))
    assert "days" in reply.response.tool_calls[0].error


@pytest.mark.parametrize("choice", ["required", "weather"])
def test_words_where_a_call_had_to_be_go_back(choice):
    adapter = Adapter()
    script = Script(answer(200, {"text": "It may rain."}), answer(200, calls(("weather", {"days": 1}))))
    reply, _ = run_tools(script, adapter=adapter, choice=choice)
    assert reply.response.tool_calls[0].name == "weather"
    assert [message.role for message in adapter.built[1].messages] == ["user", "assistant", "user"]
    assert ("weather" if choice == "weather" else "one of the tools") in adapter.built[1].messages[-1].text


def test_words_and_nothing_but_words_are_an_error():
    words = answer(200, {"text": "It may rain."})
    with pytest.raises(OutputValidationError, match=r"called no tool although tool_choice is 'required'") as caught:
        run_tools(Script(words, words), choice="required")
    assert caught.value.errors == ("no tool was called",)


def test_words_are_fine_where_a_call_was_only_offered():
    reply, _ = run_tools(Script(answer(200, {"text": "Hello"})))
    assert reply.response.text == "Hello"
