"""Rules of the OpenAI-shaped servers: what they refuse, in which shape, and their own routes."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from llamaroute.emulator import Emulator

HELLO = [{"role": "user", "content": "Hello"}]
SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
MODELS = {"openai": "llama-4-scout", "vllm": "llama-4-scout", "tgi": "tgi", "llamacpp": "x", "ollama": "llama4"}


def send(emu: Emulator, host: str, method: str = "POST", path: str = "/chat/completions", **options) -> httpx.Response:
    headers = {"authorization": f"Bearer {emu.key(host) or 'any'}", **options.pop("headers", {})}
    return httpx.request(method, emu.base_url(host) + path, headers=headers, timeout=5, **options)


def chat(emu: Emulator, host: str, **change) -> httpx.Response:
    body = {"model": MODELS.get(host, SCOUT), "messages": HELLO, **change}
    return send(emu, host, json={key: value for key, value in body.items() if value is not ...})


@pytest.mark.parametrize(
    ("host", "change", "status", "words"),
    [
        ("openai", {"temperature": 3}, 400, "'temperature': decimal above maximum value"),
        ("openai", {"messages": ...}, 400, "Missing required parameter: 'messages'"),
        ("openai", {"messages": [{"role": "robot", "content": "x"}]}, 400, "Invalid value: 'robot'"),
        ("openai", {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, 400, "must be a response"),
        ("openai", {"model": "nope"}, 404, "The model `nope` does not exist"),
        ("vllm", {"top_p": 0}, 400, "top_p must be in (0, 1]"),
        ("vllm", {"max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ("vllm", {"model": "nope"}, 404, "Valid aliases: llama-4-scout, llama-4-maverick."),
        ("vllm", {"max_tokens": 131_070}, 400, "you requested 131070 output tokens"),
        ("tgi", {"top_p": 1.0}, 422, "`top_p` must be > 0.0 and < 1.0"),
        ("tgi", {"stop": "x"}, 422, "stop: invalid type: string \"x\", expected a sequence"),
        ("tgi", {"stop": ["a"] * 5}, 422, "up to 4 stop sequences"),
        ("tgi", {"max_tokens": 0}, 422, "`max_new_tokens` must be strictly positive"),
        ("tgi", {"messages": "x"}, 422, "messages: invalid type: string \"x\", expected a sequence"),
        ("tgi", {"response_format": {"type": "json_schema", "json_schema": {}}}, 422, "missing field `value`"),
        ("tgi", {"response_format": {"type": "json", "value": {}}, "tools": [{}]}, 422, "mutually exclusive"),
        ("llamacpp", {"n": 2}, 400, "Field 'n': Value must be between 1 <= value <= 1, but got 2"),
        ("llamacpp", {"messages": ...}, 400, "'messages' is required"),
        ("ollama", {"model": "nope"}, 404, "model 'nope' not found"),
        ("huggingface", {"model": SCOUT + ":fireworks-ai"}, 400, "model_not_supported"),
        ("huggingface", {"temperature": 5}, 400, "temperature"),
    ],
)  # fmt: skip
def test_refusals(emu: Emulator, host: str, change, status: int, words: str) -> None:
    answer = chat(emu, host, **change)
    assert answer.status_code == status
    assert words in answer.text.replace('\\"', '"')


@pytest.mark.parametrize(
    ("host", "status", "body"),
    [
        ("vllm", 401, {"error": "Unauthorized"}),
        ("tgi", 401, None),
        ("llamacpp", 401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}),
    ],
)
def test_wrong_key(emu: Emulator, host: str, status: int, body) -> None:
    answer = send(emu, host, json={}, headers={"authorization": "Bearer wrong"})
    assert answer.status_code == status
    assert (answer.json() if answer.content else None) == body


@pytest.mark.parametrize(
    ("host", "get_chat", "unknown"),
    [
        ("openai", (405, "method_not_supported"), (404, "Invalid URL (POST /v1/chat/completionz)")),
        ("vllm", (405, "Method Not Allowed"), (404, "Not Found")),
        ("tgi", (405, ""), (404, "")),
        ("llamacpp", (404, "File Not Found"), (404, "File Not Found")),
        ("ollama", (405, "405 method not allowed"), (404, "404 page not found")),
        ("huggingface", (404, "Sorry"), (404, "Sorry")),
    ],
)
def test_unknown_routes(emu: Emulator, host: str, get_chat, unknown) -> None:
    for answer, (status, words) in (
        (send(emu, host, "GET"), get_chat),
        (send(emu, host, path="/chat/completionz", json={}), unknown),
    ):
        assert answer.status_code == status
        assert words in answer.text
    assert len(emu.requests) == 2


@pytest.mark.parametrize("host", ["openai", "vllm", "tgi", "llamacpp", "ollama", "huggingface"])
def test_body_that_is_no_json(emu: Emulator, host: str) -> None:
    answer = send(emu, host, content=b'{"model": ')
    assert answer.status_code == (500 if host == "llamacpp" else 400)


ODD = [0, -1, 1.5, "x", "", [], {}, [1], [None], [[]], {"a": 1}, True, [{}]]
FIELDS = ["messages", "tools", "tool_choice", "temperature", "top_p", "stop", "max_tokens", "stream", "response_format"]


@pytest.mark.parametrize("host", ["openai", "vllm", "tgi", "llamacpp", "ollama", "huggingface"])
def test_odd_bodies_never_trip_the_emulator(emu: Emulator, host: str) -> None:
    parts = [
        1,
        None,
        {},
        {"type": "image_url"},
        {"type": "image_url", "image_url": "data:"},
        {"type": "text", "text": 5},
    ]
    changes = [{name: value} for name in FIELDS for value in ODD]
    changes += [{"messages": [{"role": "user", "content": value}]} for value in [*ODD, *([part] for part in parts)]]
    changes += [{"tools": [{"type": "function", "function": value}], "tool_choice": "required"} for value in ODD]
    with httpx.Client(headers={"authorization": f"Bearer {emu.key(host) or 'any'}"}) as client:
        for change in changes:
            body = {"model": MODELS.get(host, SCOUT), "messages": HELLO, **change}
            answer = client.post(emu.base_url(host) + "/chat/completions", json=body)
            assert "emulator: " not in answer.text, (change, answer.text)


def test_no_key_wanted() -> None:
    with Emulator(keys={"vllm": None, "openai": "sk-mine"}) as emu:
        assert chat(emu, "vllm").status_code == 200
        assert emu.key("openai") == "sk-mine"
        assert chat(emu, "openai").status_code == 200


def test_tgi_finish_and_ids(emu: Emulator) -> None:
    emu.replies("one two STOP three", "x")
    answer = chat(emu, "tgi", stop=["STOP"]).json()
    assert answer["id"] == ""
    assert answer["model"] == SCOUT
    assert answer["choices"][0]["finish_reason"] == "stop_sequence"
    headers = chat(emu, "tgi").headers
    assert headers["x-generated-tokens"] == "1"


def test_openai_usage_in_the_finish_chunk() -> None:
    with Emulator(quirks=["usage-in-finish-chunk"]) as emu:
        text = chat(emu, "openai", stream=True, stream_options={"include_usage": True}).text
    assert '"choices":[]' not in text
    assert text.count('"usage":{') == 1


def test_vllm_usage_on_every_chunk(emu: Emulator) -> None:
    text = chat(emu, "vllm", stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}).text
    frames = text.split("\n\n")[:-2]
    assert all('"usage":{' in frame for frame in frames)


def test_llamacpp_errors_close_the_connection(emu: Emulator) -> None:
    assert chat(emu, "llamacpp", n=3).headers["connection"] == "close"
    assert chat(emu, "llamacpp").json()["timings"]["predicted_n"] > 0


def test_llamacpp_while_loading() -> None:
    with Emulator(loading=0.3) as emu, httpx.Client(timeout=5) as client:
        health = emu.url + "/llamacpp/health"
        answer = client.get(health)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable_error")
        key = {"authorization": f"Bearer {emu.key('llamacpp')}"}
        answer = client.post(emu.base_url("llamacpp") + "/chat/completions", json={"messages": HELLO}, headers=key)
        assert answer.json()["error"]["message"] == "Loading model"
        time.sleep(0.3)
        assert client.get(health).json() == {"status": "ok"}
        assert chat(emu, "llamacpp").status_code == 200


def test_health_version_tokenize(emu: Emulator) -> None:
    assert httpx.get(emu.url + "/vllm/health").status_code == 200
    assert httpx.get(emu.url + "/vllm/version").json() == {"version": "0.32.0"}
    assert httpx.post(emu.url + "/vllm/tokenize", json={"messages": HELLO}).json()["count"] > 0
    assert len(httpx.post(emu.url + "/llamacpp/tokenize", json={"content": "a b"}).json()["tokens"]) == 2
    assert httpx.get(emu.url + "/tgi/health").status_code == 200
    assert send(emu, "vllm", "GET", "/models").json()["data"][0]["max_model_len"] == 131_072


def test_router_models_need_no_token(emu: Emulator) -> None:
    url = emu.base_url("huggingface")
    listed = httpx.get(url + "/models").json()["data"]
    assert listed[0]["id"] == SCOUT
    one = httpx.get(f"{url}/models/{SCOUT}").json()
    assert {provider["provider"] for provider in one["providers"]} == {"together", "nscale", "groq", "novita"}
    hub = httpx.get(f"{emu.url}/huggingface/api/models/{SCOUT}?expand[]=inferenceProviderMapping").json()
    assert hub["inferenceProviderMapping"][0]["status"] == "live"


def test_router_shapes(emu: Emulator) -> None:
    answer = chat(emu, "huggingface")
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-inference-provider"] == "together"
    assert answer.json()["prompt"] == []
    other = chat(emu, "huggingface", model=SCOUT + ":nscale")
    assert "retry-after" not in other.headers
    assert "kv_transfer_params" in other.json()
    pinned = httpx.post(
        emu.url + "/huggingface/novita/v3/openai/chat/completions",
        json={"model": SCOUT.lower(), "messages": HELLO, "stream": True},
        headers={"authorization": f"Bearer {emu.key('huggingface')}"},
    )
    assert "sla_metrics" in pinned.text
    assert "inference-id" in pinned.headers


def test_router_quirks() -> None:
    result = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    with Emulator(quirks=["no-retry-after-on-200", "no-usage", "together-500-after-tool"]) as emu:
        answer = chat(emu, "huggingface")
        assert "retry-after" not in answer.headers
        assert "usage" not in answer.json()
        assert chat(emu, "huggingface", messages=result).status_code == 500
        assert chat(emu, "huggingface", messages=result, model=SCOUT + ":nscale").status_code == 200
    with Emulator(quirks=["not-a-chat-model"]) as emu:
        assert "is not a chat model." in chat(emu, "huggingface").text


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503, 504])
def test_router_errors(emu: Emulator, status: int) -> None:
    emu.fault(status=status)
    answer = chat(emu, "huggingface")
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)
    assert ("ratelimit" in answer.headers) == (status == 429)


def endpoint(emu: Emulator, **headers: str) -> httpx.Response:
    key = {"authorization": f"Bearer {emu.key('hf-endpoint')}", **headers}
    url = emu.base_url("hf-endpoint") + "/v1/chat/completions"
    return httpx.post(url, json={"model": "tgi", "messages": HELLO}, headers=key)


def test_endpoint_wakes_up() -> None:
    with Emulator(cold_start=0.3) as emu:
        assert endpoint(emu).status_code == 503
        assert endpoint(emu, **{"X-Scale-Up-Timeout": "0.01"}).status_code == 503
        assert endpoint(emu, **{"X-Scale-Up-Timeout": "600"}).status_code == 200
        first, _, last = emu.wait_for(3, finished=True)
        assert last.finished - first.started >= 0.29
        assert endpoint(emu).status_code == 200


def test_endpoint_with_vllm() -> None:
    with Emulator(engine="vllm") as emu:
        key = {"authorization": f"Bearer {emu.key('hf-endpoint')}"}
        url = emu.base_url("hf-endpoint") + "/v1/models"
        assert httpx.get(url, headers=key).json()["data"][0]["owned_by"] == "vllm"
        assert httpx.get(url).status_code == 401


def test_waiting_for_requests_from_another_thread(emu: Emulator) -> None:
    threading.Timer(0.05, lambda: chat(emu, "openai")).start()
    assert emu.wait_for(1, finished=True)[0].status == 200
