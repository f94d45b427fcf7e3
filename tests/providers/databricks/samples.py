"""Answers of Databricks, written by hand after the sources named."""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.wires import WEATHER, ask, call, packed, sse

LLAMA = "llamastack/llama-stack:tests/integration/recordings/responses (Llama 3.3 on the same route, 2025-09)"
CLAUDE = "posit-dev/chatlas:tests/_vcr/test_provider_databricks (another model on the same route, 2025-12-31)"
PARTS = "pydantic/pydantic-ai:tests/models/cassettes/test_databricks (shapes as its author reported them)"
MEASURED = "getlago/lago-agent-sdk-python: Databricks gateway guide and wrapper tests (streams of Maverick, 2026-08)"
CLIENT = "databricks/databricks-ai-bridge: integrations/ai-sdk-provider/src/fmapi-language-model/fmapi-schema.ts"
SDK = "PyPI package databricks-sdk 0.156.0, databricks/sdk/errors"
LIMITS = "https://docs.databricks.com/aws/machine-learning/foundation-model-apis/limits"
RATE = "https://github.com/n8n-io/n8n/pull/38642"

TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,))
HEADERS = {
    "content-type": "application/json",
    "server": "databricks",
    "x-request-id": "ce20e1b0-5843-4bc0-b0d6-b7a796f29a0a",
    "x-databricks-org-id": "138962681435081",
}
MODEL = "meta-llama-4-maverick-040225"
"""What answers call the model, whatever it was asked for by."""


def usage(completion: int | None, prompt: int = 14) -> dict[str, int | None]:
    total = None if completion is None else prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def answer_of(message: dict[str, Any], finish: str = "stop", completion: int = 6) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    return {
        "id": "chatcmpl_52eec823-4235-473d-b25a-f0af4ebd4837",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": MODEL,
        "choices": [choice],
        "usage": usage(completion),
    }


def piece(delta: dict[str, Any] | None, finish: str | None = None, used: Any = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl_52eec823-4235-473d-b25a-f0af4ebd4837",
        "object": "chat.completion.chunk",
        "created": 1_780_000_000,
        "model": MODEL,
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}],
        "usage": used,
    }


def refusal(code: str | int, message: str, **more: Any) -> bytes:
    return packed({"error_code": code, "message": message, **more})


TEXT = Sample(
    "text",
    packed(answer_of({"content": "Oslo is cloudy."})),
    headers=HEADERS,
    source=LLAMA,
    evidence="recorded",
)
CALL_TEXT = '{ "city": "Oslo" }'

SAMPLES = (
    TEXT,
    Sample(
        "parts",
        packed(answer_of({"content": [{"type": "text", "text": "Oslo is cloudy."}]})),
        headers=HEADERS,
        source=PARTS,
        evidence="inferred",
    ),
    Sample(
        "reasoning",
        packed(
            answer_of(
                {
                    "content": [
                        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                        {"type": "text", "text": "Oslo is cloudy."},
                    ]
                }
            )
        ),
        headers=HEADERS,
        source=CLIENT,
        evidence="documented",
    ),
    Sample(
        "calls",
        packed(
            answer_of(
                {"content": None, "tool_calls": [call(0, "call_99ab", "weather", CALL_TEXT)]},
                "tool_calls",
            )
        ),
        headers=HEADERS,
        request=TOOL_REQUEST,
        source=LLAMA,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            piece({"role": "assistant", "content": ""}, used=usage(2)),
            piece({"role": None, "content": "Oslo is"}, used=usage(2)),
            piece({"content": " cloudy."}, used=usage(5)),
            piece({"content": ""}, "stop", used=usage(6)),
        ),
        headers={**HEADERS, "content-type": "text/event-stream"},
        stream=True,
        same_as="text",
        source=MEASURED,
        evidence="recorded",
    ),
    Sample(
        "nulls-in-usage-stream",
        sse(
            piece({"role": "assistant", "content": "Oslo"}, used=usage(None)),
            piece({"role": "assistant", "content": " is cloudy."}, used=usage(None)),
            piece({"role": "assistant"}, "stop", used=usage(6)),
        ),
        stream=True,
        same_as="text",
        source=CLAUDE,
        evidence="recorded",
    ),
    Sample(
        "parts-stream",
        sse(
            piece({"role": "assistant", "content": [{"type": "reasoning"}]}),
            piece({"content": [{"type": "reasoning", "text": "Hm."}]}),
            piece({"content": [{"type": "text", "text": "Oslo is cloudy."}]}),
            piece({}, "stop"),
            piece(None, used=usage(6)),
            done=False,
        ),
        stream=True,
        same_as="reasoning",
        source=PARTS,
        evidence="inferred",
    ),
    Sample(
        "calls-stream",
        sse(
            piece(
                {"role": "assistant", "content": None, "tool_calls": [call(0, "call_99ab", "weather", "")]},
                used=usage(3),
            ),
            piece({"content": None, "tool_calls": [call(0, None, None, CALL_TEXT)]}, used=usage(6)),
            piece({"content": ""}, "tool_calls", used=usage(6)),
        ),
        stream=True,
        same_as="calls",
        request=TOOL_REQUEST,
        source=LLAMA,
        evidence="recorded",
    ),
    Sample(
        "error-in-stream",
        sse(piece({"content": "Os"}), {"error_code": "INTERNAL_ERROR", "message": "The model stopped."}),
        stream=True,
        source=SDK,
        evidence="inferred",
    ),
    Sample(
        "old-token",
        refusal(403, "Invalid access token. [ReqId: 8ce2f1d0-0000-4000-8000-000000000000]"),
        status=403,
        headers={"x-databricks-reason-phrase": "Invalid access token."},
        source="several public recordings of 2026",
        evidence="recorded",
    ),
    Sample(
        "no-permission",
        refusal("PERMISSION_DENIED", "User does not have permission 'View' on Endpoint gte-large-en"),
        status=403,
        source="https://github.com/databricks-demos/dbdemos/issues/218",
        evidence="recorded",
    ),
    Sample(
        "no-endpoint",
        refusal(
            "ENDPOINT_NOT_FOUND",
            "The given endpoint does not exist, please retry after checking the specified model and version "
            "deployment exists.",
        ),
        status=404,
        source="several public issues",
        evidence="recorded",
    ),
    Sample(
        "roles",
        refusal("BAD_REQUEST", "Bad request: rpc error: code = InvalidArgument desc = Chat message input roles ..."),
        status=400,
        source="https://github.com/567-labs/instructor/issues/691",
        evidence="recorded",
    ),
    Sample(
        "rate",
        refusal(
            "REQUEST_LIMIT_EXCEEDED",
            "REQUEST_LIMIT_EXCEEDED: Exceeded workspace input tokens per minute rate limit for "
            "databricks-llama-4-maverick.",
        ),
        status=429,
        source=RATE,
        evidence="recorded",
    ),
    Sample(
        "rate-as-documented",
        packed(
            {
                "error": {
                    "message": "Rate limit exceeded",
                    "type": "rate_limit_exceeded",
                    "code": 429,
                    "limit_type": "input_tokens_per_minute",
                    "limit": 200_000,
                    "current": 200_150,
                    "retry_after": 15,
                }
            }
        ),
        status=429,
        source=LIMITS,
        evidence="documented",
    ),
    Sample("line", b"TEMPORARILY_UNAVAILABLE: try later", status=503, source=SDK, evidence="documented"),
    Sample("page", b"<html><body><pre>upstream</pre></body></html>", status=502, source=SDK, evidence="documented"),
)
