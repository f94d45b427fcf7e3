"""Hugging Face's and Cloudflare's own SDKs as clients."""

from __future__ import annotations

import importlib
import json

import pytest

from llamaroute.emulator import Emulator

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
CF_SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
ACCOUNT = "0123456789abcdef0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]


# ── huggingface_hub ──


@pytest.fixture
def hf():
    return importlib.import_module("huggingface_hub")


def router(hf, emu: Emulator, key: str | None = None):
    return hf.InferenceClient(model=None, base_url=emu.base_url("huggingface"), api_key=key or emu.key("huggingface"))


def test_hf_plain(hf, emu: Emulator) -> None:
    emu.reply("Hi there.", usage=(5, 3))
    answer = router(hf, emu).chat_completion(HELLO, model=SCOUT)
    assert answer.choices[0].message.content == "Hi there."
    assert answer.usage.total_tokens == 8
    assert emu.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("provider", ["", ":together", ":nscale", ":groq", ":novita", ":cheapest"])
def test_hf_stream(hf, emu: Emulator, provider: str) -> None:
    emu.reply("Hi there é🎉.")
    client = router(hf, emu)  # a client without a name is collected, and its streams are closed with it
    events = list(client.chat_completion(HELLO, model=SCOUT + provider, stream=True))
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == "Hi there é🎉."
    if provider not in (":nscale",):
        assert events[-1].usage is not None, "usage comes although nobody asked for it"


def test_hf_tools(hf, emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    choice = {"function": {"name": "get_weather"}}
    answer = router(hf, emu).chat_completion(HELLO, model=SCOUT, tools=[weather_tool], tool_choice=choice)
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert emu.requests[0].json["tool_choice"] == choice


def test_hf_unknown_model(hf, emu: Emulator) -> None:
    with pytest.raises(hf.errors.BadRequestError, match="not supported by any provider you have enabled"):
        router(hf, emu).chat_completion(HELLO, model="nobody/none")


def test_hf_wrong_key(hf, emu: Emulator) -> None:
    with pytest.raises(hf.errors.HfHubHTTPError) as caught:
        router(hf, emu, "hf_wrong").chat_completion(HELLO, model=SCOUT)
    assert caught.value.response.status_code == 401


def test_hf_error_in_the_stream(hf, emu: Emulator) -> None:
    emu.fault(error_after=2, message="Request failed during generation")
    client = router(hf, emu)
    with pytest.raises(hf.errors.TextGenerationError, match="failed during generation"):
        list(client.chat_completion(HELLO, model=SCOUT, stream=True))


def test_hf_dedicated_endpoint(hf, emu: Emulator) -> None:
    emu.reply("From the endpoint.")
    client = hf.InferenceClient(model=emu.base_url("hf-endpoint"), token=emu.key("hf-endpoint"))
    assert client.chat_completion(HELLO).choices[0].message.content == "From the endpoint."
    assert emu.requests[0].path == "/v1/chat/completions"


# ── cloudflare ──


@pytest.fixture
def cf():
    return importlib.import_module("cloudflare")


def api(cf, emu: Emulator, token: str | None = None):
    return cf.Cloudflare(
        api_token=token or emu.key("cloudflare"), base_url=emu.base_url("cloudflare"), max_retries=0, timeout=10
    )


def run(client, account: str = ACCOUNT, **body):
    return client.ai.run(CF_SCOUT, account_id=account, **{"messages": HELLO, **body})


def test_cf_plain(cf, emu: Emulator) -> None:
    emu.reply("Oslo is cloudy.", usage=(21, 6))
    with api(cf, emu) as client:
        result = run(client)
    shown = result if isinstance(result, dict) else result.to_dict()
    assert shown["response"] == "Oslo is cloudy."
    assert shown["usage"] == {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    assert emu.requests[0].path == f"/client/v4/accounts/{ACCOUNT}/ai/run/{CF_SCOUT}"


def test_cf_tool_call(cf, emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    with api(cf, emu) as client:
        result = run(client, tools=[weather_tool])
    shown = result if isinstance(result, dict) else result.to_dict()
    assert shown["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert not shown.get("response")


def test_cf_wrong_token(cf, emu: Emulator) -> None:
    with api(cf, emu, "wrong") as client, pytest.raises(cf.AuthenticationError) as caught:
        run(client)
    assert [error.code for error in caught.value.errors] == [10000]


def test_cf_wrong_account(cf, emu: Emulator) -> None:
    with api(cf, emu) as client, pytest.raises(cf.NotFoundError) as caught:
        run(client, account="f" * 32)
    assert [error.code for error in caught.value.errors] == [7003, 7000]


def test_cf_validation(cf, emu: Emulator) -> None:
    with api(cf, emu) as client, pytest.raises(cf.BadRequestError) as caught:
        run(client, temperature=7)
    assert caught.value.errors[0].code == 5006
    assert "'/temperature' must be <= 5 (" in caught.value.errors[0].message


@pytest.mark.parametrize(("code", "words"), [(3036, "10,000 neurons"), (3040, "Capacity temporarily exceeded")])
def test_cf_two_kinds_of_429(cf, emu: Emulator, code: int, words: str) -> None:
    emu.fault(status=429, code=code)
    with api(cf, emu) as client, pytest.raises(cf.RateLimitError) as caught:
        run(client)
    assert caught.value.errors[0].code == code
    assert words in caught.value.errors[0].message


def test_cf_models(cf, emu: Emulator) -> None:
    with api(cf, emu) as client:
        names = [model["name"] for model in client.ai.models.list(account_id=ACCOUNT, search="llama-4")]
    assert names == [CF_SCOUT]


def test_cf_token_verify(cf, emu: Emulator) -> None:
    with api(cf, emu) as client:
        assert client.user.tokens.verify().status == "active"
