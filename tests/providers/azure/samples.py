"""Answers of Azure AI Foundry's APIs, written by hand after the sources named.

None is Llama 4's own, of which no recording was found: the endpoints are the same, the models were others.
"""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.wires import USAGE, WEATHER, ask, call, chunk, completion, packed, sse

FOUNDRY = "crmne/ruby_llm:spec/fixtures/vcr_cassettes (/models, 2026-08-19)"
SERVERLESS_ASSETS = (
    "Azure/azure-sdk-assets:python/sdk/ai/azure-ai-inference/tests/recordings (serverless endpoints, 2025-01-09)"
)
GITHUB = "posit-dev/chatlas:tests/_vcr/test_provider_github (GitHub Models, 2026-05-06)"
MIRASCOPE = "Mirascope/mirascope:python/tests/e2e (Azure OpenAI, /openai/v1 and deployments, 2025-11 to 2026-01)"
OPENLLMETRY = "traceloop/openllmetry:packages/opentelemetry-instrumentation-openai/tests/traces/cassettes/test_azure"
DDTRACE = "DataDog/dd-trace-js (Azure OpenAI, 2025-08-20)"
FLAT_FILTER = (
    "https://github.com/MicrosoftDocs/azure-ai-docs/blob/main/articles/ai-foundry/model-inference/includes/"
    "code-manage-content-filtering.md (2025-01-21)"
)
EXTRA_REFUSED = "https://github.com/BerriAI/litellm/issues/9800"
FORBIDDEN = "https://github.com/BerriAI/litellm/issues/4800"
ONE_IMAGE = "https://github.com/meta-llama/llama-cookbook/issues/938"
TYPESPEC = "https://github.com/Azure/azure-rest-api-specs/tree/main/specification/ai/ModelInference"

SAFE = {
    "hate": {"filtered": False, "severity": "safe"},
    "jailbreak": {"filtered": False, "detected": False},
    "self_harm": {"filtered": False, "severity": "safe"},
    "sexual": {"filtered": False, "severity": "safe"},
    "violence": {"filtered": False, "severity": "safe"},
}
BLOCKED = {**SAFE, "self_harm": {"filtered": True, "severity": "medium"}}
PROMPT_SAFE = [{"prompt_index": 0, "content_filter_results": SAFE}]
ANNOUNCED: dict[str, Any] = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": PROMPT_SAFE,
}
"""The first chunk of a stream behind a content filter."""

TEXT = {"role": "assistant", "content": "Oslo is cloudy.", "refusal": None, "annotations": []}
ANSWER = completion(
    TEXT,
    "stop",
    choice={"content_filter_results": SAFE},
    prompt_filter_results=PROMPT_SAFE,
    service_tier="default",
    system_fingerprint=None,
)
ANSWER["usage"] |= {"latency_checkpoint": {"engine_tbt_ms": 9, "total_duration_ms": 1960}}
TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,))
HEADERS = {
    "content-type": "application/json",
    "apim-request-id": "c617840e-3488-4335-b23f-16f3598a3adc",
    "x-ms-region": "West Europe",
    "azureai-fe-is-streaming": "False",
}
STREAM_HEADERS = {**HEADERS, "content-type": "text/event-stream; charset=utf-8"}
CALL = call(0, "call_dkchNx2pPHMFxKO6MZPAyl8k", "weather", '{"city": "Oslo"}')

POLICY = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
PROMPT_BLOCKED = {
    "error": {
        "message": POLICY,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": BLOCKED},
    }
}
PROMPT_BLOCKED_FLAT = {
    "status": 400,
    "code": "content_filter",
    "message": POLICY,
    "param": "messages",
    "type": None,
}
LIMITED = "Your requests to m for m in West Europe have exceeded rate limit."

ERRORS = (
    Sample("blocked-prompt", packed(PROMPT_BLOCKED), status=400, source=MIRASCOPE, evidence="recorded"),
    Sample("blocked-prompt-flat", packed(PROMPT_BLOCKED_FLAT), status=400, source=FLAT_FILTER, evidence="documented"),
    Sample(
        "wrong-key",
        packed({"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}),
        status=401,
        source=FOUNDRY,
        evidence="recorded",
    ),
    Sample(
        "wrong-token",
        packed({"statusCode": 401, "message": "Auth token validation failed."}),
        status=401,
        headers={"x-ms-error-reason": "Invalid JWT."},
        source=SERVERLESS_ASSETS,
        evidence="recorded",
    ),
    Sample(
        "extra-parameters",
        packed({"detail": "Extra parameters ['n'] are not allowed when extra-parameters is not set."}),
        status=400,
        source=EXTRA_REFUSED,
        evidence="recorded",
    ),
    Sample(
        "extra-forbidden",
        packed(
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "frequency_penalty"],
                        "msg": "Extra inputs are not permitted",
                        "input": 0.0,
                    }
                ]
            }
        ),
        status=422,
        source=FORBIDDEN,
        evidence="recorded",
    ),
    Sample(
        "second-image",
        packed(
            {
                "object": "error",
                "message": "At most 1 image(s) may be provided in one request.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        ),
        status=400,
        source=ONE_IMAGE,
        evidence="recorded",
    ),
    Sample(
        "no-deployment",
        packed({"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}),
        status=404,
        source="third-party fixtures of Azure OpenAI hosts",
        evidence="inferred",
    ),
    Sample(
        "unknown-model",
        packed({"error": {"code": "unknown_model", "message": "Unknown model: x", "details": "Unknown model: x"}}),
        status=400,
        headers={"apim-request-id": "f0e0bec6"},
        source=MIRASCOPE,
        evidence="recorded",
    ),
    Sample(
        "wrong-route",
        packed({"error": {"code": "404", "message": "Resource not found"}}),
        status=404,
        source=DDTRACE,
        evidence="recorded",
    ),
    Sample(
        "too-fast",
        packed({"error": {"code": "RateLimitReached", "message": LIMITED, "details": LIMITED}}),
        status=429,
        headers={"retry-after": "1", "retry-after-ms": "0"},
        source=FOUNDRY,
        evidence="recorded",
    ),
    Sample("page", b"<html><title>502</title></html>", status=502, source="any gateway", evidence="inferred"),
)

V1 = (
    Sample("text", packed(ANSWER), headers=HEADERS, source=FOUNDRY, evidence="recorded"),
    Sample(
        "calls",
        packed(
            completion(
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                "tool_calls",
                choice={"content_filter_results": {}},
                prompt_filter_results=PROMPT_SAFE,
            )
        ),
        request=TOOL_REQUEST,
        source=MIRASCOPE,
        evidence="recorded",
    ),
    Sample(
        "blocked-answer",
        packed(
            {
                **completion({}, "content_filter"),
                "choices": [{"index": 0, "finish_reason": "content_filter", "content_filter_results": BLOCKED}],
            }
        ),
        source=OPENLLMETRY,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            ANNOUNCED,
            chunk({"role": "assistant", "content": "", "refusal": None}, choice={"content_filter_results": {}}),
            chunk({"content": "Oslo is"}, choice={"content_filter_results": SAFE}, obfuscation="j4jB", usage=None),
            chunk({"content": " cloudy."}, choice={"content_filter_results": SAFE}, obfuscation="j4", usage=None),
            chunk({}, "stop", choice={"content_filter_results": {}}, usage=None),
            chunk(usage=USAGE, obfuscation="Sx", latency_checkpoint={"total_duration_ms": 757}),
        ),
        headers=STREAM_HEADERS,
        stream=True,
        same_as="text",
        source=GITHUB,
        evidence="recorded",
    ),
    Sample(
        "calls-stream",
        sse(
            ANNOUNCED,
            chunk({"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": {"name": "weather"}}]}),
            chunk({"tool_calls": [call(0, None, None, '{"city":')]}),
            chunk({"tool_calls": [call(0, None, None, ' "Oslo"}')]}),
            chunk({}, "tool_calls"),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="calls",
        request=TOOL_REQUEST,
        source=MIRASCOPE,
        evidence="recorded",
    ),
    Sample(
        "blocked-answer-stream",
        sse(
            ANNOUNCED,
            chunk({"role": "assistant", "content": ""}),
            chunk({}, "content_filter", choice={"content_filter_results": BLOCKED}),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="blocked-answer",
        source=OPENLLMETRY,
        evidence="recorded",
    ),
    Sample(
        "blocked-prompt-in-stream",
        sse(PROMPT_BLOCKED, done=False),
        stream=True,
        source=f"{OPENLLMETRY} (an error under status 200; perhaps edited by hand)",
        evidence="inferred",
    ),
    *ERRORS,
)

MODELS = (
    Sample("text", packed(ANSWER), headers=HEADERS, source=FOUNDRY, evidence="recorded"),
    Sample(
        "calls",
        packed(completion({"role": "assistant", "content": "", "tool_calls": [CALL]}, "tool_calls")),
        request=TOOL_REQUEST,
        source=FOUNDRY,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            chunk({"role": "assistant", "content": "Oslo is"}),
            chunk({"content": " cloudy."}),
            chunk({}, "stop"),
            chunk(usage=USAGE),
        ),
        headers=STREAM_HEADERS,
        stream=True,
        same_as="text",
        source=FOUNDRY,
        evidence="recorded",
    ),
    Sample(
        "calls-stream",
        sse(chunk({"role": "assistant", "tool_calls": [CALL]}), chunk({}, "tool_calls"), chunk(usage=USAGE)),
        stream=True,
        same_as="calls",
        request=TOOL_REQUEST,
        source=FOUNDRY,
        evidence="recorded",
    ),
    *ERRORS,
)

SERVERLESS = (
    Sample(
        "text",
        packed(completion({"role": "assistant", "content": "Oslo is cloudy.", "tool_calls": None}, "stop")),
        headers={"azureml-model-group": "offer-llama", "prompt_token_len": "21", "sampling_token_len": "6"},
        source=SERVERLESS_ASSETS,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Oslo is"}),
            chunk({"content": " cloudy."}),
            chunk({"content": ""}, "stop", usage=USAGE),
        ),
        stream=True,
        same_as="text",
        source=SERVERLESS_ASSETS,
        evidence="recorded",
    ),
    *ERRORS,
)
