"""Databricks' errors: what is read from which of its forms, and when to ask again."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.databricks_errors import DATABRICKS_CODES, token_refused
from llamaroute.providers.databricks import SPEC
from llamaroute.spi import Target
from tests.providers.databricks.samples import SAMPLES, piece
from tests.providers.wires import answer, ask, sse, target_of

HEADERS = {"x-request-id": "r-1"}
INPUT_LIMIT = "REQUEST_LIMIT_EXCEEDED: Exceeded workspace input tokens per minute rate limit for x. Try again later."


def target() -> Target:
    return target_of(SPEC, {"host": "adb-1.2.azuredatabricks.net", "token": "t"}, "llama-4-maverick")


def mapped(body: Any, status: int, headers: dict[str, str] | None = None) -> errors.ProviderError:
    return SPEC.adapter.map_error(answer(body, status, headers or HEADERS), target())


@pytest.mark.parametrize(
    ("status", "code", "cls", "retryable"),
    [
        # recorded: dbdemos 218 and 241, instructor 691, n8n 38642, and several public captures
        (403, 403, errors.AuthenticationError, False),
        (403, "403", errors.AuthenticationError, False),
        (401, 401, errors.AuthenticationError, False),
        (403, "PERMISSION_DENIED", errors.PermissionDeniedError, False),
        (403, "FEATURE_DISABLED", errors.PermissionDeniedError, False),
        (404, "FEATURE_DISABLED", errors.PermissionDeniedError, False),
        (404, "ENDPOINT_NOT_FOUND", errors.NotFoundError, False),
        (404, "RESOURCE_DOES_NOT_EXIST", errors.NotFoundError, False),
        (400, "BAD_REQUEST", errors.InvalidRequestError, False),
        (400, "INVALID_PARAMETER_VALUE", errors.InvalidRequestError, False),
        (400, "INVALID_STATE", errors.InvalidRequestError, False),
        (429, "REQUEST_LIMIT_EXCEEDED", errors.RateLimitError, True),
        (429, "RESOURCE_EXHAUSTED", errors.RateLimitError, True),
        (400, "RESOURCE_EXHAUSTED", errors.RateLimitError, True),
        (409, "ABORTED", errors.OverloadedError, True),
        (500, "INTERNAL_ERROR", errors.ServerError, True),
        (501, "NOT_IMPLEMENTED", errors.InvalidRequestError, False),
        (503, "TEMPORARILY_UNAVAILABLE", errors.OverloadedError, True),
        (504, "DEADLINE_EXCEEDED", errors.TimeoutError, True),
        (429, "SOMETHING_NEW", errors.RateLimitError, True),
    ],
)
def test_codes(status: int, code: str | int, cls: type[errors.ProviderError], retryable: bool) -> None:
    body = {"error_code": code, "message": "what went wrong"}
    error = mapped(body, status)
    assert type(error) is cls
    assert (error.status, error.code, error.retryable, error.request_id) == (status, str(code), retryable, "r-1")
    assert (error.args[0], error.raw) == ("what went wrong", body)


RPC = "Bad request: rpc error: code = InvalidArgument desc = "


@pytest.mark.parametrize(
    ("words", "tokens", "limit"),
    [
        (f"{RPC}prompt token count (4595) cannot exceed 4096. Please reduce", 4595, 4096),  # quoted in Databricks' exam
        ("This model's maximum context length is 128000 tokens", None, None),  # vLLM
    ],
)
def test_a_prompt_that_is_too_long_has_no_code_of_its_own(words: str, tokens: int | None, limit: int | None) -> None:
    error = mapped({"error_code": "BAD_REQUEST", "message": words}, 400)
    assert type(error) is errors.ContextLengthError
    assert (error.tokens, error.limit, error.code) == (tokens, limit, "BAD_REQUEST")


def test_an_answer_that_would_be_too_long_is_no_prompt_that_is() -> None:
    """Recorded in databricks-sdk-go 1183; the documents say 429."""
    words = f"{RPC}max_tokens (10000) cannot exceed 8192. Please reduce the length of max output tokens generated.\n"
    assert type(mapped({"error_code": "BAD_REQUEST", "message": words}, 400)) is errors.InvalidRequestError


@pytest.mark.parametrize(
    ("status", "body", "cls", "code", "message"),
    [
        (503, b"TEMPORARILY_UNAVAILABLE: a\nb", errors.OverloadedError, "TEMPORARILY_UNAVAILABLE", "a\nb"),
        (403, b"PERMISSION_DENIED: no", errors.PermissionDeniedError, "PERMISSION_DENIED", "no"),
        (400, b"Note: no code", errors.InvalidRequestError, None, "Note: no code"),
        (400, {"error": "No model"}, errors.InvalidRequestError, None, "No model"),
        (502, b"<html><pre>\n upstream gone </pre></html>", errors.OverloadedError, None, "upstream gone"),
        (
            503,
            b"<html><title>Maintenance</title></html>",
            errors.OverloadedError,
            None,
            "the host answered with a web page titled 'Maintenance'",
        ),
        (413, b"", errors.PayloadTooLargeError, None, "the host answered 413 without a message"),
    ],
)
def test_the_other_forms_that_databricks_own_sdk_reads(
    status: int, body: Any, cls: type[errors.ProviderError], code: str | None, message: str
) -> None:
    error = mapped(body, status)
    assert type(error) is cls
    assert (error.status, error.code, error.args[0]) == (status, code, message)
    assert error.raw == (body.decode() or None if isinstance(body, bytes) else body)


@pytest.mark.parametrize("body", [b"", b"<html></html>", {"error_code": 403}])
def test_the_reason_may_stand_in_a_header_alone(body: Any) -> None:
    headers = {"x-databricks-reason-phrase": "Invalid access token."}
    assert mapped(body, 403, headers).args[0] == "Invalid access token."


def test_what_the_body_says_goes_before_the_header() -> None:
    headers = {"x-databricks-reason-phrase": "Forbidden"}
    assert mapped({"error_code": "PERMISSION_DENIED", "message": "no 'View'"}, 403, headers).args[0] == "no 'View'"


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (401, b"", True),
        (401, {"error_code": "UNAUTHENTICATED", "message": "x"}, True),
        (403, {"error_code": 403, "message": "Invalid access token."}, True),
        (403, {"error_code": "403", "message": "Invalid access token."}, True),
        (403, {"error_code": "PERMISSION_DENIED", "message": "Invalid access token."}, False),
        (403, {"error": {"code": 403, "message": "no"}}, False),
        (403, b"", False),
        (403, b"<html>", False),
        (400, {"error_code": 403}, False),
    ],
    ids=str,
)
def test_whether_it_was_the_token(status: int, body: Any, refused: bool) -> None:
    assert token_refused(answer(body, status)) is refused
    wanted = errors.AuthenticationError if refused else errors.ProviderError
    assert isinstance(mapped(body, status), wanted)
    assert isinstance(mapped(body, status), errors.AuthenticationError) is refused


DOCUMENTED = {"message": "slow", "type": "rate_limit_exceeded", "code": 429, "limit_type": "input_tokens_per_minute"}


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"error": {**DOCUMENTED, "retry_after": 15}}, {}, 15.0),
        ({"error": {**DOCUMENTED, "retry_after": 15}}, {"retry-after": "3"}, 3.0),
        ({"error": DOCUMENTED}, {}, 60.0),
        ({"error": {**DOCUMENTED, "limit_type": "queries_per_second"}}, {}, None),
        ({"error": {**DOCUMENTED, "retry_after": "soon"}}, {}, 60.0),
        ({"error": {**DOCUMENTED, "retry_after": -1}}, {}, 60.0),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": INPUT_LIMIT}, {}, 60.0),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": INPUT_LIMIT}, {"retry-after": "1"}, 1.0),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": INPUT_LIMIT.replace("input", "output")}, {}, 60.0),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Exceeded workspace QPS rate limit for x."}, {}, None),
        (b"", {}, None),
    ],
    ids=str,
)
def test_when_to_ask_again(body: Any, headers: dict[str, str], seconds: float | None) -> None:
    error = mapped(body, 429, headers)
    assert type(error) is errors.RateLimitError
    assert error.retry_after == seconds


def test_the_request_id_may_stand_in_the_details() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "9997", "serving_data": ""}]
    body = {"error_code": "PERMISSION_DENIED", "message": "no", "details": details}
    assert mapped(body, 403, {"x-other": ""}).request_id == "9997"
    assert mapped(body, 403).request_id == "r-1"
    assert mapped({**body, "details": [1, {}]}, 403, {"x-other": ""}).request_id is None


@pytest.mark.parametrize(
    ("event", "cls"),
    [
        ({"error_code": "INTERNAL_ERROR", "message": "m"}, errors.ServerError),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "m"}, errors.RateLimitError),
        ({"error_code": "BAD_REQUEST", "message": "m"}, errors.InvalidRequestError),
        ({"error_code": 429, "message": "m"}, errors.RateLimitError),
        ({"error": {"message": "m", "code": 429}}, errors.RateLimitError),
    ],
    ids=str,
)
def test_errors_under_a_status_of_success(event: dict[str, Any], cls: type[errors.ProviderError]) -> None:
    decoder = SPEC.adapter.stream_decoder(ask(), target())
    with pytest.raises(cls) as caught:
        list(decoder.feed(sse(piece({"content": "Os"}), event)))
    assert type(caught.value) is cls
    with pytest.raises(cls) as caught:
        SPEC.adapter.parse_response(answer(event), ask(), target())
    assert type(caught.value) is cls


def test_every_code_of_databricks_own_sdk_is_known() -> None:
    """And means what the SDK takes it for: the class of the SDK's status, unless a comment in the code says why not."""
    platform = importlib.import_module("databricks.sdk.errors.platform")
    assert {code.lower() for code in platform.ERROR_CODE_MAPPING} <= DATABRICKS_CODES.keys()
    same = {
        platform.BadRequest: errors.InvalidRequestError,
        platform.NotFound: errors.NotFoundError,
        platform.TooManyRequests: errors.RateLimitError,
        platform.InternalError: errors.ServerError,
    }
    for code, theirs in platform.ERROR_CODE_MAPPING.items():
        ours = next((ours for base, ours in same.items() if issubclass(theirs, base)), None)
        assert ours is None or DATABRICKS_CODES[code.lower()] is ours


def test_the_samples_mean_what_they_are_called() -> None:
    found = {
        s.name: type(SPEC.adapter.map_error(answer(s.body, s.status), target())) for s in SAMPLES if s.status > 399
    }
    assert found == {
        "old-token": errors.AuthenticationError,
        "no-permission": errors.PermissionDeniedError,
        "no-endpoint": errors.NotFoundError,
        "roles": errors.InvalidRequestError,
        "rate": errors.RateLimitError,
        "rate-as-documented": errors.RateLimitError,
        "line": errors.OverloadedError,
        "page": errors.OverloadedError,
    }
