"""Azure AI Foundry: URLs, headers, bodies, settings and environment variables of both APIs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute.errors import CapabilityError
from llamaroute.providers.azure import SPEC
from llamaroute.spi import Target, WireRequest
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Image, ImageData, ToolCall
from llamaroute.types.request import ChatRequest
from tests.providers.wires import PNG, PNG_URL, WEATHER, ask, json_of, target_of

RESOURCE = "https://acme.services.ai.azure.com"
OPENAI = "https://acme.openai.azure.com"
SERVERLESS = "https://scout.eastus2.models.ai.azure.com"
MANAGED = "https://scout.eastus2.inference.ml.azure.com"
GITHUB = "https://models.github.ai/inference"
V = "api-version=2024-05-01-preview"


def target(model: str = "llama-4-scout", **settings: Any) -> Target:
    return target_of(SPEC, {"endpoint": RESOURCE, "api_key": "k", **settings}, model)


def build(request: ChatRequest, *, stream: bool = False, **settings: Any) -> WireRequest:
    return SPEC.adapter.build_request(request, target(**settings), stream=stream)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (RESOURCE, f"{RESOURCE}/openai/v1/chat/completions"),
        (f"{RESOURCE}/", f"{RESOURCE}/openai/v1/chat/completions"),
        (f"{OPENAI}/openai", f"{OPENAI}/openai/v1/chat/completions"),
        (f"{OPENAI}/openai/v1", f"{OPENAI}/openai/v1/chat/completions"),
        (f"{OPENAI}/openai/v1/", f"{OPENAI}/openai/v1/chat/completions"),
        (f"{OPENAI}/openai/v1?api-version=preview", f"{OPENAI}/openai/v1/chat/completions?api-version=preview"),
        (f"{OPENAI}/openai/v1/chat/completions", f"{OPENAI}/openai/v1/chat/completions"),
        # What the portal shows for the older API.
        (f"{RESOURCE}/models", f"{RESOURCE}/openai/v1/chat/completions"),
        (f"{RESOURCE}/models/chat/completions?{V}", f"{RESOURCE}/openai/v1/chat/completions"),
        (f"{RESOURCE}/models?{V}&k=1", f"{RESOURCE}/openai/v1/chat/completions?k=1"),
        (f"{RESOURCE}/api/projects/demo", f"{RESOURCE}/openai/v1/chat/completions"),
        (f"{RESOURCE}/api/projects/demo/openai/v1", f"{RESOURCE}/api/projects/demo/openai/v1/chat/completions"),
        (
            f"{OPENAI}/openai/deployments/d/chat/completions?api-version=2024-10-21",
            f"{OPENAI}/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
        (f"{SERVERLESS}/v1", f"{SERVERLESS}/v1/chat/completions"),
        (f"{MANAGED}/v1/chat/completions", f"{MANAGED}/v1/chat/completions"),
        ("https://gateway.example/acme", "https://gateway.example/acme/openai/v1/chat/completions"),
        ("http://127.0.0.1:9/azure", "http://127.0.0.1:9/azure/openai/v1/chat/completions"),
    ],
)
def test_url_of_v1(endpoint: str, url: str) -> None:
    assert build(ask(), endpoint=endpoint).url == url
    assert build(ask(), base_url=endpoint, endpoint="https://else.where.example").url == url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (RESOURCE, f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{RESOURCE}/models", f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{RESOURCE}/models/", f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{RESOURCE}/models/chat/completions", f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{RESOURCE}/models?api-version=2025-04-01", f"{RESOURCE}/models/chat/completions?api-version=2025-04-01"),
        (f"{RESOURCE}/openai/v1", f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{RESOURCE}/openai/v1?api-version=preview", f"{RESOURCE}/models/chat/completions?{V}"),
        (f"{OPENAI}/openai/v1/chat/completions", f"{OPENAI}/models/chat/completions?{V}"),
        (f"{RESOURCE}/api/projects/demo", f"{RESOURCE}/models/chat/completions?{V}"),
        (SERVERLESS, f"{SERVERLESS}/chat/completions?{V}"),
        (f"{SERVERLESS}/v1", f"{SERVERLESS}/v1/chat/completions?{V}"),
        (f"{SERVERLESS}/chat/completions", f"{SERVERLESS}/chat/completions?{V}"),
        (MANAGED, f"{MANAGED}/chat/completions?{V}"),
        (f"{MANAGED}/score", f"{MANAGED}/score"),
        (GITHUB, f"{GITHUB}/chat/completions?{V}"),
        ("http://127.0.0.1:9/azure-models", f"http://127.0.0.1:9/azure-models/models/chat/completions?{V}"),
        ("http://127.0.0.1:9/x/chat/completions", f"http://127.0.0.1:9/x/chat/completions?{V}"),
    ],
)
def test_url_of_the_model_inference_api(endpoint: str, url: str) -> None:
    assert build(ask(), endpoint=endpoint, api="models").url == url


def test_the_api_version_can_be_chosen() -> None:
    assert build(ask(), api="models", api_version="2025-04-01").url.endswith("?api-version=2025-04-01")


@pytest.mark.parametrize(
    ("model", "settings", "sent"),
    [
        ("llama-4-scout", {}, "Llama-4-Scout-17B-16E-Instruct"),
        ("llama-4-maverick", {}, "Llama-4-Maverick-17B-128E-Instruct-FP8"),
        ("llama-4-maverick", {"models": {"llama-4-maverick": "My-Maverick"}}, "My-Maverick"),
        ("My-Other", {}, "My-Other"),
        ("llama-4-scout", {"api": "models", "models": {"llama-4-scout": "s"}}, "s"),
    ],
)
def test_the_model_is_the_deployments_name(model: str, settings: dict[str, Any], sent: str) -> None:
    wire = SPEC.adapter.build_request(ask(), target(model, **settings), stream=False)
    assert json_of(wire)["model"] == sent


def test_headers_of_v1_are_the_usual_ones() -> None:
    assert dict(build(ask(top_k=3), stream=True).headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
    }


# Fields outside of the Model Inference API, and whether usage of streams is asked for, which is such a field.
@pytest.mark.parametrize(
    ("fields", "stream", "settings", "header", "usage"),
    [
        ({"max_tokens": 5, "temperature": 0.1, "top_p": 0.5, "seed": 7, "stop": ("x",)}, False, {}, None, False),
        ({"frequency_penalty": 0.1, "presence_penalty": 0.1, "tools": (WEATHER,)}, False, {}, None, False),
        ({"top_k": 3}, False, {}, "pass-through", False),
        ({"repetition_penalty": 1.1}, False, {}, "pass-through", False),
        ({"logprobs": 2}, False, {}, "pass-through", False),
        ({"tools": (WEATHER,), "parallel_tool_calls": False}, False, {}, "pass-through", False),
        ({"extra": {"azure": {"safe_prompt": True}}}, False, {}, "pass-through", False),
        ({"extra": {"acc": {"safe_prompt": True}}}, False, {}, "pass-through", False),
        ({"extra": {"another": {"safe_prompt": True}}}, False, {}, None, False),
        ({"extra": {"azure": {"temperature": 0.5}}}, False, {}, None, False),
        ({}, True, {}, "pass-through", True),
        ({}, True, {"extra_parameters": "drop"}, "drop", True),
        ({}, True, {"extra_parameters": "error"}, "error", False),
        ({}, False, {"extra_parameters": "pass-through"}, "pass-through", False),
        ({"top_k": 3}, False, {"extra_parameters": "drop"}, "drop", False),
        # Serverless endpoints send usage unasked, and have refused stream_options.
        ({}, True, {"endpoint": SERVERLESS}, None, False),
        ({"top_k": 3}, True, {"endpoint": SERVERLESS}, "pass-through", False),
        ({}, True, {"endpoint": SERVERLESS, "extra_parameters": "pass-through"}, "pass-through", True),
        ({}, True, {"endpoint": MANAGED}, "pass-through", True),
    ],
)
def test_extra_parameters(
    fields: dict[str, Any], stream: bool, settings: dict[str, Any], header: str | None, usage: bool
) -> None:
    wire = build(ask(**fields), stream=stream, api="models", **settings)
    assert wire.headers.get("extra-parameters") == header
    assert ("stream_options" in json_of(wire)) is usage


def test_v1_asks_for_usage() -> None:
    assert json_of(build(ask(), stream=True))["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("endpoint", "sent"), [(MANAGED, "blue"), ("https://own.example/models", "blue"), (SERVERLESS, None)]
)
def test_one_deployment_of_a_managed_endpoint(endpoint: str, sent: str | None) -> None:
    wire = build(ask(), api="models", endpoint=endpoint, deployment="blue")
    assert wire.headers.get("azureml-model-deployment") == sent


def test_more_headers_than_the_service_takes_are_refused_before_sending() -> None:
    own = {f"x-own-{i}": "1" for i in range(8)}
    assert build(ask(headers={"x-a": "1", "x-b": "1"}), headers=own).method == "POST"
    assert build(ask(headers={"x-a": "1", "x-b": "1", "x-own-1": "2"}), headers=own).method == "POST"
    with pytest.raises(CapabilityError, match=r"at most 10 custom headers, not 11; see providers\.acc\.headers"):
        build(ask(headers={"x-a": "1", "x-b": "1", "x-c": "1"}), headers=own)


def image() -> Image:
    picture = Image(PNG)
    picture.load(ImageData.of("image/png", PNG))
    return picture


def test_turns_of_the_user_that_follow_each_other_are_one() -> None:
    call = ToolCall("call_1", "weather", {"city": "Oslo"})
    sent = json_of(
        build(
            ChatRequest(
                (
                    system("Be brief."),
                    user("One."),
                    user("Two.", image()),
                    assistant("Let me see.", call),
                    tool_result(call, "cloudy"),
                    user("Three."),
                    user("Four."),
                )
            )
        )
    )["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]
    assert sent[1]["content"] == [
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two."},
        {"type": "image_url", "image_url": {"url": PNG_URL}},
    ]
    assert sent[3] == {"role": "tool", "content": "cloudy", "tool_call_id": "call_1"}
    assert sent[4]["content"] == "Three.\nFour."


def test_images_go_as_data() -> None:
    for settings in ({}, {"api": "models"}):
        sent = json_of(build(ask("Look", image()), **settings))["messages"][0]["content"]
        assert sent[1] == {"type": "image_url", "image_url": {"url": PNG_URL}}
        with pytest.raises(CapabilityError):
            build(ask("Look", Image("https://example.com/cat.png")), **settings)
        linked = build(ask(Image("https://example.com/cat.png")), features={"image_url": "native"}, **settings)
        assert json_of(linked)["messages"][0]["content"][0]["image_url"] == {"url": "https://example.com/cat.png"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": None}, "endpoint is missing"),
        ({"endpoint": "acme.services.ai.azure.com"}, "should be a URL"),
        ({"endpoint": SERVERLESS}, "a serverless endpoint serves no /openai/v1; set api to 'models'"),
        ({"endpoint": MANAGED}, "a managed endpoint serves no /openai/v1; set api to 'models'"),
        ({"credential": "entra"}, "api_key and credential = 'entra' exclude each other"),
        ({"api_key": None, "client_secret": "s"}, "client_secret needs tenant_id and client_id beside it"),
        ({"api_key": None, "client_secret": "s", "tenant_id": "t"}, "client_secret needs client_id beside it"),
        ({"extra_parameters": "ignore"}, "'error', 'drop' or 'pass-through'"),
        ({"api": "v2"}, "'v1' or 'models'"),
        ({"deployment": ""}, "deployment"),
    ],
    ids=str,
)
def test_settings_that_do_not_hang_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        target(**settings)
    assert message in str(caught.value)


KEY = {"api_key": "k"}
ENTRA = {"credential": "entra"}


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        ({"AZURE_OPENAI_ENDPOINT": OPENAI}, None),
        ({"AZURE_OPENAI_API_KEY": "k"}, None),
        ({"AZURE_OPENAI_ENDPOINT": OPENAI, "AZURE_OPENAI_API_KEY": "k"}, {"endpoint": OPENAI, **KEY}),
        ({"AZURE_OPENAI_ENDPOINT": OPENAI, "AZURE_OPENAI_API_KEY": "", "AZURE_CLIENT_ID": ""}, None),
        ({"AZURE_OPENAI_ENDPOINT": OPENAI, "AZURE_CLIENT_ID": "c"}, {"endpoint": OPENAI, **ENTRA}),
        ({"AZURE_OPENAI_ENDPOINT": OPENAI, "AZURE_TENANT_ID": "t"}, {"endpoint": OPENAI, **ENTRA}),
        (
            {"AZURE_AI_INFERENCE_ENDPOINT": f"{RESOURCE}/models", "AZURE_AI_INFERENCE_CREDENTIAL": "k"},
            {"endpoint": f"{RESOURCE}/models", **KEY},
        ),
        (
            {"AZURE_INFERENCE_ENDPOINT": SERVERLESS, "AZURE_INFERENCE_CREDENTIAL": "k"},
            {"endpoint": SERVERLESS, "api": "models", **KEY},
        ),
        (
            {"AZURE_INFERENCE_ENDPOINT": MANAGED, "IDENTITY_ENDPOINT": "x"},
            {"endpoint": MANAGED, "api": "models", **ENTRA},
        ),
        ({"AZURE_AI_API_BASE": f"{SERVERLESS}/v1", "AZURE_AI_API_KEY": "k"}, {"endpoint": f"{SERVERLESS}/v1", **KEY}),
        # An endpoint that nothing opens does not hide the next one.
        (
            {"AZURE_OPENAI_ENDPOINT": OPENAI, "AZURE_AI_API_BASE": RESOURCE, "AZURE_AI_API_KEY": "k"},
            {"endpoint": RESOURCE, **KEY},
        ),
    ],
    ids=str,
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    found = SPEC.from_env(env)
    assert found == table
    if found is not None:
        SPEC.settings.model_validate({"kind": "azure", **found})


@pytest.mark.parametrize("model", ["llama-4-scout", "llama-4-maverick", "my-deployment"])
def test_the_older_apis_range_of_temperature(model: str) -> None:
    rule = target(model, api="models", models={"my-deployment": "d"}).row.parameters["temperature"]
    assert (rule.refusal(1.0), rule.refusal(1.1)) == (
        None,
        "the host takes values between 0 and 1 (api = 'v1' takes up to 2)",
    )
    rules = target(model, models={"my-deployment": "d"}).row.parameters
    assert "temperature" not in rules or rules["temperature"].refusal(1.1) is None
