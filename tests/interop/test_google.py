"""`from_endpoint`, with the real `aiplatform.Endpoint` and a server that is both the control plane and the endpoint."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from google.oauth2 import credentials as user_credentials

import llamaroute as lr
from llamaroute.interop import google
from tests.auth.google_server import Google

NAME = "projects/my-project/locations/us-central1/endpoints/456"


@pytest.fixture
def server() -> Iterator[Google]:
    running = Google()
    yield running
    running.close()


@pytest.fixture(scope="module")
def aiplatform() -> Any:
    """Takes seconds to import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Google's own, about its own packages
        from google.cloud import aiplatform

        return aiplatform


@pytest.fixture
def endpoint(aiplatform: Any, server: Google) -> Any:
    # A user's, since the SDK makes service accounts sign a token of their own.
    credentials = user_credentials.Credentials(
        None, refresh_token="1//r", token_uri=f"{server.url}/token", client_id="c", client_secret="s"
    )
    aiplatform.init(
        project="my-project",
        location="us-central1",
        credentials=credentials,
        api_endpoint=server.url,
        api_transport="rest",
    )
    return aiplatform.Endpoint("456")


def config(endpoint: Any, server: Google, **settings: Any) -> dict[str, Any]:
    """The API's root is said, since no DNS leads to the server."""
    return {"providers": {"work": google.from_endpoint(endpoint, base_url=f"{server.url}/api", **settings)}}


def test_an_endpoint_that_nobody_has_looked_up(endpoint: Any, server: Google) -> None:
    server.dns = f"{server.url}/own"
    settings = google.from_endpoint(endpoint)
    assert (settings.api, settings.project, settings.region, settings.endpoint_id) == (
        "endpoint",
        "my-project",
        "us-central1",
        "456",
    )
    assert settings.dedicated_dns is None
    assert settings.live_credential is endpoint.credentials
    assert (server.asked, server.calls) == ([], [])
    with lr.Client(config(endpoint, server), env={}) as client:
        assert [client.chat("Hi", model="work").text for _ in range(2)] == ["Hello."] * 2
    chat = f"/own/v1/{NAME}/chat/completions"
    assert [path for path, _ in server.calls] == [f"/api/v1/{NAME}", chat, chat]
    assert len(server.asked) == 1


def test_an_endpoint_that_google_has_described(endpoint: Any, server: Google) -> None:
    server.dns = f"{server.url}/own"
    assert endpoint.dedicated_endpoint_dns == server.dns  # the SDK's own look
    looked = len(server.calls)
    assert google.from_endpoint(endpoint).dedicated_dns == server.dns
    with lr.Client(config(endpoint, server), env={}) as client:
        assert client.chat("Hi", model="work").text == "Hello."
    assert [path for path, _ in server.calls[looked:]] == [f"/own/v1/{NAME}/chat/completions"]
    assert len(server.asked) == 1  # the token that the SDK's call got is still good


def test_an_endpoint_without_a_host_of_its_own(endpoint: Any, server: Google) -> None:
    assert endpoint.dedicated_endpoint_enabled is False
    assert google.from_endpoint(endpoint).dedicated_dns is None
    with lr.Client(config(endpoint, server, route="raw-predict"), env={}) as client:
        assert client.chat("Hi", model="work").text == "Hello."
    assert server.calls[-1][0] == f"/api/v1/{NAME}:rawPredict"


def test_fifty_first_calls_ask_once(endpoint: Any, server: Google) -> None:
    server.dns = f"{server.url}/own"

    async def run() -> list[str]:
        async with lr.AsyncClient(config(endpoint, server), env={}) as client:
            replies = await asyncio.gather(*[client.chat("Hi", model="work") for _ in range(50)])
        return [reply.text for reply in replies]

    assert asyncio.run(run()) == ["Hello."] * 50
    paths = [path for path, _ in server.calls]
    assert paths.count(f"/api/v1/{NAME}") == 1
    assert paths.count(f"/own/v1/{NAME}/chat/completions") == 50


def test_what_is_no_endpoint(endpoint: Any) -> None:
    with pytest.raises(lr.ConfigError, match=r"takes an aiplatform\.Endpoint, not str"):
        google.from_endpoint("projects/p/locations/r/endpoints/e")  # type: ignore[arg-type]
    with pytest.raises(lr.ConfigError, match=r"from_endpoint\(\): route"):
        google.from_endpoint(endpoint, route="by sea")
    with pytest.raises(lr.ConfigError, match=r"from_endpoint\(\): colour"):
        google.from_endpoint(endpoint, colour="blue")
