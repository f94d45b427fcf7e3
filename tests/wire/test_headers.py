"""What answers' headers say: how long to wait, and the id to quote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.wire.headers import request_id, retry_after

NOW = "Mon, 23 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "0"}, 0.0),
        ({"x-amz-retry-after": "250"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Monday, 23-Nov-26 12:00:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:59:30 GMT", "date": NOW}, 0.0),  # past: now
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, None),  # no clock here to measure it with
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "today"}, None),
        ({"retry-after": "soon", "date": NOW}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 -0000", "date": NOW}, None),  # a time without a zone
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359", "date": NOW}, 0.0),
    ],
    ids=str,
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_text_is_none_or_a_number_of_seconds(after: str, milliseconds: str, date: str) -> None:
    value = retry_after({"retry-after": after, "retry-after-ms": milliseconds, "date": date})
    assert value is None or 0 <= value < 1e9


@given(
    st.from_regex(r"\A(Mon, )?\d{1,3} (Jan|Feb|Dec) \d{1,6} \d{1,3}:\d{1,3}(:\d{1,3})? (GMT|[+-]\d{2,9}|-0000|X)\Z"),
    st.sampled_from([NOW, "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]),
)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_date_too(after: str, date: str) -> None:
    value = retry_after({"retry-after": after, "date": date})
    assert value is None or value >= 0


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ({}, None),
        ({"x-request-id": ""}, None),
        ({"x-request-id": "a"}, "a"),
        ({"cf-ray": "8a1b-OSL", "x-request-id": "a"}, "a"),
        ({"cf-ray": "8a1b-OSL"}, "8a1b-OSL"),
        ({"cf-ray": "8a1b-OSL", "cf-aig-log-id": "01J"}, "01J"),
        ({"inference-id": "i"}, "i"),
        ({"apim-request-id": "m"}, "m"),
        ({"x-amzn-requestid": "z"}, "z"),
        ({"request-id": "r"}, "r"),
        ({"etag": "e"}, None),
    ],
    ids=str,
)
def test_request_id(headers: dict[str, str], id: str | None) -> None:
    assert request_id(headers) == id
