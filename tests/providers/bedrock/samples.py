"""Answers of Bedrock's Converse and ConverseStream, written by hand after the sources named."""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.bedrock.frames import end, error, event, exception, start, stop, text
from tests.providers.wires import WEATHER, ask, packed

MAVERICK = "pydantic/pydantic-ai:tests/models/cassettes/test_bedrock (Maverick, 2026-07)"
STREAM = (
    "Arize-ai/openinference:js/packages/openinference-instrumentation-bedrock/test/recordings (Llama 3, 2025-08-20)"
)
EMPTY = "pydantic/pydantic-ai:tests/models/cassettes/test_bedrock/test_bedrock_model_stream_empty_text_delta.yaml"
TOOLS = (
    "open-telemetry/opentelemetry-java-instrumentation: instrumentation/aws-sdk, ConverseStream with tools (2026-05-18)"
)
SCHEMA = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html"
ERRORS = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#Errors"
NEW_RELIC = "newrelic/newrelic-python-agent:tests/external_botocore/_mock_external_bedrock_server_converse.py"

USAGE = {"inputTokens": 21, "outputTokens": 6, "serverToolUsage": {}, "totalTokens": 27}
JSON = {"content-type": "application/json", "x-amzn-requestid": "8090a430-9830-442b-a193-749569a08e0f"}
FRAMES = {**JSON, "content-type": "application/vnd.amazon.eventstream"}
TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,))

CORAL = ":http://internal.amazon.com/coral/com.amazon.bedrock/"


def plain(content: list[dict[str, Any]], reason: str = "end_turn", usage: dict[str, Any] | None = None) -> bytes:
    """A whole answer, keys sorted as they come."""
    return packed(
        {
            "metrics": {"latencyMs": 414},
            "output": {"message": {"content": content, "role": "assistant"}},
            "stopReason": reason,
            "usage": USAGE if usage is None else usage,
        }
    )


def use(id: str, city: str) -> dict[str, Any]:
    return {"toolUse": {"input": {"city": city}, "name": "weather", "toolUseId": id}}


def use_start(index: int, id: str) -> bytes:
    return event(
        "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {"name": "weather", "toolUseId": id}}}
    )


def use_piece(index: int, piece: str) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": piece}}})


def refused(status: int, name: str, message: str, source: str = ERRORS, evidence: Any = "documented") -> Sample:
    headers = {**JSON, "x-amzn-errortype": f"{name}{CORAL}"}
    return Sample(f"{status}-{name}", packed({"message": message}), status, headers, source=source, evidence=evidence)


ONE, TWO = "tooluse_AbCdEfGhIjKlMnOpQrStUv", "tooluse_aBcDeFgHiJkLmNoPqRsTuV"

SAMPLES = (
    Sample("text", plain([{"text": "Oslo is cloudy."}]), headers=JSON, source=MAVERICK, evidence="recorded"),
    Sample(
        "calls",
        plain([use(ONE, "Oslo"), use(TWO, "Rome")], "tool_use"),
        headers=JSON,
        request=TOOL_REQUEST,
        source=MAVERICK,
        evidence="recorded",
    ),
    Sample(
        "thoughts",
        plain([{"reasoningContent": {"reasoningText": {"text": "It rains there."}}}, {"text": "Cloudy."}]),
        headers=JSON,
        source=EMPTY,
        evidence="inferred",
    ),
    Sample(
        "cached",
        plain(
            [{"text": "Yes."}],
            usage={**USAGE, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 3, "totalTokens": 130},
        ),
        headers=JSON,
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html",
        evidence="documented",
    ),
    Sample(
        "text-stream",
        start() + text("Oslo is") + text(" cloudy.") + stop() + end(),
        headers=FRAMES,
        stream=True,
        same_as="text",
        source=STREAM,
        evidence="recorded",
    ),
    Sample(
        "thoughts-stream",
        start()
        + text("")
        + stop()
        + event(
            "contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"text": "It rains there."}}}
        )
        + event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"signature": "x"}}})
        + stop(1)
        + text("Cloudy.", 2)
        + stop(2)
        + end(),
        headers=FRAMES,
        stream=True,
        same_as="thoughts",
        source=EMPTY,
        evidence="recorded",
    ),
    Sample(
        "calls-stream",
        start()
        + use_start(0, ONE)
        + use_piece(0, '{"city": ')
        + use_piece(0, '"Oslo"}')
        + stop()
        + use_start(1, TWO)
        + use_piece(1, "")
        + use_piece(1, '{"city": "Rome"}')
        + stop(1)
        + end("tool_use"),
        headers=FRAMES,
        stream=True,
        same_as="calls",
        request=TOOL_REQUEST,
        source=TOOLS,
        evidence="recorded",
    ),
    Sample(
        "new-events-stream",
        start()
        + event("weatherReport", {"sky": "grey"})
        + text("Oslo is cloudy.")
        + event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": {"title": "t"}}})
        + end(),
        headers=FRAMES,
        stream=True,
        same_as="text",
        source="botocore 1.44.5 skips events that it does not know",
        evidence="inferred",
    ),
    Sample(
        "exception-in-stream",
        start() + text("Os") + exception("modelStreamErrorException", "The model failed. Try again."),
        headers=FRAMES,
        stream=True,
        source=SCHEMA,
        evidence="documented",
    ),
    Sample(
        "exception-first",
        exception("throttlingException", "Too many tokens, please wait before trying again."),
        headers=FRAMES,
        stream=True,
        source=SCHEMA,
        evidence="documented",
    ),
    Sample(
        "error-in-stream",
        start() + error("InternalError", "An internal server error occurred."),
        headers=FRAMES,
        stream=True,
        source="https://smithy.io/2.0/aws/amazon-eventstream.html",
        evidence="documented",
    ),
    refused(400, "ValidationException", "The provided model identifier is invalid.", NEW_RELIC, "recorded"),
    refused(400, "ServiceQuotaExceededException", "Your request exceeds the service quota."),
    refused(
        403,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        NEW_RELIC,
        "recorded",
    ),
    refused(403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    refused(404, "ResourceNotFoundException", "Could not resolve the foundation model from the model identifier."),
    refused(408, "ModelTimeoutException", "The request took too long to process."),
    refused(424, "ModelErrorException", "The model failed while it processed the request."),
    refused(429, "ThrottlingException", "Too many requests, please wait before trying again."),
    refused(429, "ModelNotReadyException", "The model is not ready."),
    refused(500, "InternalServerException", "The system encountered an unexpected error during processing."),
    refused(503, "ServiceUnavailableException", "The service is not available."),
)
