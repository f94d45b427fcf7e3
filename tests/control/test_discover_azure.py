"""Azure: a resource's models, the deployments of its project and of Resource Manager, and endpoints of one model."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, NamedTuple

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.registry import provider_spec

from .conftest import one

SCOUT = "Llama-4-Scout-17B-16E-Instruct"
MAVERICK = "Llama-4-Maverick-17B-128E-Instruct-FP8"
GROUP = {"subscription_id": "00000000-0000-0000-0000-000000000009", "resource_group": "emulated"}


class AccessToken(NamedTuple):
    token: str
    expires_on: int


class Login:
    """A credential of the application's own; azure-identity's want https, which the emulator has not."""

    def __init__(self, emu: Emulator) -> None:
        self.emu = emu
        self.scopes: list[str] = []

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes += scopes
        audience = scopes[0].removesuffix("/.default")
        return AccessToken(self.emu.tokens.issue(audience).text, int(time.time()) + 3600)


def entra(emu: Emulator, **table: Any) -> dict[str, Any]:
    settings = provider_spec("azure").settings
    values = {"kind": "azure", "base_url": emu.base_url("azure"), "credential": "entra", **table}
    return {"work": settings.model_validate(values).with_live_credential(Login(emu))}


def arm(emu: Emulator) -> dict[str, str]:
    return {"ARM_ENDPOINT": f"{emu.url}/azure-arm"}


def by_id(result: lr.Discovery) -> dict[str, lr.Discovered]:
    return {found.id: found for found in result.found}


# -- a key ------------------------------------------------------------------------------------------------------------


def test_a_key_sees_models_and_no_deployments(emu: Emulator, discover) -> None:
    result = discover(emu.providers("azure"))
    assert result.answered
    assert {found.id: (found.model, found.what, found.callable) for found in result.found} == {
        MAVERICK: ("llama-4-maverick", "model", None),
        SCOUT: ("llama-4-scout", "model", None),
    }
    assert one(result).code == "settings"
    assert "providers.azure.project" in one(result).remedy


def test_models_agree_with_the_openai_sdk(emu: Emulator, discover) -> None:
    openai = importlib.import_module("openai")
    table = emu.providers("azure")["azure"]
    url = f"{table['base_url']}/openai/v1"
    with openai.OpenAI(base_url=url, api_key=table["api_key"], max_retries=0) as sdk:
        assert set(by_id(discover({"azure": table}))) == {model.id for model in sdk.models.list()}


def test_a_key_is_not_taken_for_deployments(emu: Emulator, discover) -> None:
    tables = emu.providers("azure")
    tables["azure"] |= {"project": "shop", **GROUP}
    result = discover(tables, env=arm(emu))
    assert [problem.code for problem in result.problems] == ["settings", "settings"]
    assert "the deployments of the project shop: a key is not taken there" in result.problems[1].message
    assert "providers.azure.credential = 'entra'" in result.problems[1].remedy
    assert by_id(result)[SCOUT].what == "model"


def test_wrong_key(emu: Emulator, discover) -> None:
    tables = emu.providers("azure")
    tables["azure"]["api_key"] = "wrong-key-of-somebody"
    result = discover(tables)
    assert not result.answered
    assert result.problems[0].code == "credentials"
    assert "wrong-key" not in str(result)


@pytest.mark.parametrize(
    "path", ["", "/", "/openai/v1", "/openai/v1/chat/completions", "/models", "/api/projects/shop/openai/v1"]
)
def test_whatever_path_was_copied(emu: Emulator, discover, path: str) -> None:
    tables = emu.providers("azure")
    tables["azure"]["base_url"] += path
    assert set(by_id(discover(tables))) == {MAVERICK, SCOUT}
    assert emu.requests[-1].path == "/openai/v1/models"


# -- a project --------------------------------------------------------------------------------------------------------


def test_the_deployments_of_a_project(discover) -> None:
    with Emulator(models={"azure": [SCOUT, "prod-maverick"]}) as emu:
        tables = entra(emu, project="shop", models={"llama-4-maverick": "prod-maverick"})
        result = discover(tables)
        assert result.problems == ()
        found = by_id(result)
        assert set(found) == {SCOUT, "prod-maverick"}
        assert (found[SCOUT].what, found[SCOUT].model, found[SCOUT].callable) == ("deployment", "llama-4-scout", True)
        assert found[SCOUT].note == f"Meta {SCOUT} 1"
        assert found["prod-maverick"].model == "llama-4-maverick"
        asked = next(request for request in emu.requests if "/api/projects/" in request.path)
        assert asked.path == "/api/projects/shop/deployments"
        assert asked.query == {"api-version": "v1"}
        emu.reply("Deployed.")
        with lr.Client({"providers": tables}) as client:
            assert client.chat("Hi", model="work:prod-maverick").text == "Deployed."


def test_a_project_in_the_address(emu: Emulator, discover) -> None:
    result = discover(entra(emu, base_url=f"{emu.base_url('azure')}/api/projects/shop/openai/v1"))
    assert result.problems == ()
    assert {found.what for found in result.found} == {"deployment"}


def test_a_deployment_that_is_not_there(emu: Emulator, discover) -> None:
    result = discover(entra(emu, project="shop", models={"llama-4-scout": "gone"}))
    assert one(result).code == "not-found"
    assert "providers.work.models: 'gone' is not among the deployments of the project shop" in one(result).message


def test_missing_role_on_the_project(emu: Emulator, discover) -> None:
    emu.fault(status=403, times=2, path="/api/projects")
    result = discover(entra(emu, project="shop"))
    assert one(result).code == "permission"
    assert "Foundry User (formerly Azure AI User) on the project" in one(result).remedy
    assert by_id(result)[SCOUT].what == "model"  # better than nothing


# -- azure resource manager -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirks", [[], ["azure-arm-pages"]])
def test_resource_manager(discover, quirks: list[str]) -> None:
    with Emulator(quirks=quirks) as emu:
        tables = entra(emu, **GROUP)
        result = discover(tables, env=arm(emu))
        assert result.problems == ()
        found = by_id(result)
        assert set(found) == {SCOUT, MAVERICK}
        scout = found[SCOUT]
        assert (scout.what, scout.region, scout.status, scout.callable) == ("deployment", "eastus2", "Succeeded", True)
        assert scout.note == f"Meta {SCOUT} 1 at emulated-foundry"
        assert "https://management.azure.com/.default" in tables["work"].live_credential.scopes


def test_the_resource_of_the_endpoint_alone(discover) -> None:
    accounts = {"azure-arm": {"accounts": ("acme", "other")}}
    with Emulator(settings=accounts) as emu:
        settings = {"endpoint": "https://acme.services.ai.azure.com", **GROUP}
        result = discover(entra(emu, **settings), env=arm(emu))
        assert {found.note.rpartition(" at ")[2] for found in result.found} == {"acme"}
        assert not any("/accounts/other/" in request.path for request in emu.requests)


def test_project_and_resource_manager_are_merged(emu: Emulator, discover) -> None:
    result = discover(entra(emu, project="shop", **GROUP), env=arm(emu))
    assert result.problems == ()
    assert len(result.found) == 2
    assert {found.region for found in result.found} == {"eastus2"}


def test_missing_role_on_the_group(emu: Emulator, discover) -> None:
    emu.fault(status=403, host="azure-arm", times=2, path="/accounts")
    result = discover(entra(emu, **GROUP), env=arm(emu))
    assert one(result).code == "permission"
    assert "Microsoft.CognitiveServices/accounts/deployments/read" in one(result).message
    assert "the role Reader on the resource group" in one(result).remedy


# -- other forms ------------------------------------------------------------------------------------------------------


def test_a_serverless_endpoint(emu: Emulator, discover) -> None:
    result = discover(emu.providers("azure-serverless"))
    assert result.problems == ()
    (found,) = result.found
    assert (found.what, found.model, found.callable) == ("endpoint", "llama-4-scout", True)
    assert emu.requests[0].query == {"api-version": "2024-05-01-preview"}


def test_without_azure_identity(emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("azure.identity")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    result = discover({"work": {"kind": "azure", "endpoint": emu.base_url("azure"), "credential": "entra"}})
    assert not result.answered
    assert "pip install 'llamaroute[azure]'" in result.problems[0].message
