"""Turns that are kept, and turns that are not."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply
from llamaroute.transport.httpx import AsyncHttpxResponse, HttpxResponse
from tests.client.api import Api

from .talk import config, said, talk

WEATHER = lr.ToolCall("c1", "weather", {"city": "Cusco"})


def weather(city: str) -> str:
    """Weather of a city."""
    return f"Sun over {city}"


async def read(stream: Any, then: Exception | None = None) -> None:
    """Read a stream to its end, or raise `then` at its first event."""
    async with stream:
        async for _ in stream:
            if then is not None:
                raise then


async def test_each_turn_is_sent_with_those_before(api: Api, emu: Emulator):
    emu.replies(Reply("In Peru.", usage=(10, 3)), Reply("3,399 m.", usage=(20, 4)))
    async with api.client(config(emu)) as client:
        chat = talk(client, system="Be brief.", temperature=0.5)
        first = await chat.send("Where is Cusco?")
        second = await chat.send(["How high", "is it?"], temperature=0)
    assert (first.text, second.text) == ("In Peru.", "3,399 m.")
    one, two = (request.json for request in emu.requests)
    assert said(one["messages"]) == [("system", "Be brief."), ("user", "Where is Cusco?")]
    assert said(two["messages"])[:3] == [
        ("system", "Be brief."), ("user", "Where is Cusco?"), ("assistant", "In Peru."),
    ]  # fmt: skip
    assert (one["temperature"], two["temperature"]) == (0.5, 0)
    assert said(chat.messages) == [
        ("user", "Where is Cusco?"), ("assistant", "In Peru."), ("user", "How highis it?"), ("assistant", "3,399 m."),
    ]  # fmt: skip
    assert (chat.usage.input_tokens, chat.usage.output_tokens, chat.usage.total_tokens) == (30, 7, 37)
    assert chat.system == "Be brief."


async def test_a_streamed_turn_is_kept_when_it_has_ended(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["In ", "Peru."], usage=(10, 3)))
    async with api.client(config(emu)) as client:
        chat = talk(client)
        stream = chat.stream("Where is Cusco?")
        assert emu.requests == []  # as of a client: nothing is sent before the block is entered
        async with stream:
            pieces = [piece async for piece in stream.text()]
            assert said(chat.messages) == [("user", "Where is Cusco?"), ("assistant", "In Peru.")]
        await chat.send("And Lima?")
    assert pieces == ["In ", "Peru."]
    assert said(emu.requests[1].json["messages"])[1] == ("assistant", "In Peru.")
    assert chat.usage.output_tokens > 3


async def test_it_begins_where_it_is_told_to(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        chat = talk(client, messages=[lr.user("Hi"), lr.assistant("Hello")])
        await chat.send("How are you?")
    assert said(emu.requests[0].json["messages"]) == [
        ("user", "Hi"), ("assistant", "Hello"), ("user", "How are you?"),
    ]  # fmt: skip


# -- interrupted ------------------------------------------------------------------------------------------------------


async def test_an_interrupted_answer_is_kept_as_far_as_it_came(api: Api, emu: Emulator):
    emu.replies(Reply(chunks=["Once ", "upon ", "a time"], chunk_delay=0.05), "As you like.")
    async with api.client(config(emu)) as client:
        chat = talk(client)
        async with chat.stream("Tell me a story") as stream:
            async for piece in stream.text():
                if piece == "upon ":
                    partial = await chat.interrupt()
        assert (partial.text, partial.finish_reason) == ("Once upon ", "interrupted")
        assert stream.response == partial
        await chat.send("A shorter one, please")
        assert await chat.interrupt() is None
    assert said(emu.requests[1].json["messages"]) == [
        ("user", "Tell me a story"), ("assistant", "Once upon "), ("user", "A shorter one, please"),
    ]  # fmt: skip


async def test_leaving_early_is_an_interruption(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["Once ", "upon ", "a time"], chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        chat = talk(client)
        async with chat.stream("Tell me a story") as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    break
        assert stream.response.finish_reason == "interrupted"
    assert said(chat.messages) == [("user", "Tell me a story"), ("assistant", "Once ")]


async def test_a_call_that_was_cut_off_is_not_kept(api: Api, emu: Emulator):
    emu.reply(Reply("Let me see.", tool_calls=[("weather", {"city": "Cusco"})], chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        chat = talk(client, tools=[weather])
        async with chat.stream("Weather?") as stream:
            async for event in stream:
                if isinstance(event, lr.ToolCallStarted):
                    break
        await chat.send("Never mind")
    assert said(chat.messages)[:2] == [("user", "Weather?"), ("assistant", "Let me see.")]
    assert chat.messages[1].tool_calls == ()


async def test_nothing_said_leaves_the_users_turn_alone(api: Api, emu: Emulator):
    emu.reply(Reply(tool_calls=[("weather", {"city": "Cusco"})], chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        chat = talk(client, tools=[weather])
        async with chat.stream("Weather?"):
            pass
    assert said(chat.messages) == [("user", "Weather?")]


def test_another_thread_interrupts_a_stream_that_waits(emu: Emulator):
    """Two-way dialogue: one thread prints what the model says, another hears the user."""
    emu.replies(Reply(chunks=["Once ", "upon "], chunk_delay=30), "Yes?")
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation()
        heard: list[Any] = []

        def listen() -> None:
            while not spoken:
                time.sleep(0.01)
            heard.append(chat.interrupt())

        spoken: list[str] = []
        listener = threading.Thread(target=listen)
        listener.start()
        began = time.monotonic()
        with chat.stream("Tell me a story", timeout=20) as stream:
            spoken.extend(stream.text())
        listener.join()
        assert time.monotonic() - began < 10
        assert spoken == ["Once "]
        assert heard[0].finish_reason == "interrupted"
        assert said(chat.messages) == [("user", "Tell me a story"), ("assistant", "Once ")]
        assert chat.send("Wait").text == "Yes?"
        assert client.usage().calls == 2


@pytest.mark.parametrize("round", range(5))
def test_interrupting_while_the_answer_ends_counts_it_once(emu: Emulator, round: int):
    emu.reply(Reply(chunks=["a"] * 40, chunk_delay=0.001))
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation()
        with chat.stream("Hi") as stream:
            killer = threading.Timer(0.02 + 0.01 * round, chat.interrupt)
            killer.start()
            text = "".join(stream.text())
            killer.join()
        assert client.usage().calls == 1
        assert len(chat.messages) == 2
        assert chat.messages[1].text == stream.response.text
        assert chat.messages[1].text.startswith(text) or text.startswith(chat.messages[1].text)


@pytest.fixture
def late(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer whose connection ends some time after its last event."""
    emu.reply(Reply(chunks=["a", "b"], usage=(1, 2)))
    read, aread = HttpxResponse.read, AsyncHttpxResponse.read

    def slow(self: HttpxResponse, until: float, phase: Any) -> bytes:
        data = read(self, until, phase)
        if not data:
            time.sleep(0.3)
        return data

    async def aslow(self: AsyncHttpxResponse, until: float, phase: Any) -> bytes:
        data = await aread(self, until, phase)
        if not data:
            await anyio.sleep(0.3)
        return data

    monkeypatch.setattr(HttpxResponse, "read", slow)
    monkeypatch.setattr(AsyncHttpxResponse, "read", aslow)


def test_an_answer_that_has_ended_is_whole_whoever_interrupts(emu: Emulator, late: None):
    """The last event has come, and the reader waits a moment for the connection's end, so that it can be used again."""
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation()
        got: list[Any] = []
        with chat.stream("Hi") as stream:
            for event in stream:
                if isinstance(event, lr.TextDelta) and event.text == "b":
                    killer = threading.Timer(0.1, lambda: got.append(chat.interrupt()))
                    killer.start()
            killer.join()
        assert client.usage().calls == 1
        assert stream.response.finish_reason == "stop"
        assert got in ([None], [stream.response])
        assert chat.usage.output_tokens == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_that_has_ended_is_whole_whichever_task_interrupts(emu: Emulator, late: None, backend: str):

    async def main() -> None:
        async with lr.AsyncClient(config(emu), env={}, transport="httpx") as client:
            chat = client.conversation()

            async def kill() -> None:
                await anyio.sleep(0.1)
                assert await chat.interrupt() in (None, stream.response)

            async with anyio.create_task_group() as group, chat.stream("Hi") as stream:
                async for event in stream:
                    if isinstance(event, lr.TextDelta) and event.text == "b":
                        group.start_soon(kill)
            assert client.usage().calls == 1
            assert stream.response.finish_reason == "stop"
            assert chat.usage.output_tokens == 2

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_another_task_interrupts_a_stream_that_waits(emu: Emulator, backend: str):
    emu.replies(Reply(chunks=["Once ", "upon "], chunk_delay=30), "Yes?")

    async def main() -> None:
        async with lr.AsyncClient(config(emu), env={}) as client:
            chat = client.conversation()
            spoken: list[str] = []

            async def listen() -> None:
                while not spoken:
                    await anyio.sleep(0.01)
                assert (await chat.interrupt()).text == "Once "  # type: ignore[union-attr]

            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                with anyio.fail_after(10):
                    async with chat.stream("Tell me a story") as stream:
                        async for piece in stream.text():
                            spoken.append(piece)
                    # At once: the listener has not come back from interrupting yet.
                    assert said(chat.messages) == [("user", "Tell me a story"), ("assistant", "Once ")]
                    assert (await chat.send("Wait")).text == "Yes?"

    anyio.run(main, backend=backend)


# -- failed -----------------------------------------------------------------------------------------------------------


async def test_what_failed_was_never_said(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        chat = talk(client)
        await chat.send("Hi")
        before = chat.messages
        emu.fault(status=401, times=2)
        with pytest.raises(lr.AuthenticationError):
            await chat.send("Are you there?")
        with pytest.raises(lr.AuthenticationError):
            async with chat.stream("Are you there?"):
                pass
        with pytest.raises(lr.InputError):
            await chat.send([])
        assert chat.messages == before
        await chat.send("And now?")
    assert [role for role, _ in said(emu.requests[-1].json["messages"])] == ["user", "assistant", "user"]
    assert chat.usage.total_tokens > 0


async def test_a_stream_that_broke_was_never_said(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["Once ", "upon "]))
    emu.fault(cut="mid-frame", cut_after=2)
    async with api.client(config(emu)) as client:
        chat = talk(client)
        with pytest.raises(lr.StreamInterruptedError) as caught:
            await read(chat.stream("Tell me a story"))
        assert caught.value.partial is not None
        assert chat.messages == ()
        assert (await chat.send("Again")).text


async def test_an_exception_that_leaves_the_block_leaves_the_conversation(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["Once ", "upon ", "a time"], chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        chat = talk(client)
        with pytest.raises(ZeroDivisionError):
            await read(chat.stream("Tell me a story"), then=ZeroDivisionError())
        assert chat.messages == ()
        assert (await chat.send("Again")).text


async def test_output_that_does_not_fit_was_never_said(api: Api, emu: Emulator):
    emu.replies("no JSON", '{"a": 1}')
    async with api.client(config(emu)) as client:
        chat = talk(client, output={"type": "object"}, output_retries=0)
        with pytest.raises(lr.OutputValidationError):
            await chat.send("JSON, please")
        assert chat.messages == ()
        assert (await chat.send("JSON, please")).output == {"a": 1}
        emu.reply("no JSON")
        with pytest.raises(lr.OutputValidationError):
            await read(chat.stream("More"))
    assert len(chat.messages) == 2


async def test_one_turn_at_a_time(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["a", "b"], chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        chat = talk(client)
        async with chat.stream("Hi") as stream:
            with pytest.raises(lr.InputError, match="this conversation waits for an answer already; interrupt\\(\\)"):
                await chat.send("Me too")
            with pytest.raises(lr.InputError, match="already"):
                async with chat.stream("Me too"):
                    pass
            branch = chat.branch()
            assert (await branch.send("I may")).text == "You said: I may"
            async for _ in stream:
                pass
            assert (await chat.send("Now")).text  # the first one has ended
    assert len(emu.requests) == 3


def test_two_threads_at_once(emu: Emulator):
    emu.reply(Reply("Hello", delay=0.3))
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation()
        results: list[Any] = []

        def send() -> None:
            try:
                results.append(chat.send("Hi").text)
            except lr.InputError as error:
                results.append(type(error))

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(str, results)) == sorted(map(str, ["Hello", lr.InputError]))
    assert len(chat.messages) == 2


def test_a_stream_that_was_lost_frees_the_conversation(emu: Emulator):
    import gc

    emu.replies(Reply(chunks=["a", "b"], chunk_delay=0.05), "Yes")
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation()
        stream = chat.stream("Hi")
        stream.__enter__()
        chat._stream = None  # all that else keeps it
        del stream
        gc.collect()
        assert chat.send("There?").text == "Yes"


# -- tools ------------------------------------------------------------------------------------------------------------


async def test_calls_wait_for_their_results(api: Api, emu: Emulator):
    emu.replies(Reply(tool_calls=[("weather", {"city": "Cusco"})]), "Sunny.")
    async with api.client(config(emu)) as client:
        chat = talk(client, tools=[weather])
        reply = await chat.send("Weather in Cusco?")
        with pytest.raises(lr.InputError, match=r"the model waits for the results of weather: send tool_result"):
            await chat.send("Well?")
        assert (await chat.send(lr.tool_result(reply.tool_calls[0], "Sun"))).text == "Sunny."
    assert [message.role for message in chat.messages] == ["user", "assistant", "tool", "assistant"]


async def test_run_makes_its_steps_part_of_it(api: Api, emu: Emulator):
    emu.replies(
        Reply(tool_calls=[("weather", {"city": "Cusco"})], usage=(10, 5)), Reply("Sunny.", usage=(20, 2)), "Bye"
    )
    async with api.client(config(emu)) as client:
        chat = talk(client, system="Be brief.", tools=[weather])
        result = await chat.run("Weather in Cusco?")
        assert result.text == "Sunny."
        await chat.send("Thanks")
    assert [message.role for message in chat.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert chat.messages[2].text == "Sun over Cusco"
    assert [role for role, _ in said(emu.requests[-1].json["messages"])] == [
        "system", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert chat.usage.input_tokens >= 30


async def test_a_run_that_ran_out_of_steps_goes_on(api: Api, emu: Emulator):
    emu.replies(*[Reply(tool_calls=[("weather", {"city": "Cusco"})])] * 2, "Sunny.")
    async with api.client(config(emu)) as client:
        chat = talk(client)
        result = await chat.run("Weather?", tools=[weather], max_steps=1)
        assert result.finish_reason == "max_steps"
        with pytest.raises(lr.InputError, match="waits for the results of weather"):
            await chat.send("Well?")
    assert [message.role for message in chat.messages] == ["user", "assistant"]


# -- arguments --------------------------------------------------------------------------------------------------------


async def test_wrong_arguments_are_told_at_once(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        with pytest.raises(lr.InputError, match=r"no argument temprature=; did you mean temperature=\?"):
            talk(client, temprature=1)
        with pytest.raises(lr.InputError, match="max_tokens= must be at least 1"):
            talk(client, max_tokens=0)
        with pytest.raises(lr.InputError, match="system prompt is its system=, not a turn"):
            await talk(client).send([lr.system("Be brief."), "Hi"])
    assert emu.requests == []


async def test_a_branch_goes_its_own_way(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        chat = talk(client, system="Be brief.")
        await chat.send("Hi")
        branch = chat.branch()
        await branch.send("left")
        await chat.send("right")
    assert branch.system == "Be brief."
    assert [text for _, text in said(chat.messages)][2] == "right"
    assert [text for _, text in said(branch.messages)][2] == "left"
    assert chat.messages[:2] == branch.messages[:2]
    assert branch.usage.total_tokens < chat.usage.total_tokens


async def test_it_is_trimmed_to_fit(api: Api, emu: Emulator):
    emu.replies(*(f"answer {i} " + "word " * 300 for i in range(6)))
    made = config(emu, models={"llama-4-scout": {"context_window": 1500, "ids": {"openai": "llama-4-scout"}}})
    async with api.client(made) as client:
        chat = talk(client, system="Be brief.", fit="trim", max_tokens=400)
        replies = [await chat.send(f"question {i}") for i in range(6)]
    assert len(chat.messages) == 12  # the conversation itself forgets nothing
    last = said(emu.requests[-1].json["messages"])
    assert last[0] == ("system", "Be brief.")
    assert last[-1] == ("user", "question 5")
    assert 2 < len(last) < 12
    assert [notice.code for notice in replies[-1].warnings] == ["history_trimmed"]
