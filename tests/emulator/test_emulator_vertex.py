"""Vertex AI's model service and dedicated endpoints: OpenAI's SDK and Hugging Face's as clients, and the service's
rules."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json

import httpx
import pytest

from llamaroute.emulator import Emulator, Fault, Reply

openai = importlib.import_module("openai")

SCOUT = "meta/llama-4-scout-17b-16e-instruct-maas"
MAVERICK = "meta/llama-4-maverick-17b-128e-instruct-maas"
DEPLOYED = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
HELLO = [{"role": "user", "content": "Hello"}]
PLACE = "projects/emulated-project/locations/us-east5"
NUMBERED = "projects/123456789012/locations/us-east5"
ENDPOINT = f"{PLACE}/endpoints/1234567890123456789"
NOT_FOUND = (
    f"Publisher Model `{NUMBERED}/publishers/meta/models/llama-5` was not found or your project does not have access "
    "to it. Please ensure you are using a valid model version. For more information, see: "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
)


def base(emu: Emulator, host: str = "vertex", version: str = "v1") -> str:
    """The base URL that OpenAI's clients get, on the service and on a dedicated endpoint."""
    return f"{emu.base_url(host)}/{version}/{PLACE}/endpoints/openapi" if host == "vertex" else (
        f"{emu.base_url(host)}/{version}/{ENDPOINT}"
    )  # fmt: skip


def client(emu: Emulator, host: str = "vertex", **options):
    key = options.pop("key", None) or emu.key(host)
    return openai.OpenAI(base_url=base(emu, host), api_key=key, max_retries=0, timeout=10, **options)


def create(emu: Emulator, **change):
    body = {"model": MAVERICK, "messages": HELLO, "max_tokens": 100, **change}
    with client(emu) as made:
        return made.chat.completions.create(**{name: value for name, value in body.items() if value is not ...})


def post(emu: Emulator, body=None, *, path: str = f"/v1/{PLACE}/endpoints/openapi/chat/completions", host="vertex",
         key: str | None = None, **headers: str) -> httpx.Response:  # fmt: skip
    sent = {"authorization": f"Bearer {key or emu.key(host)}", **headers}
    full = {"model": MAVERICK, "messages": HELLO, "max_tokens": 100} if body is None else body
    return httpx.post(emu.base_url(host) + path, json=full, headers=sent, timeout=10)


def chunks(answer: httpx.Response) -> list[dict]:
    assert answer.headers["content-type"] == "text/event-stream"
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def stream(emu: Emulator, **change) -> list[dict]:
    body = {"model": MAVERICK, "messages": HELLO, "max_tokens": 100, "stream": True, **change}
    return chunks(post(emu, body))


def picture(*urls: str, **more: str) -> list[dict]:
    parts = [{"type": "image_url", "image_url": {"url": url, **more}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


# ── OpenAI's SDK on the model service ──


@pytest.mark.parametrize("model", [SCOUT, MAVERICK])
def test_plain(emu: Emulator, model: str) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    answer = create(emu, model=model)
    assert answer.choices[0].message.content == "Oslo is cloudy é🎉."
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", model)
    assert answer.usage.to_dict() == {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}
    seen = emu.requests[0]
    assert (seen.host, seen.path) == ("vertex", f"/v1/{PLACE}/endpoints/openapi/chat/completions")


def test_async_plain_and_stream(emu: Emulator) -> None:
    emu.replies(Reply("One.", usage=(5, 2)), "Two é🎉.")

    async def run() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=base(emu, version="v1beta1"), api_key=emu.key("vertex")) as made:
            plain = await made.chat.completions.create(model=SCOUT, messages=HELLO, max_tokens=9)
            events = await made.chat.completions.create(model=SCOUT, messages=HELLO, max_tokens=9, stream=True)
            text = [event.choices[0].delta.content or "" async for event in events if event.choices]
        return plain.choices[0].message.content, "".join(text)

    assert asyncio.run(run()) == ("One.", "Two é🎉.")


def test_stream(emu: Emulator) -> None:
    emu.reply("Oslo is cloudy é🎉.", usage=(21, 6))
    with client(emu) as made:
        options = {"include_usage": True}
        events = list(
            made.chat.completions.create(
                model=MAVERICK, messages=HELLO, max_tokens=50, stream=True, stream_options=options
            )
        )
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == "Oslo is cloudy é🎉."
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert (events[-1].choices, events[-1].usage.total_tokens) == ([], 27)
    assert {event.choices[0].delta.role for event in events if event.choices} == {"assistant"}


def test_tools_of_maverick(emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})])
    first = create(emu, tools=[weather_tool])
    assert first.choices[0].finish_reason == "tool_calls"
    calls = first.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Rome"]
    assert len({call.id for call in calls}) == 2
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": [calls[0].to_dict()]},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "7 degrees"},
    ]
    assert create(emu, messages=turns, tools=[weather_tool]).choices[0].message.content == "You said: Hello"


def test_tool_stream_of_maverick(emu: Emulator, weather_tool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    with (
        client(emu) as made,
        made.chat.completions.stream(model=MAVERICK, messages=HELLO, max_tokens=50, tools=[weather_tool]) as events,
    ):
        call = events.get_final_completion().choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Oslo"})


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_of_scout_come_as_text(emu: Emulator, weather_tool, streamed: bool) -> None:
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"})])
    if streamed:
        events = stream(emu, model=SCOUT, tools=[weather_tool])
        assert not any("tool_calls" in event["choices"][0]["delta"] for event in events)
        text = "".join(event["choices"][0]["delta"]["content"] for event in events)
        finish = events[-1]["choices"][0]["finish_reason"]
    else:
        choice = create(emu, model=SCOUT, tools=[weather_tool]).choices[0]
        assert choice.message.tool_calls is None
        text, finish = choice.message.content, choice.finish_reason
    assert json.loads(text) == {"name": "get_weather", "parameters": {"city": "Oslo"}}
    assert finish == "stop"


def test_images(emu: Emulator, image_url: str) -> None:
    seen = create(emu, messages=picture(image_url, "gs://bucket/oslo.png")).choices[0].message.content
    assert seen == "I see 2 images (image/png, 64x48; gs://bucket/oslo.png)."


def test_no_output_limit_no_text(emu: Emulator) -> None:
    emu.replies("Lost.", Reply("Lost, too.", usage=(5, 9)), "Kept.")
    choice = create(emu, max_tokens=...).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("", "stop")
    only, tail = stream(emu, max_tokens=None, stream_options={"include_usage": True})
    assert only["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop", "logprobs": None}
    ]
    assert tail["usage"]["completion_tokens"] == 0
    assert create(emu, max_tokens=..., max_completion_tokens=5).choices[0].message.content == "Kept."


# ── errors, as OpenAI's SDK reports them ──


@pytest.mark.parametrize(
    ("change", "error", "status", "words"),
    [
        ({"model": "llama-4-maverick-17b-128e-instruct-maas"}, "BadRequestError", "INVALID_ARGUMENT",
         "Malformed publisher model (`model`: 'llama-4-maverick-17b-128e-instruct-maas') for the 'openapi' request"),
        ({"model": "meta/llama-5"}, "NotFoundError", "NOT_FOUND", NOT_FOUND),
        ({"temperature": 1.5}, "BadRequestError", "INVALID_ARGUMENT",
         "it has a temperature value of 1.5 but the supported range is from 0 (inclusive) to 1.0001 (exclusive)."),
        ({"max_tokens": 9000}, "BadRequestError", "INVALID_ARGUMENT", "from 1 (inclusive) to 8193 (exclusive)"),
        ({"messages": [{"role": "model", "content": "x"}]}, "BadRequestError", "INVALID_ARGUMENT",
         "Please use a valid role: system, user, assistant, tool."),
        ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "BadRequestError", "INVALID_ARGUMENT",
         "a tool message has no tool_call_id"),
        ({"messages": []}, "BadRequestError", "INVALID_ARGUMENT", "at least one message"),
        ({"messages": picture("https://x.test/a.png")}, "BadRequestError", "INVALID_ARGUMENT", "Use a gs:// URI"),
        ({"messages": picture("data:image/png;base64,AA==")}, "BadRequestError", "INVALID_ARGUMENT",
         "Provided image is not valid."),
        ({"messages": picture(*["gs://b/a.png"] * 4)}, "BadRequestError", "INVALID_ARGUMENT", "4 images"),
        ({"messages": picture("gs://b/a.png", detail="low")}, "BadRequestError", "INVALID_ARGUMENT", "detail"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_refusals(emu: Emulator, change, error: str, status: str, words: str, streamed: bool) -> None:
    with pytest.raises(getattr(openai, error)) as caught:
        create(emu, **change, stream=streamed)
    (wrapped,) = caught.value.body
    assert wrapped["error"]["code"] == caught.value.status_code
    assert wrapped["error"]["status"] == status
    assert words in wrapped["error"]["message"]


def test_wrong_region_and_global(emu: Emulator) -> None:
    for region in ("us-central1", "global"):
        path = f"/v1/projects/emulated-project/locations/{region}/endpoints/openapi/chat/completions"
        answer = post(emu, path=path)
        assert answer.status_code == 404
        assert f"locations/{region}/publishers/meta/models" in answer.json()[0]["error"]["message"]


def test_credentials(emu: Emulator) -> None:
    with pytest.raises(openai.AuthenticationError) as caught, client(emu, key="ya29.wrong") as made:
        made.chat.completions.create(model=MAVERICK, messages=HELLO, max_tokens=5)
    error = caught.value.body[0]["error"]
    assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")
    assert error["message"].startswith("Request had invalid authentication credentials.")
    assert error["details"][0]["reason"] == "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    url = base(emu) + "/chat/completions"
    bare = httpx.post(url, json={})
    assert bare.headers["www-authenticate"] == 'Bearer realm="https://accounts.google.com/"'
    assert bare.json()[0]["error"]["details"][0]["reason"] == "CREDENTIALS_MISSING"
    with_key = httpx.post(url, json={}, headers={"x-goog-api-key": "AIza"}).json()[0]["error"]
    assert with_key["message"].startswith("API keys are not supported by this API.")


def test_recorded_errors_have_this_shape(emu: Emulator) -> None:
    # newrelic/newrelic-python-agent:tests/mlmodel_gemini/cassette.yaml, interactions 9 and 10
    emu.fault(status=429)
    exhausted = post(emu)
    assert exhausted.status_code == 429
    assert exhausted.json()[0]["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert set(exhausted.headers) == {
        "content-length", "content-type", "date", "server", "vary", "x-content-type-options", "x-frame-options",
        "x-xss-protection", "connection",
    }  # fmt: skip
    missing = httpx.post(
        base(emu, version="v1beta1") + "/chat/completions", json={}, headers={"x-goog-api-key": "AIza"}
    )
    assert missing.json()[0]["error"] == {
        "code": 401,
        "message": "API keys are not supported by this API. Expected OAuth2 access token or other authentication "
        "credentials that assert a principal. See https://cloud.google.com/docs/authentication",
        "status": "UNAUTHENTICATED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "CREDENTIALS_MISSING",
                "domain": "googleapis.com",
                "metadata": {
                    "service": "aiplatform.googleapis.com",
                    "method": "google.cloud.aiplatform.v1beta1.PredictionService.ChatCompletions",
                },
            }
        ],
    }
    assert missing.headers["content-type"] == "application/json; charset=UTF-8"


def test_errors_name_the_method(emu: Emulator) -> None:
    methods = {
        f"/vertex/v1/{PLACE}/endpoints": "v1.EndpointService.ListEndpoints",
        f"/vertex/v1beta1/{ENDPOINT}": "v1beta1.EndpointService.GetEndpoint",
        f"POST/vertex/v1/{ENDPOINT}:rawPredict": "v1.PredictionService.RawPredict",
        "/v1/publishers/meta/models": "v1.ModelGardenService.ListPublisherModels",
        "/v1/publishers/meta/models/x": "v1.ModelGardenService.GetPublisherModel",
        f"POST/vertex-endpoint/v1/{ENDPOINT}:predict": "v1.PredictionService.Predict",
        f"POST/vertex-endpoint/v1/{ENDPOINT}/chat/completions": "v1.PredictionService.ChatCompletions",
        f"POST/vertex-endpoint/v1/{ENDPOINT}/invoke/v1/models": "v1.PredictionService.Invoke",
    }
    for path, method in methods.items():
        verb, slash, rest = path.partition("/")
        error = httpx.request(verb or "GET", emu.url + slash + rest).json()["error"]
        assert error["details"][0]["metadata"]["method"] == f"google.cloud.aiplatform.{method}"


def test_other_projects_look_like_a_lack_of_permission(emu: Emulator) -> None:
    path = "/v1/projects/someone-else/locations/us-east5/endpoints/openapi/chat/completions"
    error = post(emu, path=path).json()[0]["error"]
    assert (error["code"], error["status"]) == (403, "PERMISSION_DENIED")
    assert "Permission 'aiplatform.endpoints.predict' denied" in error["message"]
    assert post(emu, path=path.replace("someone-else", "123456789012")).status_code == 200, "the number is a name, too"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/completions"),
        ("POST", f"/v1/{PLACE}/endpoints/openapi/chat/completion"),
        ("GET", f"/v1/{PLACE}/endpoints/openapi/chat/completions"),
        ("POST", f"/v2/{PLACE}/endpoints/openapi/chat/completions"),
        ("POST", f"/v1/{ENDPOINT}"),
    ],
)
def test_unknown_paths_are_answered_in_html(emu: Emulator, method: str, path: str) -> None:
    answer = httpx.request(method, emu.base_url("vertex") + path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=UTF-8")
    assert "<title>Error 404 (Not Found)" in answer.text
    assert path in answer.text


def test_body_limits(emu: Emulator) -> None:
    broken = httpx.post(
        base(emu) + "/chat/completions", content=b'{"model":', headers={"authorization": f"Bearer {emu.key('vertex')}"}
    )
    assert "Invalid JSON payload received" in broken.json()[0]["error"]["message"]
    with Emulator(max_body=100) as small:
        error = post(small, {"model": MAVERICK, "messages": [{"role": "user", "content": "x" * 200}]}).json()[0][
            "error"
        ]
        assert error["message"] == "Request payload size exceeds the limit: 100 bytes."
    with Emulator(context={"vertex": 20}) as narrow:
        words = post(narrow, {"model": SCOUT, "messages": [{"role": "user", "content": "word " * 50}]}).text
        assert "exceeds the maximum number of tokens allowed (20)" in words


def test_errors_in_the_middle_of_a_stream(emu: Emulator) -> None:
    emu.reply("one two three")
    emu.fault(error_after=2, status=503)
    text = post(emu, {"model": MAVERICK, "messages": HELLO, "max_tokens": 9, "stream": True}).text
    last = text.rstrip().split("\n\n")[-1]
    emu.fault(error_after=1, status=500, host="vertex-endpoint")
    url = base(emu, "vertex-endpoint") + "/chat/completions"
    key = {"authorization": f"Bearer {emu.key('vertex-endpoint')}"}
    of_vllm = httpx.post(url, json={"messages": HELLO, "stream": True}, headers=key).text
    assert "EngineCore" in of_vllm
    assert json.loads(last.removeprefix("data: "))[0]["error"]["status"] == "UNAVAILABLE"
    assert "[DONE]" not in text


def test_odd_bodies_never_trip_the_emulator(emu: Emulator) -> None:
    odd = [0, -1, 1.5, "x", "", [], {}, [1], [None], [[]], {"a": 1}, True, [{}]]
    fields = ["model", "messages", "tools", "tool_choice", "temperature", "top_p", "stop", "max_tokens", "stream"]
    parts = [1, None, {}, {"type": "image_url"}, {"type": "image_url", "image_url": "data:"}, {"type": "text"}]
    changes = [{name: value} for name in [*fields, "response_format"] for value in odd]
    changes += [{"messages": [{"role": "user", "content": value}]} for value in [*odd, *([part] for part in parts)]]
    changes += [{"instances": value} for value in odd]
    targets = {
        "vertex": f"/v1/{PLACE}/endpoints/openapi/chat/completions",
        "vertex-endpoint": f"/v1/{ENDPOINT}:rawPredict",
    }
    for host, path in targets.items():
        with httpx.Client(headers={"authorization": f"Bearer {emu.key(host)}"}) as sender:
            for change in changes:
                body = {"model": MAVERICK, "messages": HELLO, "max_tokens": 9, **change}
                answer = sender.post(emu.base_url(host) + path, json=body)
                assert "emulator: " not in answer.text, (host, change, answer.text)


# ── quirks and settings ──


def test_array_errors_off() -> None:
    with Emulator(quirks=["no-vertex-array-errors"]) as emu, pytest.raises(openai.NotFoundError) as caught:
        create(emu, model="meta/llama-5")
    assert caught.value.message == f"Error code: 404 - {NOT_FOUND}"


def test_not_enabled_and_api_disabled() -> None:
    with Emulator(quirks=["vertex-not-enabled"]) as emu:
        error = post(emu).json()[0]["error"]
        model = MAVERICK.removeprefix("meta/")
        assert error == {
            "code": 400, "status": "FAILED_PRECONDITION",
            "message": "Project `123456789012` is not allowed to use Publisher Model "
            f"`{NUMBERED}/publishers/meta/models/{model}`",
        }  # fmt: skip
    with Emulator(quirks=["vertex-api-disabled"]) as emu:
        error = post(emu).json()[0]["error"]
        assert (error["code"], error["details"][0]["reason"]) == (403, "SERVICE_DISABLED")
        assert "has not been used in project 123456789012 before or it is disabled" in error["message"]


@pytest.mark.parametrize(
    ("quirks", "roles"),
    [
        ([], ["assistant", "assistant", "assistant"]),
        (["no-vertex-role-in-every-delta"], ["assistant", None, None]),
        (["vertex-role-missing"], [None, None, None]),
    ],
)
def test_roles_in_a_stream(quirks: list[str], roles: list[str | None]) -> None:
    with Emulator(["Oslo is"], quirks=quirks) as emu:
        assert [event["choices"][0]["delta"].get("role") for event in stream(emu)] == roles


def test_empty_answers_in_one_chunk_or_two() -> None:
    with Emulator([""]) as emu:
        assert len(stream(emu)) == 1
    with Emulator([""], quirks=["no-vertex-one-chunk-empty"]) as emu:
        assert [event["choices"][0]["finish_reason"] for event in stream(emu)] == [None, "stop"]


def test_bare_tool_deltas(weather_tool) -> None:
    calls = [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]
    with Emulator([Reply("Wait.", tool_calls=calls)], quirks=["vertex-bare-tool-deltas"]) as emu:
        found = stream(emu, tools=[weather_tool])
    deltas = [event["choices"][0]["delta"] for event in found]
    bare = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [set(call) for call in bare] == [{"type", "function"}] * 2
    assert [json.loads(call["function"]["arguments"])["city"] for call in bare] == ["Oslo", "Rome"]
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", [SCOUT, MAVERICK])
def test_python_tags(model: str) -> None:
    with Emulator([Reply(tool_calls=[("f", {"a": 1})])], quirks=["vertex-python-tags"]) as emu:
        assert create(emu, model=model).choices[0].message.content == (
            '<|python_start|>{"name": "f", "parameters": {"a": 1}}<|python_end|>'
        )


def test_switches_that_allow_more() -> None:
    allowed = [
        "no-vertex-empty-without-max-tokens", "no-vertex-scout-tools-as-text", "no-vertex-strict-ranges",
        "no-vertex-https-images-refused", "no-vertex-image-detail-refused",
    ]  # fmt: skip
    with Emulator(["Text.", Reply(tool_calls=[("f", {})])], quirks=allowed) as emu:
        assert create(emu, max_tokens=...).choices[0].message.content == "Text."
        assert create(emu, model=SCOUT).choices[0].message.tool_calls[0].function.name == "f"
        messages = picture("https://x.test/a.png", detail="low")
        assert "https://x.test/a.png" in create(emu, messages=messages, temperature=1.9).choices[0].message.content


def test_switches_that_allow_less() -> None:
    with Emulator(quirks=["vertex-strict-turns", "vertex-response-format-refused"]) as emu:
        assert create(emu, messages=[{"role": "system", "content": "Be brief."}, *HELLO]).choices
        assert create(emu, messages=[*HELLO, {"role": "assistant", "content": "Hi, I"}]).choices, "a prefill"
        for messages in ([*HELLO, *HELLO], [{"role": "assistant", "content": "x"}, *HELLO]):
            assert "alternate" in post(emu, {"model": SCOUT, "messages": messages}).text
        formatted = {"model": SCOUT, "messages": HELLO, "response_format": {"type": "json_object"}}
        assert "response_format is not supported" in post(emu, formatted).text


def test_content_filtered(emu: Emulator) -> None:
    emu.reply("", finish_reason="content_filter")
    assert post(emu).json()["choices"][0]["finish_reason"] == "content_filtered"


def test_settings() -> None:
    mine = {"project": "my-project", "region": "us-central1", "quota_projects": ["payer"]}
    with Emulator(settings={"google": mine}) as emu:
        table = emu.providers("vertex")["vertex"]
        assert table == {
            "kind": "vertex", "base_url": emu.base_url("vertex"), "project": "my-project", "region": "us-central1",
            "access_token": emu.key("vertex"),
        }  # fmt: skip
        path = "/v1/projects/my-project/locations/us-central1/endpoints/openapi/chat/completions"
        assert post(emu, path=path, **{"x-goog-user-project": "payer"}).status_code == 200
        assert emu.requests[-1].headers["x-goog-user-project"] == "payer"
        refused = post(emu, path=path, **{"x-goog-user-project": "somebody"}).json()[0]["error"]
        assert (refused["code"], refused["details"][0]["reason"]) == (403, "USER_PROJECT_DENIED")
    for wrong in ({"google": {"projekt": "x"}}, {"vertex": {"project": "x"}}, {"cloudflare": {"x": 1}}, {"gogle": {}}):
        with pytest.raises(ValueError, match=r"project|'google'|none|no emulated host"):
            Emulator(settings=wrong)
    with Emulator(keys={"vertex": None}) as emu:
        assert httpx.post(base(emu) + "/chat/completions", json={"model": SCOUT, "messages": HELLO}).status_code == 200
        assert "access_token" not in emu.providers("vertex")["vertex"]


def test_issued_tokens_open_expire_and_can_be_revoked(emu: Emulator) -> None:
    scope = "https://www.googleapis.com/auth/cloud-platform"
    good, short = emu.tokens.issue(scope), emu.tokens.issue([scope, "openid"], life=0)
    narrow = emu.tokens.issue("https://www.googleapis.com/auth/drive")
    assert post(emu, key=good.text).status_code == 200
    refused = post(emu, key=narrow.text)
    assert refused.status_code == 403
    assert refused.json()[0]["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    expired = post(emu, key=short.text).json()[0]["error"]
    assert (expired["code"], expired["details"][0]["reason"]) == (401, "ACCESS_TOKEN_EXPIRED")
    emu.revoke_tokens()
    assert post(emu, key=good.text).status_code == 401
    assert post(emu).status_code == 200, "the ready token stays"
    assert post(emu, key=emu.tokens.issue(scope).text).status_code == 200


# ── Hugging Face's client ──


def test_huggingface_hub(emu: Emulator) -> None:
    emu.replies("Hi there.", "In pieces é🎉.")
    hub = importlib.import_module("huggingface_hub")
    # without the path's end it would add /v1, which this service does not have
    made = hub.InferenceClient(base_url=base(emu) + "/chat/completions", api_key=emu.key("vertex"))
    plain = made.chat_completion(HELLO, model=MAVERICK, max_tokens=20)
    assert plain.choices[0].message.content == "Hi there."
    events = list(made.chat_completion(HELLO, model=MAVERICK, max_tokens=20, stream=True))
    assert "".join(event.choices[0].delta.content for event in events) == "In pieces é🎉."
    # this client reads errors only as objects: an array makes it fail with an AttributeError of its own
    with Emulator(quirks=["no-vertex-array-errors"]) as other:
        made = hub.InferenceClient(base_url=base(other) + "/chat/completions", api_key=other.key("vertex"))
        with pytest.raises(hub.errors.HfHubHTTPError, match="was not found or your project"):
            made.chat_completion(HELLO, model="meta/llama-5", max_tokens=20)


# ── the control plane over plain HTTP ──


def get(emu: Emulator, path: str, prefix: str = "/vertex") -> httpx.Response:
    return httpx.get(emu.url + prefix + path, headers={"authorization": f"Bearer {emu.key('vertex')}"})


@pytest.mark.parametrize("prefix", ["/vertex", ""])
def test_endpoint_resource_leads_to_its_host(emu: Emulator, prefix: str) -> None:
    resource = get(emu, f"/v1/{ENDPOINT}", prefix).json()
    assert resource["name"] == f"{NUMBERED}/endpoints/1234567890123456789"
    assert resource["dedicatedEndpointEnabled"] is True
    assert resource["dedicatedEndpointDns"] == emu.base_url("vertex-endpoint")
    answer = httpx.post(
        f"{resource['dedicatedEndpointDns']}/v1/{resource['name']}/chat/completions",
        json={"model": "", "messages": HELLO},
        headers={"authorization": f"Bearer {emu.key('vertex-endpoint')}"},
    )
    assert answer.json()["choices"][0]["message"]["content"] == "You said: Hello"


def test_endpoint_settings() -> None:
    ids = {"1": {"displayName": "first"}, "2": {"dedicatedEndpointEnabled": False}}
    google = {"endpoints": ids, "dedicated_dns": "{endpoint}.us-east5-fasttryout.prediction.vertexai.goog"}
    with Emulator(settings={"google": google}) as emu:
        first, second = get(emu, f"/v1/{PLACE}/endpoints").json()["endpoints"]
        assert first["displayName"] == "first"
        assert first["dedicatedEndpointDns"] == "1.us-east5-fasttryout.prediction.vertexai.goog"
        assert "dedicatedEndpointDns" not in second
        page = get(emu, f"/v1/{PLACE}/endpoints?pageSize=1").json()
        assert [one["name"] for one in page["endpoints"]] == [first["name"]]
        rest = get(emu, f"/v1/{PLACE}/endpoints?pageSize=1&pageToken={page['nextPageToken']}").json()
        assert rest == {"endpoints": [second]}
        assert get(emu, "/v1/projects/emulated-project/locations/europe-west4/endpoints").json() == {}
        missing = get(emu, f"/v1/{PLACE}/endpoints/3").json()["error"]
        assert (missing["code"], missing["status"]) == (404, "NOT_FOUND")
        refused = post(emu, {}, path=f"/v1/{PLACE}/endpoints/1:predict").json()["error"]
        assert (refused["code"], refused["status"]) == (400, "FAILED_PRECONDITION")
        assert "dedicated domain name '1.us-east5-fasttryout.prediction.vertexai.goog'" in refused["message"]
        assert post(emu, {}, path=f"/v1/{PLACE}/endpoints/2:predict").status_code == 501
        assert get(emu, "/v1/projects/no-such/locations/us-east5/endpoints").status_code == 403


def test_publisher_models(emu: Emulator) -> None:
    for publisher in ("meta", "*"):
        found = get(emu, f"/v1beta1/publishers/{publisher}/models").json()["publisherModels"]
        assert [one["name"].rpartition("/")[2] for one in found] == [name.partition("/")[2] for name in emu_models()]
    assert get(emu, "/v1beta1/publishers/google/models").json() == {}
    one = get(emu, "/v1/publishers/meta/models/llama-4-scout-17b-16e-instruct-maas@001").json()
    assert one["launchStage"] == "GA"
    assert get(emu, "/v1/publishers/meta/models/llama-5").status_code == 404
    assert httpx.get(emu.url + "/vertex/v1/publishers/meta/models").status_code == 401


def emu_models() -> tuple[str, str]:
    return SCOUT, MAVERICK


# ── the dedicated endpoint ──


def test_dedicated_endpoint_plain_stream_tools(emu: Emulator, weather_tool, image_url: str) -> None:
    emu.replies("Plain.", "Streamed é🎉.", Reply(tool_calls=[("get_weather", {"city": "Oslo"})]))
    with client(emu, "vertex-endpoint") as made:
        chat = made.chat.completions
        plain = chat.create(model="", messages=HELLO, extra_body={"top_k": 5, "min_p": 0.1})
        assert (plain.choices[0].message.content, plain.model) == ("Plain.", DEPLOYED)
        options = {"include_usage": True}
        events = list(chat.create(model=DEPLOYED, messages=HELLO, stream=True, stream_options=options))
        assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == "Streamed é🎉."
        assert events[-1].choices == []
        assert events[-1].usage.total_tokens > 0
        called = chat.create(model="", messages=HELLO, tools=[weather_tool]).choices[0]
        assert json.loads(called.message.tool_calls[0].function.arguments) == {"city": "Oslo"}
        seen = chat.create(model="", messages=picture(image_url, "https://x.test/a.png")).choices[0].message.content
        assert seen == "I see 2 images (image/png, 64x48; https://x.test/a.png)."
        with pytest.raises(openai.NotFoundError, match="The model `nope` does not exist"):
            chat.create(model="nope", messages=HELLO)
        with pytest.raises(openai.BadRequestError, match="top_p must be in"):
            chat.create(model="", messages=HELLO, top_p=0)
    with client(emu, "vertex-endpoint", key="wrong") as made, pytest.raises(openai.AuthenticationError):
        made.chat.completions.create(model="", messages=HELLO)


def test_dedicated_endpoint_async(emu: Emulator) -> None:
    async def run() -> str:
        url = base(emu, "vertex-endpoint", "v1beta1")
        async with openai.AsyncOpenAI(base_url=url, api_key=emu.key("vertex-endpoint")) as made:
            events = await made.chat.completions.create(model="", messages=HELLO, stream=True)
            return "".join([event.choices[0].delta.content or "" async for event in events if event.choices])

    assert asyncio.run(run()) == "You said: Hello"


def predict(emu: Emulator, verb: str, body) -> httpx.Response:
    return post(emu, body, path=f"/v1/{ENDPOINT}{verb}", host="vertex-endpoint")


def test_predict_in_prompt_form(emu: Emulator) -> None:
    emu.replies("Oslo.", "Rome.", "word " * 40)
    instances = [{"prompt": "Norway?", "max_tokens": 20}, {"prompt": "Italy?", "max_tokens": 20, "raw_response": True}]
    body = predict(emu, ":predict", {"instances": instances}).json()
    assert body == {
        "predictions": ["Prompt:\nNorway?\nOutput:\nOslo.", "Rome."],
        "deployedModelId": "4567890123456789012",
        "model": f"{NUMBERED}/models/llama-4-scout-17b-16e-instruct",
        "modelDisplayName": "llama-4-scout-17b-16e-instruct",
        "modelVersionId": "1",
    }
    short = predict(emu, ":predict", {"instances": [{"prompt": "x", "raw_response": True}]}).json()["predictions"][0]
    assert short == "word " * 15 + "word", "16 tokens unless told"


def test_predict_in_chat_form(emu: Emulator) -> None:
    emu.replies("Oslo.", "Oslo.")
    instance = {"@requestFormat": "chatCompletions", "messages": HELLO, "max_tokens": 20}
    completion = predict(emu, ":predict", {"instances": [instance]}).json()["predictions"]
    assert completion["choices"][0]["message"]["content"] == "Oslo."
    assert completion["usage"]["prompt_tokens"] > 0
    raw = predict(emu, ":rawPredict", {"instances": [instance]})
    assert raw.json()["predictions"]["object"] == "chat.completion"
    assert set(raw.json()) == {"predictions"}


def test_raw_predict(emu: Emulator) -> None:
    emu.replies("Chat.", "Pieces é.", "Prompted.")
    chat = predict(emu, ":rawPredict", {"messages": HELLO})
    assert chat.json()["choices"][0]["message"]["content"] == "Chat."
    assert chat.headers["X-Vertex-AI-Deployed-Model-Id"] == "4567890123456789012"
    assert chat.headers["X-Vertex-AI-Model"] == f"{NUMBERED}/models/llama-4-scout-17b-16e-instruct"
    assert chat.headers["X-Vertex-AI-Model-Version-Id"] == "1"
    streamed = predict(emu, ":streamRawPredict", {"messages": HELLO, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "Pieces" in streamed.text
    assert predict(emu, ":rawPredict", {"prompt": "x"}).json() == {"predictions": ["Prompt:\nx\nOutput:\nPrompted."]}


def test_raw_predict_in_the_form_of_the_generated_client(emu: Emulator) -> None:
    def wrap(data: str) -> dict[str, dict[str, str]]:
        return {"httpBody": {"contentType": "application/json", "data": data}}

    inner = base64.b64encode(json.dumps({"messages": HELLO, "top_p": 0}).encode()).decode()
    assert "top_p must be in" in predict(emu, ":rawPredict", wrap(inner)).json()["error"]["message"]
    assert predict(emu, ":rawPredict", wrap("no base64")).json()["error"]["status"] == "INVALID_ARGUMENT"


def test_invoke_reaches_any_path_of_the_container(emu: Emulator) -> None:
    key = {"authorization": f"Bearer {emu.key('vertex-endpoint')}"}
    for middle in ("", "/deployedModels/4567890123456789012"):
        url = f"{emu.base_url('vertex-endpoint')}/v1/{ENDPOINT}{middle}/invoke"
        assert httpx.get(url + "/ping", headers=key).status_code == 200
        assert httpx.get(url + "/v1/models", headers=key).json()["data"][0]["id"] == DEPLOYED
        answer = httpx.post(url + "/v1/chat/completions", json={"messages": HELLO}, headers=key)
        assert answer.json()["choices"][0]["message"]["content"] == "You said: Hello"
        assert httpx.get(url + "/nowhere", headers=key).json() == {"detail": "Not Found"}
    wrong = f"{emu.base_url('vertex-endpoint')}/v1/{ENDPOINT}/deployedModels/5/invoke/ping"
    assert httpx.get(wrong, headers=key).status_code == 404


def test_dedicated_endpoint_errors(emu: Emulator) -> None:
    bad = predict(emu, ":predict", {"instances": [{"text": "no prompt"}]}).json()["error"]
    assert (bad["code"], bad["status"]) == (400, "INVALID_ARGUMENT")
    assert json.loads(bad["message"])["error"]["message"] == "instances: 'prompt' is required"
    assert post(emu, path="/chat/completions", host="vertex-endpoint").headers["content-type"].startswith("text/html")
    elsewhere = post(emu, path=f"/v1/{PLACE}/endpoints/42/chat/completions", host="vertex-endpoint").json()["error"]
    assert (elsewhere["code"], elsewhere["status"]) == (404, "NOT_FOUND")
    foreign = ENDPOINT.replace("emulated-project", "other")
    assert post(emu, path=f"/v1/{foreign}:predict", host="vertex-endpoint").status_code == 403
    emu.fault(Fault(status=503), host="vertex-endpoint")
    slow = predict(emu, ":rawPredict", {"messages": HELLO}).json()["error"]
    assert slow == {"code": 503, "message": "Took too long to respond when processing", "status": "UNAVAILABLE"}
    emu.fault(Fault(status=500), host="vertex-endpoint")
    assert "EngineCore" in predict(emu, ":rawPredict", {"messages": HELLO}).json()["error"]["message"]
    with Emulator(max_body=50) as small:
        assert "payload size exceeds" in predict(small, ":predict", {"instances": [{"prompt": "x" * 99}]}).text


def test_dedicated_endpoint_provider(emu: Emulator) -> None:
    table = emu.providers("vertex-endpoint")["vertex-endpoint"]
    assert table == {
        "kind": "vertex", "api": "endpoint", "base_url": emu.base_url("vertex"),
        "dedicated_dns": emu.base_url("vertex-endpoint"), "project": "emulated-project", "region": "us-east5",
        "endpoint_id": "1234567890123456789", "model": DEPLOYED, "access_token": emu.key("vertex-endpoint"),
    }  # fmt: skip
