"""Databricks: URLs, headers, bodies, settings and environment variables."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute import catalog
from llamaroute.errors import CapabilityError
from llamaroute.providers.databricks import MAX_BODY, MAX_TOOLS, SPEC
from llamaroute.spi import Target, WireRequest
from llamaroute.types.messages import Message, assistant, system, tool_result, user
from llamaroute.types.parts import Image, ImageData, Text, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool
from tests.providers.wires import PNG, PNG_URL, WEATHER, WEATHER_JSON, ask, json_of, support, target_of

HOST = "https://adb-1234567890123456.7.azuredatabricks.net"
ENDPOINT = "databricks-llama-4-maverick"
SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})


def target(model: str = "llama-4-maverick", **settings: Any) -> Target:
    return target_of(SPEC, {"host": HOST, "token": "dapi0", **settings}, model)


def build(request: ChatRequest, *, stream: bool = False, **settings: Any) -> WireRequest:
    return SPEC.adapter.build_request(request, target(**settings), stream=stream)


def settings(**table: Any) -> Any:
    return SPEC.settings.model_validate({"kind": "databricks", **table})


@pytest.mark.parametrize(
    ("table", "url", "model"),
    [
        ({}, f"{HOST}/serving-endpoints/{ENDPOINT}/invocations", None),
        ({"api": "openai"}, f"{HOST}/serving-endpoints/chat/completions", ENDPOINT),
        ({"api": "gateway"}, f"{HOST}/ai-gateway/mlflow/v1/chat/completions", "system.ai.llama-4-maverick"),
        (
            {"base_url": "http://127.0.0.1:9/databricks/"},
            f"http://127.0.0.1:9/databricks/serving-endpoints/{ENDPOINT}/invocations",
            None,
        ),
        ({"models": {"llama-4-maverick": "my own/one"}}, f"{HOST}/serving-endpoints/my%20own%2Fone/invocations", None),
        (
            {"models": {"llama-4-maverick": "mine"}, "api": "gateway"},
            f"{HOST}/ai-gateway/mlflow/v1/chat/completions",
            "mine",
        ),
    ],
    ids=str,
)
def test_where_it_goes(table: dict[str, Any], url: str, model: str | None) -> None:
    wire = build(ask(), **table)
    assert (wire.method, wire.url) == ("POST", url)
    assert json_of(wire).get("model") == model


def test_the_whole_body() -> None:
    wire = build(
        ask(max_tokens=64, temperature=0.5, top_p=0.9, top_k=5, stop=("END",), logprobs=2, tools=(WEATHER,)),
        stream=True,
        api="openai",
    )
    assert json_of(wire) == {
        "model": ENDPOINT,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "stop": ["END"],
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [WEATHER_JSON],  # no `strict` in the function
        "tool_choice": "auto",
        "stream": True,  # and no stream_options: usage comes anyway
    }
    assert dict(wire.headers) == {"content-type": "application/json", "accept": "text/event-stream"}


def test_without_max_tokens_none_is_sent() -> None:
    """All of it would be reserved: 8,192 of the 10,000 tokens that a workspace may get in a minute."""
    assert json_of(build(ask())) == {"messages": [{"role": "user", "content": "Hi"}]}
    assert target().row.default_max_tokens is None


def test_schema_and_forced_tools_as_openai_has_them() -> None:
    assert json_of(build(ask(output=SCHEMA)))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "strict": True, "schema": dict(SCHEMA.schema)},
    }
    assert json_of(build(ask(tools=(WEATHER,), tool_choice="required")))["tool_choice"] == "required"
    assert json_of(build(ask(tools=(WEATHER,), tool_choice="weather")))["tool_choice"] == {
        "type": "function",
        "function": {"name": "weather"},
    }


def test_tags_for_the_gateway() -> None:
    headers = build(ask(), api="gateway", request_tags={"team": "Bücher", "env": "dev"}).headers
    tags = headers["databricks-ai-gateway-request-tags"]
    assert json.loads(tags) == {"team": "Bücher", "env": "dev"}
    assert tags.isascii()
    assert "databricks-ai-gateway-request-tags" not in build(ask(), api="gateway").headers


def test_images_go_as_data_urls() -> None:
    image = Image("https://example.com/cat.png", detail="low")
    with pytest.raises(CapabilityError, match="images as data only"):
        build(ChatRequest((user("Look", image),)), model="my-own-endpoint")
    image.load(ImageData.of("image/png", PNG))
    assert json_of(build(ChatRequest((user("Look", image),))))["messages"][0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
    ]
    for own in ("llama-4-maverick", "my-own-endpoint"):
        assert target(own).row.features["image_url"] == "emulate"


def test_messages_have_no_names() -> None:
    call = ToolCall("call_1", "weather", {"city": "Oslo"})
    tools = ChatRequest((user("Weather?"), assistant(call), tool_result(call, "cloudy")), tools=(WEATHER,))
    wire = build(tools)
    assert json_of(wire)["messages"] == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "content": "cloudy", "tool_call_id": "call_1"},
    ]
    assert wire.warnings == ()  # the call's id says which tool it was
    named = build(ChatRequest((Message("user", (Text("Hi"),), name="Ann"),)))
    assert json_of(named)["messages"] == [{"role": "user", "content": "Hi"}]
    assert [notice.code for notice in named.warnings] == ["names_left_out"]


def test_parallel_calls_cannot_be_forbidden() -> None:
    wire = build(ask(tools=(WEATHER,), parallel_tool_calls=False))
    assert "parallel_tool_calls" not in json_of(wire)
    assert [notice.code for notice in wire.warnings] == ["parallel_tool_calls_left_out"]


def test_at_most_32_tools() -> None:
    def tools(count: int) -> tuple[Tool, ...]:
        return tuple(replace(WEATHER, name=f"tool_{index}") for index in range(count))

    assert len(json_of(build(ask(tools=tools(MAX_TOOLS))))["tools"]) == 32
    with pytest.raises(CapabilityError, match="at most 32 tools in a request, this one has 33"):
        build(ask(tools=tools(MAX_TOOLS + 1)))


@pytest.mark.parametrize("api", ["invocations", "openai"])
def test_at_most_4_megabytes(api: str) -> None:
    room = MAX_BODY - len(json.dumps({**json_of(build(ask(""), api=api))}, separators=(",", ":")))
    assert room > 4_000_000
    wire = build(ask("x" * room), api=api)
    assert isinstance(wire.body, bytes)
    assert len(wire.body) == MAX_BODY
    with pytest.raises(CapabilityError, match=r"4 MB.*has 4,194,305; send a shorter prompt"):
        build(ask("x" * (room + 1)), api=api)


def test_images_count_in_the_4_megabytes() -> None:
    def picture(size: int) -> Image:
        image = Image(PNG)
        image.load(ImageData.of("image/png", PNG + bytes(size)))
        return image

    build(ChatRequest((user(picture(1_500_000), picture(1_500_000)),)))
    with pytest.raises(CapabilityError, match="fewer or smaller images"):
        build(ChatRequest((user(picture(1_500_000), picture(1_700_000)),)))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_tokens": 8193}, "between 1 and 8192 .*reserved before the model runs"),
        ({"temperature": 2.1}, "between 0 and 2"),
        ({"top_p": 0}, "0 itself is excluded"),
        ({"top_p": 1.1}, "and 1 "),
        ({"top_k": 0}, "between 1 and inf"),
        ({"seed": 1}, "has no seed"),
        ({"frequency_penalty": 0.1}, "has no frequency_penalty"),
        ({"presence_penalty": 0.1}, "has no presence_penalty"),
        ({"repetition_penalty": 1.1}, "has no repetition_penalty"),
        ({"parallel_tool_calls": True, "tools": (WEATHER,)}, "has no parallel_tool_calls"),
    ],
    ids=str,
)
def test_what_is_refused_before_it_is_sent(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(CapabilityError, match=why):
        support(ask(**fields), target(), stream=False)


def test_what_maverick_can_do() -> None:
    request = ask(max_tokens=8192, temperature=2, top_p=1, top_k=1, tools=(WEATHER,), tool_choice="required")
    assert support(request, target(), stream=True) == {
        "stream": "native",
        "tools": "native",
        "stream_tools": "native",
        "forced_tools": "native",
    }
    assert support(ask(output=SCHEMA), target(), stream=True)["stream_json_schema"] == "emulate"
    assert [row.model for row in catalog.rows("databricks")] == ["llama-4-maverick"]  # Scout is not hosted
    assert catalog.facts("databricks", "llama-4-maverick")["context_window"].evidence == "inferred"


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("adb-1.2.azuredatabricks.net", "https://adb-1.2.azuredatabricks.net"),
        (" https://adb-1.2.azuredatabricks.net/ ", "https://adb-1.2.azuredatabricks.net"),
        ("https://adb-1.2.azuredatabricks.net/?o=12", "https://adb-1.2.azuredatabricks.net"),
        ("https://adb-1.2.azuredatabricks.net/serving-endpoints", "https://adb-1.2.azuredatabricks.net"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:8080", "https://localhost:8080"),
    ],
)
def test_host(given: str, host: str) -> None:
    assert settings(host=given).host == host
    assert settings(host=given).workspace == host


@pytest.mark.parametrize(
    "given",
    [
        "",
        "https://",
        "ftp://adb-1.2.azuredatabricks.net",
        "https://me:pw@host",
        "https://host/sql/1.0",
        "http://[::1",
        "a:b",
    ],
)
def test_what_is_no_host(given: str) -> None:
    with pytest.raises(ValidationError, match=r"should be the workspace's URL, such as https://adb-") as caught:
        settings(host=given)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "`host` is missing"),
        ({"token": "t", "auth_type": "pat"}, "`host` is missing"),
        ({"host": HOST, "token": "a", "api_key": "b"}, "`token` and `api_key` are the same thing"),
        ({"host": HOST, "client_id": "a"}, "only `client_id` is set"),
        ({"host": HOST, "client_secret": "a"}, "only `client_secret` is set"),
        ({"host": HOST, "azure_client_id": "a"}, "`azure_client_secret` belong together; only `azure_client_id`"),
        ({"host": HOST, "token": "a", "profile": "p"}, "`token` and `profile` are several ways"),
        (
            {"host": HOST, "client_id": "a", "client_secret": "b", "azure_client_id": "c", "azure_client_secret": "d"},
            "`client_secret` and `azure_client_secret` are several ways to log in",
        ),
        ({"host": HOST, "token": "a", "request_tags": {"a": "b"}}, '`request_tags` needs `api = "gateway"`'),
    ],
    ids=str,
)
def test_tables_that_make_no_sense(table: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings(**table)


@pytest.mark.parametrize(
    "table",
    [
        {"host": HOST, "token": "a", "api_key": "a"},
        {"host": HOST, "token": "a", "profile": "p", "auth_type": "pat"},
        {"host": HOST, "client_id": "a", "auth_type": "github-oidc"},
        {"host": HOST},
        {"profile": "work"},
        {"azure_resource_id": "/subscriptions/s", "azure_client_id": "a", "azure_client_secret": "b"},
        {"base_url": "http://127.0.0.1:9/databricks", "token": "a"},
    ],
    ids=str,
)
def test_tables_that_do(table: dict[str, Any]) -> None:
    options = settings(**table)
    secrets = [value for key, value in table.items() if "secret" in key or key in ("token", "api_key")]
    assert not any(f"'{secret}'" in repr(options) for secret in secrets)


HOST_ENV = {"DATABRICKS_HOST": HOST}
M2M = {"DATABRICKS_CLIENT_ID": "id", "DATABRICKS_CLIENT_SECRET": "s"}
M2M_TABLE = {"client_id": "id", "client_secret": "s"}
ENTRA = {"ARM_CLIENT_ID": "app", "ARM_CLIENT_SECRET": "s", "ARM_TENANT_ID": "ten"}
ENTRA_TABLE = {"azure_client_id": "app", "azure_client_secret": "s", "azure_tenant_id": "ten"}


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        (HOST_ENV, None),
        ({"DATABRICKS_TOKEN": "t"}, None),
        ({**HOST_ENV, "DATABRICKS_TOKEN": ""}, None),
        ({**HOST_ENV, "DATABRICKS_TOKEN": "t"}, {"host": HOST, "token": "t"}),
        (
            {"DATABRICKS_API_BASE": f"{HOST}/serving-endpoints", "DATABRICKS_API_KEY": "t"},
            {"host": f"{HOST}/serving-endpoints", "token": "t"},
        ),
        ({**HOST_ENV, **M2M}, {"host": HOST, **M2M_TABLE}),
        ({**HOST_ENV, "DATABRICKS_CLIENT_ID": "id"}, None),
        ({**HOST_ENV, **ENTRA}, {"host": HOST, **ENTRA_TABLE}),
        (ENTRA, None),
        (
            {**ENTRA, "DATABRICKS_AZURE_RESOURCE_ID": "/subscriptions/s"},
            {**ENTRA_TABLE, "azure_resource_id": "/subscriptions/s"},
        ),
        # the SDK's order where there are several, unless it is said which
        ({**HOST_ENV, **M2M, **ENTRA, "DATABRICKS_TOKEN": "t"}, {"host": HOST, "token": "t"}),
        ({**HOST_ENV, **M2M, **ENTRA}, {"host": HOST, **M2M_TABLE}),
        ({**HOST_ENV, **M2M, **ENTRA, "DATABRICKS_AUTH_TYPE": "azure-client-secret"}, {"host": HOST, **ENTRA_TABLE}),
        ({"DATABRICKS_CONFIG_PROFILE": "work"}, {"profile": "work"}),
        ({**HOST_ENV, "DATABRICKS_CONFIG_PROFILE": "work"}, {"host": HOST, "profile": "work"}),
        ({**HOST_ENV, "DATABRICKS_TOKEN": "t", "DATABRICKS_CONFIG_PROFILE": "p"}, {"host": HOST, "token": "t"}),
        ({**HOST_ENV, "DATABRICKS_AUTH_TYPE": "azure-cli"}, {"host": HOST, "auth_type": "azure-cli"}),
        ({"DATABRICKS_AUTH_TYPE": "azure-cli"}, None),
    ],
    ids=str,
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    assert SPEC.from_env(env) == table
    if table is not None:
        settings(**table)  # what is found is a table that will do


def test_extra_is_the_last_word() -> None:
    sent = json_of(build(ask(extra={"databricks": {"n": 2, "messages": [{"role": "user", "content": "Other"}]}})))
    assert sent == {"messages": [{"role": "user", "content": "Other"}], "n": 2}


def test_system_messages_stay_where_they_are() -> None:
    sent = json_of(build(ChatRequest((system("Be brief."), user("Hi")))))
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
