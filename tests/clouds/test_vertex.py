"""Vertex AI through whole clients: the service, the three routes of an endpoint, and tokens by google-auth."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault, Reply
from llamaroute.emulator.hosts.google_cloud import ENDPOINT_ID
from tests.client.api import Api
from tests.emulator.conftest import png

from .answers import streamed
from .logins import login

MAVERICK = "work:llama-4-maverick"
ROUTES = ("maas", "chat", "predict", "raw-predict")
CHAT = "/v1/projects/emulated-project/locations/us-east5/endpoints/openapi/chat/completions"


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    return request.param


def account(emu: Emulator, route: str = "maas", **more: Any) -> dict[str, Any]:
    """The service, or an endpoint whose host the client has to ask for."""
    table = emu.providers("vertex")["vertex"]
    if route != "maas":
        table |= {"api": "endpoint", "endpoint_id": ENDPOINT_ID, "route": route}
    return {"providers": {"work": {**table, **more}}}


def weather(city: str) -> str:
    """Weather forecast.

    Args:
        city: City.
    """
    return f"cloudy in {city}"


def test_text(api: Api, emu: Emulator, route: str) -> None:
    async def main() -> None:
        emu.replies(Reply("Oslo is cloudy é🎉.", usage=(21, 6)), Reply("Oslo is cloudy é🎉.", usage=(21, 6)))
        async with api.client(account(emu, route)) as client:
            plain = await client.chat("Weather?", system="Be brief.", model=MAVERICK, temperature=0.5)
            stream = await streamed(client, "Weather?", model=MAVERICK)
        for response in (plain, stream):
            usage = response.usage
            assert (response.text, response.finish_reason) == ("Oslo is cloudy é🎉.", "stop")
            assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (21, 6, False)
            assert (response.cost is not None) is (route == "maas")  # machines of one's own are paid by the hour
        assert plain.warnings == ()
        made_up = [notice.code for notice in stream.warnings]
        assert made_up == (["stream_from_reply"] if route == "predict" else [])

    api.run(main())


def test_where_requests_go(emu: Emulator, route: str) -> None:
    with lr.Client(account(emu, route)) as client:
        for _ in range(2):
            client.chat("Hi", model=MAVERICK)
        with client.stream("Hi", model=MAVERICK) as stream:
            for _ in stream:
                pass
    resource = f"/v1/projects/emulated-project/locations/us-east5/endpoints/{ENDPOINT_ID}"
    calls, stream_call = {
        "maas": (f"/vertex{CHAT}", f"/vertex{CHAT}"),
        "chat": (f"/vertex-endpoint{resource}/chat/completions", f"/vertex-endpoint{resource}/chat/completions"),
        "predict": (f"/vertex-endpoint{resource}:predict", f"/vertex-endpoint{resource}:predict"),
        "raw-predict": (f"/vertex-endpoint{resource}:rawPredict", f"/vertex-endpoint{resource}:streamRawPredict"),
    }[route]
    question = [] if route == "maas" else [f"/vertex{resource}"]
    assert [request.target for request in emu.requests] == [*question, calls, calls, stream_call]
    assert {request.headers["authorization"] for request in emu.requests} == {f"Bearer {emu.key('vertex')}"}


def test_max_tokens_is_always_sent(api: Api, emu: Emulator) -> None:
    """Without it the service says nothing at all."""

    async def main() -> None:
        async with api.client(account(emu)) as client:
            assert (await client.chat("Hi", model=MAVERICK)).text == "You said: Hi"
            assert emu.requests[-1].json["max_tokens"] == 8192
            nothing = {"max_tokens": None}
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                empty = await ask("Hi", model=MAVERICK, extra={"work": nothing})
                assert (empty.text, empty.finish_reason) == ("", "stop")
                assert "empty_answer" in [notice.code for notice in empty.warnings]

    api.run(main())


def test_an_image(api: Api, emu: Emulator, route: str) -> None:
    async def main() -> None:
        async with api.client(account(emu, route)) as client:
            answer = await client.chat(["What is this?", lr.Image(png(4, 3))], model=MAVERICK)
            stream = await streamed(client, ["What is this?", lr.Image(png(4, 3))], model=MAVERICK)
        assert answer.text == stream.text == "I see 1 image (image/png, 4x3)."
        body = emu.requests[-1].json
        sent = body["instances"][0] if route == "predict" else body
        url = sent["messages"][0]["content"][1]["image_url"]["url"]
        assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == png(4, 3)

    api.run(main())


def test_images_by_address(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            seen = await client.chat(["Look", lr.Image("gs://bucket/cat.png", detail="high")], model=MAVERICK)
            assert [notice.code for notice in seen.warnings] == ["image_detail"]
            content = emu.requests[-1].json["messages"][0]["content"]
            assert content[1] == {"type": "image_url", "image_url": {"url": "gs://bucket/cat.png"}}
            message = {"role": "user", "content": [{"type": "image_url", "image_url": "gs://bucket/cat.png"}]}
            await client.chat(message, model=MAVERICK)
            merged = await client.chat(["Look", *[lr.Image(png(4, 3))] * 4], model=MAVERICK)
            assert [notice.code for notice in merged.warnings] == ["images_merged"]
            assert merged.text.startswith("I see 3 images")
            asked = len(emu.requests)
            with pytest.raises(lr.CapabilityError, match=r"cannot read image 's3://bucket/cat\.png'"):
                await client.chat(["Look", lr.Image("s3://bucket/cat.png")], model=MAVERICK)
        async with api.client(account(emu, "chat")) as client:
            with pytest.raises(lr.CapabilityError, match="cannot read image 'gs://"):
                await client.chat(["Look", lr.Image("gs://bucket/cat.png")], model=MAVERICK)
        assert len(emu.requests) == asked

    api.run(main())


def test_tools_of_maverick(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        call = Reply(tool_calls=[("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})])
        emu.replies(call, call, call)
        async with api.client(account(emu)) as client:
            answer = await client.chat("Weather?", model=MAVERICK, tools=[weather])
            made_up = await streamed(client, "Weather?", model=MAVERICK, tools=[weather])
            assert [request.json.get("stream") for request in emu.requests] == [None, None]
            turns = [
                {"role": "user", "content": "Weather?"},
                answer.message,
                *[lr.types.messages.tool_result(made, "cloudy") for made in answer.tool_calls],
            ]
        async with api.client(account(emu, features={"stream_tools": "native"})) as client:
            native = await streamed(client, "Weather?", model=MAVERICK, tools=[weather])
            after = await client.chat(turns, model=MAVERICK, tools=[weather])
        for response in (answer, made_up, native):
            calls = [(made.name, made.arguments) for made in response.tool_calls]
            assert calls == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
            assert response.finish_reason == "tool_calls"
        assert after.text
        sent = emu.requests[-1].json["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
        assert [message["tool_call_id"] for message in sent[2:]] == [made.id for made in answer.tool_calls]

    api.run(main())


@pytest.mark.parametrize(
    "quirks", [["vertex-bare-tool-deltas"], ["vertex-role-missing"], ["no-vertex-one-chunk-empty"]]
)
def test_streams_that_lack_things(api: Api, quirks: list[str]) -> None:
    async def main(emu: Emulator) -> None:
        emu.replies(Reply(tool_calls=[("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]), "Hello there.")
        async with api.client(account(emu, features={"stream_tools": "native"})) as client:
            called = await streamed(client, "Weather?", model=MAVERICK, tools=[weather])
            said = await streamed(client, "Hi", model=MAVERICK)
        calls = [(made.name, made.arguments) for made in called.tool_calls]
        assert calls == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
        assert len({made.id for made in called.tool_calls}) == 2
        assert (said.text, said.usage.estimated) == ("Hello there.", False)

    with Emulator(quirks=quirks) as emu:
        api.run(main(emu))


def test_tools_at_an_endpoint(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        for route in ROUTES[1:]:
            emu.replies(Reply(tool_calls=[("weather", {"city": "Oslo"})]))
            async with api.client(account(emu, route)) as client:
                answer = await client.chat("Weather?", model="work:llama-4-scout", tools=[weather])
            assert [(made.name, made.arguments) for made in answer.tool_calls] == [("weather", {"city": "Oslo"})]

    api.run(main())


def test_what_is_refused_before_sending(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu, region="us-central1")) as client:
            with pytest.raises(lr.CapabilityError, match='set region = "us-east5"'):
                await client.chat("Hi", model=MAVERICK)
        async with api.client(account(emu)) as client:
            with pytest.raises(lr.CapabilityError, match=r"temperature=1\.5"):
                await client.chat("Hi", model=MAVERICK, temperature=1.5)
            with pytest.raises(lr.CapabilityError, match="max_tokens=9000"):
                await client.chat("Hi", model=MAVERICK, max_tokens=9000)
        async with api.client(account(emu, "chat")) as client:
            with pytest.raises(lr.CapabilityError, match="takes requests of at most 10,485,760 bytes"):
                await client.chat("x" * 10_500_000, model=MAVERICK)
        assert [request.method for request in emu.requests] == ["GET"]  # the endpoint's host had to be known

    api.run(main())


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cls", "code"),
    [
        (Fault(status=400), lr.InvalidRequestError, "INVALID_ARGUMENT"),
        (Fault(status=401), lr.AuthenticationError, None),
        (Fault(status=403), lr.PermissionDeniedError, "IAM_PERMISSION_DENIED"),
        (Fault(status=404), lr.NotFoundError, "NOT_FOUND"),
        (Fault(status=429), lr.RateLimitError, "RESOURCE_EXHAUSTED"),
        (Fault(status=500), lr.ServerError, "INTERNAL"),
        (Fault(status=503), lr.OverloadedError, "UNAVAILABLE"),
        (Fault(status=504), lr.TimeoutError, "DEADLINE_EXCEEDED"),
        (Fault(status=502, body="<html><title>Bad Gateway</title>"), lr.OverloadedError, None),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else "",
)
def test_errors(api: Api, emu: Emulator, fault: Fault, cls: type[lr.ProviderError], code: str | None) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                emu.fault(fault)
                with pytest.raises(cls) as caught:
                    await ask("Hi", model=MAVERICK, retry=1)
                assert type(caught.value) is cls
                assert (caught.value.status, caught.value.target) == (fault.status, MAVERICK)
                assert caught.value.retry_after is None
                if code is not None:
                    assert caught.value.code == code

    api.run(main())


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_under_a_status_of_success(api: Api, emu: Emulator, wrapped: bool) -> None:
    async def main() -> None:
        error: Any = {"error": {"code": 503, "message": "The service is currently full.", "status": "UNAVAILABLE"}}
        async with api.client(account(emu)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                emu.fault(Fault(body=[error] if wrapped else error))
                with pytest.raises(lr.OverloadedError, match="currently full") as caught:
                    await ask("Hi", model=MAVERICK, retry=1)
                assert caught.value.code == "UNAVAILABLE"

    api.run(main())


@pytest.mark.parametrize(
    ("quirks", "cls", "message"),
    [
        (["vertex-not-enabled"], lr.PermissionDeniedError, "enable the model and accept its licence"),
        (["vertex-api-disabled"], lr.PermissionDeniedError, "gcloud services enable aiplatform.googleapis.com"),
    ],
)
def test_what_the_project_lacks(api: Api, quirks: list[str], cls: type[lr.ProviderError], message: str) -> None:
    async def main(emu: Emulator) -> None:
        async with api.client(account(emu)) as client:
            for ask in (client.chat, lambda *a, **k: streamed(client, *a, **k)):
                with pytest.raises(cls, match=message):
                    await ask("Hi", model=MAVERICK, retry=1)

    with Emulator(quirks=quirks) as emu:
        api.run(main(emu))


def test_what_is_not_there(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        async with api.client(account(emu)) as client:
            with pytest.raises(lr.NotFoundError, match="Model Garden"):
                await client.chat("Hi", model="work:meta/llama-9-maas")
            with pytest.raises(lr.InvalidRequestError, match="Malformed publisher model"):
                await client.chat("Hi", model="work:llama-9")
        async with api.client(account(emu, project="somebody-elses")) as client:
            with pytest.raises(lr.PermissionDeniedError, match=r"roles/aiplatform\.user") as caught:
                await client.chat("Hi", model=MAVERICK)
            assert caught.value.code == "IAM_PERMISSION_DENIED"
        async with api.client(account(emu, base_url=f"{emu.base_url('vertex')}/somewhere")) as client:
            with pytest.raises(lr.NotFoundError, match="check region, api_version and base_url"):
                await client.chat("Hi", model=MAVERICK)
        async with api.client(account(emu, "chat", endpoint_id="999")) as client:
            with pytest.raises(lr.NotFoundError):
                await client.chat("Hi", model=MAVERICK)
        async with api.client(account(emu, access_token="ya29.somebody-elses-token")) as client:
            with pytest.raises(lr.AuthenticationError) as refused:
                await client.chat("Hi", model=MAVERICK)
            assert "ya29" not in str(refused.value)

    api.run(main())


def test_an_endpoint_of_the_shared_host(api: Api) -> None:
    """One without a host of its own is asked at the API's; a dedicated one is refused there."""

    async def main(emu: Emulator) -> None:
        async with api.client(account(emu, "chat")) as client:
            with pytest.raises(lr.ProviderError):
                await client.chat("Hi", model=MAVERICK, retry=1)
        assert {request.host for request in emu.requests} == {"vertex"}

    with Emulator(settings={"google": {"endpoints": {ENDPOINT_ID: {"dedicatedEndpointEnabled": False}}}}) as emu:
        api.run(main(emu))
    with Emulator(settings={"google": {"endpoints": {ENDPOINT_ID: {"deployedModels": []}}}}) as emu:

        async def empty() -> None:
            async with api.client(account(emu, "chat")) as client:
                with pytest.raises(lr.NotFoundError, match=f"no model is deployed at endpoint {ENDPOINT_ID}"):
                    await client.chat("Hi", model=MAVERICK)

        api.run(empty())


def test_a_prompt_that_is_too_long_for_a_container(api: Api) -> None:
    async def main(emu: Emulator) -> None:
        for route in ROUTES[1:]:
            async with api.client(account(emu, route)) as client:
                with pytest.raises(lr.ContextLengthError, match="maximum context length"):
                    await client.chat("word " * 400, model=MAVERICK, max_tokens=8, retry=1)

    with Emulator(context={"vertex-endpoint": 200}) as emu:
        api.run(main(emu))


def test_a_stream_that_breaks_off(api: Api, emu: Emulator) -> None:
    async def main() -> None:
        for route in ("maas", "chat", "raw-predict"):
            async with api.client(account(emu, route)) as client:
                await client.chat("Hi", model=MAVERICK)  # so that an endpoint's host is known
                emu.fault(Fault(error_after=4, message="backend died"))
                with pytest.raises(lr.StreamInterruptedError, match="backend died") as caught:
                    await streamed(client, "one two three four five", model=MAVERICK, retry=1)
                assert caught.value.partial is not None
                assert caught.value.partial.text
                emu.fault(Fault(error_first=True))
                with pytest.raises(lr.ServerError):
                    await streamed(client, "Hi", model=MAVERICK, retry=1)

    api.run(main())


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["maas", "chat"])
def test_a_service_account(emu: Emulator, tmp_path: Path, route: str) -> None:
    """Its key file alone: the project is in it."""
    with login("vertex", emu, tmp_path) as made:
        table = {**account(emu, route)["providers"]["work"], "credentials": made.table["credentials"]}
        del table["access_token"], table["project"]
        with lr.Client({"providers": {"work": table}}, env={}) as client:
            assert client.chat("Hi", model=MAVERICK).text == "You said: Hi"
            emu.revoke_tokens()
            assert client.chat("Hi", model=MAVERICK).text == "You said: Hi"
        assert made.exchanges(emu) == 2
    assert all("/projects/emulated-project/" in request.target for request in emu.requests if request.host != "google")


def test_who_pays(emu: Emulator) -> None:
    with lr.Client(account(emu, quota_project="payer")) as client:
        client.chat("Hi", model=MAVERICK)
    assert emu.requests[-1].headers["x-goog-user-project"] == "payer"
    with (
        Emulator(settings={"google": {"quota_projects": ["another"]}}) as strict,
        lr.Client(account(strict, quota_project="payer")) as client,
        pytest.raises(lr.PermissionDeniedError, match="serviceUsageConsumer on the quota project"),
    ):
        client.chat("Hi", model=MAVERICK)


def test_fifty_first_calls_ask_for_the_host_once(emu: Emulator) -> None:
    async def main() -> list[str]:
        async with lr.AsyncClient(account(emu, "chat")) as client:
            replies = await asyncio.gather(*[client.chat("Hi", model=MAVERICK) for _ in range(50)])
        return [reply.text for reply in replies]

    assert asyncio.run(main()) == ["You said: Hi"] * 50
    assert [request.method for request in emu.requests].count("GET") == 1
    assert {request.host for request in emu.requests if request.method == "POST"} == {"vertex-endpoint"}
