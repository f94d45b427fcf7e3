"""databricks-sdk as a client of the emulated workspace: it keeps nothing of a base URL but its address."""

from __future__ import annotations

import importlib
import json
import logging

import pytest

from llamaroute.emulator import Emulator, Reply
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, DATABRICKS, TENANT

databricks = importlib.import_module("databricks.sdk")
config = importlib.import_module("databricks.sdk.core")
errors = importlib.import_module("databricks.sdk.errors")
serving = importlib.import_module("databricks.sdk.service.serving")

MAVERICK = "databricks-llama-4-maverick"
INVOCATIONS = f"/serving-endpoints/{MAVERICK}/invocations"


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)


def workspace(emu: Emulator, **change):
    settings = {"token": emu.key("databricks"), "auth_type": "pat", **change}
    given = {name: value for name, value in settings.items() if value is not None}
    return databricks.WorkspaceClient(config=config.Config(host=emu.url, retry_timeout_seconds=1, **given))


def hello(text: str = "Hello é🎉") -> list:
    return [serving.ChatMessage(role=serving.ChatMessageRole.USER, content=text)]


def test_query(emu: Emulator) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    answer = workspace(emu).serving_endpoints.query(MAVERICK, messages=hello(), max_tokens=50, temperature=0.3)
    assert answer.choices[0].message.content == "Oslo is cloudy é🎉."
    assert answer.choices[0].message.role == serving.ChatMessageRole.ASSISTANT
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (21, 6, 27)
    assert answer.model == "meta-llama-4-maverick-040225"
    assert answer.served_model_name == "meta-llama-4-maverick-040225", "the SDK reads it from a header"
    asked = [request for request in emu.requests if request.method == "POST"]
    assert [(request.host, request.path) for request in asked] == [("databricks", INVOCATIONS)]
    assert asked[0].json["messages"] == [{"role": "user", "content": "Hello é🎉"}]


def test_endpoints(emu: Emulator) -> None:
    client = workspace(emu)
    found = {endpoint.name: endpoint for endpoint in client.serving_endpoints.list()}
    assert found[MAVERICK].task == "llm/v1/chat"
    assert found[MAVERICK].state.ready == serving.EndpointStateReady.READY
    assert {endpoint.task for endpoint in found.values()} == {"llm/v1/chat", "llm/v1/embeddings"}
    one = client.serving_endpoints.get(MAVERICK)
    assert one.config.served_entities[0].foundation_model.name == "system.ai.llama-4-maverick"
    assert one.permission_level == serving.ServingEndpointDetailedPermissionLevel.CAN_QUERY
    with pytest.raises(errors.ResourceDoesNotExist, match="does not exist"):
        client.serving_endpoints.get("nothing")


def test_any_body_through_the_api_client(emu: Emulator, weather_tool: dict, image_url: str) -> None:
    client = workspace(emu).api_client
    emu.replies(Reply(tool_calls=[("get_weather", {"city": "Oslo"})]))
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [weather_tool], "tool_choice": "required"}
    answer = client.do("POST", INVOCATIONS, body=body)
    call = answer["choices"][0]["message"]["tool_calls"][0]
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": image_url}}]
    answer = client.do("POST", INVOCATIONS, body={"messages": [{"role": "user", "content": parts}]})
    assert answer["choices"][0]["message"]["content"] == "I see 1 image (image/png, 64x48)."


def test_raw_stream(emu: Emulator) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(14, 6))
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = workspace(emu).api_client.do("POST", INVOCATIONS, body=body, raw=True)
    with answer["contents"] as stream:
        lines = stream.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Oslo is cloudy é🎉."
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts), "usage counts up"
    assert counts[-1] == 6
    assert {chunk["model"] for chunk in chunks} == {"meta-llama-4-maverick-040225"}


def test_oauth_for_machines(emu: Emulator) -> None:
    client = workspace(emu, token=None, auth_type="oauth-m2m", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    for _ in range(2):
        client.serving_endpoints.query(MAVERICK, messages=hello())
    tokens = [request for request in emu.requests if request.path == "/oidc/v1/token"]
    assert len(tokens) == 1, "the token is kept"
    assert "scope=all-apis" in tokens[0].body.decode()
    emu.revoke_tokens()
    with pytest.raises(errors.PermissionDenied, match="Invalid access token"):
        client.serving_endpoints.query(MAVERICK, messages=hello())


def test_oauth_refused(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="invalid_client: Client authentication failed"):
        workspace(
            emu, token=None, auth_type="oauth-m2m", client_id=CLIENT_ID, client_secret="wrong"
        ).serving_endpoints.query(MAVERICK, messages=hello())


def principal(emu: Emulator, **change):
    """A service principal of Entra; the SDK takes another cloud's login address as data."""
    clouds = importlib.import_module("databricks.sdk.environments")
    public = clouds.ENVIRONMENTS["PUBLIC"]
    login = clouds.AzureEnvironment(
        "EMULATED", public.service_management_endpoint, public.resource_manager_endpoint, emu.base_url("entra") + "/"
    )
    cloud = clouds.DatabricksEnvironment(clouds.Cloud.AZURE, "localhost", DATABRICKS, login)
    settings = {"azure_client_id": CLIENT_ID, "azure_client_secret": CLIENT_SECRET, **change}
    return workspace(emu, token=None, auth_type="azure-client-secret", databricks_environment=cloud, **settings)


@pytest.mark.parametrize("tenant", [TENANT, None])
def test_a_service_principal_of_entra(emu: Emulator, tenant: str | None) -> None:
    client = principal(emu, azure_tenant_id=tenant, azure_workspace_resource_id="/subscriptions/s/workspaces/w")
    answer = client.serving_endpoints.query(MAVERICK, messages=hello("Hi"))
    assert answer.choices[0].message.content == "You said: Hi"
    asked = emu.requests[-1].headers
    assert emu.tokens.valid(asked["authorization"].removeprefix("Bearer "), DATABRICKS)
    arm = "https://management.core.windows.net"
    assert emu.tokens.valid(asked["x-databricks-azure-sp-management-token"], arm)
    assert asked["x-databricks-azure-workspace-resource-id"] == "/subscriptions/s/workspaces/w"
    tokens = [request.path for request in emu.requests if request.host == "entra"]
    assert tokens == [f"/{TENANT}/oauth2/token"] * 2, "by resource, one for the workspace and one for ARM"
    emu.revoke_tokens()
    with pytest.raises(errors.PermissionDenied):
        client.serving_endpoints.query(MAVERICK, messages=hello())


def test_a_token_for_another_service(emu: Emulator) -> None:
    token = emu.tokens.issue("https://management.core.windows.net").text
    with pytest.raises(errors.BadRequest, match=f"Expected aud claim to be: {DATABRICKS}, but was: https://management"):
        workspace(emu, token=token).serving_endpoints.query(MAVERICK, messages=hello())


def test_a_wrong_secret(emu: Emulator) -> None:
    with pytest.raises(ValueError, match="AADSTS7000215"):
        principal(emu, azure_client_secret="wrong", azure_tenant_id=TENANT).serving_endpoints.list().__next__()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"status": 400}, "BadRequest", "Bad request"),
        ({"status": 400, "code": "INVALID_PARAMETER_VALUE", "message": "no"}, "InvalidParameterValue", "no"),
        ({"status": 403}, "PermissionDenied", "Invalid access token"),
        ({"status": 403, "code": "PERMISSION_DENIED"}, "PermissionDenied", "User does not have permission 'Query'"),
        ({"status": 404}, "NotFound", "The given endpoint does not exist"),
        ({"status": 500}, "InternalError", "Internal error"),
        ({"status": 504}, "DeadlineExceeded", "Timed out"),
    ],
)
def test_error_classes(emu: Emulator, fault: dict, kind: str, words: str) -> None:
    emu.fault(**fault)
    with pytest.raises(getattr(errors, kind), match=words) as caught:
        workspace(emu).serving_endpoints.query(MAVERICK, messages=hello())
    assert type(caught.value).__name__ == kind


def test_rate_limit_is_retried_until_time_runs_out(emu: Emulator) -> None:
    emu.fault(status=429, times=10)
    with pytest.raises(TimeoutError) as caught:
        workspace(emu).serving_endpoints.query(MAVERICK, messages=hello())
    assert isinstance(caught.value.__cause__, errors.TooManyRequests)
    assert "Exceeded workspace input tokens per minute rate limit for databricks-llama-4-maverick" in str(
        caught.value.__cause__
    )


def test_wrong_token(emu: Emulator) -> None:
    with pytest.raises(errors.PermissionDenied, match=r"Invalid access token\. \[ReqId: "):
        workspace(emu, token="dapi-wrong").serving_endpoints.query(MAVERICK, messages=hello())
    assert emu.requests[-1].status == 403


def test_unknown_endpoint_and_unknown_field(emu: Emulator) -> None:
    client = workspace(emu)
    with pytest.raises(errors.NotFound, match="The given endpoint does not exist"):
        client.serving_endpoints.query("nothing", messages=hello())
    with pytest.raises(errors.BadRequest, match='json: unknown field "inputs"'):
        client.serving_endpoints.query(MAVERICK, inputs={"messages": []})
