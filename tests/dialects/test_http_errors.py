"""Error answers of every known shape. Each host's own codes: tests/providers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.http_errors import CODES, ErrorBody, class_for_status, map_http_error, read_error
from llamaroute.providers.openai_compatible import SPEC
from tests.providers.wires import answer, target_of

TARGET = target_of(SPEC, {"base_url": "http://host/v1"}, "m")


@pytest.mark.parametrize(
    ("body", "message", "codes"),
    [
        ({"error": {"message": "m", "type": "t", "param": None, "code": "c"}}, "m", ("c", "t")),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, "m", ("400", "BadRequestError")),
        ({"error": {"message": "m", "code": None, "type": None}}, "m", ()),
        ({"error": {"detail": "m"}}, "m", ()),
        ({"error": {"error": "m"}}, "m", ()),
        ({"error": "m"}, "m", ()),
        ({"error": "m", "error_type": "validation"}, "m", ("validation",)),
        ({"error": "m", "code": "c"}, "m", ("c",)),
        ({"object": "error", "message": "m", "type": "t", "code": 404}, "m", ("404", "t")),
        ({"detail": "m"}, "m", ()),
        ({"detail": [{"msg": "a", "loc": ["body"]}, {"msg": "b"}]}, "a; b", ()),
        ({"detail": {"a": 1}}, "{'a': 1}", ()),
        (
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "a", 0], "msg": "not permitted"}]},
            "a.0: not permitted",
            ("extra_forbidden",),
        ),
        ({"statusCode": 401, "message": "m"}, "m", ("401",)),
        (
            {
                "error": {
                    "code": "Bad Request",
                    "message": '{"object": "error", "message": "m", "type": "t", "code": 400}',
                }
            },
            "m",
            ("400", "t", "Bad Request"),
        ),
        ({"error": {"message": '{"object":"error", cut'}}, '{"object":"error", cut', ()),
        ({"status": 400, "code": "content_filter", "message": "m", "type": None}, "m", ("content_filter",)),
        (
            {"error": {"message": "m", "innererror": {"content_filter_result": {"hate": {"filtered": True}}}}},
            "m (filtered: hate)",
            (),
        ),
        ({"success": False, "errors": [{"code": 5006, "message": "m"}], "result": {}}, "m", ("5006",)),
        ({"errors": [], "error": "m"}, "m", ()),
        ({"message": "m", "code": "c"}, "m", ("c",)),
        ({"message": "m", "error_code": "INVALID"}, "m", ("INVALID",)),
        (
            [{"error": {"message": "m", "code": 429, "status": "RESOURCE_EXHAUSTED"}}],
            "m",
            ("429", "RESOURCE_EXHAUSTED"),
        ),
        ("m", "m", ()),
        ({}, "", ()),
    ],
    ids=str,
)
def test_shapes(body: Any, message: str, codes: tuple[str, ...]) -> None:
    read = read_error(json.dumps(body).encode())
    assert (read.message, read.codes, read.raw) == (message, codes, body)


@pytest.mark.parametrize(
    ("body", "message", "raw"),
    [
        (b"", "", None),
        (b" \n", "", None),
        (b"Bad Gateway", "Bad Gateway", "Bad Gateway"),
        (
            b"<html><head><TITLE>\n502 Bad Gateway </TITLE>",
            "the host answered with a web page titled '502 Bad Gateway'",
            ...,
        ),
        (b"<!doctype html><p>x", "the host answered with a web page", ...),
        (b'{"error": ', '{"error":', ...),  # cut off
        (b"\xff\xfe", "\ufffd\ufffd", ...),
    ],
)
def test_bodies_that_are_no_json(body: bytes, message: str, raw: Any) -> None:
    read = read_error(body)
    assert read.message == message
    assert read.raw == (body.decode("utf-8", "replace").strip() if raw is ... else raw)


def test_a_body_with_half_a_pair_in_it_is_read_like_any_other() -> None:
    """Python's reader takes what the fast one refuses; the code must not be lost over it."""
    error = map_http_error(answer(b'{"error": {"message": "a\\ud800b", "code": "insufficient_quota"}}', 429), TARGET)
    assert type(error) is errors.QuotaExhaustedError
    assert str(error).encode()


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (402, errors.QuotaExhaustedError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (405, errors.InvalidRequestError),
        (408, errors.TimeoutError),
        (410, errors.ModelRetiredError),
        (413, errors.PayloadTooLargeError),
        (418, errors.InvalidRequestError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (501, errors.ServerError),
        (502, errors.OverloadedError),
        (503, errors.OverloadedError),
        (504, errors.TimeoutError),
        (520, errors.ServerError),
        (524, errors.TimeoutError),
        (529, errors.OverloadedError),
        (599, errors.ServerError),
    ],
)
def test_class_for_status(status: int, cls: type[errors.ProviderError]) -> None:
    assert class_for_status(status) is cls
    error = map_http_error(answer(b"", status), TARGET)
    assert type(error) is cls
    assert error.retryable is cls.default_retryable
    assert error.failover is cls.default_failover
    assert str(status) in error.args[0]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("key", ["code", "type"])
def test_codes_say_more_than_the_status(code: str, key: str) -> None:
    for written in (code, code.upper()):
        error = map_http_error(answer({"error": {"message": "m", key: written}}, 400), TARGET)
        assert type(error) is CODES[code]
        assert (error.status, error.code) == (400, written)


TOO_LONG = [
    "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens",
    "the request exceeds the available context size. try increasing the context size",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens",
    "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
    "AiError: The estimated number of tokens (9) exceeded this model context window limit (8).",
]


@pytest.mark.parametrize("message", TOO_LONG)
@pytest.mark.parametrize("status", [400, 422])
def test_a_prompt_that_is_too_long_where_the_host_has_no_code_for_it(message: str, status: int) -> None:
    error = map_http_error(answer({"error": {"message": message, "type": "BadRequestError"}}, status), TARGET)
    assert type(error) is errors.ContextLengthError
    assert (error.retryable, error.failover) == (False, True)


@pytest.mark.parametrize("message", TOO_LONG)
def test_the_words_alone_decide_nothing_elsewhere(message: str) -> None:
    for status, cls in ((401, errors.AuthenticationError), (429, errors.RateLimitError), (500, errors.ServerError)):
        assert type(map_http_error(answer({"error": message}, status), TARGET)) is cls


def test_a_context_error_says_how_long_where_the_host_does() -> None:
    body = {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 5003,
            "n_ctx": 4096,
        }
    }
    error = map_http_error(answer(body, 400), TARGET)
    assert isinstance(error, errors.ContextLengthError)
    assert (error.limit, error.tokens) == (4096, 5003)


def test_an_image_where_no_vision_tower_is_is_not_asked_again() -> None:
    body = {"error": {"code": 500, "message": "image input is not supported - hint: ...", "type": "server_error"}}
    error = map_http_error(answer(body, 500), TARGET)
    assert type(error) is errors.InvalidRequestError
    assert error.retryable is False


def test_everything_that_is_known_is_on_the_error() -> None:
    headers = {"x-request-id": "r", "retry-after": "3"}
    error = map_http_error(answer({"error": {"message": "m", "code": "c"}}, 429, headers), TARGET)
    assert (error.provider, error.target, error.model) == ("acc", "acc:m", "m")
    assert (error.status, error.code, error.request_id, error.retry_after) == (429, "c", "r", 3.0)
    assert str(error) == "acc:m: m (status 429, code c, request id r)"
    assert error.raw == {"error": {"message": "m", "code": "c"}}
    assert error.attempts == ()


def test_a_timeout_of_the_host_says_its_phase() -> None:
    assert map_http_error(answer(b"", 504), TARGET).phase == "first_token"
    assert map_http_error(answer(b"", 503), TARGET).phase is None


def test_a_host_may_read_the_body_itself() -> None:
    body = ErrorBody("slow down", ("overloaded",), "SLOW: slow down")
    error = map_http_error(answer(b"SLOW: slow down", 429), TARGET, body=body)
    assert type(error) is errors.OverloadedError
    assert (error.args[0], error.code, error.raw) == ("slow down", "overloaded", "SLOW: slow down")
