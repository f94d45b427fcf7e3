"""What the adapters send is what the vendors' own software would send: their request types, over our bodies.

The types are `TypedDict`s full of `Iterable`, which pydantic validates lazily and so never; `misfits` looks at every
value, and names every key that a type does not have.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal, Union

import pytest
import typing_extensions
from cloudflare.types.ai import ai_run_params
from databricks.sdk.service import serving
from huggingface_hub import ChatCompletionInput
from openai.types.chat import completion_create_params

from llamaroute.registry import provider_spec
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Image, ImageData, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema
from tests.providers.wires import PNG, WEATHER, ask, json_of, target_of

SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})


def misfits(value: Any, wanted: Any, where: str = "body") -> list[str]:
    """What about a value does not fit a type; empty when all of it does."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any or wanted is object:
        return []
    if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated):
        return misfits(value, arguments[0], where)
    if origin in (Union, types.UnionType):
        found = [misfits(value, option, where) for option in arguments]
        return [] if [] in found else min(found, key=len)
    if origin is Literal:
        return [] if value in arguments else [f"{where}: {value!r} is none of {arguments}"]
    if typing_extensions.is_typeddict(wanted):
        return [*_table_misfits(value, wanted, where)]
    if wanted is None or wanted is type(None):
        return [] if value is None else [f"{where}: not null"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            return [f"{where}: no table"]
        return [line for key, item in value.items() for line in misfits(item, arguments[1], f"{where}.{key}")]
    if isinstance(origin, type) and issubclass(origin, collections.abc.Iterable):
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [line for i, item in enumerate(value) for line in misfits(item, arguments[0], f"{where}[{i}]")]
    if getattr(wanted, "__name__", "") == "SequenceNotStr":
        return [] if isinstance(value, list) else [f"{where}: no list"]
    if wanted is float:
        return [] if isinstance(value, int | float) and not isinstance(value, bool) else [f"{where}: no number"]
    if wanted is int:
        return [] if isinstance(value, int) and not isinstance(value, bool) else [f"{where}: no integer"]
    return [] if isinstance(value, wanted) else [f"{where}: {value!r} is no {wanted.__name__}"]


def _table_misfits(value: Any, wanted: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: no table"
        return
    known = typing_extensions.get_type_hints(wanted, include_extras=True)
    for key, hint in known.items():
        # Not `__required_keys__`, which is empty where annotations are strings, as they are in these packages.
        if typing.get_origin(hint) is typing_extensions.Required and key not in value:
            yield f"{where}: no {key}"
    for key, item in value.items():
        if key in known:
            yield from misfits(item, known[key], f"{where}.{key}")
        else:
            yield f"{where}.{key}: unknown"


def picture(detail: Any = None) -> Image:
    image = Image(PNG, detail=detail)
    image.load(ImageData.of("image/png", PNG))
    return image


CALL = ToolCall("call_1", "weather", {"city": "Oslo"})
REQUESTS: dict[str, ChatRequest] = {
    "question": ask(),
    "conversation": ChatRequest(
        (
            system("Be brief."),
            user("Look", picture("low"), "and", picture()),
            assistant("Let me see.", CALL, ToolCall("call_2", "weather", {})),
            tool_result(CALL, "cloudy"),
            tool_result("call_2", "rain"),
            assistant("Cloudy."),
            user("Thanks"),
        ),
        tools=(WEATHER,),
    ),
    "knobs": ask(
        max_tokens=64,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=("END",),
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logprobs=3,
    ),
    "required": ask(tools=(WEATHER,), tool_choice="required", parallel_tool_calls=False),
    "named": ask(tools=(WEATHER,), tool_choice="weather"),
    "schema": ask(output=SCHEMA),
}
TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-compatible": ("openai-compatible", {"base_url": "http://host/v1"}),
    "huggingface": ("huggingface", {}),
    "cloudflare": ("cloudflare", {"account_id": "a"}),
    "azure-v1": ("azure", {"endpoint": "https://acme.services.ai.azure.com"}),
    "cloudflare-native": ("cloudflare", {"account_id": "a", "api": "native"}),
    "tgi": ("openai-compatible", {"base_url": "http://host/v1", "dialect": "tgi"}),
    "databricks": ("databricks", {"host": "host", "api": "openai"}),
    "databricks-invocations": ("databricks", {"host": "host"}),
    "databricks-gateway": ("databricks", {"host": "host", "api": "gateway"}),
    "vertex": ("vertex", {"project": "p"}),
    "vertex-endpoint": ("vertex", {"project": "p", "api": "endpoint", "endpoint_id": "1"}),
    "local": ("local", {"mmproj": "mmproj.gguf"}),
}


def body(name: str, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
    kind, table = TABLES[name]
    spec = provider_spec(kind)
    return json_of(spec.adapter.build_request(request, target_of(spec, table), stream=stream))


# Beyond OpenAI's own types, known and wanted.
BEYOND_OPENAI = {
    "body.messages[3].name: unknown",  # a tool result's: other hosts' templates use it
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(
    "name",
    [
        "openai-compatible",
        "huggingface",
        "local",
        "cloudflare",
        "azure-v1",
        "databricks",
        "databricks-gateway",
        "vertex",
        "vertex-endpoint",
    ],
)
def test_openais_types_take_the_body(name: str, request_: str, stream: bool) -> None:
    wanted = (
        completion_create_params.CompletionCreateParamsStreaming
        if stream
        else completion_create_params.CompletionCreateParamsNonStreaming
    )
    wrong = set(misfits(body(name, REQUESTS[request_], stream=stream), wanted)) - BEYOND_OPENAI
    if name == "cloudflare" and request_ == "schema":  # the bare JSON Schema in the place of OpenAI's table around it
        wrong = {line for line in wrong if not line.startswith("body.response_format")}
    assert wrong == set()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("name", ["huggingface", "tgi"])
def test_hugging_faces_own_client_knows_every_key(name: str, request_: str, stream: bool) -> None:
    sent = body(name, REQUESTS[request_], stream=stream)
    known = {field.name for field in fields(ChatCompletionInput)}
    assert set(sent) - known <= {"parallel_tool_calls"}
    read = ChatCompletionInput.parse_obj_as_instance(sent)
    assert [message.role for message in read.messages] == [message["role"] for message in sent["messages"]]
    for message, given in zip(read.messages, sent["messages"], strict=True):
        if isinstance(given.get("content"), list):
            assert message.content is not None
            assert [part.type for part in message.content] == [part["type"] for part in given["content"]]  # type: ignore[union-attr]
        calls = [call.function.name for call in message.tool_calls or []]
        assert calls == [call["function"]["name"] for call in given.get("tool_calls", [])]


# Scout's own schema has what Cloudflare's SDK, which knows all models at once, leaves out.
BEYOND_CLOUDFLARE = ("tool_choice", "stop", "logprobs", "top_logprobs", "parallel_tool_calls")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
def test_cloudflares_types_take_the_native_body(request_: str, stream: bool) -> None:
    """`Variant13` is the one with images in messages; `Messages` the one with text."""
    sent = body("cloudflare-native", REQUESTS[request_], stream=stream)
    for key in BEYOND_CLOUDFLARE:
        sent.pop(key, None)
    for message in sent["messages"]:  # the SDK's messages are role and content alone; the schema is open
        for key in ("tool_calls", "tool_call_id", "name"):
            message.pop(key, None)
        assert isinstance(message["content"], str | list)  # never null
        if isinstance(message["content"], list):
            for part in message["content"]:
                if part["type"] == "image_url":
                    assert part["image_url"].pop("url").startswith("data:image/png;base64,")
            message["content"] = "text and images"
    assert misfits({"account_id": "a", **sent}, ai_run_params.Messages) == []


class Sent:
    """Stands in for databricks-sdk's HTTP client, and keeps what it was given."""

    class _cfg:
        workspace_id = None

    def do(self, method: str, path: str, *, body: Any, **_: Any) -> dict[str, Any]:
        self.method, self.path, self.body = method, path, body
        return {}


@pytest.mark.parametrize("stream", [False, True])
def test_databricks_own_sdk_sends_the_same(stream: bool) -> None:
    """Its `query()`, which knows text and these four knobs alone."""
    sent = Sent()
    serving.ServingEndpointsAPI(sent).query(
        "databricks-llama-4-maverick",
        messages=[
            serving.ChatMessage("Be brief.", serving.ChatMessageRole.SYSTEM),
            serving.ChatMessage("Hi", serving.ChatMessageRole.USER),
        ],
        max_tokens=64,
        temperature=0.5,
        stop=["END"],
        n=2,
        stream=stream or None,
    )
    kind, table = TABLES["databricks-invocations"]
    request = ChatRequest(
        (system("Be brief."), user("Hi")), max_tokens=64, temperature=0.5, stop=("END",), extra={kind: {"n": 2}}
    )
    spec = provider_spec(kind)
    ours = spec.adapter.build_request(request, target_of(spec, table, "llama-4-maverick"), stream=stream)
    assert (ours.method, ours.url) == (sent.method, f"https://host{sent.path}")
    assert json_of(ours) == sent.body


def test_the_look_at_types_sees_what_is_wrong() -> None:
    """Or all of the above would prove nothing."""
    wanted = completion_create_params.CompletionCreateParamsNonStreaming
    good = body("openai-compatible", REQUESTS["conversation"])

    def wrong(**changes: Any) -> list[str]:
        return [line for line in misfits({**good, **changes}, wanted) if line not in BEYOND_OPENAI]

    assert wrong() == []
    assert wrong(top_k=3) == ["body.top_k: unknown"]
    assert wrong(stop=[1]) or wrong(stop=1)
    assert wrong(temperature="hot") != []
    assert wrong(messages=None) != []
    assert wrong(messages=[{"role": "somebody", "content": "Hi"}]) != []
    assert wrong(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]) != []
    assert wrong(messages=[{"role": "tool", "content": "x"}]) != []
    function = {"name": "f", "arguments": {}}
    calls = [{"id": "a", "type": "function", "function": function}]
    assert wrong(messages=[{"role": "assistant", "tool_calls": calls}]) != []
    assert wrong(tools=[{"type": "function", "name": "f"}]) != []
    assert wrong(tool_choice="any") != []
    assert wrong(response_format={"type": "json_schema", "json_schema": {"type": "object"}}) != []
    assert misfits({"messages": []}, wanted) == ["body: no model"]
