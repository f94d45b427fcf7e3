"""Azure's credentials: an API key, or a token of Microsoft Entra ID through azure-identity.

https://learn.microsoft.com/azure/developer/python/sdk/authentication/overview
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..errors import (
    AuthenticationError,
    ConfigError,
    ConnectionError,
    LlamarouteError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
)
from ..spi import MASK, Auth, AuthSettings, WireRequest, WireResponse
from .base import StaticHeaders, header_value
from .tokens import CachedToken, Token, bearer_header

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential, TokenCredential

    from ..providers.azure import AzureSettings

__all__ = ["azure", "entra_token"]

SCOPES = {
    "v1": "https://ai.azure.com/.default",
    "models": "https://cognitiveservices.azure.com/.default",
    "machine-learning": "https://ml.azure.com/.default",
}
"""What a token must be for, by route. Serverless and managed endpoints are Azure Machine Learning's, whose scope is the
default of azure-ai-inference."""

RESOURCES = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
"""Hosts that take a key as `api-key` alone on /models."""

REMEDIES = {
    "AADSTS7000215": "client_secret is wrong: it is the secret's value, not its id",
    "AADSTS7000222": "client_secret has expired: make a new one",
    "AADSTS700016": "client_id is no application of this tenant",
    "AADSTS90002": "tenant_id is no tenant",
    "AADSTS900023": "tenant_id is no tenant",
    "AADSTS500011": "scope names nothing this tenant has",
    "AADSTS70011": "scope is none: it should look like https://ai.azure.com/.default",
    "AADSTS1002012": "scope should end in /.default",
}
"""Entra's codes that say which key is wrong. https://learn.microsoft.com/entra/identity-platform/reference-error-codes"""


def azure(settings: AuthSettings) -> Auth:
    """The table's key, its Entra credentials, or a live credential object of azure-core's or azure-identity's.

    Raises:
        ConfigError: there is none, or it cannot be used here.
    """
    options = _options(settings)
    live = options.live_credential
    if live is not None:
        if isinstance(getattr(live, "key", None), str):
            return LiveKey(live, settings)
        if inspect.iscoroutinefunction(getattr(live, "get_token", None)):
            raise _config_error(
                settings,
                "credential",
                f"{type(live).__module__}.{type(live).__name__} is asynchronous; give the class of the same name from "
                "azure.identity, which serves both clients",
            )
        if not callable(getattr(live, "get_token", None)):
            raise _config_error(
                settings, "credential", f"{type(live).__name__} is neither a key nor a credential with get_token"
            )
    elif options.api_key is not None:
        return StaticHeaders(_key_headers(header_value(options.api_key, settings), options))
    elif options.credential is None and options.client_secret is None:
        raise _config_error(settings, "api_key", "is missing; set it, or set credential = 'entra'")
    return entra_token(settings, options.scope or _scope(options))


def entra_token(settings: AuthSettings, scope: str) -> Auth:
    """Tokens of the account's Entra credentials for a scope, whatever the route."""

    def fetch() -> Token:
        return _fetch(settings, scope)

    return CachedToken(fetch, provider=settings.provider, rejected=_rejected)


class LiveKey:
    """An `AzureKeyCredential`, read at each call: its owner may put a new key into it (`update`)."""

    __slots__ = ("_credential", "_settings")

    def __init__(self, credential: AzureKeyCredential, settings: AuthSettings) -> None:
        self._credential = credential
        self._settings = settings

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not show in a message."""
        return (self._credential.key,)

    def stale(self, now: float) -> bool:
        """Never: a key does not expire by the clock."""
        return False

    def refresh(self) -> None:
        """Nothing to do."""

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """True when the key was changed meanwhile."""
        headers = self._headers()
        return response.status == 401 and any(request.headers.get(name) != value for name, value in headers.items())

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the key."""
        return replace(request, headers={**request.headers, **self._headers()})

    def _headers(self) -> dict[str, str]:
        key = header_value(SecretStr(self._credential.key), self._settings)
        return _key_headers(key, _options(self._settings))

    def __repr__(self) -> str:
        return f"LiveKey({self._settings.provider})"


def _options(settings: AuthSettings) -> AzureSettings:
    return cast("AzureSettings", settings.options)


def _key_headers(key: str, options: AzureSettings) -> dict[str, str]:
    """Resources take `api-key`, serverless and managed endpoints a bearer.

    On /models behind a name of the user's own it could be either; azure-ai-inference sends both, always.
    """
    named, bearer = {"api-key": key}, {"authorization": f"Bearer {key}"}
    if options.hosting != "resource":
        return bearer
    known = (urlsplit(options.url).hostname or "").endswith(RESOURCES)
    return named if known or options.api == "v1" else {**named, **bearer}


def _scope(options: AzureSettings) -> str:
    return SCOPES[options.api if options.hosting == "resource" else "machine-learning"]


def _rejected(response: WireResponse) -> bool:
    """Whether another token may help: not where the token is good and its owner lacks a role, which is a 401, too."""
    return response.status == 401 and b'"PermissionDenied"' not in response.body


# -- getting a token ---------------------------------------------------------------------------------------------------


def _fetch(settings: AuthSettings, scope: str) -> Token:
    live: TokenCredential | None = settings.options.live_credential
    try:
        # One of our own is made anew each time: after a 401 its cache would give the refused token again.
        with nullcontext(live) if live is not None else _credential(settings)() as credential:
            token = credential.get_token(scope, **_tenant(settings))
    except LlamarouteError:
        raise
    except Exception as error:
        raise _translated(error, settings) from None
    return bearer_header(token.token, float(token.expires_on))


def _credential(settings: AuthSettings) -> Callable[[], Any]:
    """What makes the account's credential: a service principal, else whatever this machine has."""
    options = _options(settings)
    try:
        from azure.identity import ClientSecretCredential, DefaultAzureCredential
    except ImportError:
        raise ConfigError(
            f"providers.{settings.provider}: azure-identity is not installed; pip install 'llamaroute[azure]'",
            key=f"providers.{settings.provider}.credential",
        ) from None
    tenant, client, secret = _service_principal(settings)
    network: dict[str, Any] = {"connection_verify": options.verify}
    if options.proxy is not None:
        network["proxies"] = {"https": options.proxy}
    if authority := settings.env.get("AZURE_AUTHORITY_HOST"):
        network["authority"] = authority
    if tenant and client and secret:
        # The call's own retries are enough; azure-core's would wait for minutes.
        return lambda: ClientSecretCredential(tenant, client, secret, retry_total=0, **network)
    if options.client_id is not None:
        network["managed_identity_client_id"] = network["workload_identity_client_id"] = options.client_id
    if options.tenant_id is not None:
        network["workload_identity_tenant_id"] = options.tenant_id
        network["additionally_allowed_tenants"] = [options.tenant_id]
    return lambda: DefaultAzureCredential(**network)


def _tenant(settings: AuthSettings) -> dict[str, Any]:
    """The table's tenant, said with each request where the credential may be of another one (`az login`)."""
    options = _options(settings)
    if options.tenant_id is None or options.live_credential is not None or all(_service_principal(settings)):
        return {}
    return {"tenant_id": options.tenant_id}


def _service_principal(settings: AuthSettings) -> tuple[str | None, str | None, str | None]:
    """Tenant, client and secret: the table's, else the environment's, where azure-identity's EnvironmentCredential
    looks. A secret is never sent with another's client or to another's tenant."""
    options, env = _options(settings), settings.env
    if options.client_secret is not None:
        return options.tenant_id, options.client_id, options.client_secret.get_secret_value()
    if options.client_id is not None or options.tenant_id is not None:
        return None, None, None
    return env.get("AZURE_TENANT_ID"), env.get("AZURE_CLIENT_ID"), env.get("AZURE_CLIENT_SECRET")


def _translated(error: Exception, settings: AuthSettings) -> ProviderError:
    """One of ours for what azure-identity, azure-core or a credential of the user's own raised."""
    provider = settings.provider
    message = _without_secrets(str(getattr(error, "message", None) or error), settings)
    # Classes by their names, so that nothing need be imported for a credential that is none of azure-identity's.
    root: BaseException | None = error
    while root is not None and not _is(root, "CredentialUnavailableError"):  # no managed identity here, say
        if _is(root, "ServiceRequestError", "ServiceResponseError"):
            return ConnectionError(
                f"Microsoft Entra ID could not be reached for a token: {_first_line(message)}",
                provider=provider,
                phase="connect",
            )
        root = root.__cause__ or root.__context__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if said := re.search(r"HTTP Error: (\d{3})\b", message):  # msal's words, which is all that is left of the answer
        status = int(said[1])
    if isinstance(status, int) and (status >= 500 or status == 429):
        return OverloadedError(
            f"Microsoft Entra ID gave no token: {_first_line(message)}", provider=provider, status=status
        )
    code = match[0] if (match := re.search(r"AADSTS\d+", message)) else None
    table = f"providers.{provider}"
    tried = re.findall(r"^\s+(\w+Credential): (.+)$", message, re.MULTILINE)
    if tried:
        # DefaultAzureCredential: one line a source, each with its reason.
        reasons = "; ".join(f"{name}: {_first_sentence(reason)}" for name, reason in tried)
        text = (
            f"no Entra credential was found ({reasons}); sign in with 'az login', or set {table}.tenant_id, "
            "client_id and client_secret"
        )
    elif code in REMEDIES:
        text = f"{_first_line(message)}; {table}.{REMEDIES[code]}"
    else:
        text = f"{type(error).__name__}: {_first_line(message)}; check {table}.tenant_id, client_id and client_secret"
    cls = PermissionDeniedError if code == "AADSTS50105" else AuthenticationError  # not assigned to the application
    return cls(text, provider=provider, status=None, code=code)


def _is(error: BaseException, *names: str) -> bool:
    return any(cls.__name__ in names for cls in type(error).__mro__)


def _without_secrets(message: str, settings: AuthSettings) -> str:
    secret = _service_principal(settings)[2]
    return message.replace(secret, MASK) if secret else message


def _first_line(message: str) -> str:
    """Without the trace ids that Entra appends."""
    line = (message.strip().splitlines() or [""])[0]
    return re.split(r" Trace ID:", line)[0][:500].rstrip(". ")


def _first_sentence(reason: str) -> str:
    return re.split(r"\. |\.$", reason.strip())[0][:200]


def _config_error(settings: AuthSettings, key: str, message: str) -> ConfigError:
    name = f"providers.{settings.provider}.{key}"
    return ConfigError(f"{name}: {message}", key=name)
