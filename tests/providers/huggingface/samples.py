"""Answers of Hugging Face's router and of dedicated endpoints, written by hand after the sources named."""

from __future__ import annotations

from llamaroute.testing import Sample
from tests.providers.openai_compatible.samples import SAMPLES as SERVERS
from tests.providers.wires import USAGE, WEATHER, ask, call, chunk, completion, packed, sse

RECORDED = "pydantic/pydantic-ai:tests/models/cassettes (Scout through the router, 2026-01-29)"
STREAMED = "pydantic/pydantic-ai:tests/models/cassettes (through the router, 2026-08-12)"
HUB = "PyPI package huggingface_hub 2.4.0, inference/_common.py and utils/_http.py"
DOCS = "https://huggingface.co/docs/inference-providers/tasks/chat-completion"
AUTOSCALING = "https://huggingface.co/docs/inference-endpoints/autoscaling"
CAPTURES = "several public captures of the router's errors"

TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,))
HEADERS = {"content-type": "application/json; charset=utf-8", "retry-after": "2"}
"""The router sends `retry-after` with answers that are fine, too."""

TWO_CALLS = [
    {**call(0, "call_99ab0001", "weather", '{"city": "Oslo"}')},
    {**call(1, "call_99ab0002", "weather", '{"city": "Rome"}')},
]

ROUTER = (
    Sample(
        "text",
        packed(
            completion(
                {"role": "assistant", "content": "Oslo is cloudy.", "tool_calls": [], "reasoning": None},
                "stop",
                prompt=[],
                metadata={"weight_version": "default"},
                choice={"seed": None},
            )
        ),
        headers=HEADERS,
        source=RECORDED,
        evidence="recorded",
    ),
    Sample(
        "calls",
        packed(completion({"role": "assistant", "content": "", "tool_calls": TWO_CALLS}, "tool_calls")),
        headers=HEADERS,
        request=TOOL_REQUEST,
        source=RECORDED,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            chunk({"role": "assistant"}, sla_metrics={"ttft": 1}),
            chunk({"content": "Oslo is"}),
            ": keep-alive",
            chunk({"content": " cloudy."}),
            chunk({}, "stop"),
            chunk(usage=USAGE),
        ),
        headers={"content-type": "text/event-stream", "retry-after": "2"},
        stream=True,
        same_as="text",
        source=STREAMED,
        evidence="recorded",
    ),
    Sample(
        "ping-stream",
        sse(
            'event: ping\ndata: {"type": "ping"}',
            "event: ping\ndata:",
            "event: ping",
            chunk({"role": "assistant", "content": "Oslo is cloudy."}),
            chunk({}, "stop"),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="text",
        source="Portkey-AI/gateway skips these lines",
        evidence="inferred",
    ),
    Sample(
        "calls-stream",
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"tool_calls": [call(0, "call_99ab0001", "weather", "")]}),
            chunk({"tool_calls": [call(1, "call_99ab0002", "weather", "")]}),
            chunk({"tool_calls": [call(0, None, None, '{"city": '), call(1, None, None, '{"city": "Rome"')]}),
            chunk({"tool_calls": [call(1, None, None, "}"), call(0, None, None, '"Oslo"}')]}),
            chunk({}, "tool_calls", usage=USAGE),
        ),
        stream=True,
        same_as="calls",
        request=TOOL_REQUEST,
        source="https://platform.openai.com/docs/guides/function-calling#streaming",
        evidence="documented",
    ),
    Sample(
        "error-text-in-stream",
        sse(chunk({"content": "Os"}), {"error": "Model too busy"}),
        stream=True,
        source=HUB,
        evidence="documented",
    ),
    Sample(
        "error-object-in-stream",
        sse({"error": {"message": "upstream failed", "type": "server_error", "code": None}}),
        stream=True,
        source=HUB,
        evidence="documented",
    ),
    Sample(
        "not-supported",
        packed(
            {
                "error": {
                    "message": "The requested model 'X' is not supported by any provider you have enabled.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_supported",
                }
            }
        ),
        status=400,
        headers={"x-request-id": "Root=1-2-3"},
        source=CAPTURES,
        evidence="recorded",
    ),
    Sample(
        "bad-token",
        packed({"error": "Invalid credentials in Authorization header"}),
        status=401,
        source=HUB,
        evidence="inferred",
    ),
    Sample(
        "no-credit",
        packed({"error": "You have exceeded your monthly included credits for Inference Providers."}),
        status=402,
        source=CAPTURES,
        evidence="recorded",
    ),
    Sample(
        "starting",
        b"503 Service Unavailable",
        status=503,
        source=AUTOSCALING,
        evidence="inferred",
    ),
    Sample(
        "gateway-timeout",
        b"<html><head><title>504 Gateway Time-out</title></head></html>",
        status=504,
        source=HUB,
        evidence="inferred",
    ),
)

ENDPOINT = (*SERVERS, *(sample for sample in ROUTER if sample.status >= 400))
