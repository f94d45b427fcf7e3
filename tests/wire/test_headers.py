"""What answers' headers say: how long to wait, and the id to quote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.wire.headers import Allowance, limits_left, request_id, retry_after

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


SETS = [
    # pydantic-ai and others record Azure so; the reset is 0 whatever is left (DataDog/dd-trace-py:
    # tests/llmobs/llmobs_cassettes/azure_openai)
    (
        {
            "x-ratelimit-limit-requests": "2500", "x-ratelimit-limit-tokens": "250000",
            "x-ratelimit-remaining-requests": "2499", "x-ratelimit-remaining-tokens": "249988",
            "x-ratelimit-renewalperiod-requests": "60", "x-ratelimit-renewalperiod-tokens": "60",
            "x-ratelimit-reset-requests": "0", "x-ratelimit-reset-tokens": "0",
            "x-ratelimit-abusepenalty-active": "False", "x-ratelimit-key": "gpt-5.2_2025-12-11",
        },
        (Allowance("requests", 2500, 2499, 60.0), Allowance("tokens", 250000, 249988, 60.0)),
    ),
    # the same without limits and resets (lmnr-ai/lmnr-python)
    (
        {"x-ratelimit-remaining-requests": "118", "x-ratelimit-remaining-tokens": "119968"},
        (Allowance("requests", None, 118, None), Allowance("tokens", None, 119968, None)),
    ),
    # Groq (lmnr-ai/lmnr-python)
    (
        {
            "x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "15000",
            "x-ratelimit-remaining-requests": "14399", "x-ratelimit-remaining-tokens": "14987",
            "x-ratelimit-reset-requests": "6s", "x-ratelimit-reset-tokens": "52ms",
        },
        (Allowance("requests", 14400, 14399, 6.0), Allowance("tokens", 15000, 14987, 0.052)),
    ),
    # Together (Mirascope/mirascope); `retry-after: 1` stands on this 200, too
    (
        {
            "retry-after": "1", "x-ratelimit": "false", "x-ratelimit-limit": "10", "x-ratelimit-limit-tokens": "3000",
            "x-ratelimit-remaining": "18", "x-ratelimit-remaining-tokens": "2743", "x-ratelimit-reset": "1",
        },
        (Allowance("requests", 10, 18, 1.0), Allowance("tokens", 3000, 2743, None)),
    ),
    # Hugging Face's router, three of the hosts behind it (posit-dev/chatlas, huggingface/huggingface_hub)
    (
        {
            "x-ratelimit-remaining-requests-day": "2879998", "x-ratelimit-remaining-requests-minute": "1998",
            "x-ratelimit-remaining-tokens-minute": "9223372036854767616",
        },
        (Allowance("requests", None, 2879998, 86400.0), Allowance("requests", None, 1998, 60.0)),
    ),
    (
        {
            "x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens-generated": "6000",
            "x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-over-limit": "no",
            "x-ratelimit-remaining-requests": "59", "x-ratelimit-remaining-tokens-generated": "6000",
            "x-ratelimit-remaining-tokens-prompt": "59954",
        },
        (Allowance("requests", 60, 59, None), Allowance("tokens", 6000, 6000, None),
         Allowance("tokens", 60000, 59954, None)),
    ),
    (
        {
            "ratelimit-limit": "400", "ratelimit-remaining": "399", "ratelimit-reset": "19",
            "x-ratelimit-limit-minute": "400", "x-ratelimit-remaining-minute": "399",
        },
        (Allowance("requests", 400, 399, 19.0),),
    ),
    # the Hub (huggingface/huggingface_hub:src/huggingface_hub/utils/_http.py reads them)
    (
        {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'},
        (Allowance("requests", 500, 0, 55.0),),
    ),
    ({"ratelimit": '"a";r=7, "b";r=1;t=9', "ratelimit-policy": '"a";q=10, "b";q=2;w=60'},
     (Allowance("requests", 10, 7, None), Allowance("requests", 2, 1, 9.0))),
    ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"},
     (Allowance("requests", None, 1, 360.0),)),
    ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "1h2m3.5s"},
     (Allowance("requests", None, 1, 3723.5),)),
    # moments instead of durations, as GitHub and OpenRouter (milliseconds) write them
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795435230", "date": NOW},
     (Allowance("requests", None, 0, 30.0),)),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795435230000", "date": NOW},
     (Allowance("requests", None, 0, 30.0),)),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795435230"}, (Allowance("requests", None, 0, None),)),
    # said twice, as gateways do
    ({"ratelimit-remaining": "4", "ratelimit-reset": "9", "x-ratelimit-remaining": "4"},
     (Allowance("requests", None, 4, 9.0),)),
    # nothing to be had
    ({}, ()),
    ({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "soon"}, ()),
    ({"x-ratelimit-remaining-requests": "few"}, ()),
    ({"x-ratelimit-remaining-requests": "-1"}, ()),
    ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "soon"},
     (Allowance("requests", None, 1, None),)),
    ({"ratelimit": "soon"}, ()),
    ({"ratelimit": '"api";t=5'}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "left"), SETS, ids=lambda value: next(iter(value), "") if value else "none")
def test_limits_left(headers: dict[str, str], left: tuple[Allowance, ...]) -> None:
    assert limits_left(headers) == left


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=20))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_limits_left_of_any_text(text: str, reset: str, date: str) -> None:
    names = ("ratelimit", "ratelimit-policy", "x-ratelimit-remaining-tokens", "ratelimit-remaining")
    found = limits_left({**dict.fromkeys(names, text), "x-ratelimit-reset-tokens": reset, "date": date})
    assert all(one.remaining >= 0 and (one.reset is None or one.reset >= 0) for one in found)


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
