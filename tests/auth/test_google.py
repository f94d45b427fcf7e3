"""Google's credentials, with the real google-auth and a server that checks what it signs and issues tokens."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google.auth.iam
import google.auth.transport.requests
import google.oauth2.credentials
import pytest
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import service_account as google_service_account
from pydantic import SecretStr

import llamaroute as lr
from llamaroute.auth import google as google_module
from llamaroute.auth.google import GoogleToken
from llamaroute.providers.vertex import SPEC
from llamaroute.registry import make_auth
from llamaroute.spi import AuthSettings, WireRequest
from tests.auth.google_server import ACCOUNT, SCOPE, Google, authorized_user, service_account

EMAIL = "other@my-project.iam.gserviceaccount.com"
NOWHERE = {"NO_GCE_CHECK": "true"}
"""No environment at all, and no look for a metadata server either."""


@pytest.fixture
def server() -> Iterator[Google]:
    running = Google()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_QUOTA_PROJECT", *SPEC.settings.project_variables):  # type: ignore[attr-defined]
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def written(folder: Path, content: Any, name: str = "credentials.json") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


def client(server: Google, env: Mapping[str, str] | None = None, settings: Any = None, **table: Any) -> lr.Client:
    given = {"kind": "vertex", "base_url": f"{server.url}/api", **table} if settings is None else settings
    return lr.Client({"providers": {"work": given}}, env=NOWHERE if env is None else env)


def called(server: Google, env: Mapping[str, str] | None = None, settings: Any = None, **table: Any) -> str:
    """One call; gives the project it went to."""
    with client(server, env, settings, **table) as opened:
        assert opened.chat("Hi", model="work").text == "Hello."
    path, headers = server.calls[-1]
    assert headers["authorization"] == f"Bearer {server.issued[-1]}"
    return path.split("/")[4]


def failing(server: Google, env: Mapping[str, str] | None = None, **table: Any) -> lr.LlamarouteError:
    with client(server, env, **table) as opened, pytest.raises(lr.LlamarouteError) as caught:
        opened.chat("Hi", model="work", retry=1)
    assert type(caught.value).__module__ == "llamaroute.errors"
    return caught.value


# -- each kind of credentials ------------------------------------------------------------------------------------------


def test_a_service_accounts_key(server: Google, tmp_path: Path) -> None:
    assert called(server, credentials=written(tmp_path, service_account(server))) == "my-project"
    ((path, form),) = server.asked
    assert (path, form["grant_type"]) == ("/token", "urn:ietf:params:oauth:grant-type:jwt-bearer")
    claims = form["claims"]
    assert (claims["iss"], claims["scope"], claims["aud"]) == (
        ACCOUNT,
        SCOPE,
        "https://oauth2.googleapis.com/token",  # google-auth's own, wherever it sends it
    )
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["exp"] - claims["iat"] == 3600


def test_the_variable_for_the_file_in_the_clients_own_environment(
    server: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")  # the process's is not looked at
    file = written(tmp_path, service_account(server))
    assert called(server, {**NOWHERE, "GOOGLE_APPLICATION_CREDENTIALS": file}) == "my-project"


def test_the_variable_for_the_file_in_the_processs_environment(
    server: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", written(tmp_path, service_account(server)))
    assert called(server, os.environ) == "my-project"


def test_the_project_of_the_environment_wins_over_the_files(server: Google, tmp_path: Path) -> None:
    file = written(tmp_path, service_account(server))
    assert called(server, {**NOWHERE, "GOOGLE_CLOUD_PROJECT": "named"}, credentials=file) == "named"
    assert called(server, {**NOWHERE, "GOOGLE_CLOUD_PROJECT": "named"}, credentials=file, project="set") == "set"


@pytest.fixture
def user_tokens(server: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    # google-auth takes this address alone for users, whatever their file says.
    monkeypatch.setattr(google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{server.url}/token")


@pytest.mark.usefixtures("user_tokens")
@pytest.mark.parametrize("where", ["CLOUDSDK_CONFIG", "HOME", "process"])
def test_what_gcloud_left(server: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    name = "application_default_credentials.json"
    folder = tmp_path / ".config" / "gcloud" if where == "HOME" else tmp_path
    written(folder, authorized_user(quota_project_id="payer"), name)
    env: Mapping[str, str] = {**NOWHERE, where: str(tmp_path)}
    if where == "process":
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        env = os.environ
    assert called(server, env, project="my-project") == "my-project"
    ((path, form),) = server.asked
    assert (path, form["grant_type"], form["refresh_token"]) == ("/token", "refresh_token", "1//the-refresh-token")
    assert server.calls[-1][1]["x-goog-user-project"] == "payer"


@pytest.fixture
def iam(server: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    # google-auth has no setting for it but in code; of the URL in a file it takes the account's name alone.
    monkeypatch.setattr(google.auth.iam, "_IAM_ENDPOINT", f"{server.url}/v1/sa/{{}}:generateAccessToken")


@pytest.mark.usefixtures("iam")
def test_an_impersonated_account(server: Google, tmp_path: Path) -> None:
    file = written(tmp_path, service_account(server))
    assert called(server, credentials=file, impersonate=EMAIL) == "my-project"
    (first, form), (second, body) = server.asked
    assert (first, second) == ("/token", f"/v1/sa/{EMAIL}:generateAccessToken")
    assert form["claims"]["scope"] == "https://www.googleapis.com/auth/iam"
    assert (body["scope"], body["lifetime"]) == ([SCOPE], "3600s")
    assert body["bearer"] == f"Bearer {server.issued[0]}"


@pytest.mark.usefixtures("iam")
def test_a_file_that_says_whom_to_impersonate(server: Google, tmp_path: Path) -> None:
    file = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
        f"{EMAIL}:generateAccessToken",
        "source_credentials": service_account(server),
        "delegates": [],
    }
    assert called(server, credentials=written(tmp_path, file), project="p") == "p"
    assert [path.rpartition("/")[2] for path, _ in server.asked] == ["token", f"{EMAIL}:generateAccessToken"]
    assert server.asked[1][1]["scope"] == [SCOPE]


def test_a_workforces_external_account(server: Google, tmp_path: Path) -> None:
    subject = written(tmp_path, "the-subject-token", "subject.txt")
    file = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/provider",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "token_url": f"{server.url}/sts",
        "credential_source": {"file": subject},
        "workforce_pool_user_project": "77",
    }
    assert called(server, credentials=written(tmp_path, file), project="p") == "p"
    ((path, form),) = server.asked
    assert (path, form["subject_token"], form["scope"]) == ("/sts", "the-subject-token", SCOPE)


METADATA_CALL = """
import os, sys
import llamaroute as lr
table = {"kind": "vertex", "base_url": sys.argv[1] + "/api"}
env = dict(os.environ) if sys.argv[2] == "own" else None
with lr.Client({"providers": {"work": table}}, env=env) as client:
    print(client.chat("Hi", model="work").text)
"""


@pytest.mark.parametrize("env", ["own", "process"])
def test_the_metadata_server(server: Google, tmp_path: Path, env: str) -> None:
    """In a process of its own: google-auth reads its address when it is imported."""
    names = dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"), server.address)
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": "src", **names}
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", METADATA_CALL, server.url, env]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("Hello.\n", 0), done.stderr
    ((path, query),) = server.asked
    assert path == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert query == {"scopes": [SCOPE]}
    url, headers = server.calls[-1]
    assert url.startswith("/api/v1/projects/machine-project/locations/us-east5/")
    assert headers["authorization"] == f"Bearer {server.issued[0]}"


# -- credentials that the application has ------------------------------------------------------------------------------


def lent(server: Google, credentials: Any, **settings: Any) -> Any:
    table = {"kind": "vertex", "base_url": f"{server.url}/api", **settings}
    return SPEC.settings.model_validate(table).with_live_credential(credentials)


def test_a_live_service_account(server: Google) -> None:
    credentials = google_service_account.Credentials.from_service_account_info(service_account(server))
    assert called(server, settings=lent(server, credentials)) == "my-project"
    assert server.asked[0][1]["claims"]["scope"] == SCOPE  # it had none of its own


def test_a_live_impersonated_account(server: Google) -> None:
    credentials = impersonated_credentials.Credentials(
        source_credentials=google_service_account.Credentials.from_service_account_info(service_account(server)),
        target_principal=EMAIL,
        target_scopes=[SCOPE],
        iam_endpoint_override=f"{server.url}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken",
    )
    assert called(server, settings=lent(server, credentials, project="p")) == "p"
    assert len(server.asked) == 2


def test_a_live_token_that_is_still_good_is_used(server: Google) -> None:
    credentials = google_service_account.Credentials.from_service_account_info(service_account(server), scopes=[SCOPE])
    credentials.refresh(google.auth.transport.requests.Request())
    assert called(server, settings=lent(server, credentials)) == "my-project"
    assert len(server.asked) == 1
    server.revoke()  # then there must be a new one, whatever the object thinks of its own
    assert called(server, settings=lent(server, credentials)) == "my-project"
    assert len(server.asked) == 2


def test_anonymous_credentials_send_nothing(server: Google) -> None:
    server.good.add("")
    with client(server, settings=lent(server, AnonymousCredentials(), project="p")) as opened:
        assert opened.chat("Hi", model="work").text == "Hello."
    assert "authorization" not in server.calls[-1][1]


# -- ready tokens, quota projects --------------------------------------------------------------------------------------


def test_a_ready_token(server: Google) -> None:
    token = server.issue()
    assert called(server, access_token=token, project="p") == "p"
    assert called(server, {"GCLOUD_PROJECT": "q"}, access_token=f" {token}\n") == "q"
    assert server.asked == []
    assert "x-goog-user-project" not in server.calls[-1][1]


def test_who_pays(server: Google, tmp_path: Path) -> None:
    file = written(tmp_path, service_account(server))
    paid = {**NOWHERE, "GOOGLE_CLOUD_QUOTA_PROJECT": "of-the-environment"}
    for env, table, payer in (
        (paid, {"credentials": file}, "of-the-environment"),
        (paid, {"credentials": file, "quota_project": "of-the-table"}, "of-the-table"),
        (paid, {"access_token": "x", "project": "p"}, "of-the-environment"),
        (NOWHERE, {"access_token": "x", "project": "p", "quota_project": "of-the-table"}, "of-the-table"),
    ):
        server.good.add("x")
        with client(server, env, **table) as opened:
            opened.chat("Hi", model="work")
        assert server.calls[-1][1]["x-goog-user-project"] == payer


# -- when tokens are fetched -------------------------------------------------------------------------------------------


def test_a_thousand_calls_fetch_one_token(server: Google, tmp_path: Path) -> None:
    class Answering:
        head = lr.pipeline.ops.Head(200, {})

        def __init__(self) -> None:
            self.data = b'{"choices": [{"index": 0, "message": {"content": "Hello."}, "finish_reason": "stop"}]}'

        async def read(self, until: float, phase: str) -> bytes:
            data, self.data = self.data, b""
            return data

        async def aclose(self) -> None:
            pass

    class Wire:
        seen: set[str] = set()

        async def open(self, send: Any) -> Any:
            self.seen.add(send.request.headers["authorization"])
            return Answering()

        async def aclose(self) -> None:
            pass

    async def run() -> list[str]:
        table = {"kind": "vertex", "credentials": written(tmp_path, service_account(server))}
        async with lr.AsyncClient({"providers": {"work": table}}, env=NOWHERE, transport=Wire()) as opened:  # type: ignore[arg-type]
            replies = await asyncio.gather(*[opened.chat("Hi", model="work") for _ in range(1000)])
        return [reply.text for reply in replies]

    assert asyncio.run(run()) == ["Hello."] * 1000
    assert len(server.asked) == 1
    assert Wire.seen == {f"Bearer {server.issued[0]}"}


def test_a_refused_token_is_renewed_once(server: Google, tmp_path: Path) -> None:
    file = written(tmp_path, service_account(server))
    with client(server, credentials=file) as opened:
        opened.chat("Hi", model="work")
        server.revoke()
        assert opened.chat("Hi", model="work").text == "Hello."
        assert len(server.issued) == 2
        server.good = {"none"}
        server.issue = lambda: "ya29.never-good"  # type: ignore[method-assign]
        with pytest.raises(lr.AuthenticationError) as caught:
            opened.chat("Hi", model="work")
    assert len(server.asked) == 3
    assert caught.value.code == "UNAUTHENTICATED"


def auth_for(env: Mapping[str, str] = NOWHERE, **table: Any) -> Any:
    return google_module.google(AuthSettings("work", SPEC.settings.model_validate({"kind": "vertex", **table}), env))


def test_tokens_are_renewed_ahead_of_their_end(server: Google, tmp_path: Path) -> None:
    auth = auth_for(credentials=written(tmp_path, service_account(server)))
    now = time.time()
    assert isinstance(auth, GoogleToken)
    assert auth.stale(now)
    auth.refresh()
    assert not auth.stale(now + 3000)
    assert auth.stale(now + 3400)  # it lives for 3599 seconds by what Google said
    wire = WireRequest("POST", "https://host/v1/projects/-/locations/x", {})
    signed = auth.sign(wire, now)
    assert signed.headers == {"authorization": f"Bearer {server.issued[0]}"}
    assert signed.url == "https://host/v1/projects/my-project/locations/x"
    assert auth.secrets == (server.issued[0],)


def test_making_an_account_reads_nothing(tmp_path: Path) -> None:
    """Imports and files are for the thread that refreshes: they would hold up an event loop."""
    code = (
        "import sys; from llamaroute.auth.google import google; from llamaroute.providers.vertex import SPEC\n"
        "from llamaroute.spi import AuthSettings\n"
        "google(AuthSettings('work', SPEC.settings(kind='vertex'), {}))\n"
        "print([name for name in ('google.auth', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
    auth = auth_for(credentials=str(tmp_path / "no-such-file"))
    assert "ya29" not in repr(auth)
    with pytest.raises(lr.ConfigError):
        auth.refresh()


# -- what can go wrong -------------------------------------------------------------------------------------------------

SKEWED = {
    "error": "invalid_grant",
    "error_description": "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim.",
}


@pytest.mark.parametrize(
    ("refusal", "cls", "retryable", "message"),
    [
        ((400, SKEWED), lr.AuthenticationError, False, "this machine's clock is wrong"),
        (
            (400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"}),
            lr.AuthenticationError,
            False,
            "account not found",
        ),
        ((401, {"error": "invalid_client"}), lr.AuthenticationError, False, "no token from Google"),
        ((400, "no JSON"), lr.AuthenticationError, False, "no token from Google"),
        ((200, {"token_type": "Bearer"}), lr.AuthenticationError, False, "no token from Google"),
    ],
)
def test_refused_credentials(
    server: Google, tmp_path: Path, refusal: Any, cls: type[lr.ProviderError], retryable: bool, message: str
) -> None:
    server.refusals = [refusal]
    error = failing(server, credentials=written(tmp_path, service_account(server)))
    assert type(error) is cls
    assert isinstance(error, lr.ProviderError)
    assert error.retryable is retryable
    assert message in str(error)
    assert error.target == "work:llama-4-maverick"
    assert server.calls == []


@pytest.mark.usefixtures("user_tokens")
def test_a_login_that_has_ended(server: Google, tmp_path: Path) -> None:
    server.refusals = [(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})]
    error = failing(server, credentials=written(tmp_path, authorized_user()), project="p")
    assert isinstance(error, lr.AuthenticationError)
    assert "Token has been expired or revoked" in str(error)
    assert "gcloud auth application-default login" in str(error)


@pytest.mark.usefixtures("iam")
def test_an_account_that_may_not_be_impersonated(server: Google, tmp_path: Path) -> None:
    denied = {"error": {"code": 403, "message": "Permission 'x' denied", "status": "PERMISSION_DENIED"}}
    file = written(tmp_path, service_account(server))
    auth = auth_for(credentials=file, impersonate=EMAIL)
    server.refusals = [(200, {"access_token": "ya29.source", "expires_in": 3599}), (403, denied)]
    with pytest.raises(lr.PermissionDeniedError) as caught:
        auth.refresh()
    assert EMAIL in str(caught.value)
    assert "roles/iam.serviceAccountTokenCreator" in str(caught.value)
    assert "ya29" not in str(caught.value)


def test_a_token_service_that_is_not_there(server: Google, tmp_path: Path) -> None:
    file = service_account(server, token_uri="http://127.0.0.1:1/token")
    error = failing(server, credentials=written(tmp_path, file))
    assert isinstance(error, lr.ConnectionError)
    assert error.retryable
    assert "Google's token service was not reached" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "was not found"),
        ("{", "is not a valid json file"),
        ({"type": "something"}, "does not have a valid type"),
        ({"type": "service_account"}, "missing fields"),
        ({"type": "authorized_user", "client_id": "x"}, "missing fields"),
    ],
)
def test_files_that_cannot_be_used(server: Google, tmp_path: Path, content: Any, message: str) -> None:
    path = str(tmp_path / "credentials.json")
    if content is not None:
        written(tmp_path, content)
    error = failing(server, credentials=path)
    assert isinstance(error, lr.ConfigError)
    assert error.key == "providers.work.credentials"
    assert path in str(error)
    assert message in str(error)


def test_a_broken_private_key_is_not_shown(server: Google, tmp_path: Path) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nU0VDUkVU-the-secret\n-----END PRIVATE KEY-----\n"
    error = failing(server, credentials=written(tmp_path, service_account(server, private_key=key)))
    assert isinstance(error, lr.ConfigError)
    assert "the-secret" not in f"{error!r}{error.__context__!r}{error.__cause__!r}"


@pytest.mark.parametrize("env", [NOWHERE, None], ids=["own", "process"])
def test_no_credentials_at_all(server: Google, env: Mapping[str, str] | None) -> None:
    error = failing(server, os.environ if env is None else env, project="p")
    assert isinstance(error, lr.ConfigError)
    assert "providers.work: no Google credentials" in str(error)
    assert "gcloud auth application-default login" in str(error)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(error)


def test_no_project_at_all(server: Google, tmp_path: Path) -> None:
    file = written(tmp_path, service_account(server, project_id=None))
    for table in ({"access_token": "x"}, {"credentials": file}):
        error = failing(server, **table)
        assert isinstance(error, lr.ConfigError)
        assert error.key == "providers.work.project"
        assert "GOOGLE_CLOUD_PROJECT" in str(error)
    assert server.calls == []


def test_api_keys_are_refused(server: Google) -> None:
    error = failing(server, api_key="AIza-the-key", project="p")
    assert isinstance(error, lr.ConfigError)
    assert error.key == "providers.work.api_key"
    assert "AIza" not in str(error)


def test_what_no_header_and_no_url_may_hold(server: Google) -> None:
    error = failing(server, access_token="a\nb", project="p")
    assert isinstance(error, lr.ConfigError)
    assert error.key == "providers.work.access_token"
    error = failing(server, {**NOWHERE, "GOOGLE_CLOUD_QUOTA_PROJECT": "a\nb"}, credentials="file", project="p")
    assert isinstance(error, lr.ConfigError)
    assert error.key == "providers.work.quota_project"
    assert called(server, {"GOOGLE_CLOUD_PROJECT": "a/../b?c"}, access_token=server.issue()) == "a%2F..%2Fb%3Fc"


@pytest.mark.parametrize("missing", ["google.auth", "requests"])
def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    options = SPEC.settings.model_validate({"kind": "vertex"})
    with pytest.raises(lr.ConfigError, match=r"is not installed; pip install 'llamaroute\[vertex\]'"):
        make_auth(SPEC, AuthSettings("work", options, {}))
    ready = options.model_copy(update={"access_token": SecretStr("x")})
    make_auth(SPEC, AuthSettings("work", ready, {}))  # which needs none of them


@pytest.mark.usefixtures("user_tokens")
def test_secrets_stay_out_of_logs_and_errors(server: Google, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("llamaroute").setLevel(logging.DEBUG)
    called(server, credentials=written(tmp_path, authorized_user()), project="p")
    server.revoke()
    server.refusals = [(400, {"error": "invalid_grant", "refresh_token": "1//the-refresh-token"})]
    error = failing(server, credentials=written(tmp_path, authorized_user()), project="p")
    assert "/token" in caplog.text  # something was logged
    texts = f"{caplog.text}{error!r}{error}"
    for secret in ("the-refresh-token", "the-client-secret", *server.issued):
        assert secret not in texts
