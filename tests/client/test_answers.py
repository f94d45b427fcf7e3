"""Answers and streams, against the emulator: one body of tests for both clients."""

from __future__ import annotations

import datetime

import pytest
from pydantic import BaseModel

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply

from .api import Api, box, boxes


def config(emu: Emulator, **more):
    return box(emu.base_url("openai"), api_key=emu.key("openai"), **more)


def weather(city: str) -> str:
    """The weather."""
    raise AssertionError("chat and stream never call a tool")


async def events_of(stream, seen: list[lr.StreamEvent] | None = None) -> list[lr.StreamEvent]:
    """All events; they are in `seen` too when the stream breaks."""
    events = [] if seen is None else seen
    async for event in stream:
        events.append(event)
    return events


# -- plain ------------------------------------------------------------------------------------------------------------


async def test_a_plain_answer_is_complete(api: Api, emu: Emulator):
    emu.reply(Reply("Because of Rayleigh scattering.", usage=(11, 7), cached_tokens=2))
    async with api.client(config(emu)) as client:
        reply = await client.chat("Why is the sky blue?", system="Be brief.", temperature=0.5, max_tokens=50)
    assert reply.text == "Because of Rayleigh scattering."
    assert reply.parts == (lr.Text(reply.text),)
    assert (reply.finish_reason, reply.raw_finish_reason) == ("stop", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (11, 7, 18)
    assert reply.usage.cached_tokens == 2
    assert not reply.usage.estimated
    assert (reply.provider, reply.provider_kind) == ("box", "openai-compatible")
    assert (reply.model, reply.model_id, reply.target) == ("llama-4-scout", "llama-4-scout", "box:llama-4-scout")
    assert reply.request_id is not None
    assert reply.request_id.startswith("req_")
    assert reply.id.startswith("chatcmpl-")
    assert reply.created is not None
    assert reply.created.tzinfo is datetime.UTC
    assert reply.raw["choices"][0]["message"]["content"] == reply.text
    assert reply.warnings == ()
    (attempt,) = reply.attempts
    assert (attempt.target, attempt.status, attempt.error) == ("box:llama-4-scout", 200, None)
    assert attempt.usage == reply.usage
    timing = reply.timing
    assert timing.first_token is not None
    assert 0 < timing.connect <= timing.first_token <= timing.total
    body = emu.requests[0].json
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert (body["temperature"], body["max_tokens"]) == (0.5, 50)
    assert "stream" not in body


async def test_tool_calls(api: Api, emu: Emulator):
    emu.reply(Reply(tool_calls=[("weather", {"city": "Cusco"}), ("weather", "no json")]))
    async with api.client(config(emu)) as client:
        reply = await client.chat("Weather?", tools=[weather], output_retries=0)
    first, second = reply.tool_calls
    assert (first.name, first.arguments, first.error) == ("weather", {"city": "Cusco"}, None)
    assert second.arguments == {}
    assert second.raw_arguments == "no json"
    assert second.error is not None
    assert reply.finish_reason == "tool_calls"
    assert reply.message.tool_calls == (first, second)


async def test_a_conversation_goes_on(api: Api, emu: Emulator):
    emu.replies(Reply(tool_calls=[("weather", {"city": "Cusco"})]), "Sunny.")
    async with api.client(config(emu)) as client:
        question = lr.user("Weather?")
        first = await client.chat([question], tools=[weather])
        history = [question, first.message, lr.tool_result(first.tool_calls[0], "18 degrees")]
        second = await client.chat(history, tools=[weather])
    assert second.text == "Sunny."
    sent = emu.requests[1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[2]["tool_call_id"] == first.tool_calls[0].id


async def test_missing_usage_is_estimated_and_told(api: Api, emu: Emulator):
    emu.fault(missing_usage=True, times=2)
    async with api.client(config(emu)) as client:
        reply = await client.chat("Hi there")
        async with client.stream("Hi there") as stream:
            await events_of(stream)
        for made in (reply, stream.response):
            assert made.usage.estimated
            assert made.usage.output_tokens > 0
            assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
            assert "usage_estimated" in [notice.code for notice in made.warnings]
            assert made.attempts[-1].usage == made.usage


class City(BaseModel):
    name: str
    people: int


async def test_output(api: Api, emu: Emulator):
    emu.reply('{"name": "Cusco", "people": 428450}')
    async with api.client(config(emu)) as client:
        reply = await client.chat("A city", output=City)
    assert reply.output == City(name="Cusco", people=428450)
    assert reply.output_mode == "native"
    assert emu.requests[0].json["response_format"]["json_schema"]["name"] == "City"


async def test_output_that_does_not_fit_has_the_whole_answer(api: Api, emu: Emulator):
    emu.replies(Reply('{"name": 1}', usage=(5, 6)), Reply('{"name": 2}', usage=(5, 6)))
    async with api.client(config(emu)) as client:
        with pytest.raises(lr.OutputValidationError) as caught:
            await client.chat("A city", output=City)
        totals = client.usage()
    reply = caught.value.reply
    assert reply is not None
    assert reply.text == '{"name": 2}'
    assert (reply.provider, reply.target) == ("box", "box:llama-4-scout")
    assert len(reply.attempts) == 2
    assert any("people" in line for line in caught.value.errors)
    assert (totals.failed, totals.attempts) == (1, 2)
    assert (totals.input_tokens, totals.output_tokens) == (10, 12), "these tokens were paid for"


async def test_partial_output_of_a_stream(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=['{"name": "Cu', 'sco", "people": 4', "28450}"]))
    async with api.client(config(emu)) as client:
        seen = []
        async with client.stream("A city", output=City) as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    seen.append(stream.partial)
        assert seen[0] == {"name": "Cu"}
        assert seen[-1] == {"name": "Cusco", "people": 428450}
        assert stream.response.output == City(name="Cusco", people=428450)


async def test_a_streamed_output_that_does_not_fit_is_an_error_at_the_end(api: Api, emu: Emulator):
    emu.reply('{"name": 1}')
    async with api.client(config(emu)) as client:
        async with client.stream("A city", output=City) as stream:
            with pytest.raises(lr.OutputValidationError):
                await events_of(stream)
        with pytest.raises(lr.OutputValidationError) as caught:
            stream.response
    assert caught.value.reply is not None
    assert caught.value.reply.target == "box:llama-4-scout"


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_streams_events(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["Hel", "lo"], usage=(3, 4)))
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        events = await events_of(stream)
    started, first, second, usage, finished = events
    assert started == lr.Started("box:llama-4-scout", "llama-4-scout")
    assert (first, second) == (lr.TextDelta("Hel"), lr.TextDelta("lo"))
    assert isinstance(usage, lr.UsageReported)
    assert usage.usage.total_tokens == 7
    assert finished == lr.Finished("stop", "stop")
    response = stream.response
    assert response.text == "Hello"
    assert response.usage == usage.usage
    assert response.request_id is not None
    assert response.attempts[0].status == 200
    assert response.attempts[0].usage == usage.usage
    assert response.timing.first_token is not None
    assert response.timing.first_token <= response.timing.total
    assert emu.requests[0].json["stream"] is True


async def test_a_stream_and_a_plain_call_give_the_same_answer(api: Api, emu: Emulator):
    same = Reply("Hello there", usage=(3, 4))
    emu.replies(same, same)
    async with api.client(config(emu)) as client:
        plain = await client.chat("Hi")
        async with client.stream("Hi") as stream:
            await events_of(stream)
    changing = {"id", "created", "request_id", "timing", "attempts", "raw", "usage"}
    assert stream.response.model_dump(exclude=changing) == plain.model_dump(exclude=changing)
    assert stream.response.usage.total_tokens == plain.usage.total_tokens


async def test_tool_calls_in_a_stream(api: Api, emu: Emulator):
    emu.reply(Reply("Let me see.", tool_calls=[("weather", {"city": "Cusco"}), ("weather", {"city": "Lima"})]))
    async with api.client(config(emu)) as client, client.stream("Weather?", tools=[weather]) as stream:
        events = await events_of(stream)
    started = [event for event in events if isinstance(event, lr.ToolCallStarted)]
    done = [event for event in events if isinstance(event, lr.ToolCallDone)]
    assert [event.index for event in started] == [event.index for event in done] == [0, 1]
    for event in done:
        pieces = [
            piece.arguments for piece in events if isinstance(piece, lr.ToolCallDelta) and piece.index == event.index
        ]
        assert "".join(pieces) == event.call.raw_arguments
    assert [call.arguments["city"] for call in stream.response.tool_calls] == ["Cusco", "Lima"]
    assert stream.response.tool_calls == tuple(event.call for event in done)
    assert stream.response.finish_reason == "tool_calls"


async def test_just_the_text(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["a", "b", "c"]))
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        assert [piece async for piece in stream.text()] == ["a", "b", "c"]
        assert stream.response.text == "abc"


async def test_nothing_is_sent_before_the_block_is_entered(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        stream = client.stream("Hi")
        assert emu.requests == []
        async with stream:
            assert len(emu.requests) == 1
            await events_of(stream)


async def test_a_stream_outside_of_its_block(api: Api, emu: Emulator):
    async with api.client(config(emu)) as client:
        stream = client.stream("Hi")
        with pytest.raises(lr.LlamarouteError, match="context manager"):
            await anext(stream)
        with pytest.raises(lr.LlamarouteError):
            stream.response


async def test_the_response_is_there_only_at_the_end(api: Api, emu: Emulator):
    emu.reply(Reply(chunks=["a", "b"]))
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        async for event in stream:
            if isinstance(event, lr.Finished):
                break
            with pytest.raises(lr.InputError, match="not ended"):
                stream.response
        assert stream.response.text == "ab"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_an_answer_without_text(api: Api, emu: Emulator):
    emu.replies(Reply(""), Reply(""))
    async with api.client(config(emu)) as client:
        reply = await client.chat("Hi")
        async with client.stream("Hi") as stream:
            await events_of(stream)
    for made in (reply, stream.response):
        assert (made.text, made.parts, made.finish_reason) == ("", (), "stop")


@pytest.mark.parametrize(
    "fault",
    [
        {"dribble": True},
        {"crlf": True},
        {"keepalive": True},
        {"split_utf8": True},
        {"no_done": True},
        {"framing": "close"},
        {"framing": "length"},
        {"content_type": "text/plain"},
        {"close_idle": True},
    ],
)
async def test_odd_but_readable_streams(api: Api, emu: Emulator, fault: dict):
    emu.reply(Reply(chunks=["Grüße ", "aus ", "Zürich 🏔"], usage=(3, 4)))
    emu.fault(**fault)
    async with api.client(config(emu)) as client, client.stream("Hi", retry=1) as stream:
        await events_of(stream)
        assert stream.response.text == "Grüße aus Zürich 🏔"
        assert stream.response.usage.total_tokens == 7


@pytest.mark.parametrize(
    "fault", [{"dribble": True}, {"framing": "chunked"}, {"framing": "close"}, {"close_idle": True}]
)
async def test_odd_but_readable_answers(api: Api, emu: Emulator, fault: dict):
    emu.reply("Grüße")
    emu.fault(**fault)
    async with api.client(config(emu)) as client:
        assert (await client.chat("Hi", retry=1)).text == "Grüße"


async def test_a_host_that_answers_a_stream_request_with_json(api: Api, emu: Emulator):
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
    emu.fault(body=body)
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        events = await events_of(stream)
    assert [type(event) for event in events] == [lr.Started, lr.TextDelta, lr.Finished]
    assert "stream_from_reply" in [notice.code for notice in stream.response.warnings]


# -- retries and failover ---------------------------------------------------------------------------------------------

FAST = lr.RetryPolicy(attempts=3, base=0)


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 429}, {"status": 503}, {"reset": True}, {"hangup": True}]
)
async def test_retried(api: Api, emu: Emulator, fault: dict):
    emu.fault(times=2, **fault)
    async with api.client(config(emu)) as client:
        reply = await client.chat("Hi", retry=FAST)
    assert [attempt.status for attempt in reply.attempts] == [fault.get("status")] * 2 + [200]
    assert all(attempt.error is not None for attempt in reply.attempts[:2])


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"error_first": True}, {"reset": True}, {"cut": 20}], ids=lambda fault: next(iter(fault))
)
async def test_a_stream_is_retried_before_it_begins(api: Api, emu: Emulator, fault: dict):
    emu.fault(times=2, **fault)
    async with api.client(config(emu)) as client, client.stream("Hi", retry=FAST) as stream:
        events = await events_of(stream)
    assert [type(event) for event in events[:4]] == [lr.Retrying, lr.Retrying, lr.Started, lr.TextDelta]
    assert events[0].attempt.error is not None
    assert events[0].attempt == stream.response.attempts[0]
    assert len(stream.response.attempts) == 3


async def test_events_of_retry_and_failover_come_before_the_start(api: Api, emu: Emulator):
    urls = [emu.base_url("openai"), emu.base_url("vllm")]
    both = boxes(*urls)
    both["providers"]["a"].update(api_key=emu.key("openai"), retry=2)
    both["providers"]["b"].update(api_key=emu.key("vllm") or "x")
    emu.fault(status=503, times=2, host="openai", retry_after=0)
    async with api.client(both) as client, client.stream("Hi", retry=lr.RetryPolicy(attempts=2, base=0)) as stream:
        events = await events_of(stream)
    retrying, failed_over, started = events[:3]
    assert isinstance(retrying, lr.Retrying)
    assert isinstance(failed_over, lr.FailedOver)
    assert failed_over.target == "b:llama-4-scout"
    assert failed_over.attempt.target == "a:llama-4-scout"
    assert isinstance(started, lr.Started)
    assert started.target == "b:llama-4-scout"
    assert stream.response.provider == "b"
    assert [attempt.target[0] for attempt in stream.response.attempts] == ["a", "a", "b"]


async def test_all_targets_failed(api: Api, emu: Emulator):
    both = boxes(emu.base_url("openai"), emu.base_url("openai"))
    for table in both["providers"].values():
        table["api_key"] = emu.key("openai")
    emu.fault(status=500)
    emu.fault(status=429, retry_after=3)
    async with api.client(both) as client:
        with pytest.raises(lr.AllTargetsFailedError) as caught:
            await client.chat("Hi")
        totals = client.usage()
    group = caught.value
    assert [type(error) for error in group.exceptions] == [lr.ServerError, lr.RateLimitError]
    assert [error.target for error in group.exceptions] == ["a:llama-4-scout", "b:llama-4-scout"]
    assert group.last.retry_after == 3
    assert [attempt.status for attempt in group.attempts] == [500, 429]
    assert (totals.calls, totals.failed, totals.attempts) == (1, 1, 2)


@pytest.mark.parametrize("key", ["wrong", None])
async def test_a_wrong_key(api: Api, emu: Emulator, key: str | None):
    wrong = box(emu.base_url("openai"), **({"api_key": key} if key else {}))
    async with api.client(wrong) as client:
        with pytest.raises(lr.AuthenticationError) as caught:
            await client.chat("Hi")
        with pytest.raises(lr.AuthenticationError):
            async with client.stream("Hi"):
                raise AssertionError("not reached: entering raises")
    error = caught.value
    assert (error.status, error.provider, error.target, error.model) == (
        401, "box", "box:llama-4-scout", "llama-4-scout",
    )  # fmt: skip
    assert error.request_id is not None
    assert len(error.attempts) == 1
    assert not error.retryable


# -- streams that break -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"cut": "mid-frame", "cut_after": 3}, "ConnectionError"),
        ({"cut": "mid-frame", "cut_after": 3, "framing": "close"}, "ProtocolError"),
        ({"error_after": 3, "status": None}, "ServerError"),
        ({"garbage": True, "garbage_after": 3}, "ProtocolError"),
    ],
)
async def test_a_stream_that_breaks_after_it_began(api: Api, emu: Emulator, fault: dict, cause: str):
    emu.reply(Reply(chunks=["one ", "two ", "three ", "four"]))
    emu.fault(**fault)
    async with api.client(config(emu)) as client:
        async with client.stream("Hi", retry=FAST) as stream:
            seen = []
            with pytest.raises(lr.StreamInterruptedError) as caught:
                await events_of(stream, seen)
            with pytest.raises(lr.StreamInterruptedError):
                await anext(stream)
        with pytest.raises(lr.StreamInterruptedError):
            stream.response
    error = caught.value
    text = "".join(event.text for event in seen if isinstance(event, lr.TextDelta))
    assert text == "one two "
    assert error.partial is not None
    assert error.partial.text == text
    assert error.partial.finish_reason == "interrupted"
    assert error.partial.target == "box:llama-4-scout"
    assert type(error.__cause__).__name__ == cause
    assert (error.provider, error.target, error.model) == ("box", "box:llama-4-scout", "llama-4-scout")
    (attempt,) = error.attempts
    assert attempt.error is not None
    assert attempt.error.type == cause
    assert len(emu.requests) == 1, "a stream that has spoken is never retried"
    if cause == "ConnectionError":
        assert error.phase == "idle"


async def test_a_tool_call_that_breaks_off_is_in_the_partial(api: Api, emu: Emulator):
    emu.reply(Reply(tool_calls=[("weather", {"city": "Cusco"})]))
    emu.fault(cut="mid-frame", cut_after=3)
    async with api.client(config(emu)) as client, client.stream("Hi", tools=[weather]) as stream:
        with pytest.raises(lr.StreamInterruptedError) as caught:
            await events_of(stream)
    assert caught.value.partial is not None
    (call,) = caught.value.partial.tool_calls
    assert call.error is not None
    assert call.arguments == {}


# -- leaving early ----------------------------------------------------------------------------------------------------


async def test_leaving_the_block_early_closes_the_connection_at_once(api: Api, emu: Emulator):
    emu.reply(Reply("word " * 200, chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        async with client.stream("Hi") as stream:
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    break
        (request,) = emu.wait_for(1, finished=True)
        assert request.disconnected
        assert stream.response.finish_reason == "interrupted"
        assert stream.response.text == "word"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_an_exception_in_the_block_closes_the_connection_and_passes(api: Api, emu: Emulator):
    emu.reply(Reply("word " * 200, chunk_delay=0.05))
    async with api.client(config(emu)) as client:

        async def fails() -> None:
            async with client.stream("Hi") as stream:
                await anext(stream)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails()
        (request,) = emu.wait_for(1, finished=True)
        assert request.disconnected


async def test_interrupt_keeps_what_was_said(api: Api, emu: Emulator):
    emu.reply(Reply("word " * 200, chunk_delay=0.05))
    async with api.client(config(emu)) as client:
        async with client.stream("Hi") as stream:
            seen = ""
            async for event in stream:
                if isinstance(event, lr.TextDelta):
                    seen += event.text
                    if len(seen) > 6:
                        partial = await stream.interrupt()
        assert partial.text == seen
        assert partial.finish_reason == "interrupted"
        assert partial.usage.estimated
        assert stream.response == partial
        assert emu.wait_for(1, finished=True)[0].disconnected
        assert partial.message.role == "assistant"


async def test_interrupt_before_anything_was_read(api: Api, emu: Emulator):
    emu.reply(Reply("word " * 200, chunk_delay=0.05))
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        partial = await stream.interrupt()
        assert partial.finish_reason == "interrupted"
        assert [event async for event in stream] == []


async def test_interrupt_after_the_end_changes_nothing(api: Api, emu: Emulator):
    emu.reply("Hello")
    async with api.client(config(emu)) as client, client.stream("Hi") as stream:
        await events_of(stream)
        assert (await stream.interrupt()).finish_reason == "stop"


async def test_a_json_schema_without_a_type_is_held_against_the_answer_too(api: Api, emu: Emulator):
    """Small models that are asked for JSON in words write the schema itself, which is JSON."""
    schema = {"title": "place", "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    emu.replies('{"type": "object", "properties": {}}', '{"city": "Oslo"}')
    async with api.client(config(emu)) as client:
        reply = await client.chat("Where?", output=schema)
    assert reply.output == {"city": "Oslo"}
    assert [notice.code for notice in reply.warnings] == ["output_repaired"]
    told = emu.requests[-1].json["messages"][-1]["content"]
    assert "city: is missing" in told
    emu.replies("[1]", "[1]")
    async with api.client(config(emu)) as client:
        with pytest.raises(lr.OutputValidationError, match="must be an object, not list"):
            await client.chat("Where?", output=schema)
