"""Cloudflare: URLs, headers and bodies of both APIs, and the environment variables."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute.providers.cloudflare import SPEC
from llamaroute.spi import Target, WireRequest
from llamaroute.types.messages import assistant, tool_result, user
from llamaroute.types.parts import Image, ImageData, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema
from tests.providers.wires import PNG, PNG_URL, WEATHER, WEATHER_JSON, ask, json_of, target_of, text_of

ID = "0123456789abcdef0123456789abcdef"
SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})


def target(**settings: Any) -> Target:
    return target_of(SPEC, {"account_id": ID, "api_key": "k", **settings})


def build(request: ChatRequest, *, stream: bool = False, **settings: Any) -> WireRequest:
    return SPEC.adapter.build_request(request, target(**settings), stream=stream)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, f"https://api.cloudflare.com/client/v4/accounts/{ID}/ai/v1/chat/completions"),
        ({"api": "native"}, f"https://api.cloudflare.com/client/v4/accounts/{ID}/ai/run/{SCOUT}"),
        ({"base_url": "http://127.0.0.1:9/cf/"}, f"http://127.0.0.1:9/cf/accounts/{ID}/ai/v1/chat/completions"),
        (
            {"base_url": "http://127.0.0.1:9/cf?k=v", "api": "native"},
            f"http://127.0.0.1:9/cf/accounts/{ID}/ai/run/{SCOUT}?k=v",
        ),
        (
            {"api": "native", "models": {"llama-4-scout": "@cf/other/model"}},
            f"https://api.cloudflare.com/client/v4/accounts/{ID}/ai/run/@cf/other/model",
        ),
    ],
)
def test_url(settings: dict[str, Any], url: str) -> None:
    assert build(ask(), **settings).url == url


def test_the_openai_body() -> None:
    wire = build(ask(max_tokens=64), stream=True)
    assert text_of(wire).startswith(b'{"model":"@cf/meta/llama-4-scout-17b-16e-instruct","messages":')
    assert json_of(wire) == {
        "model": SCOUT,
        "messages": MESSAGES,
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_native_body_names_no_model_and_asks_for_no_usage() -> None:
    assert json_of(build(ask(max_tokens=64), stream=True, api="native")) == {
        "messages": MESSAGES,
        "max_tokens": 64,
        "stream": True,
    }


@pytest.mark.parametrize("api", ["openai", "native"])
def test_parameters_tools_and_schema(api: str) -> None:
    request = ask(
        tools=(WEATHER,),
        tool_choice="required",
        output=SCHEMA,
        max_tokens=64,
        temperature=5,
        top_p=2,
        top_k=50,
        seed=1,
        stop=("END",),
        frequency_penalty=2,
        presence_penalty=0,
        repetition_penalty=1.5,
        parallel_tool_calls=True,
    )
    sent = json_of(build(request, api=api))
    sent.pop("model", None)
    assert sent == {
        "messages": MESSAGES,
        "tools": [WEATHER_JSON],
        "tool_choice": "required",
        # the JSON Schema itself, not OpenAI's {name, strict, schema} around it
        "response_format": {"type": "json_schema", "json_schema": dict(SCHEMA.schema)},
        "max_tokens": 64,
        "temperature": 5,
        "top_p": 2,
        "top_k": 50,
        "seed": 1,
        "stop": ["END"],
        "frequency_penalty": 2,
        "presence_penalty": 0,
        "repetition_penalty": 1.5,
        "parallel_tool_calls": True,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),  # never "any", which is error 8001
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
@pytest.mark.parametrize("api", ["openai", "native"])
def test_tool_choice(api: str, choice: str, sent: Any) -> None:
    assert json_of(build(ask(tools=(WEATHER,), tool_choice=choice), api=api))["tool_choice"] == sent


@pytest.mark.parametrize("api", ["openai", "native"])
def test_a_conversation_with_calls_and_an_image(api: str) -> None:
    image = Image(PNG)
    image.load(ImageData.of("image/png", PNG))
    call = ToolCall("chatcmpl-tool-1", "weather", {"city": "Oslo"})
    messages = (user("Look", image), assistant(call), tool_result(call, "cloudy"))
    assert json_of(build(ChatRequest(messages), api=api))["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PNG_URL}}],
        },
        {
            "role": "assistant",
            "content": "",  # null is not in the schema
            "tool_calls": [
                {
                    "id": "chatcmpl-tool-1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "content": "cloudy", "tool_call_id": "chatcmpl-tool-1", "name": "weather"},
    ]


@pytest.mark.parametrize("api", ["openai", "native"])
def test_options_and_affinity(api: str) -> None:
    wire = build(ask(), api=api, reject_if_busy=True, session_affinity="session-1")
    assert json_of(wire)["options"] == {"rejectIfBusy": True}
    assert wire.headers["x-session-affinity"] == "session-1"
    merged = build(ask(extra={"cloudflare": {"options": {"x": 1}}}), api=api, reject_if_busy=True)
    assert json_of(merged)["options"] == {"rejectIfBusy": True, "x": 1}


@pytest.mark.parametrize("api", ["openai", "native"])
def test_gateway_headers(api: str) -> None:
    gateway = {
        "id": "gw",
        "token": "gateway-token",
        "skip_cache": True,
        "cache_ttl": 60,
        "cache_key": "key",
        "collect_log": False,
        "metadata": {"team": "a", "n": 1, "ok": True},
        "request_timeout": 1500,
        "max_attempts": 1,
        "retry_delay": 0,
        "backoff": "linear",
    }
    headers = dict(build(ask(), api=api, gateway=gateway).headers)
    headers.pop("accept", None)
    assert headers == {
        "content-type": "application/json",
        "cf-aig-gateway-id": "gw",
        "cf-aig-skip-cache": "true",
        "cf-aig-cache-ttl": "60",
        "cf-aig-cache-key": "key",
        "cf-aig-collect-log": "false",
        "cf-aig-metadata": '{"team":"a","n":1,"ok":true}',
        "cf-aig-request-timeout": "1500",
        "cf-aig-max-attempts": "1",
        "cf-aig-retry-delay": "0",
        "cf-aig-backoff": "linear",
    }


def test_a_gateway_by_its_id_alone() -> None:
    headers = build(ask(), gateway={"id": "gw"}).headers
    assert [name for name in headers if name.startswith("cf-")] == ["cf-aig-gateway-id"]
    assert not any(name.startswith("cf-") for name in build(ask()).headers)


def test_metadata_of_any_language_fits_into_a_header() -> None:
    headers = build(ask(), gateway={"id": "gw", "metadata": {"user": "Zoë 李"}}).headers
    assert headers["cf-aig-metadata"] == '{"user":"Zo\\u00eb \\u674e"}'


@pytest.mark.parametrize(
    "settings",
    [
        {"gateway": {"id": "gw", "max_attempts": 6}},
        {"gateway": {"id": "gw", "retry_delay": 5001}},
        {"gateway": {"id": "gw", "cache_ttl": -1}},
        {"gateway": {"id": "gw", "backoff": "random"}},
        {"gateway": {"id": "gw", "unknown": 1}},
        {"gateway": {}},
        {"api": "universal"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        target(**settings)


def test_log_probabilities_are_no_part_of_the_native_api() -> None:
    assert target(api="native").row.parameters["logprobs"].refusal(1) is not None
    assert "logprobs" not in target().row.parameters


A, T = "account", "token"


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        ({"CLOUDFLARE_ACCOUNT_ID": A}, None),
        ({"CLOUDFLARE_API_TOKEN": T}, None),
        ({"CLOUDFLARE_ACCOUNT_ID": "", "CLOUDFLARE_API_TOKEN": T}, None),
        ({"CLOUDFLARE_ACCOUNT_ID": A, "CLOUDFLARE_API_TOKEN": T}, {"account_id": A, "api_key": T}),
        ({"CF_ACCOUNT_ID": A, "CF_API_TOKEN": T}, {"account_id": A, "api_key": T}),
        ({"CF_ACCOUNT_ID": A, "CF_AI_API_TOKEN": T, "CF_API_TOKEN": "other"}, {"account_id": A, "api_key": T}),
        (
            {"CLOUDFLARE_ACCOUNT_ID": A, "CF_ACCOUNT_ID": "other", "CLOUDFLARE_API_TOKEN": T, "CF_API_TOKEN": "other"},
            {"account_id": A, "api_key": T},
        ),
        # litellm and Cloudflare's own OpenAI page keep the token in CLOUDFLARE_API_KEY
        ({"CLOUDFLARE_ACCOUNT_ID": A, "CLOUDFLARE_API_KEY": T}, {"account_id": A, "api_key": T}),
        # ... which beside an e-mail address is the legacy global key
        (
            {"CLOUDFLARE_ACCOUNT_ID": A, "CLOUDFLARE_API_KEY": "g", "CLOUDFLARE_EMAIL": "a@example.com"},
            {"account_id": A, "api_key": "g", "email": "a@example.com"},
        ),
        # a token wins over the global key and its e-mail address
        (
            {
                "CLOUDFLARE_ACCOUNT_ID": A,
                "CLOUDFLARE_API_TOKEN": T,
                "CLOUDFLARE_API_KEY": "g",
                "CLOUDFLARE_EMAIL": "a@example.com",
            },
            {"account_id": A, "api_key": T},
        ),
        (
            {"CLOUDFLARE_ACCOUNT_ID": A, "CLOUDFLARE_API_TOKEN": T, "CLOUDFLARE_BASE_URL": "http://x/v4"},
            {"account_id": A, "api_key": T, "base_url": "http://x/v4"},
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "none",
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    assert SPEC.from_env(env) == table
    if table is not None:
        assert SPEC.settings.model_validate({"kind": "cloudflare", **table}).kind == "cloudflare"
