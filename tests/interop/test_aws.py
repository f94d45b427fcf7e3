"""`from_session`, with real `boto3.Session`s and a server that is STS, a container's endpoint and the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import llamaroute as lr
from llamaroute.errors import AuthenticationError, ConfigError
from llamaroute.interop import aws
from tests.auth.aws_server import ROLE, Aws

KEY, SECRET = "AKIDEXAMPLE000000001", "the-secret-access-key"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("config", "credentials"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def server() -> Iterator[Aws]:
    running = Aws()
    yield running
    running.close()


def session(**more: Any) -> boto3.Session:
    return boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=SECRET, **more)


def test_both_clients_sign_with_the_sessions_keys(server: Aws):
    settings = aws.from_session(session(aws_session_token="the-token", region_name="us-west-2"), base_url=server.url)
    with lr.Client({"providers": {"work": settings}}, env={}) as client:
        assert client.chat("Hi", retry=1).text == "Hello."

    async def main() -> str:
        async with lr.AsyncClient({"providers": {"work": settings}}, env={}) as client:
            return (await client.chat("Hi", retry=1)).text

    assert asyncio.run(main()) == "Hello."
    for call in server.calls:
        assert f"Credential={KEY}/" in call["authorization"]
        assert "/us-west-2/bedrock/" in call["authorization"]
        assert call["x-amz-security-token"] == "the-token"
    assert server.paths == ["/model/us.meta.llama4-scout-17b-instruct-v1%3A0/converse"] * 2


def test_an_api_key_of_the_environment_is_left_alone(server: Aws):
    settings = aws.from_session(session(region_name="us-east-1"), base_url=server.url)
    with lr.Client({"providers": {"work": settings}}, env={"AWS_BEARER_TOKEN_BEDROCK": "k"}) as client:
        client.chat("Hi", retry=1)
    assert server.calls[0]["authorization"].startswith("AWS4-HMAC-SHA256")


def test_a_session_of_a_profile_with_a_role(server: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    (tmp_path / "config").write_text(
        f"[profile base]\n[profile p]\nrole_arn = {ROLE}\nsource_profile = base\nregion = us-east-2\n"
    )
    (tmp_path / "credentials").write_text("[base]\naws_access_key_id = A\naws_secret_access_key = s\n")
    settings = aws.from_session(boto3.Session(profile_name="p"), base_url=server.url)
    assert settings.region == "us-east-2"
    with lr.Client({"providers": {"work": settings}}, env={}) as client:
        assert [client.chat("Hi", retry=1).text for _ in range(3)] == ["Hello."] * 3
    assert {call["x-amz-security-token"] for call in server.calls} == {"issued-token-1"}
    assert len(server.roles) == 1


def test_a_role_beside_the_session(server: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    settings = aws.from_session(session(region_name="us-east-1"), base_url=server.url, role_arn=ROLE)
    with lr.Client({"providers": {"work": settings}}, env={}) as client:
        client.chat("Hi", retry=1)
    assert f"Credential={KEY}/" in server.roles[0]["authorization"]
    assert server.calls[0]["x-amz-security-token"] == "issued-token-1"


def test_the_region_given_beats_the_sessions():
    assert aws.from_session(session(region_name="us-east-1"), "us-west-2").region == "us-west-2"
    assert aws.from_session(session(region_name="us-east-1")).region == "us-east-1"


def test_a_session_without_credentials(server: Aws):
    settings = aws.from_session(boto3.Session(region_name="us-east-1"), base_url=server.url)
    with (
        lr.Client({"providers": {"work": settings}}, env={}) as client,
        pytest.raises(AuthenticationError, match="no AWS credentials were found"),
    ):
        client.chat("Hi", retry=1)
    assert server.calls == []


def test_further_keys_of_the_table():
    settings = aws.from_session(session(), "us-east-1", service_tier="flex", models={"mine": "us.acme.x-v1:0"})
    assert (settings.service_tier, settings.models) == ("flex", {"mine": "us.acme.x-v1:0"})
    with pytest.raises(ConfigError, match=r"from_session.*service_teir"):
        aws.from_session(session(), "us-east-1", service_teir="flex")


@pytest.mark.parametrize("thing", [None, "us-east-1", 3])
def test_what_is_no_session(thing: Any):
    with pytest.raises(ConfigError, match=f"takes a boto3.Session, not {type(thing).__name__}"):
        aws.from_session(thing)


def test_no_secret_in_what_is_printed():
    settings = aws.from_session(session(region_name="us-east-1"))
    for text in (repr(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text
