"""The tool loop with a real model: the tiny Llama 4 calls a weather tool, behind llama.cpp's server and in this
process. It knows some cities by heart and says one sentence after `18 C`; see examples/tiny_llama_4.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from tests.servers import start_llamacpp

MODELS = Path(__file__).parents[2] / "examples" / "tiny_llama_4"
MODEL = MODELS / "tiny-llama-4.gguf"


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: name of the city
    """
    asked.append(city)
    return "18 C"


asked: list[str] = []


@pytest.fixture(scope="module", params=["llama.cpp's server", "this process"])
def config(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if request.param == "this process":
        # This model has learnt the call of its own chat template; small models without one get tools by schema.
        yield {
            "providers": {"box": {"kind": "local", "model": str(MODEL), "threads": 1, "features": {"tools": "native"}}}
        }
        return
    with start_llamacpp(MODEL, ctx=2048, parallel=1) as server:
        url = f"{server.url}/v1"
        yield {"providers": {"box": {"kind": "openai-compatible", "base_url": url, "model": "tiny-llama-4"}}}


@pytest.fixture(autouse=True)
def _forget() -> None:
    asked.clear()


def test_run(config: dict[str, Any]):
    with lr.Client(config, env={}) as client:
        result = client.run("What is the weather in Paris?", tools=[get_weather], temperature=0, max_tokens=60)
    assert asked == ["Paris"]
    assert result.text == "The weather is 18 C."
    assert [type(step) for step in result.steps] == [lr.ChatResponse, lr.ToolResult, lr.ChatResponse]
    assert result.usage.output_tokens > 10
    assert not result.usage.estimated


def test_run_stream(config: dict[str, Any]):
    with (
        lr.Client(config, env={}) as client,
        client.run_stream("What is the weather in Paris?", tools=[get_weather], temperature=0, max_tokens=60) as stream,
    ):
        events = list(stream)
    assert asked == ["Paris"]
    done = [event for event in events if isinstance(event, lr.ToolResult)]
    assert [event.text for event in done] == ["18 C"]
    after = events[events.index(done[0]) :]
    assert "".join(event.text for event in after if isinstance(event, lr.TextDelta)) == "The weather is 18 C."
    assert stream.result.text == "The weather is 18 C."


def test_a_forced_call(config: dict[str, Any]):
    with lr.Client(config, env={}) as client:
        result = client.run(
            "What is the weather in London?",
            tools=[get_weather],
            tool_choice="required",
            temperature=0,
            max_tokens=60,
        )
    assert asked == ["London"]
    assert result.text == "The weather is 18 C."


@pytest.mark.asyncio
async def test_async_run_with_approval(config: dict[str, Any]):
    async def read_only(call: lr.ToolCall) -> str | None:
        return None if call.name.startswith("get_") else "not allowed"

    async with lr.AsyncClient(config, env={}) as client:
        result = await client.run(
            "What is the weather in Paris?", tools=[get_weather], on_tool=read_only, temperature=0, max_tokens=60
        )
    assert (asked, result.text) == (["Paris"], "The weather is 18 C.")
