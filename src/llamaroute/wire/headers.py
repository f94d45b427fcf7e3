"""What answers' headers say to every host's caller alike. Header names are lower case here."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["request_id", "retry_after"]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms`, `x-amz-retry-after` (milliseconds) or `retry-after` (seconds or a date).

    Milliseconds are the more exact ones, unless they say 0: Azure sends that beside `retry-after: 1` (recorded).

    A date is measured against the answer's own `date` header, which keeps this free of clocks and of their skew.
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    milliseconds = _number(headers.get("retry-after-ms") or headers.get("x-amz-retry-after"))
    if milliseconds:
        return milliseconds / 1000
    seconds = _seconds_or_date(headers)
    return milliseconds if seconds is None else seconds


def _seconds_or_date(headers: Mapping[str, str]) -> float | None:
    """`retry-after`, or what the Hub says in its place."""
    value = headers.get("retry-after")
    seconds = _number(value)
    if value is None:
        # Hugging Face's Hub: `"api";r=0;t=55`, on every answer; only r=0 says that nothing is left for t seconds.
        # https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.html
        used_up = re.search(r";\s*r=0\s*;\s*t=(\d{1,9})\b", headers.get("ratelimit", ""))
        return float(used_up[1]) if used_up else None
    if seconds is not None:
        return seconds
    import email.utils

    try:
        then = email.utils.parsedate_to_datetime(value)
        sent = email.utils.parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - sent).total_seconds())
    except (TypeError, ValueError):
        return None


REQUEST_ID_HEADERS = (
    "x-request-id",
    "request-id",
    "apim-request-id",
    "x-amzn-requestid",
    "cf-aig-log-id",
    "inference-id",
    "cf-ray",
)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The id to quote to the host's support."""
    for name in REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value
    return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 1e9 else None
