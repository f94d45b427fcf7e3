"""Rules of the emulated Databricks workspace: routes, tokens, what is refused, the shape of streams, and its quirks."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest

from llamaroute.emulator import Emulator, Reply
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, DATABRICKS, TENANT

HELLO = [{"role": "user", "content": "Hello"}]
MAVERICK = "databricks-llama-4-maverick"
INVOCATIONS = f"/serving-endpoints/{MAVERICK}/invocations"
OPENAI = "/serving-endpoints/chat/completions"
GATEWAY = "/ai-gateway/mlflow/v1/chat/completions"
ROUTES = {INVOCATIONS: ..., OPENAI: MAVERICK, GATEWAY: "system.ai.llama-4-maverick"}
every_route = pytest.mark.parametrize("route", ROUTES)


def chat(emu: Emulator, route: str = INVOCATIONS, headers: dict[str, str] | None = None, **change) -> httpx.Response:
    body = {"model": ROUTES[route], "messages": HELLO, **change}
    kept = {key: value for key, value in body.items() if value is not ...}
    sent = {"authorization": f"Bearer {emu.key('databricks')}", **(headers or {})}
    return httpx.post(emu.base_url("databricks") + route, json=kept, headers=sent, timeout=5)


def events(answer: httpx.Response) -> list:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n")]
    assert lines[-2:] == ["[DONE]", ""]
    return [json.loads(line) for line in lines[:-2]]


# ── routes and models ──


@every_route
def test_answers(emu: Emulator, route: str) -> None:
    emu.reply("Hi.", usage=(14, 2))
    answer = chat(emu, route)
    body = answer.json()
    assert body.pop("id").startswith("chatcmpl_")
    assert abs(body.pop("created") - time.time()) < 60
    assert body == {
        "object": "chat.completion", "model": "meta-llama-4-maverick-040225",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop", "logprobs": None,
        }],
        "usage": {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16},
    }  # fmt: skip
    assert answer.headers["server"] == "databricks"
    assert answer.headers["x-databricks-org-id"] == "1234567890123456"
    assert answer.headers["x-request-id"] in answer.headers["server-timing"]
    assert not [name for name in answer.headers if "ratelimit" in name]


def test_which_name_means_what(emu: Emulator) -> None:
    assert chat(emu, GATEWAY, model=MAVERICK).status_code == 200
    for route, model in (
        (OPENAI, "system.ai.llama-4-maverick"),
        (OPENAI, "llama-4-maverick"),
        (GATEWAY, "system.ai.x"),
    ):
        answer = chat(emu, route, model=model)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert chat(emu, OPENAI, model=...).json()["error_code"] == "BAD_REQUEST"
    assert chat(emu, INVOCATIONS, model="anything").status_code == 200
    missing = httpx.post(
        f"{emu.base_url('databricks')}/serving-endpoints/nothing/invocations", json={"messages": HELLO},
        headers={"authorization": f"Bearer {emu.key('databricks')}"},
    )  # fmt: skip
    assert missing.json() == {
        "error_code": "ENDPOINT_NOT_FOUND",
        "message": "The given endpoint does not exist, please retry after checking the specified model and version "
        "deployment exists.",
    }


def test_other_endpoints() -> None:
    with Emulator(models={"databricks": [MAVERICK, "my-throughput"]}) as emu:
        assert chat(emu, OPENAI, model="my-throughput").json()["model"] == "my-throughput"
        assert chat(emu, OPENAI, model="databricks-gte-large-en").status_code == 400
        headers = {"authorization": f"Bearer {emu.key('databricks')}"}
        url = f"{emu.base_url('databricks')}/api/2.0/serving-endpoints"
        listed = httpx.get(url, headers=headers).json()["endpoints"]
        assert [one["name"] for one in listed] == [MAVERICK, "my-throughput", "databricks-gte-large-en"]
        one = httpx.get(f"{url}/{MAVERICK}", headers=headers).json()
        assert (one["task"], one["capabilities"]) == ("llm/v1/chat", {"function_calling": True})
        assert httpx.get(f"{url}/nothing", headers=headers).json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
        assert httpx.get(url).status_code == 401
        assert httpx.get(emu.base_url("databricks") + INVOCATIONS, headers=headers).status_code == 404


def test_at_the_root_and_under_the_prefix(emu: Emulator) -> None:
    headers = {"authorization": f"Bearer {emu.key('databricks')}"}
    assert httpx.post(emu.url + INVOCATIONS, json={"messages": HELLO}, headers=headers).status_code == 200
    found = emu.requests[0]
    assert (found.host, found.path) == ("databricks", INVOCATIONS)
    for base in (emu.url, emu.base_url("databricks")):
        assert httpx.get(f"{base}/.well-known/databricks-config").json()["oidc_endpoint"] == f"{base}/oidc"
        oauth = httpx.get(f"{base}/oidc/.well-known/oauth-authorization-server").json()
        assert oauth["token_endpoint"] == f"{base}/oidc/v1/token"


# ── who asks ──


def m2m(emu: Emulator, *, life_of: str = CLIENT_SECRET, scope: str = "all-apis", **form: str) -> httpx.Response:
    fields = {"grant_type": "client_credentials", "scope": scope, **form}
    basic = base64.b64encode(f"{CLIENT_ID}:{life_of}".encode()).decode()
    url = emu.base_url("databricks") + "/oidc/v1/token"
    return httpx.post(url, data=fields, headers={"authorization": f"Basic {basic}"})


def test_wrong_token(emu: Emulator) -> None:
    answer = chat(emu, headers={"authorization": "Bearer dapi-wrong"})
    assert answer.status_code == 403
    text = f"Invalid access token. [ReqId: {answer.headers['x-request-id']}]"
    assert answer.json() == {"error_code": 403, "message": text}
    assert answer.headers["x-databricks-reason-phrase"] == text
    none = httpx.post(emu.base_url("databricks") + INVOCATIONS, json={"messages": HELLO})
    assert (none.status_code, none.json()["error_code"]) == (401, 401)


def test_oauth_tokens_end() -> None:
    with Emulator(token_life=0.2) as emu:
        found = m2m(emu).json()
        assert (found["token_type"], found["scope"]) == ("Bearer", "all-apis")
        first = {"authorization": f"Bearer {found['access_token']}"}
        assert chat(emu, headers=first).status_code == 200
        emu.tokens.life = 600
        second = m2m(emu).json()
        assert second["expires_in"] == 600
        time.sleep(max(0.0, emu.tokens.find(found["access_token"]).expires - time.time()))
        assert chat(emu, headers=first).json()["error_code"] == 403
        other = {"authorization": f"Bearer {second['access_token']}"}
        assert chat(emu, headers=other).status_code == 200
        emu.revoke_tokens()
        assert chat(emu, headers=other).status_code == 403
    assert sum(request.path == "/oidc/v1/token" for request in emu.requests) == 2


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"life_of": "wrong"}, 401, "invalid_client"),
        ({"scope": "sql"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_oauth_refused(emu: Emulator, change: dict[str, str], status: int, error: str) -> None:
    answer = m2m(emu, **change)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def entra(emu: Emulator, resource: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    url = f"{emu.base_url('entra')}/{TENANT}/oauth2"
    if resource.startswith("http"):
        return httpx.post(f"{url}/token", data={**form, "resource": resource}).json()["access_token"]
    return httpx.post(f"{url}/v2.0/token", data={**form, "scope": f"{resource}/.default"}).json()["access_token"]


def test_entra_tokens(emu: Emulator) -> None:
    good, management = entra(emu, DATABRICKS), entra(emu, "https://management.core.windows.net/")
    principal = "x-databricks-azure-sp-management-token"
    assert chat(emu, headers={"authorization": f"Bearer {good}"}).status_code == 200
    both = {"authorization": f"Bearer {good}", principal: management}
    assert chat(emu, headers=both).status_code == 200
    assert chat(emu, headers={**both, principal: good}).status_code == 403
    wrong = chat(emu, headers={"authorization": f"Bearer {management}"})
    assert wrong.status_code == 400
    assert wrong.headers["content-type"] == "text/html;charset=utf-8"
    assert f"Expected aud claim to be: {DATABRICKS}, but was: https://management.core.windows.net." in wrong.text


# ── what is refused ──


@every_route
@pytest.mark.parametrize(
    "name", ["seed", "presence_penalty", "frequency_penalty", "stream_options", "max_completion_tokens"]
)
def test_fields_that_are_not_known(emu: Emulator, route: str, name: str) -> None:
    value = {"include_usage": True} if name == "stream_options" else 1
    answer = chat(emu, route, **{name: value})
    assert answer.status_code == 400
    assert answer.json() == {"error_code": "BAD_REQUEST", "message": f'Bad request: json: unknown field "{name}"\n'}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 2.1}, "temperature must be between 0 and 2"),
        ({"top_p": 0}, "top_p must be in (0, 1]"),
        ({"top_k": 0}, "top_k must be greater than 0"),
        ({"max_tokens": 0}, "max_tokens must be greater than 0"),
        ({"n": 6}, "n must be between 1 and 5"),
        ({"max_tokens": "many"}, "cannot unmarshal string into field max_tokens"),
        ({"stream": "yes"}, "cannot unmarshal string into field stream"),
        ({"messages": []}, "messages must not be empty"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "unknown role 'developer'"),
        ({"messages": [{"role": "user", "content": None}]}, "content must not be empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image_url": "x"}]}]},
            "unsupported content part",
        ),
        ({"tool_choice": "any"}, "unsupported tool_choice"),
        ({"tools": [{"type": "function"}]}, "a function with a name"),
    ],
)
def test_ranges_and_types(emu: Emulator, change, words: str) -> None:
    answer = chat(emu, **change)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 2}, {"temperature": 0}, {"top_p": 1}, {"top_k": 1}, {"n": 1}, {"max_tokens": 8192},
        {"stop": "x"}, {"stop": ["x", "y"]},
        {"extra_params": {"a": "b"}}, {"reasoning_effort": "low"}, {"temperature": None},
        {"messages": [{"role": "user", "name": "ann", "content": [{"type": "text", "text": "Hi"}]}]},
    ],
)  # fmt: skip
def test_what_is_taken(emu: Emulator, change) -> None:
    assert chat(emu, **change).status_code == 200


def test_tools(emu: Emulator, weather_tool) -> None:
    assert chat(emu, tools=[weather_tool] * 32).status_code == 200
    assert "at most 32 tools" in chat(emu, tools=[weather_tool] * 33).json()["message"]
    strict = {"type": "function", "function": {**weather_tool["function"], "strict": True}}
    assert chat(emu, tools=[strict]).json()["message"] == 'Bad request: json: unknown field "strict"\n'
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = chat(emu, tools=[weather_tool], tool_choice=choice).json()["choices"][0]
        assert answer["finish_reason"] == "tool_calls"
        assert answer["message"]["tool_calls"][0]["id"].startswith("call_")


def test_images(emu: Emulator, image_url: str) -> None:
    def ask(url: str) -> httpx.Response:
        return chat(emu, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])

    assert ask(image_url).json()["choices"][0]["message"]["content"].startswith("I see 1 image")
    assert "must be a data URL" in ask("https://example.com/a.png").json()["message"]
    assert "could not be decoded" in ask("data:image/png;base64,AAAA").json()["message"]


def test_four_megabytes(emu: Emulator) -> None:
    def ask(size: int) -> httpx.Response:
        return chat(emu, messages=[{"role": "user", "content": "x" * size}])

    assert ask(3_000_000).status_code == 400, "not too big, but too long"
    answer = ask(4 * 1024 * 1024)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "BAD_REQUEST")


def test_more_output_than_there_is_is_a_rate_limit(emu: Emulator) -> None:
    answer = chat(emu, max_tokens=8193)
    assert answer.status_code == 429
    assert answer.json() == {
        "error_code": "REQUEST_LIMIT_EXCEEDED",
        "message": "REQUEST_LIMIT_EXCEEDED: Exceeded workspace output tokens per minute rate limit for "
        "databricks-llama-4-maverick.",
    }
    assert "retry-after" not in answer.headers


def test_request_tags(emu: Emulator) -> None:
    name = "databricks-ai-gateway-request-tags"
    assert chat(emu, GATEWAY, {name: '{"team": "a"}'}).status_code == 200
    assert chat(emu, GATEWAY, {name: "team=a"}).status_code == 400


CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function",
                                                            "function": {"name": "f", "arguments": "{}"}}]}  # fmt: skip
RESULT = {"role": "tool", "tool_call_id": "c", "content": "1"}
SAID = {"role": "assistant", "content": "x"}
SYSTEM = {"role": "system", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([SYSTEM, *HELLO], 200),
        ([*HELLO, SAID, *HELLO], 200),
        ([*HELLO, CALL, RESULT, RESULT, SAID, *HELLO], 200),
        ([*HELLO, *HELLO], 400),
        ([SAID, *HELLO], 400),
        ([*HELLO, SAID, SAID], 400),
        ([*HELLO, SYSTEM], 400),
        ([*HELLO, SAID, RESULT], 400),
        ([*HELLO, RESULT], 400),
    ],
)
def test_alternating_roles(emu: Emulator, messages: list, status: int) -> None:
    assert chat(emu, messages=messages).status_code == 200, "a quirk that is off by default"
    with Emulator(quirks=["databricks-roles-alternate"]) as strict:
        answer = chat(strict, messages=messages)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["message"].startswith(
            "Bad request: rpc error: code = InvalidArgument desc = Chat message input"
        )


# ── streams ──


def test_usage_counts_up(emu: Emulator) -> None:
    emu.reply("one two", usage=(14, 2))
    found = events(chat(emu, stream=True))
    assert [chunk["choices"][0]["delta"] for chunk in found] == [
        {"role": "assistant", "content": ""}, {"content": "one"}, {"content": " two"}, {"content": ""},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None, None, None, "stop"]
    assert [chunk["usage"]["completion_tokens"] for chunk in found] == [0, 1, 2, 2]
    assert found[-1]["usage"] == {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
    assert {chunk["model"] for chunk in found} == {"meta-llama-4-maverick-040225"}
    assert all(chunk["choices"] for chunk in found), "no chunk holds usage alone"


def test_a_streamed_call(emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    deltas = [chunk["choices"][0]["delta"] for chunk in events(chat(emu, stream=True, tools=[weather_tool]))]
    assert (deltas[0]["role"], deltas[0]["content"]) == ("assistant", None)
    first, *rest = [delta["tool_calls"][0] for delta in deltas]
    assert (first["function"], first["type"]) == ({"name": "get_weather", "arguments": ""}, "function")
    assert "".join(part["function"]["arguments"] for part in rest) == '{"city": "Oslo"}'
    assert rest[-1]["function"] == {"arguments": ""}


def test_stream_quirks() -> None:
    reply = Reply("one two", usage=(14, 2))
    with Emulator([reply], quirks=["databricks-role-on-every-chunk"]) as emu:
        found = events(chat(emu, stream=True))
        assert {chunk["choices"][0]["delta"].get("role") for chunk in found} == {"assistant"}
    with Emulator([reply], quirks=["databricks-null-usage"]) as emu:
        found = events(chat(emu, stream=True))
        assert [chunk["usage"]["completion_tokens"] for chunk in found] == [None, None, None, 2]
        assert {chunk["usage"]["prompt_tokens"] for chunk in found[:-1]} == {found[0]["usage"]["prompt_tokens"]}
    with Emulator([reply], quirks=["no-databricks-cumulative-usage"]) as emu:
        found = events(chat(emu, stream=True))
        assert [chunk["usage"]["total_tokens"] for chunk in found if "usage" in chunk] == [16]
    with Emulator([reply, reply], quirks=["databricks-list-content"]) as emu:
        assert chat(emu).json()["choices"][0]["message"]["content"] == [{"type": "text", "text": "one two"}]
        found = events(chat(emu, stream=True))
        parts = [chunk["choices"][0]["delta"].get("content") for chunk in found]
        assert parts == [[{"type": "text", "text": "one"}], [{"type": "text", "text": " two"}], None]


def test_request_quirks() -> None:
    with Emulator(quirks=["databricks-stream-options"]) as emu:
        assert chat(emu, stream=True, stream_options={"include_usage": True}).status_code == 200
        assert chat(emu, seed=1).status_code == 400
    with Emulator(quirks=["databricks-unknown-fields"]) as emu:
        assert chat(emu, seed=1).status_code == 200
    with Emulator(quirks=["databricks-limit-object"]) as emu:
        emu.fault(status=429)
        found = chat(emu).json()["error"]
    assert (found["type"], found["code"], found["limit_type"]) == (
        "rate_limit_exceeded",
        429,
        "input_tokens_per_minute",
    )
    assert found["retry_after"] == 15


def test_too_long() -> None:
    with Emulator(context={"databricks": 50}) as emu:
        answer = chat(emu, messages=[{"role": "user", "content": "word " * 100}])
    assert answer.status_code == 400
    assert "maximum context length is 50 tokens" in answer.json()["message"]


# ── faults ──


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ({"status": 403}, 403, "Invalid access token. [ReqId: "),
        (
            {"status": 403, "code": "PERMISSION_DENIED"},
            "PERMISSION_DENIED",
            "does not have permission 'Query' on Endpoint",
        ),
        ({"status": 404}, "ENDPOINT_NOT_FOUND", "The given endpoint does not exist"),
        ({"status": 429}, "REQUEST_LIMIT_EXCEEDED", "Exceeded workspace input tokens per minute rate limit"),
        ({"status": 429, "code": "QPS"}, "REQUEST_LIMIT_EXCEEDED", "Exceeded workspace QPS rate limit"),
        ({"status": 400, "code": "INVALID_STATE", "message": "x"}, "INVALID_STATE", "x"),
        ({"status": 500}, "INTERNAL_ERROR", "Internal error"),
        ({"status": 503}, "TEMPORARILY_UNAVAILABLE", f"The service at {INVOCATIONS}"),
    ],
)
def test_faults(emu: Emulator, fault: dict, code: object, words: str) -> None:
    emu.fault(**fault)
    answer = chat(emu)
    assert answer.status_code == fault["status"]
    assert answer.json()["error_code"] == code
    assert words in answer.json()["message"]
    assert chat(emu).status_code == 200


def test_bare_text_and_an_error_in_the_stream(emu: Emulator) -> None:
    emu.fault(status=400, body="INVALID_PARAMETER_VALUE: no such thing")
    assert chat(emu).text == "INVALID_PARAMETER_VALUE: no such thing"
    emu.fault(error_after=1)
    answer = chat(emu, stream=True)
    last = [line for line in answer.text.split("\n\n") if line][-1]
    assert json.loads(last.removeprefix("data: "))["error_code"] == "INTERNAL_ERROR"


ODD = [0, -1, 1.5, "x", "", [], {}, [1], [None], [[]], {"a": 1}, True, [{}], None]
FIELDS = ["messages", "tools", "tool_choice", "temperature", "top_p", "top_k", "stop", "max_tokens", "stream", "n",
          "response_format", "model"]  # fmt: skip


@pytest.mark.parametrize("route", [INVOCATIONS, OPENAI])
def test_odd_bodies_never_trip_the_emulator(route: str) -> None:
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
    emu = Emulator(quirks=["databricks-roles-alternate"])
    with emu, httpx.Client(headers={"authorization": f"Bearer {emu.key('databricks')}"}) as client:
        url = emu.base_url("databricks") + route
        for change in changes:
            answer = client.post(url, json={"model": MAVERICK, "messages": HELLO, **change})
            assert "emulator: " not in answer.text, (change, answer.text)
        for body in (b"", b"[]", b"{", b"\xff", b"null"):
            assert client.post(url, content=body).json()["error_code"] == "BAD_REQUEST"
