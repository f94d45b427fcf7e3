"""Databricks' logins: our own and databricks-sdk's, against a small login service of the test's own."""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
from databricks.sdk import config as sdk_config
from databricks.sdk import errors as sdk_errors
from databricks.sdk.environments import ARM_DATABRICKS_RESOURCE_ID, AzureEnvironment, Cloud, DatabricksEnvironment

from llamaroute import errors
from llamaroute.auth import databricks as module
from llamaroute.auth.base import StaticHeaders
from llamaroute.auth.databricks import RENEW, DatabricksLogin, MachineLogin, databricks
from llamaroute.providers.databricks import SPEC
from llamaroute.registry import make_auth
from llamaroute.spi import AuthSettings, WireRequest, WireResponse
from tests.auth.test_tokens import together
from tests.providers.wires import ask, target_of

WIRE = WireRequest("POST", "https://host/serving-endpoints/x/invocations", {"content-type": "application/json"}, b"{}")
REFUSED = WireResponse(403, {}, b'{"error_code":403,"message":"Invalid access token. [ReqId: 1]"}')
FORBIDDEN = WireResponse(403, {}, b'{"error_code":"PERMISSION_DENIED","message":"no"}')
SECRET = "dose0123456789abcdefsecret"


@dataclass
class Service:
    """A workspace's login, and Entra's; tokens are `t1`, `t2`, ..."""

    url: str = ""
    life: int = 3600
    delay: float = 0.0
    status: int = 200
    answer: bytes | None = None
    issued: int = 0
    seen: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    """Method, path, form, authorization."""

    @property
    def forms(self) -> list[dict[str, str]]:
        return [form for method, _, form, _ in self.seen if method == "POST"]

    def reply(self, method: str, path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        self.seen.append((method, path, form, authorization))
        path = path.removeprefix("http://workspace.test")  # to a proxy
        if path == "/oidc/.well-known/oauth-authorization-server":
            root = f"{self.url}/oidc/v1"
            return 200, {"authorization_endpoint": f"{root}/authorize", "token_endpoint": f"{root}/token"}
        if path == "/oidc/v1/token" or path.endswith("/oauth2/token"):
            time.sleep(self.delay)
            if self.answer is not None or self.status != 200:
                return self.status, self.answer or {"error": "invalid_client", "error_description": f"no {SECRET}"}
            self.issued += 1
            token = {"access_token": f"t{self.issued}-0123456789", "token_type": "Bearer", "expires_in": self.life}
            return 200, token
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"nothing at {path}"}


@pytest.fixture
def service() -> Iterator[Service]:
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("")

        def do_POST(self) -> None:
            self.answer(self.rfile.read(int(self.headers["content-length"])).decode())

        def answer(self, body: str) -> None:
            form = {name: values[0] for name, values in parse_qs(body).items()}
            status, payload = state.reply(self.command, self.path, form, self.headers.get("authorization", ""))
            data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("content-type", "text/html" if isinstance(payload, bytes) else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.request_queue_size = 128
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the machine's: neither its variables nor its files."""
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE", "DATABRICKS_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # nor a command line


def settings(env: dict[str, str] | None = None, **table: Any) -> AuthSettings:
    options = SPEC.settings.model_validate({"kind": "databricks", **table})
    return AuthSettings("work", options, env or {})


def m2m(service: Service, **table: Any) -> AuthSettings:
    return settings(host=service.url, client_id="app", client_secret=SECRET, **table)


def sign(auth: Any, wire: WireRequest = WIRE) -> WireRequest:
    """What a call does before it sends."""
    if auth.stale(time.time()):
        auth.refresh()
    return auth.sign(wire, time.time())


def token(auth: Any) -> str:
    return sign(auth).headers["authorization"]


@pytest.mark.parametrize("table", [{"token": "dapi0"}, {"api_key": "dapi0"}, {"token": "dapi0", "auth_type": "pat"}])
def test_a_token_needs_no_sdk(table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda: False)
    auth = make_auth(SPEC, settings(host="adb-1.2.azuredatabricks.net", **table))
    assert isinstance(auth, StaticHeaders)
    assert sign(auth).headers == {**WIRE.headers, "authorization": "Bearer dapi0"}
    assert not auth.reject(sign(auth), REFUSED, 0)


def test_a_token_alone_does_not_import_the_sdk() -> None:
    code = (
        "import sys, llamaroute as lr\n"
        "table = {'kind': 'databricks', 'host': 'adb-1.2.azuredatabricks.net', 'token': 't'}\n"
        "client = lr.Client({'providers': {'work': table}}, env={})\n"
        "from llamaroute.registry import make_auth, provider_spec\n"
        "from llamaroute.spi import AuthSettings\n"
        "spec = provider_spec('databricks')\n"
        "make_auth(spec, AuthSettings('work', spec.settings.model_validate(table), {}))\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'databricks', 'requests'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["databricks", "databricks.sdk"])
def test_without_the_sdk_everything_else_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delitem(sys.modules, "databricks.sdk")
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not there
    with pytest.raises(errors.ConfigError, match=r"pip install 'llamaroute\[databricks\]'") as caught:
        make_auth(SPEC, settings(profile="work"))
    assert "providers.work.token" in str(caught.value)


def test_machine_to_machine_needs_no_sdk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda: False)
    auth = databricks(m2m(service))
    assert isinstance(auth, MachineLogin)
    assert token(auth) == "Bearer t1-0123456789"
    assert [path for _, path, _, _ in service.seen] == ["/oidc/v1/token"]


def test_it_asks_as_the_sdk_does(service: Service) -> None:
    for login in (DatabricksLogin(m2m(service)), databricks(m2m(service))):
        sign(login)
    sdks, ours = (one for one in service.seen if one[0] == "POST")
    assert ours == sdks


@pytest.mark.parametrize("login", [databricks, DatabricksLogin])
def test_machine_to_machine(service: Service, login: Any) -> None:
    auth = login(m2m(service))
    assert service.seen == [], "nothing is asked before a call needs it"
    assert token(auth) == token(auth) == "Bearer t1-0123456789"
    assert service.forms == [{"grant_type": "client_credentials", "scope": "all-apis"}]
    posts = [authorization for method, _, _, authorization in service.seen if method == "POST"]
    assert posts == ["Basic " + base64.b64encode(f"app:{SECRET}".encode()).decode()]
    assert auth.secrets == ("t1-0123456789",)
    assert SECRET not in repr(auth)


def test_base_url_is_where_to_log_in_unless_a_host_is_given(service: Service) -> None:
    table = {"client_id": "app", "client_secret": SECRET}
    assert token(databricks(settings(base_url=f"{service.url}?x=1", **table))) == "Bearer t1-0123456789"
    other = settings(base_url="http://127.0.0.1:9/proxy", host=service.url, **table)
    assert token(databricks(other)) == "Bearer t2-0123456789"
    assert sign(databricks(other)).url == WIRE.url


def test_a_thousand_calls_log_in_once(service: Service) -> None:
    service.delay = 0.1
    auth = databricks(m2m(service))

    async def call() -> str:
        if auth.stale(time.time()):
            await asyncio.to_thread(auth.refresh)
        return auth.sign(WIRE, time.time()).headers["authorization"]

    async def main() -> set[str]:
        return set(await asyncio.gather(*(call() for _ in range(1000))))

    assert asyncio.run(main()) == {"Bearer t1-0123456789"}
    assert set(together(50, lambda index: token(auth))) == {"Bearer t1-0123456789"}
    assert service.issued == 1


@pytest.mark.parametrize("own", [True, False])
def test_the_end_that_the_service_says_counts(service: Service, own: bool) -> None:
    now = [time.time()]
    clock = lambda: now[0]  # noqa: E731
    auth = MachineLogin(m2m(service), "app", SECRET, clock=clock) if own else DatabricksLogin(m2m(service), clock=clock)

    def sent() -> str:
        if auth.stale(now[0]):
            auth.refresh()
        return auth.sign(WIRE, now[0]).headers["authorization"]

    assert sent() == "Bearer t1-0123456789"
    now[0] += 3600 - 400
    assert sent() == "Bearer t1-0123456789"
    now[0] += 100
    assert sent() == "Bearer t2-0123456789", "ahead of its end, a new one: not the one that the SDK would still keep"


@pytest.mark.parametrize("login", [databricks, DatabricksLogin])
def test_after_a_refusal_there_is_a_new_token(service: Service, login: Any) -> None:
    """The SDK's own cache would hand out the refused one until its end."""
    auth = login(m2m(service))
    sent = sign(auth)
    assert not auth.reject(sent, FORBIDDEN, time.time())
    assert token(auth) == "Bearer t1-0123456789"
    assert auth.reject(sent, REFUSED, time.time())
    assert token(auth) == "Bearer t2-0123456789"
    assert auth.reject(sent, REFUSED, time.time()), "another call that had sent the old one may try again too"
    assert token(auth) == "Bearer t2-0123456789"


AZURE = DatabricksEnvironment(
    Cloud.AZURE,
    ".test",
    ARM_DATABRICKS_RESOURCE_ID,
    AzureEnvironment("PUBLIC", "https://m.test/", "", "https://e.test/"),
)


@pytest.fixture
def azure(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK takes the test's service for a workspace on Azure, and for Entra."""
    environment = AzureEnvironment("PUBLIC", "https://management.core.windows.net/", "", f"{service.url}/")
    cloud = DatabricksEnvironment(Cloud.AZURE, ".test", ARM_DATABRICKS_RESOURCE_ID, environment)
    monkeypatch.setattr(sdk_config, "get_environment_for_hostname", lambda hostname: cloud)


@pytest.mark.usefixtures("azure")
@pytest.mark.parametrize("resource", [None, "/subscriptions/s/resourceGroups/g/providers/x/workspaces/w"])
def test_a_service_principal_of_entra(service: Service, resource: str | None) -> None:
    table = {"azure_tenant_id": "ten", "azure_client_id": "app", "azure_client_secret": SECRET}
    auth = databricks(settings(host=service.url, azure_resource_id=resource, **table))
    headers = dict(sign(auth).headers)
    assert headers.pop("x-databricks-azure-workspace-resource-id", None) == resource
    assert headers == {
        **WIRE.headers,
        "authorization": "Bearer t1-0123456789",
        "x-databricks-azure-sp-management-token": "t2-0123456789",
    }
    assert auth.secrets == ("t1-0123456789", "t2-0123456789")
    assert [path for method, path, _, _ in service.seen if method == "POST"] == ["/ten/oauth2/token"] * 2
    assert [form["resource"] for form in service.forms] == [
        "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d",
        "https://management.core.windows.net/",
    ]
    assert {(form["client_id"], form["client_secret"]) for form in service.forms} == {("app", SECRET)}


def test_a_profile(service: Service, tmp_path: Path) -> None:
    """Its host is where the request goes when the table names none."""
    profiles = {"m2m": f"client_id = app\nclient_secret = {SECRET}", "pat": "token = dapi9"}
    text = "".join(f"[{name}]\nhost = {service.url}\n{keys}\n" for name, keys in profiles.items())
    (tmp_path / ".databrickscfg").write_text(text)
    options = settings(profile="pat").options
    target = target_of(SPEC, {"profile": "pat"}, "llama-4-maverick")
    wire = SPEC.adapter.build_request(ask(), target, stream=False)
    signed = sign(databricks(settings(profile="pat")), wire)
    assert signed.url == f"{service.url}/serving-endpoints/databricks-llama-4-maverick/invocations"
    assert signed.headers["authorization"] == "Bearer dapi9"
    assert options.workspace == "https://workspace.invalid", "a placeholder that leads nowhere"
    elsewhere = databricks(settings(profile="pat", host=service.url.replace("127.0.0.1", "localhost")))
    assert sign(elsewhere, WIRE).url == WIRE.url


def test_a_profile_is_read_again_now_and_then(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "other.cfg"
    file.write_text(f"[work]\nhost = {service.url}\ntoken = dapi1\n")
    now = [time.time()]
    auth = DatabricksLogin(settings({"DATABRICKS_CONFIG_FILE": str(file)}, profile="work"), clock=lambda: now[0])
    auth.refresh()
    assert auth.sign(WIRE, now[0]).headers["authorization"] == "Bearer dapi1"
    file.write_text(f"[work]\nhost = {service.url}\ntoken = dapi2\n")
    now[0] += RENEW
    assert auth.stale(now[0])
    auth.refresh()
    assert auth.sign(WIRE, now[0]).headers["authorization"] == "Bearer dapi2"


def test_a_command_lines_token_serves_until_the_end_it_has_in_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Asked once an hour, not every few minutes: `az` takes seconds to start."""
    end = int(time.time()) + 5000
    claims = base64.urlsafe_b64encode(json.dumps({"exp": end, "upn": "me"}).encode()).decode().rstrip("=")
    answer = {"accessToken": f"e30.{claims}.x", "tokenType": "Bearer", "expiresOn": "2099-01-01 00:00:00.000000"}
    program = tmp_path / "az"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    now = [time.time()]
    auth = DatabricksLogin(settings(host=service.url, auth_type="azure-cli", azure_tenant_id="t"), clock=lambda: now[0])
    monkeypatch.setattr(sdk_config, "get_environment_for_hostname", lambda hostname: AZURE)
    auth.refresh()
    assert auth.sign(WIRE, now[0]).headers["authorization"] == f"Bearer e30.{claims}.x"
    now[0] += 4000
    assert not auth.stale(now[0])
    now[0] = end - 100
    assert auth.stale(now[0])


LEAK = {
    "DATABRICKS_HOST": "https://other.test",
    "DATABRICKS_TOKEN": "leaked-token",
    "DATABRICKS_CLIENT_ID": "leaked",
    "DATABRICKS_CLIENT_SECRET": "leaked",
    "DATABRICKS_CONFIG_PROFILE": "no-such-profile",
    "DATABRICKS_DISCOVERY_URL": "http://127.0.0.1:9/leaked",
    "DATABRICKS_AUTH_TYPE": "pat",
    "DATABRICKS_ACCOUNT_ID": "leaked",
    "DATABRICKS_GROUP_ID": "leaked",
    "ARM_CLIENT_ID": "leaked",
    "ARM_CLIENT_SECRET": "leaked",
    "ARM_TENANT_ID": "leaked",
}


@pytest.mark.parametrize("process", [True, False])
def test_the_environment_does_not_leak_into_a_table_with_credentials(
    service: Service, monkeypatch: pytest.MonkeyPatch, process: bool
) -> None:
    """Neither the process's, which the SDK would read by itself, nor the one that a client was given."""
    if process:
        for name, value in LEAK.items():
            monkeypatch.setenv(name, value)
    given = m2m(service)
    given.env = LEAK
    assert token(databricks(given)) == "Bearer t1-0123456789"
    assert "leaked" not in repr(service.seen)
    assert service.forms == [{"grant_type": "client_credentials", "scope": "all-apis"}]


@pytest.mark.usefixtures("azure")
def test_nor_into_an_entra_login(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAK.items():
        monkeypatch.setenv(name, value)
    table = {"azure_tenant_id": "ten", "azure_client_id": "app", "azure_client_secret": SECRET}
    auth = databricks(settings(LEAK, host=service.url, **table))
    assert token(auth) == "Bearer t1-0123456789"
    assert "leaked" not in repr(service.seen)


def test_nor_into_a_profile(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".databrickscfg").write_text(f"[work]\nhost = {service.url}\ntoken = dapi9\n")
    for name, value in LEAK.items():
        monkeypatch.setenv(name, value)
    signed = sign(databricks(settings(LEAK, profile="work")))
    assert "leaked" not in repr(service.seen)
    assert signed.headers["authorization"] == "Bearer dapi9"


def test_a_table_without_credentials_takes_those_of_the_environment(service: Service) -> None:
    env = {"DATABRICKS_CLIENT_ID": "app", "DATABRICKS_CLIENT_SECRET": SECRET}
    assert token(databricks(settings(env, host=service.url))) == "Bearer t1-0123456789"
    same = {**env, "DATABRICKS_HOST": f"{service.url}/"}
    assert token(databricks(settings(same, host=service.url))) == "Bearer t2-0123456789"
    by_name = settings(env, host=service.url, auth_type="oauth-m2m")
    assert token(databricks(by_name)) == "Bearer t3-0123456789"


@pytest.mark.parametrize(
    "env",
    [
        {"DATABRICKS_HOST": "https://other.test", "DATABRICKS_TOKEN": "of-another-workspace"},
        {"DATABRICKS_CONFIG_PROFILE": "of-another-workspace"},
    ],
)
def test_but_not_those_of_another_workspace(service: Service, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / ".databrickscfg").write_text("[of-another-workspace]\nhost = o.test\ntoken = of-another-workspace\n")
    auth = databricks(settings(env, host=service.url))
    with pytest.raises(errors.ConfigError, match=r"providers\.work: databricks-sdk cannot log in: .*default cred"):
        sign(auth)
    assert "of-another-workspace" not in repr(service.seen)


@pytest.mark.parametrize("login", [databricks, DatabricksLogin])
def test_a_wrong_secret(service: Service, login: Any) -> None:
    service.status = 401
    with pytest.raises(errors.AuthenticationError) as caught:
        sign(login(m2m(service)))
    text = str(caught.value)
    assert "the login failed: invalid_client: no **********" in text, "a service that echoes the secret"
    assert "check providers.work.client_id, providers.work.client_secret" in text
    assert SECRET not in text + repr(caught.value.__cause__) + repr(caught.value.args)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert (caught.value.provider, caught.value.retryable) == ("work", False)


@pytest.mark.parametrize("login", [databricks, DatabricksLogin])
def test_a_page_in_the_place_of_an_answer(service: Service, login: Any) -> None:
    service.status, service.answer = 502, b"<html>Bad Gateway</html>"
    with pytest.raises(errors.ServerError, match="gave no proper answer: <html>Bad Gateway") as caught:
        sign(login(m2m(service)))
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "answer", "cls", "words"),
    [
        (429, b'{"error": "slow_down"}', errors.OverloadedError, "is busy: slow_down"),
        (503, b"<html>", errors.OverloadedError, "is busy: <html>"),
        (500, b'{"error": "server_error", "error_description": "x"}', errors.ServerError, "broke: server_error: x"),
        (400, b'{"error": "invalid_scope"}', errors.AuthenticationError, "the login failed: invalid_scope; check"),
        (403, b'{"error_code": "X", "message": "m"}', errors.AuthenticationError, "the login failed: X: m; check"),
        (200, b"<html>Sign in</html>", errors.ServerError, "no proper answer: <html>Sign in"),
        (200, b'{"token_type": "Bearer"}', errors.ServerError, "answered without a token"),
        (200, b'{"access_token": "a\\r\\nb", "expires_in": 1}', errors.ServerError, "answered without a token"),
        (302, b"Found", errors.ServerError, "no proper answer"),
    ],
)
def test_what_a_login_service_may_answer(
    service: Service, status: int, answer: bytes, cls: type[errors.ProviderError], words: str
) -> None:
    service.status, service.answer = status, answer
    with pytest.raises(cls, match=words) as caught:
        sign(databricks(m2m(service)))
    assert type(caught.value) is cls
    assert (caught.value.provider, caught.value.status) == ("work", status)
    assert caught.value.retryable is (cls is not errors.AuthenticationError)


def test_a_token_without_an_end_serves_until_it_is_refused(service: Service) -> None:
    service.answer = b'{"access_token": "t-0123456789"}'
    auth = databricks(m2m(service))
    assert token(auth) == "Bearer t-0123456789"
    assert not auth.stale(time.time() + 1e9)


def test_a_login_service_that_nobody_runs() -> None:
    table = {"host": "http://127.0.0.1:9", "client_id": "app", "client_secret": SECRET}
    with pytest.raises(
        errors.ConnectionError, match=r"could not be reached: cannot connect to 127\.0\.0\.1:9"
    ) as caught:
        sign(databricks(settings(**table)))
    assert (caught.value.provider, caught.value.retryable) == ("work", True)


def test_the_account_s_proxy_is_used_for_logging_in(service: Service) -> None:
    table = {"host": "http://workspace.test", "client_id": "app", "client_secret": SECRET}
    assert token(databricks(settings(proxy=service.url, **table))) == "Bearer t1-0123456789"
    assert [path for _, path, _, _ in service.seen] == ["http://workspace.test/oidc/v1/token"]


def test_a_token_of_the_environment_needs_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed", lambda: False)
    host = "https://adb-1.2.azuredatabricks.net"
    env = {"DATABRICKS_TOKEN": "dapi7", "DATABRICKS_CLIENT_ID": "app", "DATABRICKS_CLIENT_SECRET": SECRET}
    assert token(databricks(settings(env, host=host))) == "Bearer dapi7"
    assert isinstance(databricks(settings(env, host=host, auth_type="oauth-m2m")), MachineLogin)
    for elsewhere in ({"auth_type": "azure-cli"}, {"profile": "work"}):
        with pytest.raises(errors.ConfigError, match="databricks-sdk is not installed"):
            databricks(settings(env, host=host, **elsewhere))
    for more in ({"DATABRICKS_AUTH_TYPE": "azure-cli"}, {"DATABRICKS_HOST": "https://other.test"}):
        with pytest.raises(errors.ConfigError, match="databricks-sdk is not installed"):
            databricks(settings(env | more, host=host))


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        sign(databricks(settings(profile="work")))
    assert "providers.work: databricks-sdk cannot log in: " in str(caught.value)
    assert "check providers.work.profile" in str(caught.value)


def test_a_host_that_is_no_workspace(service: Service) -> None:
    table = {"client_id": "app", "client_secret": SECRET}
    elsewhere = settings(base_url=f"{service.url}/x", **table)
    with pytest.raises(errors.AuthenticationError, match=r"nothing at /x/oidc/v1/token; check .*providers\.work\.host"):
        sign(databricks(elsewhere))
    with pytest.raises(errors.ConfigError, match=r"nothing at /x/oidc/\.well-known/oauth-authorization-server"):
        sign(DatabricksLogin(elsewhere))


@pytest.mark.parametrize(
    ("login", "words"), [(databricks, "the login took too long"), (DatabricksLogin, r"more than 0\.5 seconds")]
)
def test_a_login_that_takes_too_long_is_left_behind(
    service: Service, monkeypatch: pytest.MonkeyPatch, login: Any, words: str
) -> None:
    """The SDK sends its request for a token without any limit of time."""
    monkeypatch.setattr(module, "LOGIN", 0.5)
    service.delay = 5.0
    auth = login(m2m(service))
    began = time.monotonic()
    with pytest.raises(errors.TimeoutError, match=words) as caught:
        sign(auth)
    assert time.monotonic() - began < 3
    assert isinstance(caught.value, builtins.TimeoutError)
    assert (caught.value.provider, caught.value.phase, caught.value.retryable) == ("work", "connect", True)


@pytest.mark.parametrize(
    ("cause", "cls"),
    [
        (requests.ConnectionError("no route"), errors.ConnectionError),
        (requests.ReadTimeout("slow"), errors.TimeoutError),
        (builtins.TimeoutError("Timed out after 0:00:10"), errors.TimeoutError),
        (sdk_errors.TemporarilyUnavailable("busy"), errors.OverloadedError),
        (sdk_errors.TooManyRequests("busy"), errors.OverloadedError),
        (sdk_errors.InternalError("broken"), errors.ServerError),
        (sdk_errors.PermissionDenied("no"), errors.AuthenticationError),
        (OSError("az is not logged in"), errors.AuthenticationError),
    ],
    ids=repr,
)
def test_what_the_sdk_raises_is_not_what_callers_see(
    service: Service, monkeypatch: pytest.MonkeyPatch, cause: Exception, cls: type[errors.ProviderError]
) -> None:
    def fail(config: Any) -> Any:
        raise ValueError(f"oauth-m2m: {cause}") from cause

    monkeypatch.setattr(sdk_config.Config, "authenticate", fail)
    with pytest.raises(cls) as caught:
        sign(DatabricksLogin(m2m(service)))
    assert type(caught.value) is cls
    assert f"oauth-m2m: {cause}" in str(caught.value)
    assert caught.value.retryable is (cls is not errors.AuthenticationError)
