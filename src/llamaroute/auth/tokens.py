"""Tokens that a credential is exchanged for: cached, renewed ahead of their end, fetched once however many calls wait.

A module per vendor gives `CachedToken` a `fetch`; everything about when to fetch is here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import field, replace
from math import inf
from typing import TypeVar

from ..errors import AuthenticationError, LlamarouteError, ProviderError
from ..spi import WireRequest, WireResponse
from ..types.dataclass import dataclass

__all__ = ["CachedToken", "Token", "bearer_header", "within"]

T = TypeVar("T")

AHEAD = 300.0
"""Seconds before a token's end at which the next one is fetched, while the old one still serves all other calls.
Google's and Azure's own libraries renew 225 and 300 seconds ahead."""
MARGIN = 15.0
"""Seconds before its end at which a token is not sent any more: a request may be under way that long."""
AGAIN = 30.0
"""Seconds to the next try when renewing ahead failed."""
SHORTEST = 60.0
"""Seconds a token just fetched is used at least, whatever its end says: where this machine's clock is ahead of the
issuer's, each token seems to have ended already, and every call would fetch one."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a fetch gives: headers to send, and the moment (seconds since the epoch) until which they are good.

    `expires` None is a token whose end is not known: it serves until it is refused.
    """

    headers: dict[str, str] = field(repr=False)
    expires: float | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that must not show in a message, should a host echo them."""


def bearer_header(token: str, expires: float | None = None, **more: str) -> Token:
    """A token sent as `Authorization: Bearer`, with more headers beside it."""
    return Token({"authorization": f"Bearer {token}", **more}, expires, (token,))


class CachedToken:
    """An `Auth` over a function that fetches tokens.

    Args:
        fetch: gets a fresh token; may block; raises a `ProviderError` or a `ConfigError` that names the remedy.
        provider: the account's name, for messages.
        rejected: tells from a refusal (401 or 403) whether it is the token that was refused.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        fetch: Callable[[], Token],
        *,
        provider: str,
        rejected: Callable[[WireResponse], bool] = lambda response: response.status == 401,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._provider = provider
        self._rejected = rejected
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._renew_at = -inf
        self._ends = -inf
        self._fetches = 0
        self._failure: LlamarouteError | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not show in a message."""
        token = self._token
        return () if token is None else token.secrets

    def stale(self, now: float) -> bool:
        """Whether there is no token, or it is time for the next one."""
        return now >= self._renew_at

    def refresh(self) -> None:
        """Fetch a token, unless another call has done so meanwhile.

        While the old token still serves, nobody waits for the fetch but the call that makes it, and a fetch that fails
        is tried again later. Without one, all calls wait for a single fetch, and share its failure.

        Raises:
            ProviderError, ConfigError: as `fetch` raised it.
        """
        seen = self._fetches
        usable = self._usable()
        if not self._lock.acquire(blocking=not usable):
            return
        try:
            if not self.stale(self._clock()):
                return
            if self._fetches != seen and self._failure is not None and not usable:
                raise _again(self._failure)
            self._renew(usable)
        finally:
            self._lock.release()

    def _usable(self) -> bool:
        return self._clock() < self._ends

    def _renew(self, usable: bool) -> None:
        failure: LlamarouteError | None = None
        try:
            token = self._fetch()
        except LlamarouteError as error:
            failure = error
        except Exception as error:
            # An SDK's exception may hold the credential; its type and first line are what helps.
            line = (str(error).strip().splitlines() or [""])[0]
            failure = AuthenticationError(
                f"no token could be had: {type(error).__name__}: {line[:300]}", provider=self._provider
            )
        else:
            now = self._clock()
            self._set(token, now)
        self._fetches += 1
        self._failure = failure
        if failure is None:
            return
        if usable:
            self._renew_at = min(self._clock() + AGAIN, self._ends)
            return
        raise failure

    def _set(self, token: Token, now: float) -> None:
        end = inf if token.expires is None else max(token.expires - MARGIN, now + SHORTEST)
        # A short-lived token is renewed in the last fifth of its life rather than at once.
        self._renew_at = end if end == inf else max(end - AHEAD, now + (end - now) * 0.8)
        self._ends = end
        self._token = token

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        """Drop the token if it is the one that was refused."""
        if not self._rejected(response):
            return False
        with self._lock:
            token = self._token
            if token is not None and all(request.headers.get(k) == v for k, v in token.headers.items()):
                # It stays until the next one is there: a call between its refresh and its signing has one to send.
                self._renew_at = self._ends = -inf
        return True

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        """The request with the token's headers."""
        token = self._token
        assert token is not None, "refresh() comes first"
        return replace(request, headers={**request.headers, **token.headers})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._provider})"


def within(seconds: float, work: Callable[[], T], late: Callable[[], LlamarouteError]) -> T:
    """What `work` returns or raises; it runs in a thread of its own, which is left behind when it takes too long.

    Raises:
        LlamarouteError: `late()`, when the time is over.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="llamaroute-login", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise late()
    return done[0]


def _again(error: LlamarouteError) -> LlamarouteError:
    """The same error for another call: what a pipeline writes on one of them must not show on the other."""
    twin = type(error).__new__(type(error), *error.args)
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    if isinstance(twin, ProviderError):
        twin.attempts = ()
    return twin
