"""azure-ai-inference's own clients, taken over: where they ask and how they sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.core.credentials import AccessToken, AzureKeyCredential

import llamaroute as lr
from llamaroute.interop import azure
from llamaroute.pipeline.ops import Head, Send
from llamaroute.types.response import Phase
from tests.providers.wires import completion, json_of, packed

RESOURCE = "https://acme.services.ai.azure.com/models"


class Wire:
    """A transport that keeps what is sent, and answers `Hi`."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def open(self, send: Send) -> Wire:
        self.sent.append(send.request)
        self.head = Head(200, {"content-type": "application/json"})
        self.body = packed(completion({"role": "assistant", "content": "Hi"}, "stop"))
        return self

    def read(self, until: float, phase: Phase) -> bytes:
        data, self.body = self.body, b""
        return data

    def close(self) -> None:
        pass


class Tokens:
    """A TokenCredential: hands out `t1`, `t2`, ..."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken(f"t{len(self.scopes)}", 4_000_000_000)


class AsyncTokens:
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("it must not come to this")


def sent(settings: Any, model: str | None = None) -> Any:
    wire = Wire()
    with lr.Client({"providers": {"work": settings}}, transport=wire, env={}) as client:
        assert client.chat("Hi", model=model).text == "Hi"
    return wire.sent[0]


@pytest.fixture(params=[ChatCompletionsClient, AsyncChatCompletionsClient], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Iterator[Any]:
    return request.param


def test_a_client_with_a_key(kind: Any) -> None:
    sdk = kind(RESOURCE, AzureKeyCredential("key-0123456789"), model="my-scout", headers={"x-team": "a"})
    settings = azure.from_sdk(sdk)
    assert settings.api == "models"
    assert "key-0123456789" not in repr(settings)
    assert "key-0123456789" not in str(settings.model_dump())
    wire = sent(settings)
    assert wire.url == f"{RESOURCE}/chat/completions?api-version=2024-05-01-preview"
    assert json_of(wire)["model"] == "my-scout"
    assert wire.headers["api-key"] == "key-0123456789"
    assert wire.headers["x-team"] == "a"


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        (RESOURCE, {"api-key"}),
        ("https://scout.eastus2.models.ai.azure.com", {"authorization"}),
        ("https://scout.eastus2.inference.ml.azure.com/", {"authorization"}),
        ("https://models.github.ai/inference", {"authorization"}),
        ("https://acme.openai.azure.com/openai/deployments/scout", {"api-key"}),
        ("https://gateway.example/azure", {"api-key", "authorization"}),
    ],
)
def test_it_asks_exactly_where_the_client_does(endpoint: str, names: set[str]) -> None:
    wire = sent(azure.from_sdk(ChatCompletionsClient(endpoint, AzureKeyCredential("k"))), "work:some-model")
    assert wire.url == f"{endpoint.rstrip('/')}/chat/completions?api-version=2024-05-01-preview"
    assert {"api-key", "authorization"} & set(wire.headers) == names


def test_the_api_version_and_further_keys() -> None:
    sdk = ChatCompletionsClient(RESOURCE, AzureKeyCredential("k"), api_version="2025-04-01", model="m")
    wire = sent(azure.from_sdk(sdk, models={"llama-4-scout": "s"}, model="llama-4-scout", extra_parameters="drop"))
    assert wire.url.endswith("?api-version=2025-04-01")
    assert json_of(wire)["model"] == "s"
    assert wire.headers["extra-parameters"] == "drop"


def test_a_key_that_its_owner_changes() -> None:
    credential = AzureKeyCredential("old-key-0123")
    settings = azure.from_sdk(ChatCompletionsClient(RESOURCE, credential, model="m"))
    wire = Wire()
    with lr.Client({"providers": {"work": settings}}, transport=wire, env={}) as client:
        client.chat("Hi")
        credential.update("new-key-4567")
        client.chat("Hi")
    assert [request.headers["api-key"] for request in wire.sent] == ["old-key-0123", "new-key-4567"]


@pytest.mark.parametrize(
    ("options", "scope"),
    [
        ({}, "https://ml.azure.com/.default"),
        ({"credential_scopes": ["https://cognitiveservices.azure.com/.default"]}, None),
    ],
)
def test_a_client_with_tokens(options: dict[str, Any], scope: str | None) -> None:
    credential = Tokens()
    settings = azure.from_sdk(ChatCompletionsClient(RESOURCE, credential, model="m", **options))
    wire = sent(settings)
    assert wire.headers["authorization"] == "Bearer t1"
    assert "api-key" not in wire.headers
    assert credential.scopes == [scope or options["credential_scopes"][0]]


def test_asynchronous_tokens_are_refused() -> None:
    sdk = AsyncChatCompletionsClient(RESOURCE, AsyncTokens())
    with pytest.raises(lr.ConfigError, match=r"AsyncTokens is asynchronous.*azure\.identity"):
        azure.from_sdk(sdk)


@pytest.mark.parametrize(
    "wrong",
    [None, "https://acme.services.ai.azure.com", object(), EmbeddingsClient(RESOURCE, AzureKeyCredential("k"))],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(lr.ConfigError, match=rf"ChatCompletionsClient, not {type(wrong).__name__}"):
        azure.from_sdk(wrong)


def test_a_key_that_is_not_the_tables() -> None:
    with pytest.raises(lr.ConfigError, match=r"from_sdk\(\): modle: Extra inputs"):
        azure.from_sdk(ChatCompletionsClient(RESOURCE, AzureKeyCredential("k")), modle="m")
