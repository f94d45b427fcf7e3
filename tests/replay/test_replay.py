"""Recorded answers of real servers, through the providers, and compared with the official reader of their format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

import llamaroute as lr

from .player import OUT_OF_SCOPE, PIECES, Case, Playing, cases, play

FOLDER = os.environ.get("LLAMAROUTE_CASES")
CASES = list(cases(Path(FOLDER))) if FOLDER else []
MINE = [case for case in CASES if case.table is not None]
OTHERS = ("/ai/run/", "/converse")
OPENAI = [case for case in MINE if case.chat and case.status == 200 and not any(part in case.url for part in OTHERS)]

VLLM = [case for case in OPENAI if case.folder.startswith("selfhosted-vllm")]
VERTEX: dict[str, dict[str, Any]] = {
    "maas": {"api": "maas"},
    "endpoint": {"api": "endpoint", "endpoint_id": "1", "dedicated_dns": "host"},
    "raw-predict": {"api": "endpoint", "endpoint_id": "1", "dedicated_dns": "host", "route": "raw-predict"},
}

pytestmark = pytest.mark.skipif(not FOLDER, reason="recorded cases: not run (LLAMAROUTE_CASES is not set)")


def test_folder_holds_cases() -> None:
    assert len(MINE) > 100


@pytest.mark.parametrize("case", MINE, ids=lambda case: case.name)
def test_same_result_in_every_piece_size(case: Case) -> None:
    results = [play(case, piece) for piece in PIECES]
    assert results[0] == results[1] == results[2]
    if case.folder == "selfhosted-ollama" and "/api/chat" in case.url:
        assert results[0] == OUT_OF_SCOPE
    elif case.status >= 400:
        assert "Error status=" in results[0]
        assert f"status={case.status}" in results[0]


@pytest.mark.parametrize("case", OPENAI, ids=lambda case: case.name)
def test_reads_all_that_the_official_reader_reads(case: Case) -> None:
    expected = _official(case)
    with lr.Client({"providers": {"p": case.table}}, transport=Playing(case, 0), env={}) as client:
        try:
            if case.streamed:
                with client.stream("x", retry=1) as stream:
                    for _ in stream:
                        pass
                ours: Any = stream.response
            else:
                ours = client.chat("x", retry=1)
        except lr.StreamInterruptedError as error:
            # The official reader takes a stream that was cut off for a whole one: it sees no finish reason.
            assert expected["finish"] is None
            ours = error.partial
    assert ours.text == expected["text"]
    assert [(call.name, call.raw_arguments) for call in ours.tool_calls] == expected["calls"]
    assert ours.reasoning == expected["reasoning"]
    assert ours.raw_finish_reason == expected["finish"]
    if expected["usage"] is None:
        assert ours.usage.estimated
    else:
        assert (ours.usage.input_tokens, ours.usage.output_tokens) == expected["usage"]
    assert len(ours.logprobs or ()) == expected["logprobs"]


@pytest.mark.parametrize("api", VERTEX)
@pytest.mark.parametrize("case", VLLM, ids=lambda case: case.name)
def test_vertex_reads_what_its_containers_are_known_to_say(case: Case, api: str) -> None:
    """No answer of Llama 4 on Vertex AI is recorded; Google's containers there are vLLM."""
    table = {"kind": "vertex", "project": "p", "access_token": "k", **VERTEX[api]}
    for piece in (0, 7):
        assert play(case, piece, table).replace(" [empty_answer]", "") == play(case, 0)


def _official(case: Case) -> dict[str, Any]:
    """What OpenAI's own client makes of the same bytes."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = case.headers.get("content-type", "application/json")
        return httpx2.Response(case.status, headers={"content-type": kind}, content=case.body)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = openai.OpenAI(base_url="http://host/v1", api_key="k", http_client=http, max_retries=0)
    messages: Any = [{"role": "user", "content": "x"}]
    found: dict[str, Any] = {"text": "", "reasoning": "", "finish": None, "usage": None, "logprobs": 0}
    calls: dict[int, list[str]] = {}
    if case.streamed:
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            _usage(found, chunk)
            for choice in (chunk.choices or [])[:1]:
                _message(found, calls, choice.delta, choice)
    else:
        answered = client.chat.completions.create(model="m", messages=messages)
        _usage(found, answered)
        for choice in (answered.choices or [])[:1]:
            _message(found, calls, choice.message, choice)
    found["calls"] = [(name, arguments) for name, arguments in calls.values()]
    return found


def _usage(found: dict[str, Any], answer: Any) -> None:
    usage = answer.usage or (getattr(answer, "x_groq", None) or {}).get("usage")
    if usage:
        read = usage.get if isinstance(usage, dict) else lambda name: getattr(usage, name)
        found["usage"] = (read("prompt_tokens") or 0, read("completion_tokens") or 0)


def _message(found: dict[str, Any], calls: dict[int, list[str]], message: Any, choice: Any) -> None:
    if message is not None:
        content = message.content
        if content is not None:
            if isinstance(content, list):  # Databricks' parts, which the official reader hands on as they are
                found["text"] += "".join(part["text"] for part in content if part["type"] == "text")
                found["reasoning"] += "".join(part.get("text", "") for part in content if part["type"] == "reasoning")
            else:
                found["text"] += content if isinstance(content, str) else lr.types.tools.canonical_json(content)
        extra = message.model_extra or {}
        found["reasoning"] += extra.get("reasoning_content") or extra.get("reasoning") or ""
        given = message.tool_calls or []
        for place, call in enumerate(given if isinstance(given, list) else [given]):
            function = call.function if not isinstance(call, dict) else type("F", (), call["function"])
            index = getattr(call, "index", None)
            name, arguments = calls.get(place if index is None else index, ["", ""])
            more = function.arguments if function.arguments is not None else ""
            more = more if isinstance(more, str) else lr.types.tools.canonical_json(more)
            calls[place if index is None else index] = [name or function.name or "", arguments + more]
    found["finish"] = choice.finish_reason or found["finish"]
    logprobs = choice.logprobs
    if logprobs is not None:
        entries = getattr(logprobs, "content", None) or (logprobs.model_extra or {}).get("tokens") or []
        found["logprobs"] += len(entries)
