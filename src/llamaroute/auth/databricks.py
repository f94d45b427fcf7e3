"""Databricks' logins: a token as it is, OAuth between machines by `oauth.py`, and all else through databricks-sdk.

A service principal's id and secret are one request, whose form is documented:
https://docs.databricks.com/aws/dev-tools/auth/oauth-m2m. The SDK knows all the other ways (service principals of Entra,
profiles, command lines): https://docs.databricks.com/aws/dev-tools/auth/unified-auth. It is asked for headers alone;
when to ask, and what to do with a token that is refused, is `CachedToken`'s business as everywhere.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..dialects.databricks_errors import token_refused
from ..errors import (
    AuthenticationError,
    ConfigError,
    ConnectionError,
    LlamarouteError,
    OverloadedError,
    ServerError,
    TimeoutError,
)
from ..spi import MASK, Auth, AuthSettings, WireRequest, WireResponse
from .base import bearer
from .oauth import client_credentials
from .tokens import CachedToken, Token, within

__all__ = ["DatabricksLogin", "MachineLogin", "databricks"]

LOGIN = 30.0
"""Seconds a login may take. The SDK sends some of its requests without any limit and repeats others for 300 seconds."""
BROWSER = 300.0
"""The same where a person logs in."""
REQUEST = 10
"""Seconds for the requests to which the SDK lets one say a limit."""
RENEW = 600.0
"""Seconds after which the SDK is asked again where it does not say when its credentials end."""

_WAYS: Mapping[str, tuple[str, ...]] = {
    "oauth-m2m": ("client_id", "client_secret"),
    "azure-client-secret": ("azure_client_id", "azure_client_secret", "azure_tenant_id"),
}
"""databricks-sdk's names of ways to log in -> the keys of the table they need."""
_CREDENTIALS = ("token", "api_key", "profile", *(key for keys in _WAYS.values() for key in keys))
"""Keys of a table that says itself how to log in."""
_PLACES = ("DATABRICKS_CONFIG_FILE", "DATABRICKS_CLI_PATH", "ARM_ENVIRONMENT")
"""Variables that say where things are and hold no credentials."""

_T = TypeVar("_T")


def databricks(settings: AuthSettings) -> Auth:
    """A token, or a service principal's id and secret; through the SDK whatever else the table says, or a live `Config`
    of the application's. A table without credentials takes those of the environment.

    Raises:
        ConfigError: databricks-sdk is needed and not installed.
    """
    options: Any = settings.options
    if options.live_credential is None:
        if (token := _ready_token(settings)) is not None:
            return bearer(AuthSettings(settings.provider, options.model_copy(update={"api_key": token}), settings.env))
        if (client := _machine(settings)) is not None:
            return MachineLogin(settings, *client)
    if not _installed():
        name = settings.provider
        raise ConfigError(
            f"providers.{name}: databricks-sdk is not installed, and without it only a token, or client_id "
            f"and client_secret, will do; pip install 'llamaroute[databricks]', or set "
            f"providers.{name}.token",
            key=f"providers.{name}.token",
        )
    return DatabricksLogin(settings)


def _ready_token(settings: AuthSettings) -> SecretStr | None:
    """A personal token, the table's or the environment's; None where another way to log in is meant."""
    options: Any = settings.options
    token: SecretStr | None = options.token or options.api_key
    if token is not None:
        return token if options.auth_type in (None, "pat") else None
    found = _environment(settings, "pat").get("DATABRICKS_TOKEN")
    return SecretStr(found) if found else None


def _machine(settings: AuthSettings) -> tuple[str, str] | None:
    """A service principal's id and secret, the table's or the environment's; None where another way is meant."""
    options: Any = settings.options
    if (options.host or options.base_url) is None or options.profile is not None:
        return None
    if options.client_id is not None and options.client_secret is not None:
        secret = options.client_secret.get_secret_value()
        return (options.client_id, secret) if options.auth_type in (None, "oauth-m2m") else None
    env = _environment(settings, "oauth-m2m")
    client = env.get("DATABRICKS_CLIENT_ID"), env.get("DATABRICKS_CLIENT_SECRET")
    return client if client[0] and client[1] else None  # type: ignore[return-value]


def _environment(settings: AuthSettings, way: str) -> Mapping[str, str]:
    """The variables that count for a table without credentials; none where they or the table mean another way."""
    options: Any = settings.options
    host = options.host or options.base_url
    if host is None or any(getattr(options, key) is not None for key in _CREDENTIALS):
        return {}
    env = _variables(options, settings.env, _without_query(host))
    meant = options.auth_type or env.get("DATABRICKS_AUTH_TYPE") or way
    return env if meant == way else {}


def _installed() -> bool:
    # Importing it takes more than a second of CPU; that is for the first call's own thread.
    try:
        return find_spec("databricks.sdk") is not None
    except ImportError:
        return False


class MachineLogin(CachedToken):
    """Tokens for a service principal's id and secret, from the workspace itself."""

    def __init__(
        self, settings: AuthSettings, client_id: str, client_secret: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(self._log_in, provider=settings.provider, rejected=token_refused, clock=clock)
        self._settings = settings
        self._client = client_id, client_secret
        self._now = clock

    def _log_in(self) -> Token:
        options: Any = self._settings.options
        where = (options.host or options.base_url).partition("?")[0].rstrip("/")
        name = self._settings.provider
        return client_credentials(
            self._settings,
            f"{where}/oidc/v1/token",
            self._client,
            scope="all-apis",
            limit=LOGIN,
            now=self._now(),
            remedy=f"check providers.{name}.client_id, providers.{name}.client_secret and providers.{name}.host",
        )


class DatabricksLogin(CachedToken):
    """The SDK's headers, cached; and the workspace's address where only the SDK knows it."""

    def __init__(self, settings: AuthSettings, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(self._log_in, provider=settings.provider, rejected=token_refused, clock=clock)
        self._name = settings.provider
        self._now = clock
        self._options: Any = settings.options
        self._env = settings.env
        self._live: Any = settings.options.live_credential
        self._refused = False
        self._workspace: str | None = None

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the SDK's headers, sent to the workspace of the profile where the table names none."""
        signed = super().sign(request, now)
        placeholder = self._options.workspace
        if self._options.host is None and self._options.base_url is None and self._workspace is not None:
            return replace(signed, url=self._workspace + signed.url.removeprefix(placeholder))
        return signed

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """See `CachedToken`; a live credential has to forget its token, too."""
        dropped = super().reject(request, response, now)
        self._refused = self._refused or dropped
        return dropped

    def _log_in(self) -> Token:
        limit = BROWSER if self._options.auth_type == "external-browser" else LOGIN

        def late() -> LlamarouteError:
            return TimeoutError(
                f"the login took more than {limit:g} seconds; is the workspace reachable from here?",
                provider=self._name,
                phase="connect",
            )

        return within(limit, self._ask, late)

    def _ask(self) -> Token:
        stage = "set up"
        try:
            config = self._config()
            stage = "log in"
            headers = {name.lower(): value for name, value in config.authenticate().items()}
            end = _end_of(config, headers)
        except Exception as error:
            raise self._translated(error, stage) from None  # its text was looked at for secrets, its causes' was not
        self._workspace = config.host
        secrets = tuple(value.rpartition(" ")[2] for name, value in headers.items() if not name.endswith("resource-id"))
        return Token(headers, self._now() + RENEW if end is None else end, secrets)

    def _config(self) -> Any:
        """The SDK's configuration: always a fresh one, since it keeps a token of its own, also one that was refused."""
        if self._live is not None:
            if self._refused:
                self._live = self._live.copy()  # the application's own object keeps what it has
                self._live.init_auth()
                self._refused = False
            return self._live
        options = self._options
        way = options.auth_type or next((w for w, keys in _WAYS.items() if getattr(options, keys[1]) is not None), None)
        host = options.host or _without_query(options.base_url)
        table = {
            "host": host,
            "token": _text(options.token or options.api_key),
            "client_id": options.client_id,
            "client_secret": _text(options.client_secret),
            "azure_tenant_id": options.azure_tenant_id,
            "azure_client_id": options.azure_client_id,
            "azure_client_secret": _text(options.azure_client_secret),
            "azure_workspace_resource_id": options.azure_resource_id,
            "profile": options.profile,
            "auth_type": way,
            "http_timeout_seconds": REQUEST,
            "retry_timeout_seconds": REQUEST,
        }
        if host is not None and options.profile is None:
            # Where a workspace's logins are; left to itself, the SDK fails when it cannot ask the host for it.
            table["discovery_url"] = f"{host.rstrip('/')}/oidc/.well-known/oauth-authorization-server"
        return _config_class()(_variables(options, self._env, host), table)

    def _translated(self, error: Exception, stage: str) -> LlamarouteError:
        """Our error for one of the SDK's; its text without secrets, and with what to look at."""
        import requests  # type: ignore[import-untyped,unused-ignore]
        from databricks.sdk.errors import DeadlineExceeded, InternalError, TemporarilyUnavailable, TooManyRequests

        line = self._safe(error)
        for cause in _chain(error):
            if isinstance(cause, requests.Timeout | builtins.TimeoutError):
                return TimeoutError(f"the login took too long: {line}", provider=self._name, phase="connect")
            if isinstance(cause, requests.ConnectionError):
                return ConnectionError(f"the login service could not be reached: {line}", provider=self._name)
            if isinstance(cause, TooManyRequests | TemporarilyUnavailable | DeadlineExceeded):
                return OverloadedError(f"the login service is busy: {line}", provider=self._name)
            if isinstance(cause, InternalError):
                return ServerError(f"the login service broke: {line}", provider=self._name)
        if error.args and isinstance(error.args[0], bytes):
            # What answers without JSON is no login service that says no, but something that stands before it.
            return ServerError(f"the login service gave no proper answer: {line}", provider=self._name)
        remedy = self._remedy()
        if stage == "set up":
            return ConfigError(
                f"providers.{self._name}: databricks-sdk cannot log in: {line}; {remedy}", key=f"providers.{self._name}"
            )
        return AuthenticationError(f"the login failed: {line}; {remedy}", provider=self._name)

    def _safe(self, error: Exception) -> str:
        said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error)
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        line = (text.strip().splitlines() or [type(error).__name__])[0][:500]
        for key in ("token", "api_key", "client_secret", "azure_client_secret"):
            if secret := _text(getattr(self._options, key)):
                line = line.replace(secret, MASK)
        return line

    def _remedy(self) -> str:
        if self._live is not None:
            return "check the WorkspaceClient it was taken from"
        options = self._options
        keys = next((keys for keys in _WAYS.values() if getattr(options, keys[1]) is not None), ())
        keys = keys or tuple(key for key in ("profile", "auth_type") if getattr(options, key) is not None) or ("token",)
        return f"check {', '.join(f'providers.{self._name}.{key}' for key in keys)}"


def _variables(options: Any, env: Mapping[str, str], host: str | None) -> Mapping[str, str]:
    """The environment variables that count for an account.

    Those with credentials count only for a table that has none, and only for the workspace they are meant for: a
    token of one workspace is nothing to show to another.
    """
    elsewhere = host is not None and env.get("DATABRICKS_HOST") and not _same(host, env["DATABRICKS_HOST"])
    if elsewhere or any(getattr(options, key) is not None for key in _CREDENTIALS):
        return {name: env[name] for name in _PLACES if name in env}
    if host is not None and not env.get("DATABRICKS_HOST"):
        # A profile has a workspace of its own.
        return {name: value for name, value in env.items() if name != "DATABRICKS_CONFIG_PROFILE"}
    return env


def _config_class() -> Callable[[Mapping[str, str], Mapping[str, Any]], Any]:
    """databricks-sdk's `Config`, reading the environment it is given rather than the process's."""
    from databricks.sdk.config import Config

    class AccountConfig(Config):  # type: ignore[misc,unused-ignore]
        def __init__(self, variables: Mapping[str, str], table: Mapping[str, Any]) -> None:
            self._variables = variables
            super().__init__(**table)

        def _load_from_env(self) -> None:
            for attribute in Config.attributes():  # older versions (0.70) know no aliases
                for name in (attribute.env, *getattr(attribute, "env_aliases", ())) if attribute.env else ():
                    if getattr(self, attribute.name) is None and self._variables.get(name):
                        setattr(self, attribute.name, self._variables[name])

    Config.attributes()  # collected from the class that is asked first, which has to be the SDK's own
    return AccountConfig


def _end_of(config: Any, headers: Mapping[str, str]) -> float | None:
    """When the credentials end, in seconds since the epoch; None where nothing says so (a token from a profile)."""
    from databricks.sdk.oauth import Token as SdkToken

    try:
        expiry = config.oauth_token().expiry
    except ValueError:
        # No OAuth of the SDK's own. What a command line gave is a JWT as a rule, and says it itself.
        end = SdkToken(headers.get("authorization", "").rpartition(" ")[2]).jwt_claims().get("exp")
        return float(end) if isinstance(end, int | float) else None
    return None if expiry is None else float(expiry.timestamp())  # without a zone it is local time


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _without_query(url: str | None) -> str | None:
    return None if url is None else url.partition("?")[0]


def _same(one: str, other: str) -> bool:
    def address(url: str) -> str:
        return urlsplit(url if "://" in url else f"https://{url}").netloc.lower().removesuffix(":443")

    return address(one) == address(other)
