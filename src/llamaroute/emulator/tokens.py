"""Access tokens that the emulated token services issue and the emulated hosts accept."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

__all__ = ["Token", "Tokens"]

State = Literal["valid", "expired", "revoked", "wrong-audience", "unknown"]


@dataclass(frozen=True, slots=True)
class Token:
    """One issued token.

    audiences: what it is good for: OAuth scopes, or the resources of other token services.
    subject: whom it stands for.   life: seconds it was issued for.   expires: `time.time()` of its end.
    """

    text: str
    audiences: frozenset[str]
    subject: str
    life: float
    expires: float


class Tokens:
    """All tokens of one emulator. `life`: seconds a token lives unless told otherwise; it may be changed at any
    time."""

    def __init__(self, life: float = 3600.0) -> None:
        self.life = life
        self._lock = threading.Lock()
        self._issued: dict[str, Token] = {}
        self._revoked: set[str] = set()

    def issue(
        self, audiences: str | Collection[str], *, life: float | None = None, subject: str = "", prefix: str = "",
        text: str | None = None,
    ) -> Token:  # fmt: skip
        """A new token for one audience or several. It is random, behind `prefix`, unless `text` gives it."""
        wanted = {audiences} if isinstance(audiences, str) else audiences
        seconds = self.life if life is None else life
        made = prefix + secrets.token_urlsafe(48) if text is None else text
        token = Token(made, frozenset(wanted), subject, seconds, time.time() + seconds)
        with self._lock:
            self._issued[made] = token
            self._revoked.discard(made)
        return token

    def find(self, text: str) -> Token | None:
        """The issued token with this text, whatever has become of it."""
        with self._lock:
            return self._issued.get(text)

    def state(self, text: str, audience: str) -> State:
        """What a host that answers for `audience` thinks of the token."""
        with self._lock:
            token = self._issued.get(text)
            if token is None:
                return "unknown"
            if text in self._revoked:
                return "revoked"
        if time.time() >= token.expires:
            return "expired"
        return "valid" if audience in token.audiences else "wrong-audience"

    def valid(self, text: str, audience: str) -> bool:
        """Whether the token opens a host that answers for `audience`."""
        return self.state(text, audience) == "valid"

    def revoke_all(self) -> None:
        """No token issued so far is accepted any more."""
        with self._lock:
            self._revoked.update(self._issued)
