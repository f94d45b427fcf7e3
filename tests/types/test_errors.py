"""The tree of errors: what inherits what, what is printed, and that errors cross process borders whole."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.errors import (
    AllTargetsFailedError,
    CapabilityError,
    ConfigError,
    ContextLengthError,
    InputError,
    LlamarouteError,
    OutputValidationError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from llamaroute.types.response import Attempt, AttemptError, ChatResponse

CLASSES = [getattr(errors, name) for name in errors.__all__]
PROVIDER_ERRORS = [cls for cls in CLASSES if issubclass(cls, ProviderError)]

TREE = {
    "ConfigError": "LlamarouteError",
    "InputError": "LlamarouteError",
    "PolicyError": "LlamarouteError",
    "CapabilityError": "LlamarouteError",
    "ProviderError": "LlamarouteError",
    "AuthenticationError": "ProviderError",
    "PermissionDeniedError": "ProviderError",
    "NotFoundError": "ProviderError",
    "ModelRetiredError": "NotFoundError",
    "InvalidRequestError": "ProviderError",
    "ContextLengthError": "InvalidRequestError",
    "ContentFilterError": "ProviderError",
    "PayloadTooLargeError": "ProviderError",
    "RateLimitError": "ProviderError",
    "QuotaExhaustedError": "ProviderError",
    "OverloadedError": "ProviderError",
    "ServerError": "ProviderError",
    "TimeoutError": "ProviderError",
    "ConnectionError": "ProviderError",
    "ProtocolError": "ProviderError",
    "StreamInterruptedError": "ProviderError",
    "AllTargetsFailedError": "LlamarouteError",
    "OutputValidationError": "LlamarouteError",
    "ToolError": "LlamarouteError",
}


def test_the_tree():
    assert {cls.__name__: cls.__mro__[1].__name__ for cls in CLASSES if cls is not LlamarouteError} == TREE


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("TimeoutError", builtins.TimeoutError),
        ("ConnectionError", builtins.ConnectionError),
        ("AllTargetsFailedError", ExceptionGroup),
    ],
)
def test_builtins(name: str, builtin: type):
    assert issubclass(getattr(errors, name), builtin)


RETRYABLE = {"RateLimitError", "OverloadedError", "ServerError", "TimeoutError", "ConnectionError"}
STOPS = {"ProviderError", "InvalidRequestError", "ContentFilterError", "StreamInterruptedError"}


def test_which_are_retried_and_which_fail_over():
    assert {cls.__name__ for cls in PROVIDER_ERRORS if cls("x").retryable} == RETRYABLE
    assert {cls.__name__ for cls in PROVIDER_ERRORS if not cls("x").failover} == STOPS


@pytest.mark.parametrize("cls", PROVIDER_ERRORS)
def test_an_instance_may_say_otherwise(cls: type[ProviderError]):
    for value in (True, False):
        error = cls("x", retryable=value, failover=value)
        assert (error.retryable, error.failover) == (value, value)


@pytest.mark.parametrize("cls", PROVIDER_ERRORS)
def test_what_is_printed(cls: type[ProviderError]):
    assert str(cls("slow down")) == "slow down"
    full = cls("slow down", target="cf:m", status=429, code="3040", request_id="r1")
    assert str(full) == "cf:m: slow down (status 429, code 3040, request id r1)"
    assert full.args == ("slow down",)
    assert cls.__name__ in repr(full)
    assert "slow down" in repr(full)


def full(cls: type[Any]) -> Any:
    """An error with everything set that can be."""
    if cls is AllTargetsFailedError:
        inner = [full(RateLimitError), full(ServerError)]
        made = AllTargetsFailedError("none answered", inner)
        made.attempts = (Attempt("a:m", 429), Attempt("b:m", 500))
        return made
    if issubclass(cls, ProviderError):
        made = cls(
            "slow down", provider="a", target="a:m", model="m", status=429, code="c", request_id="r", retry_after=1.5,
            phase="idle", retryable=True, failover=True, raw={"error": [1]},
        )  # fmt: skip
        made.attempts = (Attempt("a:m", 429, AttemptError("X", "y")),)
        if cls is StreamInterruptedError:
            made.partial = ChatResponse[Any](text="so far", finish_reason="interrupted")
        if cls is ContextLengthError:
            made.limit, made.tokens = 10, 20
        return made
    match cls.__name__:
        case "ConfigError":
            return ConfigError("wrong", file="f.toml", key="a.b")
        case "CapabilityError":
            return CapabilityError("cannot", missing={"a:m": "tools"}, could_serve=["b:m"])
        case "OutputValidationError":
            return OutputValidationError("no fit", reply=ChatResponse[Any](text="x"), errors=["name: missing"])
    return cls("message")


def state(error: Any) -> Any:
    plain = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    inner = [state(one) for one in error.exceptions] if isinstance(error, ExceptionGroup) else None
    return type(error), str(error), error.args[:1], plain, inner


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "change",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in (2, 5)),
    ],
    ids=["copy", "deepcopy", "pickle-2", "pickle-5"],
)
def test_errors_survive_copies_and_process_borders(cls: type[LlamarouteError], change: Any):
    error = full(cls)
    again = change(error)
    assert again is not error
    assert state(again) == state(error)


def test_an_error_that_was_raised_survives_too():
    try:
        try:
            raise full(RateLimitError)
        except RateLimitError as error:
            raise full(AllTargetsFailedError) from error
    except AllTargetsFailedError as group:
        again = pickle.loads(pickle.dumps(group))
    assert again.last.status == 429
    assert again.attempts == (Attempt("a:m", 429), Attempt("b:m", 500))


def test_a_group_is_caught_by_kind():
    caught: list[Any] = []
    try:
        raise full(AllTargetsFailedError)
    except* RateLimitError as group:
        caught.append(group)
    except* ServerError as group:
        caught.append(group)
    assert [type(group) for group in caught] == [AllTargetsFailedError, AllTargetsFailedError]
    assert [type(group.last) for group in caught] == [RateLimitError, ServerError]


def test_a_group_is_one_of_ours():
    with pytest.raises(LlamarouteError):
        raise full(AllTargetsFailedError)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_says_what_it_is(cls: type):
    assert cls.__doc__
    assert InputError.__doc__ != cls.__doc__ or cls is InputError
