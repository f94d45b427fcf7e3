"""Azure's keys and Entra ID's tokens: azure-identity's own classes, with a login page of the test's own behind them."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from typing import Any

import azure.identity
import pytest
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import ClientSecretCredential, CredentialUnavailableError
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential

from llamaroute import errors
from llamaroute.auth.azure import azure as make
from llamaroute.registry import make_auth, provider_spec
from llamaroute.spi import Auth, AuthSettings, WireRequest, WireResponse
from tests.auth.entra import Entra

RESOURCE = "https://acme.services.ai.azure.com"
SERVERLESS = "https://scout.eastus2.models.ai.azure.com"
MANAGED = "https://scout.eastus2.inference.ml.azure.com"
SECRET = "client-secret-0123456789"
PRINCIPAL = {"tenant_id": "tenant", "client_id": "client-1", "client_secret": SECRET}
WIRE = WireRequest("POST", f"{RESOURCE}/openai/v1/chat/completions", {"content-type": "application/json"}, b"{}")
REFUSED = WireResponse(401, {}, b'{"error":{"code":"401","message":"no"}}')


def settings(live: object = None, env: dict[str, str] | None = None, **table: Any) -> AuthSettings:
    spec = provider_spec("azure")
    options = spec.settings.model_validate({"kind": "azure", "endpoint": RESOURCE, **table})
    return AuthSettings("work", options if live is None else options.with_live_credential(live), env or {})


def auth(live: object = None, env: dict[str, str] | None = None, **table: Any) -> Auth:
    return make_auth(provider_spec("azure"), settings(live, env, **table))


def sign(auth: Auth) -> WireRequest:
    """What a call does before it sends."""
    if auth.stale(time.time()):
        auth.refresh()
    return auth.sign(WIRE, time.time())


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> Entra:
    """The login page, behind every ClientSecretCredential that is made."""
    entra = Entra()

    def made(*args: Any, **options: Any) -> ClientSecretCredential:
        return ClientSecretCredential(*args, **{**options, "transport": entra.transport()})

    monkeypatch.setattr(azure.identity, "ClientSecretCredential", made)
    return entra


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "headers"),
    [
        ({}, {"api-key"}),
        ({"endpoint": "https://acme.openai.azure.com/openai/v1"}, {"api-key"}),
        ({"endpoint": "https://gateway.example"}, {"api-key"}),
        ({"api": "models"}, {"api-key"}),
        ({"api": "models", "endpoint": SERVERLESS}, {"authorization"}),
        ({"api": "models", "endpoint": MANAGED}, {"authorization"}),
        ({"endpoint": f"{SERVERLESS}/v1"}, {"authorization"}),
        # A name of the user's own may stand for either: azure-ai-inference sends both, everywhere.
        ({"api": "models", "endpoint": "https://gateway.example"}, {"api-key", "authorization"}),
    ],
)
@pytest.mark.parametrize("live", [False, True], ids=["table", "live"])
def test_where_a_key_goes(table: dict[str, Any], headers: set[str], live: bool) -> None:
    made = auth(AzureKeyCredential("key-0123456789"), **table) if live else auth(api_key="key-0123456789", **table)
    signed = sign(made)
    assert set(signed.headers) - {"content-type"} == headers
    assert {value.removeprefix("Bearer ") for name, value in signed.headers.items() if name in headers} == {
        "key-0123456789"
    }
    assert "key-0123456789" in made.secrets  # type: ignore[attr-defined]
    assert "key-0123456789" not in repr(made)
    assert not made.reject(signed, REFUSED, time.time())


def test_a_live_key_that_changed_meanwhile_is_tried() -> None:
    credential = AzureKeyCredential("old-key")
    made = auth(credential)
    old = sign(made)
    credential.update("new-key")
    assert made.reject(old, REFUSED, time.time())
    assert sign(made).headers["api-key"] == "new-key"


def test_a_key_that_no_header_may_hold() -> None:
    for made in (lambda: auth(api_key="a\nb"), lambda: sign(auth(AzureKeyCredential("a\nb")))):
        with pytest.raises(errors.ConfigError, match=r"providers\.work\.api_key has characters"):
            made()


def test_nothing_to_sign_with() -> None:
    with pytest.raises(
        errors.ConfigError, match=r"providers\.work\.api_key: is missing.*credential = 'entra'"
    ) as caught:
        auth()
    assert caught.value.key == "providers.work.api_key"


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "scope"),
    [
        ({}, "https://ai.azure.com/.default"),
        ({"api": "models"}, "https://cognitiveservices.azure.com/.default"),
        ({"api": "models", "endpoint": SERVERLESS}, "https://ml.azure.com/.default"),
        ({"api": "models", "endpoint": MANAGED}, "https://ml.azure.com/.default"),
        ({"scope": "https://example.com/.default"}, "https://example.com/.default"),
    ],
)
def test_a_service_principals_token_is_for_the_route(entra: Entra, table: dict[str, Any], scope: str) -> None:
    signed = sign(auth(**PRINCIPAL, **table))
    assert signed.headers["authorization"] == "Bearer token-1"
    assert "api-key" not in signed.headers
    [form] = entra.forms
    assert form["scope"].split()[0] == scope
    assert (form["grant_type"], form["client_id"]) == ("client_credentials", "client-1")
    assert form["client_secret"] == SECRET
    assert entra.hosts == {"login.microsoftonline.com"}


def test_a_token_serves_until_it_is_refused(entra: Entra) -> None:
    made = auth(**PRINCIPAL)
    assert [sign(made).headers["authorization"] for _ in range(3)] == ["Bearer token-1"] * 3
    assert made.reject(sign(made), REFUSED, time.time())
    assert sign(made).headers["authorization"] == "Bearer token-2", "not azure-identity's cached one"
    assert len(entra.forms) == 2


def test_a_token_that_is_good_is_not_renewed_for_a_lacking_role(entra: Entra) -> None:
    made = auth(**PRINCIPAL)
    denied = WireResponse(401, {}, b'{"error":{"code":"PermissionDenied","message":"The principal lacks"}}')
    assert not made.reject(sign(made), denied, time.time())
    assert not made.reject(sign(made), WireResponse(403, {}, b""), time.time())


def test_a_thousand_calls_fetch_one_token(entra: Entra) -> None:
    made = auth(**PRINCIPAL)

    async def call() -> str:
        if made.stale(time.time()):
            await asyncio.to_thread(made.refresh)
        return made.sign(WIRE, time.time()).headers["authorization"]

    async def main() -> list[str]:
        return await asyncio.gather(*(call() for _ in range(1000)))

    assert asyncio.run(main()) == ["Bearer token-1"] * 1000
    assert len(entra.forms) == 1


def test_the_environments_service_principal(entra: Entra) -> None:
    env = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client-2", "AZURE_CLIENT_SECRET": SECRET}
    assert sign(auth(env=env, credential="entra")).headers["authorization"] == "Bearer token-1"
    assert entra.forms[0]["client_id"] == "client-2"


def test_another_cloud(entra: Entra) -> None:
    sign(auth(env={"AZURE_AUTHORITY_HOST": "login.microsoftonline.us"}, **PRINCIPAL))
    assert "login.microsoftonline.us" in entra.hosts


class Recorder:
    """Stands for DefaultAzureCredential, which would look at this machine and its network."""

    made: list[dict[str, Any]]
    failure: Exception | None = None

    def __init__(self, **options: Any) -> None:
        self.made.append(options)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_token(self, scope: str, **options: Any) -> AccessToken:
        self.asked = (scope, options)
        if self.failure is not None:
            raise self.failure
        return AccessToken("from-this-machine", int(time.time()) + 3600)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    kind = type("Machine", (Recorder,), {"made": []})
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", kind)
    return kind


def test_without_a_secret_this_machine_is_asked(machine: type[Recorder]) -> None:
    assert sign(auth(credential="entra")).headers["authorization"] == "Bearer from-this-machine"
    sign(auth(credential="entra", client_id="mi", tenant_id="t", verify="/ca.pem", proxy="http://proxy:8080"))
    assert machine.made == [
        {"connection_verify": True},
        {
            "connection_verify": "/ca.pem",
            "proxies": {"https": "http://proxy:8080"},
            "managed_identity_client_id": "mi",
            "workload_identity_client_id": "mi",
            "workload_identity_tenant_id": "t",
            "additionally_allowed_tenants": ["t"],
        },
    ]


def test_the_tables_tenant_is_asked_for(machine: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    """`az login` may be at home in another one."""
    asked: list[Any] = []
    monkeypatch.setattr(machine, "__exit__", lambda self, *_: asked.append(self.asked))
    sign(auth(credential="entra", tenant_id="t"))
    sign(auth(credential="entra"))
    scope = "https://ai.azure.com/.default"
    assert asked == [(scope, {"tenant_id": "t"}), (scope, {})]


@pytest.mark.parametrize("own", [{"client_id": "mi"}, {"tenant_id": "t"}])
def test_the_environments_secret_goes_to_nobody_else(
    entra: Entra, machine: type[Recorder], own: dict[str, str]
) -> None:
    env = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client-2", "AZURE_CLIENT_SECRET": SECRET}
    assert sign(auth(env=env, credential="entra", **own)).headers["authorization"] == "Bearer from-this-machine"
    assert entra.forms == []


def test_azure_identity_takes_those_options() -> None:
    """The names above mean something to the real class."""
    kind = azure.identity.DefaultAzureCredential
    kind(
        connection_verify="/ca.pem",
        proxies={"https": "http://proxy:8080"},
        managed_identity_client_id="mi",
        workload_identity_client_id="mi",
        workload_identity_tenant_id="t",
        additionally_allowed_tenants=["t"],
        authority="login.microsoftonline.us",
    ).close()


def test_a_live_credential_signs(entra: Entra) -> None:
    live = ClientSecretCredential("tenant", "client-1", SECRET, transport=entra.transport())
    made = auth(live, api="models")
    assert sign(made).headers["authorization"] == "Bearer token-1"
    assert entra.forms[0]["scope"].split()[0] == "https://cognitiveservices.azure.com/.default"
    made.reject(sign(made), REFUSED, time.time())
    assert sign(made).headers["authorization"] == "Bearer token-1", "it stays open, and its cache is its own"


def test_a_live_credential_that_is_asynchronous_is_refused() -> None:
    live = AsyncClientSecretCredential("tenant", "client-1", SECRET)
    with pytest.raises(errors.ConfigError, match=r"ClientSecretCredential is asynchronous.*azure\.identity"):
        auth(live)
    asyncio.run(live.close())


def test_a_live_credential_that_is_none() -> None:
    with pytest.raises(errors.ConfigError, match=r"providers\.work\.credential: dict is neither a key"):
        auth({"token": "x"})


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def refused(code: str, text: str) -> dict[str, Any]:
    about = f"{code}: {text} Trace ID: 1-2-3 Correlation ID: 4-5-6 Timestamp: 2026-11-23 14:00:00Z"
    return {"error": "invalid_client", "error_description": about, "error_codes": [int(code.removeprefix("AADSTS"))]}


@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (
            "AADSTS7000215",
            f"Invalid client secret provided: {SECRET}.",
            "providers.work.client_secret is wrong: it is the secret's value, not its id",
        ),
        ("AADSTS7000222", "The provided client secret keys are expired.", "providers.work.client_secret has expired"),
        ("AADSTS700016", "Application was not found.", "providers.work.client_id is no application of this tenant"),
        ("AADSTS90002", "Tenant 'x' not found.", "providers.work.tenant_id is no tenant"),
        ("AADSTS500011", "The resource principal was not found.", "providers.work.scope names nothing"),
        ("AADSTS99999", "Something new.", "check providers.work.tenant_id, client_id and client_secret"),
    ],
)
def test_what_entra_refuses(entra: Entra, code: str, text: str, remedy: str) -> None:
    entra.refusal = (401, refused(code, text))
    with pytest.raises(errors.AuthenticationError) as caught:
        sign(auth(**PRINCIPAL))
    error = caught.value
    assert (error.code, error.provider, error.retryable) == (code, "work", False)
    assert code in str(error)
    assert remedy in str(error)
    assert SECRET not in f"{error!r}{error}{error.__cause__!r}"
    assert error.__suppress_context__
    assert "Trace ID" not in str(error)


@pytest.mark.parametrize("status", [500, 503])
def test_entra_is_broken(entra: Entra, status: int) -> None:
    entra.refusal = (status, {"message": "internal"})
    with pytest.raises(errors.OverloadedError, match="Microsoft Entra ID") as caught:
        sign(auth(**PRINCIPAL))
    assert caught.value.retryable


def test_entra_is_away(entra: Entra) -> None:
    entra.away = True
    before = time.monotonic()
    with pytest.raises(errors.ConnectionError, match="Microsoft Entra ID could not be reached") as caught:
        sign(auth(**PRINCIPAL))
    assert caught.value.retryable
    assert time.monotonic() - before < 5, "the call's own retries are the only ones"


def test_this_machine_has_no_credential(machine: type[Recorder]) -> None:
    machine.failure = ClientAuthenticationError(
        message="DefaultAzureCredential failed to retrieve a token from the included credentials.\n"
        "Attempted credentials:\n"
        "\tEnvironmentCredential: EnvironmentCredential authentication unavailable. Set variables.\n"
        "Visit https://aka.ms/azsdk/python/identity/environmentcredential/troubleshoot to troubleshoot this issue.\n"
        "\tAzureCliCredential: Please run 'az login' to set up an account\n"
        "To mitigate this issue, please refer to the troubleshooting guidelines here at https://aka.ms/x."
    )
    with pytest.raises(errors.AuthenticationError) as caught:
        sign(auth(credential="entra"))
    assert str(caught.value) == (
        "no Entra credential was found (EnvironmentCredential: EnvironmentCredential authentication unavailable; "
        "AzureCliCredential: Please run 'az login' to set up an account); sign in with 'az login', or set "
        "providers.work.tenant_id, client_id and client_secret"
    )


def test_the_real_chain_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with azure-identity's own message, of sources that need no network to fail."""
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    local = functools.partial(
        azure.identity.DefaultAzureCredential,
        exclude_managed_identity_credential=True,
        exclude_broker_credential=True,
    )
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", local)
    with pytest.raises(errors.AuthenticationError, match="no Entra credential was found") as caught:
        sign(auth(credential="entra"))
    for tried in ("EnvironmentCredential:", "AzureCliCredential: Azure CLI not found on path"):
        assert tried in str(caught.value)


def unavailable() -> Exception:
    """What ManagedIdentityCredential raises on a machine that has none."""
    error = CredentialUnavailableError(message="no managed identity endpoint found")
    error.__cause__ = ServiceRequestError("no route to 169.254.169.254")
    return error


@pytest.mark.parametrize(
    ("raised", "cls", "message"),
    [
        (CredentialUnavailableError(message="not on this machine"), errors.AuthenticationError, "not on this machine"),
        (ServiceRequestError("no route"), errors.ConnectionError, "no route"),
        (unavailable(), errors.AuthenticationError, "no managed identity"),
        (RuntimeError("odd"), errors.AuthenticationError, "RuntimeError: odd"),
    ],
)
def test_what_a_live_credential_raises(
    raised: Exception, cls: type[errors.ProviderError], message: str, machine: type[Recorder]
) -> None:
    machine.failure = raised
    with pytest.raises(cls, match=message) as caught:
        sign(auth(machine()))
    assert type(caught.value) is cls


def test_azure_identity_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(errors.ConfigError, match=r"providers\.work: .*pip install 'llamaroute\[azure\]'"):
        sign(auth(**PRINCIPAL))
    assert sign(auth(api_key="k")).headers["api-key"] == "k", "a key needs no SDK"


def test_neither_auth_nor_settings_show_secrets(entra: Entra) -> None:
    given = settings(**PRINCIPAL)
    made = make(given)
    sign(made)
    for text in (repr(made), repr(given), repr(given.options), str(given.options.model_dump(mode="json"))):
        assert SECRET not in text
        assert "token-1" not in text
    assert "token-1" in made.secrets  # type: ignore[attr-defined]
