"""Bedrock's adapter beside botocore: its validator and serializer over our bodies, its readers over the same bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import EventStreamError
from botocore.validate import ParamValidator

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.dialects.bedrock_converse import ConverseDecoder
from llamaroute.providers.bedrock import SPEC
from llamaroute.types.messages import assistant, system, tool_result, user
from llamaroute.types.parts import Image, ImageData, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool
from tests.oracle.bedrock_readers import CONVERSE, STREAM, gathered, meaning, ours, theirs_plain, theirs_stream
from tests.providers.bedrock.frames import end, error, event, exception, start, stop, text
from tests.providers.bedrock.samples import SAMPLES
from tests.providers.wires import PNG, WEATHER, answer, ask, json_of, target_of

SETTINGS: dict[str, Any] = {
    "api_key": "k",
    "region": "us-east-1",
    "guardrail": {"id": "abc123", "version": "1", "trace": "enabled"},
    "service_tier": "priority",
    "features": {"forced_tools": "native", "json_schema": "native"},
}
TARGET = target_of(SPEC, SETTINGS, "llama-4-maverick")
PLAIN = target_of(SPEC, {"api_key": "k", "region": "us-east-1"}, "llama-4-maverick")
SCHEMA = JsonSchema("city", {"type": "object", "properties": {"name": {"type": "string"}}})
NOW = Tool("now", "", {"type": "object", "properties": {}})


def picture(media_type: str = "image/png") -> Image:
    image = Image(PNG)
    image.load(ImageData.of(media_type, PNG))
    return image


OSLO, ROME = ToolCall("call/é", "weather.now", {"city": "Oslo"}), ToolCall("", "weather", {"city": "Rome", "n": 1.5})
KNOBS: dict[str, Any] = {"max_tokens": 64, "temperature": 0.5, "top_p": 0.25, "stop": ("END",)}

REQUESTS = {
    "question": ask(),
    "knobs": ask(system("Be brief."), user("Hi"), **KNOBS),
    "whole numbers": ask(temperature=1, top_p=0),
    "images": ask("What?", *map(picture, ("image/png", "image/jpeg", "image/gif", "image/webp"))),
    "tools": ask(tools=(WEATHER, NOW)),
    "any tool": ask(tools=(WEATHER, NOW), tool_choice="required"),
    "one tool": ask(tools=(WEATHER, NOW), tool_choice="weather"),
    "schema": ask(output=SCHEMA),
    "results": ask(
        system("Be brief."),
        assistant("Welcome."),
        user("?", picture()),
        assistant("Well.", OSLO),
        tool_result(OSLO, ["rain", picture()]),
        user("And?"),
        tools=(WEATHER,),
    ),
    "parallel": ask(
        user("?"),
        assistant(OSLO, ToolCall("b", "weather", {})),
        tool_result("b", ""),
        tool_result(OSLO, "x"),
        tools=(NOW,),
    ),
    "results in words": ask(user("?"), assistant(OSLO), tool_result(OSLO, "rain"), user("Thanks.")),
    "extra": ask(extra={"bedrock": {"additionalModelRequestFields": {"top_k": 3}, "requestMetadata": {"team": "a"}}}),
}
named_requests = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)


def body_of(request: ChatRequest, target: Any = TARGET) -> dict[str, Any]:
    return json_of(SPEC.adapter.build_request(request, target, stream=False))


@named_requests
def test_the_validator_accepts_what_is_sent(request_: ChatRequest) -> None:
    """Nothing is excepted: no unknown member, no missing one, no union with two members."""
    for target in (TARGET, PLAIN):
        if target is PLAIN and (request_.output or request_.tool_choice not in ("auto", "none")):
            continue
        arguments = {**body_of(request_, target), "modelId": target.model_id}
        report = ParamValidator().validate(arguments, CONVERSE.input_shape)
        assert report.generate_report() == ""
        assert ParamValidator().validate(arguments, STREAM.input_shape).generate_report() == ""


def test_the_validator_is_not_asleep() -> None:
    body = {**body_of(ask()), "modelId": "m", "top_k": 3}
    assert "top_k" in ParamValidator().validate(body, CONVERSE.input_shape).generate_report()


def arguments_of(value: Any) -> Any:
    """A body as the arguments a user of boto3 would write: the same but for bytes."""
    if isinstance(value, Mapping):
        if set(value) == {"bytes"}:
            return {"bytes": base64.b64decode(value["bytes"])}
        return {key: arguments_of(item) for key, item in value.items()}
    return [arguments_of(item) for item in value] if isinstance(value, list) else value


def boto3_sends(operation: str, **arguments: Any) -> AWSRequest:
    """The request that boto3's client prepares; it is caught before it leaves."""
    session = botocore.session.Session()
    client = session.create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret-secret",
        config=Config(signature_version="v4"),
    )
    caught: list[AWSRequest] = []

    def keep(request: AWSRequest, **_: Any) -> Any:
        caught.append(request)
        raise RuntimeError("not sent")

    client.meta.events.register("before-send.bedrock-runtime", keep)
    with pytest.raises(RuntimeError, match="not sent"):
        getattr(client, operation)(**arguments)
    return caught[0]


@named_requests
def test_boto3_sends_the_same_body_to_the_same_url(request_: ChatRequest) -> None:
    for stream in (False, True):
        wire = SPEC.adapter.build_request(request_, TARGET, stream=stream)
        ours = json_of(wire)
        operation = "converse_stream" if stream else "converse"
        theirs = boto3_sends(operation, modelId=TARGET.model_id, **arguments_of(ours))
        assert json.loads(theirs.body) == ours
        assert (theirs.url, theirs.method) == (wire.url, wire.method)
        assert theirs.headers["Content-Type"].decode() == wire.headers["content-type"]


@pytest.mark.parametrize(
    "model_id",
    [
        "us.meta.llama4-scout-17b-instruct-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-endpoint",
    ],
)
def test_boto3_writes_ids_the_same_way(model_id: str) -> None:
    target = target_of(SPEC, {"api_key": "k", "region": "us-east-1"}, model_id)
    wire = SPEC.adapter.build_request(ask(), target, stream=False)
    assert boto3_sends("converse", modelId=model_id, **arguments_of(json_of(wire))).url == wire.url


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.status == 200 and not s.stream], ids=lambda s: s.name)
def test_whole_answers_are_read_alike(sample: Any) -> None:
    parsed = theirs_plain(sample.body)
    report = ParamValidator().validate(
        {k: v for k, v in parsed.items() if k != "ResponseMetadata"}, CONVERSE.output_shape
    )
    assert report.generate_report() == ""  # the samples themselves are what the service model describes
    theirs = meaning(parsed["output"]["message"]["content"], parsed["stopReason"], parsed["usage"])
    assert ours(SPEC.adapter.parse_response(answer(sample.body), ask(), TARGET)) == theirs


def decoded(body: bytes) -> list[Any]:
    decoder = ConverseDecoder(TARGET, SPEC.adapter.map_error)
    return [*decoder.feed(body), *decoder.close()]


WHOLE = [s for s in SAMPLES if s.stream and s.same_as is not None]


@pytest.mark.parametrize("sample", WHOLE, ids=lambda s: s.name)
def test_streams_are_read_alike(sample: Any) -> None:
    for size in (1, 7, len(sample.body)):
        assert ours(fold(decoded(sample.body))) == gathered(theirs_stream(sample.body, size))


@pytest.mark.parametrize(
    ("last", "code", "cls"),
    [
        (exception("throttlingException", "slow"), "throttlingException", errors.RateLimitError),
        (exception("modelStreamErrorException", "broken"), "modelStreamErrorException", errors.ServerError),
        (error("InternalError", "broken"), "InternalError", errors.ServerError),
    ],
    ids=["throttling", "model", "error"],
)
def test_errors_inside_streams_are_read_alike(last: bytes, code: str, cls: type[errors.ProviderError]) -> None:
    body = start() + text("x") + last
    with pytest.raises(EventStreamError) as theirs:
        theirs_stream(body)
    with pytest.raises(cls) as raised:
        decoded(body)
    said = theirs.value.response["Error"]
    assert (said["Code"], said["Message"]) == (code, raised.value.args[0])
    assert raised.value.code is not None
    assert raised.value.code.lower() == code.lower()


@pytest.mark.parametrize(
    "body",
    [
        start() + text("x") + stop(),
        start() + text("x") + event("messageStop", {"stopReason": "end_turn"}),
        start() + text("x") + end()[:-1],
    ],
    ids=["no finish", "no metadata", "half a frame"],
)
def test_a_stream_that_was_cut_off_is_told_here_and_not_there(body: bytes) -> None:
    assert theirs_stream(body)[1]["contentBlockDelta"]["delta"]["text"] == "x"  # and no error
    with pytest.raises(errors.ProtocolError):
        decoded(body)
