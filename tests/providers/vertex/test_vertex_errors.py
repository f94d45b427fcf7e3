"""Vertex AI's answers and errors: google.rpc statuses, arrays around them, remedies, and the quirks of its streams."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.providers.vertex import SPEC
from llamaroute.spi import Target
from tests.providers.vertex.samples import (
    MAAS,
    OSLO,
    ROME,
    TOOL_REQUEST,
    UNKNOWN_MODEL,
    chunk,
    completion,
    info,
    predicted,
    rpc,
)
from tests.providers.wires import answer, ask, packed, sse, target_of


def target(**settings: Any) -> Target:
    return target_of(SPEC, {"project": "p-1", **settings}, "llama-4-maverick")


NOT_ENABLED = (
    "Project `1` is not allowed to use Publisher Model `projects/p/locations/us-east5/publishers/meta/models/m`"
)
WEB_PAGE = b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title></html>"


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in an array"])
@pytest.mark.parametrize(
    ("body", "cls", "retryable", "code", "message"),
    [
        (rpc(400, "bad", "INVALID_ARGUMENT"), errors.InvalidRequestError, False, "INVALID_ARGUMENT", "bad"),
        (rpc(400, "bad", "OUT_OF_RANGE"), errors.InvalidRequestError, False, "OUT_OF_RANGE", "bad"),
        (rpc(400, "not so", "FAILED_PRECONDITION"), errors.InvalidRequestError, False, "FAILED_PRECONDITION", "not so"),
        (
            rpc(400, NOT_ENABLED, "FAILED_PRECONDITION"),
            errors.PermissionDeniedError,
            False,
            "FAILED_PRECONDITION",
            "enable the model and accept its licence",
        ),
        (rpc(401, "expired", "UNAUTHENTICATED"), errors.AuthenticationError, False, "UNAUTHENTICATED", "expired"),
        (
            rpc(401, "expired", "UNAUTHENTICATED", info("ACCESS_TOKEN_EXPIRED")),
            errors.AuthenticationError,
            False,
            "ACCESS_TOKEN_EXPIRED",
            "not renewed",
        ),
        (rpc(403, "no", "PERMISSION_DENIED"), errors.PermissionDeniedError, False, "PERMISSION_DENIED", "no"),
        (
            rpc(403, "no", "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED")),
            errors.PermissionDeniedError,
            False,
            "IAM_PERMISSION_DENIED",
            "roles/aiplatform.user",
        ),
        (
            rpc(403, "It is disabled.", "PERMISSION_DENIED", {"@type": "x"}, info("SERVICE_DISABLED")),
            errors.PermissionDeniedError,
            False,
            "SERVICE_DISABLED",
            "gcloud services enable aiplatform.googleapis.com",
        ),
        (UNKNOWN_MODEL, errors.NotFoundError, False, "NOT_FOUND", "Model Garden"),
        (rpc(404, "Endpoint x", "NOT_FOUND"), errors.NotFoundError, False, "NOT_FOUND", "Endpoint x"),
        (rpc(409, "aborted", "ABORTED"), errors.OverloadedError, True, "ABORTED", "aborted"),
        (rpc(429, "exhausted", "RESOURCE_EXHAUSTED"), errors.RateLimitError, True, "RESOURCE_EXHAUSTED", "exhausted"),
        (rpc(499, "gone", "CANCELLED"), errors.ServerError, True, "CANCELLED", "gone"),
        (rpc(500, "broken", "INTERNAL"), errors.ServerError, True, "INTERNAL", "broken"),
        (rpc(501, "what?", "UNIMPLEMENTED"), errors.InvalidRequestError, False, "UNIMPLEMENTED", "what?"),
        (rpc(503, "full", "UNAVAILABLE"), errors.OverloadedError, True, "UNAVAILABLE", "full"),
        (
            rpc(503, "Took too long to respond when processing", "UNAVAILABLE"),
            errors.OverloadedError,
            True,
            "UNAVAILABLE",
            "fewer max_tokens",
        ),
        (rpc(504, "late", "DEADLINE_EXCEEDED"), errors.TimeoutError, True, "DEADLINE_EXCEEDED", "late"),
        # What a container says of itself goes through as it is.
        (
            {"error": {"message": "m", "type": "NotFoundError", "param": None, "code": 404}},
            errors.NotFoundError,
            False,
            "404",
            "m",
        ),
        (
            {
                "error": {
                    "message": "This model's maximum context length is 10 tokens.",
                    "type": "BadRequestError",
                    "code": 400,
                }
            },
            errors.ContextLengthError,
            False,
            "400",
            "maximum",
        ),
    ],
)
def test_errors(
    body: Any, cls: type[errors.ProviderError], retryable: bool, code: str, message: str, wrapped: bool
) -> None:
    whole = [body] if wrapped else body
    error = SPEC.adapter.map_error(answer(whole, body["error"]["code"]), target())
    assert type(error) is cls
    assert (error.retryable, error.code, error.status) == (retryable, code, body["error"]["code"])
    assert message in str(error)
    assert error.raw == whole
    assert body["error"]["message"].rstrip(".") in str(error)


def test_a_web_page_says_what_to_look_at() -> None:
    error = SPEC.adapter.map_error(answer(WEB_PAGE, 404, {"content-type": "text/html"}), target())
    assert type(error) is errors.NotFoundError
    assert "Error 404 (Not Found)!!1" in str(error)
    assert "check region, api_version and base_url" in str(error)
    assert "check region" not in str(SPEC.adapter.map_error(answer(WEB_PAGE, 502), target()))


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([], {}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}], {}, 12.5),
        ([info("RATE_LIMIT_EXCEEDED"), {"retryDelay": "3s"}], {}, 3.0),
        ([{"retryDelay": "3s"}], {"retry-after": "7"}, 7.0),
        ([{"retryDelay": "soon"}, {"retryDelay": 4}, None, "x"], {}, None),
    ],
)
def test_when_to_ask_again(details: list[Any], headers: dict[str, str], seconds: float | None) -> None:
    body = rpc(429, "exhausted", "RESOURCE_EXHAUSTED", *details)
    assert SPEC.adapter.map_error(answer(body, 429, headers), target()).retry_after == seconds


@pytest.mark.parametrize("details", [None, {}, "x", [1], [{"reason": 3}], [{"reason": None}]])
def test_details_may_be_anything(details: Any) -> None:
    body = {"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED", "details": details}}
    error = SPEC.adapter.map_error(answer(body, 403), target())
    assert (type(error), error.code) == (errors.PermissionDeniedError, "PERMISSION_DENIED")


@pytest.mark.parametrize("body", [rpc(503, "full", "UNAVAILABLE"), [rpc(503, "full", "UNAVAILABLE")]])
def test_an_error_under_a_status_of_success(body: Any) -> None:
    with pytest.raises(errors.OverloadedError) as caught:
        SPEC.adapter.parse_response(answer(body), ask(), target())
    assert caught.value.raw == body
    with pytest.raises(errors.OverloadedError) as caught:
        list(SPEC.adapter.stream_decoder(ask(), target()).feed(sse(f"data: {packed(body).decode()}")))
    assert (caught.value.code, caught.value.raw) == ("UNAVAILABLE", body)


# -- answers -----------------------------------------------------------------------------------------------------------


def parse(payload: Any, request: Any = None, **settings: Any) -> Any:
    return SPEC.adapter.parse_response(answer(payload), request or ask(), target(**settings))


def decode(*events: Any, request: Any = None) -> Any:
    decoder = SPEC.adapter.stream_decoder(request or ask(), target())
    return fold([*decoder.feed(sse(*events)), *decoder.close()])


EMPTY = {"role": "assistant", "content": ""}


def test_an_empty_answer_is_not_silent() -> None:
    for response in (parse(completion(EMPTY, "stop")), decode(chunk(EMPTY, "stop"))):
        assert (response.text, response.finish_reason) == ("", "stop")
        assert [notice.code for notice in response.warnings] == ["empty_answer"]
    for response in (
        parse(completion(EMPTY, "length")),
        parse(completion({**EMPTY, "tool_calls": [{"function": OSLO}]}, "stop")),
        parse(completion({"content": "Hi"}, "stop")),
        decode(chunk({"content": "Hi"}), chunk({}, "stop")),
    ):
        assert response.warnings == ()


def test_what_llama_guard_stopped() -> None:
    response = parse(completion({**EMPTY, "refusal": "It is unsafe."}, "content_filtered"))
    assert (response.finish_reason, response.raw_finish_reason) == ("content_filter", "content_filtered")
    assert response.text == "It is unsafe."


def pieces(*texts: str) -> list[dict[str, Any]]:
    return [chunk({"tool_calls": [{"function": {"arguments": text}}]}) for text in texts]


@pytest.mark.parametrize(
    "events",
    [
        [chunk({"tool_calls": [{"function": OSLO}, {"function": ROME}]})],
        [chunk({"tool_calls": [{"function": OSLO}]}), chunk({"tool_calls": [{"function": ROME}]})],
        [
            chunk({"tool_calls": [{"function": {"name": "weather", "arguments": ""}}]}),
            *pieces('{"city":', ' "Oslo"}'),
            chunk({"tool_calls": [{"function": {"name": "weather", "arguments": '{"city":'}}]}),
            *pieces(' "Rome"}'),
        ],
    ],
    ids=["in one chunk", "whole, one after the other", "in pieces"],
)
def test_tool_calls_without_id_and_index(events: list[dict[str, Any]]) -> None:
    response = decode(*events, chunk({}, "stop"), request=TOOL_REQUEST)
    assert [(call.name, call.arguments) for call in response.tool_calls] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome"}),
    ]
    assert len({call.id for call in response.tool_calls}) == 2
    assert response.finish_reason == "tool_calls"


def test_another_name_begins_another_call() -> None:
    response = decode(
        chunk({"tool_calls": [{"function": OSLO}]}),
        chunk({"tool_calls": [{"function": {"name": "time", "arguments": ""}}]}),
        *pieces('{"zone": 1}'),
        chunk({}, "stop"),
        request=TOOL_REQUEST,
    )
    assert [(call.name, call.arguments) for call in response.tool_calls] == [
        ("weather", {"city": "Oslo"}),
        ("time", {"zone": 1}),
    ]


def test_a_name_that_is_repeated_with_every_piece_is_one_call() -> None:
    response = decode(
        *[
            chunk({"tool_calls": [{"function": {"name": "weather", "arguments": text}}]})
            for text in ('{"city":', ' "Oslo"', "}")
        ],
        chunk({"tool_calls": [{"function": {"name": "weather", "arguments": ""}}]}),
        chunk({}, "stop"),
        request=TOOL_REQUEST,
    )
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("weather", {"city": "Oslo"})]


OWN: dict[str, Any] = {"api": "endpoint", "endpoint_id": "42", "route": "predict"}


def test_predictions() -> None:
    response = parse(predicted(completion({"role": "assistant", "content": "Hi"}, "stop")), **OWN)
    assert (response.text, response.usage.total_tokens) == ("Hi", 27)
    assert response.raw["deployedModelId"] == "6789"


@pytest.mark.parametrize(
    ("predictions", "cls"),
    [
        (["Prompt:\nHi\nOutput:\nHello"], errors.ProtocolError),  # a container that does not know the format
        ([], errors.ProtocolError),
        (None, errors.ProtocolError),
        ({"text": "Hi"}, errors.ProtocolError),
        ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, errors.InvalidRequestError),
        ({"error": {"message": "no", "type": "InternalServerError", "code": 500}}, errors.ServerError),
    ],
)
def test_predictions_that_are_none(predictions: Any, cls: type[errors.ProviderError]) -> None:
    with pytest.raises(cls) as caught:
        parse(predicted(predictions), **OWN)
    assert caught.value.raw is not None


def test_no_answer_of_llama_is_called_recorded() -> None:
    """There is no such recording."""
    assert {sample.evidence for sample in MAAS if sample.status < 400} == {"inferred", "documented"}
