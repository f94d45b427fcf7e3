"""Asks the same target again, as a policy says.

tenacity is the policy, not the loop: this layer fills a `RetryCallState` with the call's own clock and asks the
policy's `.retry`, `.stop` and `.wait`; the sleeping is an operation of the plan. Users pass ordinary tenacity objects.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PolicyError, ProviderError, RateLimitError
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Plan, Sleep
from ..types.dataclass import dataclass
from ..types.events import Retrying
from ..types.response import Notice

if TYPE_CHECKING:
    from tenacity import BaseRetrying

__all__ = ["RetryPolicy", "retry"]


SPREAD = 0.25
"""Part of a `Retry-After` by which a client comes later, at most."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a target is asked again.

    Args:
        attempts: attempts in all, at least 1; 1 means no retry.
        base: seconds that the first wait may last; each further one may last twice as long. Waits are drawn evenly
            from 0 to that ("full jitter"), so that many clients do not come back together.
        max: seconds no wait exceeds. A host that asks for a longer one (`Retry-After`) is not waited for: the
            call fails over, or fails.
    """

    attempts: int = 3
    base: float = 0.5
    max: float = 20.0

    def __post_init__(self) -> None:
        whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool) and self.attempts >= 1
        if not whole or not 0 <= self.base < float("inf") or not self.max >= 0:
            raise InputError(f"{self}: attempts must be a whole number of at least 1, base and max seconds from 0")


@lru_cache(maxsize=64)
def _tenacity(policy: RetryPolicy) -> BaseRetrying:
    # Imported when a first attempt has failed: most processes never need it.
    import tenacity

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=tenacity.wait_random_exponential(multiplier=policy.base, max=policy.max),
        retry=tenacity.retry_if_exception(lambda error: getattr(error, "retryable", False)),
    )


def retry(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer."""
    policy = call.retry
    attempt = 0
    began = call.ledger.now
    failure: ProviderError | None = None
    while True:
        attempt += 1
        try:
            return (yield from handler(call))
        except PolicyError as forbidden:
            if failure is None:
                raise
            # What was asked has failed; that it may not be asked again is no news to tell instead.
            call.ledger.history.pop()
            call.ledger.notice(Notice("not_retried", f"{call.target.name} was not asked again: {forbidden}", "policy"))
            raise failure from None
        except ProviderError as error:
            failure = error
            call.ledger.blame(call.target, error)
            wait = _wait(policy, error, attempt, began, call)
            if wait is None or not _may(call, error, attempt):
                raise
            call.ledger.history.append(Retrying(call.ledger.attempts[-1]))
            yield Sleep(wait)


def _may(call: Call, error: ProviderError, failures: int) -> bool:
    """Whether the client may afford to ask this target again, after so many failures of this call there."""
    traffic = call.traffic
    if traffic is None or call.insists:
        return True
    if call.trial or traffic.health.others_failed(call.target, failures):
        return False
    if isinstance(error, RateLimitError) and error.retry_after:
        return True  # the host asks for it
    # Where another target is well, moving on is the better try, and what is in hand is not spent on this one.
    if traffic.budget.take(call.target.name, call.ledger.now, earned=call.more):
        return True
    if call.more:
        return False
    text = f"{call.target.name} was not asked again: too many of its answers of late were failures"
    call.ledger.notice(Notice("retry_budget", text, "routing"))
    return False


def _wait(policy: Any, error: ProviderError, attempt: int, began: float, call: Call) -> float | None:
    """Seconds to wait before the next attempt, or None to give up."""
    longest = float("inf")
    if isinstance(policy, RetryPolicy):
        if attempt >= policy.attempts or not error.retryable:
            return None
        longest = policy.max
        policy = _tenacity(policy)
    import tenacity

    state = tenacity.RetryCallState(policy, None, (), {})
    state.attempt_number = attempt
    state.start_time, state.outcome_timestamp = began, call.ledger.now
    state.outcome = tenacity.Future(attempt)
    state.outcome.set_exception(error)
    # tenacity's own default is to retry whatever is raised, wrong keys too; left at that, the error decides.
    unsaid = type(policy.retry) is tenacity.retry_if_exception_type and policy.retry.exception_types is Exception
    if not (error.retryable if unsaid else policy.retry(state)):
        return None
    # The order in which tenacity asks: stop conditions may look at the wait to come.
    wait = float(policy.wait(state)) if policy.wait else 0.0
    state.upcoming_sleep = wait
    if policy.stop(state):
        return None
    if error.retry_after is not None:
        if error.retry_after > longest:
            return None
        # Hosts tell many clients the same moment; those of ours that come back do so a little apart.
        apart = 0.0 if call.traffic is None else SPREAD * error.retry_after * call.traffic.dice.random()
        if call.deadline is not None:
            apart = min(apart, max(0.0, (call.deadline - call.ledger.now - error.retry_after) / 2))
        wait = max(wait, error.retry_after + apart)
    # Waiting past the call's end helps nobody: its error is better than a timeout.
    if call.deadline is not None and call.ledger.now + wait >= call.deadline:
        return None
    return wait
