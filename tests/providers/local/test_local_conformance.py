"""The conformance checks on the model in this process; its wire is llama.cpp's."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.local import SPEC
from llamaroute.testing import Sample, check_adapter
from tests.providers.wires import USAGE, chunk, completion, packed, sse

LLAMACPP = "the engine itself, as transport/local.py hands its answers on"
TIMINGS = {"prompt_n": 21, "predicted_n": 6, "cache_n": 0}
LOGPROBS = {"content": [{"id": 1, "token": "Os", "bytes": [79], "logprob": -0.5, "top_logprobs": []}]}

SAMPLES = (
    Sample(
        "text",
        packed(
            completion({"role": "assistant", "content": "Os"}, "length", choice={"logprobs": LOGPROBS}, timings=TIMINGS)
        ),
        source=LLAMACPP,
        evidence="recorded",
    ),
    Sample(
        "text-stream",
        sse(
            chunk({"role": "assistant", "content": None}),
            chunk({"content": "Os"}, choice={"logprobs": LOGPROBS}),
            chunk({}, "length"),
            chunk(usage=USAGE, timings=TIMINGS),
        ),
        stream=True,
        same_as="text",
        source=LLAMACPP,
        evidence="recorded",
    ),
    Sample(
        "context",
        packed(
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 5003,
                    "n_ctx": 4096,
                }
            }
        ),
        status=400,
        source=LLAMACPP,
        evidence="recorded",
    ),
)


@pytest.mark.parametrize("settings", [{}, {"mmproj": "/models/mmproj.gguf", "models": {"mine": "/models/mine.gguf"}}])
def test_conformance(settings: dict[str, Any]) -> None:
    check_adapter(SPEC, settings=settings, samples=SAMPLES, model="smollm2")
