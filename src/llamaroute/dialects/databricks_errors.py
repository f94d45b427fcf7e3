"""How Databricks says no: `{"error_code", "message"}`, `CODE: message` as plain text, a web page, or a header.

The forms are those that Databricks' own SDK reads (PyPI package databricks-sdk 0.156.0, sdk/errors/deserializer.py);
recordings: n8n-io/n8n pull 38642, issues dbdemos 218 and 241, instructor 691, databricks-sdk-go 1183.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from ..errors import TimeoutError as TimeoutError_
from ..spi import Target, WireResponse
from .http_errors import CODES, ErrorBody, map_http_error, read_error

__all__ = ["DATABRICKS_CODES", "map_databricks_error", "token_refused"]

DATABRICKS_CODES: Mapping[str, type[ProviderError]] = {
    **CODES,
    # sdk/errors/platform.py of databricks-sdk: what each code is an error of
    "invalid_state": InvalidRequestError,
    "invalid_parameter_value": InvalidRequestError,
    "resource_does_not_exist": NotFoundError,
    "aborted": OverloadedError,  # two requests that were in each other's way
    "already_exists": InvalidRequestError,
    "resource_already_exists": InvalidRequestError,
    "resource_exhausted": RateLimitError,
    "request_limit_exceeded": RateLimitError,
    "unknown": ServerError,
    "data_loss": ServerError,
    # its classes for statuses, under the codes that were seen to go with them
    "bad_request": InvalidRequestError,
    "unauthenticated": AuthenticationError,
    "permission_denied": PermissionDeniedError,
    "feature_disabled": PermissionDeniedError,
    "not_found": NotFoundError,
    "endpoint_not_found": NotFoundError,
    "not_implemented": InvalidRequestError,  # a 501, which would be asked again
    "internal_error": ServerError,
    "temporarily_unavailable": OverloadedError,
    "deadline_exceeded": TimeoutError_,
}

WINDOW = 60.0
"""Seconds after which a limit per minute has forgotten everything."""

_LINE = re.compile(r"([A-Z][A-Z_]+): (.+)", re.DOTALL)
# The words of a prompt that is too long, as a question of Databricks' own exam quotes them; there is no code for it.
_TOO_LONG = re.compile(r"prompt token count \((\d+)\) cannot exceed (\d+)")
_PRE = re.compile(r"<pre>(.*?)</pre>", re.IGNORECASE | re.DOTALL)


def map_databricks_error(response: WireResponse, target: Target) -> ProviderError:
    """The error an answer means."""
    body = _read(response)
    codes = DATABRICKS_CODES
    if token_refused(response):
        codes = {**codes, "403": AuthenticationError}
    if long := _TOO_LONG.search(body.message):
        codes = {**codes, "bad_request": ContextLengthError}
        body = replace(body, tokens=int(long[1]), limit=int(long[2]))
    error = map_http_error(response, target, codes, body=body)
    if error.retry_after is None and isinstance(error, RateLimitError):
        error.retry_after = _wait(body)
    if error.request_id is None:
        error.request_id = _request_id(body.raw)
    return error


def token_refused(response: WireResponse) -> bool:
    """Whether an answer says that the token is wrong or has expired: a 401, or Databricks' 403 whose code is a number.

    A 403 whose code is a word (`PERMISSION_DENIED`) knows the token and refuses what it asks for.
    """
    if response.status != 403:
        return response.status == 401
    raw = read_error(response.body).raw
    return isinstance(raw, Mapping) and str(raw.get("error_code")) == "403"


def _read(response: WireResponse) -> ErrorBody:
    """The body; where it says nothing, the header that has the reason."""
    body = read_error(response.body)
    page = False
    if isinstance(body.raw, str):
        page = body.raw[:1] == "<"
        if line := _LINE.match(body.raw):
            body = ErrorBody(line[2], (line[1],), body.raw)
        elif page and (text := _PRE.search(body.raw)) and text[1].strip():
            return ErrorBody(text[1].strip(), (), body.raw)
    reason = response.headers.get("x-databricks-reason-phrase")
    return replace(body, message=reason) if reason and (page or not body.message) else body


def _wait(body: ErrorBody) -> float | None:
    """Seconds until it makes sense to ask again.

    The limits slide over a minute and are counted before the model runs, and most answers say nothing about when; after
    a whole minute there is room in any case. https://docs.databricks.com/aws/machine-learning/foundation-model-apis/limits
    """
    inner = body.raw.get("error") if isinstance(body.raw, Mapping) else None
    told: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
    seconds = told.get("retry_after")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 1e9:
        return float(seconds)
    limit = f"{told.get('limit_type', '')} {body.message}".replace("_", " ").lower()
    return WINDOW if "tokens per minute" in limit else None


def _request_id(raw: Any) -> str | None:
    """The id that newer errors carry: `details` with a `google.rpc.RequestInfo`."""
    details = raw.get("details") if isinstance(raw, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping) and isinstance(found := detail.get("request_id"), str) and found:
            return found
    return None
