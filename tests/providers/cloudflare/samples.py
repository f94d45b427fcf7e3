"""Answers of Cloudflare Workers AI, written by hand after the sources named (docs/hosts.md tells them in words)."""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.wires import USAGE, WEATHER, ask, call, chunk, completion, packed, sse

MODEL = "https://developers.cloudflare.com/ai/models/@cf/meta/llama-4-scout-17b-16e-instruct/"
TYPES = "npm package @cloudflare/workers-types 5.20261117.1, index.d.ts"
LITELLM = "a public fork of litellm: tests of its native Scout provider (2025)"
CAPTURE = "a public client's test suite, whose Scout stream was captured live (2026-08-23)"
PROVIDER = "npm package workers-ai-provider 4.0.0 and its tests"
LANGCHAIN = "PyPI package langchain-cloudflare 0.4.3, chat_models.py"
NEWER = "a public lab note with raw captures of a newer hosted model (2026-10-07)"
PRISM = "meirdick/prism-workers-ai: fixtures (2026-04-24)"
JSON_MODE = "https://developers.cloudflare.com/workers-ai/features/json-mode/"
ERRORS = "https://developers.cloudflare.com/workers-ai/platform/errors/"
ISSUE_279 = "cloudflare/ai issue 279"

PADDING = "abdefghijklmnoprstuvxyz1234567890"
TOOL_REQUEST = ask("Weather in Oslo?", tools=(WEATHER,), max_tokens=64)


def envelope(result: Any, *, errors: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """What Cloudflare puts around native answers, and around every error."""
    return {"result": result, "success": not errors, "errors": list(errors), "messages": []}


def failure(code: int, message: str, result: Any = None) -> dict[str, Any]:
    return envelope({} if result is None else result, errors=({"code": code, "message": message},))


def native(**result: Any) -> bytes:
    return packed(envelope({**result, "usage": USAGE}))


SCOUT_CALL = {
    "id": "chatcmpl-tool-0f0e0d0c0b0a09080706050403020100",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}
NULL_FINALISER = {"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}
FLAT_CALL = {"name": "weather", "arguments": {"city": "Oslo"}}

NATIVE = (
    Sample("text", native(response="Oslo is cloudy.", tool_calls=[]), source=LITELLM, evidence="recorded"),
    Sample("text-without-calls", native(response="Oslo is cloudy."), source=MODEL, evidence="documented"),
    Sample("call", native(tool_calls=[SCOUT_CALL]), request=TOOL_REQUEST, source=LITELLM, evidence="recorded"),
    Sample(
        "call-response-null",
        native(response=None, tool_calls=[SCOUT_CALL]),
        request=TOOL_REQUEST,
        source=LITELLM,
        evidence="recorded",
    ),
    Sample(
        "call-flat",
        native(response=None, tool_calls=[FLAT_CALL]),
        request=TOOL_REQUEST,
        source=TYPES,
        evidence="documented",
    ),
    Sample(
        "call-flat-parameters",
        native(response="", tool_calls=[{"name": "weather", "parameters": {"city": "Oslo"}}]),
        request=TOOL_REQUEST,
        source=CAPTURE,
        evidence="recorded",
    ),
    Sample(
        "call-arguments-object",
        native(tool_calls=[{**SCOUT_CALL, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}]),
        request=TOOL_REQUEST,
        source=TYPES,
        evidence="documented",
    ),
    Sample("json-object", native(response={"city": "Oslo", "n": 1}), source=JSON_MODE, evidence="documented"),
    Sample("json-text", native(response='{"city":"Oslo","n":1}'), source=JSON_MODE, evidence="documented"),
    Sample("number", native(response=42), source=PROVIDER, evidence="recorded"),
    Sample(
        "usage-nulls",
        packed(
            envelope(
                {
                    "response": "Oslo is cloudy.",
                    "usage": {
                        "prompt_tokens": None,
                        "completion_tokens": 6,
                        "total_tokens": None,
                        "prompt_tokens_details": {"cached_tokens": 16},
                        "neurons": 1.25,
                    },
                }
            )
        ),
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "openai-inside",
        packed(envelope(completion({"role": "assistant", "content": "Oslo is cloudy."}, "stop"))),
        source=NEWER,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            {"response": "Os", "tool_calls": [], "p": PADDING[:9]},
            {"response": "lo is cloudy.", "tool_calls": [], "p": PADDING[:16]},
            {"response": "", "tool_calls": [], "p": PADDING[:5]},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="text",
        source=CAPTURE,
        evidence="recorded",
    ),
    Sample(
        "usage-alone-stream",
        sse({"response": "Oslo is cloudy.", "p": "k3x9"}, {"usage": USAGE}),
        stream=True,
        same_as="text",
        source=PROVIDER,
        evidence="recorded",
    ),
    Sample(
        "incremental-usage-stream",
        sse(
            {"response": "Oslo", "usage": {"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 22}},
            {"response": " is", "usage": {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}},
            {"response": " cloudy.", "usage": {"prompt_tokens": 0, "completion_tokens": 4, "total_tokens": 4}},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="text",
        source=NEWER,
        evidence="recorded",
    ),
    Sample(
        "call-stream",
        sse(
            {"response": "", "tool_calls": []},
            {"tool_calls": [{**SCOUT_CALL, "index": 0, "function": {"name": "weather"}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
            {"tool_calls": [NULL_FINALISER]},
            {"finish_reason": "tool_calls"},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="call",
        request=TOOL_REQUEST,
        source=PROVIDER,
        evidence="recorded",
    ),
    Sample(
        "call-at-once-stream",
        sse(
            {"tool_calls": [{**SCOUT_CALL, "index": 0}]},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="call",
        request=TOOL_REQUEST,
        source=PROVIDER,
        evidence="recorded",
    ),
    Sample(
        "call-flat-stream",
        sse({"response": "", "tool_calls": [FLAT_CALL], "p": "ab"}, {"response": "", "usage": USAGE}),
        stream=True,
        same_as="call-flat",
        request=TOOL_REQUEST,
        source=CAPTURE,
        evidence="recorded",
    ),
    Sample(
        "number-stream",
        sse({"response": 4}, {"response": 2}, {"response": "", "usage": USAGE}),
        stream=True,
        same_as="number",
        source=PROVIDER,
        evidence="recorded",
    ),
    Sample(
        "json-object-stream",
        sse({"response": {"city": "Oslo", "n": 1}}, {"response": "", "usage": USAGE}),
        stream=True,
        same_as="json-object",
        source=JSON_MODE,
        evidence="inferred",
    ),
    Sample(
        "openai-stream",
        sse(
            chunk({"role": "assistant", "content": ""}, p="abc"),
            chunk({"content": "Oslo is cloudy."}, p="abcdef"),
            chunk({}, "stop", usage=USAGE),
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="openai-inside",
        source=NEWER,
        evidence="recorded",
    ),
    # With tools in a stream Scout's events hold both forms and no text, although tokens are billed.
    Sample(
        "hybrid-bug-stream",
        sse(
            {"choices": [{"delta": {"content": "", "role": "assistant"}}], "response": "", "tool_calls": []},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"response": "", "usage": {"prompt_tokens": 129, "completion_tokens": 7}},
        ),
        stream=True,
        request=TOOL_REQUEST,
        source=CAPTURE,
        evidence="recorded",
    ),
    Sample(
        "hybrid-text-stream",
        sse(
            {"choices": [{"delta": {"content": "Oslo is", "role": "assistant"}}], "response": "Oslo is"},
            {"choices": [{"delta": {"content": " cloudy."}}], "response": " cloudy."},
            {"choices": [{"delta": {}, "finish_reason": "stop"}], "response": ""},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="text",
        source="the hybrid events above, with text in both forms",
        evidence="inferred",
    ),
    Sample(
        "hybrid-call-stream",
        sse(
            {"choices": [{"delta": {"content": "", "role": "assistant"}}], "response": "", "tool_calls": [FLAT_CALL]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="call-flat",
        request=TOOL_REQUEST,
        source="the hybrid events above, with the call in the native form",
        evidence="inferred",
    ),
    Sample(
        "two-flat-calls-stream",
        sse(
            {"tool_calls": [FLAT_CALL]},
            {"tool_calls": [{"name": "weather", "arguments": {"city": "Rome"}}]},
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="two-flat-calls",
        request=TOOL_REQUEST,
        source="flat calls have neither index nor id; each event holds whole ones",
        evidence="inferred",
    ),
    Sample(
        "two-flat-calls",
        native(tool_calls=[FLAT_CALL, {"name": "weather", "arguments": {"city": "Rome"}}]),
        request=TOOL_REQUEST,
        source=TYPES,
        evidence="documented",
    ),
    Sample(
        "error-stream",
        sse({"errors": [{"code": 3040, "message": "Capacity temporarily exceeded, please try again."}]}, done=False),
        stream=True,
        source=ERRORS,
        evidence="inferred",
    ),
    Sample(
        "bad-input",
        packed(failure(5006, "AiError: Bad input: Error: '/temperature' must be <= 5 (3f0a)")),
        status=400,
        headers={"cf-ray": "8a1b2c3d4e5f-OSL", "content-type": "application/json"},
        source=ISSUE_279,
        evidence="recorded",
    ),
    Sample(
        "timeout",
        packed({"error": {"code": "invalid_prompt", "message": "AiError: AiError: Request timeout (3f0a)"}}),
        status=408,
        source="https://www.answeroverflow.com/m/1429996101569613855",
        evidence="recorded",
    ),
    Sample("gateway-error", packed({"error": "Unauthorized"}), status=401, source=PRISM, evidence="recorded"),
    Sample("gateway-message", packed({"message": "no such gateway"}), status=400, source=PROVIDER, evidence="recorded"),
    Sample(
        "no-route",
        packed(
            {
                **envelope(None),
                "success": False,
                "errors": [
                    {
                        "code": 7003,
                        "message": "Could not route to /accounts/x/ai/run, perhaps your object ...",
                    },
                    {"code": 7000, "message": "No route for that URI"},
                ],
            }
        ),
        status=404,
        source="anomalyco/opencode issue 23773",
        evidence="recorded",
    ),
)

OPENAI = (
    Sample(
        "text",
        packed(completion({"role": "assistant", "content": "Oslo is cloudy."}, "stop")),
        source="https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/",
        evidence="documented",
    ),
    Sample(
        "call",
        packed(completion({"role": "assistant", "content": None, "tool_calls": [SCOUT_CALL]}, "tool_calls")),
        request=TOOL_REQUEST,
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "content-object",
        packed(completion({"role": "assistant", "content": {"city": "Oslo", "n": 1}, "tool_calls": None}, "stop")),
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "nulls",
        packed(
            completion(
                {"role": "assistant", "content": "Oslo is cloudy.", "tool_calls": None},
                "stop",
                model="@cf/meta/llama-4-scout-17b-16e-instruct-external",
                usage={"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
            )
        ),
        source=PRISM,
        evidence="recorded",
    ),
    Sample("no-choices", packed({**completion({}, None), "choices": []}), source=PRISM, evidence="recorded"),
    Sample(
        "reasoning",
        packed(completion({"role": "assistant", "content": "Oslo.", "reasoning_content": "A city."}, "stop")),
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            chunk({"role": "assistant", "content": ""}, p="abc"),
            chunk({"content": "Oslo"}, p="ab"),
            chunk({"content": " is cloudy."}, p="abcdef"),
            chunk({"content": ""}, "stop", usage=USAGE),
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="text",
        source=NEWER,
        evidence="recorded",
    ),
    Sample(
        "usage-chunk-stream",
        sse(chunk({"content": "Oslo is cloudy."}), chunk({}, "stop"), chunk(usage=USAGE)),
        stream=True,
        same_as="text",
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "incremental-usage-stream",
        sse(
            chunk({"content": "Oslo"}, usage={"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 22}),
            chunk({"content": " is cloudy."}, usage={"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5}),
            chunk({}, "stop"),
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="text",
        source=NEWER,
        evidence="recorded",
    ),
    Sample(
        "call-stream",
        sse(
            chunk({"role": "assistant", "content": None, "tool_calls": [call(0, SCOUT_CALL["id"], "weather", "")]}),
            chunk({"tool_calls": [call(0, None, None, '{"city":')]}),
            chunk({"tool_calls": [call(0, None, None, '"Oslo"}')]}),
            chunk(
                {"tool_calls": [{"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}]}
            ),
            chunk({}, "tool_calls"),
            {"response": "", "usage": USAGE},
        ),
        stream=True,
        same_as="call",
        request=TOOL_REQUEST,
        source=PRISM,
        evidence="recorded",
    ),
    Sample(
        "reasoning-stream",
        sse(
            chunk({"reasoning": "A "}),
            chunk({"reasoning": "city."}),
            chunk({"content": "Oslo."}),
            chunk({}, "stop", usage=USAGE),
        ),
        stream=True,
        same_as="reasoning",
        source=PRISM,
        evidence="recorded",
    ),
    *(sample for sample in NATIVE if sample.status >= 400 or sample.name == "error-stream"),
)
