"""databricks-sdk's own client, taken over: where it asks and how it signs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET
from llamaroute.interop import databricks


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def chats(emu: Emulator) -> list[Any]:
    return [request for request in emu.requests if "serving-endpoints" in request.target]


def logins(emu: Emulator) -> int:
    return sum("/oidc/v1/token" in request.target for request in emu.requests)


def test_a_client_with_a_token(emu: Emulator) -> None:
    sdk = WorkspaceClient(host=emu.url, token=emu.key("databricks"))
    settings = databricks.from_sdk(sdk)
    assert (settings.host, settings.api) == (emu.url, "invocations")
    assert str(emu.key("databricks")) not in repr(settings) + str(settings.model_dump())
    with lr.Client({"providers": {"work": settings}}, env={}) as client:
        assert client.chat("Hi").text == "You said: Hi"
    assert [request.target for request in chats(emu)] == ["/serving-endpoints/databricks-llama-4-maverick/invocations"]


def test_a_client_that_logs_in(emu: Emulator) -> None:
    """Its token serves as long as it is good; after a refusal there is a new one, and the SDK's stays as it was."""
    sdk = WorkspaceClient(host=emu.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    theirs = sdk.config.authenticate()["Authorization"]
    with lr.Client({"providers": {"work": databricks.from_sdk(sdk, api="openai")}}, env={}) as client:
        assert client.chat("Hi").text == "You said: Hi"
        assert logins(emu) == 1, "no login of our own while theirs is good"
        assert chats(emu)[0].headers["authorization"] == theirs
        emu.revoke_tokens()
        assert client.chat("Hi again").text == "You said: Hi again"
        assert logins(emu) == 2
        second = chats(emu)[-1].headers["authorization"]
        assert second != theirs
        emu.revoke_tokens()
        assert client.chat("Hi").text == client.chat("Hi").text
        assert logins(emu) == 3
        assert chats(emu)[-1].headers["authorization"] not in (theirs, second)
    assert sdk.config.authenticate()["Authorization"] == theirs


def test_further_keys_of_the_table(emu: Emulator) -> None:
    sdk = WorkspaceClient(host=emu.url, token=emu.key("databricks"))
    settings = databricks.from_sdk(sdk, api="gateway", request_tags={"team": "a"}, timeout=30)
    assert (settings.api, settings.request_tags) == ("gateway", {"team": "a"})
    with lr.Client({"providers": {"work": settings}}, env={}) as client:
        client.chat("Hi")
    assert emu.requests[-1].headers["databricks-ai-gateway-request-tags"] == '{"team":"a"}'
    assert emu.requests[-1].json["model"] == "system.ai.llama-4-maverick"


def test_what_it_does_not_take(emu: Emulator) -> None:
    sdk = WorkspaceClient(host=emu.url, token=emu.key("databricks"))
    with pytest.raises(lr.ConfigError, match=r"from_sdk\(\): apii: "):
        databricks.from_sdk(sdk, apii="openai")
    with pytest.raises(lr.ConfigError, match=r"from_sdk\(\): settings: .*`request_tags` needs"):
        databricks.from_sdk(sdk, request_tags={"a": "b"})
    for wrong in (object(), sdk.config, "https://adb-1.2.azuredatabricks.net"):
        with pytest.raises(lr.ConfigError, match=r"takes a databricks\.sdk\.WorkspaceClient, not "):
            databricks.from_sdk(wrong)  # type: ignore[arg-type]


def test_a_login_that_fails_says_where_it_is_from(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = WorkspaceClient(host=emu.url, client_id=CLIENT_ID, client_secret="wrong-0123456789")
    with (
        lr.Client({"providers": {"work": databricks.from_sdk(sdk)}}, env={}) as client,
        pytest.raises(lr.AuthenticationError, match="check the WorkspaceClient it was taken from") as caught,
    ):
        client.chat("Hi")
    assert "invalid_client" in str(caught.value)
    assert "wrong-0123456789" not in str(caught.value)


def test_importing_it_does_not_import_the_sdk() -> None:
    code = (
        "import sys\nfrom llamaroute.interop import databricks\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'databricks'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_sdk_still_has_what_this_stands_on() -> None:
    for name in ("authenticate", "oauth_token", "copy", "init_auth", "attributes", "_load_from_env"):
        assert callable(getattr(Config, name))
