"""`on_break`: streams that break after they have begun, through both clients, against three emulated servers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply

from .api import Api, SyncStream
from .test_routes import config

CHUNKS = ["one ", "two ", "three ", "four ", "five ", "six"]
CUT = {"cut": "mid-frame", "cut_after": 3}
SAID = "one two "


def weather(city: str) -> str:
    """The weather."""
    raise AssertionError("stream never calls a tool")


async def told(stream: Any) -> tuple[str, list[lr.StreamEvent]]:
    """What a caller shows who throws away what is void, and all events but the text."""
    text, events = "", []
    async for event in stream:
        match event:
            case lr.TextDelta(text=more):
                text += more
            case lr.Restarted():
                text = ""
                events.append(event)
            case _:
                events.append(event)
    return text, events


def hosts(emu: Emulator) -> list[str]:
    return [request.host for request in emu.requests]


def asked(response: lr.ChatResponse[Any]) -> list[str]:
    """Attempts, as the emulator names the hosts."""
    names = {"a": "openai", "b": "vllm", "c": "llamacpp"}
    return [names[attempt.target[0]] for attempt in response.attempts]


BREAKS = [
    CUT,
    {"cut": "mid-frame", "cut_after": 3, "framing": "close"},
    {"error_after": 3},
    {"garbage": True, "garbage_after": 3},
    {"stall": 5.0, "stall_after": 3},
]


@pytest.mark.parametrize("fault", BREAKS, ids=["reset", "end", "error", "garbage", "stall"])
async def test_restart(api: Api, emu: Emulator, fault: dict):
    emu.replies(Reply(chunks=CHUNKS), Reply("Another answer."))
    emu.fault(**fault)
    table = config(emu, on_break="restart", timeout={"idle": 0.3})
    async with api.client(table) as client:
        async with client.stream("Hi") as stream:
            text, events = await told(stream)
        response = stream.response
        assert text == response.text == "Another answer."
        first, restarted, second, *_ = events
        assert isinstance(first, lr.Started)
        assert isinstance(restarted, lr.Restarted)
        assert isinstance(second, lr.Started)
        assert (first.target[0], restarted.target[0], second.target[0]) == ("a", "b", "b")
        assert restarted.attempt == response.attempts[0]
        assert restarted.attempt.error is not None
        assert response.target[0] == "b"
        assert "stream_restarted" in [notice.code for notice in response.warnings]
        assert asked(response) == hosts(emu) == ["openai", "vllm"]
        assert client.usage().calls == 1
        assert client.usage().attempts == 2


@pytest.mark.parametrize("fault", BREAKS, ids=["reset", "end", "error", "garbage", "stall"])
async def test_continue(api: Api, emu: Emulator, fault: dict):
    emu.replies(Reply(chunks=CHUNKS), Reply(chunks=["one ", "two", " three"]))
    emu.fault(**fault)
    table = config(emu, on_break="continue", timeout={"idle": 0.3})
    async with api.client(table) as client, client.stream("Hi") as stream:
        text, events = await told(stream)
    response = stream.response
    assert text == response.text == "one two three"
    assert len(response.parts) == 1
    continued = events[1]
    assert isinstance(continued, lr.Continued)
    assert (continued.attempt, continued.target, continued.calls) == (response.attempts[0], response.target, ())
    assert [notice.code for notice in response.warnings].count("stream_continued") == 1
    assert asked(response) == hosts(emu) == ["openai", "vllm"]
    user, assistant, ask = emu.requests[1].json["messages"]
    assert (user["role"], assistant["role"], ask["role"]) == ("user", "assistant", "user")
    assert assistant["content"] == SAID
    assert ask["content"].endswith("\n\none two")


@pytest.mark.parametrize("on_break", ["restart", "continue"])
async def test_usage_and_cost_are_those_of_all_attempts(api: Api, emu: Emulator, on_break: str):
    emu.replies(Reply(chunks=CHUNKS), Reply("and on", usage=(20, 2)))
    emu.fault(**CUT)
    prices = {"llama-4-scout": {"input_price": 1, "output_price": 10}}
    async with api.client(config(emu, on_break=on_break, models=prices)) as client:
        async with client.stream("Hi") as stream:
            await told(stream)
        response, totals = stream.response, client.usage()
    broken, answered = response.attempts
    assert broken.usage is not None
    assert broken.cost is not None
    assert answered.usage is not None
    assert answered.cost is not None
    assert response.cost is not None
    assert (answered.usage.input_tokens, answered.usage.output_tokens) == (20, 2)
    assert broken.usage.estimated
    assert broken.usage.output_tokens > 0
    assert response.usage.input_tokens == broken.usage.input_tokens + 20 == totals.input_tokens
    assert response.usage.output_tokens == broken.usage.output_tokens + 2 == totals.output_tokens
    assert response.cost.usd == broken.cost.usd + answered.cost.usd == totals.cost
    assert response.cost.estimated
    assert response.usage.estimated


async def test_it_goes_on_three_times_and_no_more(api: Api, emu: Emulator):
    emu.replies(*[Reply(chunks=CHUNKS)] * 6)
    emu.fault(times=6, **CUT)
    async with api.client(config(emu, on_break="restart")) as client, client.stream("Hi") as stream:
        with pytest.raises(lr.StreamInterruptedError) as caught:
            await told(stream)
    error = caught.value
    assert len(error.attempts) == len(emu.requests) == 4
    assert [attempt.target[0] for attempt in error.attempts] == ["a", "b", "c", "a"]
    assert error.partial is not None
    assert error.partial.text == SAID


async def test_pieces_of_several_targets_make_one_answer(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply(chunks=["one two ", "three ", "four ", "x"]), Reply("two three four five."))
    emu.fault(**CUT)
    emu.fault(cut="mid-frame", cut_after=4)
    async with api.client(config(emu, on_break="continue")) as client, client.stream("Hi") as stream:
        text, events = await told(stream)
    response = stream.response
    assert text == response.text == "one two three four five."
    assert [type(event).__name__ for event in events if not isinstance(event, lr.UsageReported)] == [
        "Started", "Continued", "Started", "Continued", "Started", "Finished",
    ]  # fmt: skip
    assert asked(response) == hosts(emu) == ["openai", "vllm", "llamacpp"]


async def test_failures_on_the_way_are_told_between(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Anew."))
    emu.fault(**CUT)
    emu.fault(status=503)
    async with api.client(config(emu, on_break="restart")) as client, client.stream("Hi") as stream:
        text, events = await told(stream)
    assert text == "Anew."
    assert [type(event) for event in events[:4]] == [lr.Started, lr.Restarted, lr.FailedOver, lr.Started]
    assert events[1].target[0] == events[2].target[0] == "c"
    assert asked(stream.response) == hosts(emu)


@pytest.mark.parametrize("on_break", ["restart", "continue"])
async def test_nobody_left_to_go_on(api: Api, emu: Emulator, on_break: str):
    emu.reply(Reply(chunks=CHUNKS))
    emu.fault(**CUT)
    emu.fault(times=3, status=503)
    async with api.client(config(emu, on_break=on_break)) as client:
        async with client.stream("Hi") as stream:
            with pytest.raises(lr.StreamInterruptedError, match="it could not go on: none of ") as caught:
                await told(stream)
            with pytest.raises(lr.StreamInterruptedError):
                stream.response
        totals = client.usage()
    error = caught.value
    assert isinstance(error.__cause__, lr.ConnectionError)
    assert error.partial is not None
    assert (error.partial.text, error.partial.target[0]) == (SAID, "a"), "what was said is not void: nobody began anew"
    assert len(error.attempts) == len(emu.requests) == 4
    assert (totals.calls, totals.attempts) == (1, 4)


async def test_one_target_alone_is_asked_again(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("one two three"))
    emu.fault(**CUT)
    async with api.client(config(emu, "a", on_break="continue")) as client, client.stream("Hi") as stream:
        text, _ = await told(stream)
    assert text == "one two three"
    assert hosts(emu) == ["openai", "openai"]


async def test_fail_is_the_default(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=CHUNKS))
    emu.fault(**CUT)
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        with pytest.raises(lr.StreamInterruptedError):
            await told(stream)
    assert len(emu.requests) == 1


@pytest.mark.parametrize("on_break", ["restart", "continue"])
async def test_a_call_that_broke_off_is_void(api: Api, emu: Emulator, on_break: str):
    whole = ("weather", {"city": "Cusco"})
    emu.replies(Reply(tool_calls=[whole]), Reply(tool_calls=[whole]))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break=on_break)) as client, client.stream("Hi", tools=[weather]) as stream:
        _, events = await told(stream)
    assert [type(event) for event in events if isinstance(event, lr.Restarted | lr.ToolCallStarted)] == [
        lr.ToolCallStarted, lr.Restarted, lr.ToolCallStarted,
    ]  # fmt: skip
    (call,) = stream.response.tool_calls
    assert (call.name, call.arguments, call.error) == ("weather", {"city": "Cusco"}, None)
    assert asked(stream.response) == hosts(emu) == ["openai", "vllm"]


async def test_text_before_a_call_that_broke_off_holds(api: Api, emu: Emulator):
    whole = ("weather", {"city": "Cusco"})
    emu.replies(Reply("Let me see.", tool_calls=[whole], chunks=["Let me see."]), Reply(tool_calls=[whole]))
    emu.fault(cut="mid-frame", cut_after=4)
    async with api.client(config(emu, on_break="continue")) as client, client.stream("Hi", tools=[weather]) as stream:
        text, events = await told(stream)
    continued = next(event for event in events if isinstance(event, lr.Continued))
    assert continued.calls == (0,)
    assert text == stream.response.text == "Let me see."
    assert [call.arguments for call in stream.response.tool_calls] == [{"city": "Cusco"}]
    assert [type(part) for part in stream.response.parts] == [lr.Text, lr.ToolCall]


async def test_just_the_text_is_never_begun_anew(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Another answer."))
    emu.fault(**CUT)
    pieces = []
    async with api.client(config(emu, on_break="restart")) as client, client.stream("Hi") as stream:
        text = stream.text()
        pieces.append(await anext(text))
        pieces.append(await anext(text))
        with pytest.raises(lr.StreamInterruptedError):
            await anext(text)
    assert "".join(pieces) == SAID
    assert len(emu.requests) == 1


async def test_just_the_text_is_gone_on_with(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("one two three"))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break="continue")) as client, client.stream("Hi") as stream:
        pieces = [piece async for piece in stream.text()]
    assert "".join(pieces) == "one two three"


async def test_output_begins_anew(api: Api, emu: Emulator):
    emu.replies(Reply('{"n": 12345, "m": 1}', chunks=3), Reply('{"n": 7, "m": 2}'))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break="continue")) as client:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}}
        async with client.stream("Hi", output=schema) as stream:
            _, events = await told(stream)
            assert stream.partial == {"n": 7, "m": 2}
    assert any(isinstance(event, lr.Restarted) for event in events)
    assert stream.response.output == {"n": 7, "m": 2}


async def test_one_deadline(api: Api, emu: Emulator):
    emu.replies(*[Reply(chunks=CHUNKS)] * 4)
    emu.fault(times=4, stall=10.0, stall_after=3)
    table = config(emu, on_break="restart", timeout={"idle": 0.25, "total": 0.6})
    began = time.monotonic()
    async with api.client(table) as client, client.stream("Hi") as stream:
        with pytest.raises(lr.StreamInterruptedError) as caught:
            await told(stream)
    assert time.monotonic() - began < 2.0
    assert caught.value.phase == "total"
    assert len(caught.value.attempts) == len(emu.requests) == 3


async def test_leaving_after_it_went_on(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("word " * 200, chunks=5, chunk_delay=0.05))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break="restart")) as client:
        async with client.stream("Hi") as stream:
            restarted = False
            async for event in stream:
                restarted = restarted or isinstance(event, lr.Restarted)
                if restarted and isinstance(event, lr.TextDelta):
                    break
        assert stream.response.finish_reason == "interrupted"
        assert stream.response.text.startswith("word")
        assert [attempt.error is None for attempt in stream.response.attempts] == [False, True]
        assert client.health()[1].in_flight == 0
        assert client.health()[0].in_flight == 0


def run_of(client: Any) -> Any:
    stream = client.run_stream("Hi", tools=[])
    return SyncStream(stream) if isinstance(stream, lr.RunStream) else stream


async def test_a_run_goes_on_too(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Another answer."))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break="restart")) as client:
        async with run_of(client) as stream:
            text, _ = await told(stream)
        assert text == getattr(stream, "inner", stream).result.text == "Another answer."


async def test_the_text_of_a_run_is_never_begun_anew(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Another answer."))
    emu.fault(**CUT)
    async with api.client(config(emu, on_break="restart")) as client, run_of(client) as stream:
        text = stream.text()
        assert [await anext(text), await anext(text)] == ["one ", "two "]
        with pytest.raises(lr.StreamInterruptedError):
            await anext(text)
    assert len(emu.requests) == 1


async def test_a_host_that_goes_on_from_a_prefill_is_not_told_to(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("two and three"))
    emu.fault(**CUT)
    table = config(emu, "a", "vertex:llama-4-scout", on_break="continue")
    table["providers"] |= emu.providers("vertex")
    async with api.client(table) as client, client.stream("Hi") as stream:
        text, _ = await told(stream)
    assert text == "one two two and three", "what comes is taken as it is: the host repeats nothing"
    messages = emu.requests[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["content"] == SAID


# -- given up while the next target is asked --------------------------------------------------------------------------


def broken_and_slow(emu: Emulator) -> dict[str, Any]:
    """The first stream breaks, the target asked next is silent."""
    emu.replies(Reply(chunks=CHUNKS), Reply("Never heard.", delay=30.0))
    emu.fault(**CUT)
    return config(emu, on_break="restart")


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_while_the_next_target_is_asked(emu: Emulator, backend: str):
    import anyio

    async def main() -> None:
        async with lr.AsyncClient(broken_and_slow(emu)) as client:
            async with client.stream("Hi") as stream:
                with anyio.move_on_after(0.5) as scope:
                    await told(stream)
                assert scope.cancelled_caught
            response = stream.response
            assert (response.text, response.finish_reason, response.target[0]) == (SAID, "interrupted", "a")
            assert [one.error and one.error.type for one in response.attempts] == ["ConnectionError", "Abandoned"]
            assert sum(one.in_flight for one in client.health()) == 0
            assert client.usage().abandoned == 1

    anyio.run(main, backend=backend)
    assert len(emu.requests) == 2
    wait_for(lambda: emu.requests[1].disconnected)


def test_interrupted_from_another_thread_while_the_next_target_is_asked(emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Too late.", delay=0.6))
    emu.fault(**CUT)
    with lr.Client(config(emu, on_break="restart")) as client, client.stream("Hi") as stream:
        seen: list[lr.StreamEvent] = []
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        wait_for(lambda: len(emu.requests) == 2)
        response = stream.interrupt()
        assert (response.text, response.finish_reason) == (SAID, "interrupted")
        reader.join(5.0)
        assert not reader.is_alive()
        assert not any(isinstance(event, lr.Restarted) for event in seen)
        assert stream.response is response
        assert sum(one.in_flight for one in client.health()) == 0
        assert client.usage().calls == 1


# -- before a stream has begun ----------------------------------------------------------------------------------------


async def test_an_error_behind_the_role_is_before_the_answer(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=CHUNKS), Reply("Another answer."))
    emu.fault(error_after=1)
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        text, events = await told(stream)
    assert text == "Another answer."
    assert [type(event) for event in events[:2]] == [lr.FailedOver, lr.Started]


@pytest.mark.parametrize(
    ("tools", "chunks"),
    [
        ("native", ["[wea", "ther(", "city=", '"Lima', '")', "]"]),
        ("emulate", ['{"na', 'me": "weather"', ', "argu', 'ments": ', '{"city":', ' "Lima"}}']),
    ],
)
async def test_text_that_is_held_back_has_not_begun_the_answer(api: Api, emu: Emulator, tools: str, chunks: list[str]):
    """What may become a tool call is held back, in however many events it comes."""
    emu.replies(Reply(chunks=chunks), Reply(chunks=chunks))
    emu.fault(cut="mid-frame", cut_after=3)
    table = config(emu, models={"llama-4-scout": {"features": {"tools": tools}}})
    async with api.client(table) as client, client.stream("Hi", tools=[weather]) as stream:
        text, events = await told(stream)
    assert text == ""
    assert [type(event) for event in events[:2]] == [lr.FailedOver, lr.Started]
    assert [call.arguments for call in stream.response.tool_calls] == [{"city": "Lima"}]
    assert asked(stream.response) == hosts(emu) == ["openai", "vllm"]


async def test_tools_that_a_schema_stands_in_for_go_on(api: Api, emu: Emulator):
    """The pieces are JSON there; what is joined is the text in them."""
    emu.replies(
        Reply(chunks=['{"reply": "', "one ", "two ", "thr", 'ee"}']), Reply('{"reply": "one two three"}', chunks=5)
    )
    emu.fault(cut="mid-frame", cut_after=4)
    table = config(emu, on_break="continue", models={"llama-4-scout": {"features": {"tools": "emulate"}}})
    async with api.client(table) as client, client.stream("Hi", tools=[weather]) as stream:
        text, events = await told(stream)
    assert any(isinstance(event, lr.Continued) for event in events)
    assert text == stream.response.text == "one two three"
