"""Azure's own SDKs as clients: azure-ai-inference (sync and async) of the model hosts, azure-identity of Entra ID."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Iterator

import pytest
from azure.core import exceptions
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport

from llamaroute.emulator import Emulator, Reply
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, IDENTITY_HEADER, TENANT

inference = importlib.import_module("azure.ai.inference")
aio = importlib.import_module("azure.ai.inference.aio")
models = importlib.import_module("azure.ai.inference.models")
identity = importlib.import_module("azure.identity")
identity_aio = importlib.import_module("azure.identity.aio")

MAVERICK = "Llama-4-Maverick-17B-128E-Instruct-FP8"
SCOUT = "Llama-4-Scout-17B-16E-Instruct"
PATHS = {"azure-models": "/models", "azure-serverless": ""}
SERVED = {"azure-models": MAVERICK, "azure-serverless": SCOUT}
both_hosts = pytest.mark.parametrize("host", PATHS)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """Tools and formats are let through: without that there is nothing to parse."""
    quirks = [f"{host}-{what}" for host in PATHS for what in ("tools", "formats")]
    with Emulator(quirks=quirks) as running:
        yield running


def endpoint(emu: Emulator, host: str) -> str:
    return emu.base_url(host) + PATHS[host]


def client(emu: Emulator, host: str, key: str | None = None, **options):
    credential = AzureKeyCredential(key or emu.key(host) or "")
    return inference.ChatCompletionsClient(endpoint(emu, host), credential, retry_total=0, **options)


def ask(text: str = "Hello é🎉") -> list:
    return [models.SystemMessage("Be brief."), models.UserMessage(text)]


@both_hosts
def test_plain(emu: Emulator, host: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    with client(emu, host) as sdk:
        answer = sdk.complete(messages=ask(), model=MAVERICK, temperature=0.3, max_tokens=50, seed=7, stop=["END"])
    choice = answer.choices[0]
    assert choice.message.content == "Oslo is cloudy é🎉."
    assert choice.message.role == models.ChatRole.ASSISTANT
    assert choice.message.tool_calls is None
    assert choice.finish_reason == models.CompletionsFinishReason.STOPPED
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (21, 6, 27)
    assert answer.model == SERVED[host]
    assert answer.created.year >= 2026
    request = emu.requests[0]
    assert request.query == {"api-version": "2024-05-01-preview"}
    assert request.headers["api-key"] == emu.key(host)
    assert request.headers["authorization"] == f"Bearer {emu.key(host)}"
    assert request.json["messages"][1] == {"role": "user", "content": "Hello é🎉"}


@both_hosts
@pytest.mark.parametrize("ask_for_usage", [False, True])
def test_stream(emu: Emulator, host: str, ask_for_usage: bool) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    extras = {"stream_options": {"include_usage": True}} if ask_for_usage else None
    with client(emu, host) as sdk:
        updates = list(sdk.complete(messages=ask(), model=MAVERICK, stream=True, model_extras=extras))
    choices = [update.choices[0] for update in updates if update.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Oslo is cloudy é🎉."
    assert len(choices) > 5
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert choices[0].delta.role == models.ChatRole.ASSISTANT
    counts = [update.usage.total_tokens for update in updates if update.usage]
    # Serverless: unasked, with the last choice. /models: when asked, in a chunk of its own.
    assert counts == ([27] if ask_for_usage or host == "azure-serverless" else [])
    assert bool(updates[-1].choices) == (host == "azure-serverless" or not ask_for_usage)
    assert ("extra-parameters" in emu.requests[0].headers) == ask_for_usage


@pytest.mark.parametrize("quirks", [["azure-models-stream-filters"], ["azure-models-usage-on-finish"]])
def test_other_stream_layouts(quirks: list[str]) -> None:
    with Emulator(["Hi there."], quirks=quirks) as emu, client(emu, "azure-models") as sdk:
        updates = list(sdk.complete(messages=ask(), model=MAVERICK, stream=True))
    text = "".join(update.choices[0].delta.content or "" for update in updates if update.choices)
    assert text == "Hi there."
    # The SDK leaves out the event that has neither choices nor usage, and keeps what it does not know.
    filtered = "azure-models-stream-filters" in quirks
    assert ("content_filter_results" in updates[0].choices[0]) == filtered
    assert (updates[-1].usage is not None) == ("azure-models-usage-on-finish" in quirks)


@both_hosts
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_calls(emu: Emulator, host: str, streamed: bool, weather_tool: dict) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Malmö"}), ("get_weather", {"city": "Oslo"})])
    function = models.FunctionDefinition(**weather_tool["function"])
    tools = [models.ChatCompletionsToolDefinition(function=function)]
    with client(emu, host) as sdk:
        answer = sdk.complete(messages=ask(), model=MAVERICK, tools=tools, tool_choice="required", stream=streamed)
        if streamed:
            choices = [update.choices[0] for update in answer if update.choices]
            calls = [call for choice in choices for call in choice.delta.tool_calls or []]
            reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
        else:
            calls, reasons = answer.choices[0].message.tool_calls, [answer.choices[0].finish_reason]
    assert [call.function.name for call in calls] == ["get_weather", "get_weather"]
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Malmö", "Oslo"]
    assert len({call.id for call in calls}) == 2
    assert reasons == [models.CompletionsFinishReason.TOOL_CALLS]
    assert emu.requests[0].json["tools"] == [weather_tool]


@both_hosts
def test_tool_results_go_back(emu: Emulator, host: str) -> None:
    call = models.ChatCompletionsToolCall(id="c1", function=models.FunctionCall(name="f", arguments="{}"))
    history = [*ask(), models.AssistantMessage(tool_calls=[call]), models.ToolMessage("cloudy", tool_call_id="c1")]
    emu.reply("It is cloudy.")
    with client(emu, host) as sdk:
        answer = sdk.complete(messages=history, model=MAVERICK)
    assert answer.choices[0].message.content == "It is cloudy."


@both_hosts
def test_a_forced_tool_is_called_with_its_schema(emu: Emulator, host: str, weather_tool: dict) -> None:
    function = models.FunctionDefinition(**weather_tool["function"])
    named = models.ChatCompletionsNamedToolChoice(
        function=models.ChatCompletionsNamedToolChoiceFunction(name=function.name)
    )
    with client(emu, host) as sdk:
        answer = sdk.complete(
            messages=ask(), model=MAVERICK, tools=[models.ChatCompletionsToolDefinition(function=function)],
            tool_choice=named,
        )  # fmt: skip
    assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments) == {"city": "text", "unit": "c"}


@both_hosts
def test_json_schema(emu: Emulator, host: str) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    form = models.JsonSchemaFormat(name="answer", schema=schema, strict=True)
    with client(emu, host) as sdk:
        answer = sdk.complete(messages=ask(), model=MAVERICK, response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"ok": True}


@both_hosts
def test_image(emu: Emulator, host: str, image_url: str) -> None:
    link = models.ImageUrl(url=image_url, detail=models.ImageDetailLevel.LOW)
    parts = [models.TextContentItem(text="What?"), models.ImageContentItem(image_url=link)]
    with client(emu, host) as sdk:
        answer = sdk.complete(messages=[models.UserMessage(parts)], model=MAVERICK)
    assert answer.choices[0].message.content == "I see 1 image (image/png, 64x48)."


def test_a_second_image_is_too_many_for_maverick(emu: Emulator, image_url: str) -> None:
    images = [models.ImageContentItem(image_url=models.ImageUrl(url=image_url)) for _ in range(2)]
    with client(emu, "azure-models") as sdk:
        with pytest.raises(exceptions.HttpResponseError) as caught:
            sdk.complete(messages=[models.UserMessage(images)], model=MAVERICK)
        answer = sdk.complete(messages=[models.UserMessage(images)], model=SCOUT)
    shown = '{"object":"error","message":"At most 1 image(s) may be provided in one request.","type":"BadRequestError","param":null,"code":400}'  # noqa: E501
    # Word for word what https://github.com/meta-llama/llama-cookbook/issues/938 shows.
    assert str(caught.value) == f"(Bad Request) {shown}\nCode: Bad Request\nMessage: {shown}"
    assert answer.choices[0].message.content.startswith("I see 2 images")


@pytest.mark.parametrize("host", ["azure-serverless"])
def test_model_info(emu: Emulator, host: str) -> None:
    with client(emu, host) as sdk:
        info = sdk.get_model_info()
    assert (info.model_name, info.model_type, info.model_provider_name) == (SCOUT, "chat-completion", "Meta")


def test_no_model_info_behind_many_deployments(emu: Emulator) -> None:
    with client(emu, "azure-models") as sdk, pytest.raises(exceptions.ResourceNotFoundError):
        sdk.get_model_info()


@both_hosts
@pytest.mark.parametrize("streamed", [False, True])
def test_wrong_key(emu: Emulator, host: str, streamed: bool) -> None:
    with client(emu, host, "wrong") as sdk, pytest.raises(exceptions.ClientAuthenticationError) as caught:
        sdk.complete(messages=ask(), model=MAVERICK, stream=streamed)
    if host == "azure-models":
        assert caught.value.error.code == "401"
        assert caught.value.error.message.startswith("Access denied due to invalid subscription key")
    else:
        assert caught.value.response.headers["x-ms-error-reason"] == "Invalid JWT."
        assert "Auth token validation failed" in str(caught.value)


def test_unknown_deployment_and_no_deployment(emu: Emulator) -> None:
    with client(emu, "azure-models") as sdk:
        with pytest.raises(exceptions.HttpResponseError) as caught:
            sdk.complete(messages=ask(), model="nothing")
        assert caught.value.error.code == "unknown_model"
        with pytest.raises(exceptions.HttpResponseError) as caught:
            sdk.complete(messages=ask())
        assert caught.value.error.code == "no_model_name"
        emu.fault(status=404)
        with pytest.raises(exceptions.ResourceNotFoundError) as caught:
            sdk.complete(messages=ask(), model=MAVERICK)
        assert caught.value.error.code == "DeploymentNotFound"


@both_hosts
def test_rate_limit_is_retried_after_the_wait_it_was_told(emu: Emulator, host: str) -> None:
    emu.fault(status=429)
    with client(emu, host) as sdk, pytest.raises(exceptions.HttpResponseError) as caught:
        sdk.complete(messages=ask(), model=MAVERICK)
    assert caught.value.status_code == 429
    assert caught.value.error.code == "RateLimitReached"
    emu.clear()
    emu.fault(status=429, retry_after=0, times=2)
    credential = AzureKeyCredential(emu.key(host) or "")
    with inference.ChatCompletionsClient(endpoint(emu, host), credential, retry_total=2) as sdk:
        sdk.complete(messages=ask(), model=MAVERICK)
    assert [request.status for request in emu.requests] == [429, 429, 200]


@both_hosts
@pytest.mark.parametrize("flat", [False, True])
def test_blocked_prompt(host: str, flat: bool) -> None:
    quirks = [f"{host}-filter-flat"] if flat else []
    with Emulator(quirks=quirks) as emu, client(emu, host) as sdk:
        emu.fault(status=400, code="content_filter")
        with pytest.raises(exceptions.HttpResponseError) as caught:
            sdk.complete(messages=ask(), model=MAVERICK)
    error = caught.value
    assert error.status_code == 400
    assert error.error.code == "content_filter", "azure-core reads both forms"
    assert "content management policy" in error.error.message
    assert ("error" in error.response.json()) == (not flat)
    if not flat:
        assert error.error.innererror["code"] == "ResponsibleAIPolicyViolation"


@both_hosts
def test_blocked_answer(emu: Emulator, host: str) -> None:
    emu.replies(Reply(finish_reason="content_filter"), Reply("I will", finish_reason="content_filter"))
    with client(emu, host) as sdk:
        plain = sdk.complete(messages=ask(), model=MAVERICK).choices[0]
        updates = list(sdk.complete(messages=ask(), model=MAVERICK, stream=True))
    assert plain.finish_reason == models.CompletionsFinishReason.CONTENT_FILTERED
    assert plain.get("message") is None
    assert [update.choices[0].finish_reason for update in updates][-1] == "content_filter"


def test_extra_parameters(emu: Emulator) -> None:
    """`model_extras` makes the SDK send `pass-through`, which nobody refuses; the bare field is refused."""
    with client(emu, "azure-serverless") as sdk:
        sdk.complete(messages=ask(), model_extras={"top_k": 3})
        with pytest.raises(exceptions.HttpResponseError) as caught:
            sdk.complete({"messages": [{"role": "user", "content": "x"}], "top_k": 3})
    assert emu.requests[0].headers["extra-parameters"] == "pass-through"
    assert caught.value.response.json()["detail"].startswith("Extra parameters ['top_k'] are not allowed when")


class StaticToken:
    """A TokenCredential as a test would fake it; counts what it is asked for."""

    def __init__(self, text: str) -> None:
        self.text, self.scopes = text, []

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        self.scopes += scopes
        return AccessToken(self.text, int(time.time()) + 3600)


@both_hosts
def test_token_credential(emu: Emulator, host: str) -> None:
    audience = "https://ml.azure.com" if host == "azure-serverless" else "https://cognitiveservices.azure.com"
    credential = StaticToken(emu.tokens.issue(audience).text)
    options = {} if host == "azure-serverless" else {"credential_scopes": [f"{audience}/.default"]}
    with inference.ChatCompletionsClient(endpoint(emu, host), credential, retry_total=0, **options) as sdk:
        answer = sdk.complete(messages=ask("Hi"), model=MAVERICK, enforce_https=False)
        assert answer.choices[0].message.content == "You said: Hi"
        emu.revoke_tokens()
        with pytest.raises(exceptions.ClientAuthenticationError):
            sdk.complete(messages=ask("Hi"), model=MAVERICK, enforce_https=False)
    assert set(credential.scopes) == {f"{audience}/.default"}
    assert "api-key" not in emu.requests[0].headers


def test_token_for_another_service(emu: Emulator) -> None:
    """What the SDK asks for by default is no good for `/models`
    (https://github.com/Azure/azure-sdk-for-python/issues/40260)."""
    credential = StaticToken(emu.tokens.issue("https://ml.azure.com").text)
    sdk = inference.ChatCompletionsClient(endpoint(emu, "azure-models"), credential, retry_total=0)
    with sdk, pytest.raises(exceptions.ClientAuthenticationError, match="audience is incorrect"):
        sdk.complete(messages=ask(), model=MAVERICK, enforce_https=False)
    assert credential.scopes == ["https://ml.azure.com/.default"]


# ── the async client ──


@both_hosts
def test_async_client(emu: Emulator, host: str, weather_tool: dict, image_url: str) -> None:
    emu.replies("One.", "Two é🎉.", Reply(tool_calls=[("get_weather", {"city": "Oslo"})]))
    function = models.FunctionDefinition(**weather_tool["function"])
    tools = [models.ChatCompletionsToolDefinition(function=function)]
    image = models.ImageContentItem(image_url=models.ImageUrl(url=image_url))

    async def run() -> None:
        credential = AzureKeyCredential(emu.key(host) or "")
        async with aio.ChatCompletionsClient(endpoint(emu, host), credential, retry_total=0) as sdk:
            plain = await sdk.complete(messages=ask(), model=MAVERICK)
            assert plain.choices[0].message.content == "One."
            stream = await sdk.complete(messages=ask(), model=MAVERICK, stream=True)
            text = "".join([u.choices[0].delta.content or "" async for u in stream if u.choices])
            assert text == "Two é🎉."
            called = await sdk.complete(messages=ask(), model=MAVERICK, tools=tools)
            assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
            seen = await sdk.complete(messages=[models.UserMessage([image])], model=MAVERICK)
            assert seen.choices[0].message.content == "I see 1 image (image/png, 64x48)."
            emu.fault(status=429)
            with pytest.raises(exceptions.HttpResponseError) as caught:
                await sdk.complete(messages=ask(), model=MAVERICK)
            assert caught.value.error.code == "RateLimitReached"
        async with aio.ChatCompletionsClient(endpoint(emu, host), AzureKeyCredential("wrong"), retry_total=0) as sdk:
            with pytest.raises(exceptions.ClientAuthenticationError):
                await sdk.complete(messages=ask(), model=MAVERICK)

    asyncio.run(run())


@both_hosts
@pytest.mark.parametrize("fault", [{"keepalive": True}, {"crlf": True}])
def test_what_breaks_the_vendors_reader(emu: Emulator, host: str, fault: dict[str, bool]) -> None:
    """Why these hosts send LF, and no comments of their own."""
    emu.fault(**fault)
    with client(emu, host) as sdk, pytest.raises(ValueError, match="SSE event not supported"):
        list(sdk.complete(messages=ask(), model=MAVERICK, stream=True))


# ── azure-identity ──


class ToEmulator(RequestsTransport):
    """azure-core's own transport, with the login service's address replaced: azure-identity insists on https."""

    def __init__(self, emu: Emulator) -> None:
        super().__init__()
        self._base = emu.base_url("entra")

    def send(self, request, **options):
        request.url = request.url.replace("https://login.microsoftonline.com", self._base)
        return super().send(request, **options)


def entra(emu: Emulator, secret: str = CLIENT_SECRET, client_id: str = CLIENT_ID):
    return identity.ClientSecretCredential(TENANT, client_id, secret, transport=ToEmulator(emu), retry_total=0)


@both_hosts
def test_entra_token_opens_the_host(emu: Emulator, host: str) -> None:
    scope = (
        "https://ml.azure.com/.default"
        if host == "azure-serverless"
        else "https://cognitiveservices.azure.com/.default"
    )
    with entra(emu) as credential:
        sdk = inference.ChatCompletionsClient(endpoint(emu, host), credential, credential_scopes=[scope], retry_total=0)
        with sdk:
            for _ in range(2):
                answer = sdk.complete(messages=ask("Hi"), model=MAVERICK, enforce_https=False)
                assert answer.choices[0].message.content == "You said: Hi"
    tokens = [request for request in emu.requests if request.path == f"/{TENANT}/oauth2/v2.0/token"]
    assert len(tokens) == 1, "the token is kept"
    assert f"scope={scope.replace(':', '%3A').replace('/', '%2F')}" in tokens[0].body.decode()


def test_entra_token_expires() -> None:
    with Emulator(token_life=3600) as emu, entra(emu) as credential:
        token = credential.get_token("https://ai.azure.com/.default")
        assert 3500 < token.expires_on - time.time() < 3600
        assert token.token.count(".") == 2, "it looks like a JWT"
        assert emu.tokens.valid(token.token, "https://ai.azure.com")
        assert not emu.tokens.valid(token.token, "https://cognitiveservices.azure.com")
        emu.revoke_tokens()
        assert emu.tokens.state(token.token, "https://ai.azure.com") == "revoked"


@pytest.mark.parametrize(
    ("change", "scope", "code"),
    [
        ({"secret": "wrong"}, "https://ai.azure.com/.default", "AADSTS7000215"),
        ({"client_id": "00000000-0000-0000-0000-00000000ffff"}, "https://ai.azure.com/.default", "AADSTS700016"),
        ({}, "https://ai.azure.com/user_impersonation", "AADSTS1002012"),
        ({}, "https://nobody.example/.default", "AADSTS500011"),
    ],
)
def test_entra_refuses(emu: Emulator, change: dict[str, str], scope: str, code: str) -> None:
    with entra(emu, **change) as credential, pytest.raises(exceptions.ClientAuthenticationError, match=code):
        credential.get_token(scope)


def test_entra_is_down(emu: Emulator) -> None:
    emu.fault(status=503, host="entra", path="/token", times=10)
    with entra(emu) as credential, pytest.raises(exceptions.ClientAuthenticationError, match="HTTP Error: 503"):
        credential.get_token("https://ai.azure.com/.default")


def test_async_entra(emu: Emulator) -> None:
    class ToEmulatorAsync(AioHttpTransport):
        async def send(self, request, **options):
            request.url = request.url.replace("https://login.microsoftonline.com", emu.base_url("entra"))
            return await super().send(request, **options)

    async def run() -> str:
        transport = ToEmulatorAsync()
        async with identity_aio.ClientSecretCredential(
            TENANT, CLIENT_ID, CLIENT_SECRET, transport=transport
        ) as credential:
            return (await credential.get_token("https://ai.azure.com/.default")).token

    assert emu.tokens.valid(asyncio.run(run()), "https://ai.azure.com")


# ── managed identities: plain http, and nothing but the environment leads here ──


@pytest.fixture(params=["machine", "app"])
def identity_of(request: pytest.FixtureRequest, emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "machine":
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emu.url)
    else:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{emu.base_url('entra')}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
    return str(request.param)


@pytest.mark.parametrize("client_id", [None, CLIENT_ID])
def test_managed_identity(emu: Emulator, identity_of: str, client_id: str | None) -> None:
    with identity.ManagedIdentityCredential(client_id=client_id) as credential:
        first = credential.get_token("https://ai.azure.com/.default")
        assert credential.get_token("https://ai.azure.com/.default").token == first.token
    assert emu.tokens.valid(first.token, "https://ai.azure.com")
    assert 3500 < first.expires_on - time.time() <= 3600
    asked = [request for request in emu.requests if request.status == 200]
    wanted = "/metadata/identity/oauth2/token" if identity_of == "machine" else "/msi/token"
    assert [(request.host, request.path) for request in asked] == [("entra", wanted)]


def test_default_credential_finds_the_identity(emu: Emulator, identity_of: str) -> None:
    scope = "https://cognitiveservices.azure.com/.default"
    with identity.DefaultAzureCredential() as credential:
        url = endpoint(emu, "azure-models")
        with inference.ChatCompletionsClient(url, credential, credential_scopes=[scope], retry_total=0) as sdk:
            answer = sdk.complete(messages=ask("Hi"), model=MAVERICK, enforce_https=False)
    assert answer.choices[0].message.content == "You said: Hi"


def test_managed_identity_is_refused(emu: Emulator, identity_of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = pytest.raises(exceptions.ClientAuthenticationError)
    with identity.ManagedIdentityCredential(client_id="nobody", retry_total=0) as credential, refused:
        credential.get_token("https://ai.azure.com/.default")
    assert emu.requests[-1].status == 400
    if identity_of == "app":
        monkeypatch.setenv("IDENTITY_HEADER", "wrong")
        with identity.ManagedIdentityCredential(retry_total=0) as credential, refused:
            credential.get_token("https://ai.azure.com/.default")
        assert emu.requests[-1].status == 401
