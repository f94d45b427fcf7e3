"""Rules of the emulated Azure hosts: what they refuse, in which shape, their quirks, and the lists of deployments."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from llamaroute.emulator import Emulator, Reply
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, TENANT

HELLO = [{"role": "user", "content": "Hello"}]
MAVERICK = "Llama-4-Maverick-17B-128E-Instruct-FP8"
SCOUT = "Llama-4-Scout-17B-16E-Instruct"
VERSION = {"api-version": "2024-05-01-preview"}
PATHS = {
    "azure": "/openai/v1/chat/completions",
    "azure-models": "/models/chat/completions",
    "azure-serverless": "/chat/completions",
}
every_host = pytest.mark.parametrize("host", PATHS)
models_api = pytest.mark.parametrize("host", ["azure-models", "azure-serverless"])


def send(emu: Emulator, host: str, path: str | None = None, method: str = "POST", **options) -> httpx.Response:
    headers = {"api-key": emu.key(host) or "", **options.pop("headers", {})}
    query = options.pop("params", {} if host == "azure" else VERSION)
    url = emu.base_url(host) + (path or PATHS[host])
    return httpx.request(method, url, headers=headers, params=query, timeout=5, **options)


def chat(emu: Emulator, host: str, headers: dict[str, str] | None = None, **change) -> httpx.Response:
    body = {"model": MAVERICK, "messages": HELLO, **change}
    kept = {key: value for key, value in body.items() if value is not ...}
    return send(emu, host, json=kept, headers=headers or {})


def events(answer: httpx.Response) -> list:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n")]
    assert lines[-2:] == ["[DONE]", ""], "data lines with LF, and the end marker"
    return [json.loads(line) for line in lines[:-2]]


# ── what is refused ──


@models_api
@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"temperature": 1.5}, "less_than_equal", ["body", "temperature"]),
        ({"temperature": -0.1}, "greater_than_equal", ["body", "temperature"]),
        ({"temperature": "hot"}, "float_type", ["body", "temperature"]),
        ({"top_p": 1.1}, "less_than_equal", ["body", "top_p"]),
        ({"frequency_penalty": 3}, "less_than_equal", ["body", "frequency_penalty"]),
        ({"presence_penalty": -3}, "greater_than_equal", ["body", "presence_penalty"]),
        ({"max_tokens": -1}, "greater_than_equal", ["body", "max_tokens"]),
        ({"max_tokens": 1.5}, "int_type", ["body", "max_tokens"]),
        ({"seed": "x"}, "int_type", ["body", "seed"]),
        ({"stop": "END"}, "list_type", ["body", "stop"]),
        ({"stop": []}, "too_short", ["body", "stop"]),
        ({"stop": [1]}, "string_type", ["body", "stop", 0]),
        ({"stream": "yes"}, "bool_type", ["body", "stream"]),
        ({"messages": ...}, "missing", ["body", "messages"]),
        ({"messages": []}, "too_short", ["body", "messages"]),
        ({"messages": [{"role": "robot", "content": "x"}]}, "literal_error", ["body", "messages", 0, "role"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, "missing", ["body", "messages", 0, "tool_call_id"]),
        ({"messages": [{"role": "system", "content": [{"type": "text", "text": "x"}]}]}, "string_type",
         ["body", "messages", 0, "content"]),
        ({"messages": [{"role": "user", "content": [{"type": "sound"}]}]}, "literal_error",
         ["body", "messages", 0, "content", 0, "type"]),
        ({"response_format": {"type": "yaml"}}, "literal_error", ["body", "response_format", "type"]),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "missing",
         ["body", "response_format", "json_schema", "schema"]),
        ({"tools": [{"type": "function"}]}, "missing", ["body", "tools", 0, "function", "name"]),
        ({"tool_choice": "any"}, "literal_error", ["body", "tool_choice"]),
    ],
)  # fmt: skip
def test_the_specification(emu: Emulator, host: str, change, kind: str, where: list) -> None:
    answer = chat(emu, host, **change)
    assert answer.status_code == 422
    found = answer.json()["detail"]
    assert [(problem["type"], problem["loc"]) for problem in found] == [(kind, where)]


@models_api
@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0}, {"temperature": 1}, {"top_p": 1}, {"max_tokens": 0}, {"stop": ["x"]}, {"seed": 2**40},
        {"messages": [{"role": "developer", "content": "x"}, *HELLO]}, {"tool_choice": "required"},
        {"response_format": {"type": "text"}}, {"presence_penalty": None}, {"frequency_penalty": -2},
    ],
)  # fmt: skip
def test_the_specifications_limits_are_allowed(emu: Emulator, host: str, change) -> None:
    assert chat(emu, host, **change).status_code == 200


def test_v1_speaks_openais_words(emu: Emulator) -> None:
    answer = chat(emu, "azure", temperature=3)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temperature")
    assert chat(emu, "azure", temperature=2, stop="END", top_k=5).status_code == 200
    with Emulator(quirks=["azure-strict-fields"]) as strict:
        answer = chat(strict, "azure", top_k=5)
    assert answer.json()["error"]["message"] == "Unrecognized request argument supplied: top_k"


REFUSED = (
    "Extra parameters ['top_k'] are not allowed when extra-parameters is not set or set to be 'error'. "
    "Set extra-parameters to 'pass-through' to pass to the model."
)


@models_api
@pytest.mark.parametrize(
    ("setting", "status", "detail"),
    [
        (None, 400, REFUSED),
        ("error", 400, REFUSED),
        ("drop", 200, None),
        ("pass-through", 200, None),
        ("ignore", 400, "Unexpected EXTRA_PARAMETERS option ignore, expected options are ['error', 'drop', "
         "'pass-through']"),
    ],
)  # fmt: skip
def test_extra_parameters(emu: Emulator, host: str, setting: str | None, status: int, detail: str | None) -> None:
    headers = {} if setting is None else {"extra-parameters": setting}
    answer = chat(emu, host, headers, top_k=5)
    assert answer.status_code == status
    if detail is not None:
        assert answer.json() == {"detail": detail}


@models_api
def test_extra_parameters_at_the_backend(host: str) -> None:
    with Emulator(quirks=[f"{host}-extra-forbidden"]) as emu:
        answer = chat(emu, host, {"extra-parameters": "pass-through"}, top_k=5)
        assert answer.status_code == 422
        assert answer.json() == {"detail": [{
            "type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 5,
        }]}  # fmt: skip
        assert chat(emu, host, {"extra-parameters": "drop"}, top_k=5).status_code == 200
    with Emulator(quirks=[f"{host}-lenient-extra"]) as emu:
        assert chat(emu, host, top_k=5).status_code == 200
        assert chat(emu, host, {"extra-parameters": "error"}, top_k=5).status_code == 400


def test_who_takes_stream_options() -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    with Emulator(quirks=["azure-models-stream-options-refused", "no-azure-serverless-stream-options-refused"]) as emu:
        assert chat(emu, "azure-models", **asked).status_code == 400
        assert chat(emu, "azure-serverless", **asked).status_code == 200
    with Emulator() as emu:
        assert chat(emu, "azure-models", **asked).status_code == 200
        assert "['stream_options']" in chat(emu, "azure-serverless", **asked).json()["detail"]
        assert chat(emu, "azure-serverless", {"extra-parameters": "drop"}, **asked).status_code == 200
        assert chat(emu, "azure", **asked).status_code == 200


@pytest.mark.parametrize("host", ["azure-models", "azure-serverless"])
@pytest.mark.parametrize("version", [None, "2023-01-01", "2026-01-01"])
def test_api_version(emu: Emulator, host: str, version: str | None) -> None:
    query = {} if version is None else {"api-version": version}
    answer = send(emu, host, params=query, json={"model": MAVERICK, "messages": HELLO})
    assert (answer.status_code, answer.json()) == (404, {"error": {"code": "404", "message": "Resource not found"}})


@pytest.mark.parametrize(("version", "status"), [("v1", 200), ("preview", 200), ("2024-10-21", 400)])
def test_api_version_of_v1(emu: Emulator, version: str, status: int) -> None:
    answer = send(emu, "azure", params={"api-version": version}, json={"model": MAVERICK, "messages": HELLO})
    assert answer.status_code == status


@every_host
def test_routes(emu: Emulator, host: str) -> None:
    for path, method in (("/chat/completionz", "POST"), (None, "GET"), ("/models/info", "GET")):
        answer = send(emu, host, path, method)
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Resource not found")


@every_host
def test_ten_custom_headers_and_no_more(emu: Emulator, host: str) -> None:
    ten = {f"x-own-{n}": "1" for n in range(10)}
    usual = {
        "x-stainless-lang": "python",
        "x-ms-client-request-id": "a",
        "traceparent": "b",
        "extra-parameters": "drop",
    }
    assert chat(emu, host, {**ten, **usual}).status_code == 200
    assert chat(emu, host, {**ten, "x-own-10": "1"}).status_code == 431


def test_unknown_deployments(emu: Emulator) -> None:
    for host in ("azure", "azure-models"):
        answer = chat(emu, host, model=MAVERICK.lower())
        text = f"Unknown model: {MAVERICK.lower()}"
        assert answer.status_code == 400
        assert answer.json() == {"error": {"code": "unknown_model", "message": text, "details": text}}
        assert chat(emu, host, model=...).json()["error"]["code"] == "no_model_name"
    assert chat(emu, "azure-serverless", model=...).json()["model"] == SCOUT
    with Emulator(quirks=["azure-deployment-not-found"]) as strict:
        answer = chat(strict, "azure", model="nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DeploymentNotFound")


def test_deployments_have_names_of_their_own() -> None:
    with Emulator(models={"azure": ["my-maverick", "eu-scout"]}) as emu:
        assert chat(emu, "azure", model="my-maverick").json()["model"] == MAVERICK
        answer = chat(emu, "azure", model="eu-scout")
        assert answer.json()["model"] == SCOUT
        assert answer.headers["x-ms-deployment-name"] == "eu-scout"
        listed = send(emu, "azure", "/openai/v1/models", "GET").json()["data"]
        assert [model["id"] for model in listed] == [MAVERICK, SCOUT]


@every_host
def test_images(host: str, image_url: str) -> None:
    def parts(*urls: str) -> list:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}} for url in urls]}]

    with Emulator(models={host: [MAVERICK]}) as emu:
        assert chat(emu, host, messages=parts("https://example.com/a.png")).status_code == 200
        answer = chat(emu, host, messages=parts(image_url, image_url))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "Bad Request")
        inner = {"object": "error", "message": "At most 1 image(s) may be provided in one request.",
                 "type": "BadRequestError", "param": None, "code": 400}  # fmt: skip
        assert json.loads(answer.json()["error"]["message"]) == inner
        broken = chat(emu, host, messages=parts("data:image/png;base64,AAAA"))
        assert "cannot identify image file" in broken.json()["error"]["message"]
    with Emulator(models={host: [MAVERICK]}, quirks=[f"{host}-flat-backend-errors"]) as emu:
        assert chat(emu, host, messages=parts(image_url, image_url)).json() == inner
    with Emulator(models={host: [MAVERICK]}, quirks=[f"{host}-many-images"]) as emu:
        assert chat(emu, host, messages=parts(image_url, image_url)).status_code == 200


@every_host
def test_too_long(host: str) -> None:
    with Emulator(context={host: 100}) as emu:
        answer = chat(emu, host, messages=[{"role": "user", "content": "word " * 200}])
        assert answer.status_code == 400
        assert "maximum context length is 100 tokens" in answer.text
        assert chat(emu, host, max_tokens=200).status_code == 400
    with Emulator(context={host: 100}, quirks=[f"{host}-long-prompt-429"]) as emu:
        answer = chat(emu, host, messages=[{"role": "user", "content": "word " * 200}])
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "RateLimitReached")


# ── what Llama 4 does not have here ──


@every_host
def test_tools_and_formats_are_ignored_unless_told_otherwise(host: str, weather_tool) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    asked = {"tools": [weather_tool], "tool_choice": "required"}
    with Emulator() as emu:
        message = chat(emu, host, **asked, response_format=schema).json()["choices"][0]["message"]
        assert message["content"] == "You said: Hello"
        assert not message.get("tool_calls")
    with Emulator(quirks=[f"{host}-tools", f"{host}-formats"]) as emu:
        assert chat(emu, host, **asked).json()["choices"][0]["finish_reason"] == "tool_calls"
        assert chat(emu, host, response_format=schema).json()["choices"][0]["message"]["content"] == "{}"
    with Emulator(quirks=[f"{host}-tools-refused"]) as emu:
        answer = chat(emu, host, tools=[weather_tool])
        assert answer.status_code == 400
        assert "requires --enable-auto-tool-choice" in answer.text
        assert chat(emu, host, **asked).status_code == 200, "the rule is one of vLLM, and of `auto` only"


# ── answers ──


def test_headers(emu: Emulator) -> None:
    v1, unified, serverless = (chat(emu, host).headers for host in PATHS)
    for name in ("apim-request-id", "x-request-id", "x-ms-region", "strict-transport-security"):
        assert all(name in headers for headers in (v1, unified, serverless))
    for what in ("requests", "tokens"):
        for kind in ("limit", "remaining", "reset", "renewalperiod"):
            assert f"x-ratelimit-{kind}-{what}" in v1
    assert v1["x-ratelimit-renewalperiod-tokens"] == "60"
    assert (v1["x-ratelimit-limit-requests"], v1["x-ratelimit-limit-tokens"]) == ("1000", "400000")
    assert (v1["x-ms-served-model"], v1["x-ratelimit-abusepenalty-active"]) == (MAVERICK, "False")
    assert not [name for name in (*unified, *serverless) if name.startswith("x-ratelimit")]
    assert {"prompt_token_len", "sampling_token_len", "azureml-model-group"} <= set(serverless)
    assert chat(emu, "azure", {"x-ms-client-request-id": "mine"}).headers["x-ms-client-request-id"] == "mine"


def test_stream_layouts(emu: Emulator) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    emu.replies(*[Reply("one two", usage=(5, 2))] * 3)
    v1, unified = events(chat(emu, "azure", **asked)), events(chat(emu, "azure-models", **asked))
    answer = chat(emu, "azure-serverless", stream=True)
    serverless = events(answer)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    # Azure OpenAI's: the prompt's filter first, a filter on each choice, usage in a chunk of its own.
    assert {key: v1[0][key] for key in ("choices", "created", "id", "model", "object")} == {
        "choices": [], "created": 0, "id": "", "model": "", "object": "",
    }  # fmt: skip
    assert "jailbreak" in v1[0]["prompt_filter_results"][0]["content_filter_results"]
    assert all("content_filter_results" in chunk["choices"][0] for chunk in v1[1:-1])
    assert (v1[-1]["choices"], v1[-1]["usage"]["total_tokens"]) == ([], 7)
    # /models: the role with the first words, no finish_reason until there is one, usage in a chunk of its own.
    assert unified[0]["choices"][0]["delta"] == {"role": "assistant", "content": "one"}
    assert ["finish_reason" in chunk["choices"][0] for chunk in unified[:-1]] == [False, False, True]
    assert (unified[-1]["choices"], unified[-1]["usage"]["total_tokens"]) == ([], 7)
    # Serverless: the role alone, null for a finish_reason, usage beside the last choice.
    assert serverless[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert serverless[1]["choices"][0]["finish_reason"] is None
    assert serverless[-1]["choices"][0] | {"logprobs": 0} == {
        "index": 0, "delta": {"content": ""}, "finish_reason": "stop", "logprobs": 0,
    }  # fmt: skip
    assert serverless[-1]["usage"]["total_tokens"] == 7


def test_stream_layouts_the_other_way_round() -> None:
    quirks = ["azure-usage-on-finish", "no-azure-stream-filters", "azure-models-usage-on-finish",
              "azure-models-stream-filters", "no-azure-serverless-usage-on-finish"]  # fmt: skip
    with Emulator([Reply("one two", usage=(5, 2))] * 3, quirks=quirks) as emu:
        v1, unified, serverless = (events(chat(emu, host, stream=True)) for host in PATHS)
    assert v1[0]["choices"][0]["delta"]["role"] == "assistant"
    assert v1[-1]["usage"]["total_tokens"] == 7
    assert unified[0]["choices"] == []
    assert unified[-1]["usage"]["total_tokens"] == 7
    assert serverless[0]["choices"][0]["delta"] == {"role": "assistant", "content": "one"}
    assert "usage" not in serverless[-1]


@models_api
def test_a_streamed_call_comes_whole(host: str, weather_tool) -> None:
    reply = Reply("Let me see.", tool_calls=[("get_weather", {"city": "Oslo"})])
    with Emulator([reply], quirks=[f"{host}-tools"]) as emu:
        found = events(chat(emu, host, stream=True, tools=[weather_tool]))
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    calls = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert len(calls) == 1
    assert calls[0][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me see."
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


@every_host
def test_blocked(host: str) -> None:
    replies = [Reply(finish_reason="content_filter"), Reply("Some", finish_reason="content_filter")]
    with Emulator(replies, quirks=[f"{host}-filters"]) as emu:
        nothing, something = (chat(emu, host).json()["choices"][0] for _ in range(2))
        assert "message" not in nothing
        assert something["message"]["content"] == "Some"
        assert nothing["content_filter_results"]["hate"] == {"filtered": True, "severity": "high"}
        emu.fault(status=400, code="content_filter")
        error = chat(emu, host).json()["error"]
        assert (error["code"], error["param"], error["status"]) == ("content_filter", "prompt", 400)
        assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    with Emulator(replies, quirks=[f"{host}-filter-flat", f"no-{host}-blocked-without-message"]) as emu:
        assert chat(emu, host).json()["choices"][0]["message"]["content"] == ""
        emu.fault(status=400, code="content_filter")
        flat = chat(emu, host).json()
        assert (flat["status"], flat["code"], flat["param"]) == (400, "content_filter", "messages")


@every_host
def test_filters_are_shown_or_not(host: str) -> None:
    for quirk, shown in ((f"{host}-filters", True), (f"no-{host}-filters", False)):
        with Emulator(quirks=[quirk]) as emu:
            body = chat(emu, host).json()
        assert ("content_filter_results" in body["choices"][0]) == shown
        assert bool(body.get("prompt_filter_results")) == shown


@every_host
def test_rate_limit(emu: Emulator, host: str) -> None:
    emu.fault(status=429)
    answer = chat(emu, host)
    text = f"Your requests to {MAVERICK} for {MAVERICK} in East US 2 have exceeded rate limit."
    assert answer.json() == {"error": {"code": "RateLimitReached", "message": text, "details": text}}
    assert answer.headers["retry-after"] == "1"
    assert answer.headers.get("retry-after-ms") == (None if host == "azure-serverless" else "0")


@every_host
@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "PermissionDenied"), (404, "DeploymentNotFound"), (408, "Timeout"), (500, "InternalServerError"),
     (502, "502"), (503, "ServiceUnavailable")],
)  # fmt: skip
def test_other_faults(emu: Emulator, host: str, status: int, code: str) -> None:
    emu.fault(status=status)
    answer = chat(emu, host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    emu.fault(status=status, code="Mine", message="In my words.")
    assert chat(emu, host).json() == {"error": {"code": "Mine", "message": "In my words."}}


@every_host
def test_a_fault_with_401_is_what_a_wrong_key_gives(emu: Emulator, host: str) -> None:
    refused = post(emu, host, {"api-key": "wrong"})
    emu.fault(status=401)
    answer = chat(emu, host)
    assert (answer.status_code, answer.json()) == (401, refused.json())


# ── keys and tokens ──


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def post(emu: Emulator, host: str, headers: dict[str, str]) -> httpx.Response:
    query = {} if host == "azure" else VERSION
    url = emu.base_url(host) + PATHS[host]
    return httpx.post(url, json={"model": MAVERICK, "messages": HELLO}, params=query, headers=headers, timeout=5)


@every_host
def test_keys(emu: Emulator, host: str) -> None:
    key = emu.key(host) or ""
    assert post(emu, host, {"api-key": key}).status_code == 200
    assert post(emu, host, bearer(key)).status_code == 200
    assert post(emu, host, {"api-key": "wrong", **bearer(key)}).status_code == 401
    refused = [post(emu, host, headers) for headers in ({}, {"api-key": "wrong"}, bearer("wrong"))]
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    if host == "azure-serverless":
        assert {answer.headers["x-ms-error-reason"] for answer in refused} == {"Invalid JWT."}
        return
    assert [answer.json().get("error", {}).get("code") for answer in refused] == ["401", "401", None]
    assert refused[2].json()["statusCode"] == 401


AUDIENCES = {
    "azure": ["https://ai.azure.com", "https://cognitiveservices.azure.com"],
    "azure-models": ["https://cognitiveservices.azure.com"],
    "azure-serverless": ["https://ml.azure.com"],
}


def token_for(emu: Emulator, resource: str) -> str:
    """By scope, as a plain form."""
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "scope": f"{resource}/.default"}  # fmt: skip
    answer = httpx.post(f"{emu.base_url('entra')}/{TENANT}/oauth2/v2.0/token", data=form)
    assert answer.json()["token_type"] == "Bearer"
    return answer.json()["access_token"]


@every_host
def test_audiences(emu: Emulator, host: str) -> None:
    known = sorted({audience for audiences in AUDIENCES.values() for audience in audiences})
    for resource in known:
        answer = post(emu, host, bearer(token_for(emu, resource)))
        assert answer.status_code == (200 if resource in AUDIENCES[host] else 401), resource
    if host != "azure-serverless":
        text = f"audience is incorrect ({AUDIENCES[host][0]}), or have expired."
        answer = post(emu, host, bearer(token_for(emu, "https://management.azure.com")))
        assert answer.json() == {
            "statusCode": 401, "message": f"Unauthorized. Access token is missing, invalid, {text}",
        }  # fmt: skip


@every_host
def test_tokens_end(host: str) -> None:
    with Emulator(token_life=0.2) as emu:
        token = token_for(emu, AUDIENCES[host][0])
        expires = emu.tokens.find(token).expires
        assert post(emu, host, bearer(token)).status_code == 200
        emu.tokens.life = 600
        other = token_for(emu, AUDIENCES[host][0])
        time.sleep(max(0.0, expires - time.time()))
        assert post(emu, host, bearer(token)).status_code == 401
        assert post(emu, host, bearer(other)).status_code == 200
        emu.revoke_tokens()
        assert post(emu, host, bearer(other)).status_code == 401
        assert post(emu, host, bearer(token_for(emu, AUDIENCES[host][0]))).status_code == 200
    assert sum(request.host == "entra" for request in emu.requests) == 3


def test_tokens_by_resource(emu: Emulator) -> None:
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "resource": "https://management.core.windows.net/"}  # fmt: skip
    found = httpx.post(f"{emu.base_url('entra')}/{TENANT}/oauth2/token", data=form).json()
    assert (found["expires_in"], found["resource"]) == ("3599", "https://management.core.windows.net/")
    assert emu.tokens.valid(found["access_token"], "https://management.core.windows.net")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 400, "unauthorized_client"),
        ({"grant_type": "client_credentials", "client_id": CLIENT_ID}, 401, "invalid_client"),
    ],
)
def test_entra_refuses_odd_forms(emu: Emulator, form: dict[str, str], status: int, error: str) -> None:
    answer = httpx.post(f"{emu.base_url('entra')}/{TENANT}/oauth2/v2.0/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"].startswith(f"AADSTS{answer.json()['error_codes'][0]}: ")


@pytest.mark.parametrize(
    ("status", "error"), [(429, "temporarily_unavailable"), (503, "temporarily_unavailable"), (400, "invalid_request")]
)
def test_entra_faults(emu: Emulator, status: int, error: str) -> None:
    emu.fault(status=status, host="entra", path="token")
    answer = httpx.post(f"{emu.base_url('entra')}/{TENANT}/oauth2/v2.0/token", data={})
    assert (answer.status_code, answer.json()["error"], answer.json()["error_codes"]) == (status, error, [90033])


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"/{TENANT}/oauth2/token"), ("GET", "/nothing"), ("POST", "/msi/token"), ("POST", "/")]
)
def test_entra_has_no_other_routes(emu: Emulator, method: str, path: str) -> None:
    assert httpx.request(method, emu.base_url("entra") + path).status_code == 404


def test_another_service_principal() -> None:
    known = {"client_id": "mine", "client_secret": "s"}
    with Emulator(settings={"entra": known}) as emu:
        form = {"grant_type": "client_credentials", "scope": "https://ai.azure.com/.default", **known}
        assert httpx.post(f"{emu.base_url('entra')}/t/oauth2/v2.0/token", data=form).status_code == 200
    with pytest.raises(ValueError, match="entra answers no chat: it is no provider"):
        Emulator().start().providers("entra")


# ── lists of deployments ──


def test_a_projects_deployments(emu: Emulator) -> None:
    url = f"{emu.base_url('azure')}/api/projects/mine/deployments"
    token = bearer(token_for(emu, "https://ai.azure.com"))
    found = httpx.get(url, params={"api-version": "v1"}, headers=token).json()["value"]
    assert [(one["name"], one["modelPublisher"]) for one in found] == [
        (MAVERICK, "Meta"), (SCOUT, "Meta"), ("gpt-4o-mini", "OpenAI"),
    ]  # fmt: skip
    assert {one["type"] for one in found} == {"ModelDeployment"}
    of_meta = {"api-version": "v1", "modelPublisher": "Meta"}
    assert len(httpx.get(url, params=of_meta, headers=token).json()["value"]) == 2
    one = httpx.get(f"{url}/{SCOUT}", params={"api-version": "v1"}, headers=token)
    assert one.json()["modelName"] == SCOUT
    assert httpx.get(f"{url}/nothing", params={"api-version": "v1"}, headers=token).status_code == 404
    assert httpx.get(url, headers=token).status_code == 400
    for refused in ({"api-key": emu.key("azure") or ""}, bearer(token_for(emu, "https://cognitiveservices.azure.com"))):
        assert httpx.get(url, params={"api-version": "v1"}, headers=refused).status_code == 401


GROUP = "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.CognitiveServices/accounts"
ARM_VERSION = {"api-version": "2024-10-01"}


def arm(emu: Emulator, path: str, token: str | None, params: dict[str, str] | None = None) -> httpx.Response:
    query = ARM_VERSION if params is None else params
    return httpx.get(emu.base_url("azure-arm") + path, params=query, headers=bearer(token), timeout=5)


def test_deployments_of_an_account(emu: Emulator) -> None:
    token = token_for(emu, "https://management.azure.com")
    found = arm(emu, f"{GROUP}/acme/deployments", token).json()["value"]
    assert [one["name"] for one in found] == [MAVERICK, SCOUT, "gpt-4o-mini"]
    assert found[0]["id"] == f"{GROUP}/acme/deployments/{MAVERICK}"
    assert found[0]["properties"]["model"] == {"format": "Meta", "name": MAVERICK, "version": "1"}
    assert found[0]["properties"]["provisioningState"] == "Succeeded"
    assert arm(emu, f"{GROUP}/acme/deployments/{SCOUT}", token).json()["name"] == SCOUT
    assert arm(emu, f"{GROUP}/acme/deployments/nothing", token).status_code == 404
    assert arm(emu, f"{GROUP}/acme", token).json()["kind"] == "AIServices"
    everywhere = arm(emu, "/subscriptions/s1/providers/Microsoft.CognitiveServices/accounts", token).json()["value"]
    assert [one["name"] for one in everywhere] == ["emulated-foundry"]
    assert not emu.requests[-1].json


def test_pages_of_deployments() -> None:
    settings = {"azure-arm": {"deployments": ["my-maverick", "my-scout"]}}
    with Emulator(quirks=["azure-arm-pages"], settings=settings) as emu:
        token = token_for(emu, "https://management.core.windows.net")
        names, url = [], f"{emu.base_url('azure-arm')}{GROUP}/acme/deployments?api-version=2024-10-01"
        while url:
            page = httpx.get(url, headers=bearer(token)).json()
            names += [one["properties"]["model"]["name"] for one in page["value"]]
            url = page.get("nextLink")
    assert names == [MAVERICK, SCOUT]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda emu: None, "AuthenticationFailed"),
        (lambda emu: "nonsense", "InvalidAuthenticationToken"),
        (lambda emu: token_for(emu, "https://ai.azure.com"), "InvalidAuthenticationTokenAudience"),
        (lambda emu: emu.tokens.issue("https://management.azure.com", life=0).text, "ExpiredAuthenticationToken"),
    ],
)
def test_arm_wants_a_token_of_its_own(emu: Emulator, make, code: str) -> None:
    answer = arm(emu, f"{GROUP}/acme/deployments", make(emu))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_arm_refuses(emu: Emulator) -> None:
    token = token_for(emu, "https://management.azure.com")
    assert arm(emu, f"{GROUP}/acme/deployments", token, {}).json()["error"]["code"] == "MissingApiVersionParameter"
    assert arm(emu, "/subscriptions/s1/nothing", token).status_code == 404
    emu.fault(status=403, host="azure-arm", path="deployments")
    answer = arm(emu, f"{GROUP}/acme/deployments", token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")


# ── whatever is sent ──

ODD = [0, -1, 1.5, "x", "", [], {}, [1], [None], [[]], {"a": 1}, True, [{}], None]
FIELDS = ["messages", "tools", "tool_choice", "temperature", "top_p", "stop", "max_tokens", "stream", "response_format",
          "model", "stream_options", "seed"]  # fmt: skip


@every_host
def test_odd_bodies_never_trip_the_emulator(host: str) -> None:
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
    with Emulator(quirks=[f"{host}-tools", f"{host}-formats"]) as emu:
        url, query = emu.base_url(host) + PATHS[host], {} if host == "azure" else VERSION
        with httpx.Client(headers={"api-key": emu.key(host) or ""}, params=query) as client:
            for change in changes:
                answer = client.post(url, json={"model": MAVERICK, "messages": HELLO, **change})
                assert "emulator: " not in answer.text, (change, answer.text)
            for body in (b"", b"[]", b"{", b"\xff", b"null"):
                answer = client.post(url, content=body)
                assert answer.status_code in (400, 422), body
                assert "emulator: " not in answer.text


def test_every_quirk_is_documented() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "emulator.md").read_text()
    missing = []
    for name in Emulator.quirk_names():
        host = next(
            (host for host in (*sorted(PATHS, reverse=True), "databricks") if name.startswith(f"{host}-")), None
        )
        if host is not None and f"`{name}`" not in page and f"`{name.removeprefix(f'{host}-')}`" not in page:
            missing.append(name)
    assert missing == []


def test_pydantics_words(emu: Emulator) -> None:
    found = chat(emu, "azure-models", tool_choice="any", temperature=2, stop=[]).json()["detail"]
    assert [problem["msg"] for problem in found] == [
        "Input should be less than or equal to 1", "List should have at least 1 item after validation, not 0",
        "Input should be 'auto', 'none' or 'required'",
    ]  # fmt: skip
    assert [problem["input"] for problem in found] == [2, [], "any"]
    low = chat(emu, "azure-models", max_tokens=-1, top_p=-1).json()["detail"]
    assert [problem["ctx"] for problem in low] == [{"ge": 0.0}, {"ge": 0}]
    assert (found[0]["ctx"], found[2]["ctx"]) == ({"le": 1.0}, {"expected": "'auto', 'none' or 'required'"})
