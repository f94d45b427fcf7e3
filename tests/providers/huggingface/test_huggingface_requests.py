"""Hugging Face: URLs, headers, bodies, errors and environment variables of the router and of dedicated endpoints."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute import errors
from llamaroute.providers.huggingface import SPEC
from llamaroute.spi import Target
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema
from tests.providers.wires import WEATHER, answer, ask, json_of, sse, target_of, text_of

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
ENDPOINT = "https://abc.us-east-1.aws.endpoints.huggingface.cloud"
SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})


def target(model: str = "llama-4-scout", **settings: Any) -> Target:
    return target_of(SPEC, {"api_key": "hf_x", **settings}, model)


def build(request: ChatRequest, **settings: Any) -> Any:
    return SPEC.adapter.build_request(request, target(**settings), stream=False)


# The rule of Hugging Face's own client: .../chat/completions as it is, .../v1 gets the rest, anything else gets both.
@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://router.huggingface.co/v1/chat/completions"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "http://127.0.0.1:9/v1/chat/completions"),
        ({"base_url": "http://127.0.0.1:9/v1/"}, "http://127.0.0.1:9/v1/chat/completions"),
        ({"base_url": "http://127.0.0.1:9/v1?a=b"}, "http://127.0.0.1:9/v1/chat/completions?a=b"),
        (
            {"base_url": "https://router.huggingface.co/nscale/v1/chat/completions"},
            "https://router.huggingface.co/nscale/v1/chat/completions",
        ),
        ({"url": ENDPOINT}, f"{ENDPOINT}/v1/chat/completions"),
        ({"url": f"{ENDPOINT}/"}, f"{ENDPOINT}/v1/chat/completions"),
        ({"url": f"{ENDPOINT}/v1"}, f"{ENDPOINT}/v1/chat/completions"),
        ({"url": f"{ENDPOINT}/v1/"}, f"{ENDPOINT}/v1/chat/completions"),
        ({"url": f"{ENDPOINT}/sub"}, f"{ENDPOINT}/sub/v1/chat/completions"),
        ({"url": f"{ENDPOINT}/v1/chat/completions"}, f"{ENDPOINT}/v1/chat/completions"),
        ({"url": f"{ENDPOINT}?a=b"}, f"{ENDPOINT}/v1/chat/completions?a=b"),
        ({"url": f"{ENDPOINT}/v1?a=b"}, f"{ENDPOINT}/v1/chat/completions?a=b"),
        ({"url": f"{ENDPOINT}/v1/chat/completions?a=b"}, f"{ENDPOINT}/v1/chat/completions?a=b"),
    ],
    ids=str,
)
def test_url(settings: dict[str, Any], url: str) -> None:
    assert build(ask(), **settings).url == url


@pytest.mark.parametrize(
    ("settings", "model", "sent"),
    [
        ({}, "llama-4-scout", SCOUT),
        ({}, "llama-4-maverick", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"),
        ({"inference_provider": "nscale"}, "llama-4-scout", f"{SCOUT}:nscale"),
        ({"inference_provider": "cheapest"}, f"{SCOUT}:groq", f"{SCOUT}:groq"),  # one suffix at a time
        ({"inference_provider": "nscale", "url": ENDPOINT}, "llama-4-scout", SCOUT),
        ({"models": {"llama-4-scout": "/repository"}, "url": ENDPOINT}, "llama-4-scout", "/repository"),
    ],
    ids=str,
)
def test_model(settings: dict[str, Any], model: str, sent: str) -> None:
    wire = SPEC.adapter.build_request(ask(), target(model, **settings), stream=False)
    assert json_of(wire)["model"] == sent
    assert text_of(wire).startswith(b'{"model":"')  # the router reads only the head of a large body


def test_headers_of_the_router() -> None:
    assert dict(build(ask()).headers) == {"content-type": "application/json", "accept": "application/json"}
    assert build(ask(), bill_to="my-org").headers["x-hf-bill-to"] == "my-org"
    assert "x-scale-up-timeout" not in build(ask(), scale_up_timeout=600).headers


def test_a_dedicated_endpoint_may_start_from_zero() -> None:
    assert build(ask(), url=ENDPOINT).headers["x-scale-up-timeout"] == "300"
    assert build(ask(), url=ENDPOINT, scale_up_timeout=600).headers["x-scale-up-timeout"] == "600"
    assert "x-scale-up-timeout" not in build(ask(), url=ENDPOINT, scale_up_timeout=0).headers
    assert target(url=ENDPOINT, scale_up_timeout=600).options.default_timeout()["first_token"] > 600
    assert target(url=ENDPOINT, scale_up_timeout=0).options.default_timeout() == {}
    assert target().options.default_timeout() == {}
    with pytest.raises(ValidationError):
        target(scale_up_timeout=-1)


def test_tools_and_schema_as_openai_has_them() -> None:
    sent = json_of(build(ask(tools=(WEATHER,), output=SCHEMA, logprobs=5, top_k=3)))
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "strict": True, "schema": dict(SCHEMA.schema)},
    }
    assert (sent["tool_choice"], sent["top_logprobs"], sent["top_k"]) == ("auto", 5, 3)


def test_tgi_in_a_dedicated_endpoint() -> None:
    sent = json_of(build(ask(output=SCHEMA, top_p=1.0), url=ENDPOINT, dialect="tgi"))
    assert sent["response_format"] == {"type": "json_object", "value": dict(SCHEMA.schema)}
    assert "top_p" not in sent


HEADERS = {"x-request-id": "Root=1-2-3"}


@pytest.mark.parametrize(
    ("status", "body", "cls", "retryable", "message"),
    [
        (
            400,
            {"error": {"message": "not supported", "type": "invalid_request_error", "code": "model_not_supported"}},
            errors.NotFoundError,
            False,
            "not supported",
        ),
        (400, {"error": "X is not a chat model."}, errors.InvalidRequestError, False, "not a chat model"),
        (401, {"error": "Invalid credentials"}, errors.AuthenticationError, False, "Invalid credentials"),
        (402, {"error": "You have exceeded your credits"}, errors.QuotaExhaustedError, False, "credits"),
        (403, {"error": "This authentication method lacks permission"}, errors.PermissionDeniedError, False, "lacks"),
        (404, {"error": "Not Found"}, errors.NotFoundError, False, "Not Found"),
        (404, {"detail": "Not Found"}, errors.NotFoundError, False, "Not Found"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, errors.InvalidRequestError, False, "bad"),
        (422, {"message": "bad"}, errors.InvalidRequestError, False, "bad"),
        (
            422,
            {"error": "Input validation error: x", "error_type": "validation"},
            errors.InvalidRequestError,
            False,
            "x",
        ),
        (
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 10. Given: 9 and 8",
                "error_type": "validation",
            },
            errors.ContextLengthError,
            False,
            "must be <= 10",
        ),
        (
            424,
            {"error": "Request failed during generation: x", "error_type": "generation"},
            errors.ServerError,
            True,
            "x",
        ),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}, errors.OverloadedError, True, "overloaded"),
        (429, {"error": "rate limit"}, errors.RateLimitError, True, "rate limit"),
        (500, {"error": "Internal", "error_type": "incomplete_generation"}, errors.ServerError, True, "Internal"),
        (502, b"", errors.OverloadedError, True, "502"),
        (503, {"error": "Model is loading", "estimated_time": 20.0}, errors.OverloadedError, True, "loading"),
        (503, b"503 Service Unavailable", errors.OverloadedError, True, "Unavailable"),
        (504, b"<html><title>504 Gateway Time-out</title></html>", errors.TimeoutError, True, "504 Gateway"),
    ],
)
def test_errors(status: int, body: Any, cls: type[errors.ProviderError], retryable: bool, message: str) -> None:
    error = SPEC.adapter.map_error(answer(body, status, HEADERS), target())
    assert type(error) is cls
    assert (error.status, error.retryable, error.request_id) == (status, retryable, "Root=1-2-3")
    assert message in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, 55.0),
        ({"ratelimit": '"api";r=12;t=55'}, None),  # sent with every answer; only r=0 means that a limit was reached
        ({"ratelimit": '"api";r=0;t=55', "retry-after": "7"}, 7.0),
        ({"retry-after": "2"}, 2.0),
    ],
)
def test_when_to_ask_again(headers: dict[str, str], seconds: float | None) -> None:
    """https://huggingface.co/docs/hub/rate-limits"""
    assert SPEC.adapter.map_error(answer(b"", 429, headers), target()).retry_after == seconds


def test_the_message_of_an_error_without_a_body_is_in_a_header() -> None:
    headers = {"x-error-code": "GatedRepo", "x-error-message": "Access to this model is restricted"}
    error = SPEC.adapter.map_error(answer(b"", 403, headers), target())
    assert "Access to this model is restricted" in str(error)


def test_retry_after_of_an_answer_that_is_fine_means_nothing() -> None:
    body = {
        "id": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    }
    response = SPEC.adapter.parse_response(answer(body, 200, {"retry-after": "30"}), ask(), target())
    assert (response.text, response.usage.estimated) == ("Hi", True)


@pytest.mark.parametrize(
    ("event", "cls"),
    [
        ({"error": "Model too busy"}, errors.ServerError),
        ({"error": {"message": "m", "http_status_code": 422}}, errors.InvalidRequestError),
        ({"error": {"message": "m", "http_status_code": 429}}, errors.RateLimitError),
        ({"error": {"message": "m", "type": "overloaded", "http_status_code": 429}}, errors.OverloadedError),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, errors.InvalidRequestError),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, errors.RateLimitError),
    ],
    ids=str,
)
def test_errors_inside_a_stream(event: dict[str, Any], cls: type[errors.ProviderError]) -> None:
    decoder = SPEC.adapter.stream_decoder(ask(), target())
    with pytest.raises(cls) as caught:
        list(decoder.feed(sse(event)))
    assert type(caught.value) is cls
    assert caught.value.raw == event


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        ({"HF_TOKEN": ""}, None),
        ({"HF_TOKEN": "hf_a"}, {"api_key": "hf_a"}),
        ({"HUGGING_FACE_HUB_TOKEN": "hf_b"}, {"api_key": "hf_b"}),
        ({"HF_TOKEN": "hf_a", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, {"api_key": "hf_a"}),
        ({"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, None),
    ],
    ids=str,
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    assert SPEC.from_env(env) == table
