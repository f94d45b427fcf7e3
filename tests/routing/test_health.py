"""Circuits: what opens them and for how long, who may try, and what closes them. The moment is a number."""

from __future__ import annotations

import pytest

from llamaroute import errors as e
from llamaroute.routing.health import (
    BROKEN,
    FORBIDDEN,
    GONE,
    LIMITED,
    PATIENCE,
    SOON,
    SPARE,
    THRESHOLD,
    TRY,
    USED_UP,
    Admission,
    Health,
)
from llamaroute.spi import ProviderSettings, Target
from llamaroute.types.capability import ModelRow

NOW = 1000.0
ME, YOU = object(), object()


class Fixed:
    """Dice that always fall the same way."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def target(name: str = "a:m") -> Target:
    provider, _, model = name.partition(":")
    return Target(provider, "test", model, model, ProviderSettings(kind="test"), ModelRow(model, model))


A, B, SIBLING = target(), target("b:m"), target("a:n")


def broken(health: Health, now: float = NOW, times: int = THRESHOLD) -> None:
    for _ in range(times):
        health.failed(A, e.ServerError("no"), now)


def cooling(health: Health, now: float, about: Target = A) -> float:
    """Seconds for which it cools."""
    until = health.admit(about, now, object()).until
    return max(0.0, until - now)


# -- what opens a circuit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        e.ServerError("no"),
        e.OverloadedError("no"),
        e.ConnectionError("no"),
        e.TimeoutError("no", phase="first_token"),
        e.TimeoutError("no", phase="total"),
        e.ProtocolError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_in_a_row_open_it(error: e.ProviderError) -> None:
    health = Health(Fixed())
    for _ in range(THRESHOLD - 1):
        health.failed(A, error, NOW)
        assert cooling(health, NOW) == 0
    health.failed(A, error, NOW)
    assert cooling(health, NOW) == BROKEN.first
    assert cooling(health, NOW, B) == cooling(health, NOW, SIBLING) == 0


def test_an_answer_between_starts_the_row_anew() -> None:
    health = Health(Fixed())
    broken(health, times=THRESHOLD - 1)
    health.answered(A)
    broken(health, times=THRESHOLD - 1)
    assert cooling(health, NOW) == 0


@pytest.mark.parametrize(
    ("error", "pace", "all_of_the_account"),
    [
        (e.RateLimitError("no"), LIMITED, False),
        (e.AuthenticationError("no"), FORBIDDEN, True),
        (e.PermissionDeniedError("no"), FORBIDDEN, False),
        (e.QuotaExhaustedError("no"), USED_UP, True),
        (e.NotFoundError("no"), GONE, False),
        (e.ModelRetiredError("no"), GONE, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_one_is_enough_where_the_next_would_fail_alike(error, pace, all_of_the_account) -> None:
    health = Health(Fixed())
    health.failed(A, error, NOW)
    assert cooling(health, NOW) == pace.first
    assert cooling(health, NOW, SIBLING) == (pace.first if all_of_the_account else 0)
    assert cooling(health, NOW, B) == 0
    assert health.admit(A, NOW, ME).reason == type(error).__name__


@pytest.mark.parametrize(
    "error",
    [
        e.InvalidRequestError("no"),
        e.ContextLengthError("no"),
        e.ContentFilterError("no"),
        e.PayloadTooLargeError("no"),
        e.RateLimitError("own queue", phase="queue"),
        e.TimeoutError("getting ready", phase="total", failover=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_targets_fault_opens_nothing(error: e.ProviderError) -> None:
    health = Health(Fixed())
    for _ in range(3 * THRESHOLD):
        health.failed(A, error, NOW)
    assert cooling(health, NOW) == 0


def test_a_target_that_refuses_a_request_is_there() -> None:
    health = Health(Fixed())
    broken(health)
    health.failed(A, e.InvalidRequestError("no"), NOW + 60)
    assert health.admit(A, NOW + 60, ME) == Admission()


# -- for how long -----------------------------------------------------------------------------------------------------


def test_each_further_time_in_a_row_lasts_twice_as_long_up_to_a_limit() -> None:
    health = Health(Fixed())
    now, lasted = NOW, []
    broken(health, now)
    for _ in range(8):
        lasted.append(cooling(health, now))
        now += lasted[-1]
        health.failed(A, e.ServerError("no"), now)  # the one that tried
    assert lasted == [5, 10, 20, 30, 30, 30, 30, 30]


def test_failures_of_calls_that_were_under_way_do_not_prolong_it() -> None:
    health = Health(Fixed())
    broken(health, times=50)
    assert cooling(health, NOW) == BROKEN.first
    for _ in range(50):
        health.failed(A, e.AuthenticationError("no"), NOW)
    assert cooling(health, NOW) == FORBIDDEN.first


@pytest.mark.parametrize("error", [e.RateLimitError, e.OverloadedError, e.QuotaExhaustedError])
def test_a_hosts_own_time_counts(error: type[e.ProviderError]) -> None:
    health = Health(Fixed())
    health.failed(A, error("no", retry_after=7.5), NOW)
    assert cooling(health, NOW) == 7.5
    health.failed(A, error("no", retry_after=30), NOW + 1)
    assert cooling(health, NOW + 1) == 30
    health.failed(A, error("no", retry_after=1), NOW + 2)
    assert cooling(health, NOW + 2) == 29, "a shorter one takes nothing back"


def test_a_host_that_goes_on_saying_when_to_come_back_is_broken_all_the_same() -> None:
    health = Health(Fixed())
    for count in range(1, THRESHOLD + 1):
        health.failed(A, e.OverloadedError("no", retry_after=2), NOW + 2 * count)
        assert health.targets["a:m"].half_open == (count == THRESHOLD)


def test_no_host_is_given_more_than_an_hour() -> None:
    health = Health(Fixed())
    health.failed(A, e.RateLimitError("no", retry_after=1e8), NOW)
    assert cooling(health, NOW) == 3600


def test_clients_come_back_at_different_times() -> None:
    first, last = Health(Fixed(0.0)), Health(Fixed(0.999))
    for health in (first, last):
        health.failed(A, e.RateLimitError("no", retry_after=100), NOW)
    assert cooling(first, NOW) == 100, "never before what the host asked for"
    assert cooling(last, NOW) == pytest.approx(125, abs=0.1)


# -- half open --------------------------------------------------------------------------------------------------------


def test_after_the_cooldown_one_call_at_a_time_tries() -> None:
    health = Health(Fixed())
    broken(health)
    later = NOW + BROKEN.first
    assert health.admit(A, later - 0.01, ME) == Admission(NOW + 5, True, "ServerError")
    assert health.admit(A, later, ME) == Admission(trial=True)
    assert health.admit(A, later, YOU).until == later + TRY
    assert health.cools(A, later)
    health.release(A, YOU)  # not the one who tries
    assert health.admit(A, later, YOU).until == later + TRY
    health.release(A, ME)  # cancelled, say: nothing came of it
    assert health.admit(A, later, YOU) == Admission(trial=True)


def test_an_answer_closes_it_for_all() -> None:
    health = Health(Fixed())
    broken(health)
    health.admit(A, NOW + 5, ME)
    health.answered(A)
    assert health.admit(A, NOW + 5, YOU) == Admission()


def test_a_failure_opens_it_again_at_once() -> None:
    health = Health(Fixed())
    broken(health)
    health.admit(A, NOW + 5, ME)
    health.failed(A, e.ServerError("no"), NOW + 6)
    health.release(A, ME)
    assert cooling(health, NOW + 6) == 2 * BROKEN.first


def test_where_others_answer_one_call_of_thirty_tries() -> None:
    health = Health(Fixed())
    broken(health)
    later = NOW + BROKEN.first
    health.answered(B)
    assert cooling(health, later) == SOON
    assert health.cools(A, later)
    for _ in range(SPARE - 2):
        health.answered(B)
        assert cooling(health, later) == SOON
    health.answered(B)
    assert health.admit(A, later, ME) == Admission(trial=True)
    health.release(A, ME)
    broken(health, later, times=1)
    again = later + 2 * BROKEN.first
    assert not health.cools(A, again), "since then, nobody has answered"
    health.answered(B)
    assert health.cools(A, again)


def test_where_calls_are_few_it_is_tried_in_the_end() -> None:
    health = Health(Fixed())
    broken(health)
    health.answered(B)
    assert cooling(health, NOW + BROKEN.first + PATIENCE - 1) == SOON
    assert cooling(health, NOW + BROKEN.first + PATIENCE) == 0


def test_a_rate_limit_waits_for_nobodys_answers() -> None:
    health = Health(Fixed())
    health.failed(A, e.RateLimitError("no"), NOW)
    health.answered(B)
    assert cooling(health, NOW + LIMITED.first) == 0


def test_one_that_tries_for_ever_does_not_keep_others_out_for_ever() -> None:
    health = Health(Fixed())
    broken(health)
    health.admit(A, NOW + 5, ME)
    assert health.admit(A, NOW + 5 + TRY, YOU) == Admission(trial=True)


def test_a_rate_limit_does_not_mend_what_is_broken() -> None:
    health = Health(Fixed())
    broken(health)
    health.failed(A, e.RateLimitError("no", retry_after=1), NOW + 5)
    assert health.admit(A, NOW + 6, ME) == Admission(trial=True)
    assert health.admit(A, NOW + 6, YOU).until == NOW + 6 + TRY


@pytest.mark.parametrize("begins", [True, False])
def test_an_answer_of_one_target_shows_that_the_account_is_well(begins: bool) -> None:
    health = Health(Fixed())
    health.failed(A, e.AuthenticationError("no"), NOW)
    assert cooling(health, NOW, SIBLING) == FORBIDDEN.first
    (health.began if begins else health.answered)(A)
    assert cooling(health, NOW, SIBLING) == 0


def test_others_failures_are_told_from_ones_own() -> None:
    health = Health(Fixed())
    broken(health, times=THRESHOLD - 1)
    assert not health.others_failed(A, 1), "the circuit is closed"
    broken(health, times=1)
    assert health.others_failed(A, THRESHOLD - 1)
    assert not health.others_failed(A, THRESHOLD)


def test_a_rate_limit_ends_without_a_trial() -> None:
    health = Health(Fixed())
    health.failed(A, e.RateLimitError("no", retry_after=3), NOW)
    assert health.admit(A, NOW, ME) == Admission(NOW + 3, False, "RateLimitError")
    assert health.admit(A, NOW + 3, ME) == Admission()
    assert health.admit(A, NOW + 3, YOU) == Admission()


def test_the_later_of_account_and_target_counts() -> None:
    health = Health(Fixed())
    broken(health)
    health.failed(SIBLING, e.AuthenticationError("no"), NOW)
    assert health.admit(A, NOW, ME) == Admission(NOW + FORBIDDEN.first, True, "AuthenticationError")


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_has_begun_lets_others_in_and_one_that_breaks_opens_it_again() -> None:
    health = Health(Fixed())
    broken(health)
    health.admit(A, NOW + 5, ME)
    health.began(A)
    assert health.admit(A, NOW + 5, YOU) == Admission()
    health.failed(A, e.ConnectionError("cut"), NOW + 9)
    assert cooling(health, NOW + 9) == 2 * BROKEN.first, "it has cooled before and not answered since"


def test_a_host_whose_streams_always_break_is_found_out() -> None:
    health = Health(Fixed())
    for _ in range(THRESHOLD):
        health.began(A)
        health.failed(A, e.ConnectionError("cut"), NOW)
    assert cooling(health, NOW) == BROKEN.first


# -- settings that change ---------------------------------------------------------------------------------------------


def test_an_account_whose_settings_change_starts_anew() -> None:
    health = Health(Fixed())
    health.failed(A, e.AuthenticationError("no"), NOW)
    broken(health)
    health.failed(B, e.NotFoundError("no"), NOW)
    health.forget("a")
    assert health.admit(A, NOW, ME) == Admission()
    assert cooling(health, NOW, B) == GONE.first
