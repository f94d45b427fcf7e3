"""Amazon Bedrock: Converse and ConverseStream, and the part of the control plane that lists models and profiles.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and API_runtime_ConverseStream.html;
bodies and events as recorded from us.meta.llama4-maverick and others
(pydantic/pydantic-ai:tests/models/cassettes/test_bedrock/, Arize-ai/openinference:js/packages/
openinference-instrumentation-bedrock/test/recordings/).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, dumps
from ..script import CallArgs, CallStart, End, Fault, Piece, Text, collect
from .base import Call, Event, Host, Options, new_id, request_uuid
from .bedrock_checks import LLAMA_MAX_TOKENS, check, check_llama, read
from .bedrock_frames import error_frame, event_frame, exception_frame, padding, spoilt
from .bedrock_models import PROFILES, Directory
from .bedrock_shapes import BadRequestError, check_shape, without_nulls
from .bedrock_sigv4 import ACCESS_KEY_ID, ACCOUNT, SECRET_ACCESS_KEY, Caller, SignatureError, verify

__all__ = ["AwsHost", "Bedrock"]

_CONVERSE = re.compile(r"/model/(?P<model>.+)/(?P<verb>converse|converse-stream)")
_CONTROL = re.compile(r"/(?P<kind>foundation-models|inference-profiles|foundation-model-availability)(?:/(?P<id>.+))?")
_SERVICE = "http://internal.amazon.com/coral/com.amazon.bedrock/"
_FRONT = "http://internal.amazon.com/coral/com.amazon.coral.service/"
_STREAM = "application/vnd.amazon.eventstream"
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}
_PAGE = 1000
# Status -> type and text; texts of 408, 424 and 429 are inferred.
_FAULTS: dict[int, tuple[str, str]] = {
    400: ("ValidationException", "The provided request is not valid"),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: ("ResourceNotFoundException", "The specified resource was not found."),
    408: ("ModelTimeoutException", "The request took too long to process. Processing time exceeded the model timeout."),
    424: ("ModelErrorException", "The request failed due to an error while processing the model."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: (
        "InternalServerException",
        "The system encountered an unexpected error during processing. Try your request again.",
    ),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_KINDS: dict[str, str] = {
    "ModelNotReadyException": "The model is not ready for inference requests. Try again later.",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "ModelStreamErrorException": "Model has timed out in processing the request. Try your request again.",
    "ExpiredTokenException": "The security token included in the request is expired",
    "UnrecognizedClientException": "The security token included in the request is invalid.",
}
# Long-term and short-term keys (https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html).
_KEY_PREFIXES = ("ABSK", "bedrock-api-key-")


class _BearerError(Exception):
    """A bearer key is refused, by another layer than signatures: it writes `Message` with a capital letter."""


class AwsHost(Host):
    """What AWS's hosts have in common: the clock, and signatures.

    Settings, for all of them under `bedrock`: `clock_skew`, the seconds that the host's clock is ahead.
    """

    settings_host = "bedrock"
    known_settings: ClassVar[Mapping[str, Any]] = {"clock_skew": 0.0}

    def now(self) -> float:
        """The host's clock."""
        return time.time() + float(self.setting("clock_skew"))

    def headers(self) -> dict[str, str]:
        """Headers of every answer."""
        return {"date": formatdate(self.now(), usegmt=True), "x-amzn-requestid": request_uuid()}

    def is_inference(self, request: RecordedRequest) -> bool:
        return False

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return [self.error(request, status, message, code).body]


class Bedrock(AwsHost):
    """`bedrock-runtime.<region>.amazonaws.com` and `bedrock.<region>.amazonaws.com` in one, under `/bedrock`.

    Let in: requests signed with `access_key_id` or with credentials from `aws-sts` and `aws-credentials`, the bearer
    key, and short-term keys from `emulator.tokens.issue("bedrock", prefix="bedrock-api-key-")`.
    `keys={"bedrock": None}` lets everybody in.

    Quirks: `bedrock-llama-rules` (what Meta's models refuse), `bedrock-stream-tools` (tools in streams),
    `bedrock-on-demand` (ids without a profile can be called), `bedrock-unknown-members` (members that the API does
    not have are refused), `bedrock-padding` (`p` in events), `bedrock-server-tool-usage` (in `usage`),
    `bedrock-string-numbers` (numbers in a call's arguments come as text), `bedrock-capital-message` (`Message` in
    errors, as gateways have it), `bedrock-no-access` (the account may not use the models), `bedrock-control-denied`
    (it may not list them), `bedrock-legacy` (the models are on their way out), `bedrock-clock-ahead` (by ten
    minutes).
    """

    name = "bedrock"
    kind = "bedrock"
    access_key_id: ClassVar[str] = ACCESS_KEY_ID
    secret_access_key: ClassVar[str] = SECRET_ACCESS_KEY
    region: ClassVar[str] = "us-east-1"
    default_key = "ABSKemulator0000000000000000000000000000"
    default_models = PROFILES
    default_context = 1_048_576
    known_quirks: ClassVar[Mapping[str, bool]] = {
        "bedrock-llama-rules": True, "bedrock-stream-tools": False, "bedrock-on-demand": False,
        "bedrock-unknown-members": True, "bedrock-padding": True, "bedrock-server-tool-usage": True,
        "bedrock-string-numbers": False, "bedrock-capital-message": False, "bedrock-no-access": False,
        "bedrock-control-denied": False, "bedrock-legacy": False, "bedrock-clock-ahead": False,
    }  # fmt: skip

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.directory = Directory(self.models, legacy=self.quirk("bedrock-legacy"))

    def now(self) -> float:
        return super().now() + (600.0 if self.quirk("bedrock-clock-ahead") else 0.0)

    def provider(self, base_url: str) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base_url": base_url,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }

    def is_inference(self, request: RecordedRequest) -> bool:
        return _CONVERSE.fullmatch(request.path) is not None

    # ── routes ──

    async def handle(self, call: Call) -> Answer:
        request = call.request
        try:
            caller = self._caller(request)
            if request.method == "POST" and (asked := _CONVERSE.fullmatch(request.path)):
                return await self._converse(call, asked["model"], streams=asked["verb"] == "converse-stream")
            if request.method == "GET" and (found := _CONTROL.fullmatch(request.path)):
                return self._control(request, caller, found["kind"], found["id"])
        except SignatureError as refused:
            return self._refusal(403, refused.kind, refused.message, _FRONT)
        except _BearerError as refused:
            return self._refusal(403, "AccessDeniedException", str(refused), _FRONT, capital=True)
        except BadRequestError as refused:
            return self._refusal(refused.status, refused.kind, refused.message)
        return self._refusal(404, "UnknownOperationException", None, _FRONT)

    def _caller(self, request: RecordedRequest) -> Caller:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if self.key is not None and scheme.lower() != "bearer":
            return verify(request, self.options.tokens, service="bedrock", minutes=5, now=self.now())
        key = sent.strip()
        state = self.options.tokens.state(key, self.name)
        if self.key is not None and key != self.key and state != "valid":
            if not key.startswith(_KEY_PREFIXES):
                raise _BearerError("Invalid API Key format: Must start with pre-defined prefix")
            if state == "expired":
                raise _BearerError("Bearer Token has expired")
            raise _BearerError("Authentication failed: Please make sure your API Key is valid.")
        return Caller("", f"arn:aws:iam::{ACCOUNT}:user/emulator", self.region)

    def _control(self, request: RecordedRequest, caller: Caller, kind: str, name: str | None) -> Answer:
        if self.quirk("bedrock-control-denied"):
            action = {"foundation-models": "FoundationModel", "inference-profiles": "InferenceProfile"}.get(
                kind, "FoundationModelAvailability"
            )
            verb = f"List{action}s" if name is None else f"Get{action}"
            text = f"User: {caller.arn} is not authorized to perform: bedrock:{verb} because no identity-based policy"
            raise BadRequestError(f"{text} allows the bedrock:{verb} action", "AccessDeniedException", 403)
        if kind == "foundation-models":
            return self._models(request, caller.region, name)
        if kind == "inference-profiles":
            return self._profiles(request, caller.region, name)
        return self._availability(name)

    def _models(self, request: RecordedRequest, region: str, name: str | None) -> Answer:
        models = self.directory.models(region)
        if name is not None:
            for model in models:
                if name in (model["modelId"], model["modelArn"]):
                    return self._answer({"modelDetails": model})
            raise BadRequestError("The provided model identifier is invalid.")
        kept = [model for model in models if _wanted(model, request.query)]
        return self._answer({"modelSummaries": kept})

    def _profiles(self, request: RecordedRequest, region: str, name: str | None) -> Answer:
        if name is not None:
            profile = self.directory.profile(region, name)
            if profile is None:
                raise BadRequestError(f"Inference profile {name} not found", "ResourceNotFoundException", 404)
            return self._answer(profile)
        wanted = request.query.get("type")
        found = [profile for profile in self.directory.profiles(region) if wanted in (None, profile["type"])]
        try:
            start, size = int(request.query.get("nextToken", "0")), int(request.query.get("maxResults", _PAGE))
        except ValueError:
            raise BadRequestError("The provided token is invalid.") from None
        page: dict[str, Any] = {"inferenceProfileSummaries": found[start : start + size]}
        if start + size < len(found):
            page["nextToken"] = str(start + size)
        return self._answer(page)

    def _availability(self, name: str | None) -> Answer:
        """Whether the account may use a model: members as in API_GetFoundationModelAvailability."""
        model = self.directory.bare(name or "")
        if model is None:
            raise BadRequestError("The provided model identifier is invalid.")
        denied = self.quirk("bedrock-no-access")
        return self._answer({
            "agreementAvailability": {"status": "NOT_AVAILABLE" if denied else "AVAILABLE"},
            "authorizationStatus": "NOT_AUTHORIZED" if denied else "AUTHORIZED",
            "entitlementAvailability": "NOT_AVAILABLE" if denied else "AVAILABLE",
            "modelId": model,
            "regionAvailability": "AVAILABLE",
        })  # fmt: skip

    # ── Converse ──

    async def _converse(self, call: Call, model: str, *, streams: bool) -> Answer:
        started = time.monotonic()
        request = call.request
        if len(request.body) > self.options.max_body:
            raise BadRequestError("Request size too large", "RequestEntityTooLargeException", 413)  # text invented
        try:
            body = json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            raise BadRequestError("Could not parse request body as JSON", "SerializationException") from None
        target = self._target(model)
        check_shape(body, refuse_unknown=self.quirk("bedrock-unknown-members"))
        body = without_nulls(body)
        is_llama = "meta.llama" in target
        check(body, target)
        if is_llama and self.quirk("bedrock-llama-rules"):
            check_llama(body, streams=streams, stream_tools=self.quirk("bedrock-stream-tools"))
        prompt = read(body, default_max_tokens=LLAMA_MAX_TOKENS if is_llama else None)
        if prompt.tokens > self.context:
            raise BadRequestError("The model returned the following errors: Input is too long for requested model.")
        pieces = await call.generate(prompt)
        tier = {"serviceTier": body["serviceTier"]} if "serviceTier" in body else {}
        if streams:
            return self.stream(call, self._events(pieces, started, tier), {})
        whole = await collect(pieces)
        content: list[dict[str, Any]] = [{"text": whole.text}] if whole.text or not whole.calls else []
        for made in whole.calls:
            use = {"input": self._arguments(made.arguments), "name": made.name, "toolUseId": _call_id()}
            content.append({"toolUse": use})
        answer: dict[str, Any] = {
            "metrics": {"latencyMs": _milliseconds(started)},
            "output": {"message": {"content": content, "role": "assistant"}},
            **tier,
            "stopReason": _reason(whole.end),
        }
        if call.wants_usage:
            answer["usage"] = self._usage(whole.end)
        return self._answer(answer)

    def _target(self, model: str) -> str:
        """The model that answers; refuses names that lead nowhere."""
        directory = self.directory
        target = directory.target(model)
        if target is None and (bare := directory.bare(model)) is not None:
            if not self.quirk("bedrock-on-demand"):
                text = f"Invocation of model ID {bare} with on-demand throughput isn’t supported."  # noqa: RUF001
                remedy = "Retry your request with the ID or ARN of an inference profile that contains this model."
                raise BadRequestError(f"{text} {remedy}")
            target = bare
        if target is None and directory.is_arn(model):
            # That an unknown ARN is a 404 is inferred from the API's list of errors, and so is the text.
            raise BadRequestError("The specified resource was not found.", "ResourceNotFoundException", 404)
        if target is None:
            raise BadRequestError("The provided model identifier is invalid.")
        if self.quirk("bedrock-no-access"):
            kind, text = _FAULTS[403]
            raise BadRequestError(text, kind, 403)
        return target

    def _arguments(self, text: str) -> Any:
        """A call's arguments as the JSON value that goes on the wire; what is no JSON stays text."""
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if self.quirk("bedrock-string-numbers") and isinstance(value, dict):
            return {
                name: str(part) if isinstance(part, int | float) and not isinstance(part, bool) else part
                for name, part in value.items()
            }
        return value

    def _usage(self, end: End) -> dict[str, Any]:
        usage: dict[str, Any] = {"inputTokens": end.prompt_tokens, "outputTokens": end.completion_tokens}
        if end.cached_tokens:
            usage = {"cacheReadInputTokens": end.cached_tokens, **usage}
        if self.quirk("bedrock-server-tool-usage"):
            usage["serverToolUsage"] = {}
        return {**usage, "totalTokens": end.prompt_tokens + end.completion_tokens}

    # ── the stream ──

    async def _events(
        self, pieces: AsyncIterator[Piece], started: float, tier: Mapping[str, Any]
    ) -> AsyncIterator[Event]:
        """Events as `{type: payload}`. Text blocks have no start event; calls do."""
        index, is_open = 0, False
        yield {"messageStart": {"role": "assistant"}}
        async for piece in pieces:
            match piece:
                case Text(text=text):
                    is_open = True
                    yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": text}}}
                case CallStart(name=name):
                    if is_open:
                        yield {"contentBlockStop": {"contentBlockIndex": index}}
                        index += 1
                    is_open = True
                    start = {"toolUse": {"name": name, "toolUseId": _call_id()}}
                    yield {"contentBlockStart": {"contentBlockIndex": index, "start": start}}
                case CallArgs(text=text):
                    yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"toolUse": {"input": text}}}}
                case End():
                    if not is_open:  # an empty answer, as recorded from another model: an empty piece of text
                        yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": ""}}}
                    yield {"contentBlockStop": {"contentBlockIndex": index}}
                    yield {"messageStop": {"stopReason": _reason(piece)}}
                    metrics = {"latencyMs": _milliseconds(started)}
                    yield {"metadata": {"metrics": metrics, **tier, "usage": self._usage(piece)}}

    def stream(self, call: Call, events: AsyncIterator[Event], headers: Mapping[str, str]) -> Answer:
        """An event stream; its frames are binary, whatever type the caller thought of."""
        return Answer(200, {**self.headers(), "content-type": _STREAM}, frames=self._frames(call, events))

    async def _frames(self, call: Call, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """Frames, with the faults that binary streams can have (there are no comments and no line ends)."""
        fault = call.fault or Fault()
        count = 0
        error_at = 0 if fault.error_first else fault.error_after
        async for event in events:
            if error_at is not None and count >= error_at:
                break
            kind, payload = _event(event)
            if (kind == "metadata" and fault.missing_usage) or (kind == "messageStop" and fault.no_done):
                continue
            shown = {**payload, "p": padding()} if self.quirk("bedrock-padding") else payload
            data = event_frame(kind, shown)
            yield spoilt(data) if fault.garbage and count == fault.garbage_after else data
            count += 1
        if error_at is not None:
            for event in self.stream_error(call.request, fault.status or 500, fault.message, fault.code):
                assert isinstance(event, bytes)
                yield event

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        """An exception frame; a code that is no `...Exception` gives an error frame."""
        kind, text = self._fault(status, code)
        if not kind.endswith("Exception"):
            return [error_frame(kind, message or text)]
        payload: dict[str, Any] = {"message": message or text}
        if kind == "ModelStreamErrorException":
            payload |= {"originalMessage": text, "originalStatusCode": 500}
        return [exception_frame(kind[0].lower() + kind[1:], payload)]

    # ── answers ──

    def _answer(self, payload: Mapping[str, Any]) -> Answer:
        return Answer(200, {**self.headers(), "content-type": "application/json"}, dumps(payload))

    def _refusal(
        self, status: int, kind: str, message: str | None, origin: str = _SERVICE, *, capital: bool = False
    ) -> Answer:
        headers = {**self.headers(), "content-type": "application/json", "x-amzn-errortype": f"{kind}:{origin}"}
        name = "Message" if capital or self.quirk("bedrock-capital-message") else "message"
        body: dict[str, Any] = {} if message is None else {name: message}
        if kind == "ModelErrorException":
            body |= {"originalStatusCode": 500, "resourceName": "model"}
        return Answer(status, headers, dumps(body))

    @staticmethod
    def _fault(status: int, code: int | str | None) -> tuple[str, str]:
        """Type and text of an error."""
        kind, text = _FAULTS.get(status, _FAULTS[500])
        if code is None:
            return kind, text
        known = dict(_FAULTS.values()) | _KINDS
        return str(code), known.get(str(code), text)

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        kind, text = self._fault(status, code)
        origin = _FRONT if kind in ("ExpiredTokenException", "UnrecognizedClientException") else _SERVICE
        return self._refusal(status, kind, message or text, origin)


def _event(event: Event) -> tuple[str, dict[str, Any]]:
    assert isinstance(event, dict)
    ((kind, payload),) = event.items()
    return kind, payload


def _wanted(model: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether a foundation model passes the filters of ListFoundationModels."""
    if query.get("byProvider", model["providerName"]).lower() != model["providerName"].lower():
        return False
    lists = {
        "byOutputModality": "outputModalities",
        "byInferenceType": "inferenceTypesSupported",
        "byCustomizationType": "customizationsSupported",
    }
    return all(query[name] in model[member] for name, member in lists.items() if name in query)


def _call_id() -> str:
    return "tooluse_" + new_id(22)


def _reason(end: End) -> str:
    if end.reason == "stop" and end.stop_sequence is not None:
        return "stop_sequence"
    return _REASONS.get(end.reason, end.reason)


def _milliseconds(started: float) -> int:
    return max(1, round((time.monotonic() - started) * 1000))
