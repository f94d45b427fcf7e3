"""Databricks: the workspace's serving endpoints."""

from __future__ import annotations

import sys

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET

from .conftest import one

MAVERICK = "databricks-llama-4-maverick"


def test_endpoints(emu: Emulator, discover) -> None:
    result = discover(emu.providers("databricks"))
    assert result.problems == ()
    (found,) = result.found
    assert (found.id, found.model, found.what) == (MAVERICK, "llama-4-maverick", "endpoint")
    assert (found.status, found.callable) == ("READY", True)
    assert emu.requests[0].path == "/api/2.0/serving-endpoints"


def test_agrees_with_the_sdk(emu: Emulator, discover) -> None:
    from databricks.sdk import WorkspaceClient

    sdk = WorkspaceClient(host=emu.url, token=emu.key("databricks"))
    listed = [endpoint.name for endpoint in sdk.serving_endpoints.list() if "llama" in (endpoint.name or "")]
    assert [found.id for found in discover(emu.providers("databricks")).found] == listed


def test_the_gateway_goes_by_names_of_unity_catalog(emu: Emulator, discover) -> None:
    tables = emu.providers("databricks")
    tables["databricks"]["api"] = "gateway"
    (found,) = discover(tables).found
    assert found.id == "system.ai.llama-4-maverick"
    emu.reply("By its name.")
    with lr.Client({"providers": tables}) as client:
        assert client.chat("Hi", model=f"databricks:{found.id}").text == "By its name."


@pytest.mark.parametrize(
    ("changes", "can"),
    [
        ({"state": {"ready": "NOT_READY"}}, False),
        ({"permission_level": "CAN_VIEW"}, False),
        ({"permission_level": "CAN_MANAGE"}, True),
        ({"state": {}}, None),
    ],
)
def test_what_cannot_be_called(emu: Emulator, discover, changes, can) -> None:
    endpoint = {"name": "ours", "state": {"ready": "READY"}, "permission_level": "CAN_QUERY"}
    entity = {"entity_name": "system.ai.llama-4-scout", "name": "scout-1"}
    body = {"endpoints": [{**endpoint, "config": {"served_entities": [entity]}, **changes}]}
    emu.fault(body=body, times=2, path="serving-endpoints")
    (found,) = discover(emu.providers("databricks")).found
    assert (found.id, found.model, found.callable) == ("ours", "llama-4-scout", can)
    assert ("CAN_VIEW" in found.note) is ("CAN_VIEW" in changes.values())


def test_service_principal(emu: Emulator, discover) -> None:
    """The login is databricks-sdk's, the question ours."""
    from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET

    login = {"host": emu.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    result = discover({"databricks": login})
    assert result.problems == ()
    assert [found.id for found in result.found] == [MAVERICK]


def test_wrong_token(emu: Emulator, discover) -> None:
    tables = emu.providers("databricks")
    tables["databricks"]["api_key"] = "dapi-wrong-token-of-somebody"
    result = discover(tables)
    assert not result.answered
    assert one(result).code in ("credentials", "permission")
    assert "dapi-wrong" not in str(result)


def test_missing_permission(emu: Emulator, discover) -> None:
    body = {"error_code": "PERMISSION_DENIED", "message": "Missing entitlement: workspace-access"}
    emu.fault(status=403, body=body, times=2, path="serving-endpoints")
    result = discover(emu.providers("databricks"))
    assert one(result).code == "permission"
    assert "Can Query" in one(result).remedy


def test_an_endpoint_that_is_not_there(emu: Emulator, discover) -> None:
    tables = emu.providers("databricks")
    tables["databricks"]["models"] = {"llama-4-maverick": "prod-maverick"}
    result = discover(tables)
    assert one(result).code == "not-found"
    assert f"it has {MAVERICK}" not in one(result).remedy
    assert MAVERICK in one(result).message


def test_without_the_sdk(emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token and a service principal need no SDK, neither for calls nor for the list; command lines do."""
    monkeypatch.setitem(sys.modules, "databricks.sdk", None)
    assert discover(emu.providers("databricks")).problems == ()
    machine = {"host": emu.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert discover({"databricks": machine}).problems == ()
    result = discover({"databricks": {"host": emu.url, "auth_type": "azure-cli"}})
    assert one(result).code == "not-installed"
    assert "pip install 'llamaroute[databricks]'" in one(result).message
