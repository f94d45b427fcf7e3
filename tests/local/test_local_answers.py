"""What the engine's answers look like, seen through the blocking transport."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from local_helpers import answer, ask, chat, events, picture, png, send, soon, target_of

from llamaroute.dialects.accumulate import fold
from llamaroute.errors import ConfigError
from llamaroute.providers.local import SPEC, LocalSettings
from llamaroute.spi import TokenCounter, WireResponse
from llamaroute.transport.local import LocalTransport
from llamaroute.types.messages import user
from llamaroute.types.parts import Image, ImageData
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool


def test_stream_is_server_sent_events(transport: LocalTransport) -> None:
    response = transport.open(send(chat(stream=True)))
    assert response.head.status == 200
    assert response.head.headers["content-type"] == "text/event-stream"
    body = b""
    while data := response.read(soon(), "idle"):
        body += data
    response.close()
    *chunks, usage, done = events(body)
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] <= 8
    assert not any("prompt_progress" in chunk for chunk in chunks)
    assert {choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]} - {None} <= {"length", "stop"}


def test_plain_answer_equals_the_stream(transport: LocalTransport) -> None:
    options = transport.engine.options
    target = target_of(options)
    request = ChatRequest((user("Hello"),), max_tokens=8, temperature=0.0, seed=1, logprobs=2)
    plain = SPEC.adapter.build_request(request, target, stream=False)
    streamed = SPEC.adapter.build_request(request, target, stream=True)
    status, body = ask(transport, plain.body)
    parsed = SPEC.adapter.parse_response(WireResponse(status, {}, body), request, target)
    decoder = SPEC.adapter.stream_decoder(request, target)
    _, data = ask(transport, streamed.body)
    folded = fold([*decoder.feed(data), *decoder.close()])
    assert (parsed.text, parsed.finish_reason) == (folded.text, folded.finish_reason)
    assert parsed.usage.output_tokens == folded.usage.output_tokens
    assert len(parsed.logprobs) == parsed.usage.output_tokens
    assert [item.token for item in parsed.logprobs] == [item.token for item in folded.logprobs]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_native_tool_calls_are_the_same_in_both_ways(transport: LocalTransport, choice: str) -> None:
    """For models whose template knows tools, with `features = { tools = "native" }`; this one was taught a few."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    request = ChatRequest(
        (user("What is the weather in Paris?"),),
        tools=(Tool("get_weather", "Weather in a city", schema),),
        tool_choice=choice,
        max_tokens=60,
        temperature=0.0,
    )
    target = target_of(transport.engine.options)
    status, body = ask(transport, SPEC.adapter.build_request(request, target, stream=False).body)
    parsed = SPEC.adapter.parse_response(WireResponse(status, {}, body), request, target)
    decoder = SPEC.adapter.stream_decoder(request, target)
    _, data = ask(transport, SPEC.adapter.build_request(request, target, stream=True).body)
    folded = fold([*decoder.feed(data), *decoder.close()])
    assert [(call.name, call.raw_arguments) for call in parsed.tool_calls] == [
        (call.name, call.raw_arguments) for call in folded.tool_calls
    ]
    assert (parsed.text, parsed.finish_reason) == (folded.text, folded.finish_reason)


def test_body_in_pieces(transport: LocalTransport) -> None:
    text = json.dumps(chat()).encode()
    assert ask(transport, (text[:10], text[10:]))[0] == 200


def test_json_schema_is_kept(transport: LocalTransport) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "size": {"enum": ["small", "large"]}},
        "required": ["ok", "size"],
        "additionalProperties": False,
    }
    target = target_of(transport.engine.options)
    request = ChatRequest((user("Reply"),), output=JsonSchema("x", schema), max_tokens=64, temperature=1.0)
    status, body = ask(transport, SPEC.adapter.build_request(request, target, stream=False).body)
    reply = json.loads(SPEC.adapter.parse_response(WireResponse(status, {}, body), request, target).text)
    assert reply["size"] in ("small", "large")
    assert isinstance(reply["ok"], bool)


def test_a_temperature_is_always_given(transport: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Spy:
        def handle_chat_completions(self, body: bytes, callback: Any) -> None:
            sent.append(json.loads(body))

    monkeypatch.setattr(transport.engine, "_server", Spy())
    body = chat()
    del body["temperature"]
    ask(transport, body)
    ask(transport, chat(temperature=0.1))
    assert [body["temperature"] for body in sent] == [0.6, 0.1]


@pytest.mark.parametrize("content", ["Hello there", picture(png()), picture(png(700, 400))])
def test_count_is_exact(transport: LocalTransport, content: Any) -> None:
    status, body = ask(transport, chat(content), "count")
    assert status == 200
    assert json.loads(body) == {
        "input_tokens": answer(transport, chat(content, max_tokens=1))["usage"]["prompt_tokens"]
    }


def test_count_through_the_adapter(transport: LocalTransport) -> None:
    assert isinstance(SPEC.adapter, TokenCounter)
    target = target_of(transport.engine.options)
    image = Image(b"")
    image.load(ImageData.of("image/png", __import__("base64").b64decode(png().partition(",")[2])))
    wire = SPEC.adapter.count_request(ChatRequest((user("What?", image),)), target)
    assert wire.url == "local://local/count"
    status, body = ask(transport, wire.body, "count")
    assert SPEC.adapter.parse_count(WireResponse(status, {}, body), target) > 100


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (chat("word " * 9000), 400, "exceed_context_size_error"),
        (chat(n=2), 400, "invalid_request_error"),
        (chat(max_tokens=-5), 400, "invalid_request_error"),
        ({"messages": "x"}, 400, "invalid_request_error"),
        ({"messages": [{"content": "no role"}]}, 400, "invalid_request_error"),
        (chat(picture("data:image/png;base64,AAAA")), 400, "invalid_request_error"),
        (chat(picture("http://127.0.0.1:9/x.png")), 400, "unsupported_image"),
        (chat(picture("file:///etc/hostname")), 400, "unsupported_image"),
        (chat(model="another"), 404, "model_not_found"),
    ],
    ids=lambda value: None,
)
def test_errors_come_before_the_head(
    transport: LocalTransport, body: dict[str, Any], status: int, kind: str, stream: bool
) -> None:
    got, data = ask(transport, {**body, "stream": stream})
    error = json.loads(data)["error"]
    assert (got, error["type"]) == (status, kind)
    assert error["message"]


def test_error_numbers_reach_the_caller(transport: LocalTransport) -> None:
    status, data = ask(transport, chat("word " * 9000))
    error = SPEC.adapter.map_error(WireResponse(status, {}, data), target_of(transport.engine.options))
    assert type(error).__name__ == "ContextLengthError"
    assert error.limit == 4096
    assert error.tokens > 9000


def test_broken_json_and_unknown_path(transport: LocalTransport) -> None:
    assert ask(transport, b"{bad")[0] == 400
    assert ask(transport, b"[]")[0] == 400
    assert ask(transport, chat(), "v1/nothing")[0] == 404


def test_image_without_vision_tower(settings: Any) -> None:
    options = settings(vision=False)
    transport = LocalTransport(options, account="local")
    try:
        for path in ("v1/chat/completions", "count"):
            status, data = ask(transport, chat(picture(png())), path)
            assert (status, json.loads(data)["error"]["type"]) == (400, "unsupported_image")
    finally:
        transport.close()


def test_chat_template_replaces_the_models_own(settings: Any, tmp_path: Any) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    transport = LocalTransport(settings(chat_template=str(template)), account="local")
    plain = LocalTransport(settings(), account="local")
    try:
        counts = [json.loads(ask(one, chat(), "count")[1])["input_tokens"] for one in (transport, plain)]
        assert counts[0] < counts[1]
    finally:
        transport.close()
        plain.close()


@pytest.mark.parametrize(
    ("change", "key", "remedy"),
    [
        ({"model": "/no/such.gguf"}, "providers.work.model", "llamaroute local pull"),
        ({"model": __file__}, "providers.work.model", "not a GGUF"),
        ({"mmproj": "/no/such.gguf", "vision": False}, "providers.work.mmproj", "/no/such.gguf"),
        ({"chat_template": "/no/such.jinja"}, "providers.work.chat_template", "/no/such.jinja"),
    ],
)
def test_missing_files_name_the_key(settings: Any, change: dict[str, Any], key: str, remedy: str) -> None:
    transport = LocalTransport(settings(**change), account="work")
    with pytest.raises(ConfigError) as caught:
        transport.open(send(chat()))
    assert caught.value.key == key
    assert remedy in str(caught.value)
    transport.close()


def test_unpulled_model_names_the_command(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAROUTE_CACHE", str(tmp_path))
    transport = LocalTransport(LocalSettings(kind="local"), account="local")
    with pytest.raises(ConfigError, match="llamaroute local pull smollm2"):
        transport.open(send(chat()))


def test_damaged_model(tmp_path: Any) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(1000))
    transport = LocalTransport(LocalSettings(kind="local", model=str(tmp_path / "m.gguf")), account="local")
    with pytest.raises(ConfigError, match="cannot load"):
        transport.open(send(chat()))


def test_missing_package_and_library(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigError, match=r"pip install 'llamaroute\[local\]'"):
        LocalTransport(settings(), account="local").open(send(chat()))
    monkeypatch.delitem(sys.modules, "xllamacpp")
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="apt-get install libgomp1"):
        LocalTransport(settings(), account="local").open(send(chat()))
