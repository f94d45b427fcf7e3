"""AWS's own software for the tests: boto3's clients, botocore's signer, its validator and its reader of streams."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import Any

import boto3
import botocore.session
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer, EventStreamMessage
from botocore.parsers import create_parser
from botocore.validate import ParamValidator

from llamaroute.emulator import Emulator

SCOUT = "us.meta.llama4-scout-17b-instruct-v1:0"
MAVERICK = "us.meta.llama4-maverick-17b-instruct-v1:0"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": [{"text": "Hello"}]}]
WEATHER: dict[str, Any] = {
    "toolSpec": {
        "name": "get_weather",
        "description": "Weather",
        "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    }
}
# Members that the servers send and the public model lacks: botocore's parser drops them.
BEYOND_THE_MODEL = {"serverToolUsage", "p"}


@functools.cache
def session() -> boto3.Session:
    """One session, so that the service models are read once; no region, no profile."""
    return boto3.Session(botocore_session=botocore.session.Session(profile=None))


def keys(emu: Emulator) -> dict[str, str]:
    """The access key that the emulator knows, as `client` takes it."""
    table = emu.providers("bedrock")["bedrock"]
    return {"key": table["access_key_id"], "secret": table["secret_access_key"]}


def client(
    emu: Emulator, service: str = "bedrock-runtime", *, host: str = "bedrock", region: str = "us-east-1",
    key: str | None = None, secret: str | None = None, token: str | None = None, attempts: int = 1, **config: Any,
) -> Any:  # fmt: skip
    """A boto3 client of an emulated host. Not for credentials that boto3 finds by itself."""
    known = keys(emu)
    made = session().client(
        service, endpoint_url=emu.base_url(host), region_name=region,
        aws_access_key_id=key or known["key"], aws_secret_access_key=secret or known["secret"],
        aws_session_token=token, config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}, **config),
    )  # fmt: skip
    _OPEN.append(made)
    return made


_OPEN: list[Any] = []


def close_clients() -> None:
    """Close the connections of all clients made so far: one that is collected while open makes Python warn."""
    while _OPEN:
        _OPEN.pop().close()


def events(runtime: Any, seen: list[Any] | None = None, **asked: Any) -> list[Any]:
    """The events of a converse_stream; those before an error are in `seen`."""
    seen = [] if seen is None else seen
    asked = {"modelId": MAVERICK, "messages": HELLO, **asked}
    with contextlib.closing(runtime.converse_stream(**asked)["stream"]) as stream:
        for event in stream:
            seen.append(event)
    return seen


def signed(
    emu: Emulator, path: str, body: Any = None, *, method: str = "POST", service: str = "bedrock",
    region: str = "us-east-1", secret: str | None = None, headers: dict[str, str] | None = None,
) -> AWSRequest:  # fmt: skip
    """A request signed by botocore, for `send`; the path is the one on the wire."""
    known = keys(emu)
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = AWSRequest(method, emu.base_url("bedrock") + path, data=data, headers=sent)
    SigV4Auth(Credentials(known["key"], secret or known["secret"]), service, region).add_auth(request)
    return request


def send(request: AWSRequest, **change: Any) -> httpx.Response:
    """Send a request as it was signed, but for the changes."""
    headers = {**dict(request.headers.items()), **change.pop("headers", {})}
    headers = {name: value for name, value in headers.items() if value is not None}
    fields = {"method": request.method, "url": request.url, "content": request.data, **change}
    return httpx.request(**fields, headers=headers, timeout=5)


def converse(emu: Emulator, body: Any, model: str = MAVERICK, verb: str = "converse") -> httpx.Response:
    """A body as it is, with nobody between it and the emulator."""
    return send(signed(emu, f"/model/{model.replace(':', '%3A')}/{verb}", body))


def frames(data: bytes) -> list[EventStreamMessage]:
    """A stream's frames, checksums checked."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


def check_answer(operation: str, answer: httpx.Response, service: str = "bedrock-runtime") -> Any:
    """Parse an answer with botocore, find nothing wrong with it and nothing lost; returns what botocore read."""
    shape = session()._session.get_service_model(service).operation_model(operation).output_shape
    response = {"status_code": 200, "headers": dict(answer.headers), "body": answer.content}
    parsed = create_parser("rest-json").parse(response, shape)
    parsed.pop("ResponseMetadata")
    check_value(shape, parsed)
    lost = _paths(answer.json()) - _paths(json.loads(json.dumps(parsed, default=str)))
    assert {path.rpartition(".")[2] for path in lost} <= BEYOND_THE_MODEL
    return parsed


def check_value(shape: Any, value: Any) -> None:
    """botocore's validator, and what it leaves out: words, patterns and upper bounds."""
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()
    _check_deeper(shape, value)


def _check_deeper(shape: Any, value: Any) -> None:
    if getattr(shape, "is_document_type", False):
        return
    if shape.type_name == "structure":
        for name, part in value.items():
            if name in shape.members:
                _check_deeper(shape.members[name], part)
    elif shape.type_name == "list":
        for part in value:
            _check_deeper(shape.member, part)
    elif shape.type_name == "string":
        assert not getattr(shape, "enum", None) or value in shape.enum, (shape.name, value)
        assert len(value) <= shape.metadata.get("max", len(value)), (shape.name, value)
    elif shape.type_name in ("integer", "long", "float"):
        assert value <= shape.metadata.get("max", value), (shape.name, value)


def _paths(value: Any, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return {at}.union(*[_paths(part, f"{at}.{name}") for name, part in value.items()])
    if isinstance(value, list):
        return {at}.union(*[_paths(part, f"{at}[]") for part in value])
    return {at}
