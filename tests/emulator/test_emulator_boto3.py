"""boto3 as the client of the emulated Bedrock, STS and container credentials: what it reads and raises is right."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import ClientError, CredentialRetrievalError, EventStreamError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.emulator.aws import HELLO, MAVERICK, SCOUT, WEATHER, client, close_clients, events
from urllib3.exceptions import ProtocolError

from llamaroute.emulator import Emulator, Fault, Reply

TOOLS = {"tools": [WEATHER]}
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/caller"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """boto3 finds nothing but what a test gives it, and leaves no connection open."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    yield
    close_clients()


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


# ── Converse ──


@pytest.mark.parametrize(
    "model", [MAVERICK, SCOUT, f"arn:aws:bedrock:us-east-1:{ACCOUNT}:inference-profile/{MAVERICK}",
              f"arn:aws:bedrock:us-east-1:{ACCOUNT}:application-inference-profile/emulated0001"],
)  # fmt: skip
def test_plain(emu: Emulator, model: str) -> None:
    emu.reply("Grüß Gott 🎉", usage=(5, 3))
    answer = client(emu).converse(
        modelId=model, messages=HELLO, system=[{"text": "Be brief."}],
        inferenceConfig={"maxTokens": 50, "temperature": 0.0, "topP": 1.0, "stopSequences": ["END"]},
    )  # fmt: skip
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "Grüß Gott 🎉"}]}
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"] == {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}
    assert answer["metrics"]["latencyMs"] >= 1
    assert answer["ResponseMetadata"]["RequestId"] == answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    assert emu.requests[0].path == f"/model/{model}/converse"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("Hi"), "end_turn"),
        (Reply("one two three four five six seven eight nine ten eleven twelve"), "max_tokens"),
        (Reply("one END two"), "stop_sequence"),
        (Reply(" ", finish_reason="content_filter"), "content_filtered"),
        (Reply(" ", finish_reason="guardrail_intervened"), "guardrail_intervened"),
        (Reply(tool_calls=[("get_weather", {"city": "Oslo"})]), "tool_use"),
    ],
)
def test_stop_reasons(emu: Emulator, reply: Reply, reason: str) -> None:
    emu.reply(reply)
    limits = {"maxTokens": 10, "stopSequences": ["END"]}
    answer = client(emu).converse(modelId=SCOUT, messages=HELLO, toolConfig=TOOLS, inferenceConfig=limits)
    assert answer["stopReason"] == reason


def test_image(emu: Emulator, image_url: str) -> None:
    data = base64.b64decode(image_url.partition(",")[2])
    image = {"image": {"format": "png", "source": {"bytes": data}}}
    answer = client(emu).converse(
        modelId=SCOUT, messages=[{"role": "user", "content": [image, {"text": "What is this?"}]}]
    )
    assert answer["output"]["message"]["content"] == [{"text": "I see 1 image (image/png, 64x48)."}]
    image["image"]["format"] = "jpeg"
    with pytest.raises(ClientError, match="does not match the specified image format") as caught:
        client(emu).converse(modelId=SCOUT, messages=[{"role": "user", "content": [image]}])
    assert code_of(caught) == ("ValidationException", 400)


def test_tools_round_trip(emu: Emulator, image_url: str) -> None:
    """Two calls at once; their results go back in one turn, with an image in one of them."""
    emu.reply(tool_calls=[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"})])
    runtime = client(emu)
    first = runtime.converse(modelId=MAVERICK, messages=HELLO, toolConfig=TOOLS)
    message = first["output"]["message"]
    uses = [block["toolUse"] for block in message["content"]]
    assert [(use["name"], use["input"]) for use in uses] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_weather", {"city": "Bergen"}),
    ]
    assert all(use["toolUseId"].startswith("tooluse_") and len(use["toolUseId"]) == 30 for use in uses)
    assert uses[0]["toolUseId"] != uses[1]["toolUseId"]
    image = {"format": "png", "source": {"bytes": base64.b64decode(image_url.partition(",")[2])}}
    contents = [[{"text": "4 degrees"}, {"image": image}], [{"json": {"degrees": 3}}]]
    results = [
        {"toolResult": {"toolUseId": use["toolUseId"], "content": content, "status": "success"}}
        for use, content in zip(uses, contents, strict=True)
    ]
    emu.reply("It is cold.")
    history = [*HELLO, message, {"role": "user", "content": results}]
    second = runtime.converse(modelId=MAVERICK, messages=history, toolConfig=TOOLS)
    assert second["output"]["message"]["content"] == [{"text": "It is cold."}]
    assert second["usage"]["inputTokens"] > first["usage"]["inputTokens"], "the image and the results count"
    history = [*HELLO, message, {"role": "user", "content": results[:1]}]
    with pytest.raises(ClientError, match=f"messages.2.content for the following Ids: {uses[1]['toolUseId']}"):
        runtime.converse(modelId=MAVERICK, messages=history, toolConfig=TOOLS)


# ── ConverseStream ──


def test_stream(emu: Emulator) -> None:
    emu.reply("Grüß Gott 🎉", usage=(5, 3), chunks=["Grüß ", "Gott 🎉"])
    found = events(client(emu))
    assert found[:-1] == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Grüß "}}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Gott 🎉"}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
    ]
    assert found[-1]["metadata"]["usage"] == {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}


def test_stream_of_an_empty_answer(emu: Emulator) -> None:
    emu.reply("")
    found = events(client(emu))
    assert [next(iter(event)) for event in found] == [
        "messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata",
    ]  # fmt: skip


def test_stream_with_tools() -> None:
    """Refused for Llama; with the quirk, calls come in pieces of JSON, one block each."""
    with Emulator() as emu, pytest.raises(ClientError, match="doesn't support tool use in streaming mode") as caught:
        client(emu).converse_stream(modelId=MAVERICK, messages=HELLO, toolConfig=TOOLS)
    assert code_of(caught) == ("ValidationException", 400)
    with Emulator(quirks=["bedrock-stream-tools"]) as emu:
        emu.reply("Wait.", tool_calls=[("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Ål"})])
        found = events(client(emu), toolConfig=TOOLS)
    starts = [event["contentBlockStart"] for event in found if "contentBlockStart" in event]
    assert [(start["contentBlockIndex"], start["start"]["toolUse"]["name"]) for start in starts] == [
        (1, "get_weather"), (2, "get_weather"),
    ]  # fmt: skip
    arguments: dict[int, str] = {}
    for event in found:
        if "toolUse" in event.get("contentBlockDelta", {}).get("delta", {}):
            delta = event["contentBlockDelta"]
            index = delta["contentBlockIndex"]
            arguments[index] = arguments.get(index, "") + delta["delta"]["toolUse"]["input"]
    assert {index: json.loads(text) for index, text in arguments.items()} == {1: {"city": "Oslo"}, 2: {"city": "Ål"}}
    assert [event["contentBlockStop"]["contentBlockIndex"] for event in found if "contentBlockStop" in event] == [
        0, 1, 2,
    ]  # fmt: skip
    assert {"messageStop": {"stopReason": "tool_use"}} in found


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(error_after=2), "internalServerException"),
        (Fault(error_after=2, code="ModelStreamErrorException"), "modelStreamErrorException"),
        (Fault(error_after=2, code="ValidationException"), "validationException"),
        (Fault(error_after=2, code="ThrottlingException"), "throttlingException"),
        (Fault(error_first=True, status=503), "serviceUnavailableException"),
        (Fault(error_after=2, code="InternalFailure", message="so sorry"), "InternalFailure"),
    ],
)
def test_errors_in_the_stream(emu: Emulator, fault: Fault, code: str) -> None:
    emu.fault(fault)
    seen = []
    with pytest.raises(EventStreamError) as caught:
        events(client(emu), seen)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["Error"]["Message"]
    assert len(seen) == (0 if fault.error_first else 2)
    assert emu.requests[0].status == 200


def test_spoilt_frame(emu: Emulator) -> None:
    emu.fault(garbage=True, garbage_after=2)
    seen = []
    with pytest.raises(ChecksumMismatch):
        events(client(emu), seen)
    assert len(seen) == 2


def test_cut_stream(emu: Emulator) -> None:
    """HTTP's framing gives the cut away; without it botocore ends the stream as if nothing were missing."""
    emu.fault(cut="mid-frame", cut_after=3)
    with pytest.raises(ProtocolError):
        events(client(emu))
    emu.fault(cut="mid-frame", cut_after=3, framing="close")
    found = events(client(emu))
    assert len(found) == 3
    assert not any("messageStop" in event for event in found)


@pytest.mark.parametrize(
    ("fault", "missing"), [(Fault(missing_usage=True), "metadata"), (Fault(no_done=True), "messageStop")]
)
def test_stream_without_an_event(emu: Emulator, fault: Fault, missing: str) -> None:
    emu.fault(fault)
    kinds = [next(iter(event)) for event in events(client(emu))]
    assert missing not in kinds
    assert {"metadata", "messageStop"} - {missing} <= set(kinds)


def test_dribbling_stream(emu: Emulator) -> None:
    emu.reply("Grüß Gott")
    emu.fault(dribble=True)
    found = events(client(emu))
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in found if "contentBlockDelta" in event)
    assert text == "Grüß Gott"


# ── errors and retries ──


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "raised", "retried"),
    [
        (400, None, "ValidationException", False),
        (400, "ServiceQuotaExceededException", "ServiceQuotaExceededException", False),
        (403, None, "AccessDeniedException", False),
        (404, None, "ResourceNotFoundException", False),
        (408, None, "ModelTimeoutException", False),
        (424, None, "ModelErrorException", False),
        (429, None, "ThrottlingException", True),
        (429, "ModelNotReadyException", "ModelNotReadyException", True),
        (500, None, "InternalServerException", True),
        (503, None, "ServiceUnavailableException", True),
    ],
)
def test_errors_and_boto3s_retries(
    emu: Emulator, monkeypatch: pytest.MonkeyPatch, status: int, code: str | None, raised: str, retried: bool,
    stream: bool,
) -> None:  # fmt: skip
    """boto3 finds each error in its model of the service, and retries those that its documentation says it does."""
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=waits.append))
    runtime = client(emu, attempts=3)
    emu.fault(Fault(status=status, code=code), times=3)
    call = runtime.converse_stream if stream else runtime.converse
    with pytest.raises(ClientError) as caught:
        call(modelId=MAVERICK, messages=HELLO)
    assert code_of(caught) == (raised, status)
    assert type(caught.value) is getattr(runtime.exceptions, raised)
    assert caught.value.response["Error"]["Message"]
    assert len(emu.requests) == (3 if retried else 1)
    assert len(waits) == (2 if retried else 0)
    if raised == "ModelErrorException":
        assert caught.value.response["originalStatusCode"] == 500


def test_retried_and_right_in_the_end(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=waits.append))
    emu.fault(status=429, headers={"x-amz-retry-after": "1500"}, times=2)
    emu.reply("Here.")
    answer = client(emu, attempts=3).converse(modelId=MAVERICK, messages=HELLO)
    assert answer["output"]["message"]["content"] == [{"text": "Here."}]
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert all(wait >= 1.5 for wait in waits)
    sent = [request.headers["amz-sdk-request"].rpartition("attempt=")[2] for request in emu.requests]
    assert sent == ["1; max=3", "2; max=3", "3; max=3"]


# ── signatures ──


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException", "does not match the signature you provided"),
        ({"key": "AKIANOBODY"}, "UnrecognizedClientException", "security token included in the request is invalid"),
        ({"token": "made-up"}, "UnrecognizedClientException", "security token included in the request is invalid"),
        ({"region": "eu-west-1"}, "InvalidSignatureException", "scoped to a valid region"),
    ],
)
def test_refused_credentials(emu: Emulator, change: dict[str, str], code: str, words: str) -> None:
    for service, call in (("bedrock-runtime", "converse"), ("bedrock", "list_foundation_models")):
        asked = {"modelId": MAVERICK, "messages": HELLO} if call == "converse" else {}
        with pytest.raises(ClientError, match=words) as caught:
            getattr(client(emu, service, **change), call)(**asked)
        assert code_of(caught) == (code, 403)


def test_unsigned(emu: Emulator) -> None:
    with pytest.raises(ClientError, match="Missing Authentication Token") as caught:
        client(emu, signature_version=UNSIGNED).converse(modelId=MAVERICK, messages=HELLO)
    assert code_of(caught) == ("MissingAuthenticationTokenException", 403)
    with Emulator(keys={"bedrock": None}) as open_to_all:
        answer = client(open_to_all, signature_version=UNSIGNED).converse(modelId=MAVERICK, messages=HELLO)
    assert answer["stopReason"] == "end_turn"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quirks": ["bedrock-clock-ahead"]}, "Signature expired: 20"),
        ({"settings": {"bedrock": {"clock_skew": 400}}}, "Signature expired: 20"),
        ({"settings": {"bedrock": {"clock_skew": -400}}}, "Signature not yet current: 20"),
    ],
)
def test_clocks_apart(options: dict[str, object], words: str) -> None:
    with Emulator(**options) as emu:
        with pytest.raises(ClientError, match=words) as caught:
            client(emu).converse(modelId=MAVERICK, messages=HELLO)
        assert code_of(caught) == ("InvalidSignatureException", 403)
        told = datetime.strptime(
            caught.value.response["ResponseMetadata"]["HTTPHeaders"]["date"], "%a, %d %b %Y %H:%M:%S GMT"
        )
        assert abs((told.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()) > 390, "the Date header tells"
        assert client(emu, "sts", host="aws-sts").get_caller_identity()["Account"] == ACCOUNT, "15 minutes there"


def test_clocks_a_little_apart() -> None:
    with Emulator(settings={"bedrock": {"clock_skew": 250}}) as emu:
        assert client(emu).converse(modelId=MAVERICK, messages=HELLO)["stopReason"] == "end_turn"


# ── temporary credentials ──


def assumed(emu: Emulator, **change: object) -> dict[str, str]:
    sts = client(emu, "sts", host="aws-sts")
    found = sts.assume_role(RoleArn=ROLE, RoleSessionName="tests", **change)
    assert found["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/caller/tests"
    made = found["Credentials"]
    assert len(made["AccessKeyId"]) == 20
    assert len(made["SecretAccessKey"]) == 40
    return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"], "token": made["SessionToken"],
            "expires": made["Expiration"]}  # fmt: skip


def test_assumed_role(emu: Emulator) -> None:
    sts = client(emu, "sts", host="aws-sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/emulator"
    made = assumed(emu, DurationSeconds=900)
    assert abs(made.pop("expires") - datetime.now(UTC) - timedelta(seconds=900)) < timedelta(seconds=30)
    assert client(emu, **made).converse(modelId=MAVERICK, messages=HELLO)["stopReason"] == "end_turn"
    identity = client(emu, "sts", host="aws-sts", **made).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/caller/tests"
    for spoilt in ({"token": None}, {"token": made["token"] + "x"}, {"key": "ASIAOTHER"}):
        with pytest.raises(ClientError) as caught:
            client(emu, **{**made, **spoilt}).converse(modelId=MAVERICK, messages=HELLO)
        assert code_of(caught) == ("UnrecognizedClientException", 403)


def test_expired_and_revoked_sessions() -> None:
    with Emulator(token_life=0.0) as emu:
        made = assumed(emu)
        del made["expires"]
        with pytest.raises(ClientError, match="security token included in the request is expired") as caught:
            client(emu, **made).converse(modelId=MAVERICK, messages=HELLO)
        assert code_of(caught) == ("ExpiredTokenException", 403)
        with pytest.raises(ClientError, match="security token included in the request is expired") as caught:
            client(emu, "sts", host="aws-sts", **made).get_caller_identity()
        assert code_of(caught) == ("ExpiredToken", 403)
    with Emulator() as emu:
        made = assumed(emu)
        del made["expires"]
        emu.revoke_tokens()
        with pytest.raises(ClientError) as caught:
            client(emu, **made).converse(modelId=MAVERICK, messages=HELLO)
        assert code_of(caught) == ("UnrecognizedClientException", 403)


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"RoleArn": "arn:aws:iam::999999999999:role/other"}, "AccessDenied", 403),
        ({"RoleArn": "arn:aws:iam::role/without-account"}, "ValidationError", 400),
        ({"RoleSessionName": "with space"}, "ValidationError", 400),
        ({"DurationSeconds": 899}, "ValidationError", 400),
        ({"DurationSeconds": 43201}, "ValidationError", 400),
    ],
)
def test_refused_roles(emu: Emulator, change: dict[str, object], code: str, status: int) -> None:
    sts = client(emu, "sts", host="aws-sts", parameter_validation=False)
    with pytest.raises(ClientError) as caught:
        sts.assume_role(**{"RoleArn": ROLE, "RoleSessionName": "tests", **change})
    assert code_of(caught) == (code, status)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"secret": "wrong"}, "SignatureDoesNotMatch"), ({"key": "AKIANOBODY"}, "InvalidClientTokenId")],
)
def test_refused_by_sts(emu: Emulator, change: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        client(emu, "sts", host="aws-sts", **change).get_caller_identity()
    assert code_of(caught) == (code, 403)
    with pytest.raises(ClientError) as caught:
        client(emu, "sts", host="aws-sts").get_session_token()
    assert code_of(caught) == ("InvalidAction", 400)


@contextlib.contextmanager
def found_client(emu: Emulator) -> Iterator[Any]:
    """A client whose credentials boto3 finds by itself."""
    fresh = boto3.Session(botocore_session=botocore.session.Session(profile=None))
    once = Config(retries={"total_max_attempts": 1})
    url = emu.base_url("bedrock")
    with contextlib.closing(
        fresh.client("bedrock-runtime", endpoint_url=url, region_name="us-east-1", config=once)
    ) as made:
        yield made


def test_container_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's own chain asks the endpoint, and asks again when the credentials are about to end."""
    with Emulator(keys={"aws-credentials": "the pod's token"}) as emu:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", emu.base_url("aws-credentials") + "/v1/task-role")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the pod's token")
        with found_client(emu) as runtime:
            for _ in range(3):
                assert runtime.converse(modelId=MAVERICK, messages=HELLO)["stopReason"] == "end_turn"
        assert sum(request.host == "aws-credentials" for request in emu.requests) == 1
        assert "/task-role/" in emu.tokens.find(emu.requests[-1].headers["x-amz-security-token"]).subject
        emu.clear()
        emu.tokens.life = 30.0  # boto3 refreshes in the last ten minutes, before each call
        with found_client(emu) as runtime:
            for _ in range(3):
                assert runtime.converse(modelId=MAVERICK, messages=HELLO)["stopReason"] == "end_turn"
        tokens = {request.headers["x-amz-security-token"] for request in emu.requests if request.host == "bedrock"}
        assert len(tokens) == 3
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
        monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
        with pytest.raises(CredentialRetrievalError, match="401"), found_client(emu):
            pass


# ── bearer keys: boto3 sends them over TLS only, so a small tunnel stands in front of the emulator ──


class Tunnel:
    """Takes TLS connections, one after the other, and passes them on to a port."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self.certificate = folder / "tunnel.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.certificate.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with self._context.wrap_socket(plain, server_side=True) as client_side:
                self._serve(client_side)

    def _serve(self, client_side: ssl.SSLSocket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as server_side:
            back = threading.Thread(target=_copy, args=(server_side, client_side), daemon=True)
            back.start()
            _copy(client_side, server_side)
            server_side.shutdown(socket.SHUT_WR)
            back.join()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        return


@pytest.fixture
def tunnel(emu: Emulator, tmp_path: Path) -> Iterator[Tunnel]:
    made = Tunnel(int(emu.url.rpartition(":")[2]), tmp_path)
    yield made
    made.close()


def test_bearer_keys(emu: Emulator, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    def converse(key: str) -> str:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        runtime = boto3.client(
            "bedrock-runtime", endpoint_url=f"https://127.0.0.1:{tunnel.port}/bedrock", region_name="us-east-1",
            verify=str(tunnel.certificate), config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        try:
            return runtime.converse(modelId=MAVERICK, messages=HELLO)["stopReason"]
        finally:
            runtime.close()

    known = emu.key("bedrock")
    assert known is not None
    assert converse(known) == "end_turn"
    assert emu.requests[-1].headers["authorization"] == f"Bearer {known}"
    short = emu.tokens.issue("bedrock", prefix="bedrock-api-key-")
    assert converse(short.text) == "end_turn"
    ended = emu.tokens.issue("bedrock", prefix="bedrock-api-key-", life=0.0)
    for key, words in (
        ("ABSKwrong", "Please make sure your API Key is valid"),
        ("sk-wrong", "Must start with pre-defined prefix"),
        (ended.text, "Bearer Token has expired"),
    ):
        with pytest.raises(ClientError, match=words) as caught:
            converse(key)
        assert code_of(caught) == ("AccessDeniedException", 403)


# ── the control plane ──


def test_foundation_models(emu: Emulator) -> None:
    control = client(emu, "bedrock")
    models = control.list_foundation_models(byProvider="Meta", byOutputModality="TEXT")["modelSummaries"]
    assert [model["modelId"] for model in models] == [SCOUT.removeprefix("us."), MAVERICK.removeprefix("us.")]
    assert models[0]["inferenceTypesSupported"] == ["INFERENCE_PROFILE"]
    assert models[0]["modelLifecycle"] == {"status": "ACTIVE"}
    assert control.list_foundation_models(byProvider="Amazon")["modelSummaries"] == []
    assert control.list_foundation_models(byInferenceType="ON_DEMAND")["modelSummaries"] == []
    one = control.get_foundation_model(modelIdentifier=models[0]["modelId"])["modelDetails"]
    assert one == models[0]
    usable = control.get_foundation_model_availability(modelId=models[0]["modelId"])
    assert usable["authorizationStatus"] == "AUTHORIZED"


def test_inference_profiles(emu: Emulator) -> None:
    control = client(emu, "bedrock", region="us-west-2")
    pages = [page["inferenceProfileSummaries"] for page in
             control.get_paginator("list_inference_profiles").paginate(PaginationConfig={"PageSize": 1})]  # fmt: skip
    assert [len(page) for page in pages] == [1, 1, 1]
    found = control.list_inference_profiles(typeEquals="SYSTEM_DEFINED")["inferenceProfileSummaries"]
    assert [profile["inferenceProfileId"] for profile in found] == [SCOUT, MAVERICK]
    assert found[0]["inferenceProfileArn"] == f"arn:aws:bedrock:us-west-2:{ACCOUNT}:inference-profile/{SCOUT}"
    assert {model["modelArn"].split(":")[3] for model in found[0]["models"]} == {"us-east-1", "us-east-2", "us-west-2"}
    own = control.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"]
    assert len(own) == 1
    for profile in (*found, *own):
        for name in (profile["inferenceProfileId"], profile["inferenceProfileArn"]):
            same = control.get_inference_profile(inferenceProfileIdentifier=name)
            assert {key: same[key] for key in profile} == profile
        answer = client(emu).converse(modelId=profile["inferenceProfileArn"].replace("us-west-2", "us-east-1"),
                                      messages=HELLO)  # fmt: skip
        assert answer["stopReason"] == "end_turn"
    with pytest.raises(control.exceptions.ResourceNotFoundException):
        control.get_inference_profile(inferenceProfileIdentifier="us.meta.llama9")


def test_what_the_account_may_not_do() -> None:
    with Emulator(quirks=["bedrock-control-denied"]) as emu:
        control = client(emu, "bedrock")
        with pytest.raises(control.exceptions.AccessDeniedException, match="bedrock:ListInferenceProfiles because no"):
            control.list_inference_profiles()
        with pytest.raises(control.exceptions.AccessDeniedException, match="perform: bedrock:GetFoundationModel "):
            control.get_foundation_model(modelIdentifier="meta.llama4-scout-17b-instruct-v1:0")
        assert client(emu).converse(modelId=SCOUT, messages=HELLO)["stopReason"] == "end_turn"
    with Emulator(quirks=["bedrock-no-access", "bedrock-legacy"]) as emu:
        with pytest.raises(ClientError, match="You don't have access to the model") as caught:
            client(emu).converse(modelId=SCOUT, messages=HELLO)
        assert code_of(caught) == ("AccessDeniedException", 403)
        control = client(emu, "bedrock")
        name = SCOUT.removeprefix("us.")
        assert control.get_foundation_model_availability(modelId=name)["authorizationStatus"] == "NOT_AUTHORIZED"
        lifecycle = control.list_foundation_models()["modelSummaries"][0]["modelLifecycle"]
        assert lifecycle["status"] == "LEGACY"
        assert lifecycle["endOfLifeTime"].year == 2027


def test_ids_that_lead_nowhere(emu: Emulator) -> None:
    runtime = client(emu)
    bare = SCOUT.removeprefix("us.")
    for name in (bare, f"arn:aws:bedrock:us-east-1::foundation-model/{bare}"):
        with pytest.raises(ClientError) as caught:
            runtime.converse(modelId=name, messages=HELLO)
        assert caught.value.response["Error"]["Message"] == (
            f"Invocation of model ID {bare} with on-demand throughput isn’t supported. Retry your request with the "  # noqa: RUF001
            "ID or ARN of an inference profile that contains this model."
        )
        assert code_of(caught) == ("ValidationException", 400)
    with pytest.raises(ClientError, match="The provided model identifier is invalid") as caught:
        runtime.converse(modelId="eu.meta.llama4-scout-17b-instruct-v1:0", messages=HELLO)
    assert code_of(caught) == ("ValidationException", 400)
    with pytest.raises(runtime.exceptions.ResourceNotFoundException):
        runtime.converse(modelId=f"arn:aws:bedrock:us-east-1:{ACCOUNT}:inference-profile/us.meta.none", messages=HELLO)
    with Emulator(quirks=["bedrock-on-demand"]) as lenient:
        assert client(lenient).converse(modelId=bare, messages=HELLO)["stopReason"] == "end_turn"


def test_many_threads_share_a_client(emu: Emulator) -> None:
    runtime = client(emu, max_pool_connections=8)
    started = time.monotonic()
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(runtime.converse(modelId=SCOUT, messages=HELLO)["stopReason"]))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["end_turn"] * 16
    assert time.monotonic() - started < 10
