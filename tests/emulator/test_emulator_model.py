"""A real model behind the wire: another emulator plays the upstream server; and the tiny Llama 4 of examples/."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from llamaroute.emulator import Emulator, GgufModel, Reply, UpstreamModel

HELLO = [{"role": "user", "content": "Hello"}]
CF_SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
CF = {"authorization": "Bearer cf-test-token"}
RUN = f"/accounts/0123456789abcdef0123456789abcdef/ai/run/{CF_SCOUT}"


def test_upstream(emu: Emulator, weather_tool) -> None:
    emu.replies(
        Reply("Upstream é🎉.", usage=(7, 3)), Reply("Streamed."), Reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    )
    source = {"url": emu.base_url("vllm"), "key": emu.key("vllm")}
    with Emulator(["Scripted first."], model=source) as front:
        url = front.base_url("cloudflare") + RUN
        assert httpx.post(url, json={"messages": HELLO}, headers=CF).json()["result"]["response"] == "Scripted first."
        result = httpx.post(url, json={"messages": HELLO}, headers=CF).json()["result"]
        assert result["response"] == "Upstream é🎉."
        assert result["usage"]["total_tokens"] == 10
        streamed = httpx.post(url, json={"messages": HELLO, "stream": True}, headers=CF).text
        assert '"response":"Stream"' in streamed
        flat = {**weather_tool["function"]}
        result = httpx.post(url, json={"messages": HELLO, "tools": [flat]}, headers=CF).json()["result"]
        assert result["tool_calls"][0]["function"]["name"] == "get_weather"
    sent = emu.requests[-1].json
    assert sent["model"] == "llama-4-scout"
    assert sent["tools"] == [{"type": "function", "function": flat}]
    assert sent["max_tokens"] == 256


def test_upstream_streams_piece_by_piece_and_stops(emu: Emulator) -> None:
    emu.reply(Reply("word " * 100, chunk_delay=0.02))
    with Emulator(model=UpstreamModel(emu.base_url("openai"), emu.key("openai"))) as front:
        key = {"authorization": f"Bearer {front.key('tgi')}"}
        body = {"model": "tgi", "messages": HELLO, "stream": True}
        url = front.base_url("tgi") + "/chat/completions"
        started = time.monotonic()
        with httpx.Client() as client, client.stream("POST", url, json=body, headers=key) as answer:
            next(answer.iter_lines())
            assert time.monotonic() - started < 1
        assert front.wait_for(1, finished=True)[0].disconnected
        chats = [request for request in emu.requests if request.method == "POST"]
        deadline = time.monotonic() + 3
        while chats[0].finished is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert chats[0].disconnected, "the upstream request ends with its client"


def test_upstream_errors(emu: Emulator) -> None:
    with Emulator(model={"url": emu.base_url("openai"), "key": "wrong", "model": "llama-4-scout"}) as front:
        answer = httpx.post(front.base_url("cloudflare") + RUN, json={"messages": HELLO}, headers=CF)
        assert answer.status_code == 401
    with Emulator(model="http://127.0.0.1:9/v1") as front:
        answer = httpx.post(front.base_url("cloudflare") + RUN, json={"messages": HELLO}, headers=CF)
        assert answer.status_code == 502
        assert "can't be reached" in answer.json()["errors"][0]["message"]


def test_unknown_model_argument() -> None:
    with pytest.raises(TypeError, match="no model"):
        Emulator(model=3).start()


@pytest.fixture(scope="module")
def gguf() -> GgufModel:
    folder = Path(__file__).parents[2] / "examples" / "tiny_llama_4"
    return GgufModel(str(folder / "tiny-llama-4.gguf"), str(folder / "mmproj-tiny-llama-4.gguf"), ctx=2048)


def test_gguf(gguf: GgufModel, weather_tool, image_url: str) -> None:
    with Emulator(model=gguf) as emu:
        key = {"authorization": f"Bearer {emu.key('openai')}"}
        url = emu.base_url("openai") + "/chat/completions"
        body = {"model": "llama-4-scout", "messages": HELLO, "max_tokens": 12, "temperature": 0}
        plain = httpx.post(url, json=body, headers=key, timeout=60).json()
        assert plain["usage"]["completion_tokens"] > 0
        with httpx.stream("POST", url, json={**body, "stream": True}, headers=key, timeout=60) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
        assert len(lines) > 3
        assert lines[-1] == "data: [DONE]"
        forced = {**body, "tools": [weather_tool], "tool_choice": "required", "max_tokens": 300}
        weather = [{"role": "user", "content": "What is the weather in Paris?"}]
        call = httpx.post(url, json={**forced, "messages": weather}, headers=key, timeout=60).json()["choices"][0]
        assert call["finish_reason"] == "tool_calls"
        assert json.loads(call["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
        parts = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": "What?"}]
        seen = httpx.post(
            url, json={**body, "messages": [{"role": "user", "content": parts}]}, headers=key, timeout=60
        ).json()
        assert seen["usage"]["prompt_tokens"] > 100
        long = {**body, "messages": [{"role": "user", "content": "word " * 5000}]}
        assert httpx.post(url, json=long, headers=key, timeout=60).status_code == 400
