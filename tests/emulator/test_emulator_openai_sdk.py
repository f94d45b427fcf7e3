"""OpenAI's own SDK as a client of every OpenAI-shaped host."""

from __future__ import annotations

import asyncio
import importlib
import json

import pytest

from llamaroute.emulator import Emulator, Reply

openai = importlib.import_module("openai")

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
CF_SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
HOSTS = {
    "openai": "llama-4-scout",
    "vllm": "llama-4-scout",
    "tgi": "tgi",
    "llamacpp": "anything",
    "ollama": "llama4",
    "huggingface": SCOUT,
    "huggingface:nscale": SCOUT + ":nscale",
    "huggingface:groq": SCOUT + ":groq",
    "huggingface:novita": SCOUT + ":novita",
    "hf-endpoint": "tgi",
    "cloudflare": CF_SCOUT,
    "cloudflare-gateway": CF_SCOUT,
    "cloudflare-gateway:compat": "workers-ai/" + CF_SCOUT,
}
every_host = pytest.mark.parametrize("case", HOSTS)


def base(emu: Emulator, case: str) -> str:
    account = "0123456789abcdef0123456789abcdef"
    match case:
        case "cloudflare":
            return f"{emu.base_url('cloudflare')}/accounts/{account}/ai/v1"
        case "cloudflare-gateway":
            return f"{emu.base_url(case)}/{account}/default/workers-ai/v1"
        case "cloudflare-gateway:compat":
            return f"{emu.base_url('cloudflare-gateway')}/{account}/default/compat"
        case "hf-endpoint":
            return emu.base_url(case) + "/v1"
    return emu.base_url(case.partition(":")[0])


def client(emu: Emulator, case: str, **options):
    key = emu.key(case.partition(":")[0]) or "any"
    return openai.OpenAI(base_url=base(emu, case), api_key=key, max_retries=0, timeout=10, **options)


def hello(text: str = "Hello é🎉") -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


@every_host
def test_plain(emu: Emulator, case: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    with client(emu, case) as sdk:
        answer = sdk.chat.completions.create(model=HOSTS[case], messages=hello())
    assert answer.choices[0].message.content == "Oslo is cloudy é🎉."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (21, 6, 27)
    assert answer.object == "chat.completion"
    assert len(emu.requests) == 1
    assert emu.requests[0].json["messages"] == hello()
    assert emu.requests[0].status == 200


@every_host
def test_stream(emu: Emulator, case: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    with client(emu, case) as sdk:
        events = list(
            sdk.chat.completions.create(
                model=HOSTS[case], messages=hello(), stream=True, stream_options={"include_usage": True}
            )
        )
    choices = [event.choices[0] for event in events if event.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Oslo is cloudy é🎉."
    assert len(choices) > 4
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    usage = [event.usage for event in events if event.usage]
    assert usage[-1].total_tokens == 27
    assert len({event.id for event in events}) == 1
    assert {event.object for event in events} == {"chat.completion.chunk"}


@every_host
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_call(emu: Emulator, case: str, streamed: bool, weather_tool: dict[str, object]) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Malmö", "unit": "c"})])
    sent = {"model": HOSTS[case], "messages": hello(), "tools": [weather_tool]}
    with client(emu, case) as sdk:
        if not streamed:
            answer = sdk.chat.completions.create(**sent)
            call = answer.choices[0].message.tool_calls[0]
            assert call.type == "function"
            assert call.function.name == "get_weather"
            assert json.loads(call.function.arguments) == {"city": "Malmö", "unit": "c"}
            reason = answer.choices[0].finish_reason
            assert reason == ("stop" if case in ("tgi", "hf-endpoint") else "tool_calls")
            return
        arguments, names, ids, reasons = "", [], set(), []
        for event in sdk.chat.completions.create(stream=True, **sent):
            for choice in event.choices:
                reasons += [choice.finish_reason] if choice.finish_reason else []
                for part in choice.delta.tool_calls or []:
                    names += [part.function.name] if part.function.name else []
                    ids |= {part.id} if part.id else set()
                    arguments += part.function.arguments or ""
    assert names == ["get_weather"]
    assert len(ids) == 1
    assert json.loads(arguments) == {"city": "Malmö", "unit": "c"}
    assert reasons == ([] if case in ("tgi", "hf-endpoint") else ["tool_calls"])


@pytest.mark.parametrize("case", [case for case in HOSTS if case not in ("tgi", "hf-endpoint")])
def test_two_calls_at_once(emu: Emulator, case: str, weather_tool: dict[str, object]) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"})])
    with client(emu, case) as sdk:
        stream = sdk.chat.completions.create(model=HOSTS[case], messages=hello(), tools=[weather_tool], stream=True)
        arguments: dict[int, str] = {}
        for event in stream:
            for choice in event.choices:
                for part in choice.delta.tool_calls or []:
                    arguments[part.index] = arguments.get(part.index, "") + (part.function.arguments or "")
    assert [json.loads(text)["city"] for _, text in sorted(arguments.items())] == ["Oslo", "Bergen"]


@every_host
def test_forced_tool_is_made_from_its_schema(emu: Emulator, case: str, weather_tool: dict[str, object]) -> None:
    with client(emu, case) as sdk:
        answer = sdk.chat.completions.create(
            model=HOSTS[case], messages=hello(), tools=[weather_tool], tool_choice="required"
        )
    assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments) == {"city": "text", "unit": "c"}


@pytest.mark.parametrize("case", [case for case in HOSTS if case not in ("tgi", "hf-endpoint")])
def test_json_schema(emu: Emulator, case: str) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 3}}}
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}
    with client(emu, case) as sdk:
        answer = sdk.chat.completions.create(model=HOSTS[case], messages=hello(), response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"ok": True, "n": 3}


@every_host
def test_image(emu: Emulator, case: str, image_url: str) -> None:
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": image_url}}]
    with client(emu, case) as sdk:
        answer = sdk.chat.completions.create(model=HOSTS[case], messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "I see 1 image (image/png, 64x48)."
    assert answer.usage.prompt_tokens > 147


@every_host
def test_wrong_key(emu: Emulator, case: str) -> None:
    if emu.key(case.partition(":")[0]) is None:
        pytest.skip("the server takes any key")
    with (
        openai.OpenAI(base_url=base(emu, case), api_key="wrong", max_retries=0) as sdk,
        pytest.raises(openai.AuthenticationError),
    ):
        sdk.chat.completions.create(model=HOSTS[case], messages=hello())
    assert emu.requests[0].status == 401


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("openai", "NotFoundError"),
        ("vllm", "NotFoundError"),
        ("ollama", "NotFoundError"),
        ("huggingface", "BadRequestError"),
        ("cloudflare", "BadRequestError"),
        ("cloudflare-gateway:compat", "NotFoundError"),
    ],
)
def test_unknown_model(emu: Emulator, case: str, error: str) -> None:
    with client(emu, case) as sdk, pytest.raises(getattr(openai, error)):
        sdk.chat.completions.create(model="nobody/none", messages=hello())


@pytest.mark.parametrize("case", ["openai", "vllm", "tgi", "llamacpp", "ollama", "huggingface"])
def test_models(emu: Emulator, case: str) -> None:
    with client(emu, case) as sdk:
        names = [model.id for model in sdk.models.list()]
    assert any("llama" in name.lower() for name in names)


@every_host
def test_max_tokens_cuts(emu: Emulator, case: str) -> None:
    emu.reply("one two three four five six")
    with client(emu, case) as sdk:
        answer = sdk.chat.completions.create(model=HOSTS[case], messages=hello(), max_tokens=3)
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


@every_host
@pytest.mark.parametrize(("status", "error"), [(429, "RateLimitError"), (500, "InternalServerError")])
def test_fault_gives_the_hosts_own_error(emu: Emulator, case: str, status: int, error: str) -> None:
    emu.fault(status=status)
    with client(emu, case) as sdk:
        with pytest.raises(getattr(openai, error)) as caught:
            sdk.chat.completions.create(model=HOSTS[case], messages=hello())
        assert caught.value.response.json()
        sdk.chat.completions.create(model=HOSTS[case], messages=hello())
    assert [request.status for request in emu.requests] == [status, 200]


def test_sdk_retries_after_the_wait_it_was_told(emu: Emulator) -> None:
    emu.fault(status=429, retry_after=0.05, times=2)
    with openai.OpenAI(base_url=emu.base_url("openai"), api_key=emu.key("openai"), max_retries=2) as sdk:
        sdk.chat.completions.create(model="llama-4-scout", messages=hello())
    assert [request.status for request in emu.requests] == [429, 429, 200]


def test_error_in_the_stream(emu: Emulator) -> None:
    emu.fault(error_after=2)
    with client(emu, "openai") as sdk:
        stream = sdk.chat.completions.create(model="llama-4-scout", messages=hello(), stream=True)
        with pytest.raises(openai.APIError):
            list(stream)


@every_host
def test_async_client(emu: Emulator, case: str) -> None:
    emu.replies(Reply("One."), Reply("Two."))

    async def both() -> list[str]:
        key = emu.key(case.partition(":")[0]) or "any"
        async with openai.AsyncOpenAI(base_url=base(emu, case), api_key=key, max_retries=0) as sdk:
            plain = await sdk.chat.completions.create(model=HOSTS[case], messages=hello())
            stream = await sdk.chat.completions.create(model=HOSTS[case], messages=hello(), stream=True)
            streamed = "".join([e.choices[0].delta.content or "" async for e in stream if e.choices])
        return [plain.choices[0].message.content, streamed]

    assert asyncio.run(both()) == ["One.", "Two."]
