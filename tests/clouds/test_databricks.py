"""Whole clients against the emulated workspace: all three routes, images, streams, tools, errors, logins."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import config as sdk_config
from databricks.sdk.environments import ARM_DATABRICKS_RESOURCE_ID, AzureEnvironment, Cloud, DatabricksEnvironment

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, TENANT
from tests.client.api import Api
from tests.emulator.conftest import png

ROUTES = ("invocations", "openai", "gateway")
WEATHER = lr.Tool(
    "weather",
    "Weather forecast.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Use = Callable[[Any], Coroutine[Any, Any, Any]]


def using(api: Api, emu: Emulator, use: Use, /, **table: Any) -> Any:
    """What `use` gives for a client of the workspace."""

    async def main() -> Any:
        settings = {**emu.providers("databricks")["databricks"], **table}
        async with api.client({"providers": {"work": settings}}) as client:
            return await use(client)

    return api.run(main())


def test_a_question(api: Api, emu: Emulator, route: str) -> None:
    answer = using(api, emu, lambda client: client.chat("Hi", system="Be brief."), api=route)
    assert (answer.text, answer.finish_reason, answer.usage.estimated) == ("You said: Hi", "stop", False)
    assert (answer.provider, answer.model) == ("work", "llama-4-maverick")
    assert answer.raw["model"] == "meta-llama-4-maverick-040225"
    assert uuid.UUID(answer.request_id)
    assert answer.cost is not None
    assert (
        emu.requests[-1].target.removeprefix("/databricks")
        == {
            "invocations": "/serving-endpoints/databricks-llama-4-maverick/invocations",
            "openai": "/serving-endpoints/chat/completions",
            "gateway": "/ai-gateway/mlflow/v1/chat/completions",
        }[route]
    )


def test_a_stream_whose_usage_counts_up(api: Api, emu: Emulator, route: str) -> None:
    emu.reply("Oslo is cloudy.", usage=(20, 7))

    async def use(client: Any) -> Any:
        async with client.stream("Weather?") as stream:
            pieces = [piece async for piece in stream.text()]
        return pieces, stream.response

    pieces, answer = using(api, emu, use, api=route)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text == "Oslo is cloudy."
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (20, 7, 27)
    assert "stream_options" not in emu.requests[-1].json


@pytest.mark.parametrize(
    "quirk", ["databricks-null-usage", "databricks-role-on-every-chunk", "databricks-list-content"]
)
def test_streams_of_other_shapes(api: Api, quirk: str) -> None:
    async def use(client: Any) -> Any:
        async with client.stream("Weather?") as stream:
            async for _ in stream:
                pass
        return stream.response

    with Emulator(["Oslo is cloudy."], quirks=[quirk]) as emu:
        answer = using(api, emu, use)
    assert (answer.text, answer.finish_reason, answer.usage.estimated) == ("Oslo is cloudy.", "stop", False)


def test_images_go_inline(api: Api, emu: Emulator, route: str) -> None:
    picture = lr.Image(png(64, 48))
    answer = using(api, emu, lambda client: client.chat(["What is shown?", picture]), api=route)
    assert answer.text == "I see 1 image (image/png, 64x48)."
    part = emu.requests[-1].json["messages"][0]["content"][1]
    assert part == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + base64.b64encode(png(64, 48)).decode()},
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_there_and_back(api: Api, emu: Emulator, route: str, streamed: bool) -> None:
    emu.reply(tool_calls=[("weather", {"city": "Oslo"})])
    emu.reply("Cloudy.")

    async def ask(client: Any, messages: list[Any]) -> Any:
        if not streamed:
            return await client.chat(messages, tools=[WEATHER])
        async with client.stream(messages, tools=[WEATHER]) as stream:
            async for _ in stream:
                pass
        return stream.response

    async def use(client: Any) -> Any:
        messages: list[Any] = ["Weather in Oslo?"]
        first = await ask(client, messages)
        (call,) = first.tool_calls
        messages += [first.message, lr.tool_result(call, "cloudy")]
        return first, await ask(client, messages)

    first, second = using(api, emu, use, api=route)
    assert first.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in first.tool_calls] == [("weather", {"city": "Oslo"})]
    assert (second.text, second.finish_reason) == ("Cloudy.", "stop")
    assert second.warnings == ()


def test_a_forced_tool_and_a_schema(api: Api, emu: Emulator, route: str) -> None:
    forced = using(api, emu, lambda c: c.chat("Weather?", tools=[WEATHER], tool_choice="required"), api=route)
    assert [call.name for call in forced.tool_calls] == ["weather"]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    typed = using(api, emu, lambda client: client.chat("Where?", output=schema), api=route)
    assert set(json.loads(typed.text)) == {"city"}


def test_knobs(api: Api, emu: Emulator, route: str) -> None:
    """The emulated host refuses every field that the documents do not name."""
    knobs = {"max_tokens": 8192, "temperature": 2, "top_p": 1, "top_k": 5, "stop": ["END"]}
    assert using(api, emu, lambda client: client.chat("Hi", **knobs), api=route).text == "You said: Hi"
    assert knobs.items() <= emu.requests[-1].json.items()


@pytest.mark.parametrize(
    "knobs",
    [{"seed": 1}, {"max_tokens": 8193}, {"presence_penalty": 0.5}, {"top_p": 0.0}, {"parallel_tool_calls": True}],
    ids=str,
)
def test_what_the_host_would_refuse_is_not_sent(api: Api, emu: Emulator, knobs: dict[str, Any]) -> None:
    with pytest.raises(lr.CapabilityError):
        using(api, emu, lambda client: client.chat("Hi", tools=[WEATHER], **knobs))
    assert emu.requests == []


def test_it_would_have_been_refused(emu: Emulator) -> None:
    """What is refused before it is sent is what the emulated host refuses, not more."""
    for extra, status in (({"seed": 1}, 400), ({"max_tokens": 8193}, 429), ({"parallel_tool_calls": True}, 400)):
        with pytest.raises(lr.ProviderError) as caught:
            using(Api("sync"), emu, lambda client, e=extra: client.chat("Hi", extra={"work": e}, retry=1))
        assert caught.value.status == status


def test_a_request_of_more_than_4_megabytes(api: Api, emu: Emulator) -> None:
    with pytest.raises(lr.CapabilityError, match="send a shorter prompt"):
        using(api, emu, lambda client: client.chat("x" * (4 << 20)))
    assert emu.requests == []


def test_errors(api: Api, emu: Emulator, route: str) -> None:
    def failing(**options: Any) -> lr.ProviderError:
        table = options.pop("table", {})
        with pytest.raises(lr.ProviderError) as caught:
            using(api, emu, lambda client: client.chat("Hi", retry=1, **options), api=route, **table)
        assert uuid.UUID(caught.value.request_id)
        return caught.value

    error = failing(model="work:no-such-endpoint")
    assert (type(error), error.code) == (lr.NotFoundError, "ENDPOINT_NOT_FOUND")
    error = failing(table={"api_key": "dapi-wrong-0123456789"})
    assert (type(error), error.status, error.code) == (lr.AuthenticationError, 403, "403")
    assert f"[ReqId: {error.request_id}]" in str(error)
    assert "dapi-wrong" not in str(error)
    emu.fault(status=403, code="PERMISSION_DENIED")
    error = failing()
    assert (type(error), error.code) == (lr.PermissionDeniedError, "PERMISSION_DENIED")
    emu.fault(status=429)
    error = failing()
    assert (type(error), error.code, error.retryable) == (lr.RateLimitError, "REQUEST_LIMIT_EXCEEDED", True)
    emu.fault(status=503)
    assert type(failing()) is lr.OverloadedError


def test_a_prompt_that_is_too_long(api: Api) -> None:
    with Emulator(context={"databricks": 50}) as emu, pytest.raises(lr.ContextLengthError):
        using(api, emu, lambda client: client.chat("word " * 200))


def test_turns_that_do_not_alternate(api: Api) -> None:
    with Emulator(quirks=["databricks-roles-alternate"]) as emu, pytest.raises(lr.InvalidRequestError) as caught:
        using(api, emu, lambda client: client.chat([lr.user("Hi"), lr.user("Hello?")]))
    assert "must alternate" in str(caught.value)


def test_an_error_as_the_first_event_is_tried_again(api: Api, emu: Emulator) -> None:
    emu.fault(error_first=True, status=503)

    async def use(client: Any) -> Any:
        async with client.stream("Hi", retry=lr.RetryPolicy(attempts=2, base=0)) as stream:
            async for _ in stream:
                pass
        return stream.response

    answer = using(api, emu, use)
    assert answer.text == "You said: Hi"
    assert [attempt.error and type(attempt.error).__name__ for attempt in answer.attempts][-1] is None
    assert len(answer.attempts) == 2


@pytest.mark.parametrize("where", ["", "/databricks"])
def test_machine_to_machine(api: Api, emu: Emulator, where: str) -> None:
    """With a path in the address and without; when a token is refused, there is a new one."""

    async def use(client: Any) -> None:
        for _ in range(3):
            assert (await client.chat("Hi")).text == "You said: Hi"
        emu.revoke_tokens()
        assert (await client.chat("Hi", retry=1)).text == "You said: Hi"

    table = {"api_key": None, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "base_url": emu.url + where}
    using(api, emu, use, **table)
    assert sum(request.path == "/oidc/v1/token" for request in emu.requests) == 2
    assert [request.status for request in emu.requests if "serving-endpoints" in request.path] == [200] * 3 + [403, 200]


def test_a_service_principal_of_entra(api: Api, emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tokens are what the workspace wants to see; only Entra's own address is the test's."""
    entra = AzureEnvironment("PUBLIC", "https://management.core.windows.net/", "", f"{emu.base_url('entra')}/")
    azure = DatabricksEnvironment(Cloud.AZURE, ".test", ARM_DATABRICKS_RESOURCE_ID, entra)
    monkeypatch.setattr(sdk_config, "get_environment_for_hostname", lambda hostname: azure)
    table = {"azure_tenant_id": TENANT, "azure_client_id": CLIENT_ID, "azure_client_secret": CLIENT_SECRET}
    answer = using(api, emu, lambda client: client.chat("Hi"), api_key=None, host=emu.url, **table)
    assert answer.text == "You said: Hi"
    assert "x-databricks-azure-sp-management-token" in emu.requests[-1].headers
    assert sum(request.path == f"/{TENANT}/oauth2/token" for request in emu.requests) == 2


def test_a_wrong_secret_is_an_error_without_it(api: Api, emu: Emulator) -> None:
    table = {"api_key": None, "client_id": CLIENT_ID, "client_secret": "wrong-secret-0123456789"}
    with pytest.raises(lr.AuthenticationError, match=r"check providers\.work\.client_id") as caught:
        using(api, emu, lambda client: client.chat("Hi"), **table)
    assert "wrong-secret" not in str(caught.value)
    assert not [request for request in emu.requests if "serving-endpoints" in request.path]


@pytest.mark.parametrize(
    "names",
    [("DATABRICKS_HOST", "DATABRICKS_TOKEN"), ("DATABRICKS_API_BASE", "DATABRICKS_API_KEY")],
    ids=["databricks-sdk", "litellm"],
)
def test_the_environment_alone_will_do(
    api: Api, emu: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where no file is
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    values = (f"{emu.url}/serving-endpoints", str(emu.key("databricks")))

    async def main() -> Any:
        async with api.client(None, env=dict(zip(names, values, strict=True))) as client:
            return await client.chat("Hi")

    answer = api.run(main())
    assert (answer.text, answer.target) == ("You said: Hi", "databricks:llama-4-maverick")
