"""Answers of servers that speak OpenAI's chat completions, written by hand after the sources named."""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.wires import USAGE, call, chunk, completion, packed, sse

VLLM = "vllm-project/vllm:vllm/entrypoints/openai/chat_completion/protocol.py (2026)"
VLLM_ERROR = "vllm-project/vllm:vllm/entrypoints/openai/engine/protocol.py (2026)"
TGI = "huggingface/text-generation-inference:router/src/lib.rs (v3.3.7)"
TGI_ERROR = "huggingface/text-generation-inference:router/src/infer/mod.rs, server.rs (v3.3.7)"
LLAMACPP = "a llama.cpp server of this project's tests (tests/servers)"
OPENAI = "https://platform.openai.com/docs/api-reference/chat/object"
OPENAI_STREAM = "https://platform.openai.com/docs/api-reference/chat-streaming"

LOGPROBS = [
    {
        "token": "Os",
        "logprob": -0.25,
        "bytes": [79, 115],
        "top_logprobs": [{"token": "Os", "logprob": -0.25, "bytes": [79, 115]}, {"token": "B", "logprob": -1.5}],
    },
    {"token": "lo", "logprob": -0.125, "bytes": [108, 111], "top_logprobs": []},
]

TEXT = {"role": "assistant", "content": "Oslo is cloudy.", "reasoning": None, "refusal": None, "annotations": None}
CALLS = [
    {"id": "chatcmpl-tool-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "chatcmpl-tool-2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
]


def tgi(message: dict[str, Any], finish: str, **more: Any) -> dict[str, Any]:
    """TGI's `chat.completion`: the id is always empty."""
    return {
        "object": "chat.completion",
        "id": "",
        "created": 1_780_000_000,
        "model": "m",
        "system_fingerprint": "3.3.7-native",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        **more,
    }


def tgi_chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk of TGI's: the role with every delta, usage null until the last."""
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "logprobs": None, "finish_reason": finish}
    return {**tgi({}, ""), "object": "chat.completion.chunk", "choices": [choice], "usage": None}


SAMPLES = (
    Sample("vllm-text", packed(completion(TEXT, "stop")), source=VLLM, evidence="documented"),
    Sample(
        "vllm-text-stream",
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Oslo"}),
            chunk({"content": " is cloudy."}),
            chunk({"content": ""}, "stop"),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="vllm-text",
        source=VLLM,
        evidence="documented",
    ),
    Sample(
        "vllm-calls",
        packed(completion({"role": "assistant", "content": None, "tool_calls": CALLS}, "tool_calls")),
        source=VLLM,
        evidence="documented",
    ),
    Sample(
        "vllm-calls-stream",
        sse(
            chunk({"role": "assistant", "content": ""}),
            chunk({"tool_calls": [call(0, "chatcmpl-tool-1", "weather", None)]}),
            chunk({"tool_calls": [call(0, None, None, '{"city": ')]}),
            chunk({"tool_calls": [call(0, None, None, '"Oslo"}')]}),
            chunk({"tool_calls": [call(1, "chatcmpl-tool-2", "weather", "")]}),
            chunk({"tool_calls": [call(1, None, None, '{"city": "Rome"}')]}),
            chunk({}, "tool_calls"),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="vllm-calls",
        source=VLLM,
        evidence="documented",
    ),
    Sample(
        "vllm-calls-at-once",
        sse(
            chunk({"role": "assistant"}),
            chunk({"tool_calls": [{"index": i, **c} for i, c in enumerate(CALLS)]}),
            chunk({"content": None, "tool_calls": None}, "stop", usage=USAGE),
        ),
        stream=True,
        same_as="vllm-calls",
        source="vllm-project/vllm: named tool choice streams whole calls and says stop",
        evidence="inferred",
    ),
    Sample(
        "logprobs",
        packed(
            completion({"role": "assistant", "content": "Oslo"}, "length", choice={"logprobs": {"content": LOGPROBS}})
        ),
        source=OPENAI,
        evidence="documented",
    ),
    Sample(
        "logprobs-stream",
        sse(
            chunk(
                {"role": "assistant", "content": "Os"}, choice={"logprobs": {"content": LOGPROBS[:1], "refusal": None}}
            ),
            chunk({"content": "lo"}, choice={"logprobs": {"content": LOGPROBS[1:], "refusal": None}}),
            chunk({}, "length"),
            chunk(usage=USAGE),
        ),
        stream=True,
        same_as="logprobs",
        source=OPENAI_STREAM,
        evidence="documented",
    ),
    Sample(
        "crlf-comments-no-space",
        b": keep-alive\r\n\r\n"
        + sse(
            chunk({"content": "Oslo is "}),
            ": keep-alive",
            chunk({"content": "cloudy."}, "stop"),
            chunk(usage={**USAGE, "prompt_tokens_details": None}),
            end="\r\n\r\n",
        ).replace(b"data: ", b"data:"),
        stream=True,
        same_as="vllm-text",
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-text",
        packed(tgi({"role": "assistant", "content": "Oslo is cloudy."}, "stop_sequence", usage=USAGE)),
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-text-stream",
        sse(
            tgi_chunk({"content": "Oslo is"}),
            tgi_chunk({"content": " cloudy."}, "stop_sequence"),
            {**tgi_chunk({}), "choices": [], "usage": USAGE},
        ),
        stream=True,
        same_as="tgi-text",
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-call",
        packed(
            tgi(
                {"role": "assistant", "tool_calls": [{**CALLS[0], "id": "0"}]},
                "stop",
                usage=USAGE,
            )
        ),
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-call-stream",
        sse(
            tgi_chunk({"tool_calls": [call(0, "0", "weather", "{")]}),
            tgi_chunk({"tool_calls": [{**call(0, None, None, '"city": "Oslo"'), "id": "", "type": "function"}]}),
            tgi_chunk({"tool_calls": [{**call(0, None, None, "}"), "id": "", "type": "function"}]}, "stop"),
            {**tgi_chunk({}), "choices": [], "usage": USAGE},
        ),
        stream=True,
        same_as="tgi-call",
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-error-in-stream",
        sse(
            chunk({"content": "Os"}),
            {"error": {"message": "Request failed during generation", "http_status_code": 422}},
        ),
        stream=True,
        source=TGI_ERROR,
        evidence="documented",
    ),
    Sample(
        "vllm-error-in-stream",
        sse({"error": {"message": "Internal Server Error", "type": "InternalServerError", "param": None, "code": 500}}),
        stream=True,
        source=VLLM_ERROR,
        evidence="inferred",
    ),
    Sample(
        "vllm-context",
        packed(
            {
                "error": {
                    "message": "This model's maximum context length is 131072 tokens. You requested 140000 tokens",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                }
            }
        ),
        status=400,
        source=VLLM_ERROR,
        evidence="documented",
    ),
    Sample(
        "vllm-old-error",
        packed(
            {
                "object": "error",
                "message": "The model `x` does not exist.",
                "type": "NotFoundError",
                "param": None,
                "code": 404,
            }
        ),
        status=404,
        source="vllm-project/vllm before 0.10; SGLang",
        evidence="inferred",
    ),
    Sample("vllm-401", packed({"error": "Unauthorized"}), status=401, source=VLLM_ERROR, evidence="documented"),
    Sample("tgi-401", b"", status=401, source=TGI_ERROR, evidence="documented"),
    Sample(
        "tgi-validation",
        packed({"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}),
        status=422,
        source=TGI_ERROR,
        evidence="documented",
    ),
    Sample(
        "tgi-overloaded",
        packed({"error": "Model is overloaded", "error_type": "overloaded"}),
        status=429,
        source=TGI_ERROR,
        evidence="documented",
    ),
    Sample(
        "llamacpp-loading",
        packed({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        status=503,
        source=LLAMACPP,
        evidence="recorded",
    ),
    Sample(
        "fastapi-detail",
        packed({"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]}),
        status=422,
        source="https://fastapi.tiangolo.com/tutorial/handling-errors/",
        evidence="documented",
    ),
)
