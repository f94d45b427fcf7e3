"""Bedrock through whole clients: text, images, streams, tools, errors, broken streams; signed and with an API key."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault, Reply
from tests.client.api import Api
from tests.emulator.conftest import png

from .answers import codes, streamed

MAVERICK = "work:llama-4-maverick"
PATH = "/bedrock/model/us.meta.llama4-maverick-17b-instruct-v1%3A0/converse"
CALLS = Reply(tool_calls=[("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})])


def account(emu: Emulator, *, key: bool = False, **more: Any) -> dict[str, Any]:
    """Signed with access keys, or with an API key."""
    table = emu.providers("bedrock")["bedrock"]
    if key:
        table = {"kind": "bedrock", "base_url": table["base_url"], "region": "us-east-1", "api_key": emu.key("bedrock")}
    return {"providers": {"work": {**table, **more}}}


def weather(city: str) -> str:
    """Weather forecast.

    Args:
        city: City.
    """
    return f"cloudy in {city}"


@pytest.mark.parametrize("key", [False, True], ids=["signed", "api-key"])
def test_text(api: Api, emu: Emulator, key: bool) -> None:
    """The emulator checks each signature by itself."""

    async def main() -> None:
        emu.replies(*[Reply("Oslo is cloudy é🎉.", usage=(21, 6))] * 2)
        async with api.client(account(emu, key=key)) as client:
            plain = await client.chat("Weather?", system="Be brief.", model=MAVERICK, temperature=0.5, max_tokens=64)
            stream = await streamed(client, "Weather?", model=MAVERICK)
        for response in (plain, stream):
            usage = response.usage
            assert (response.text, response.finish_reason) == ("Oslo is cloudy é🎉.", "stop")
            assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (21, 6, False)
            assert codes(response) == []
            assert response.cost is not None
            assert response.request_id
        assert [request.target for request in emu.requests] == [PATH, f"{PATH}-stream"]
        scheme = {request.headers["authorization"].split()[0] for request in emu.requests}
        assert scheme == {"Bearer" if key else "AWS4-HMAC-SHA256"}

    api.run(main())


def test_an_image(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            answer = await client.chat(["What is this?", lr.Image(png(4, 3))], model=MAVERICK)
            stream = await streamed(client, ["What is this?", lr.Image(png(4, 3))], model=MAVERICK)
        assert answer.text == stream.text == "I see 1 image (image/png, 4x3)."
        picture = emu.requests[-1].json["messages"][0]["content"][1]["image"]
        assert (picture["format"], base64.b64decode(picture["source"]["bytes"])) == ("png", png(4, 3))

    api.run(main())


def test_a_large_image_is_signed_in_pieces(emu: Emulator) -> None:
    data = png(4, 3) + bytes(2 << 20)
    with lr.Client(account(emu)) as client:
        assert "1 image" in client.chat(["What is this?", lr.Image(data, detail="high")], model=MAVERICK).text
    sent = emu.requests[-1].json["messages"][0]["content"][1]["image"]["source"]["bytes"]
    assert base64.b64decode(sent) == data


def test_tools(api: Api, emu: Emulator) -> None:
    """Llama takes no tools in ConverseStream: the stream is made from a plain answer."""

    async def main() -> None:
        emu.replies(CALLS, CALLS)
        async with api.client(account(emu)) as client:
            plain = await client.chat("Weather?", model=MAVERICK, tools=[weather])
            stream = await streamed(client, "Weather?", model=MAVERICK, tools=[weather])
        for response in (plain, stream):
            calls = [(call.name, call.arguments) for call in response.tool_calls]
            assert calls == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
            assert response.finish_reason == "tool_calls"
            assert all(call.id.startswith("tooluse_") for call in response.tool_calls)
        assert (codes(plain), codes(stream)) == ([], ["stream_from_reply"])
        assert [request.target for request in emu.requests] == [PATH, PATH]

    api.run(main())


def test_tools_in_a_stream_are_refused_by_the_host(emu: Emulator) -> None:
    """What the row's `emulate` is for."""
    config = account(emu, features={"stream_tools": "native"})
    with (
        lr.Client(config) as client,
        pytest.raises(lr.InvalidRequestError, match="tool use in streaming mode"),
        client.stream("Weather?", model=MAVERICK, tools=[weather]) as stream,
    ):
        list(stream)


def test_results_of_parallel_calls_and_more_turns(api: Api, emu: Emulator) -> None:
    """A history as people have it, results out of order and text between them; the emulator refuses a wrong one."""

    async def main() -> None:
        emu.replies(CALLS, "It is cloudy.", CALLS, "Both.")
        async with api.client(account(emu)) as client:
            asked: list[Any] = [lr.user("Weather?")]
            answer = await client.chat(asked, model=MAVERICK, tools=[weather])
            first, second = answer.tool_calls
            asked += [
                lr.assistant("Let me see.", *answer.tool_calls),
                lr.tool_result(second, "cloudy in Rome"),
                lr.user("Hurry!"),
                lr.tool_result(first, ["cloudy in Oslo", lr.Image(png(4, 3))]),
                lr.user("And?"),
            ]
            answer = await client.chat(asked, model=MAVERICK, tools=[weather])
            assert answer.text == "It is cloudy."
            assert codes(answer) == ["text_beside_calls", "turn_inserted"]
            asked += [answer.message, lr.user("Again.")]
            again = await client.chat(asked, model=MAVERICK, tools=[weather])
            asked += [again.message, *[lr.tool_result(call, "rain") for call in again.tool_calls]]
            assert (await client.chat(asked, model=MAVERICK, tools=[weather])).text == "Both."
        blocks = [[next(iter(block)) for block in message["content"]] for message in emu.requests[1].json["messages"]]
        assert blocks == [["text"], ["toolUse"] * 2, ["toolResult"] * 2, ["text"], ["text", "text"]]

    api.run(main())


def test_a_history_with_tools_in_a_request_without(api: Api, emu: Emulator) -> None:
    """Streams too: no tools go along, so nothing stands against one."""

    async def main() -> None:
        emu.replies(CALLS, "Cloudy.", "Cloudy.")
        async with api.client(account(emu)) as client:
            answer = await client.chat("Weather?", model=MAVERICK, tools=[weather])
            turns = [lr.user("Weather?"), answer.message, *[lr.tool_result(c, "cloudy") for c in answer.tool_calls]]
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                said = await ask(turns, model=MAVERICK)
                assert (said.text, codes(said)) == ("Cloudy.", ["tools_as_text"])
        assert "toolConfig" not in emu.requests[-1].json
        assert emu.requests[-1].target == f"{PATH}-stream"

    api.run(main())


def test_a_missing_result_is_refused_before_anything_is_sent(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        emu.replies(CALLS)
        async with api.client(account(emu)) as client:
            answer = await client.chat("Weather?", model=MAVERICK, tools=[weather])
            turns = [lr.user("Weather?"), answer.message, lr.tool_result(answer.tool_calls[0], "cloudy")]
            with pytest.raises(lr.CapabilityError, match=answer.tool_calls[1].id):
                await client.chat(turns, model=MAVERICK, tools=[weather])
        assert len(emu.requests) == 1

    api.run(main())


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cls", "code"),
    [
        (Fault(status=400), lr.InvalidRequestError, "ValidationException"),
        (
            Fault(status=400, code="ServiceQuotaExceededException"),
            lr.QuotaExhaustedError,
            "ServiceQuotaExceededException",
        ),
        (Fault(status=403), lr.PermissionDeniedError, "AccessDeniedException"),
        (Fault(status=403, code="UnrecognizedClientException"), lr.AuthenticationError, "UnrecognizedClientException"),
        (Fault(status=404), lr.NotFoundError, "ResourceNotFoundException"),
        (Fault(status=408), lr.TimeoutError, "ModelTimeoutException"),
        (Fault(status=424), lr.ServerError, "ModelErrorException"),
        (Fault(status=429), lr.RateLimitError, "ThrottlingException"),
        (Fault(status=429, code="ModelNotReadyException"), lr.OverloadedError, "ModelNotReadyException"),
        (Fault(status=500), lr.ServerError, "InternalServerException"),
        (Fault(status=503), lr.OverloadedError, "ServiceUnavailableException"),
    ],
    ids=lambda value: str(value.code or value.status) if isinstance(value, Fault) else "",
)
def test_errors(api: Api, emu: Emulator, fault: Fault, cls: type[lr.ProviderError], code: str) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                emu.fault(fault)
                with pytest.raises(cls) as caught:
                    await ask("Hi", model=MAVERICK, retry=1)
                error = caught.value
                assert type(error) is cls
                assert (error.status, error.code, error.target) == (fault.status, code, MAVERICK)
                assert error.request_id

    api.run(main())


def test_throttling_is_waited_for(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        emu.fault(Fault(status=429, headers={"x-amz-retry-after": "10"}), times=2)
        async with api.client(account(emu)) as client:
            answer = await client.chat("Hi", model=MAVERICK)
        assert [attempt.status for attempt in answer.attempts] == [429, 429, 200]
        assert [attempt.retry_after for attempt in answer.attempts] == [0.01, 0.01, None]

    api.run(main())


def test_a_bare_id(emu: Emulator) -> None:
    with lr.Client(account(emu)) as client:
        with pytest.raises(lr.NotFoundError, match="on-demand throughput") as caught:
            client.chat("Hi", model="work:meta.llama4-maverick-17b-instruct-v1:0", retry=1)
        assert "us.meta.llama4-maverick-17b-instruct-v1:0" in str(caught.value)


def test_a_prompt_that_is_too_long() -> None:
    with (
        Emulator(context={"bedrock": 10}) as emu,
        lr.Client(account(emu)) as client,
        pytest.raises(lr.ContextLengthError),
    ):
        client.chat("word " * 100, model=MAVERICK)


@pytest.mark.parametrize("key", ["bedrock-api-key-of-somebody-else", "sk-of-another-host"])
def test_an_api_key_that_is_wrong(emu: Emulator, key: str) -> None:
    with lr.Client(account(emu, key=True, api_key=key)) as client, pytest.raises(lr.PermissionDeniedError) as caught:
        client.chat("Hi", model=MAVERICK)
    assert key not in str(caught.value)


def test_keys_that_are_wrong(emu: Emulator) -> None:
    for wrong in ({"secret_access_key": "wrong-wrong"}, {"access_key_id": "AKIAWRONG"}, {"session_token": "wrong"}):
        with lr.Client(account(emu, **wrong)) as client, pytest.raises(lr.AuthenticationError) as caught:
            client.chat("Hi", model=MAVERICK, retry=1)
        assert caught.value.status == 403
        assert "wrong-wrong" not in str(caught.value)


def test_a_host_whose_clock_is_ahead() -> None:
    with Emulator(quirks=["bedrock-clock-ahead"]) as emu, lr.Client(account(emu)) as client:
        assert [client.chat("Hi", model=MAVERICK, retry=1).text for _ in range(2)] == ["You said: Hi"] * 2
        assert len(emu.requests) == 3  # refused once; then the difference is known


def test_messages_with_a_capital() -> None:
    with Emulator(quirks=["bedrock-capital-message"]) as emu, lr.Client(account(emu)) as client:
        emu.fault(Fault(status=429, message="Too many tokens."))
        with pytest.raises(lr.RateLimitError, match="Too many tokens"):
            client.chat("Hi", model=MAVERICK, retry=1)


# -- broken streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("ValidationException", lr.InvalidRequestError),
        ("ThrottlingException", lr.RateLimitError),
        ("ModelStreamErrorException", lr.ServerError),
        ("InternalServerException", lr.ServerError),
        ("ServiceUnavailableException", lr.OverloadedError),
        ("InternalError", lr.ServerError),  # an error frame, no exception
    ],
)
def test_exceptions_inside_a_stream(api: Api, emu: Emulator, code: str, cls: type[lr.ProviderError]) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            emu.fault(Fault(error_first=True, code=code))
            with pytest.raises(cls) as caught:
                await streamed(client, "Hi", model=MAVERICK, retry=1)
            assert (type(caught.value), caught.value.code) == (cls, code)
            emu.reply("One two three four.")
            emu.fault(Fault(error_after=3, code=code))
            with pytest.raises(lr.StreamInterruptedError) as broken:
                await streamed(client, "Hi", model=MAVERICK, retry=1)
            assert broken.value.partial is not None
            assert broken.value.partial.text == "One two"
            assert type(broken.value.__cause__) is cls

    api.run(main())


def test_an_exception_first_is_retried(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        emu.fault(Fault(error_first=True, code="ThrottlingException"))
        async with api.client(account(emu)) as client:
            answer = await streamed(client, "Hi", model=MAVERICK)
        assert answer.text == "You said: Hi"
        assert [attempt.error.type if attempt.error else None for attempt in answer.attempts] == [
            "RateLimitError",
            None,
        ]

    api.run(main())


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut="mid-frame", cut_after=3, framing="close"),
        Fault(cut="mid-frame", cut_after=3, framing="chunked"),
        Fault(no_done=True),
        Fault(missing_usage=True),
        Fault(garbage=True, garbage_after=3),
    ],
    ids=["cut", "cut-chunked", "no-finish", "no-metadata", "checksum"],
)
def test_streams_that_are_not_whole(api: Api, emu: Emulator, fault: Fault) -> None:
    """With `framing="close"`, HTTP alone cannot tell a cut stream from one that has ended."""

    async def main() -> None:
        emu.reply("One two three four.")
        emu.fault(fault)
        async with api.client(account(emu)) as client:
            with pytest.raises(lr.StreamInterruptedError) as caught:
                await streamed(client, "Hi", model=MAVERICK, retry=1)
        assert caught.value.partial is not None
        assert caught.value.partial.text.startswith("One two")

    api.run(main())


@pytest.mark.parametrize("fault", [Fault(dribble=True), Fault(split_utf8=True)], ids=["dribble", "split"])
def test_streams_in_small_pieces(api: Api, emu: Emulator, fault: Fault) -> None:
    async def main() -> None:
        emu.reply("é🎉 one two.")
        emu.fault(fault)
        async with api.client(account(emu)) as client:
            assert (await streamed(client, "Hi", model=MAVERICK)).text == "é🎉 one two."

    api.run(main())


# -- refused before sending --------------------------------------------------------------------------------------------


def test_what_is_refused_before_sending(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            for fields in ({"top_k": 5}, {"seed": 1}, {"temperature": 1.5}, {"logprobs": True}):
                with pytest.raises(lr.CapabilityError, match=next(iter(fields))):
                    await client.chat("Hi", model=MAVERICK, **fields)
        async with api.client(account(emu, region="eu-west-1")) as client:
            with pytest.raises(lr.CapabilityError, match="us-east-1, us-east-2 or us-west-2"):
                await client.chat("Hi", model=MAVERICK)
        assert emu.requests == []

    api.run(main())


def test_many_calls_at_once(emu: Emulator) -> None:
    async def main() -> set[str]:
        async with lr.AsyncClient(account(emu)) as client:
            answers = await asyncio.gather(*(client.chat("Hi", model=MAVERICK) for _ in range(200)))
        return {answer.text for answer in answers}

    assert asyncio.run(main()) == {"You said: Hi"}


def test_failing_over_from_bedrock(emu: Emulator) -> None:
    """What only Bedrock's rules refuse, another host may serve."""
    emu.replies(CALLS, "Fine.")
    config = account(emu)
    config["providers"]["other"] = emu.providers("openai")["openai"]
    config["routes"] = {"chat": {"targets": [MAVERICK, "other:llama-4-maverick"]}}
    with lr.Client(config) as client:
        answer = client.chat("Weather?", model="chat", tools=[weather])
        assert answer.provider == "work"
        turns = [lr.user("Weather?"), answer.message, lr.tool_result(answer.tool_calls[0], "cloudy")]
        assert client.chat(turns, model="chat", tools=[weather]).provider == "other"
