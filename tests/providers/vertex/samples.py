"""Answers of Vertex AI, written by hand after the sources named: no recorded answer of Llama 4 there is public.

Texts and fields are those that the service's known clients read; errors of Google's front end are recorded, with other
models of the same API.
"""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.openai_compatible.samples import SAMPLES as SERVERS
from tests.providers.wires import USAGE, WEATHER, ask, packed, sse

LANGCHAIN = (
    "langchain-ai/langchain-google:libs/vertexai/langchain_google_vertexai/model_garden_maas/llama.py (2026-08-20)"
)
LITELLM = "PyPI package litellm 1.109.1, llms/vertex_ai/vertex_ai_partner_models/llama3/transformation.py"
VERCEL = "vercel/ai: issue 15685 (2026-05, us-east5)"
TOOLS = "vercel/ai: issue 15687 (Maverick, us-east5, 2026-05-28)"
GUARD = "GoogleCloudPlatform/vertex-ai-samples:notebooks/community/model_garden/model_garden_openai_api_llama3_1.ipynb"
PREDICT = (
    "GoogleCloudPlatform/vertex-ai-samples:notebooks/community/model_garden/model_garden_llama_guard_deployment.ipynb"
)
GENKIT = "issue thread genkit-ai/genkit#4688 (the body, quoted)"
NEWRELIC = "newrelic/newrelic-python-agent:tests/mlmodel_gemini/cassette.yaml (2026-06-17)"
OTEL = (
    "open-telemetry/opentelemetry-python-contrib:instrumentation-genai/opentelemetry-instrumentation-vertexai/tests/"
    "cassettes/test_generate_content_invalid_temperature.yaml"
)
NOT_ENABLED = "issue thread langchain-ai/langchain-google#593 (the message, quoted)"
PAGE = "issue thread BerriAI/litellm#15496 (a web page in the place of JSON)"
LIMIT = "issue thread anthropics/claude-code#1378 (headers of a 429 of this API)"
DEPLOYMENT = (
    "GoogleCloudPlatform/vertex-ai-samples:notebooks/community/model_garden/"
    "model_garden_pytorch_llama4_deployment.ipynb"
)

MODEL = "meta/llama-4-maverick-17b-128e-instruct-maas"
TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,))
SSE = {"content-type": "text/event-stream"}


def completion(message: dict[str, Any], finish: str | None, **more: Any) -> dict[str, Any]:
    return {
        "id": "2026-11-23|00:00:00.000000-08|10.0.0.1|-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": MODEL,
        "system_fingerprint": "",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": USAGE,
        **more,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "2026-11-23|00:00:00.000000-08|10.0.0.1|-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def rpc(code: int, message: str, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    """An error as all of Google's APIs write it: https://cloud.google.com/apis/design/errors"""
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def info(reason: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "aiplatform.googleapis.com"},
    }


OVERLOADED = rpc(503, "The model is overloaded.", "UNAVAILABLE")
ASSISTANT = {"role": "assistant"}
OSLO = {"name": "weather", "arguments": '{"city": "Oslo"}'}
ROME = {"name": "weather", "arguments": '{"city": "Rome"}'}
UNKNOWN_MODEL = rpc(
    404,
    "Publisher Model `projects/740989871600/locations/us-central1/publishers/meta/models/llama-4-maverick` was not "
    "found or your project does not have access to it.",
    "NOT_FOUND",
)

ERRORS = (
    Sample(
        "unknown-model", packed([UNKNOWN_MODEL]), status=404, source=GENKIT, evidence="recorded"
    ),  # the route wraps its errors in an array
    Sample("unknown-model-bare", packed(UNKNOWN_MODEL), status=404, source=NEWRELIC, evidence="recorded"),
    Sample(
        "temperature",
        packed(
            rpc(
                400,
                "Unable to submit request because it has a temperature value of 1000 but the supported range is from 0 "
                "(inclusive) to 2.0001 (exclusive). Update the value and try again.",
                "INVALID_ARGUMENT",
            )
        ),
        status=400,
        source=OTEL,
        evidence="recorded",
    ),
    Sample(
        "not-enabled",
        packed(
            rpc(
                400,
                "Project `1` is not allowed to use Publisher Model `projects/p/locations/us-east5/publishers/meta/m`",
                "FAILED_PRECONDITION",
            )
        ),
        status=400,
        source=NOT_ENABLED,
        evidence="recorded",
    ),
    Sample(
        "no-token",
        packed(rpc(401, "API keys are not supported by this API.", "UNAUTHENTICATED", info("CREDENTIALS_MISSING"))),
        status=401,
        headers={"www-authenticate": 'Bearer realm="https://accounts.google.com/"'},
        source=NEWRELIC,
        evidence="recorded",
    ),
    Sample(
        "web-page",
        b"<!DOCTYPE html>\n<html lang=en><title>Error 404 (Not Found)!!1</title></html>",
        status=404,
        headers={"content-type": "text/html; charset=UTF-8"},
        source=PAGE,
        evidence="inferred",
    ),
    Sample(
        "exhausted",
        packed([rpc(429, "Resource exhausted. Please try again later.", "RESOURCE_EXHAUSTED")]),
        status=429,
        headers={"content-type": "application/json; charset=UTF-8"},
        source=LIMIT,
        evidence="inferred",
    ),
    Sample(
        "too-long",
        packed(rpc(503, "Took too long to respond when processing", "UNAVAILABLE")),
        status=503,
        source=DEPLOYMENT,
        evidence="documented",
    ),
)

MAAS = (
    Sample(
        "text",
        packed(completion({"role": "assistant", "content": "Oslo is cloudy."}, "stop")),
        source=LANGCHAIN,
        evidence="inferred",
    ),
    Sample(
        "calls",
        packed(
            completion(
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": "call_a", "type": "function", "function": OSLO},
                        {"id": "call_b", "type": "function", "function": ROME},
                    ],
                },
                "tool_calls",
            )
        ),
        request=TOOL_REQUEST,
        source=TOOLS,
        evidence="inferred",
    ),
    Sample(
        "calls-without-ids",
        packed(
            completion(
                {"role": "assistant", "content": "", "tool_calls": [{"function": OSLO}, {"function": ROME}]}, "stop"
            )
        ),
        request=TOOL_REQUEST,
        source=LANGCHAIN,
        evidence="inferred",
    ),
    Sample(
        "blocked",
        packed(completion({"role": "assistant", "content": "", "refusal": "It is unsafe."}, "content_filtered")),
        source=GUARD,
        evidence="documented",
    ),
    Sample(
        "nothing",
        packed(completion({"role": "assistant", "content": ""}, "stop")),
        source=VERCEL,
        evidence="inferred",
    ),
    Sample(
        "role-everywhere-stream",
        sse(
            chunk({**ASSISTANT, "content": "Oslo is"}),
            chunk({**ASSISTANT, "content": " cloudy."}),
            chunk({**ASSISTANT, "content": ""}, "stop"),
            chunk(usage=USAGE),
        ),
        headers=SSE,
        stream=True,
        same_as="text",
        source=LANGCHAIN,
        evidence="inferred",
    ),
    Sample(
        "role-nowhere-stream",
        sse(chunk({"content": "Oslo is"}), chunk({"content": " cloudy."}), chunk({}, "stop"), chunk(usage=USAGE)),
        headers=SSE,
        stream=True,
        same_as="text",
        source=LITELLM,
        evidence="inferred",
    ),
    Sample(
        "nothing-stream",
        sse(chunk({**ASSISTANT, "content": ""}, "stop"), chunk(usage=USAGE)),
        headers=SSE,
        stream=True,
        same_as="nothing",
        source=LITELLM,
        evidence="inferred",
    ),
    Sample(
        "calls-without-ids-stream",
        sse(
            chunk({**ASSISTANT, "tool_calls": [{"function": OSLO}]}),
            chunk({"tool_calls": [{"function": {"name": "weather", "arguments": '{"city":'}}]}),
            chunk({"tool_calls": [{"function": {"arguments": ' "Rome"}'}}]}),
            chunk({}, "stop"),
            chunk(usage=USAGE),
        ),
        headers=SSE,
        stream=True,
        same_as="calls-without-ids",
        request=TOOL_REQUEST,
        source=LANGCHAIN,
        evidence="inferred",
    ),
    Sample(
        "calls-in-one-stream",
        sse(
            chunk({**ASSISTANT, "tool_calls": [{"function": OSLO}, {"function": ROME}]}, "tool_calls"),
            chunk(usage=USAGE),
        ),
        headers=SSE,
        stream=True,
        same_as="calls-without-ids",
        request=TOOL_REQUEST,
        source=LANGCHAIN,
        evidence="inferred",
    ),
    Sample(
        "error-in-stream",
        sse(chunk({"content": "Os"}), f"data: {packed([OVERLOADED]).decode()}"),
        headers=SSE,
        stream=True,
        source=GENKIT,
        evidence="inferred",
    ),
    *ERRORS,
)

ENDPOINT = (*SERVERS, *ERRORS)
"""Google's container is vLLM."""


def predicted(answer: Any) -> bytes:
    """What `:predict` puts around an answer."""
    return packed(
        {
            "predictions": answer,
            "deployedModelId": "6789",
            "model": "projects/1/locations/us-east5/models/llama4",
            "modelDisplayName": "llama4",
            "modelVersionId": "1",
        }
    )


_TEXT = completion({"role": "assistant", "content": "Oslo is cloudy."}, "stop")
PREDICTIONS = (
    Sample("text", predicted(_TEXT), source=PREDICT, evidence="documented"),
    Sample("text-in-list", predicted([_TEXT]), source=DEPLOYMENT, evidence="inferred"),
    Sample(
        "error-inside",
        predicted({"object": "error", "message": "no such thing", "type": "BadRequestError", "code": 400}),
        source="vllm-project/vllm:vllm/entrypoints/openai/protocol.py, inside a prediction",
        evidence="inferred",
    ),
    Sample(
        "text-stream",
        sse(chunk({"content": "Oslo is cloudy."}), chunk({}, "stop"), chunk(usage=USAGE)),
        headers=SSE,
        stream=True,
        same_as="text",
        source=DEPLOYMENT,
        evidence="inferred",
    ),
    *ERRORS,
)
