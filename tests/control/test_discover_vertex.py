"""Google Vertex AI through google-cloud-aiplatform, with the account's own credentials."""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.registry import provider_spec

from .conftest import one

SCOUT = "meta/llama-4-scout-17b-16e-instruct-maas"
MAVERICK = "meta/llama-4-maverick-17b-128e-instruct-maas"
ENDPOINT = "1234567890123456789"


def by_id(result: lr.Discovery) -> dict[str, lr.Discovered]:
    return {found.id: found for found in result.found}


def test_endpoints_and_models(emu: Emulator, discover) -> None:
    result = discover(emu.providers("vertex"))
    assert result.problems == ()
    found = by_id(result)
    assert set(found) == {ENDPOINT, SCOUT, MAVERICK}
    endpoint = found[ENDPOINT]
    assert (endpoint.what, endpoint.model, endpoint.callable) == ("endpoint", "llama-4-scout", True)
    assert endpoint.region == "us-east5"
    assert f"at {emu.url}/vertex-endpoint" in endpoint.note
    # Model Garden's list does not tell whether the project has enabled a model.
    assert found[MAVERICK].callable is None
    assert found[MAVERICK].status == "GA"


def test_agrees_with_the_sdk(emu: Emulator, discover) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform_v1beta1

    table = emu.providers("vertex")["vertex"]
    with Emulator(keys={"vertex": None}) as free:
        options: dict[str, Any] = {
            "credentials": AnonymousCredentials(),
            "transport": "rest",
            "client_options": {"api_endpoint": free.base_url("vertex")},
        }
        garden = aiplatform_v1beta1.ModelGardenServiceClient(**options)
        models = [model.name for model in garden.list_publisher_models(parent="publishers/meta")]
        service = aiplatform_v1beta1.EndpointServiceClient(**options)
        parent = f"projects/{table['project']}/locations/{table['region']}"
        endpoints = [endpoint.name for endpoint in service.list_endpoints(parent=parent)]
    found = discover({"vertex": table}).found
    assert [entry.id for entry in found] == [
        *(name.rpartition("/")[2] for name in endpoints),
        *(f"meta/{name.rpartition('/')[2]}" for name in models),
    ]


def test_a_region_without_the_models(emu: Emulator, discover) -> None:
    """The list is the same everywhere, and says nothing of where a model can be called."""
    tables = emu.providers("vertex")
    tables["vertex"]["region"] = "us-central1"
    result = discover(tables)
    assert by_id(result)[MAVERICK].callable is False
    assert "us-east5" in by_id(result)[MAVERICK].note
    assert ENDPOINT not in by_id(result)


def test_an_endpoint_of_ones_own(emu: Emulator, discover) -> None:
    table = emu.providers("vertex")["vertex"] | {"api": "endpoint", "endpoint_id": ENDPOINT}
    assert set(by_id(discover({"vertex": table}))) == {ENDPOINT}
    table["endpoint_id"] = f"projects/{table.pop('project')}/locations/us-east5/endpoints/42"
    result = discover({"vertex": table})
    assert one(result).code == "not-found"
    assert "providers.vertex.endpoint_id: '42'" in one(result).message


def test_an_endpoint_with_nothing_on_it(discover) -> None:
    empty = {"deployedModels": [], "displayName": "llama-4-scout to come"}
    with Emulator(settings={"google": {"endpoints": {"7": empty}}}) as emu:
        found = by_id(discover(emu.providers("vertex")))["7"]
    assert (found.callable, found.status) == (False, "empty")


def test_the_project_that_the_credentials_know(emu: Emulator, discover) -> None:
    from google.oauth2.credentials import Credentials

    class Known(Credentials):
        project_id = "emulated-project"

    table = emu.providers("vertex")["vertex"]
    settings = provider_spec("vertex").settings.model_validate(
        {"kind": "vertex", "base_url": table["base_url"], "region": "us-east5"}
    )
    live = Known(token=table["access_token"])
    assert ENDPOINT in by_id(discover({"vertex": settings.with_live_credential(live)}))
    assert {request.headers["authorization"] for request in emu.requests} == {f"Bearer {table['access_token']}"}


def test_the_project_that_pays(emu: Emulator, discover) -> None:
    tables = emu.providers("vertex")
    tables["vertex"]["quota_project"] = "billing-project"
    discover(tables)
    assert {request.headers["x-goog-user-project"] for request in emu.requests} == {"billing-project"}


def test_missing_permission(emu: Emulator, discover) -> None:
    tables = emu.providers("vertex")
    tables["vertex"]["project"] = "of-somebody-else"
    result = discover(tables)
    assert one(result).code == "permission"
    assert one(result).message.startswith("the endpoints in us-east5: ")
    assert "aiplatform.endpoints.list" in one(result).message
    assert "roles/aiplatform.viewer" in one(result).remedy
    assert result.answered  # models were listed all the same
    assert MAVERICK in by_id(result)


def test_an_api_that_is_disabled(discover) -> None:
    with Emulator(quirks=["vertex-api-disabled"]) as emu:
        result = discover(emu.providers("vertex"))
    assert not result.answered
    assert {problem.code for problem in result.problems} == {"permission"}
    assert "gcloud services enable aiplatform.googleapis.com" in str(result.problems[0])


def test_wrong_token(emu: Emulator, discover, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tables = emu.providers("vertex")
    tables["vertex"]["access_token"] = "ya29.wrong-token-of-somebody"
    result = discover(tables)
    assert not result.answered
    assert {problem.code for problem in result.problems} == {"credentials"}
    assert "wrong-token" not in str(result) + caplog.text


def test_dead_address(discover) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    table = {"base_url": f"http://127.0.0.1:{port}", "project": "p", "access_token": "ya29.token"}
    result = discover({"vertex": table})
    assert not result.answered
    assert {problem.code for problem in result.problems} == {"unreachable"}


def test_without_aiplatform(emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    from google import cloud

    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1beta1", None)
    monkeypatch.delattr(cloud, "aiplatform_v1beta1", raising=False)
    result = discover(emu.providers("vertex"))
    assert not result.answered
    assert one(result).code == "not-installed"
    assert "pip install 'llamaroute[vertex-admin]'" in one(result).message


def test_no_such_model_of_the_table(emu: Emulator, discover) -> None:
    tables = emu.providers("vertex")
    tables["vertex"]["models"] = {"llama-4-scout": "meta/llama-4-scout-wrong-maas"}
    assert one(discover(tables)).code == "not-found"
