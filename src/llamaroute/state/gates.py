"""The gates of all accounts: made once, kept when the configuration is read again."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from ..routing.gate import Gate, Limits, Shared

if TYPE_CHECKING:
    from ..config.models import LimitSettings, StateSettings
    from ..spi import ProviderSettings
    from .redis import RedisState

__all__ = ["Gates", "account_key"]

_NOT_THE_ACCOUNT = {"api_key", "headers", "timeout", "retry", "verify", "proxy", "features", "model", "models"}
"""Settings that say how an account is used rather than which one it is, or that hold secrets."""


def account_key(name: str, options: ProviderSettings) -> str:
    """What an account is called where several programs share its limits: by its name and a hash of which account it is
    (its host, project, region), in which nothing secret goes."""
    known: list[str] = []
    for field in sorted(type(options).model_fields):
        value = getattr(options, field)
        if field in _NOT_THE_ACCOUNT or value is None or isinstance(value, SecretStr | Mapping):
            continue
        text = re.sub(r"://[^/?#]*@", "://", str(value))
        known.append(f"{field}={re.sub(r'[?#].*', '', text)}")
    return f"{name}:{hashlib.sha256(chr(10).join(known).encode()).hexdigest()[:12]}"


class Gates:
    """Gates by account. `configure` is called by each configuration that comes into force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gates: dict[str, Gate] = {}
        self._limits: Mapping[str, LimitSettings] = {}
        self._state: RedisState | None = None
        self._url: StateSettings | None = None

    @property
    def state(self) -> RedisState | None:
        """The server that limits are shared through."""
        return self._state

    def configure(
        self,
        accounts: Mapping[str, ProviderSettings],
        limits: Mapping[str, LimitSettings],
        state: StateSettings | None,
    ) -> None:
        """New settings, for the calls that wait already as well.

        Raises:
            ConfigError: the server cannot be used: an extra is not installed, its URL is none.
        """
        with self._lock:
            old, made = None, self._state
            if state != self._url:
                old, made = self._state, None if state is None or state.url is None else _redis(state)
            self._state, self._url, self._limits = made, state, limits
            for name, options in accounts.items():
                key = account_key(name, options)
                if key in self._gates:
                    self._gates[key].configure(_limits(limits.get(name)), self._shared(key))
        if old is not None:
            old.close()

    def gate(self, name: str, options: ProviderSettings) -> Gate:
        """The gate of an account."""
        key = account_key(name, options)
        with self._lock:
            gate = self._gates.get(key)
            if gate is None:
                gate = self._gates[key] = Gate(_limits(self._limits.get(name)), threading.Lock())
                gate.shared = self._shared(key)
            return gate

    def _shared(self, key: str) -> Shared | None:
        if self._state is None:
            return None
        account = self._state.account(key)
        account.gate = self._gates[key]
        return account

    def close(self) -> None:
        """End what talks to the server."""
        if self._state is not None:
            self._state.close()


def _redis(settings: StateSettings) -> RedisState:
    from .redis import RedisState

    assert settings.url is not None
    return RedisState(settings.url.get_secret_value(), settings.prefix)


def _limits(settings: LimitSettings | None) -> Limits:
    if settings is None:
        return Limits()
    given: dict[str, Any] = {
        "requests": settings.requests_per_minute,
        "tokens": settings.tokens_per_minute,
        "concurrency": settings.concurrency,
        "queue": settings.queue,
        "max_wait": settings.max_wait,
        "adaptive": settings.adaptive,
        "reserve_max_tokens": settings.reserve_max_tokens,
    }
    return Limits(**given)
