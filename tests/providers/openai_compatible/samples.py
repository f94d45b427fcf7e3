"""Answers of servers that speak OpenAI's chat completions, written by hand after the sources named."""

from __future__ import annotations

from typing import Any

from llamaroute.testing import Sample
from tests.providers.wires import packed, sse

VLLM = "vllm-project/vllm:vllm/entrypoints/openai/chat_completion/protocol.py (2026)"
VLLM_ERROR = "vllm-project/vllm:vllm/entrypoints/openai/engine/protocol.py (2026)"
TGI = "huggingface/text-generation-inference:router/src/lib.rs (v3.3.7)"
TGI_ERROR = "huggingface/text-generation-inference:router/src/infer/mod.rs, server.rs (v3.3.7)"
LLAMACPP = "a llama.cpp server of this project's tests (tests/servers)"
OPENAI = "https://platform.openai.com/docs/api-reference/chat/object"
OPENAI_STREAM = "https://platform.openai.com/docs/api-reference/chat-streaming"

USAGE = {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
LOGPROBS = [
    {
        "token": "Os",
        "logprob": -0.25,
        "bytes": [79, 115],
        "top_logprobs": [
            {"token": "Os", "logprob": -0.25, "bytes": [79, 115]},
            {"token": "B", "logprob": -1.5, "bytes": [66]},
        ],
    },
    {"token": "lo", "logprob": -0.125, "bytes": [108, 111], "top_logprobs": []},
]


def completion(message: dict[str, Any], finish: str | None, **more: Any) -> dict[str, Any]:
    """A `chat.completion` as vLLM writes it, nulls included."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return {
        "id": "chatcmpl-5f0c",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": "llama-4-scout",
        "choices": [choice | more.pop("choice", {})],
        "usage": {**USAGE, "prompt_tokens_details": None},
        "prompt_logprobs": None,
        "kv_transfer_params": None,
        **more,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A `chat.completion.chunk`; without a delta, one of `choices: []`."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-5f0c",
        "object": "chat.completion.chunk",
        "created": 1_780_000_000,
        "model": "llama-4-scout",
        "choices": [] if delta is None else [choice | more.pop("choice", {})],
        **more,
    }


def call(index: int, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {"index": index, **({"id": id, "type": "function"} if id else {}), "function": function}


TEXT = {"role": "assistant", "content": "Oslo is cloudy.", "reasoning": None, "refusal": None, "annotations": None}
CALLS = [
    {"id": "chatcmpl-tool-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "chatcmpl-tool-2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
]

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
        packed(
            {
                "object": "chat.completion",
                "id": "",
                "created": 1_780_000_000,
                "model": "m",
                "system_fingerprint": "3.3.7-native",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Oslo is cloudy."},
                        "logprobs": None,
                        "finish_reason": "stop_sequence",
                    }
                ],
                "usage": USAGE,
            }
        ),
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-text-stream",
        sse(
            *(
                {
                    "object": "chat.completion.chunk",
                    "id": "",
                    "created": 1_780_000_000,
                    "model": "m",
                    "system_fingerprint": "3.3.7-native",
                    "choices": [
                        {
                            "index": 0,
                            "delta": {"role": "assistant", "content": text},
                            "logprobs": None,
                            "finish_reason": finish,
                        }
                    ],
                    "usage": None,
                }
                for text, finish in (("Oslo is", None), (" cloudy.", "stop_sequence"))
            ),
            {
                "object": "chat.completion.chunk",
                "id": "",
                "created": 1_780_000_000,
                "model": "m",
                "choices": [],
                "usage": USAGE,
            },
        ),
        stream=True,
        same_as="tgi-text",
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-call",
        packed(
            {
                "object": "chat.completion",
                "id": "",
                "created": 1_780_000_000,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "tool_calls": [
                                {
                                    "id": "0",
                                    "type": "function",
                                    "function": {
                                        "description": None,
                                        "name": "weather",
                                        "arguments": '{"city":"Oslo"}',
                                    },
                                }
                            ],
                        },
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": USAGE,
            }
        ),
        source=TGI,
        evidence="documented",
    ),
    Sample(
        "tgi-call-stream",
        sse(
            *(
                {
                    "object": "chat.completion.chunk",
                    "id": "",
                    "created": 1_780_000_000,
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "delta": {
                                "role": "assistant",
                                "tool_calls": [
                                    {
                                        "index": 0,
                                        "id": id,
                                        "type": "function",
                                        "function": {"name": name, "arguments": text},
                                    }
                                ],
                            },
                            "logprobs": None,
                            "finish_reason": finish,
                        }
                    ],
                    "usage": None,
                }
                for id, name, text, finish in (
                    ("0", "weather", "{", None),
                    ("", None, '"city":"Oslo"', None),
                    ("", None, "}", "stop"),
                )
            ),
            {
                "object": "chat.completion.chunk",
                "id": "",
                "created": 1_780_000_000,
                "model": "m",
                "choices": [],
                "usage": USAGE,
            },
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
                    "message": "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens",
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
