"""Bedrock's errors: AWS's exceptions, where they are named, and what a ValidationException is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.providers.bedrock import SPEC
from llamaroute.spi import WireResponse
from tests.providers.wires import target_of

TARGET = target_of(SPEC, {"api_key": "k", "region": "us-east-1"})
ID = "8090a430-9830-442b-a193-749569a08e0f"
ON_DEMAND = (
    "Invocation of model ID meta.llama4-scout-17b-instruct-v1:0 with on-demand throughput isn’t supported. Retry your "  # noqa: RUF001
    "request with the ID or ARN of an inference profile that contains this model."
)


def mapped(status: int, name: str | None, body: Any, **headers: str) -> errors.ProviderError:
    given = {"content-type": "application/json", "x-amzn-requestid": ID, **headers}
    if name is not None:
        given["x-amzn-errortype"] = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SPEC.adapter.map_error(WireResponse(status, given, data), TARGET)


@pytest.mark.parametrize(
    ("status", "name", "cls", "retryable"),
    [
        (400, "ValidationException", errors.InvalidRequestError, False),
        (400, "ServiceQuotaExceededException", errors.QuotaExhaustedError, False),
        (403, "AccessDeniedException", errors.PermissionDeniedError, False),
        (403, "UnrecognizedClientException", errors.AuthenticationError, False),
        (403, "ExpiredTokenException", errors.AuthenticationError, False),
        (403, "InvalidSignatureException", errors.AuthenticationError, False),
        (403, "MissingAuthenticationTokenException", errors.AuthenticationError, False),
        (403, "OptInRequired", errors.PermissionDeniedError, False),
        (404, "ResourceNotFoundException", errors.NotFoundError, False),
        (404, "UnknownOperationException", errors.NotFoundError, False),
        (408, "ModelTimeoutException", errors.TimeoutError, True),
        (424, "ModelErrorException", errors.ServerError, True),
        (429, "ThrottlingException", errors.RateLimitError, True),
        (429, "ModelNotReadyException", errors.OverloadedError, True),
        (500, "InternalServerException", errors.ServerError, True),
        (503, "ServiceUnavailableException", errors.OverloadedError, True),
        (403, "SomethingNew", errors.PermissionDeniedError, False),
        (429, "SomethingNew", errors.RateLimitError, True),
    ],
)
def test_exceptions(status: int, name: str, cls: type[errors.ProviderError], retryable: bool) -> None:
    error = mapped(status, name, {"message": "It broke."})
    assert type(error) is cls
    assert (error.status, error.code, error.request_id, error.retryable) == (status, name, ID, retryable)
    assert (error.args[0], error.raw) == ("It broke.", {"message": "It broke."})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"Message": "With a capital."}, None, "With a capital."),
        (
            {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "No."},
            "AccessDeniedException",
            "No.",
        ),
        ({"message": "No name."}, None, "No name."),
        (b"", None, "the host answered 403 without a message"),
        (b"<html><title>Forbidden</title></html>", None, "the host answered with a web page titled 'Forbidden'"),
    ],
    ids=str,
)
def test_bodies_of_gateways(body: Any, code: str | None, message: str) -> None:
    error = mapped(403, None, body)
    assert type(error) is errors.PermissionDeniedError
    assert (error.code, error.args[0]) == (code, message)


@pytest.mark.parametrize("name", ["ValidationException", None])
@pytest.mark.parametrize(
    ("message", "cls"),
    [
        ("The model returned the following errors: Input is too long for requested model.", errors.ContextLengthError),
        (
            "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum "
            "length. Please update the input to try again.",
            errors.ContextLengthError,
        ),
        ("The provided model identifier is invalid.", errors.NotFoundError),
        (ON_DEMAND, errors.NotFoundError),
        ("This model doesn't support tool use in streaming mode.", errors.InvalidRequestError),
        ("This model doesn't support the s3Uri field. Remove s3Uri and try again.", errors.InvalidRequestError),
    ],
)
def test_what_a_validation_exception_is_about(name: str | None, message: str, cls: type[errors.ProviderError]) -> None:
    """Recorded ones; those that were kept as JSON alone have lost the header with the name."""
    error = mapped(400, name, {"message": message})
    assert type(error) is cls
    assert (error.status, error.code, error.retryable) == (400, name, False)
    assert str(error.args[0]).startswith(message)


def test_another_exception_is_what_its_name_says_whatever_its_words_are() -> None:
    assert type(mapped(429, "ThrottlingException", {"message": "Input is too long"})) is errors.RateLimitError


def test_bare_ids_get_a_remedy() -> None:
    assert "llama-4-scout (us.meta.llama4-scout-17b-instruct-v1:0)" in str(
        mapped(400, "ValidationException", {"message": ON_DEMAND})
    )


@pytest.mark.parametrize(
    ("original", "retryable"), [(400, False), (422, False), (429, True), (500, True), (None, True), ("x", True)]
)
def test_what_the_model_itself_answered(original: Any, retryable: bool) -> None:
    error = mapped(424, "ModelErrorException", {"message": "It broke.", "originalStatusCode": original})
    assert (type(error), error.retryable, error.failover) == (errors.ServerError, retryable, True)


def test_when_to_ask_again() -> None:
    """AWS says it in milliseconds: botocore 1.44.5, retries/standard.py."""
    assert mapped(429, "ThrottlingException", {}, **{"x-amz-retry-after": "1500"}).retry_after == 1.5
    assert mapped(429, "ThrottlingException", {}).retry_after is None
