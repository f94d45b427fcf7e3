"""`run_stream`: one stream over all turns, and what becomes of it when it is left."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply
from tests.client.api import Api
from tests.tools.test_run import Forecast, asynchronous, blocking, box, broken, calls, clock, nothing, sent, weather


def kinds(events: list[Any]) -> list[str]:
    """The events' names, runs of one kind as one, without those that only some hosts send."""
    names = [type(event).__name__ for event in events]
    names = [name for name in names if name not in ("UsageReported",)]
    return [name for index, name in enumerate(names) if not index or names[index - 1] != name]


async def test_one_stream_over_all_turns(api: Api, emu: Emulator):
    emu.reply(calls(("weather", {"city": "Cusco", "days": "2"}), usage=(100, 10)))
    emu.reply(Reply("It will be 20 C.", usage=(130, 7)))
    async with api.client(box(emu)) as client:
        async with client.run_stream("And in Cusco?", tools=[weather], system="Be brief.") as stream:
            with pytest.raises(lr.InputError, match="has not ended"):
                stream.result
            events = [event async for event in stream]
            assert [event async for event in stream] == []
        result = stream.result
    assert kinds(events) == [
        "Started",
        "ToolCallStarted",
        "ToolCallDelta",
        "ToolCallDone",
        "Finished",
        "ToolResult",
        "Started",
        "TextDelta",
        "Finished",
    ]
    done = next(event for event in events if isinstance(event, lr.ToolResult))
    assert (done.call.arguments, done.text, done.error) == ({"city": "Cusco", "days": 2}, "Cusco: 20 C", None)
    assert result.results == (done,)
    assert "".join(event.text for event in events if isinstance(event, lr.TextDelta)) == result.text
    assert result.text == "It will be 20 C."
    assert result.finish_reason == "stop"
    assert (result.usage.input_tokens, result.usage.output_tokens) == (230, 17)
    assert all(request.json["stream"] is True for request in emu.requests)
    assert client.usage().calls == 2


async def test_the_same_result_as_run(api: Api, emu: Emulator):
    script = [
        calls(("weather", {"city": "Lima"}), ("clock", {"zone": "PET"})),
        calls(("weather", {})),
        calls(("broken", {"city": "x"})),
        Reply("Done."),
    ]
    for reply in [*script, *script]:
        emu.reply(reply)
    tools = [weather, clock, broken]
    async with api.client(box(emu)) as client:
        plain = await client.run("?", tools=tools)
        async with client.run_stream("?", tools=tools) as stream:
            async for _ in stream:
                pass
        result = stream.result
    assert [type(step) for step in result.steps] == [type(step) for step in plain.steps]
    assert [(r.text, r.error) for r in result.results] == [(r.text, r.error) for r in plain.results]
    assert [(m.role, m.text) for m in result.messages] == [(m.role, m.text) for m in plain.messages]
    assert (result.text, result.finish_reason) == (plain.text, plain.finish_reason)


@pytest.mark.parametrize("host", ["cloudflare", "azure", "databricks", "bedrock", "vertex", "huggingface", "vllm"])
async def test_streams_of_other_hosts(api: Api, emu: Emulator, host: str):
    emu.reply(calls(("weather", {"city": "Cusco"})))
    emu.reply("It will be 19 C.")
    async with api.client(box(emu, host)) as client, client.run_stream("And in Cusco?", tools=[weather]) as stream:
        text = "".join([piece async for piece in stream.text()])
    assert text == "It will be 19 C."
    assert stream.result.results[0].text == "Cusco: 19 C"


async def test_text_of_all_turns(api: Api, emu: Emulator):
    emu.reply(Reply("Let me see. ", tool_calls=[("nothing", {})]))
    emu.reply("Nothing.")
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing]) as stream:
        assert "".join([piece async for piece in stream.text()]) == "Let me see. Nothing."
    assert stream.result.text == "Nothing."
    assert sent(emu)[1]["content"] == "Let me see. "


async def test_structured_output_while_it_comes(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {})))
    emu.reply(Reply(chunks=['{"city": "Li', 'ma", "degrees": 19}']))
    seen: list[Any] = []
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing], output=Forecast) as stream:
        async for event in stream:
            if isinstance(event, lr.TextDelta):
                seen.append(stream.partial)
    assert seen[0] == {"city": "Li"}
    assert stream.result.output == Forecast(city="Lima", degrees=19)


async def test_an_answer_that_does_not_fit(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {})))
    emu.reply("Nope.")
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing], output=Forecast) as stream:
        with pytest.raises(lr.OutputValidationError) as caught:
            async for _ in stream:
                pass
    assert caught.value.run is not None
    assert caught.value.run.text == "Nope."
    assert len(caught.value.run.steps) == 3
    with pytest.raises(lr.OutputValidationError):
        stream.result


# -- errors -----------------------------------------------------------------------------------------------------------


async def test_entering_raises_what_chat_raises(api: Api, emu: Emulator):
    async with api.client(box(emu)) as client:
        emu.fault(status=401, times=1)
        with pytest.raises(lr.AuthenticationError):
            async with client.run_stream("?", tools=[weather]):
                raise AssertionError("not reached")
        with pytest.raises(lr.InputError, match="max_steps"):
            async with client.run_stream("?", tools=[weather], max_steps=0):
                raise AssertionError("not reached")
        with pytest.raises(lr.InputError, match="context manager"):
            client.run_stream("?", tools=[weather]).result


async def test_a_later_turn_that_fails(api: Api, emu: Emulator):
    def lose_key() -> str:
        emu.fault(status=401, times=1)
        return "lost"

    emu.reply(calls(("lose_key", {})))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[lose_key]) as stream:
        with pytest.raises(lr.AuthenticationError) as caught:
            async for _ in stream:
                pass
        assert [event async for event in stream] == []
    assert caught.value.run is not None
    assert [type(step) for step in caught.value.run.steps] == [lr.ChatResponse, lr.ToolResult]


async def test_a_stream_that_breaks_off(api: Api, emu: Emulator):
    def cut() -> str:
        emu.fault(cut="mid-frame", cut_after=4, times=1)
        return "cut"

    emu.reply(calls(("cut", {})))
    emu.reply(Reply(chunks=["one ", "two ", "three ", "four ", "five"]))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[cut]) as stream:
        with pytest.raises(lr.StreamInterruptedError) as caught:
            async for _ in stream:
                pass
    run = caught.value.run
    assert run is not None
    assert run.finish_reason == "interrupted"
    assert run.text.startswith("one ")
    assert run.messages[-1] == lr.assistant(run.text), "what was said is kept"


async def test_a_tool_that_ends_the_run(api: Api, emu: Emulator):
    emu.reply(calls(("broken", {"city": "x"})))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[broken], on_error="raise") as stream:
        with pytest.raises(lr.ToolError, match="no x here") as caught:
            async for _ in stream:
                pass
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.run is not None


async def test_steps_are_bounded(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {})))
    emu.reply(calls(("nothing", {})))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing], max_steps=2) as stream:
        events = [event async for event in stream]
    assert sum(isinstance(event, lr.ToolResult) for event in events) == 1
    assert stream.result.finish_reason == "max_steps"
    assert len(stream.result.tool_calls) == 1


async def test_a_run_that_begins_with_tools(api: Api, emu: Emulator):
    emu.reply("Well.")
    call = lr.ToolCall("c1", "weather", {"city": "Lima"})
    history = [lr.user("?"), lr.assistant(call)]
    async with api.client(box(emu)) as client, client.run_stream(history, tools=[weather]) as stream:
        assert emu.requests == []
        events = [event async for event in stream]
    assert kinds(events) == ["ToolResult", "Started", "TextDelta", "Finished"]


# -- leaving ----------------------------------------------------------------------------------------------------------


def closed_early(emu: Emulator, at: int = -1) -> bool:
    """Whether the client hung up on a request before its answer was whole, as the server saw it."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if emu.requests[at].disconnected:
            return True
        time.sleep(0.02)
    return False


async def test_leaving_in_the_middle_of_a_turn(api: Api, emu: Emulator):
    emu.reply(calls(("nothing", {})))
    emu.reply(Reply(chunks=["one ", *(["more "] * 200)], chunk_delay=0.05))
    async with api.client(box(emu)) as client:
        async with client.run_stream("?", tools=[nothing]) as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    break
        result = stream.result
        assert result.finish_reason == "interrupted"
        assert [type(step) for step in result.steps] == [lr.ChatResponse, lr.ToolResult, lr.ChatResponse]
        assert result.text == "one "
        assert result.messages[-1] == lr.assistant("one ")
        assert closed_early(emu)
        assert [event async for event in stream] == []


async def test_leaving_before_anything_was_read(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["one ", *(["more "] * 200)], chunk_delay=0.05))
    async with api.client(box(emu)) as client:
        async with client.run_stream("?", tools=[nothing]) as stream:
            pass
        assert closed_early(emu)
    assert stream.result.finish_reason == "interrupted"


async def test_leaving_between_a_turn_and_its_tools(api: Api, emu: Emulator):
    made: list[int] = []

    def note() -> None:
        made.append(1)

    emu.reply(calls(("note", {})))
    async with api.client(box(emu)) as client:
        async with client.run_stream("?", tools=[note]) as stream:
            async for event in stream:
                if isinstance(event, lr.Finished):
                    break
        result = stream.result
        assert made == []
        assert result.finish_reason == "interrupted"
        emu.reply("Noted.")
        again = await client.run(result.messages, tools=[note])
    assert (made, again.text) == ([1], "Noted.")


async def test_leaving_after_the_last_turn_is_no_interruption(api: Api, emu: Emulator):
    emu.reply("Hello.")
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing]) as stream:
        async for event in stream:
            if isinstance(event, lr.Finished):
                break
    assert (stream.result.finish_reason, stream.result.text) == ("stop", "Hello.")


async def test_an_error_in_the_block_leaves_it(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["one ", *(["more "] * 200)], chunk_delay=0.05))

    async def fail(client: Any) -> None:
        async with client.run_stream("?", tools=[nothing]) as stream:
            async for _ in stream:
                raise LookupError

    async with api.client(box(emu)) as client:
        with pytest.raises(LookupError):
            await fail(client)
        assert closed_early(emu)


async def test_interrupting(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["one ", *(["more "] * 200)], chunk_delay=0.05))
    async with api.client(box(emu)) as client:
        async with client.run_stream("?", tools=[nothing]) as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    result = await stream.interrupt()
        assert result == stream.result
        assert (result.text, result.finish_reason) == ("one ", "interrupted")
        emu.reply("Sure.")
        assert (await client.chat([*result.messages, "Shorter, please"])).text == "Sure."
    assert [message["role"] for message in sent(emu)] == ["user", "assistant", "user"]


@blocking
async def test_what_is_left_is_not_called(api: Api, emu: Emulator):
    made: list[str] = []

    def note(text: str) -> str:
        made.append(text)
        return text

    emu.reply(calls(("note", {"text": "a"}), ("note", {"text": "b"})))
    async with api.client(box(emu)) as client:
        async with client.run_stream("?", tools=[note]) as stream:
            async for event in stream:
                if isinstance(event, lr.ToolResult):
                    break
        assert made == ["a"]
        emu.reply("Noted.")
        await client.run(stream.result.messages, tools=[note])
    assert made == ["a", "b"], "and can be made up for"


@blocking
async def test_interrupting_from_another_thread(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["one ", *(["more "] * 400)], chunk_delay=0.05))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing]) as stream:
        timer = threading.Timer(0.5, stream.inner.interrupt)
        timer.start()
        began = time.monotonic()
        events = [event async for event in stream]
        result = stream.result
        timer.join()
    assert time.monotonic() - began < 5
    assert events
    assert result.finish_reason == "interrupted"
    assert result.text.startswith("one ")


@asynchronous
async def test_interrupting_from_another_task(api: Api, emu: Emulator):
    import anyio

    emu.reply(Reply(chunks=["one ", *(["more "] * 400)], chunk_delay=0.05))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing]) as stream:

        async def later() -> None:
            await anyio.sleep(0.5)
            await stream.interrupt()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(later)
                events = [event async for event in stream]
                result = stream.result
    assert events
    assert result.finish_reason == "interrupted"
    assert result.text.startswith("one ")


@asynchronous
async def test_interrupting_while_tools_run(api: Api, emu: Emulator):
    import anyio

    begun = anyio.Event()
    ended: list[str] = []

    async def patient() -> None:
        begun.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.append("patient")

    emu.reply(calls(("nothing", {}), ("patient", {})))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[nothing, patient]) as stream:

        async def later() -> None:
            await begun.wait()
            await anyio.sleep(0.5)  # by now, the other is done
            await stream.interrupt()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(later)
                events = [event async for event in stream]
    assert ended == ["patient"]
    assert [event.call.name for event in events if isinstance(event, lr.ToolResult)] == ["nothing"]
    assert stream.result.finish_reason == "interrupted"
    assert [step.call.name for step in stream.result.results] == ["nothing"]


async def test_a_tool_that_interrupts_its_own_run(api: Api, emu: Emulator):
    streams: list[Any] = []

    async def stop() -> str:
        await streams[0].interrupt()
        return "stopped"

    emu.reply(calls(("stop", {})))
    async with api.client(box(emu)) as client, client.run_stream("?", tools=[stop]) as stream:
        streams.append(stream)
        async for _ in stream:
            pass
    assert stream.result.finish_reason == "interrupted"
    assert len(emu.requests) == 1


@asynchronous
@pytest.mark.parametrize("where", ["in a tool", "in a turn"])
async def test_cancelling_the_task(api: Api, emu: Emulator, where: str):
    import anyio

    begun = anyio.Event()
    ended: list[str] = []
    streams: list[Any] = []

    async def patient() -> None:
        begun.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.append("patient")

    async def read() -> None:
        async with client.run_stream("?", tools=[patient]) as stream:
            streams.append(stream)
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    begun.set()

    long = Reply(chunks=["one ", *(["more "] * 400)], chunk_delay=0.05)
    emu.reply(calls(("patient", {})) if where == "in a tool" else long)
    async with api.client(box(emu)) as client:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await begun.wait()
                group.cancel_scope.cancel()
        assert streams[0].result.finish_reason == "interrupted"
        if where == "in a tool":
            assert ended == ["patient"]
        else:
            assert closed_early(emu)
            assert streams[0].result.text.startswith("one ")


def test_ctrl_c_in_the_middle_of_a_turn_and_in_a_tool():
    program = """
        import llamaroute as lr, os, signal, threading, time, json
        from llamaroute.emulator import Emulator, Reply

        def slow() -> str:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(30)

        with Emulator() as emu, lr.Client({"providers": emu.providers("openai")}, env={}) as client:
            for reply in (Reply(tool_calls=[("slow", {})]), Reply(chunks=["a "] * 400, chunk_delay=0.05)):
                emu.reply(reply)
                try:
                    with client.run_stream("?", tools=[slow]) as stream:
                        for event in stream:
                            if isinstance(event, lr.TextDelta):
                                os.kill(os.getpid(), signal.SIGINT)
                except KeyboardInterrupt:
                    print(stream.result.finish_reason, len(stream.result.steps))
    """
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "interrupted 1\ninterrupted 1\n", done.stderr


async def test_a_stream_that_is_never_entered(api: Api, emu: Emulator):
    async with api.client(box(emu)) as client:
        stream = client.run_stream("?", tools=[nothing])
        with pytest.raises(lr.InputError, match="context manager"):
            async for _ in stream:
                pass
        with pytest.raises(lr.InputError, match="context manager"):
            await stream.interrupt()
        with pytest.raises(lr.InputError, match="context manager"):
            stream.partial
    assert emu.requests == []


def test_results_as_json():
    """For logs and transports: a result is plain data."""
    done = lr.ToolResult(lr.ToolCall("c1", "weather", {"city": "Lima"}), (lr.Text("19 C"),), None, 0.5)
    from pydantic_core import to_json

    assert json.loads(to_json(done))["call"]["name"] == "weather"
    assert done.message == lr.tool_result(done.call, "19 C")
