"""Azure AI Foundry: what its errors, its filters and its two ways of sending usage become."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.providers.azure import SPEC
from llamaroute.spi import Target
from llamaroute.types.response import ChatResponse, Notice
from tests.providers.azure.samples import (
    ANNOUNCED,
    ANSWER,
    BLOCKED,
    LIMITED,
    PROMPT_BLOCKED,
    PROMPT_BLOCKED_FLAT,
    SAFE,
)
from tests.providers.wires import USAGE, answer, ask, chunk, completion, sse, target_of

TARGET: Target = target_of(SPEC, {"endpoint": "https://acme.services.ai.azure.com", "api_key": "k"})
KEY = "Access denied due to invalid subscription key or wrong API endpoint."


def parse(payload: Any) -> ChatResponse[Any]:
    return SPEC.adapter.parse_response(answer(payload), ask(), TARGET)


def decode(body: bytes) -> ChatResponse[Any]:
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    return fold([*decoder.feed(body), *decoder.close()])


@pytest.mark.parametrize(
    ("status", "body", "cls", "code", "message"),
    [
        (401, {"error": {"code": "401", "message": KEY}}, errors.AuthenticationError, "401", KEY),
        (
            401,
            {"statusCode": 401, "message": "Auth token validation failed."},
            errors.AuthenticationError,
            "401",
            "Auth token validation failed.",
        ),
        (
            401,
            {"error": {"code": "PermissionDenied", "message": "The principal lacks the required data action x"}},
            errors.PermissionDeniedError,
            "PermissionDenied",
            "The principal lacks the required data action x",
        ),
        (400, {"detail": "Extra parameters ['n'] are not"}, errors.InvalidRequestError, None, "Extra parameters ['n']"),
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]},
            errors.InvalidRequestError,
            "extra_forbidden",
            "n: Extra inputs are not permitted",
        ),
        (
            400,
            {"object": "error", "message": "At most 1 image(s)", "type": "BadRequestError", "param": None, "code": 400},
            errors.InvalidRequestError,
            "400",
            "At most 1 image(s)",
        ),
        (
            400,
            {
                "object": "error",
                "message": "maximum context length is 8 tokens",
                "type": "BadRequestError",
                "code": 400,
            },
            errors.ContextLengthError,
            "400",
            "maximum context length",
        ),
        (
            404,
            {"error": {"code": "DeploymentNotFound", "message": "no deployment"}},
            errors.NotFoundError,
            "DeploymentNotFound",
            "no deployment",
        ),
        (
            400,
            {"error": {"code": "unknown_model", "message": "Unknown model: x", "details": "Unknown model: x"}},
            errors.NotFoundError,
            "unknown_model",
            "Unknown model: x",
        ),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, errors.NotFoundError, "404", "not found"),
        (400, {"error": "plain words"}, errors.InvalidRequestError, None, "plain words"),
        (410, {"error": {"message": "gone", "code": "x"}}, errors.ModelRetiredError, "x", "gone"),
        (
            429,
            {"error": {"code": "RateLimitReached", "message": LIMITED, "details": LIMITED}},
            errors.RateLimitError,
            "RateLimitReached",
            LIMITED,
        ),
        (
            400,
            {
                "error": {
                    "message": "Unsupported parameter",
                    "type": "invalid_request_error",
                    "code": "unsupported_parameter",
                }
            },
            errors.InvalidRequestError,
            "unsupported_parameter",
            "Unsupported parameter",
        ),
        (431, b"", errors.InvalidRequestError, None, "431"),
        (503, b"<html><title>Service Unavailable</title>", errors.OverloadedError, None, "Service Unavailable"),
    ],
)
def test_errors(status: int, body: Any, cls: type[errors.ProviderError], code: str | None, message: str) -> None:
    error = SPEC.adapter.map_error(answer(body, status, {"apim-request-id": "r-1"}), TARGET)
    assert type(error) is cls
    assert (error.status, error.code, error.request_id) == (status, code, "r-1")
    assert message in error.args[0]


def test_a_prompt_that_is_longer_than_the_minute_stays_a_rate_limit() -> None:
    """Recorded: `/models` answers 429 to it, with the same words; and milliseconds that say 0 beside a second."""
    body = {"error": {"code": "RateLimitReached", "message": LIMITED, "details": LIMITED}}
    error = SPEC.adapter.map_error(answer(body, 429, {"retry-after": "1", "retry-after-ms": "0"}), TARGET)
    assert (type(error), error.retryable, error.retry_after) == (errors.RateLimitError, True, 1.0)


@pytest.mark.parametrize("body", [PROMPT_BLOCKED, PROMPT_BLOCKED_FLAT], ids=["nested", "flat"])
def test_a_prompt_that_the_filter_stopped(body: dict[str, Any]) -> None:
    error = SPEC.adapter.map_error(answer(body, 400), TARGET)
    assert type(error) is errors.ContentFilterError
    assert (error.code, error.retryable, error.failover, error.raw) == ("content_filter", False, False, body)


def test_the_error_names_what_the_prompt_was_stopped_for() -> None:
    results = {**BLOCKED, "self-harm": {"filtered": True, "severity": "medium"}, "jailbreak": {"filtered": True}}
    body = {"error": {**PROMPT_BLOCKED["error"], "innererror": {"content_filter_result": results}}}
    message = SPEC.adapter.map_error(answer(body, 400), TARGET).args[0]
    assert message.endswith("(filtered: jailbreak, self_harm (medium))")


@pytest.mark.parametrize("message", [{}, {"message": {"role": "assistant", "content": "Os"}}], ids=["none", "some"])
def test_an_answer_that_the_filter_stopped_is_an_answer(message: dict[str, Any]) -> None:
    choice = {"index": 0, "finish_reason": "content_filter", "content_filter_results": BLOCKED, **message}
    response = parse({**ANSWER, "choices": [choice]})
    assert response.finish_reason == "content_filter"
    assert response.text == ("Os" if message else "")
    assert response.warnings == (
        Notice("content_filtered", "the host's content filter stopped the answer: self_harm (medium)", "text"),
    )


def test_a_stream_that_the_filter_stopped() -> None:
    body = sse(
        ANNOUNCED,
        chunk({"role": "assistant", "content": "Os"}),
        # The asynchronous filter speaks in chunks of their own, without text.
        chunk({}, choice={"content_filter_results": BLOCKED, "content_filter_offsets": {"start_offset": 0}}),
        chunk({}, "content_filter", choice={"content_filter_results": BLOCKED}),
    )
    response = decode(body)
    assert (response.text, response.finish_reason) == ("Os", "content_filter")
    assert [(notice.code, notice.message) for notice in response.warnings] == [
        ("content_filtered", "the host's content filter stopped the answer: self_harm (medium)")
    ]
    assert [payload["choices"][0].get("content_filter_results") for payload in response.raw[2:]] == [BLOCKED, BLOCKED]


def test_a_prompt_that_is_reported_as_filtered_is_told() -> None:
    prompt = [{"prompt_index": 0, "content_filter_results": {"jailbreak": {"filtered": True, "detected": True}}}]
    told = "the host's content filter stopped the answer: jailbreak"
    assert [n.message for n in parse({**ANSWER, "prompt_filter_results": prompt}).warnings] == [told]
    streamed = decode(sse({**ANNOUNCED, "prompt_filter_results": prompt}, chunk({"content": "Hi"}), chunk({}, "stop")))
    assert [n.message for n in streamed.warnings] == [told]


def test_filters_that_found_nothing_stay_in_raw() -> None:
    response = parse(ANSWER)
    assert response.warnings == ()
    assert response.raw["choices"][0]["content_filter_results"] == SAFE
    assert decode(sse(ANNOUNCED, chunk({"content": "Hi"}), chunk({}, "stop"))).warnings == ()


@pytest.mark.parametrize(
    "odd", [None, [], "x", {"hate": None}, {"hate": {"filtered": "yes"}}, {"error": {"code": "content_filter_error"}}]
)
def test_odd_results_are_no_filter(odd: Any) -> None:
    choice = {"content_filter_results": odd}
    body = completion({"role": "assistant", "content": "Hi"}, "stop", choice=choice, prompt_filter_results=odd)
    assert parse(body).warnings == ()


def test_usage_on_the_last_choice_and_in_a_chunk_of_its_own() -> None:
    start = chunk({"role": "assistant", "content": "Hi"})
    for tail in ([chunk({"content": ""}, "stop", usage=USAGE)], [chunk({}, "stop"), chunk(usage=USAGE)]):
        usage = decode(sse(start, *tail)).usage
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.estimated) == (21, 6, 27, False)
