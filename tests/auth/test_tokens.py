"""When a token is fetched: by hand with a clock of the test's own, then by a thousand callers at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from llamaroute.auth.tokens import AGAIN, AHEAD, MARGIN, SHORTEST, CachedToken, Token, bearer_header, within
from llamaroute.errors import AuthenticationError, ConfigError, ConnectionError
from llamaroute.spi import WireRequest, WireResponse

NOW = 1_800_000_000.0
WIRE = WireRequest("POST", "https://host/v1", {"content-type": "application/json"}, b"{}")
REFUSED = WireResponse(401, {}, b"")


@dataclass
class Issuer:
    """Hands out tokens `t1`, `t2`, ... and counts."""

    life: float | None = 3600.0
    now: float = NOW
    failure: Exception | None = None
    fetches: int = 0
    during: Callable[[], None] = lambda: None
    auth: CachedToken = field(init=False)

    def __post_init__(self) -> None:
        self.auth = CachedToken(self.fetch, provider="work", clock=lambda: self.now)

    def fetch(self) -> Token:
        self.fetches += 1
        self.during()
        if self.failure is not None:
            raise self.failure
        return bearer_header(f"t{self.fetches}", None if self.life is None else self.now + self.life)

    def sign(self) -> str:
        """What a call does before it sends."""
        if self.auth.stale(self.now):
            self.auth.refresh()
        return self.auth.sign(WIRE, self.now).headers["authorization"]


def test_a_token_serves_until_it_is_time_for_the_next():
    issuer = Issuer()
    assert [issuer.sign(), issuer.sign()] == ["Bearer t1", "Bearer t1"]
    issuer.now = NOW + 3600 - MARGIN - AHEAD - 1
    assert issuer.sign() == "Bearer t1"
    issuer.now += 1
    assert issuer.sign() == "Bearer t2"
    assert issuer.fetches == 2


def test_signing_adds_headers_and_changes_nothing_else():
    issuer = Issuer()
    issuer.sign()
    signed = issuer.auth.sign(WIRE, NOW)
    assert signed.headers == {"content-type": "application/json", "authorization": "Bearer t1"}
    assert (signed.method, signed.url, signed.body) == (WIRE.method, WIRE.url, WIRE.body)
    assert dict(WIRE.headers) == {"content-type": "application/json"}


def test_a_token_without_an_end_serves_until_it_is_refused():
    issuer = Issuer(life=None)
    issuer.sign()
    issuer.now = NOW + 1e9
    assert issuer.sign() == "Bearer t1"
    assert issuer.auth.reject(issuer.auth.sign(WIRE, issuer.now), REFUSED, issuer.now)
    assert issuer.sign() == "Bearer t2"


def test_a_short_lived_token_is_not_renewed_at_once():
    issuer = Issuer(life=200)
    issuer.sign()
    issuer.now = NOW + 100
    assert issuer.sign() == "Bearer t1"
    issuer.now = NOW + 150
    assert issuer.sign() == "Bearer t2"


@pytest.mark.parametrize("life", [-7200.0, 0.0, 5.0])
def test_a_fresh_token_that_seems_to_have_ended_serves_all_the_same(life):
    """This machine's clock is ahead of the issuer's: without this, each call would fetch one."""
    issuer = Issuer(life=life)
    issuer.sign()
    issuer.now = NOW + SHORTEST * 0.7
    assert issuer.sign() == "Bearer t1"
    issuer.now = NOW + SHORTEST
    assert issuer.sign() == "Bearer t2"


def test_a_clock_that_is_behind_is_mended_by_the_refusal():
    issuer = Issuer()
    sent = WireRequest("POST", WIRE.url, {"authorization": issuer.sign()})
    assert issuer.auth.reject(sent, REFUSED, issuer.now)
    assert issuer.sign() == "Bearer t2"


def test_a_refusal_of_an_old_token_leaves_the_new_one():
    """A thousand calls come back with 401 for the same token: the first renews, the others send the new one."""
    issuer = Issuer()
    sent = WireRequest("POST", WIRE.url, {"authorization": issuer.sign()})
    assert issuer.auth.reject(sent, REFUSED, issuer.now)
    issuer.sign()
    assert all(issuer.auth.reject(sent, REFUSED, issuer.now) for _ in range(1000))
    assert issuer.sign() == "Bearer t2"
    assert issuer.fetches == 2


def test_what_counts_as_refused_is_the_hosts_business():
    issuer = Issuer()
    assert not issuer.auth.reject(WIRE, WireResponse(403, {}), NOW)
    other = CachedToken(issuer.fetch, provider="w", rejected=lambda r: r.status == 403 and b"Invalid" in r.body)
    assert other.reject(WIRE, WireResponse(403, {}, b"Invalid access token"), NOW)
    assert not other.reject(WIRE, WireResponse(403, {}, b"no permission"), NOW)


def test_renewing_ahead_that_fails_is_tried_again_later():
    issuer = Issuer()
    issuer.sign()
    issuer.now = NOW + 3600 - MARGIN - AHEAD
    issuer.failure = ConnectionError("the issuer is away")
    assert issuer.sign() == "Bearer t1"
    assert issuer.sign() == "Bearer t1"
    assert issuer.fetches == 2, "not with every call"
    issuer.now += AGAIN
    issuer.failure = None
    assert issuer.sign() == "Bearer t3"


def test_at_the_end_the_failure_is_the_calls():
    issuer = Issuer()
    issuer.sign()
    issuer.now = NOW + 3600
    issuer.failure = ConnectionError("the issuer is away", retryable=True)
    with pytest.raises(ConnectionError, match="away"):
        issuer.sign()


def test_while_one_renews_ahead_nobody_waits():
    issuer = Issuer()
    issuer.sign()
    issuer.now = NOW + 3600 - MARGIN - AHEAD
    seen: list[str] = []
    issuer.during = lambda: seen.append(issuer.sign())  # another call, in the middle of the fetch
    assert issuer.sign() == "Bearer t2"
    assert seen == ["Bearer t1"]
    assert issuer.fetches == 2


def test_a_foreign_exception_becomes_ours_and_says_little():
    issuer = Issuer(failure=RuntimeError("invalid_client: no such client\nclient_secret=abc"))
    with pytest.raises(AuthenticationError) as caught:
        issuer.sign()
    assert "RuntimeError: invalid_client: no such client" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.provider == "work"


def test_configuration_errors_pass():
    with pytest.raises(ConfigError, match="set tenant_id"):
        Issuer(failure=ConfigError("set tenant_id")).sign()


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """`work` in so many threads at once; what each gave or raised."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def one(index: int) -> None:
        start.wait()
        try:
            results[index] = work(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_many_threads_fetch_once():
    issuer = Issuer(during=lambda: time.sleep(0.05))
    assert set(together(200, lambda index: issuer.sign())) == {"Bearer t1"}
    assert issuer.fetches == 1


def test_many_threads_share_a_failure():
    issuer = Issuer(failure=AuthenticationError("wrong secret"), during=lambda: time.sleep(0.2))
    errors = together(100, lambda index: issuer.sign())
    assert {type(error) for error in errors} == {AuthenticationError}
    assert len({id(error) for error in errors}) == 100, "each call has an error of its own to write on"
    assert issuer.fetches < 5, "those that came during the fetch did not ask again"


def test_a_thousand_tasks_fetch_once():
    issuer = Issuer(during=lambda: time.sleep(0.05))

    async def call() -> str:
        if issuer.auth.stale(issuer.now):
            await asyncio.to_thread(issuer.auth.refresh)
        return issuer.auth.sign(WIRE, issuer.now).headers["authorization"]

    async def main() -> set[str]:
        return set(await asyncio.gather(*(call() for _ in range(1000))))

    assert asyncio.run(main()) == {"Bearer t1"}
    assert issuer.fetches == 1


def test_neither_the_token_nor_its_auth_shows_secrets():
    issuer = Issuer()
    issuer.sign()
    assert issuer.auth.secrets == ("t1",)
    assert "t1" not in repr(issuer.auth)
    assert "t1" not in repr(bearer_header("t1"))


def test_work_within_its_time():
    assert within(5, lambda: 42, lambda: ConfigError("late")) == 42
    with pytest.raises(KeyError, match="mine"):
        within(5, lambda: {}["mine"], lambda: ConfigError("late"))


def test_work_that_is_late_is_left_behind():
    go_on = threading.Event()
    with pytest.raises(ConfigError, match="late"):
        within(0.01, lambda: go_on.wait(5), lambda: ConfigError("late"))
    go_on.set()
