"""`run`: the tool loop of both clients, against the emulator's scripted answers."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import PIL.Image
import pytest
from pydantic import AfterValidator, BaseModel

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply
from llamaroute.tools.loop import Loop, carry_out, content_of
from llamaroute.types.run import sum_cost, sum_usage
from tests.client.api import Api
from tests.local.local_helpers import png

asynchronous = pytest.mark.parametrize("api", ["asyncio", "trio"], indirect=True)
blocking = pytest.mark.parametrize("api", ["sync"], indirect=True)


def box(emu: Emulator, host: str = "openai") -> dict[str, Any]:
    return {"providers": emu.providers(host)}


def calls(*wanted: tuple[str, Any], **more: Any) -> Reply:
    return Reply(tool_calls=wanted, **more)


def sent(emu: Emulator, index: int = -1) -> list[dict[str, Any]]:
    """The messages of a request to the OpenAI host."""
    messages: list[dict[str, Any]] = emu.requests[index].json["messages"]
    return messages


def weather(city: str, days: int = 1) -> str:
    """Weather forecast.

    Args:
        city: name of the city
        days: how many days ahead
    """
    return f"{city}: {18 + days} C"


async def clock(zone: str) -> str:
    """The time.

    Args:
        zone: a time zone
    """
    return f"noon in {zone}"


def nothing() -> None:
    """Does nothing."""


def broken(city: str) -> str:
    """Fails."""
    raise LookupError(f"no {city} here")


# -- the loop ---------------------------------------------------------------------------------------------------------


async def test_a_question_a_call_an_answer(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Cusco", "days": 2}), usage=(100, 10)))
    emu.reply(Reply("It will be 20 C.", usage=(130, 7)))
    async with api.client(box(emu)) as client:
        result = await client.run("And in Cusco?", tools=[weather], system="Be brief.", temperature=0.5)
    assert result.text == "It will be 20 C."
    assert (result.finish_reason, result.tool_calls, result.warnings) == ("stop", (), ())
    first, done, last = result.steps
    assert isinstance(first, lr.ChatResponse)
    assert isinstance(done, lr.ToolResult)
    assert last is result.response
    assert result.responses == (first, last)
    assert result.results == (done,)
    assert (done.call.name, done.call.arguments, done.error) == ("weather", {"city": "Cusco", "days": 2}, None)
    assert done.text == "Cusco: 20 C"
    assert done.seconds >= 0
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.total_tokens) == (230, 17, 247)
    assert client.usage().calls == 2

    call_id = first.tool_calls[0].id
    assert [message["role"] for message in sent(emu)] == ["system", "user", "assistant", "tool"]
    assert sent(emu)[-1] == {"role": "tool", "tool_call_id": call_id, "content": "Cusco: 20 C", "name": "weather"}
    assert [request.json["temperature"] for request in emu.requests] == [0.5, 0.5]
    assert [request.json["tool_choice"] for request in emu.requests] == ["auto", "auto"]
    assert emu.requests[0].json["tools"] == emu.requests[1].json["tools"]
    assert [message.role for message in result.messages] == ["system", "user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("host", ["openai", "cloudflare", "azure", "databricks", "bedrock", "vllm"])
async def test_the_same_on_other_hosts(api: Api, emu: Emulator, host: str):
    """`run` has no provider's code: it needs `chat` alone."""
    emu.reply(calls(("weather", {"city": "Cusco"})))
    emu.reply("It will be 19 C.")
    async with api.client(box(emu, host)) as client:
        result = await client.run("And in Cusco?", tools=[weather])
    assert (result.text, result.results[0].text) == ("It will be 19 C.", "Cusco: 19 C")
    assert "Cusco: 19 C" in json.dumps(emu.requests[-1].json)


async def test_no_call_is_a_chat(api: Api, emu: Emulator):
    emu.reply("Hello.")
    async with api.client(box(emu)) as client:
        result = await client.run("Hi", tools=[weather])
        assert (result.text, len(result.steps)) == ("Hello.", 1)
        await client.run("Hi", tools=[])
    assert "tools" not in emu.requests[-1].json


async def test_a_run_goes_on_from_its_messages(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {})))
    emu.reply("Done.")
    emu.reply("You are welcome.")
    async with api.client(box(emu)) as client:
        result = await client.run("Do it", tools=[nothing], system="Be brief.")
        assert result.results[0].text == ""
        again = await client.chat([*result.messages, "Thanks"])
    assert again.text == "You are welcome."
    assert [m["role"] for m in sent(emu)] == ["system", "user", "assistant", "tool", "assistant", "user"]


async def test_several_calls_in_one_turn(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Lima"}), ("clock", {"zone": "PET"}), ("weather", {"city": "Cusco"})))
    emu.reply("Both.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather, clock])
    assert [step.text for step in result.results] == ["Lima: 19 C", "noon in PET", "Cusco: 19 C"]
    ids = [call.id for call in result.responses[0].tool_calls]
    assert len(set(ids)) == 3
    assert [message["tool_call_id"] for message in sent(emu)[-3:]] == ids


async def test_calls_without_ids_get_some(api: Api, emu: Emulator):
    """Cloudflare's native form names no calls; results have to be told apart all the same."""
    emu.reply(calls(("weather", {"city": "Lima"}), ("weather", {"city": "Cusco"})))
    emu.reply("Both.")
    config = box(emu, "cloudflare")
    config["providers"]["cloudflare"]["api"] = "native"
    async with api.client(config) as client:
        result = await client.run("?", tools=[weather])
    assert len({step.call.id for step in result.results}) == 2
    turn = next(message for message in result.messages if message.tool_calls)
    assert [call.id for call in turn.tool_calls] == [step.call.id for step in result.results]


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_a_forced_call_is_forced_once(api: Api, emu: Emulator, choice: str):
    emu.reply(calls(("weather", {"city": "Lima"})))
    emu.reply("Warm.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather], tool_choice=choice)
    assert result.text == "Warm."
    first, second = (request.json["tool_choice"] for request in emu.requests)
    assert first == (choice if choice == "required" else {"type": "function", "function": {"name": "weather"}})
    assert second == "auto"


async def test_tools_that_may_not_be_called_stay_so(api: Api, emu: Emulator):
    emu.reply("No.")
    async with api.client(box(emu)) as client:
        await client.run("?", tools=[weather], tool_choice="none")
    assert emu.requests[0].json["tool_choice"] == "none"


async def test_steps_are_bounded_and_the_run_can_go_on(api: Api, emu: Emulator):
    made: list[str] = []

    def step(name: str) -> str:
        made.append(name)
        return name

    for name in "abc":
        emu.reply(calls(("step", {"name": name})))
    async with api.client(box(emu)) as client:
        result = await client.run("Go", tools=[step], max_steps=3)
        assert result.finish_reason == "max_steps"
        assert made == ["a", "b"], "what nobody would hear of is not done"
        assert [call.arguments for call in result.tool_calls] == [{"name": "c"}]
        assert [notice.code for notice in result.warnings] == ["max_steps"]
        assert "step" in result.warnings[0].message
        assert len(emu.requests) == 3
        emu.reply("Finished.")
        again = await client.run(result.messages, tools=[step])
    assert made == ["a", "b", "c"]
    assert again.text == "Finished."
    assert [type(item) for item in again.steps] == [lr.ToolResult, lr.ChatResponse]


async def test_a_run_begins_with_what_is_not_answered_yet(api: Api, emu: Emulator):
    """Somebody approved the calls of a `chat`, perhaps days later and in another process."""
    first = lr.ToolCall("c1", "weather", {"city": "Lima"})
    second = lr.ToolCall("c2", "weather", {"city": "Cusco", "days": "2"})
    history = [lr.user("?"), lr.assistant(first, second), lr.tool_result(first, "known")]
    emu.reply("Well.")
    async with api.client(box(emu)) as client:
        result = await client.run(history, tools=[weather])
    assert [step.text for step in result.results] == ["Cusco: 20 C"]
    assert [message["content"] for message in sent(emu)[-2:]] == ["known", "Cusco: 20 C"]


class Forecast(BaseModel):
    city: str
    degrees: int


async def test_output_is_validated_at_the_end(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Lima"})))
    emu.reply('{"city": "Lima"}')
    emu.reply('{"city": "Lima", "degrees": 19}')
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather], output=Forecast)
        assert result.output == Forecast(city="Lima", degrees=19)
        assert len(emu.requests) == 3, "the misfit was asked again, within the turn"
        emu.reply(calls(("weather", {"city": "Lima"})))
        emu.reply("Nope.")
        emu.reply("Nope.")
        with pytest.raises(lr.OutputValidationError) as caught:
            await client.run("?", tools=[weather], output=Forecast)
    assert caught.value.run is not None
    assert [type(step) for step in caught.value.run.steps] == [lr.ChatResponse, lr.ToolResult]


async def test_an_error_has_what_was_done_until_then(api: Api, emu: Emulator):
    def lose_key(city: str) -> str:
        emu.fault(status=401, times=1)
        return f"{city} is lost"

    emu.reply(calls(("lose_key", {"city": "Lima"})))
    async with api.client(box(emu)) as client:
        with pytest.raises(lr.AuthenticationError) as caught:
            await client.run("?", tools=[lose_key])
        run = caught.value.run
        assert run is not None
        assert [type(step) for step in run.steps] == [lr.ChatResponse, lr.ToolResult]
        assert run.finish_reason == "interrupted"
        emu.reply("Warm.")
        assert (await client.run(run.messages, tools=[lose_key])).text == "Warm."
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.run.results[0].text == "Lima is lost"


# -- results ----------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (18, "18"),
        (1.5, "1.5"),
        (True, "true"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([1, "a"], '[1,"a"]'),
        (["a", "b"], '["a","b"]'),
        ((), "[]"),
        (Place(1), '{"x":1}'),
        ([Place(1)], '[{"x":1}]'),
        (Forecast(city="Lima", degrees=19), '{"city":"Lima","degrees":19}'),
        (Decimal("1.5"), '"1.5"'),
        (float("nan"), "null"),
        (b"text", '"text"'),
        (LookupError("x"), '"x"'),
        (lr.Text("part"), "part"),
    ],
    ids=repr,
)
def test_what_a_tool_gives_back(value: Any, text: str):
    (part,) = content_of(value)
    assert part == lr.Text(text)


def test_parts_stay_parts():
    image = lr.Image(b"...")
    assert content_of(image) == (image,)
    assert content_of(["A cat:", image]) == (lr.Text("A cat:"), image)
    assert content_of((image, image)) == (image, image)


@pytest.mark.parametrize("host", ["openai", "azure", "bedrock"])
async def test_a_tool_that_shows_an_image(api: Api, emu: Emulator, host: str):
    picture = lr.Image(png())

    def photo() -> list[Any]:
        return ["Here it is:", picture]

    emu.reply(calls(("photo", {})))
    emu.reply("Red.")
    async with api.client(box(emu, host)) as client:
        result = await client.run("?", tools=[photo])
    assert result.results[0].content == (lr.Text("Here it is:"), picture)
    last = json.dumps(emu.requests[-1].json["messages"][-1])
    assert "Here it is:" in last
    assert png().partition(",")[2] in last


def test_a_pil_image_is_an_image():
    pil = PIL.Image.new("RGB", (2, 2))
    assert content_of(["Look", pil]) == (lr.Text("Look"), lr.Image(pil))


async def test_what_cannot_be_written_is_a_tools_error(api: Api, emu: Emulator):
    def knot() -> list[Any]:
        knotted: list[Any] = []
        knotted.append(knotted)
        return knotted

    emu.reply(calls(("knot", {})))
    emu.reply("Sorry.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[knot])
    assert "ValueError" in (result.results[0].error or "")


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_tool_that_raises_tells_the_model(api: Api, emu: Emulator):
    emu.reply(calls(("broken", {"city": "Atlantis"})))
    emu.reply("There is none.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[broken])
    assert result.results[0].error == "LookupError: no Atlantis here"
    assert sent(emu)[-1]["content"] == "Error: LookupError: no Atlantis here"
    assert result.text == "There is none."


async def test_a_tool_that_raises_ends_the_run_if_told_so(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Lima"}), ("broken", {"city": "Atlantis"})))
    async with api.client(box(emu)) as client:
        with pytest.raises(lr.ToolError, match="'broken' failed: LookupError: no Atlantis here") as caught:
            await client.run("?", tools=[weather, broken], on_error="raise")
    error = caught.value
    assert isinstance(error.__cause__, LookupError)
    assert error.call is not None
    assert error.call.arguments == {"city": "Atlantis"}
    assert error.run is not None
    assert isinstance(error.run.steps[0], lr.ChatResponse)
    assert len(emu.requests) == 1
    again = pickle.loads(pickle.dumps(error))
    assert (again.call, str(again)) == (error.call, str(error))


async def test_arguments_in_the_wrong_type_are_put_right(api: Api, emu: Emulator):
    got: list[Any] = []

    def book(rooms: int, names: list[str], paid: bool, note: str = "", place: Place | None = None) -> str:
        got.append((rooms, names, paid, note, place))
        return "booked"

    wrong = {"rooms": "2", "names": "['Ana', 'Luis']", "paid": "true", "note": 5, "place": '{"x": "3"}'}
    emu.reply(calls(("book", wrong)))
    emu.reply("Booked.")
    book.__annotations__["place"] = Place | None
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[book])
    assert got == [(2, ["Ana", "Luis"], True, "5", Place(3))]
    assert result.results[0].call.arguments["names"] == ["Ana", "Luis"]
    assert json.loads(sent(emu)[1]["tool_calls"][0]["function"]["arguments"]) == wrong, "the model sees what it wrote"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("weather", {"days": 1}), "city: is missing"),
        (("weather", {"city": "Lima", "days": "soon"}), "days: must be a whole number"),
        (("weather", {"city": "Lima", "day": 1}), "did you mean 'days'?"),
        (("wether", {"city": "Lima"}), "there is no tool 'wether'; the tools are: weather"),
        (("weather", '{"city": "Li'), 'not JSON: .* You wrote: {"city": "Li'),
        (("weather", "[1]"), "not a JSON object but list"),
    ],
    ids=str,
)
async def test_a_call_that_does_not_fit_is_given_back(api: Api, emu: Emulator, call: Any, said: str):
    emu.reply(calls(call))
    emu.reply(calls(("weather", {"city": "Lima"})))
    emu.reply("Warm.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather])
    first, second = result.results
    assert first.error is not None
    assert "Call again" in first.text
    assert re.search(said, first.text)
    assert (second.error, result.text) == (None, "Warm.")
    turn = sent(emu, 1)[1]["tool_calls"][0]["function"]
    assert isinstance(json.loads(turn["arguments"]), dict), "servers read the arguments of earlier turns as JSON"


async def test_the_good_calls_of_a_turn_are_carried_out(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Lima"}), ("weather", {})))
    emu.reply("Warm.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather])
    assert [step.error is None for step in result.results] == [True, False]
    assert [message["content"][:6] for message in sent(emu)[-2:]] == ["Lima: ", "Error:"]


@pytest.mark.parametrize(
    ("written", "got"), [('{"city": "Li\\ud83d"}', "Li?: 19 C"), ('{"city": "two\nlines"}', "two\nlines: 19 C")]
)
async def test_arguments_that_are_nearly_json(api: Api, emu: Emulator, written: str, got: str):
    """Half an emoji, and a line break as it is: later turns carry them as JSON that servers can read."""
    emu.reply(calls(("weather", written)))
    emu.reply("Warm.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather])
    assert (result.text, result.results[0].text) == ("Warm.", got)
    json.loads(sent(emu)[1]["tool_calls"][0]["function"]["arguments"])


def even(number: int) -> int:
    if number < 0:
        raise LookupError("never below zero")
    if number % 2:
        raise ValueError("must be even")
    return number


def pairs(number: Annotated[int, AfterValidator(even)]) -> int:
    return number // 2


async def test_what_only_the_functions_own_types_know(api: Api, emu: Emulator):
    for number in (3, 4, -1, 6):
        emu.reply(calls(("pairs", {"number": number})))
    emu.reply("Three.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[pairs])
    assert [step.error for step in result.results] == [
        "number: Value error, must be even",
        None,
        "LookupError: never below zero",
        None,
    ]
    assert [step.text for step in result.results][1::2] == ["2", "3"]


def test_ids_that_are_missing_or_double():
    first, second, third = (lr.ToolCall(call_id, "nothing", {}) for call_id in ("", "x", "x"))
    loop = Loop("?", [nothing], {})
    parts = (lr.Text("Let me see."), first, second, third)
    loop.answered(lr.ChatResponse(parts=parts, tool_calls=parts[1:], finish_reason="tool_calls"))
    ids = [ready.call.id for ready in loop.pending]
    assert len(set(ids)) == 3
    assert "" not in ids
    assert [result.call.id for result in carry_out(loop)] == ids
    messages, _ = loop.turn()
    assert [call.id for call in messages[1].tool_calls] == [message.tool_call_id for message in messages[2:]] == ids
    assert messages[1].text == "Let me see."


async def test_what_a_run_costs(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {}), usage=(1_000_000, 0)))
    emu.reply(Reply("Done.", usage=(1_000_000, 1_000_000)))
    async with api.client(box(emu, "cloudflare")) as client:
        result = await client.run("?", tools=[nothing])
    costs = [response.cost for response in result.responses]
    assert all(cost is not None for cost in costs)
    assert result.cost == lr.Cost(sum(cost.usd for cost in costs))
    assert result.cost.usd == client.usage().cost > 0


def test_sums():
    one = lr.Usage(10, 1, 11, None, raw={"a": 1})
    two = lr.Usage(20, 2, 22, 5, estimated=True, raw={"b": 1})
    assert sum_usage([one, two]) == lr.Usage(30, 3, 33, 5, estimated=True, raw={"b": 1})
    assert sum_usage([one, one]).cached_tokens is None
    assert sum_usage([]) == lr.Usage()
    assert sum_cost([lr.Cost(Decimal(1)), lr.Cost(Decimal(2), True)]) == lr.Cost(Decimal(3), True)
    assert sum_cost([lr.Cost(Decimal(1)), None]) is None, "what is not known is not left out"
    assert sum_cost([]) is None


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (2, 3)])
async def test_repairs_are_bounded(api: Api, emu: Emulator, retries: int, asked: int):
    for _ in range(4):
        emu.reply(calls(("weather", {})))
    async with api.client(box(emu)) as client:
        with pytest.raises(lr.ToolError, match=r"'weather' cannot be carried out.*city: is missing") as caught:
            await client.run("?", tools=[weather], output_retries=retries)
    assert len(emu.requests) == asked
    assert caught.value.call is not None
    assert caught.value.run is not None
    assert len(caught.value.run.responses) == asked


async def test_repairs_are_counted_in_a_row(api: Api, emu: Emulator):
    for arguments in ({}, {"city": "Lima"}, {}, {"city": "Cusco"}):
        emu.reply(calls(("weather", arguments)))
    emu.reply("Warm.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather])
    assert result.text == "Warm."
    assert [step.error is None for step in result.results] == [False, True, False, True]


# -- approval ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "text", "error"),
    [
        (None, "Lima: 19 C", None),
        (True, "Lima: 19 C", None),
        (False, "The user refused this call.", "The user refused this call."),
        ("Ask me tomorrow.", "Ask me tomorrow.", "Ask me tomorrow."),
        (lr.ToolCall("other", "weather", {"city": "Cusco", "days": "2"}), "Cusco: 20 C", None),
    ],
    ids=repr,
)
async def test_approval(api: Api, emu: Emulator, verdict: Any, text: str, error: str | None):
    emu.reply(calls(("weather", {"city": "Lima", "days": "1"})))
    emu.reply("Well.")
    asked: list[lr.ToolCall] = []

    def on_tool(call: lr.ToolCall) -> Any:
        asked.append(call)
        return verdict

    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather], on_tool=on_tool)
    assert [call.arguments for call in asked] == [{"city": "Lima", "days": 1}], "checked before anyone is asked"
    done = result.results[0]
    assert (done.text, done.error) == (text, error)
    assert done.call.id == asked[0].id
    if isinstance(verdict, lr.ToolCall):  # the model must not read Cusco's weather as Lima's
        shown = json.loads(sent(emu)[1]["tool_calls"][0]["function"]["arguments"])
        assert shown == {"city": "Cusco", "days": 2}
        assert result.messages[1].tool_calls[0].arguments == shown


async def test_approval_may_be_async(api: Api, emu: Emulator):
    async def on_tool(call: lr.ToolCall) -> bool:
        if api.flavour != "trio":
            await asyncio.sleep(0)
        return False

    emu.reply(calls(("weather", {"city": "Lima"})))
    emu.reply("Well.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[weather], on_tool=on_tool)
    assert result.results[0].error == "The user refused this call."


async def test_approval_that_raises_ends_the_run_before_any_call(api: Api, emu: Emulator):
    made: list[str] = []

    def note(text: str) -> None:
        made.append(text)

    class Stop(Exception):
        pass

    def on_tool(call: lr.ToolCall) -> None:
        if call.arguments["text"] == "b":
            raise Stop

    emu.reply(calls(("note", {"text": "a"}), ("note", {"text": "b"})))
    async with api.client(box(emu)) as client:
        with pytest.raises(Stop):
            await client.run("?", tools=[note], on_tool=on_tool)
    assert made == []


async def test_nobody_is_asked_about_calls_that_cannot_be(api: Api, emu: Emulator):
    asked: list[str] = []
    emu.reply(calls(("weather", {}), ("wether", {"city": "x"}), ("weather", {"city": "Lima"})))
    emu.reply("Well.")
    async with api.client(box(emu)) as client:
        await client.run("?", tools=[weather], on_tool=lambda call: asked.append(call.name))
    assert asked == ["weather"]


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (5, "on_tool returns .* not int"),
        (lr.ToolCall("", "weather", {"days": 1}), "on_tool changed .*city: is missing"),
        (lr.ToolCall("", "delete", {}), "on_tool changed .*no tool 'delete'"),
    ],
    ids=repr,
)
async def test_approval_that_makes_no_sense(api: Api, emu: Emulator, verdict: Any, said: str):
    emu.reply(calls(("weather", {"city": "Lima"})))
    async with api.client(box(emu)) as client:
        with pytest.raises(lr.InputError, match=said):
            await client.run("?", tools=[weather], on_tool=lambda call: verdict)


# -- time -------------------------------------------------------------------------------------------------------------


def slow_sync() -> str:
    """Slow."""
    time.sleep(5)
    return "late"


async def slow_async() -> str:
    """Slow."""
    import anyio

    await anyio.sleep(5)
    return "late"


@pytest.mark.parametrize("tool", [slow_sync, slow_async])
async def test_a_tool_has_its_time(api: Api, emu: Emulator, tool: Any):
    name = tool.__name__
    emu.reply(calls((name, {}), ("nothing", {})))
    emu.reply("Too slow.")
    began = time.monotonic()
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[tool, nothing], tool_timeout=0.2)
        assert result.results[0].error == "it took longer than 0.2 seconds"
        assert result.results[1].error is None
        assert result.results[0].seconds >= 0.2
        emu.reply(calls((name, {})))
        with pytest.raises(lr.ToolError, match=f"'{name}' failed: it took longer") as caught:
            await client.run("?", tools=[tool], tool_timeout=0.2, on_error="raise")
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert time.monotonic() - began < 9


async def test_a_tools_own_time_wins(api: Api, emu: Emulator):
    def wait() -> str:
        time.sleep(0.3)
        return "there"

    patient = lr.Tool("wait", "Waits.", {"type": "object", "properties": {}}, wait, timeout=9)
    emu.reply(calls(("wait", {})))
    emu.reply("Good.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[patient], tool_timeout=0.05)
    assert result.results[0].text == "there"


async def test_a_timeout_of_the_tools_own_is_no_timeout_of_ours(api: Api, emu: Emulator):
    async def dial() -> str:
        raise TimeoutError("nobody home")

    emu.reply(calls(("dial", {})))
    emu.reply("Good.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[dial], tool_timeout=5)
    assert result.results[0].error == "TimeoutError: nobody home"


@asynchronous
async def test_calls_of_one_turn_run_at_once(api: Api, emu: Emulator):
    import anyio

    meeting = threading.Barrier(2)
    both = [anyio.Event(), anyio.Event()]

    async def first() -> str:
        both[0].set()
        await both[1].wait()
        return "1"

    async def second() -> str:
        both[1].set()
        await both[0].wait()
        return "2"

    def third() -> str:
        return str(meeting.wait(10) >= 0)

    def fourth() -> str:
        return str(meeting.wait(10) >= 0)

    emu.reply(calls(*((name, {}) for name in ("first", "second", "third", "fourth"))))
    emu.reply("All.")
    async with api.client(box(emu)) as client:
        with anyio.fail_after(20):
            result = await client.run("?", tools=[first, second, third, fourth])
    assert [step.text for step in result.results] == ["1", "2", "True", "True"]


@blocking
async def test_blocking_calls_come_one_after_another(api: Api, emu: Emulator):
    threads: list[threading.Thread] = []

    def where() -> None:
        threads.append(threading.current_thread())

    emu.reply(calls(("where", {}), ("where", {})))
    emu.reply("All.")
    async with api.client(box(emu)) as client:
        await client.run("?", tools=[where])
    assert threads == [threading.main_thread()] * 2, "in the caller's thread, where Ctrl-C and locals work"


@asynchronous
async def test_a_failure_stops_the_others(api: Api, emu: Emulator):
    import anyio

    ended: list[str] = []

    async def patient() -> None:
        try:
            await anyio.sleep(30)
        finally:
            ended.append("patient")

    async def hasty() -> None:
        await anyio.sleep(0.05)
        raise LookupError("gone")

    emu.reply(calls(("patient", {}), ("nothing", {}), ("hasty", {})))
    async with api.client(box(emu)) as client:
        with anyio.fail_after(10), pytest.raises(lr.ToolError, match="gone") as caught:
            await client.run("?", tools=[patient, nothing, hasty], on_error="raise")
    assert ended == ["patient"]
    assert caught.value.run is not None
    assert [step.call.name for step in caught.value.run.results] == ["nothing"]


@asynchronous
async def test_cancelling_the_task_cancels_its_tools(api: Api, emu: Emulator):
    import anyio

    started = anyio.Event()
    ended: list[str] = []

    async def patient() -> None:
        started.set()
        try:
            await anyio.sleep(30)
        finally:
            ended.append("patient")

    emu.reply(calls(("patient", {})))
    async with api.client(box(emu)) as client:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(client.run, "?", tools=[patient]))
                await started.wait()
                group.cancel_scope.cancel()
        assert ended == ["patient"]
        emu.reply("Still here.")
        assert (await client.chat("Hi")).text == "Still here."


@pytest.mark.parametrize("api", ["asyncio"], indirect=True)
async def test_a_tool_that_waits_for_a_cancelled_task(api: Api, emu: Emulator):
    async def impatient() -> None:
        task = asyncio.create_task(asyncio.sleep(30))
        await asyncio.sleep(0)
        task.cancel()
        await task

    emu.reply(calls(("impatient", {}), ("nothing", {})))
    emu.reply("Well.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[impatient, nothing])
        assert [step.error for step in result.results] == ["RuntimeError: the tool was cancelled", None]
        emu.reply(calls(("impatient", {})))
        with pytest.raises(lr.ToolError, match="was cancelled"):
            await client.run("?", tools=[impatient], on_error="raise")


# -- kinds of functions -----------------------------------------------------------------------------------------------


class Desk:
    def __init__(self, name: str) -> None:
        self.name = name

    def book(self, city: str) -> str:
        """Book."""
        return f"{self.name} books {city}"

    async def cancel(self, city: str) -> str:
        """Cancel."""
        return f"{self.name} cancels {city}"

    async def __call__(self, city: str) -> str:
        """Ask."""
        return f"{self.name} answers {city}"


async def test_methods_partials_and_objects(api: Api, emu: Emulator):
    desk = Desk("Ana")
    tools = [desk.book, desk.cancel, desk, functools.partial(weather, days=3), functools.partial(clock)]
    emu.reply(
        calls(
            ("book", {"city": "Lima"}),
            ("cancel", {"city": "Lima"}),
            ("Desk", {"city": "Lima"}),
            ("weather", {"city": "Lima"}),
            ("clock", {"zone": "PET"}),
        )
    )
    emu.reply("All.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=tools)
    texts = ["Ana books Lima", "Ana cancels Lima", "Ana answers Lima", "Lima: 21 C", "noon in PET"]
    assert [step.text for step in result.results] == texts


async def test_context_variables_are_seen(api: Api, emu: Emulator):
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    tenant.set("acme")

    def who() -> str:
        return tenant.get()

    async def whose() -> str:
        return tenant.get()

    emu.reply(calls(("who", {}), ("whose", {})))
    emu.reply("Done.")
    async with api.client(box(emu)) as client:
        result = await client.run("?", tools=[who, whose], tool_timeout=5)
    assert [step.text for step in result.results] == ["acme", "acme"]


def test_async_tools_of_a_blocking_client_inside_a_running_loop():
    """As in a notebook, whose thread has a loop already."""
    with Emulator() as emu:
        emu.reply(calls(("clock", {"zone": "PET"}), ("refuse", {})))
        emu.reply("Noon.")

        async def cell() -> lr.RunResult[Any]:
            with lr.Client(box(emu), env={}) as client:
                return client.run("?", tools=[clock, refuse])

        async def refuse() -> None:
            raise LookupError("no")

        results = asyncio.run(cell()).results
        assert [result.text for result in results] == ["noon in PET", "Error: LookupError: no"]


def test_ctrl_c_in_a_tool():
    program = """
        import llamaroute as lr, os, signal, threading, time
        from llamaroute.emulator import Emulator, Reply

        def slow() -> str:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(30)

        with Emulator() as emu:
            emu.reply(Reply(tool_calls=[("slow", {})]))
            with lr.Client({"providers": emu.providers("openai")}, env={}) as client:
                try:
                    client.run("?", tools=[slow], tool_timeout=TIMEOUT)
                except KeyboardInterrupt:
                    print("stopped", len(emu.requests))
    """
    for timeout in ("None", "20"):
        code = textwrap.dedent(program).replace("TIMEOUT", timeout)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "stopped 1\n", done.stderr


def test_one_client_and_one_function_for_many_threads():
    def ask(number: int) -> str:
        return client.run(f"question {number}", tools=[weather], tool_choice="weather").results[0].text

    with Emulator() as emu, lr.Client(box(emu), env={}) as client, ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(ask, range(24)))
    assert len(texts) == 24
    assert all(text.endswith(" C") for text in texts)


# -- arguments --------------------------------------------------------------------------------------------------------

BARE = lr.Tool("f", "d", {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": [BARE]}, "'f' has no call="),
        ({"tools": [{"function": {"name": "f"}}]}, "'f' has no call="),
        ({"tools": weather}, "list of tools"),
        ({"tools": [weather, weather]}, "two tools are called 'weather'"),
        ({"tools": [weather], "tool_choice": "clock"}, "tool_choice"),
        ({"tools": [weather], "max_steps": 0}, "max_steps= takes a whole number from 1, not 0"),
        ({"tools": [weather], "max_steps": True}, "max_steps="),
        ({"tools": [weather], "max_steps": None}, "max_steps="),
        ({"tools": [weather], "tool_timeout": 0}, "tool_timeout= takes seconds above 0"),
        ({"tools": [weather], "tool_timeout": "5"}, "tool_timeout="),
        ({"tools": [weather], "on_error": "ignore"}, "on_error= takes 'return' or 'raise'"),
        ({"tools": [weather], "on_tool": True}, "on_tool= takes a function"),
        ({"tools": [weather], "output_retries": -1}, "output_retries="),
        ({"tools": [weather], "system": 5}, "system= takes text"),
        ({"tools": [weather], "max_step": 5}, r"no argument max_step=; did you mean max_steps=\?"),
        ({"tools": [weather], "temprature": 5}, r"did you mean temperature=\?"),
        ({"tools": [lr.Tool("f", "d", BARE.schema, nothing, timeout=-1)]}, "timeout of tool 'f' takes seconds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "given",
)
async def test_wrong_arguments(api: Api, emu: Emulator, options: dict[str, Any], said: str):
    async with api.client(box(emu)) as client:
        with pytest.raises(lr.InputError, match=said):
            await client.run("?", **options)
    assert emu.requests == []


async def test_run_needs_tools(api: Api, emu: Emulator):
    async with api.client(box(emu)) as client:
        with pytest.raises(TypeError, match="tools"):
            await client.run("?")
