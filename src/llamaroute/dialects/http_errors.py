"""Error answers: status, headers and body -> one error of our tree.

Hosts write errors in many shapes; `read_error` takes all that were seen (docs/hosts.md lists them with sources):

    {"error": {"message", "type", "param", "code"}}      OpenAI, vLLM, llama.cpp, the Hugging Face router
    {"error": "text"}                                     Hugging Face, vLLM's 401, Ollama
    {"error": "text", "error_type": "validation"}         TGI
    {"object": "error", "message", "type", "code"}        older vLLM, SGLang
    {"detail": "text" | [{"msg", "loc", "type"}]}         FastAPI servers
    {"statusCode": 401, "message": "text"}                Azure's serverless endpoints
    {"success": false, "errors": [{"code", "message"}]}   Cloudflare
    {"message": "text", ...}                              gateways
    plain text, HTML, or nothing

The class comes from the host's code where there is one, then from the status. Message text is looked at only for what
a host gives no code at all: a prompt that is too long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    ModelRetiredError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
)
from ..errors import TimeoutError as TimeoutError_
from ..spi import Target, WireResponse
from ..types.dataclass import dataclass
from ..wire.headers import request_id, retry_after
from .content_filter import with_filters
from .json_body import loads

__all__ = ["CODES", "ErrorBody", "class_for_status", "map_http_error", "read_error"]


@dataclass(slots=True, eq=False)
class ErrorBody:
    """What an error body says. `codes` are the host's codes and types, most telling first."""

    message: str
    codes: tuple[str, ...]
    raw: Any
    limit: int | None = None
    tokens: int | None = None


MAX_MESSAGE = 2000
"""Characters of a host's message that an exception shows."""

CODES: Mapping[str, type[ProviderError]] = {
    # https://platform.openai.com/docs/guides/error-codes and recordings
    "context_length_exceeded": ContextLengthError,
    "exceed_context_size_error": ContextLengthError,  # llama.cpp
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "permission_error": PermissionDeniedError,
    "insufficient_quota": QuotaExhaustedError,
    "billing_hard_limit_reached": QuotaExhaustedError,
    "model_not_found": NotFoundError,
    "model_not_supported": NotFoundError,  # Hugging Face router
    "not_found_error": NotFoundError,
    "notfounderror": NotFoundError,  # vLLM
    "model_deprecated": ModelRetiredError,
    "model_decommissioned": ModelRetiredError,  # Groq
    "content_filter": ContentFilterError,
    "content_policy_violation": ContentFilterError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limit_error": RateLimitError,
    "unavailable_error": OverloadedError,  # llama.cpp while it loads
    "overloaded": OverloadedError,  # TGI
    "generation": ServerError,  # TGI's 424: the model failed while it generated
    "overloaded_error": OverloadedError,
    "unsupported_image": InvalidRequestError,  # the engine in this process
}
"""Codes and types (in lower case) that say more than the status."""

_STATUS: Mapping[int, type[ProviderError]] = {
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: TimeoutError_,
    410: ModelRetiredError,
    413: PayloadTooLargeError,
    429: RateLimitError,
    500: ServerError,
    502: OverloadedError,
    503: OverloadedError,
    504: TimeoutError_,
    524: TimeoutError_,  # Cloudflare: the origin took too long
    529: OverloadedError,
}

# vLLM and TGI give no code of their own for a prompt that is too long, only a 400 or 422 with these texts.
_TOO_LONG = (
    r"(?i)maximum context length|context length (?:is|of) only|exceed\w* (?:the )?(?:available )?context"
    r"|context window limit|`inputs` tokens \+ `max_new_tokens` must be|`inputs` must have less than"
)
# llama.cpp answers 500 to an image when it runs without a vision tower; asking again does not help.
_NO_VISION = "(?i)image input is not supported"


def map_http_error(
    response: WireResponse,
    target: Target,
    codes: Mapping[str, type[ProviderError]] = CODES,
    *,
    body: ErrorBody | None = None,
) -> ProviderError:
    """The error an answer means, with everything a caller may want to know about it.

    `body` is what a host's own reader made of the answer's body.
    """
    body = body or read_error(response.body)
    status = response.status
    cls = next((codes[code.lower()] for code in body.codes if code.lower() in codes), None)
    cls = cls or class_for_status(status)
    # A general "bad request", by code or by status, may be a prompt that is too long.
    if cls is InvalidRequestError and re.search(_TOO_LONG, body.message):
        cls = ContextLengthError
    elif cls is ServerError and re.search(_NO_VISION, body.message):
        cls = InvalidRequestError
    phase_timeout = issubclass(cls, TimeoutError_)
    # Hugging Face puts the message of an answer without a body into a header.
    message = _cut(body.message or response.headers.get("x-error-message", ""))
    error = cls(
        message or f"the host answered {status} without a message",
        provider=target.provider,
        target=target.name,
        model=target.model,
        status=status,
        code=body.codes[0] if body.codes else response.headers.get("x-error-code"),
        request_id=request_id(response.headers),
        retry_after=retry_after(response.headers),
        phase="first_token" if phase_timeout else None,
        raw=body.raw,
    )
    if isinstance(error, ContextLengthError):
        error.limit, error.tokens = body.limit, body.tokens
    return error


def class_for_status(status: int) -> type[ProviderError]:
    """The class a status means by itself."""
    if status in _STATUS:
        return _STATUS[status]
    if status >= 500:
        return ServerError
    return InvalidRequestError


def read_error(body: bytes) -> ErrorBody:
    """Read an error body of any known shape."""
    text = body.decode("utf-8", "replace").strip()
    if not text:
        return ErrorBody("", (), None)
    try:
        data = loads(body, "the error")
    except ProtocolError:
        return ErrorBody(_first_line(text), (), text)
    return read_error_value(data)


def read_error_value(data: Any) -> ErrorBody:
    """The same for a body, or an event of a stream, that is JSON already."""
    if isinstance(data, list) and data:  # Google wraps its errors in an array
        return replace(read_error_value(data[0]), raw=data)
    if not isinstance(data, Mapping):
        return ErrorBody(str(data), (), data)
    errors = data.get("errors")
    inner = data.get("error")
    if isinstance(errors, list) and errors and isinstance(errors[0], Mapping):
        first = errors[0]
        return ErrorBody(str(first.get("message") or ""), _codes(first.get("code")), data)
    if isinstance(inner, Mapping):
        message = inner.get("message") or inner.get("error") or inner.get("detail") or ""
        if (wrapped := _wrapped(message)) is not None:
            return replace(wrapped, codes=(*wrapped.codes, *_codes(inner.get("code"))), raw=data)
        limit, tokens = inner.get("n_ctx"), inner.get("n_prompt_tokens")
        return ErrorBody(
            with_filters(message if isinstance(message, str) else str(message), inner),
            _codes(inner.get("code"), inner.get("type"), inner.get("status")),
            data,
            limit if isinstance(limit, int) else None,
            tokens if isinstance(tokens, int) else None,
        )
    if isinstance(inner, str):
        return ErrorBody(inner, _codes(data.get("code"), data.get("error_type"), data.get("error_code")), data)
    if "detail" in data:
        return ErrorBody(_detail(data["detail"]), _detail_codes(data["detail"]), data)
    message = data.get("message") or data.get("msg") or ""
    codes = _codes(data.get("code"), data.get("error_code"), data.get("type"), data.get("statusCode"))
    return ErrorBody(with_filters(str(message), data), codes, data)


def _wrapped(message: Any) -> ErrorBody | None:
    """The error of the server behind a gateway that hands it on as text (Azure: meta-llama/llama-cookbook#938)."""
    if not isinstance(message, str) or not re.match(r'\s*\{\s*"object"\s*:\s*"error"', message):
        return None
    try:
        return read_error_value(loads(message.encode("utf-8", "replace"), "the error"))
    except ProtocolError:
        return None


def _cut(message: str) -> str:
    """A message short enough to read; the whole stays in `raw`."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}..."


def _codes(*values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values if isinstance(value, str | int) and value != "")


def _detail(detail: Any) -> str:
    if isinstance(detail, list):
        return "; ".join(_detail_item(item) if isinstance(item, Mapping) else str(item) for item in detail)
    return detail if isinstance(detail, str) else str(detail)


def _detail_item(item: Mapping[str, Any]) -> str:
    """One of pydantic's errors, as FastAPI sends them: what is wrong, and the field, without the word `body`."""
    place = item.get("loc")
    steps = [str(step) for step in place if step != "body"] if isinstance(place, list) else []
    message = str(item.get("msg", item))
    return f"{'.'.join(steps)}: {message}" if steps else message


def _detail_codes(detail: Any) -> tuple[str, ...]:
    first = detail[0] if isinstance(detail, list) and detail else None
    return _codes(first.get("type")) if isinstance(first, Mapping) else ()


def _first_line(text: str) -> str:
    if text[:1] == "<":
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"the host answered with a web page{f' titled {title[1].strip()!r}' if title else ''}"
    return text
