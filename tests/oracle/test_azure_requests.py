"""What is sent to the Model Inference API is what azure-ai-inference would send: its models over our bodies, and its
client, given the same conversation, beside our adapter."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import urllib3
from azure.ai.inference import ChatCompletionsClient, models
from azure.core.credentials import AzureKeyCredential
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter

from llamaroute.auth.azure import azure as make_auth
from llamaroute.registry import provider_spec
from llamaroute.spi import AuthSettings, WireRequest
from llamaroute.types.messages import Message, assistant, system, tool_result, user
from llamaroute.types.parts import Image, Text
from llamaroute.types.request import ChatRequest
from tests.oracle.test_requests import CALL, REQUESTS, picture
from tests.providers.wires import WEATHER, ask, chunk, completion, json_of, sse, target_of

ENDPOINTS = {
    "models": "https://acme.services.ai.azure.com/models",
    "serverless": "https://scout.eastus2.models.ai.azure.com",
    "managed": "https://scout.eastus2.inference.ml.azure.com",
    "github": "https://models.github.ai/inference",
}
CASES: dict[str, ChatRequest] = {
    **REQUESTS,
    "top_k": ask(top_k=4),
    "penalty": ask(repetition_penalty=1.1, max_tokens=1),
    "extra": ask(extra={"azure": {"safe_prompt": True}}),
    "none": ask(tools=(WEATHER,), tool_choice="none"),
    "picture alone": ChatRequest((user(picture("high")),)),
    "results": ChatRequest((user("Hi"), assistant(CALL), tool_result(CALL, "cloudy"), system("Be brief."))),
}


def wire(endpoint: str, request: ChatRequest, *, stream: bool = False) -> WireRequest:
    """What our adapter and our auth make of a request."""
    spec = provider_spec("azure")
    target = target_of(spec, {"endpoint": endpoint, "api": "models", "api_key": "key-1", "models": {"m": "m"}}, "m")
    auth = make_auth(AuthSettings("work", target.options, {}))
    return auth.sign(spec.adapter.build_request(request, target, stream=stream), 0.0)


# -- azure-ai-inference's models over our bodies ----------------------------------------------------------------------

FIELDS = {
    "messages": models.ChatRequestMessage,
    "tools": models.ChatCompletionsToolDefinition,
    "content": models.ContentItem,
    "tool_calls": models.ChatCompletionsToolCall,
    "function": None,  # a call's, a definition's or a choice's: by its place
    "image_url": models.ImageUrl,
}


def misfits(value: Any, kind: Any, where: str) -> list[str]:
    """Keys of a table that a model of the package does not know, or lacks although it needs them."""
    read = kind._deserialize(value, [])
    known = {field._rest_name: field for field in type(read)._attr_to_rest_field.values()}
    found = [f"{where}.{key}: unknown" for key in value if key not in known]
    if read.as_dict() != value:
        found.append(f"{where}: read as {read.as_dict()}")
    for key, item in value.items():
        inner = FIELDS.get(key)
        if key == "function":
            inner = {
                models.ChatCompletionsToolCall: models.FunctionCall,
                models.ChatCompletionsToolDefinition: models.FunctionDefinition,
                models.ChatCompletionsNamedToolChoice: models.ChatCompletionsNamedToolChoiceFunction,
            }[kind]
        if inner is None:
            continue
        for place, entry in enumerate(item if isinstance(item, list) else [item]):
            if isinstance(entry, dict):
                found += misfits(entry, inner, f"{where}.{key}[{place}]")
    return found


OF_THE_CALL = {
    "messages", "stream", "frequency_penalty", "presence_penalty", "temperature", "top_p", "max_tokens",
    "response_format", "stop", "tools", "tool_choice", "seed", "model",
}  # fmt: skip
"""What `ChatCompletionsClient.complete` takes as keywords; anything else is its `model_extras`."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_packages_models_know_every_key(endpoint: str, case: str, stream: bool) -> None:
    sent = wire(ENDPOINTS[endpoint], CASES[case], stream=stream)
    body = json_of(sent)
    wrong = [line for message in body["messages"] for line in misfits(message, models.ChatRequestMessage, "message")]
    for tool in body.get("tools", []):
        wrong += misfits(tool, models.ChatCompletionsToolDefinition, "tool")
    if isinstance(choice := body.get("tool_choice"), dict):
        wrong += misfits(choice, models.ChatCompletionsNamedToolChoice, "tool_choice")
    elif choice is not None:
        models.ChatCompletionsToolChoicePreset(choice)
    if (output := body.get("response_format")) is not None:
        assert output["type"] == "json_schema"
        wrong += misfits(output["json_schema"], models.JsonSchemaFormat, "response_format")
    assert wrong == []
    assert sent.headers.get("extra-parameters") == ("pass-through" if set(body) - OF_THE_CALL else None)


def test_the_look_at_models_sees_what_is_wrong() -> None:
    """Or the above would prove nothing."""
    kind = models.ChatRequestMessage
    assert misfits({"role": "user", "content": "x"}, kind, "m") == []
    assert misfits({"role": "user", "content": "x", "name": "n"}, kind, "m") == ["m.name: unknown"]
    part = {"type": "image_url", "image_url": {"url": "u", "size": 1}}
    assert misfits({"role": "user", "content": [part]}, kind, "m") == ["m.content[0].image_url[0].size: unknown"]
    call = {"id": "a", "type": "function", "function": {"name": "f", "parameters": "{}"}}
    assert misfits({"role": "assistant", "tool_calls": [call]}, kind, "m") == [
        "m.tool_calls[0].function[0].parameters: unknown"
    ]


# -- its client beside our adapter ------------------------------------------------------------------------------------


class Capture(HTTPAdapter):
    """Keeps what the client sends, and answers."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.sent = request
        streamed = json.loads(request.body or b"")["stream"] if b'"stream"' in _bytes(request.body) else False
        answer = sse(chunk({"content": "Hi"}), chunk({}, "stop")) if streamed else None
        body = answer or json.dumps(completion({"role": "assistant", "content": "Hi"}, "stop")).encode()
        kind = "text/event-stream" if streamed else "application/json"
        raw = urllib3.HTTPResponse(io.BytesIO(body), headers={"content-type": kind}, status=200, preload_content=False)
        return self.build_response(request, raw)


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()


def theirs(endpoint: str, request: ChatRequest, *, stream: bool, extras: dict[str, Any]) -> requests.PreparedRequest:
    """The same request through the package, made of its own classes."""
    capture = Capture()
    session = requests.Session()
    session.mount("https://", capture)
    client = ChatCompletionsClient(
        endpoint, AzureKeyCredential("key-1"), transport=RequestsTransport(session=session, session_owner=False)
    )
    choice: Any = None
    if request.tools:
        choice = request.tool_choice
        if choice not in ("auto", "none", "required"):
            named = models.ChatCompletionsNamedToolChoiceFunction(name=choice)
            choice = models.ChatCompletionsNamedToolChoice(function=named)
        else:
            choice = models.ChatCompletionsToolChoicePreset(choice)
    output = request.output
    answered = client.complete(
        model="m",
        messages=[_message(message) for message in request.messages],
        stream=True if stream else None,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=list(request.stop) if request.stop else None,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        tools=[
            models.ChatCompletionsToolDefinition(
                function=models.FunctionDefinition(
                    name=tool.name, description=tool.description, parameters=dict(tool.schema)
                )
            )
            for tool in request.tools
        ]
        or None,
        tool_choice=choice,
        response_format=models.JsonSchemaFormat(name=output.name, schema=dict(output.schema), strict=output.strict)
        if output
        else None,
        model_extras=extras or None,
    )
    if stream:
        assert [update.choices[0].delta.content for update in answered] == ["Hi", None]  # type: ignore[union-attr]
    return capture.sent


def _message(message: Message) -> models.ChatRequestMessage:
    match message.role:
        case "system":
            return models.SystemMessage(message.text)
        case "tool":
            return models.ToolMessage(message.text, tool_call_id=str(message.tool_call_id))
        case "assistant":
            calls = [
                models.ChatCompletionsToolCall(
                    id=call.id, function=models.FunctionCall(name=call.name, arguments=json.dumps(call.arguments))
                )
                for call in message.tool_calls
            ]
            return models.AssistantMessage(message.text, tool_calls=calls or None)
    if not message.images:
        return models.UserMessage(message.text)
    return models.UserMessage([_item(part) for part in message.parts])


def _item(part: Any) -> models.ContentItem:
    if isinstance(part, Text):
        return models.TextContentItem(text=part.text)
    assert isinstance(part, Image)
    data = part.loaded()
    assert data is not None
    url = f"data:{data.media_type};base64,{base64.b64encode(data.data).decode()}"
    return models.ImageContentItem(image_url=models.ImageUrl(url=url, detail=part.detail))


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body in which equal things look equal: arguments as what they say, members that are null left out."""
    plain = json.loads(json.dumps(body))
    for message in plain["messages"]:
        for call in message.get("tool_calls", []):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return plain


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_packages_client_sends_the_same(endpoint: str, case: str, stream: bool) -> None:
    ours = wire(ENDPOINTS[endpoint], CASES[case], stream=stream)
    body = json_of(ours)
    extras = {key: value for key, value in body.items() if key not in OF_THE_CALL}
    other = theirs(ENDPOINTS[endpoint], CASES[case], stream=stream, extras=extras)
    assert plain(body) == plain(json.loads(_bytes(other.body)))
    here, there = urlsplit(ours.url), urlsplit(str(other.url))
    assert (ours.method, here.hostname, here.path) == (other.method, there.hostname, there.path)
    assert parse_qs(here.query) == parse_qs(there.query)
    assert ours.headers["content-type"] == other.headers["content-type"]
    assert ours.headers.get("extra-parameters") == other.headers.get("extra-parameters")
    # The package sends the key twice; we send it where this host looks.
    signed = {name: ours.headers[name] for name in ("api-key", "authorization") if name in ours.headers}
    assert signed
    assert all(other.headers[name] == value for name, value in signed.items())
