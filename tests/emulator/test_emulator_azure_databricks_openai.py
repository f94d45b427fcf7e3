"""OpenAI's SDK, and huggingface_hub's, as clients of the OpenAI-shaped routes of Azure AI Foundry and Databricks."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Iterator

import pytest

from llamaroute.emulator import Emulator, Reply

openai = importlib.import_module("openai")
hub = importlib.import_module("huggingface_hub")

AZURE = "Llama-4-Maverick-17B-128E-Instruct-FP8"
ECHO = "meta-llama-4-maverick-040225"
ROUTES = {
    "azure": ("azure", "/openai/v1", AZURE),
    "databricks": ("databricks", "/serving-endpoints", "databricks-llama-4-maverick"),
    "databricks-gateway": ("databricks", "/ai-gateway/mlflow/v1", "system.ai.llama-4-maverick"),
}
every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(quirks=["azure-tools", "azure-formats"]) as running:
        yield running


def options(emu: Emulator, route: str, **change) -> dict:
    host, path, _ = ROUTES[route]
    return {"base_url": emu.base_url(host) + path, "api_key": emu.key(host), "max_retries": 0, "timeout": 10, **change}


def client(emu: Emulator, route: str, **change):
    return openai.OpenAI(**options(emu, route, **change))


def hello(text: str = "Hello é🎉") -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


@every_route
def test_plain(emu: Emulator, route: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    with client(emu, route) as sdk:
        answer = sdk.chat.completions.create(
            model=ROUTES[route][2], messages=hello(), max_tokens=50, temperature=0.4, top_p=0.9, stop=["END"]
        )
    choice = answer.choices[0]
    assert choice.message.content == "Oslo is cloudy é🎉."
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (21, 6, 27)
    assert answer.object == "chat.completion"
    assert answer.model == (AZURE if route == "azure" else ECHO)
    assert emu.requests[0].headers["authorization"] == f"Bearer {emu.key(ROUTES[route][0])}"


@every_route
def test_stream(emu: Emulator, route: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    usage = {"stream_options": {"include_usage": True}} if route == "azure" else {}
    with client(emu, route) as sdk:
        events = list(sdk.chat.completions.create(model=ROUTES[route][2], messages=hello(), stream=True, **usage))
    choices = [event.choices[0] for event in events if event.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Oslo is cloudy é🎉."
    assert len(choices) > 5
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert events[-1].usage.total_tokens == 27
    counted = [event.usage.completion_tokens for event in events if event.usage]
    if route == "azure":
        # The first event holds nothing but the filter's view of the prompt, the last nothing but the usage.
        assert (events[0].choices, events[0].id, events[-1].choices) == ([], "", [])
        assert events[0].prompt_filter_results[0]["content_filter_results"]["jailbreak"]["detected"] is False
        assert counted == [6]
    else:
        assert len(counted) == len(events), "usage comes with every chunk, unasked, and counts up"
        assert counted == sorted(counted)


@every_route
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_calls(emu: Emulator, route: str, streamed: bool, weather_tool: dict[str, object]) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Malmö"}), ("get_weather", {"city": "Oslo"})])
    sent = {"model": ROUTES[route][2], "messages": hello(), "tools": [weather_tool], "tool_choice": "required"}
    with client(emu, route) as sdk:
        if streamed:
            names, ids, arguments, reasons = [], set(), {}, []
            for event in sdk.chat.completions.create(stream=True, **sent):
                for choice in event.choices:
                    reasons += [choice.finish_reason] if choice.finish_reason else []
                    for part in choice.delta.tool_calls or []:
                        names += [part.function.name] if part.function.name else []
                        ids |= {part.id} if part.id else set()
                        arguments[part.index] = arguments.get(part.index, "") + (part.function.arguments or "")
            texts = [text for _, text in sorted(arguments.items())]
        else:
            answer = sdk.chat.completions.create(**sent)
            calls = answer.choices[0].message.tool_calls
            names, ids = [call.function.name for call in calls], {call.id for call in calls}
            texts, reasons = [call.function.arguments for call in calls], [answer.choices[0].finish_reason]
    assert names == ["get_weather", "get_weather"]
    assert len(ids) == 2
    assert [json.loads(text)["city"] for text in texts] == ["Malmö", "Oslo"]
    assert reasons == ["tool_calls"]


@every_route
def test_tool_results_go_back(emu: Emulator, route: str, weather_tool: dict[str, object]) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    with client(emu, route) as sdk:
        first = sdk.chat.completions.create(model=ROUTES[route][2], messages=hello(), tools=[weather_tool])
        called = first.choices[0].message.tool_calls[0]
        history = [*hello(), {"role": "assistant", "content": None, "tool_calls": [called.model_dump()]},
                   {"role": "tool", "tool_call_id": called.id, "content": "cloudy"}]  # fmt: skip
        emu.reply("It is cloudy.")
        answer = sdk.chat.completions.create(model=ROUTES[route][2], messages=history, tools=[weather_tool])
    assert answer.choices[0].message.content == "It is cloudy."


@every_route
def test_forced_tool_and_schema(emu: Emulator, route: str, weather_tool: dict[str, object]) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    chosen = {"type": "function", "function": {"name": "get_weather"}}
    with client(emu, route) as sdk:
        sent = {"model": ROUTES[route][2], "messages": hello()}
        called = sdk.chat.completions.create(**sent, tools=[weather_tool], tool_choice=chosen)
        shaped = sdk.chat.completions.create(**sent, response_format=form)
    arguments = called.choices[0].message.tool_calls[0].function.arguments
    assert json.loads(arguments) == {"city": "text", "unit": "c"}
    assert json.loads(shaped.choices[0].message.content) == {"ok": True}


@every_route
def test_image(emu: Emulator, route: str, image_url: str) -> None:
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": image_url}}]
    with client(emu, route) as sdk:
        answer = sdk.chat.completions.create(
            model=ROUTES[route][2], messages=[{"role": "user", "content": parts}]
        )  # fmt: skip
    assert answer.choices[0].message.content == "I see 1 image (image/png, 64x48)."


@every_route
def test_wrong_key(emu: Emulator, route: str) -> None:
    wanted = openai.AuthenticationError if route == "azure" else openai.PermissionDeniedError
    with client(emu, route, api_key="wrong") as sdk, pytest.raises(wanted) as caught:
        sdk.chat.completions.create(model=ROUTES[route][2], messages=hello())
    body = caught.value.response.json()
    if route == "azure":  # a key sent as Bearer is taken for a token
        assert (body["statusCode"], body["message"].partition(".")[0]) == (401, "Unauthorized")
    else:
        assert body["error_code"] == 403
        assert caught.value.response.headers["x-databricks-reason-phrase"] == body["message"]
        assert caught.value.response.headers["x-request-id"] in body["message"]


@every_route
def test_unknown_model(emu: Emulator, route: str) -> None:
    wanted = openai.BadRequestError if route == "azure" else openai.NotFoundError
    with client(emu, route) as sdk, pytest.raises(wanted) as caught:
        sdk.chat.completions.create(model="nothing", messages=hello())
    body = caught.value.response.json()
    assert body.get("error_code", body.get("error", {}).get("code")) in ("ENDPOINT_NOT_FOUND", "unknown_model")


@every_route
@pytest.mark.parametrize(
    ("status", "kind"), [(429, "RateLimitError"), (500, "InternalServerError"), (503, "InternalServerError")]
)
def test_faults(emu: Emulator, route: str, status: int, kind: str) -> None:
    emu.fault(status=status)
    with client(emu, route) as sdk:
        with pytest.raises(getattr(openai, kind)) as caught:
            sdk.chat.completions.create(model=ROUTES[route][2], messages=hello())
        sdk.chat.completions.create(model=ROUTES[route][2], messages=hello())
    assert [request.status for request in emu.requests] == [status, 200]
    hinted = "retry-after" in caught.value.response.headers
    assert hinted == (route == "azure" and status == 429), "Databricks gives no hint"


@every_route
def test_error_in_the_stream(emu: Emulator, route: str) -> None:
    emu.fault(error_after=2)
    with client(emu, route) as sdk:
        stream = sdk.chat.completions.create(model=ROUTES[route][2], messages=hello(), stream=True)
        if route == "azure":
            with pytest.raises(openai.APIError):
                list(stream)
        else:  # the SDK looks for an "error" only, so it hands the event on
            assert list(stream)[-1].error_code == "INTERNAL_ERROR"


@every_route
def test_callable_key(emu: Emulator, route: str) -> None:
    """How a token provider is given to OpenAI's client; it is asked for each request."""
    audience = "https://ai.azure.com" if route == "azure" else "all-apis"
    asked = []

    def provider() -> str:
        asked.append(1)
        return emu.tokens.issue(audience).text

    with client(emu, route, api_key=provider) as sdk:
        for _ in range(2):
            sdk.chat.completions.create(model=ROUTES[route][2], messages=hello())
    assert len(asked) == 2
    first, second = (request.headers["authorization"] for request in emu.requests)
    assert first != second


@every_route
def test_async_client(emu: Emulator, route: str) -> None:
    emu.replies(Reply("One."), Reply("Two."))

    async def both() -> list[str]:
        async with openai.AsyncOpenAI(**options(emu, route)) as sdk:
            plain = await sdk.chat.completions.create(model=ROUTES[route][2], messages=hello())
            stream = await sdk.chat.completions.create(model=ROUTES[route][2], messages=hello(), stream=True)
            streamed = "".join([e.choices[0].delta.content or "" async for e in stream if e.choices])
        return [plain.choices[0].message.content, streamed]

    assert asyncio.run(both()) == ["One.", "Two."]


def test_models_of_a_resource(emu: Emulator) -> None:
    with client(emu, "azure") as sdk:
        assert AZURE in [model.id for model in sdk.models.list()]
        assert sdk.models.retrieve(AZURE).owned_by == "meta"


def test_blocked_prompt_and_blocked_answer(emu: Emulator) -> None:
    emu.fault(status=400, code="content_filter")
    emu.replies(Reply(finish_reason="content_filter"), Reply("I will", finish_reason="content_filter"))
    with client(emu, "azure") as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model=AZURE, messages=hello())
        assert (caught.value.code, caught.value.param) == ("content_filter", "prompt")
        assert caught.value.body["innererror"]["content_filter_result"]["hate"] == {
            "filtered": True,
            "severity": "high",
        }
        choice = sdk.chat.completions.create(model=AZURE, messages=hello()).choices[0]
        assert choice.finish_reason == "content_filter"
        assert not hasattr(choice, "message") or choice.message is None
        assert choice.content_filter_results["hate"]["filtered"] is True
        last = list(sdk.chat.completions.create(model=AZURE, messages=hello(), stream=True))[-1].choices[0]
    assert last.finish_reason == "content_filter"
    assert last.content_filter_results["hate"]["filtered"] is True


def test_the_older_client_with_the_deployment_in_the_path(emu: Emulator) -> None:
    emu.reply("Hi.")
    with openai.AzureOpenAI(
        azure_endpoint=emu.base_url("azure"), api_key=emu.key("azure"), api_version="2024-10-21", max_retries=0
    ) as sdk:
        assert sdk.chat.completions.create(model=AZURE, messages=hello()).choices[0].message.content == "Hi."
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.chat.completions.create(model="nothing", messages=hello())
    assert caught.value.code == "DeploymentNotFound"
    assert emu.requests[0].path == f"/openai/deployments/{AZURE}/chat/completions"
    assert emu.requests[0].headers["api-key"] == emu.key("azure")


def test_the_workspace_without_the_hosts_prefix(emu: Emulator) -> None:
    emu.reply("Hi.")
    sdk = client(emu, "databricks", base_url=f"{emu.url}/serving-endpoints")
    with sdk:
        answer = sdk.chat.completions.create(model="databricks-llama-4-maverick", messages=hello())
    assert answer.choices[0].message.content == "Hi."
    assert (emu.requests[0].host, emu.requests[0].path) == ("databricks", "/serving-endpoints/chat/completions")


@every_route
def test_huggingface_hub(emu: Emulator, route: str) -> None:
    emu.replies(Reply("Hi there.", usage=(5, 3)), Reply("Hi é🎉."))
    host, path, model = ROUTES[route]
    # A base URL that does not end in /v1 gets one from this client, unless it is whole.
    sdk = hub.InferenceClient(base_url=f"{emu.base_url(host)}{path}/chat/completions", api_key=emu.key(host))
    answer = sdk.chat_completion(hello(), model=model, max_tokens=20)
    assert answer.choices[0].message.content == "Hi there."
    assert answer.usage.total_tokens == 8
    events = list(sdk.chat_completion(hello(), model=model, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == "Hi é🎉."
