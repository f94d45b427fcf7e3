"""Azure AI Foundry through whole clients: all routes of the emulator, both clients, keys and Entra ID."""

from __future__ import annotations

import base64
from typing import Any

import azure.identity
import pytest
import requests
from azure.ai.inference import ChatCompletionsClient
from azure.core.credentials import AzureKeyCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ClientSecretCredential
from requests.adapters import HTTPAdapter

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault, Reply
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, TENANT
from llamaroute.interop.azure import from_sdk
from tests.client.api import Api
from tests.emulator.conftest import png

from .answers import codes, streamed
from .logins import EntraCredential

ROUTES = ("azure", "azure-models", "azure-serverless")
SCOUT = "llama-4-scout"


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    return request.param


def account(emu: Emulator, route: str, **more: Any) -> dict[str, Any]:
    return {"providers": {"work": {**emu.providers(route)[route], **more}}}


def test_text(api: Api, emu: Emulator, route: str) -> None:
    async def main() -> None:
        emu.replies(Reply("Oslo is cloudy é🎉.", usage=(21, 6)), Reply("Oslo is cloudy é🎉.", usage=(21, 6)))
        async with api.client(account(emu, route)) as client:
            plain = await client.chat("Weather?", system="Be brief.", model=f"work:{SCOUT}", temperature=0.5, seed=7)
            stream = await streamed(client, "Weather?", model=f"work:{SCOUT}", stop=["END"])
        for response in (plain, stream):
            usage = response.usage
            assert (response.text, response.finish_reason) == ("Oslo is cloudy é🎉.", "stop")
            assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (21, 6, False)
            assert codes(response) == []
            assert response.cost is not None
        sent = emu.requests[0].json
        assert sent["model"] == "Llama-4-Scout-17B-16E-Instruct"
        assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (4096, 0.5, 7)

    api.run(main())


@pytest.mark.parametrize("on_finish", [False, True], ids=["own-chunk", "last-choice"])
def test_both_ways_of_sending_usage(api: Api, route: str, on_finish: bool) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, route)) as client:
            response = await streamed(client, "Hi", model=f"work:{SCOUT}")
        assert response.text == "You said: Hi"
        assert not response.usage.estimated
        assert response.usage.output_tokens > 0

    with Emulator(quirks=[f"{route}-usage-on-finish" if on_finish else f"no-{route}-usage-on-finish"]) as emu:
        api.run(main(emu))


def test_an_image(api: Api, emu: Emulator, route: str) -> None:
    async def main() -> None:
        async with api.client(account(emu, route)) as client:
            answer = await client.chat(["What is this?", lr.Image(png(4, 3))], model=f"work:{SCOUT}")
            stream = await streamed(client, ["What is this?", lr.Image(png(4, 3))], model=f"work:{SCOUT}")
        assert answer.text == stream.text == "I see 1 image (image/png, 4x3)."
        url = emu.requests[0].json["messages"][0]["content"][1]["image_url"]["url"]
        assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == png(4, 3)

    api.run(main())


def test_a_second_image_is_merged_with_the_first_where_one_is_all_that_is_taken(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        two = ["Compare.", lr.Image(png(4, 3)), lr.Image(png(4, 3))]
        async with api.client(account(emu, "azure", models={"own": "My-Maverick"})) as client:
            merged = await client.chat(two, model="work:llama-4-maverick")
            assert merged.text.startswith("I see 1 image")
            assert codes(merged) == ["images_merged"]
            assert (await client.chat(two, model=f"work:{SCOUT}")).text.startswith("I see 2 images")
            # A deployment that the catalogue does not know is asked, and says no in the words of the server behind it.
            with pytest.raises(lr.InvalidRequestError, match=r"At most 1 image\(s\)") as caught:
                await client.chat(two, model="work:own")
        assert caught.value.code == "400"

    models = ["Llama-4-Scout-17B-16E-Instruct", "Llama-4-Maverick-17B-128E-Instruct-FP8", "My-Maverick"]
    with Emulator(models={"azure": models}) as emu:
        api.run(main())


def test_deployments(api: Api) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, "azure", models={SCOUT: "prod-scout-1"})) as client:
            assert (await client.chat("Hi")).text == "You said: Hi"
            assert emu.requests[0].json["model"] == "prod-scout-1"
            with pytest.raises(lr.NotFoundError, match="Unknown model: Prod-Scout-1") as caught:
                await client.chat("Hi", model="work:Prod-Scout-1")
        assert (caught.value.status, caught.value.code) == (400, "unknown_model")

    with Emulator(models={"azure": ["prod-scout-1"]}) as emu:
        api.run(main(emu))


def test_extra_parameters(api: Api, emu: Emulator) -> None:
    """What the API does not know is passed through when asked for, and refused when so configured."""

    async def main() -> None:
        async with api.client(account(emu, "azure-models")) as client:
            await client.chat("Hi", model=f"work:{SCOUT}")
            await client.chat("Hi", model=f"work:{SCOUT}", top_k=3)
            await streamed(client, "Hi", model=f"work:{SCOUT}", extra={"azure": {"safe_prompt": True}})
        headers = [request.headers.get("extra-parameters") for request in emu.requests]
        assert headers == [None, "pass-through", "pass-through"]
        async with api.client(account(emu, "azure-models", extra_parameters="error")) as client:
            with pytest.raises(lr.InvalidRequestError, match=r"Extra parameters \['top_k'\] are not allowed"):
                await client.chat("Hi", model=f"work:{SCOUT}", top_k=3)
            stream = await streamed(client, "Hi", model=f"work:{SCOUT}")
        # The one way to a stream without usage: it may not be asked for.
        assert stream.usage.estimated
        assert codes(stream) == ["usage_estimated"]
        async with api.client(account(emu, "azure-models", extra_parameters="drop")) as client:
            assert (await client.chat("Hi", model=f"work:{SCOUT}", top_k=3)).text == "You said: Hi"

    api.run(main())


@pytest.mark.parametrize("quirk", ["azure-models-stream-options-refused", "azure-models-lenient-extra"])
def test_services_that_know_more_or_fewer_fields(api: Api, quirk: str) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, "azure-models")) as client:
            assert (await streamed(client, "Hi", model=f"work:{SCOUT}", top_k=3)).text == "You said: Hi"

    with Emulator(quirks=[quirk]) as emu:
        api.run(main(emu))


def test_fields_that_the_backend_forbids(api: Api) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, "azure-models")) as client:
            with pytest.raises(lr.InvalidRequestError, match="top_k: Extra inputs are not permitted") as caught:
                await client.chat("Hi", model=f"work:{SCOUT}", top_k=3)
        assert (caught.value.status, caught.value.code) == (422, "extra_forbidden")

    with Emulator(quirks=["azure-models-extra-forbidden"]) as emu:
        api.run(main(emu))


def test_what_the_older_api_does_not_take_is_refused_before_sending(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu, "azure-models")) as client:
            with pytest.raises(lr.CapabilityError, match=r"temperature=1\.5: the host takes values between 0 and 1"):
                await client.chat("Hi", model=f"work:{SCOUT}", temperature=1.5)
        async with api.client(account(emu, "azure")) as client:
            await client.chat("Hi", model=f"work:{SCOUT}", temperature=1.5)
        assert [request.host for request in emu.requests] == ["azure"]

    api.run(main())


def test_headers_are_counted_as_the_service_counts(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu, "azure", headers={f"x-own-{i}": "1" for i in range(10)})) as client:
            assert (await client.chat("Hi", model=f"work:{SCOUT}")).text == "You said: Hi"
            with pytest.raises(lr.CapabilityError, match="at most 10 custom headers, not 11"):
                await client.chat("Hi", model=f"work:{SCOUT}", headers={"x-one-more": "1"})
        assert len(emu.requests) == 1

    api.run(main())


TOOLS = {"tools": "native", "stream_tools": "native", "forced_tools": "native"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = lr.Tool("weather", "Weather forecast.", SCHEMA)


def test_tools_and_schemas_are_not_the_hosts_own(api: Api, emu: Emulator, route: str) -> None:
    """Neither is sent: they stand in the prompt, and the answer is read."""

    async def main() -> None:
        emu.replies('[weather(city="Oslo")]', '{"city": "Oslo"}')
        async with api.client(account(emu, route)) as client:
            called = await client.chat("Weather in Oslo?", model=f"work:{SCOUT}", tools=[WEATHER])
            read = await client.chat("Which city is Oslo?", model=f"work:{SCOUT}", output=SCHEMA)
        assert [(call.name, call.arguments) for call in called.tool_calls] == [("weather", {"city": "Oslo"})]
        assert (read.output, read.output_mode) == ({"city": "Oslo"}, "prompt")
        assert [*codes(called), *codes(read)] == ["tools_emulated", "output_emulated"]
        for request in emu.requests:
            assert not {"tools", "tool_choice", "response_format"} & request.json.keys()
            assert '"city"' in request.json["messages"][0]["content"]

    api.run(main())


def test_tools_where_an_account_says_that_they_work(api: Api, route: str) -> None:
    async def main(emu: Emulator) -> None:
        emu.replies(*[Reply(tool_calls=[("weather", {"city": "Oslo"})])] * 2, "It is cloudy.")
        async with api.client(account(emu, route, features=TOOLS)) as client:
            plain = await client.chat("Weather in Oslo?", model=f"work:{SCOUT}", tools=[WEATHER])
            stream = await streamed(client, "Weather in Oslo?", model=f"work:{SCOUT}", tools=[WEATHER])
            for response in (plain, stream):
                assert response.finish_reason == "tool_calls"
                assert [(call.name, call.arguments) for call in response.tool_calls] == [("weather", {"city": "Oslo"})]
            call = plain.tool_calls[0]
            history = [lr.user("Weather in Oslo?"), lr.assistant(call), lr.tool_result(call, "cloudy")]
            answer = await client.chat(history, model=f"work:{SCOUT}", tools=[WEATHER])
        assert answer.text == "It is cloudy."

    with Emulator(quirks=[f"{route}-tools"]) as emu:
        api.run(main(emu))


def test_tools_where_an_account_says_so_wrongly(api: Api, route: str) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, route, features=TOOLS)) as client:
            with pytest.raises(lr.InvalidRequestError, match="requires --enable-auto-tool-choice"):
                await client.chat("Weather in Oslo?", model=f"work:{SCOUT}", tools=[WEATHER])

    with Emulator(quirks=[f"{route}-tools-refused"]) as emu:
        api.run(main(emu))


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cls", "code"),
    [
        (Fault(status=401), lr.AuthenticationError, "401"),
        (Fault(status=403), lr.PermissionDeniedError, "PermissionDenied"),
        (Fault(status=404), lr.NotFoundError, "DeploymentNotFound"),
        (Fault(status=429), lr.RateLimitError, "RateLimitReached"),
        (Fault(status=500), lr.ServerError, "InternalServerError"),
        (Fault(status=503), lr.OverloadedError, "ServiceUnavailable"),
        (Fault(status=400, body={"detail": "Extra parameters"}), lr.InvalidRequestError, None),
        (Fault(status=400, code="content_filter"), lr.ContentFilterError, "content_filter"),
        (Fault(status=502, body="<html><title>Bad Gateway</title>"), lr.OverloadedError, None),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else "",
)
def test_errors(api: Api, emu: Emulator, route: str, fault: Fault, cls: type[lr.ProviderError], code: str) -> None:
    async def main() -> None:
        async with api.client(account(emu, route)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                emu.fault(fault)
                with pytest.raises(cls) as caught:
                    await ask("Hi", model=f"work:{SCOUT}", retry=1)
                assert type(caught.value) is cls
                assert (caught.value.status, caught.value.target) == (fault.status, f"work:{SCOUT}")
                if code is not None:
                    assert caught.value.code == code

    api.run(main())


def test_a_limit_is_waited_out(api: Api, emu: Emulator, route: str) -> None:
    """`retry-after-ms: 0` stands beside `retry-after: 1`: the second counts."""

    async def main() -> None:
        emu.fault(Fault(status=429))
        async with api.client(account(emu, route)) as client:
            response = await client.chat("Hi", model=f"work:{SCOUT}")
        assert response.text == "You said: Hi"
        assert [(attempt.status, attempt.retry_after) for attempt in response.attempts] == [(429, 1.0), (200, None)]
        assert response.timing.total >= 0.9

    api.run(main())


def test_a_prompt_that_is_too_long(api: Api, route: str) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, route)) as client:
            with pytest.raises(lr.ContextLengthError, match="maximum context length is 200"):
                await client.chat("word " * 400, model=f"work:{SCOUT}", max_tokens=8, retry=1)

    with Emulator(context={route: 200}) as emu:
        api.run(main(emu))
    with Emulator(context={route: 200}, quirks=[f"{route}-flat-backend-errors"]) as emu:
        api.run(main(emu))


def test_a_prompt_that_is_too_long_for_the_minute(api: Api) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, "azure-models")) as client:
            with pytest.raises(lr.RateLimitError):
                await client.chat("word " * 400, model=f"work:{SCOUT}", max_tokens=8, retry=1)

    with Emulator(context={"azure-models": 200}, quirks=["azure-models-long-prompt-429"]) as emu:
        api.run(main(emu))


def test_a_stream_that_breaks_off(api: Api, emu: Emulator, route: str) -> None:
    async def main() -> None:
        async with api.client(account(emu, route)) as client:
            emu.fault(Fault(error_after=4, message="backend died"))
            with pytest.raises(lr.StreamInterruptedError, match="backend died") as caught:
                await streamed(client, "one two three four five", model=f"work:{SCOUT}", retry=1)
            assert caught.value.partial is not None
            assert caught.value.partial.text
            emu.fault(Fault(error_first=True))
            with pytest.raises(lr.ServerError):
                await streamed(client, "Hi", model=f"work:{SCOUT}", retry=1)

    api.run(main())


# -- the content filter ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_a_prompt_that_the_filter_stops(api: Api, route: str, flat: bool) -> None:
    async def main(emu: Emulator) -> None:
        emu.fault(Fault(status=400, code="content_filter"), times=2)
        async with api.client(account(emu, route)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                with pytest.raises(lr.ContentFilterError, match="content management policy") as caught:
                    await ask("Hi", model=f"work:{SCOUT}")
                assert len(caught.value.attempts) == 1
                assert ("(filtered: hate (high))" in str(caught.value)) is not flat

    with Emulator(quirks=[f"{route}-filter-flat"] if flat else []) as emu:
        api.run(main(emu))


@pytest.mark.parametrize("said", ["", "I will"], ids=["nothing", "something"])
def test_an_answer_that_the_filter_stops(api: Api, route: str, said: str) -> None:
    async def main(emu: Emulator) -> None:
        emu.replies(*[Reply(said, finish_reason="content_filter")] * 2)
        async with api.client(account(emu, route)) as client:
            plain = await client.chat("Hi", model=f"work:{SCOUT}")
            stream = await streamed(client, "Hi", model=f"work:{SCOUT}")
        for response in (plain, stream):
            assert (response.text, response.finish_reason) == (said, "content_filter")
            assert [notice.message for notice in response.warnings if notice.code == "content_filtered"] == [
                "the host's content filter stopped the answer: hate (high)"
            ]

    on = [f"{route}-filters", f"{route}-stream-filters"]
    with Emulator(quirks=on) as emu:
        api.run(main(emu))


# -- Entra ID ----------------------------------------------------------------------------------------------------------


class ToEmulator(HTTPAdapter):
    """Sends what is for login.microsoftonline.com to the emulator: azure-identity itself insists on https."""

    def __init__(self, emu: Emulator) -> None:
        super().__init__()
        self.emu = emu

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        request.url = str(request.url).replace("https://login.microsoftonline.com", self.emu.base_url("entra"))
        return super().send(request, *args, **{**options, "proxies": {}})


def transport(emu: Emulator) -> RequestsTransport:
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", ToEmulator(emu))
    return RequestsTransport(session=session, session_owner=False)


PRINCIPAL = {"credential": "entra", "tenant_id": TENANT, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
def login(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-identity's own class, with the emulator behind it."""

    def made(*args: Any, **options: Any) -> ClientSecretCredential:
        return ClientSecretCredential(*args, **{**options, "transport": transport(emu)})

    monkeypatch.setattr(azure.identity, "ClientSecretCredential", made)


def tokens_asked(emu: Emulator) -> int:
    return sum(request.path.endswith("/token") for request in emu.requests)


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("kind", ["azure", "azure-models"])
def test_a_service_principal(api: Api, emu: Emulator, kind: str) -> None:
    async def main() -> None:
        table = {**emu.providers(kind)[kind], **PRINCIPAL}
        del table["api_key"]
        async with api.client({"providers": {"work": table}}) as client:
            for _ in range(3):
                assert (await client.chat("Hi", model=f"work:{SCOUT}")).text == "You said: Hi"
            assert tokens_asked(emu) == 1
            emu.revoke_tokens()
            response = await client.chat("Hi", model=f"work:{SCOUT}", retry=1)
            assert response.text == "You said: Hi"
            assert len(response.attempts) == 1, "the refused token is no failed attempt"
            assert tokens_asked(emu) == 2
            emu.revoke_tokens()
            assert (await streamed(client, "Hi", model=f"work:{SCOUT}", retry=1)).text == "You said: Hi"
            assert tokens_asked(emu) == 3

    api.run(main())


@pytest.mark.usefixtures("login")
def test_a_token_for_something_else_is_refused_with_what_the_host_says(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        table = {**emu.providers("azure")["azure"], **PRINCIPAL, "scope": "https://management.azure.com/.default"}
        del table["api_key"]
        async with api.client({"providers": {"work": table}}) as client:
            with pytest.raises(lr.AuthenticationError, match="audience is incorrect") as caught:
                await client.chat("Hi", model=f"work:{SCOUT}")
        assert caught.value.status == 401
        assert len(caught.value.attempts) == 1

    api.run(main())


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize(
    ("change", "code", "remedy"),
    [
        ({"client_secret": "wrong-secret-0123456789"}, "AADSTS7000215", "providers.work.client_secret is wrong"),
        ({"client_id": "nobody"}, "AADSTS700016", "providers.work.client_id is no application of this tenant"),
        ({"scope": "https://nothing.example/.default"}, "AADSTS500011", "providers.work.scope names nothing"),
    ],
)
def test_a_login_that_fails(api: Api, emu: Emulator, change: dict[str, str], code: str, remedy: str) -> None:
    async def main() -> None:
        table = {**emu.providers("azure")["azure"], **PRINCIPAL, **change}
        del table["api_key"]
        async with api.client({"providers": {"work": table}}) as client:
            with pytest.raises(lr.AuthenticationError) as caught:
                await client.chat("Hi", model=f"work:{SCOUT}")
        assert (caught.value.code, caught.value.target) == (code, f"work:{SCOUT}")
        assert remedy in str(caught.value)
        assert table["client_secret"] not in f"{caught.value} {caught.value!r}"
        assert not [request for request in emu.requests if request.host == "azure"]

    api.run(main())


def test_a_live_credential(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        settings = lr.registry.provider_spec("azure").settings
        table = settings(kind="azure", base_url=emu.base_url("azure")).with_live_credential(EntraCredential(emu))
        async with api.client({"providers": {"work": table}}) as client:
            assert (await client.chat("Hi", model=f"work:{SCOUT}")).text == "You said: Hi"
            emu.revoke_tokens()
            assert (await client.chat("Hi", model=f"work:{SCOUT}", retry=1)).text == "You said: Hi"
        assert tokens_asked(emu) == 2

    api.run(main())


@pytest.mark.parametrize("kind", ["azure-models", "azure-serverless"])
def test_a_client_of_azure_ai_inference_taken_over(api: Api, emu: Emulator, kind: str) -> None:
    """The same answer as the package's own, from the same endpoint with the same key."""
    base = emu.base_url(kind) + ("/models" if kind == "azure-models" else "")
    sdk = ChatCompletionsClient(
        base, AzureKeyCredential(str(emu.key(kind))), model="Llama-4-Scout-17B-16E-Instruct", retry_total=0
    )
    theirs = sdk.complete(messages=[{"role": "user", "content": "Hi"}]).choices[0].message.content

    async def main() -> None:
        async with api.client({"providers": {"work": from_sdk(sdk)}}) as client:
            assert (await client.chat("Hi")).text == theirs == "You said: Hi"
            assert (await streamed(client, "Hi")).usage.estimated is False

    api.run(main())
    first, second = emu.requests[0], emu.requests[1]
    assert first.target == second.target
    assert {**second.json, "max_tokens": None} == {**first.json, "max_tokens": None}
