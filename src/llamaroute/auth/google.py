"""Google's credentials: whatever google-auth can load becomes a bearer token that `tokens.CachedToken` keeps.

https://google-auth.readthedocs.io/ and https://cloud.google.com/docs/authentication/application-default-credentials

google-auth is asked for tokens over requests, its own transport: it retries, times out and mends clock skew in its own
way, and knows nothing of our client.
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from ..errors import AuthenticationError, ConfigError, ConnectionError, LlamarouteError, PermissionDeniedError
from ..spi import Auth, AuthSettings, WireRequest
from .base import StaticHeaders, header_value
from .tokens import CachedToken, Token

__all__ = ["GoogleToken", "google"]

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT = 30.0
"""Seconds for one exchange with a token service; google-auth's own default is 120."""
LIFE = 3600
"""Seconds of an impersonated token; the longest that needs no organisation policy."""
QUOTA_HEADER = "x-goog-user-project"
QUOTA_VARIABLE = "GOOGLE_CLOUD_QUOTA_PROJECT"
FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
NO_PROJECT = "/projects/-/"
"""In a URL, stands for the project that the credentials name; see `providers/vertex.py`."""
LOGIN = "gcloud auth application-default login"


def google(settings: AuthSettings) -> Auth:
    """The account's ready token, its live credential, its file, or what google-auth finds.

    Raises:
        ConfigError: the table says two things at once, or a thing that does not work here.
        ImportError: google-auth is not installed.
    """
    options: Any = settings.options
    name = f"providers.{settings.provider}"
    if options.api_key is not None:
        raise ConfigError(
            f"{name}.api_key: Vertex AI takes no API keys for these models; set access_token, credentials, or neither "
            f"(then google-auth looks for credentials itself)",
            key=f"{name}.api_key",
        )
    project = next((settings.env[key] for key in options.project_variables if settings.env.get(key)), None)
    quota = options.quota_project or settings.env.get(QUOTA_VARIABLE) or None
    if quota:
        quota = header_value(SecretStr(quota), settings, "quota_project")
    if options.access_token is not None:
        token = header_value(options.access_token, settings, "access_token")
        headers = {"authorization": f"Bearer {token}"}
        if quota:
            headers[QUOTA_HEADER] = quota
        return _ReadyToken(headers, token, project, settings.provider)
    _require("google.auth", "google-auth")
    _require("requests", "requests")
    live = options.live_credential
    if live is not None and _is_anonymous(live):
        return _ReadyToken({}, "", project, settings.provider)
    return GoogleToken(settings, live, project, quota)


def _require(module: str, package: str) -> None:
    """Look for a package without importing it: that takes half a second, and is left to the thread that refreshes."""
    from importlib.util import find_spec

    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # not even `google` is there
        found = None
    if found is None:
        raise ImportError(f"{package} is not installed", name=package)


def _module(name: str) -> Any:
    """A module of google-auth, which has no types."""
    return import_module(name)


def _is_anonymous(credentials: Any) -> bool:
    from google.auth.credentials import AnonymousCredentials

    return isinstance(credentials, AnonymousCredentials)


def _with_project(request: WireRequest, project: str | None, provider: str) -> WireRequest:
    """The request with the project in its URL that the account's table does not name."""
    if NO_PROJECT not in request.url:
        return request
    if not project:
        raise ConfigError(
            f"providers.{provider}.project: no project; set it, or GOOGLE_CLOUD_PROJECT (the credentials name none)",
            key=f"providers.{provider}.project",
        )
    return replace(request, url=request.url.replace(NO_PROJECT, f"/projects/{quote(project, safe=':')}/", 1))


class _ReadyToken(StaticHeaders):
    """A token that the user has got elsewhere, or none at all for a server that asks for none."""

    __slots__ = ("_project", "_provider")

    def __init__(self, headers: dict[str, str], token: str, project: str | None, provider: str) -> None:
        super().__init__(headers)
        self.secrets = (token,) if token else ()
        self._project = project
        self._provider = provider

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the headers and the project."""
        return super().sign(_with_project(request, self._project, self._provider), now)


class GoogleToken(CachedToken):
    """Tokens of a google-auth credential.

    Args:
        settings: the account.
        live: a credential object that the application has already.
        project: the project that the environment names; it wins over the one that the credential names.
        quota: the project that pays.
    """

    def __init__(self, settings: AuthSettings, live: Any, project: str | None, quota: str | None) -> None:
        super().__init__(self._fetch_mapped, provider=settings.provider)
        self._settings = settings
        self._live = live
        self._project = project
        self._quota = quota
        self._credentials: Any = None
        self._request: Callable[..., Any] | None = None

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the token and the project."""
        return super().sign(_with_project(request, self._project, self._provider), now)

    def _fetch_mapped(self) -> Token:
        """A fresh token; google-auth's exceptions do not get out."""
        from google.auth.exceptions import GoogleAuthError

        try:
            return self._fetch_token()
        except GoogleAuthError as error:
            failure = _mapped(error, self._settings)
        except (OSError, ValueError) as error:  # an unreadable file, a broken private key
            # The text of a ValueError may quote the file.
            what = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            failure = _no_credentials(self._settings, f"the credentials cannot be read ({what})")
        raise failure

    def _fetch_token(self) -> Token:
        first = self._credentials is None
        if self._request is None:
            self._request = _transport(self._settings)
        if first:
            self._credentials = self._load()
        credentials = self._credentials
        if not (first and credentials.valid):  # a live one may have a good token already
            credentials.refresh(self._request)
        headers: dict[str, str] = {}
        credentials.apply(headers)
        headers = {name.lower(): value for name, value in headers.items()}
        if self._quota:
            headers[QUOTA_HEADER] = self._quota
        expiry = credentials.expiry
        ends = (
            None if expiry is None else expiry.replace(tzinfo=datetime.UTC).timestamp()
        )  # it is UTC without saying so
        return Token(headers, ends, (credentials.token,))

    def _load(self) -> Any:
        options: Any = self._settings.options
        if self._live is not None:
            credentials, project = self._live, getattr(self._live, "project_id", None)
        else:
            credentials, project = _found(self._settings, self._request)
        credentials = _module("google.auth.credentials").with_scopes_if_required(credentials, SCOPES)
        if not self._project:
            self._project = project
        if options.impersonate is not None:
            credentials = _module("google.auth.impersonated_credentials").Credentials(
                source_credentials=credentials,
                target_principal=options.impersonate,
                target_scopes=list(SCOPES),
                lifetime=LIFE,
            )
        return credentials


def _transport(settings: AuthSettings) -> Callable[..., Any]:
    """google-auth's own transport, with the account's proxy and CA bundle."""
    import requests
    from google.auth.transport.requests import Request

    session = requests.Session()
    session.verify = settings.options.verify
    if settings.options.proxy:
        session.proxies = {"https": settings.options.proxy}  # the metadata server is asked by http, and is near
    return partial(Request(session), timeout=TIMEOUT)


def _found(settings: AuthSettings, request: Any) -> tuple[Any, ...]:
    """The credentials of the account's file, or those that application default credentials mean.

    An environment of the client's own decides over the process's, which google-auth reads by itself.
    """
    auth = _module("google.auth")
    options: Any = settings.options
    file = options.credentials
    if file is None and settings.env is not os.environ:
        file = settings.env.get(FILE_VARIABLE) or _gcloud_file(settings.env)
        if file is None:
            # What google.auth.default() does when there is no file, without its looks at the process's environment.
            metadata = _module("google.auth.compute_engine._metadata")
            if settings.env.get("NO_GCE_CHECK", "").lower() != "true" and metadata.is_on_gce(request=request):
                return _module("google.auth.compute_engine").Credentials(), metadata.get_project_id(request=request)
            raise auth.exceptions.DefaultCredentialsError("none were found")
    if file is None:
        return tuple(auth.default(scopes=SCOPES, request=request))
    with warnings.catch_warnings():
        # It warns that a file from a stranger may lead anywhere; this one is named by the user.
        warnings.simplefilter("ignore", DeprecationWarning)
        return tuple(auth.load_credentials_from_file(file, request=request))


def _gcloud_file(env: Mapping[str, str]) -> str | None:
    """Where `gcloud auth application-default login` puts its file.

    https://cloud.google.com/docs/authentication/application-default-credentials#personal
    """
    if env.get("CLOUDSDK_CONFIG"):
        folder = Path(env["CLOUDSDK_CONFIG"])
    elif os.name == "nt":
        folder = Path(env.get("APPDATA", "")) / "gcloud"
    elif env.get("HOME"):
        folder = Path(env["HOME"]) / ".config" / "gcloud"
    else:
        return None
    path = folder / "application_default_credentials.json"
    return str(path) if path.is_file() else None


def _no_credentials(settings: AuthSettings, what: str) -> ConfigError:
    options: Any = settings.options
    key = f"providers.{settings.provider}.credentials"
    if options.credentials is not None:
        return ConfigError(f"{key}: {options.credentials!r}: {what}", key=key)
    return ConfigError(
        f"providers.{settings.provider}: no Google credentials: {what}; run '{LOGIN}', or set credentials or "
        f"{FILE_VARIABLE} to the path of a credentials file",
        key=key,
    )


def _mapped(error: Exception, settings: AuthSettings) -> LlamarouteError:
    """google-auth's exception as ours, with what mends it. Its second argument holds the answer, and is left out."""
    from google.auth import exceptions

    # Only the first line: the rest is the token service's whole answer.
    text = (str(error.args[0] if error.args else error).strip().splitlines() or [type(error).__name__])[0][:500]
    who = settings.provider
    retryable = bool(getattr(error, "retryable", False))
    if isinstance(error, exceptions.DefaultCredentialsError):
        cause = str(error.args[1]) if len(error.args) > 1 else ""
        # What the file lacks is told by names alone; other causes may quote it.
        missing = cause[cause.find("missing fields") :].rstrip(".") if "missing fields" in cause else ""
        return _no_credentials(settings, f"{text.rstrip('.')}{f': {missing}' if missing else ''}")
    if isinstance(error, exceptions.TransportError | exceptions.TimeoutError):
        return ConnectionError(f"Google's token service was not reached: {text}", provider=who, phase="connect")
    if "reasonable timeframe" in text or "Token used too early" in text:
        return AuthenticationError(
            f"this machine's clock is wrong, so Google refuses what it signs: {text}; set the clock (NTP)", provider=who
        )
    if "impersonated" in text:
        options: Any = settings.options
        return PermissionDeniedError(
            f"no token for the service account {options.impersonate or 'to act as'}: {text}; the caller needs "
            "roles/iam.serviceAccountTokenCreator on it, and the project the API iamcredentials.googleapis.com",
            provider=who,
            retryable=retryable,
        )
    if isinstance(error, exceptions.ReauthFailError) or "invalid_grant" in text or "invalid_rapt" in text:
        return AuthenticationError(
            f"Google does not take the credentials any more: {text}; run '{LOGIN}'", provider=who
        )
    return AuthenticationError(f"no token from Google: {text}", provider=who, retryable=retryable)
