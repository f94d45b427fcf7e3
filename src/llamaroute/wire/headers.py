"""What answers' headers say to every host's caller alike. Header names are lower case here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

__all__ = ["Allowance", "limits_left", "request_id", "retry_after"]


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


class Allowance(NamedTuple):
    """What a host says is left of one of its limits."""

    kind: Literal["requests", "tokens"]
    limit: int | None
    """How much there is in a window; None where only the rest is said."""
    remaining: int
    reset: float | None
    """Seconds until all of it, or at the latest until more of it, is there again; None where nothing says so."""


_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_LEFT = re.compile(
    r"(?:x-)?ratelimit-remaining(?:-(?P<kind>requests|tokens))?"
    r"(?:-(?P<part>prompt|generated|second|minute|hour|day))?"
)
_ITEM = re.compile(r"\s*\"?([^\";,]*)\"?((?:\s*;\s*[a-z]+=(?:\"[^\"]*\"|[^;,\"\s]+))*)")
_UNLIMITED = 2**53
"""One host says 9223372036854767616 tokens a minute (recorded through Hugging Face's router)."""


def limits_left(headers: Mapping[str, str]) -> tuple[Allowance, ...]:
    """What the answer says is left of the host's limits, in the order of the headers; empty where nothing is said.

    * `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`: OpenAI, Azure, Groq, Nebius. Resets are durations such as
      `6m0s` or `52ms`, or seconds; Azure says 0 whatever is left, and the window's length in `-renewalperiod-`.
    * `x-ratelimit-remaining-{requests,tokens}-{minute,hour,day}`, `-tokens-{prompt,generated}` and `-minute` alone:
      hosts behind Hugging Face's router.
    * `x-ratelimit-{limit,remaining,reset}` and the same without `x-`: requests (Together; the IETF's first drafts).
    * `ratelimit: "api";r=12;t=55` with `ratelimit-policy: "api";q=500;w=300`: the IETF's later drafts, and the Hub.

    https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.html
    """
    said = _telling(tuple(headers))
    left = _drafts(headers) if "ratelimit" in headers else []
    for names in said:
        if (remaining := _whole(headers[names.remaining])) is None:
            continue
        reset = _reset(headers.get(names.reset), headers)
        if not reset:
            reset = _duration(headers.get(names.period)) or names.window or reset
        left.append(Allowance(names.kind, _whole(headers.get(names.limit)), remaining, reset))
    return tuple(left)


class _Names(NamedTuple):
    """A header that says what is left, and what others about the same limit are called."""

    kind: Literal["requests", "tokens"]
    remaining: str
    plain: str
    minute: bool
    """It says neither what is counted nor anything but that it is about a minute."""
    window: float | None
    reset: str
    period: str
    limit: str


@lru_cache(maxsize=256)  # a host sends the same names with every answer
def _telling(headers: tuple[str, ...]) -> tuple[_Names, ...]:
    """The headers, of those with these names, that say what is left."""
    known = [names for name in headers if "ratelimit" in name and (names := _names(name)) is not None]
    return tuple(
        names
        for names in known
        # Said twice, the one without `x-` brings the reset along.
        if not (names.plain != names.remaining and names.plain in headers)
        and not (names.minute and "ratelimit-remaining" in headers)
    )


def _names(name: str) -> _Names | None:
    found = _LEFT.fullmatch(name)
    if found is None:
        return None
    return _Names(
        "tokens" if found["kind"] == "tokens" else "requests",
        name,
        name.removeprefix("x-"),
        found["part"] == "minute" and found["kind"] is None,
        _WINDOWS.get(found["part"] or ""),
        name.replace("remaining", "reset"),
        name.replace("remaining", "renewalperiod"),
        name.replace("remaining", "limit"),
    )


def _drafts(headers: Mapping[str, str]) -> list[Allowance]:
    left: list[Allowance] = []
    quotas = {name: _whole(values.get("q")) for name, values in _items(headers.get("ratelimit-policy", ""))}
    for name, values in _items(headers.get("ratelimit", "")):
        if (remaining := _whole(values.get("r"))) is not None:
            left.append(Allowance("requests", quotas.get(name), remaining, _number(values.get("t"))))
    return left


def _items(value: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """`"api";r=0;t=55, "b";r=1`. The Hub puts the policy's name before the item's: `"fixed window";"api";q=500`."""
    value = re.sub(r'^"[^"]*";(?=")', "", value)
    for name, parameters in _ITEM.findall(value):
        pairs = (part.partition("=") for part in parameters.split(";") if "=" in part)
        if name and parameters:
            yield name.strip(), {key.strip(): text.strip().strip('"') for key, _, text in pairs}


def _reset(value: str | None, headers: Mapping[str, str]) -> float | None:
    seconds = _duration(value)
    if seconds is None or seconds < 1e9:
        return seconds
    # A moment, in seconds or milliseconds since the epoch: measured against the answer's own clock.
    import email.utils

    try:
        sent = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    left = (seconds / 1000 if seconds >= 1e12 else seconds) - sent
    return left if 0 <= left < 1e9 else None


_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|us|µs|ns|h|m|s|d)")
_ONE = re.compile(rf"{_DURATION.pattern}?", re.ASCII)
MOST_DURATION = 32
"""Characters of those that are remembered."""
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _duration(value: str | None) -> float | None:
    """`6m0s`, `52ms`, `1.5s`, or a number of seconds."""
    if value is None:
        return None
    return _known_duration(value) if len(value) <= MOST_DURATION else _duration_of(value)


def _duration_of(value: str) -> float | None:
    text = value.strip()
    if not text:
        return None
    if one := _ONE.fullmatch(text):
        return round(float(one[1]) * _UNITS.get(one[2], 1.0), 9)
    if _DURATION.sub("", text):
        return None
    return round(sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text)), 9)


_known_duration = lru_cache(maxsize=256)(_duration_of)  # `0`, `1ms` and `6m0s` are said all the time


def _whole(value: str | None) -> int | None:
    """A number of requests or tokens; None for one that means no limit."""
    if value is None:
        return None
    if len(value) < 10 and value.isascii() and value.isdigit():
        return int(value)  # nearly all
    number = _number(value)
    if number is None and re.fullmatch(r"\d{10,16}", value.strip(), re.ASCII):
        number = float(value)
    return int(number) if number is not None and number < _UNLIMITED else None


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
