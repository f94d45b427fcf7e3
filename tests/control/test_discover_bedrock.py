"""Amazon Bedrock through boto3, with the account's own credentials."""

from __future__ import annotations

import importlib
import json
import logging
import socket
import sys
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.registry import provider_spec

from .conftest import one

SCOUT = "meta.llama4-scout-17b-instruct-v1:0"
MAVERICK = "meta.llama4-maverick-17b-instruct-v1:0"


def by_id(result: lr.Discovery) -> dict[str, lr.Discovered]:
    return {found.id: found for found in result.found}


def test_models_profiles_and_access(emu: Emulator, discover) -> None:
    result = discover(emu.providers("bedrock"))
    assert result.problems == ()
    found = by_id(result)
    profile = found[f"us.{SCOUT}"]
    assert (profile.what, profile.model, profile.callable) == ("inference-profile", "llama-4-scout", True)
    assert (profile.region, profile.status) == ("us-east-1", "ACTIVE")
    assert profile.note == "routes to us-east-1, us-east-2, us-west-2"
    bare = found[SCOUT]
    assert (bare.what, bare.callable, bare.note) == ("model", False, "only through an inference profile")
    asked = [request.path for request in emu.requests]
    assert asked.count("/inference-profiles") == 4  # AWS's own and the account's, by each client
    assert f"/foundation-model-availability/{SCOUT}" in asked


def test_agrees_with_boto3(emu: Emulator, discover) -> None:
    """boto3 with its own signature sees what our signature lets it see."""
    boto3 = importlib.import_module("boto3")
    table = emu.providers("bedrock")["bedrock"]
    sdk = boto3.client(
        "bedrock",
        region_name=table["region"],
        endpoint_url=table["base_url"],
        aws_access_key_id=table["access_key_id"],
        aws_secret_access_key=table["secret_access_key"],
    )
    profiles = [
        profile["inferenceProfileId"]
        for profile in sdk.list_inference_profiles(typeEquals="SYSTEM_DEFINED")["inferenceProfileSummaries"]
    ]
    own = [
        profile["inferenceProfileArn"]
        for profile in sdk.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"]
    ]
    models = [model["modelId"] for model in sdk.list_foundation_models()["modelSummaries"]]
    sdk.close()
    assert list(by_id(discover({"bedrock": table}))) == [*models, *profiles, *own]


def test_what_is_callable_can_be_called(emu: Emulator, discover) -> None:
    tables = emu.providers("bedrock")
    result = discover(tables)
    ids = [found.id for found in result.found if found.callable]
    assert len(ids) == 3
    with lr.Client({"providers": tables}) as client:
        for id in ids:
            emu.reply("Hello.")
            assert client.chat("Hi", model=f"bedrock:{id}").text == "Hello."
        for found in result.found:
            if found.callable is False:
                with pytest.raises(lr.NotFoundError):
                    client.chat("Hi", model=f"bedrock:{found.id}")


def test_no_access_to_the_models(discover) -> None:
    with Emulator(quirks=["bedrock-no-access"]) as emu:
        result = discover(emu.providers("bedrock"))
    assert result.problems == ()
    assert {found.callable for found in result.found} == {False}
    note = by_id(result)[f"us.{SCOUT}"].note
    assert note.startswith("no access: authorizationStatus NOT_AUTHORIZED")
    assert "agreementAvailability NOT_AVAILABLE" in note


def test_models_on_their_way_out(discover) -> None:
    with Emulator(quirks=["bedrock-legacy"]) as emu:
        assert by_id(discover(emu.providers("bedrock")))[MAVERICK].status == "LEGACY"


def test_missing_permission(discover) -> None:
    with Emulator(quirks=["bedrock-control-denied"]) as emu:
        result = discover(emu.providers("bedrock"))
    assert not result.answered
    assert [problem.code for problem in result.problems] == ["permission", "permission"]
    assert result.problems[0].message.startswith("the foundation models: User: arn:aws:iam::")
    for problem in result.problems:
        for action in ("ListFoundationModels", "ListInferenceProfiles", "GetFoundationModelAvailability"):
            assert f"bedrock:{action}" in problem.remedy


def test_one_permission_of_three(emu: Emulator, discover) -> None:
    emu.fault(status=403, times=2, path="/foundation-models")
    result = discover(emu.providers("bedrock"))
    assert one(result).code == "permission"
    assert result.answered
    assert by_id(result)[f"us.{SCOUT}"].callable is True


def test_access_that_cannot_be_asked_for(emu: Emulator, discover) -> None:
    emu.fault(status=403, times=4, path="/foundation-model-availability")
    result = discover(emu.providers("bedrock"))
    assert {problem.code for problem in result.problems} == {"permission"}
    assert by_id(result)[f"us.{SCOUT}"].callable is None


def test_a_live_session(emu: Emulator, discover) -> None:
    boto3 = importlib.import_module("boto3")
    table = emu.providers("bedrock")["bedrock"]
    live = boto3.Session(table["access_key_id"], table["secret_access_key"], region_name="us-west-2")
    settings = provider_spec("bedrock").settings.model_validate({"kind": "bedrock", "base_url": table["base_url"]})
    result = discover({"work": settings.with_live_credential(live)})
    assert result.problems == ()
    assert {found.region for found in result.found} == {"us-west-2"}


@pytest.mark.parametrize("key", ["long-term", "short-term"])
def test_bearer_keys(emu: Emulator, discover, key: str) -> None:
    table: dict[str, Any] = emu.providers("bedrock")["bedrock"]
    for name in ("access_key_id", "secret_access_key", "region"):
        del table[name]
    short = emu.tokens.issue("bedrock", prefix="bedrock-api-key-")
    table["api_key"] = emu.key("bedrock") if key == "long-term" else short.text
    result = discover({"bedrock": table})
    assert result.problems == ()
    assert by_id(result)[f"us.{SCOUT}"].callable is True
    assert all(request.headers["authorization"] == f"Bearer {table['api_key']}" for request in emu.requests)


def test_wrong_secret_is_not_shown(emu: Emulator, discover, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    table = emu.providers("bedrock")["bedrock"] | {"secret_access_key": "wrong/secret/of/somebody+000000000000000"}
    result = discover({"bedrock": table})
    assert {problem.code for problem in result.problems} == {"credentials"}
    assert "wrong/secret" not in str(result) + caplog.text


def test_logs_hold_no_signature(emu: Emulator, discover, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    discover(emu.providers("bedrock"))
    assert "/foundation-models" in caplog.text
    sent = [request.headers["authorization"].partition("Signature=")[2] for request in emu.requests]
    assert sent[0]
    # What is handed to a logger counts, too: a handler may write it down when the request is signed already.
    logged = caplog.text + "".join(repr(record.args) for record in caplog.records)
    assert not any(signature in logged for signature in sent)


def test_a_busy_control_plane_is_asked_twice(emu: Emulator, discover) -> None:
    emu.fault(status=503, times=1, path="/foundation-models")
    assert discover(emu.providers("bedrock")).problems == ()


def test_dead_address(discover) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    result = discover(
        {
            "bedrock": {
                "base_url": f"http://127.0.0.1:{port}",
                "region": "us-east-1",
                "access_key_id": "AKIAEMULATOREMULATOR",
                "secret_access_key": "x" * 40,
            }
        }
    )
    assert not result.answered
    assert {problem.code for problem in result.problems} == {"unreachable"}


def test_a_profile_of_the_environment_is_not_the_accounts(
    emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-somebody-else")
    assert discover(emu.providers("bedrock")).problems == ()


def test_without_boto3(emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bearer key can call without boto3; listing cannot be done."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    table = {"base_url": emu.base_url("bedrock"), "api_key": emu.key("bedrock"), "region": "us-east-1"}
    result = discover({"bedrock": table})
    assert one(result).code == "not-installed"
    assert "pip install 'llamaroute[bedrock]'" in one(result).message
    assert not result.answered
    emu.reply("Hi.")
    with lr.Client({"providers": {"bedrock": table}}) as client:
        assert client.chat("Hi").text == "Hi."


def test_without_botocore_for_keys(emu: Emulator, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    aws = importlib.import_module("llamaroute.auth.aws")
    monkeypatch.setattr(aws, "_signing", aws._signing.__wrapped__)  # it remembers what it has imported
    result = discover(emu.providers("bedrock"))
    assert one(result).code == "not-installed"
    assert "pip install 'llamaroute[bedrock]'" in one(result).message


def test_a_profile_that_is_not_there(emu: Emulator, discover) -> None:
    tables = emu.providers("bedrock")
    tables["bedrock"]["models"] = {"llama-4-scout": "eu.meta.llama4-scout-17b-instruct-v1:0"}
    result = discover(tables)
    assert one(result).code == "not-found"
    assert "providers.bedrock.models: 'eu.meta.llama4-scout-17b-instruct-v1:0'" in one(result).message


def test_the_whole_result_is_data(emu: Emulator, discover) -> None:
    from pydantic_core import to_json

    result = discover(emu.providers("bedrock"))
    assert json.loads(to_json(result))["found"][0]["id"] == SCOUT
