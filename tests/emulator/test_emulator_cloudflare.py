"""Cloudflare's native route, its variants, its refusals, the gateway and the batch queue."""

from __future__ import annotations

import json

import httpx
import pytest

from llamaroute.emulator import Emulator, Fault

ACCOUNT = "0123456789abcdef0123456789abcdef"
SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
HELLO = [{"role": "user", "content": "Hello"}]
KEY = {"authorization": "Bearer cf-test-token"}


def post(emu: Emulator, body, route: str = f"run/{SCOUT}", headers=KEY, **options) -> httpx.Response:
    return httpx.post(
        f"{emu.base_url('cloudflare')}/accounts/{ACCOUNT}/ai/{route}", json=body, headers=headers, **options
    )


def image(url: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def events(answer: httpx.Response) -> list[dict]:
    assert answer.headers["content-type"] == "text/event-stream"
    frames = answer.text.split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def test_native_stream_shape(emu: Emulator) -> None:
    emu.reply("Oslo is", usage=(21, 6))
    found = events(post(emu, {"messages": HELLO, "stream": True}))
    assert [event["response"] for event in found] == ["Oslo", " is", "", ""]
    assert [set(event) for event in found] == [{"response", "tool_calls", "p"}] * 3 + [{"response", "usage"}]
    assert found[-1]["usage"] == {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    assert found[0]["p"].startswith("a")


def test_native_tool_stream(emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    found = events(post(emu, {"messages": HELLO, "stream": True, "tools": [weather_tool]}))
    parts = [event["tool_calls"][0] for event in found if event.get("tool_calls")]
    assert parts[0]["function"] == {"name": "get_weather"}
    assert len(parts[0]["id"]) == len("chatcmpl-tool-") + 32
    assert "".join(part["function"].get("arguments", "") for part in parts) == '{"city": "Oslo"}'
    assert parts[-1] == {"id": None, "type": None, "index": 0, "function": {"name": None, "arguments": ""}}
    assert [event["finish_reason"] for event in found if "finish_reason" in event] == ["tool_calls"]


def test_the_output_limit_is_256_tokens_unless_told(emu: Emulator) -> None:
    emu.replies("word " * 400, "word " * 400)
    usage = post(emu, {"messages": HELLO}).json()["result"]["usage"]
    assert usage["completion_tokens"] == 256
    assert post(emu, {"messages": HELLO, "max_tokens": 900}).json()["result"]["usage"]["completion_tokens"] > 256


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"temperature": -1}, 400, 5006, "'/temperature' must be >= 0"),
        ({"temperature": "hot"}, 400, 5006, "Type mismatch of '/temperature', 'string' not in 'number'"),
        ({"top_k": 51}, 400, 5006, "'/top_k' must be <= 50"),
        ({"top_p": 2.5}, 400, 5006, "'/top_p' must be <= 2"),
        ({"seed": 0}, 400, 5006, "'/seed' must be >= 1"),
        ({"seed": 1.5}, 400, 5006, "Type mismatch of '/seed', 'number' not in 'integer'"),
        ({"frequency_penalty": -0.5}, 400, 5006, "'/frequency_penalty' must be >= 0"),
        ({"presence_penalty": 2.1}, 400, 5006, "'/presence_penalty' must be <= 2"),
        ({"repetition_penalty": 3}, 400, 5006, "'/repetition_penalty' must be <= 2"),
        ({"max_tokens": None}, 400, 5006, "Type mismatch of '/max_tokens', 'null' not in 'integer'"),
        ({"messages": [{"role": "assistant", "content": None}]}, 400, 5006,
         "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
         "Type mismatch of '/messages/0/content', 'null' not in 'string'"),
        ({"messages": "hi"}, 400, 5006, "Type mismatch of '/messages', 'string' not in 'array'"),
        ({"messages": [{"content": "x"}]}, 400, 5006, "required properties at '/messages/0' are 'role'"),
        ({"prompt": "hi"}, 400, 5006, "2 matches"),
        ({"tools": [{"name": "f", "parameters": {"type": "object", "properties": []}}]}, 400, 8001, "Invalid input"),
        ({"tools": [], "tool_choice": "any"}, 400, 8001, "Invalid input"),
        ({"messages": image("https://x/y.png")}, 400, 5006, "^data:"),
        ({"messages": image("data:image/png;base64,AA==")}, 400, 8006, "Invalid data for image"),
        ({"max_tokens": 131_000}, 413, 5021, "exceeded this model context window limit (131000)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", [f"run/{SCOUT}", "v1/chat/completions"])
def test_refusals(emu: Emulator, route: str, change, status: int, code: int, words: str) -> None:
    answer = post(emu, {"model": SCOUT, "messages": HELLO, **change}, route)
    assert answer.status_code == status
    body = answer.json()
    assert body["success"] is False
    assert body["result"] == {}
    assert body["errors"][0]["code"] == code
    assert words in body["errors"][0]["message"]
    assert body["errors"][0]["message"].startswith("AiError: ")
    assert len(body["errors"][0]["message"].rpartition("(")[2]) == 37


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 5, "top_p": 2, "top_k": 50, "seed": 1, "presence_penalty": 0, "unheard_of": 1},
        {"messages": [{"role": "user", "content": {"type": "text", "text": "one part"}}]},
        {"messages": [{"role": "whatever", "content": "free role"}]},
        {"tools": [{"name": "f", "description": "flat", "parameters": {"type": "object", "properties": {}}}]},
    ],
)
def test_accepted(emu: Emulator, change) -> None:
    assert post(emu, {"messages": HELLO, **change}).status_code == 200


def test_errors_before_the_model(emu: Emulator) -> None:
    assert post(emu, {"messages": HELLO}, headers={}).json()["errors"] == [
        {"code": 10000, "message": "Authentication error"}
    ]
    wrong = httpx.post(f"{emu.base_url('cloudflare')}/accounts/typo/ai/run/{SCOUT}", json={}, headers=KEY)
    assert wrong.status_code == 404
    assert wrong.json()["result"] is None
    assert [error["code"] for error in wrong.json()["errors"]] == [7003, 7000]
    assert "Could not route to /accounts/typo/ai/run/" in wrong.json()["errors"][0]["message"]
    assert post(emu, {"messages": HELLO}, "run/@cf/no/model").json()["errors"][0]["code"] == 5007
    assert post(emu, {"messages": HELLO}, "nowhere").status_code == 404


def test_body_too_large() -> None:
    with Emulator(max_body=1000) as emu:
        answer = post(emu, {"messages": [{"role": "user", "content": "x" * 2000}]})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, 3006)


def test_headers(emu: Emulator) -> None:
    plain = post(emu, {"messages": HELLO}).headers
    assert plain["cf-ray"].endswith("-ORD")
    assert "cf-aig-log-id" not in plain
    assert "cf-aig-log-id" in post(emu, {"messages": HELLO}, headers={**KEY, "cf-aig-gateway-id": "default"}).headers


def test_legacy_key(emu: Emulator) -> None:
    legacy = {"x-auth-email": "a@b.c", "x-auth-key": "cf-test-token"}
    assert post(emu, {"messages": HELLO}, headers=legacy).status_code == 200


def test_universal_route_needs_a_gateway(emu: Emulator) -> None:
    body = {"model": SCOUT, "input": {"messages": HELLO}}
    assert post(emu, body, "run").status_code == 400
    answer = post(emu, body, "run", {**KEY, "cf-aig-gateway-id": "default"})
    assert answer.json()["result"]["response"] == "You said: Hello"


@pytest.mark.parametrize("quirk", ["flat-tool-calls", "null-response", "native-openai-in-envelope"])
def test_tool_call_variants(quirk: str, weather_tool) -> None:
    with Emulator(quirks=[quirk]) as emu:
        emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
        result = post(emu, {"messages": HELLO, "tools": [weather_tool]}).json()["result"]
    if quirk == "flat-tool-calls":
        assert result["tool_calls"] == [{"name": "get_weather", "arguments": {"city": "Oslo"}}]
        assert result["response"] is None
    elif quirk == "null-response":
        assert result["response"] is None
        assert result["tool_calls"][0]["type"] == "function"
    else:
        assert result["object"] == "chat.completion"
        assert result["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_value_variants() -> None:
    with Emulator(["12", '{"a": 1}', "x"], quirks=["number-response", "response-object", "null-usage"]) as emu:
        assert post(emu, {"messages": HELLO}).json()["result"]["response"] == 12
        schema = {"type": "json_schema", "json_schema": {"type": "object"}}
        body = {"messages": HELLO, "response_format": schema}
        assert post(emu, body).json()["result"]["response"] == {"a": 1}
        assert post(emu, {"messages": HELLO}).json()["result"]["usage"]["total_tokens"] is None


def test_empty_stream_with_tools(weather_tool) -> None:
    with Emulator(["The text.", "The text."], quirks=["empty-stream-with-tools"]) as emu:
        body = {"messages": HELLO, "tools": [weather_tool]}
        found = events(post(emu, {**body, "stream": True}))
        assert found[1] == {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        assert "text" not in json.dumps(found)
        assert found[-1]["usage"]["completion_tokens"] > 0
        assert post(emu, body).json()["result"]["response"] == "The text."


def test_stream_variants(weather_tool) -> None:
    with Emulator(
        ["Hi you"] * 3, quirks=["no-padding", "incremental-usage", "stray-native-event", "usage-chunk"]
    ) as emu:
        found = events(post(emu, {"messages": HELLO, "stream": True}))
        assert all("p" not in event for event in found)
        assert found[0]["usage"]["completion_tokens"] == 1
        found = events(post(emu, {"model": SCOUT, "messages": HELLO, "stream": True}, "v1/chat/completions"))
        assert found[-1]["response"] == ""
        assert found[-2]["choices"] == []
    with Emulator(quirks=["stream-json"]) as emu:
        assert post(emu, {"messages": HELLO, "stream": True}).json()["success"] is True


def test_http_200_error() -> None:
    with Emulator(quirks=["http-200-error"]) as emu:
        answer = post(emu, {"messages": HELLO, "seed": 0})
        assert answer.status_code == 200
        assert answer.json()["success"] is False


def test_batch(emu: Emulator) -> None:
    items = [{"messages": HELLO, "external_reference": "a1"}, {"messages": HELLO, "seed": 0}]
    route = f"run/{SCOUT}?queueRequest=true"
    queued = post(emu, {"requests": items}, route).json()["result"]
    assert queued["status"] == "queued"
    poll = {"request_id": queued["request_id"]}
    assert post(emu, poll, route).json()["result"]["status"] == "running"
    done = post(emu, poll, route).json()["result"]
    assert done["responses"][0]["result"]["response"] == "You said: Hello"
    assert done["responses"][0]["external_reference"] == "a1"
    assert done["responses"][1]["success"] is False


def gateway(emu: Emulator, path: str, body, headers=KEY) -> httpx.Response:
    return httpx.post(f"{emu.base_url('cloudflare-gateway')}/{ACCOUNT}/default{path}", json=body, headers=headers)


@pytest.mark.parametrize("path", [f"/workers-ai/{SCOUT}", f"/workers-ai/run/{SCOUT}"])
def test_gateway_native(emu: Emulator, path: str) -> None:
    answer = gateway(emu, path, {"messages": HELLO})
    assert answer.json()["result"]["response"] == "You said: Hello"
    assert answer.headers["cf-aig-step"] == "0"


def test_gateway_fallback_chain(emu: Emulator) -> None:
    steps = [
        {"provider": "workers-ai", "endpoint": "@cf/no/model", "headers": KEY, "query": {"messages": HELLO}},
        {"provider": "workers-ai", "endpoint": SCOUT, "headers": KEY, "query": {"messages": HELLO}},
    ]
    answer = gateway(emu, "", steps, {})
    assert answer.json()["success"] is True
    assert answer.headers["cf-aig-step"] == "1"


def test_authenticated_gateway() -> None:
    with Emulator(quirks=["authenticated-gateway"]) as emu:
        path = f"/workers-ai/{SCOUT}"
        assert gateway(emu, path, {"messages": HELLO}).status_code == 401
        both = {**KEY, "cf-aig-authorization": "Bearer cf-test-token"}
        assert gateway(emu, path, {"messages": HELLO}, both).status_code == 200


def test_error_as_first_event(emu: Emulator) -> None:
    emu.fault(Fault(error_first=True))
    answer = post(emu, {"messages": HELLO, "stream": True})
    assert answer.status_code == 200
    assert json.loads(answer.text.removeprefix("data: "))["error"]["code"] == "invalid_prompt"
