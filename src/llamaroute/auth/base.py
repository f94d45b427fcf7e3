"""Credentials that need no exchange: keys and tokens in a header.

Factories here are what a `ProviderSpec` names as its `auth`. Credentials that are exchanged for tokens have a module
each, over `tokens.CachedToken`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from ..errors import ConfigError
from ..spi import Auth, AuthSettings, WireRequest, WireResponse

__all__ = ["StaticHeaders", "bearer", "cloudflare", "header_value", "huggingface", "no_auth", "optional_bearer"]


class StaticHeaders:
    """Adds the same secret headers to every request."""

    __slots__ = ("_headers", "secrets")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self.secrets = tuple(value.removeprefix("Bearer ") for value in self._headers.values())
        """Texts that must not show in a message, should a host echo them."""

    def stale(self, now: float) -> bool:
        """Never: a key does not expire by the clock."""
        return False

    def refresh(self) -> None:
        """Nothing to do."""

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """A refused key stays refused."""
        return False

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the headers."""
        if not self._headers:
            return request
        headers = {**request.headers, **self._headers}
        return WireRequest(request.method, request.url, headers, request.body, request.warnings)

    def __repr__(self) -> str:
        return f"StaticHeaders({', '.join(self._headers)})"  # names only


def no_auth(settings: AuthSettings) -> Auth:
    """For engines in this process."""
    return StaticHeaders({})


def optional_bearer(settings: AuthSettings) -> Auth:
    """`Authorization: Bearer <api_key>` when the table has an `api_key`; many servers of one's own want none."""
    key = settings.options.api_key
    return StaticHeaders({"authorization": f"Bearer {header_value(key, settings)}"} if key else {})


def bearer(settings: AuthSettings) -> Auth:
    """`Authorization: Bearer <api_key>`.

    Raises:
        ConfigError: the table has no `api_key`.
    """
    return StaticHeaders({"authorization": f"Bearer {_required(settings)}"})


def cloudflare(settings: AuthSettings) -> Auth:
    """An API token, or the legacy global key with the account's e-mail address; and the gateway's own token."""
    options = settings.options
    email = getattr(options, "email", None)
    key = _required(settings)
    if email:
        email = header_value(SecretStr(email), settings, "email")
        headers = {"x-auth-email": email, "x-auth-key": key}
    else:
        headers = {"authorization": f"Bearer {key}"}
    gateway = getattr(options, "gateway", None)
    if gateway is not None and gateway.token is not None:
        headers["cf-aig-authorization"] = f"Bearer {header_value(gateway.token, settings, 'gateway.token')}"
    return StaticHeaders(headers)


def huggingface(settings: AuthSettings) -> Auth:
    """The table's token, else the one that Hugging Face's own tools use: environment, then the token file.

    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    options, env = settings.options, settings.env
    if options.api_key is not None:
        return bearer(settings)
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() not in ("1", "ON", "YES", "TRUE"):
        names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
        token = next((text for name in names if (text := env.get(name, "").strip())), None) or _token_file(env)
        if token:
            return StaticHeaders({"authorization": f"Bearer {header_value(SecretStr(token), settings)}"})
    if getattr(options, "url", None):
        return StaticHeaders({})  # a public endpoint
    raise ConfigError(
        f"providers.{settings.provider}: no api_key, and neither HF_TOKEN nor a token file was found; "
        "set api_key, HF_TOKEN, or run 'hf auth login'",
        key=f"providers.{settings.provider}.api_key",
    )


def _token_file(env: Mapping[str, str]) -> str | None:
    home = env.get("HF_HOME") or os.path.join(env.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface")
    try:
        return Path(env.get("HF_TOKEN_PATH") or Path(home) / "token").read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _required(settings: AuthSettings) -> str:
    key = settings.options.api_key
    if key is None or not key.get_secret_value().strip():
        raise ConfigError(
            f"providers.{settings.provider}: no api_key; set it, for example to a ${{VARIABLE}}",
            key=f"providers.{settings.provider}.api_key",
        )
    return header_value(key, settings)


def header_value(secret: SecretStr, settings: AuthSettings, name: str = "api_key") -> str:
    """The secret, checked to be one line of ASCII: an HTTP library's error for anything else would quote it."""
    value = secret.get_secret_value().strip()
    if not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"providers.{settings.provider}.{name} has characters that no HTTP header may hold "
            "(a line break, or not ASCII)",
            key=f"providers.{settings.provider}.{name}",
        )
    return value
