"""Every error a caller can see.

    LlamarouteError
    ├── ConfigError                      the config file, its variables or secrets
    ├── InputError (ValueError)          a bad argument, file or image
    ├── PolicyError                      a licence, residency or budget rule said no; no byte left
    ├── CapabilityError                  no configured target can serve the request; no byte left
    ├── ProviderError                    a provider said no, or could not be heard
    │   ├── AuthenticationError          who are you? (401)
    │   ├── PermissionDeniedError        you may not (403)
    │   ├── NotFoundError                no such model, deployment or route (404)
    │   │   └── ModelRetiredError        there was one
    │   ├── InvalidRequestError          the host does not take this request (400, 422)
    │   │   └── ContextLengthError       it is too long for the model as served
    │   ├── ContentFilterError           the host's filter stopped it
    │   ├── PayloadTooLargeError         too many bytes (413)
    │   ├── RateLimitError               too fast (429), or our own queue is full
    │   ├── QuotaExhaustedError          the budget there is used up: waiting a little does not help
    │   ├── OverloadedError              no capacity now (503, 529)
    │   ├── ServerError                  the host broke (5xx)
    │   ├── TimeoutError                 time ran out; `.phase` says in which phase
    │   ├── ConnectionError              no connection, or it broke before the answer began
    │   ├── ProtocolError                what came is not what the contract says
    │   └── StreamInterruptedError       the answer broke off after it began; `.partial` has what came
    ├── AllTargetsFailedError            several targets were tried (an ExceptionGroup, one exception per attempt)
    ├── OutputValidationError            the model's JSON does not fit `output=`
    └── ToolError                        a tool raised, and was told to stop the loop

`retryable` says whether the same target may be asked again, `failover` whether another target may do better. Both are
class defaults that an adapter overrides where a host's code says more.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from decimal import Decimal
    from typing import Self

    from .types.parts import ToolCall
    from .types.response import Attempt, ChatResponse, Phase
    from .types.run import RunResult

__all__ = [
    "AllTargetsFailedError",
    "AuthenticationError",
    "CapabilityError",
    "ConfigError",
    "ConnectionError",
    "ContentFilterError",
    "ContextLengthError",
    "InputError",
    "InvalidRequestError",
    "LlamarouteError",
    "ModelRetiredError",
    "NotFoundError",
    "OutputValidationError",
    "OverloadedError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "PolicyError",
    "ProtocolError",
    "ProviderError",
    "QuotaExhaustedError",
    "RateLimitError",
    "ServerError",
    "StreamInterruptedError",
    "TimeoutError",
    "ToolError",
]


class LlamarouteError(Exception):
    """Base of all errors of this library.

    Attributes:
        run: of a tool loop, what it had done until then: its `messages` go on from there. None everywhere else.
    """

    run: RunResult[Any] | None = None

    def __reduce__(self) -> Any:
        # The default calls the class with `args` alone and so loses keyword-only fields, and an OSError's message.
        # Errors cross process borders in worker pools, so they pickle whole.
        arguments = (self.message, self.exceptions) if isinstance(self, ExceptionGroup) else self.args
        return _rebuild, (type(self), arguments, self.__dict__)


def _rebuild(cls: type[LlamarouteError], arguments: tuple[Any, ...], state: dict[str, Any]) -> LlamarouteError:
    error = cls.__new__(cls, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error


class ConfigError(LlamarouteError):
    """The configuration is wrong. The message names the file, the key and the nearest valid name.

    Attributes:
        file: the config file, or None when there was none.
        key: dotted path of the key, such as `providers.work.endpoint`.
    """

    def __init__(self, message: str, *, file: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.key = key


class InputError(LlamarouteError, ValueError):
    """An argument, a file or an image cannot be used. Nothing was sent."""


class PolicyError(LlamarouteError):
    """A licence, residency or budget rule of the configuration forbids the call. Nothing was sent to the target.

    Attributes:
        rule: key of the rule, such as `policy.regions` or `routes.chat.policy.budget.usd_per_day`.
        target: target it forbids.
        limit, spent, cost: of a budget, US dollars: what may be spent, what is spent or set aside for calls under way,
            and what the call would cost at most.
    """

    def __init__(
        self,
        message: str,
        *,
        rule: str = "",
        target: str | None = None,
        limit: Decimal | None = None,
        spent: Decimal | None = None,
        cost: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        self.rule, self.target = rule, target
        self.limit, self.spent, self.cost = limit, spent, cost


class CapabilityError(LlamarouteError):
    """No configured target can serve this request. Nothing was sent.

    Attributes:
        missing: target name to what it lacks.
        could_serve: configured targets that could serve it, if named as `model=`.
    """

    def __init__(self, message: str, *, missing: dict[str, str] | None = None, could_serve: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = missing or {}
        self.could_serve = tuple(could_serve)


class ProviderError(LlamarouteError):
    """A provider refused the request, failed, or could not be reached.

    Attributes:
        provider: account name; `target` is `provider:model`, `model` the canonical name.
        status: HTTP status, or None when no answer came.
        code: the host's own error code, as text.
        request_id: the host's id of the request.
        retry_after: seconds the host asks to wait, or None.
        phase: in which phase it broke, for timeouts and broken connections.
        retryable: whether the same target may be asked again.
        failover: whether another target may be asked instead.
        raw: the host's error body, JSON or text.
        attempts: every attempt made for the call.
    """

    default_retryable: ClassVar[bool] = False
    default_failover: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        target: str | None = None,
        model: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        phase: Phase | None = None,
        retryable: bool | None = None,
        failover: bool | None = None,
        raw: Any = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.target = target
        self.model = model
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.phase = phase
        self.retryable = self.default_retryable if retryable is None else retryable
        self.failover = self.default_failover if failover is None else failover
        self.raw = raw
        self.attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else type(self).__name__
        about = [
            f"{name} {value}"
            for name, value in (("status", self.status), ("code", self.code), ("request id", self.request_id))
            if value is not None
        ]
        head = f"{self.target}: " if self.target else ""
        return f"{head}{text} ({', '.join(about)})" if about else f"{head}{text}"


class AuthenticationError(ProviderError):
    """The host does not know the key or token."""

    default_failover = True


class PermissionDeniedError(ProviderError):
    """The key is known but may not do this."""

    default_failover = True


class NotFoundError(ProviderError):
    """The host has no such model, deployment or route."""

    default_failover = True


class ModelRetiredError(NotFoundError):
    """The model was there and is not any more."""


class InvalidRequestError(ProviderError):
    """The host does not take this request as it is."""


class ContextLengthError(InvalidRequestError):
    """The request is longer than the window the host serves.

    Attributes:
        limit: tokens the host takes, if it said so.
        tokens: tokens the request has, if it said so.
    """

    default_failover = True
    limit: int | None = None
    tokens: int | None = None


class ContentFilterError(ProviderError):
    """The host's content filter stopped the request or the answer."""


class PayloadTooLargeError(ProviderError):
    """The request has too many bytes for the host."""

    default_failover = True


class RateLimitError(ProviderError):
    """Too many requests or tokens; waiting helps."""

    default_retryable = True
    default_failover = True


class QuotaExhaustedError(ProviderError):
    """The account's quota or credit is used up; waiting a little does not help."""

    default_failover = True


class OverloadedError(ProviderError):
    """The host has no capacity right now, or is still loading the model."""

    default_retryable = True
    default_failover = True


class ServerError(ProviderError):
    """The host broke."""

    default_retryable = True
    default_failover = True


class TimeoutError(ProviderError, builtins.TimeoutError):
    """Time ran out; `.phase` says in which phase. Also a builtin `TimeoutError`."""

    default_retryable = True
    default_failover = True


class ConnectionError(ProviderError, builtins.ConnectionError):
    """No connection, or it broke before the answer began. Also a builtin `ConnectionError`."""

    default_retryable = True
    default_failover = True


class ProtocolError(ProviderError):
    """What came is not what the host's contract says: not JSON, a wrong content type, a broken frame."""

    default_failover = True


class StreamInterruptedError(ProviderError):
    """A stream broke off after the answer had begun; it is never silently retried.

    Attributes:
        partial: the answer so far, as a `ChatResponse` with `finish_reason="interrupted"`.
    """

    partial: ChatResponse[Any] | None = None


class AllTargetsFailedError(LlamarouteError, ExceptionGroup[ProviderError]):
    """Several targets were tried and none answered: one exception per failed attempt, in order.

    Attributes:
        last: the last decisive error.
        attempts: every attempt made for the call.
    """

    attempts: tuple[Attempt, ...] = ()

    def __new__(cls, message: str, errors: Sequence[ProviderError]) -> Self:
        self = super().__new__(cls, message, errors)
        self.attempts = errors[-1].attempts if errors else ()
        return self

    @property
    def last(self) -> ProviderError:
        """The last decisive error."""
        return self.exceptions[-1]  # type: ignore[return-value]

    def derive(self, errors: Sequence[ProviderError], /) -> AllTargetsFailedError:  # type: ignore[override]
        """A group of some of the errors (`except*` and `split` use this)."""
        return AllTargetsFailedError(self.message, errors)


class OutputValidationError(LlamarouteError):
    """The model's answer does not fit `output=`, also after `output_retries` repairs.

    Attributes:
        reply: the last answer.
        errors: what is wrong with it, one line each.
    """

    def __init__(self, message: str, *, reply: ChatResponse[Any] | None = None, errors: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reply = reply
        self.errors = tuple(errors)


class ToolError(LlamarouteError):
    """A tool raised and `run` was told to stop (`__cause__` is what it raised), or the model's calls do not fit the
    tools, also after `output_retries` repairs.

    Attributes:
        call: the call it is about.
    """

    def __init__(self, message: str, *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.call = call
