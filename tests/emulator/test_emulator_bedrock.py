"""Rules and bytes of the emulated Bedrock, judged by botocore's signer, validator, parser and frame reader."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.auth import SIGV4_TIMESTAMP
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer, InvalidPayloadLength
from botocore.parsers import create_parser
from tests.emulator.aws import (
    HELLO,
    MAVERICK,
    SCOUT,
    WEATHER,
    check_answer,
    check_value,
    converse,
    frames,
    send,
    session,
    signed,
)  # fmt: skip

from llamaroute.emulator import Emulator, Fault, Reply
from llamaroute.emulator.hosts.bedrock_frames import error_frame, event_frame, exception_frame, frame

TOOLS = {"tools": [WEATHER]}
NOVA = "us.amazon.nova-micro-v1:0"


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def use(name: str = "t1") -> dict[str, Any]:
    return {"toolUse": {"toolUseId": name, "name": "get_weather", "input": {"city": "Oslo"}}}


def result(name: str = "t1", *content: dict[str, Any]) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": name, "content": list(content) or [text("4")], "status": "success"}}


def spec(**change: Any) -> dict[str, Any]:
    return {"tools": [{"toolSpec": {**WEATHER["toolSpec"], **change}}]}


def picture(data: bytes, form: str = "png") -> dict[str, Any]:
    return {"image": {"format": form, "source": {"bytes": base64.b64encode(data).decode()}}}


def refused(answer: httpx.Response, kind: str = "ValidationException", status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["x-amzn-errortype"].startswith(f"{kind}:http://internal.amazon.com/coral/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amzn-requestid"]
    assert list(answer.json()) == ["message"]
    return str(answer.json()["message"])


# ── answers ──


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (Reply("Hello there."), {}),
        (Reply("Hello there.", cached_tokens=3), {"serviceTier": {"type": "flex"}}),
        (Reply(tool_calls=[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Ål"})]), {"toolConfig": TOOLS}),
        (Reply("Wait.", tool_calls=[("get_weather", "no JSON")]), {"toolConfig": TOOLS}),
        (Reply(""), {"inferenceConfig": {"maxTokens": 1}}),
        (Reply("x", finish_reason="malformed_tool_use"), {}),
    ],
)
def test_answers_fit_the_services_model(emu: Emulator, reply: Reply, body: dict[str, Any]) -> None:
    emu.reply(reply)
    answer = converse(emu, {"messages": HELLO, **body})
    assert answer.status_code == 200
    parsed = check_answer("Converse", answer)
    assert parsed["usage"]["totalTokens"] == parsed["usage"]["inputTokens"] + parsed["usage"]["outputTokens"]
    assert answer.json()["usage"]["serverToolUsage"] == {}
    assert answer.headers["content-type"] == "application/json"
    raw = answer.text
    assert raw == json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False), "sorted"


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("ListFoundationModels", "/foundation-models"),
        ("GetFoundationModel", "/foundation-models/meta.llama4-scout-17b-instruct-v1%3A0"),
        ("GetFoundationModelAvailability", "/foundation-model-availability/meta.llama4-scout-17b-instruct-v1%3A0"),
        ("ListInferenceProfiles", "/inference-profiles?maxResults=2&type=SYSTEM_DEFINED"),
        ("GetInferenceProfile", f"/inference-profiles/{SCOUT.replace(':', '%3A')}"),
    ],
)
def test_the_control_plane_fits_the_services_model(emu: Emulator, operation: str, path: str) -> None:
    answer = send(signed(emu, path, method="GET"))
    assert answer.status_code == 200, answer.text
    shape = session()._session.get_service_model("bedrock").operation_model(operation).output_shape
    response = {"status_code": 200, "headers": dict(answer.headers), "body": answer.content}
    parsed = create_parser("rest-json").parse(response, shape)
    del parsed["ResponseMetadata"]
    for models in (parsed.get("modelSummaries", []), [parsed["modelDetails"]] if "modelDetails" in parsed else []):
        for model in models:
            # Two recorded things that the public model does not allow: this word, and names over 20 letters.
            assert model.pop("inferenceTypesSupported") == ["INFERENCE_PROFILE"]
            assert model.pop("modelName").startswith("Llama 4 ")
    check_value(shape, parsed)


def test_numbers_as_text() -> None:
    with Emulator(quirks=["bedrock-string-numbers"]) as emu:
        emu.reply(tool_calls=[("get_weather", {"days": 3, "metric": True, "list": [1]})])
        answer = converse(emu, {"messages": HELLO, "toolConfig": TOOLS})
    found = answer.json()["output"]["message"]["content"][0]["toolUse"]["input"]
    assert found == {"days": "3", "metric": True, "list": [1]}


def test_switches_of_the_answer() -> None:
    with Emulator(quirks=["no-bedrock-server-tool-usage", "no-bedrock-padding", "bedrock-capital-message"]) as emu:
        assert set(converse(emu, {"messages": HELLO}).json()["usage"]) == {"inputTokens", "outputTokens", "totalTokens"}
        streamed = frames(converse(emu, {"messages": HELLO}, verb="converse-stream").content)
        assert not any(b'"p":' in event.payload for event in streamed)
        assert list(converse(emu, {}).json()) == ["Message"]
        emu.fault(missing_usage=True)
        assert "usage" not in converse(emu, {"messages": HELLO}).json()


# ── the stream's bytes ──


def test_frames(emu: Emulator) -> None:
    emu.reply("Hi there")
    answer = converse(emu, {"messages": HELLO}, verb="converse-stream")
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert answer.headers["transfer-encoding"] == "chunked"
    events = frames(answer.content)
    assert [list(event.headers.items()) for event in events] == [
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
        for kind in (
            "messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
        )
    ]  # fmt: skip
    shapes = session()._session.get_service_model("bedrock-runtime").shape_for("ConverseStreamOutput").members
    paddings = set()
    for event in events:
        payload = json.loads(event.payload)
        assert event.payload == json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
        paddings.add(payload.pop("p"))
        payload.get("usage", {}).pop("serverToolUsage", None)
        check_value(shapes[event.headers[":event-type"]], payload)
    assert len(paddings) > 1
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    assert all(alphabet.startswith(padding) and padding for padding in paddings)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_in_pieces(emu: Emulator, size: int) -> None:
    emu.reply("é🎉" * 20)
    data = converse(emu, {"messages": HELLO}, verb="converse-stream").content
    buffer = EventStreamBuffer()
    found = []
    for at in range(0, len(data), size):
        buffer.add_data(data[at : at + size])
        found.extend(buffer)
    words = [json.loads(event.payload)["delta"]["text"] for event in found if b'"delta"' in event.payload]
    assert "".join(words) == "é🎉" * 20


@pytest.mark.parametrize("at", [0, 5, 9, 14, -1, -6])
def test_any_wrong_byte_is_noticed(at: int) -> None:
    """The writer's checksums cover the whole frame."""
    data = bytearray(event_frame("messageStart", {"role": "assistant"}))
    assert frames(bytes(data))[0].payload == b'{"role":"assistant"}'
    data[at] ^= 1
    with pytest.raises((ChecksumMismatch, InvalidPayloadLength)):
        frames(bytes(data))


def test_frame_layout() -> None:
    """By hand, from the description of the format."""
    data = frame({":a": "b"}, b"xyz")
    head = b"\x02:a\x07\x00\x01b"
    prelude = (16 + len(head) + 3).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head + b"xyz"
    assert data == message + zlib.crc32(message).to_bytes(4, "big")
    (failure,) = frames(exception_frame("throttlingException", {"message": "slow"}))
    assert failure.headers[":exception-type"] == "throttlingException"
    (other,) = frames(error_frame("InternalFailure", "sorry"))
    assert (other.headers[":message-type"], other.headers[":error-message"]) == ("error", "sorry")


def test_errors_before_the_stream_are_plain(emu: Emulator) -> None:
    answer = converse(emu, {"messages": [assistant(text("Hi"))]}, verb="converse-stream")
    assert refused(answer).startswith("A conversation must start with a user message.")


# ── what is refused ──

RULES: list[Any] = [
    ("no messages", {"messages": []}, "A conversation must start with a user message"),
    ("leading assistant", {"messages": [assistant(text("Hi")), user(text("x"))]},
     "A conversation must start with a user message. Try again with a conversation that starts with a user message."),
    ("blank text", {"messages": [user(text("x"), text(" \n"))]},
     "The text field in the ContentBlock object at messages.0.content.1 is blank. Add text to the text field, and try"),
    ("blank system", {"system": [text(" ")]}, "is blank. Add text to the text field, and try again."),
    ("empty content", {"messages": [user()]}, "The content field in the Message object at messages.0 is empty."),
    ("tool blocks without tools", {"messages": [user(text("x")), assistant(use()), user(result())]},
     "The toolConfig field must be defined when using toolUse and toolResult content blocks."),
    ("missing results", {"messages": [user(text("x")), assistant(use("t1"), use("t2")), user(result("t1"))],
                         "toolConfig": TOOLS},
     "Expected toolResult blocks at messages.2.content for the following Ids: t2"),
    ("results split by an assistant turn",
     {"messages": [user(text("x")), assistant(use("t1"), use("t2")), user(result("t1")), assistant(text(".")),
                   user(result("t2"))], "toolConfig": TOOLS},
     "Expected toolResult blocks at messages.2.content for the following Ids: t2"),
    ("surplus results", {"messages": [user(text("x")), assistant(use()), user(result(), result("t2"))],
                         "toolConfig": TOOLS},
     "The number of toolResult blocks at messages.2.content exceeds the number of toolUse blocks of previous turn."),
    ("same id twice", {"messages": [user(text("x")), assistant(use(), use()), user(result())], "toolConfig": TOOLS},
     "contain duplicate Ids: t1"),
    ("a call by the user", {"messages": [user(use())], "toolConfig": TOOLS}, "in assistant messages only"),
    ("result and text", {"messages": [user(text("x")), assistant(use()), user(result(), text("y"))],
                         "toolConfig": TOOLS},
     "messages.2.content: Conversation blocks and tool result blocks cannot be provided in the same turn."),
    ("result and text in neighbours",
     {"messages": [user(text("x")), assistant(use()), user(result()), user(text("y"))], "toolConfig": TOOLS},
     "messages.2.content: Conversation blocks and tool result blocks cannot be provided in the same turn."),
    ("call and text", {"messages": [user(text("x")), assistant(text("y"), use()), user(result())],
                       "toolConfig": TOOLS},
     "messages.1.content: Conversation blocks and tool use blocks cannot be provided in the same turn."),
    ("system message", {"messages": [user(text("x")), {"role": "system", "content": [text("y")]}]},
     "doesn't support the system role"),
    ("forced tool", {"toolConfig": {**TOOLS, "toolChoice": {"any": {}}}},
     "This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any and try again."),
    ("named tool", {"toolConfig": {**TOOLS, "toolChoice": {"tool": {"name": "get_weather"}}}},
     "This model doesn't support the toolConfig.toolChoice.tool field."),
    ("unknown named tool", {"toolConfig": {**TOOLS, "toolChoice": {"tool": {"name": "other"}}}}, "is not defined"),
    ("no tools", {"toolConfig": {"tools": []}}, "The provided request is not valid"),
    ("strict", {"toolConfig": spec(strict=True)}, "doesn't support the toolConfig.tools.0.toolSpec.strict field"),
    ("schema of a list", {"toolConfig": spec(inputSchema={"json": {"type": "array"}})},
     "The value at toolConfig.tools.0.toolSpec.inputSchema.json.type must be one of the following: object."),
    ("same tool twice", {"toolConfig": {"tools": [WEATHER, WEATHER]}}, "is already defined at toolConfig.tools.0."),
    ("name of a tool", {"toolConfig": spec(name="get weather")}, "failed to satisfy constraint: Member must satisfy "
     "regular expression pattern: [a-zA-Z0-9_-]+"),
    ("long name", {"toolConfig": spec(name="x" * 65)}, "Member must have length less than or equal to 64"),
    ("empty description", {"toolConfig": spec(description="")}, "Member must have length greater than or equal to 1"),
    ("id of a call", {"messages": [user(text("x")), assistant(use("t 1")), user(result("t 1"))],
                      "toolConfig": TOOLS},
     "2 validation errors detected: Value 't 1' at 'messages.2.member.content.1.member.toolUse.toolUseId' failed"),
    ("schema for the answer",
     {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}}}},
     "This model doesn't support the outputConfig.textFormat field. Remove outputConfig.textFormat and try again."),
    ("unknown field for the model", {"additionalModelRequestFields": {"top_k": 5}},
     "The model returned the following errors: Malformed input request: #: extraneous key [top_k] is not permitted"),
    ("hot", {"inferenceConfig": {"temperature": 1.5}},
     "1 validation error detected: Value '1.5' at 'inferenceConfig.temperature' failed to satisfy constraint: Member "
     "must have value less than or equal to 1"),
    ("cold", {"inferenceConfig": {"temperature": -1}}, "Member must have value greater than or equal to 0"),
    ("wide", {"inferenceConfig": {"topP": 1.01}}, "Value '1.01' at 'inferenceConfig.topP'"),
    ("no tokens", {"inferenceConfig": {"maxTokens": 0}}, "Value '0' at 'inferenceConfig.maxTokens'"),
    ("many tokens", {"inferenceConfig": {"maxTokens": 8193}},
     "The maximum tokens you requested exceeds the model limit of 8192. Try again with a maximum tokens value that is"),
    ("empty stop", {"inferenceConfig": {"stopSequences": [""]}}, "'inferenceConfig.stopSequences.1.member'"),
    ("unknown member", {"max_tokens": 5}, "Malformed input request: extraneous key [max_tokens] is not permitted"),
    ("unknown member inside", {"inferenceConfig": {"topK": 5}}, "extraneous key [inferenceConfig.topK]"),
    ("no role", {"messages": [{"content": [text("x")]}]}, "Value null at 'messages.1.member.role' failed to satisfy"),
    ("unknown role", {"messages": [{"role": "tool", "content": [text("x")]}]},
     "satisfy enum value set: [user, assistant, system]"),
    ("metadata", {"requestMetadata": {}}, "Member must have length greater than or equal to 1"),
    ("video", {"messages": [user({"video": {"format": "mp4", "source": {"bytes": "AAAA"}}})]},
     "This model doesn't support the video content block that you provided. Update the content block and try again."),
    ("reasoning", {"messages": [user(text("x")), assistant({"reasoningContent": {"reasoningText": text("y")}}),
                                user(text("z"))]}, "doesn't support the reasoningContent content block"),
    ("image in a bucket",
     {"messages": [user({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/x.png"}}}})]},
     "This model doesn't support the s3Uri field. Remove s3Uri and try again."),
    ("no image", {"messages": [user(picture(b"not an image"))]},
     "The model returned the following errors: The provided image does not match the specified image format."),
    ("changed tools", {"messages": [user(text("x"), {"toolRemoval": {"tool": {"name": "a"}}})]},
     "doesn't support the toolRemoval field"),
    ("a tool of the service", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
     "doesn't support the toolConfig.tools.0.systemTool field"),
    ("fast", {"performanceConfig": {"latency": "optimized"}}, "doesn't support the performanceConfig.latency field"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [pytest.param(*rule[1:], id=rule[0]) for rule in RULES])
def test_rules(emu: Emulator, change: dict[str, Any], words: str) -> None:
    assert words in refused(converse(emu, {"messages": HELLO, **change}))
    assert converse(emu, {"messages": HELLO}).status_code == 200


@pytest.mark.parametrize(
    ("change", "kind", "status", "words"),
    [
        ({"messages": {}}, "SerializationException", 400, "Start of structure or map found where not expected."),
        ({"messages": [user({"text": 5})]}, "SerializationException", 400, "NUMBER_VALUE cannot be converted"),
        ({"inferenceConfig": {"maxTokens": "5"}}, "SerializationException", 400, "STRING_VALUE cannot be converted"),
        ({"inferenceConfig": {"maxTokens": 1.5}}, "SerializationException", 400, "DECIMAL_VALUE cannot be converted"),
        ({"messages": [user({"text": "x", "toolUse": use()["toolUse"]})]}, "SerializationException", 400, "one member"),
        ({"messages": [user({"image": {"format": "png", "source": {"bytes": "%%"}}})]}, "SerializationException", 400,
         "base64"),
        ({"system": [text("x"), {"cachePoint": {"type": "default"}}]}, "AccessDeniedException", 403,
         "did not allow prompt caching"),
        ({"toolConfig": {"tools": [WEATHER, {"cachePoint": {"type": "default"}}]}}, "AccessDeniedException", 403,
         "did not allow prompt caching"),
        ({"toolConfig": spec(strict="yes")}, "SerializationException", 400, "STRING_VALUE cannot be converted to Bool"),
        ({"messages": [user({"image": {"format": "png", "source": {"bytes": 5}}})]}, "SerializationException", 400,
         "NUMBER_VALUE cannot be converted to Blob"),
        ({"requestMetadata": []}, "SerializationException", 400, "Start of list found where not expected"),
        ({"messages": [user(text("x"), {"cachePoint": {"type": "default"}})]}, "AccessDeniedException", 403,
         "did not allow prompt caching"),
    ],
)  # fmt: skip
def test_rules_of_other_kinds(emu: Emulator, change: dict[str, Any], kind: str, status: int, words: str) -> None:
    assert words in refused(converse(emu, {"messages": HELLO, **change}), kind, status)


def test_broken_json(emu: Emulator) -> None:
    for body in (b"{", b"[]", b"5"):
        refused(converse_bytes(emu, body), "SerializationException")
    assert refused(converse(emu, {})).startswith("A conversation must start")


def converse_bytes(emu: Emulator, body: bytes) -> httpx.Response:
    return send(signed(emu, f"/model/{MAVERICK.replace(':', '%3A')}/converse", body))


def test_images(emu: Emulator, image_url: str) -> None:
    data = base64.b64decode(image_url.partition(",")[2])
    eight = [picture(data)] * 8
    assert converse(emu, {"messages": [user(*eight)]}).status_code == 200
    spread = [user(*eight[:4]), assistant(text("ok")), user(*eight[:5])]
    for messages in ([user(*eight, picture(data))], spread):
        assert "The model returned the following errors: Validation Error" in refused(
            converse(emu, {"messages": messages})
        )
    assert "too many images: image_count > 20" in refused(converse(emu, {"messages": [user(*[picture(data)] * 21)]}))
    assert "in user messages only" in refused(
        converse(emu, {"messages": [user(text("x")), assistant(picture(data)), user(text("y"))]})
    )
    wrong = [user(text("x")), assistant(use()), user(result("t1", picture(data, "jpeg")))]
    assert "does not match" in refused(converse(emu, {"messages": wrong, "toolConfig": TOOLS}))
    huge = data[:16] + (8001).to_bytes(4, "big") + data[20:]
    assert "8000 px" in refused(converse(emu, {"messages": [user(picture(huge))]}))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [user(text("x")), user(text("y"))]},
        {"messages": [user(text("x")), assistant(use()), user(result()), assistant(text(".")), user(text("y"))],
         "toolConfig": TOOLS},
        {"messages": [user(text("x")), assistant(use(), use("t2")), user(result()), user(result("t2"))],
         "toolConfig": TOOLS},
        {"messages": [user(text("x")), assistant(use()), user(result("t1", {"json": {"a": None}}))],
         "toolConfig": TOOLS},
        {"messages": [user({"document": {"name": "a", "format": "txt", "source": {"text": "words"}}}, text("x"))]},
        {"system": [], "inferenceConfig": {}, "additionalModelRequestFields": {}},
        {"system": None, "inferenceConfig": {"maxTokens": None, "temperature": 1, "topP": 0, "stopSequences": []}},
        {"toolConfig": {**TOOLS, "toolChoice": {"auto": {}}}},
        {"additionalModelRequestFields": {"max_gen_len": 5}},
        {"inferenceConfig": {"maxTokens": 8192}},
        {"guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "DRAFT", "trace": "enabled"}},
        {"serviceTier": {"type": "priority"}, "requestMetadata": {"team": "a b"}},
    ],
)  # fmt: skip
def test_accepted(emu: Emulator, change: dict[str, Any]) -> None:
    answer = converse(emu, {"messages": HELLO, **change})
    assert answer.status_code == 200, answer.text
    check_answer("Converse", answer)
    if "serviceTier" in change:
        assert answer.json()["serviceTier"] == change["serviceTier"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [user(text("x")), assistant(text("y"), use()), user(result(), text("z"))], "toolConfig": TOOLS},
        {"toolConfig": {**spec(strict=True), "toolChoice": {"any": {}}}},
        {"inferenceConfig": {"maxTokens": 9000}},
        {"toolConfig": {**TOOLS, "toolChoice": {"tool": {"name": "get_weather"}}}},
        {"additionalModelRequestFields": {"inferenceConfig": {"topK": 5}}},
    ],
)
def test_llamas_rules_are_llamas(body: dict[str, Any]) -> None:
    """Another model, or the switch, lifts them."""
    with Emulator(models={"bedrock": [NOVA, SCOUT]}) as emu:
        assert converse(emu, {"messages": HELLO, **body}, NOVA).status_code == 200
        refused(converse(emu, {"messages": HELLO, **body}, SCOUT))
    with Emulator(quirks=["no-bedrock-llama-rules"]) as emu:
        assert converse(emu, {"messages": HELLO, **body}, SCOUT).status_code == 200


def test_a_schema_for_other_models() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    form = {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(schema)}}}
    with Emulator(models={"bedrock": [NOVA]}) as emu:
        answer = converse(emu, {"messages": HELLO, "outputConfig": {"textFormat": form}}, NOVA)
        assert json.loads(answer.json()["output"]["message"]["content"][0]["text"]) == {"name": "text"}
        form["structure"]["jsonSchema"]["schema"] = "{"
        refused(converse(emu, {"messages": HELLO, "outputConfig": {"textFormat": form}}, NOVA))


def test_unknown_members_may_be_passed_over() -> None:
    with Emulator(quirks=["no-bedrock-unknown-members"]) as emu:
        assert converse(emu, {"messages": HELLO, "seed": 5}).status_code == 200
        refused(converse(emu, {"messages": HELLO, "seed": 5, "inferenceConfig": {"temperature": 2}}))


def test_too_long() -> None:
    with Emulator(context={"bedrock": 50}, max_body=2000) as emu:
        assert converse(emu, {"messages": HELLO}).status_code == 200
        words = refused(converse(emu, {"messages": [user(text("word " * 60))]}))
        assert words == "The model returned the following errors: Input is too long for requested model."
        refused(converse(emu, {"messages": [user(text("word " * 600))]}), "RequestEntityTooLargeException", 413)


def test_unknown_routes(emu: Emulator) -> None:
    for method, path in (("POST", "/model/x/invoke-nothing"), ("GET", "/model/x/converse"), ("GET", "/")):
        answer = send(signed(emu, path, {} if method == "POST" else None, method=method))
        assert answer.status_code == 404
        assert answer.headers["x-amzn-errortype"].startswith("UnknownOperationException:")


# ── signatures ──


def path_of(model: str = MAVERICK) -> str:
    return f"/model/{model.replace(':', '%3A')}/converse"


def test_botocores_signature_is_right(emu: Emulator) -> None:
    """For every way in which the path can be written, and for queries."""
    body = {"messages": HELLO}
    arn = f"arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2F{MAVERICK.replace(':', '%3A')}"
    for path in (
        path_of(),
        f"/model/{MAVERICK}/converse",
        f"/model/{arn}/converse",
        path_of() + "?b=2&a=x%20y&a=%C3%A9",
    ):
        assert send(signed(emu, path, body)).status_code == 200, path
    extra = {"X-Amz-Thing": "two   words", "Accept": "application/json"}
    assert send(signed(emu, path_of(), body, headers=extra)).status_code == 200


def test_paths_are_signed_without_dots(emu: Emulator) -> None:
    """The signature covers what is left of the path; the model asked for is the text on the wire."""
    path = f"/model//x/.././{MAVERICK}/converse"
    request = signed(emu, path, {"messages": HELLO})
    url = httpx.URL(emu.url)
    with contextlib.closing(http.client.HTTPConnection(url.host, url.port, timeout=5)) as connection:
        connection.request("POST", "/bedrock" + path, request.data, dict(request.headers.items()))
        response = connection.getresponse()
        assert json.loads(response.read()) == {"message": "The provided model identifier is invalid."}
        assert response.status == 400
    assert emu.requests[0].path == path


WRONG = "The request signature we calculated does not match the signature you provided."


@pytest.mark.parametrize(
    ("signing", "change", "words"),
    [
        ({"secret": "other"}, {}, WRONG),
        ({}, {"content": json.dumps({"messages": HELLO, "system": []}).encode()}, WRONG),
        ({}, {"headers": {"content-type": "application/x-json"}}, WRONG),
        ({"region": "ap-south-1"}, {}, "Credential should be scoped to a valid region. "),
        ({"service": "bedrock-runtime"}, {}, "Credential should be scoped to correct service: 'bedrock'. "),
    ],
)
def test_wrong_signatures(emu: Emulator, signing: dict[str, str], change: dict[str, Any], words: str) -> None:
    answer = send(signed(emu, path_of(), {"messages": HELLO}, **signing), **change)
    assert refused(answer, "InvalidSignatureException", 403).startswith(words)


def test_another_path_than_the_signed_one(emu: Emulator) -> None:
    request = signed(emu, path_of(MAVERICK), {"messages": HELLO})
    answer = send(request, url=emu.base_url("bedrock") + path_of(SCOUT))
    assert refused(answer, "InvalidSignatureException", 403).startswith(WRONG)


@pytest.mark.parametrize(("minutes", "words"), [(-6, "Signature expired: "), (6, "Signature not yet current: ")])
def test_old_and_early_signatures(emu: Emulator, monkeypatch: pytest.MonkeyPatch, minutes: int, words: str) -> None:
    then = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: then.replace(tzinfo=None))
    answer = send(signed(emu, path_of(), {"messages": HELLO}))
    said = refused(answer, "InvalidSignatureException", 403)
    assert said.startswith(words + then.strftime(SIGV4_TIMESTAMP))
    assert said.endswith("5 min.)")


@pytest.mark.parametrize(
    ("headers", "kind", "words"),
    [
        ({"Authorization": None}, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, "IncompleteSignatureException", "requires 'Signature'"),
        ({"Authorization": "Basic eDp5"}, "IncompleteSignatureException", "requires 'Credential' parameter"),
        ({"X-Amz-Date": "yesterday"}, "IncompleteSignatureException", "Date must be in ISO-8601 'basic format'"),
        ({"X-Amz-Date": "20200101T000000Z"}, "InvalidSignatureException", "Date in Credential scope does not match"),
    ],
)
def test_incomplete_signatures(emu: Emulator, headers: Mapping[str, str | None], kind: str, words: str) -> None:
    request = signed(emu, path_of(), {"messages": HELLO})
    assert words in refused(send(request, headers=dict(headers)), kind, 403)


def test_a_signature_without_the_host(emu: Emulator) -> None:
    request = signed(emu, path_of(), {"messages": HELLO})
    header = request.headers["Authorization"].replace("content-type;host;", "content-type;")
    said = refused(send(request, headers={"Authorization": header}), "InvalidSignatureException", 403)
    assert said == "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."


# ── bearer keys and tables ──


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ABSKwrong", "Authentication failed: Please make sure your API Key is valid."),
        ("wrong", "Invalid API Key format: Must start with pre-defined prefix"),
    ],
)
def test_bearer(emu: Emulator, key: str, words: str) -> None:
    url = emu.base_url("bedrock") + path_of()
    good = {"authorization": f"Bearer {emu.key('bedrock')}"}
    assert httpx.post(url, json={"messages": HELLO}, headers=good).status_code == 200
    answer = httpx.post(url, json={"messages": HELLO}, headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()) == (403, {"Message": words})
    assert answer.headers["x-amzn-errortype"].startswith("AccessDeniedException:")


def test_provider_table(emu: Emulator) -> None:
    table = emu.providers("bedrock")["bedrock"]
    assert sorted(table) == ["access_key_id", "base_url", "kind", "region", "secret_access_key"]
    assert (table["kind"], table["region"]) == ("bedrock", "us-east-1")
    assert (len(table["access_key_id"]), len(table["secret_access_key"])) == (20, 40)


def test_faults_have_the_hosts_errors(emu: Emulator) -> None:
    emu.fault(Fault(status=429, message="Too many tokens, please wait before trying again.", retry_after=2))
    answer = converse(emu, {"messages": HELLO})
    assert refused(answer, "ThrottlingException", 429) == "Too many tokens, please wait before trying again."
    assert answer.headers["retry-after"] == "2"
    emu.fault(Fault(status=403, code="ExpiredTokenException"))
    assert "expired" in refused(converse(emu, {"messages": HELLO}), "ExpiredTokenException", 403)
    emu.fault(Fault(status=424))
    answer = converse(emu, {"messages": HELLO})
    assert answer.json()["originalStatusCode"] == 500
    for host in ("aws-sts", "aws-credentials"):
        emu.fault(Fault(status=429), host=host, path="/")
        assert httpx.get(emu.base_url(host) + "/").status_code == 429
        assert httpx.post(emu.base_url(host) + "/").status_code in (403, 405)
        emu.fault(Fault(error_first=True, message="sorry"), host=host, path="/")
        assert "sorry" in httpx.get(emu.base_url(host) + "/").text


def test_what_the_control_plane_does_not_know(emu: Emulator) -> None:
    for path, words in (
        ("/foundation-models/meta.llama9", "The provided model identifier is invalid."),
        ("/foundation-model-availability/meta.llama9", "The provided model identifier is invalid."),
        ("/inference-profiles?nextToken=x", "The provided token is invalid."),
    ):
        assert refused(send(signed(emu, path, method="GET"))) == words
    said = refused(send(signed(emu, "/inference-profiles/us.none", method="GET")), "ResourceNotFoundException", 404)
    assert said == "Inference profile us.none not found"
    found = send(signed(emu, "/foundation-models?byCustomizationType=FINE_TUNING", method="GET")).json()
    assert found == {"modelSummaries": []}
