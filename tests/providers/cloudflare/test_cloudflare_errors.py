"""Every error code of Cloudflare's -> class, and whether it pays to ask again."""

from __future__ import annotations

import pytest

from llamaroute import errors
from llamaroute.providers.cloudflare import SPEC
from llamaroute.spi import Target
from llamaroute.types.events import TextDelta
from tests.providers.cloudflare.samples import envelope, failure
from tests.providers.wires import answer, ask, packed, sse, target_of


def target(api: str = "openai") -> Target:
    return target_of(SPEC, {"account_id": "a", "api_key": "k", "api": api})


# https://developers.cloudflare.com/workers-ai/platform/errors/ and the issues named in docs/hosts.md
CODES = [
    (3003, 400, errors.InvalidRequestError, False),
    (3006, 413, errors.PayloadTooLargeError, False),
    (3007, 408, errors.TimeoutError, True),
    (3008, 408, errors.TimeoutError, True),
    (3023, 403, errors.PermissionDeniedError, False),
    (3036, 429, errors.QuotaExhaustedError, False),
    (3040, 429, errors.OverloadedError, True),
    (3041, 403, errors.PermissionDeniedError, False),
    (3042, 404, errors.NotFoundError, False),
    (4006, 429, errors.QuotaExhaustedError, False),
    (5004, 400, errors.InvalidRequestError, False),
    (5005, 405, errors.InvalidRequestError, False),
    (5006, 400, errors.InvalidRequestError, False),
    (5007, 400, errors.NotFoundError, False),
    (5016, 403, errors.PermissionDeniedError, False),
    (5018, 403, errors.PermissionDeniedError, False),
    (5019, 405, errors.InvalidRequestError, False),
    (5021, 413, errors.ContextLengthError, False),
    (5035, 403, errors.PermissionDeniedError, False),
    (7000, 404, errors.NotFoundError, False),
    (7003, 404, errors.NotFoundError, False),
    (7003, 400, errors.NotFoundError, False),
    (7009, 502, errors.OverloadedError, True),
    (8001, 400, errors.InvalidRequestError, False),
    (8006, 400, errors.InvalidRequestError, False),
    (10000, 401, errors.AuthenticationError, False),
    (10000, 403, errors.PermissionDeniedError, False),
]


@pytest.mark.parametrize("api", ["openai", "native"])
@pytest.mark.parametrize(("code", "status", "cls", "retryable"), CODES)
def test_code(code: int, status: int, cls: type[errors.ProviderError], retryable: bool, api: str) -> None:
    body = failure(code, "AiError: AiError: what it says (3f0a)")
    error = SPEC.adapter.map_error(answer(body, status, {"cf-ray": "8a1b"}), target(api))
    assert type(error) is cls
    assert (error.status, error.code, error.retryable) == (status, str(code), retryable)
    assert error.request_id == "8a1b"
    assert "what it says" in str(error)
    assert error.raw == body


@pytest.mark.parametrize("api", ["openai", "native"])
@pytest.mark.parametrize(
    ("code", "cls", "retryable"), [(c, k, r) for c, s, k, r in CODES if (c, s) not in {(7003, 400), (10000, 403)}]
)
def test_an_error_under_status_200_means_the_same(
    code: int, cls: type[errors.ProviderError], retryable: bool, api: str
) -> None:
    """`success: false` comes with 200 too, and inside streams; the code then says what the status does not."""
    with pytest.raises(errors.ProviderError) as caught:
        SPEC.adapter.parse_response(answer(failure(code, "no")), ask(), target(api))
    assert type(caught.value) is cls
    assert caught.value.retryable is retryable
    decoder = SPEC.adapter.stream_decoder(ask(), target(api))
    with pytest.raises(errors.ProviderError) as caught:
        list(decoder.feed(sse(failure(code, "no"), done=False)))
    assert type(caught.value) is cls


@pytest.mark.parametrize(
    ("body", "status", "cls", "message"),
    [
        (
            {"error": {"code": "invalid_prompt", "message": "AiError: AiError: Request timeout (3f0a)"}},
            408,
            errors.TimeoutError,
            "Request timeout",
        ),
        ({"error": {"message": "no", "type": "x"}}, 400, errors.InvalidRequestError, "no"),
        ({"error": "Unauthorized"}, 401, errors.AuthenticationError, "Unauthorized"),
        ({"message": "no such gateway"}, 404, errors.NotFoundError, "no such gateway"),
        ({**envelope(None), "success": False}, 500, errors.ServerError, "500"),
        ({"errors": [], "success": False}, 503, errors.OverloadedError, "503"),
        (
            failure(5006, "AiError: This model's maximum context length is 131000 tokens. You requested 140000"),
            400,
            errors.ContextLengthError,
            "maximum context length",
        ),
        (b"<html><title>520: Web server is returning an unknown error</title>", 520, errors.ServerError, "520"),
        (b"error code: 524", 524, errors.TimeoutError, "524"),
    ],
)
def test_other_shapes(body: object, status: int, cls: type[errors.ProviderError], message: str) -> None:
    for api in ("openai", "native"):
        error = SPEC.adapter.map_error(answer(body, status), target(api))
        assert type(error) is cls
        assert message in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "errors": [{"code": 3040, "message": "busy"}]},
        {"choices": [], "error": {"code": 3040, "message": "busy"}},
        {"errors": [{"code": 3040, "message": "busy"}], "success": False, "result": None},
        {"error": {"code": "3040", "message": "busy"}},
    ],
)
def test_an_answer_with_an_error_in_it_is_an_error(body: dict[str, object]) -> None:
    for api in ("openai", "native"):
        with pytest.raises(errors.OverloadedError):
            SPEC.adapter.parse_response(answer(body), ask(), target(api))


@pytest.mark.parametrize(
    "result",
    [{}, None, [], {"request_id": "x", "status": "queued"}],
    ids=str,
)
def test_a_result_without_an_answer_is_no_answer(result: object) -> None:
    """Better an error, which another target may mend, than an empty text that looks like the model's."""
    with pytest.raises(errors.ProviderError):
        SPEC.adapter.parse_response(answer(envelope(result)), ask(), target("native"))


@pytest.mark.parametrize("api", ["openai", "native"])
def test_the_first_error_of_several_counts(api: str) -> None:
    body = {"success": False, "errors": [{"code": 7003, "message": "first"}, {"code": 7000, "message": "second"}]}
    error = SPEC.adapter.map_error(answer(body, 404), target(api))
    assert (error.code, error.args[0]) == ("7003", "first")


def test_an_error_after_text_keeps_the_text() -> None:
    body = sse({"response": "Os"}, failure(3040, "busy"), done=False)
    decoder = SPEC.adapter.stream_decoder(ask(), target("native"))
    events = []
    feed = iter(decoder.feed(body))
    with pytest.raises(errors.OverloadedError):
        events.extend(feed)
    assert TextDelta("Os") in events


def test_a_gateway_log_id_is_a_request_id() -> None:
    headers = {"cf-aig-log-id": "01J", "cf-ray": "8a1b"}
    assert SPEC.adapter.map_error(answer(packed({}), 500, headers), target()).request_id == "01J"
