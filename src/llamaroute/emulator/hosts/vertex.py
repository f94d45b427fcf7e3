"""Google Vertex AI: Llama 4 as a service (MaaS) on the OpenAI-compatible route, and the control plane that lists
endpoints and models.

Routes: https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/partner-models/llama/use-llama and the
generated clients of google-cloud-aiplatform. No recording of a successful answer for Llama 4 exists: bodies follow what
the service's known clients parse (https://github.com/langchain-ai/langchain-google, https://github.com/vercel/ai,
https://github.com/BerriAI/litellm), errors follow recordings and reports quoted there.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest
from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole, collect
from .base import DONE, Call, Event, new_id
from .google_cloud import VERTEX_TOKEN, GoogleHost
from .openai import OpenAIShaped, RefusedError, Turn
from .vertex_checks import problems
from .vertex_resources import endpoint_resource, page, publisher_model

__all__ = ["Vertex"]

_SCOUT = "meta/llama-4-scout-17b-16e-instruct-maas"
_MAVERICK = "meta/llama-4-maverick-17b-128e-instruct-maas"
_CONTEXT = {_SCOUT: 1_310_720, _MAVERICK: 524_288}
_IN_PROJECT = re.compile(r"/(?:v1|v1beta1)/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/(?P<rest>.+)")
_CHAT = "endpoints/openapi/chat/completions"
_ENDPOINT = re.compile(r"endpoints/(?P<id>[^/:]+)(?P<verb>:(?:predict|rawPredict|streamRawPredict)|/chat/completions)?")
_FILTER = re.compile(r"(?:display_name|displayName)\s*=\s*\"?(?P<name>[^\"]*)\"?")
_PUBLISHER = re.compile(r"/(?:v1|v1beta1)/publishers/(?P<publisher>[^/]+)/models(?:/(?P<model>[^/:]+))?")


class Vertex(GoogleHost, OpenAIShaped):
    """`us-east5-aiplatform.googleapis.com`, under `/vertex`; its paths are served without that prefix, too.

    Quirks that are on: `vertex-empty-without-max-tokens`, `vertex-scout-tools-as-text`, `vertex-array-errors`,
    `vertex-role-in-every-delta`, `vertex-one-chunk-empty`, `vertex-strict-ranges`, `vertex-https-images-refused`,
    `vertex-image-detail-refused`. Off: `vertex-role-missing`, `vertex-bare-tool-deltas`, `vertex-python-tags`,
    `vertex-strict-turns`, `vertex-response-format-refused`, `vertex-not-enabled`, `vertex-api-disabled`.
    """

    name = "vertex"
    base_path = ""
    kind = "vertex"
    default_key = VERTEX_TOKEN
    default_models = (_SCOUT, _MAVERICK)
    default_context = _CONTEXT[_MAVERICK]
    root_paths = ("v1", "v1beta1")
    known_quirks: ClassVar[Mapping[str, bool]] = {
        "vertex-empty-without-max-tokens": True,
        "vertex-scout-tools-as-text": True,
        "vertex-python-tags": False,
        "vertex-array-errors": True,
        "vertex-role-in-every-delta": True,
        "vertex-role-missing": False,
        "vertex-one-chunk-empty": True,
        "vertex-bare-tool-deltas": False,
        "vertex-strict-ranges": True,
        "vertex-strict-turns": False,
        "vertex-https-images-refused": True,
        "vertex-image-detail-refused": True,
        "vertex-response-format-refused": False,
        "vertex-not-enabled": False,
        "vertex-api-disabled": False,
    }

    def provider(self, base_url: str) -> dict[str, Any]:
        settings = {"kind": self.kind, "base_url": base_url}
        settings |= {"project": self.setting("project"), "region": self.setting("region")}
        return settings if self.key is None else {**settings, "access_token": self.key}

    # ── routes ──

    def is_inference(self, request: RecordedRequest) -> bool:
        match = _IN_PROJECT.fullmatch(request.path)
        return match is not None and match["rest"] == _CHAT

    def wraps_errors(self, request: RecordedRequest) -> bool:
        return self.is_inference(request) and self.quirk("vertex-array-errors")

    def rpc(self, request: RecordedRequest) -> str:
        version, _, rest = request.path.lstrip("/").partition("/")
        last = rest.rpartition("/")[2]
        if rest.startswith("publishers/"):
            method = "ModelGardenService." + ("ListPublisherModels" if last == "models" else "GetPublisherModel")
        elif last == "completions":
            method = "PredictionService.ChatCompletions"
        elif ":" in last:
            verb = last.partition(":")[2]
            method = f"PredictionService.{verb[:1].upper()}{verb[1:]}"
        else:
            method = "EndpointService." + ("ListEndpoints" if last == "endpoints" else "GetEndpoint")
        return f"google.cloud.aiplatform.{version}.{method}"

    async def handle(self, call: Call) -> Answer:
        request = call.request
        in_project, publisher = _IN_PROJECT.fullmatch(request.path), _PUBLISHER.fullmatch(request.path)
        rest = in_project["rest"] if in_project else ""
        endpoint = _ENDPOINT.fullmatch(rest)
        posts = rest == _CHAT or (endpoint is not None and endpoint["verb"] is not None)
        known = publisher is not None or rest == "endpoints" or endpoint is not None or posts
        if not known or request.method != ("POST" if posts else "GET"):
            return self.no_such_page(request)
        try:
            self.authenticate(request)
            self.check_quota_project(request)
            self._check_api(request)
            if publisher is not None:
                return self._publisher_models(request, publisher["publisher"], publisher["model"])
            assert in_project is not None
            if not self.is_project(in_project["project"]):
                verb = "predict" if posts else "get" if endpoint else "list"
                raise self.denied(request, f"aiplatform.endpoints.{verb}", request.path.split("/", 2)[2])
            if rest == _CHAT:
                body = self.read_body(request)
                self._check_model(request, in_project["region"], body)
                return await self.chat(call, body)
            return self._endpoints(request, in_project["region"], endpoint)
        except RefusedError as refused:
            return refused.answer

    def _check_api(self, request: RecordedRequest) -> None:
        if self.quirk("vertex-api-disabled"):
            number = self.setting("project_number")
            console = "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview"
            text = (
                f"Vertex AI API has not been used in project {number} before or it is disabled. Enable it by visiting "
                f"{console}?project={number} then retry. If you enabled this API recently, wait a few minutes for the "
                "action to propagate to our systems and retry."
            )
            consumer = f"projects/{number}"
            raise RefusedError(self.google_error(request, 403, text, reason="SERVICE_DISABLED", consumer=consumer))

    def _check_model(self, request: RecordedRequest, region: str, body: Mapping[str, Any]) -> None:
        model = body.get("model")
        publisher, slash, own = model.partition("/") if isinstance(model, str) else ("", "", "")
        if not slash or not publisher or not own or "/" in own:
            text = (
                f"Malformed publisher model (`model`: '{model or ''}') for the 'openapi' request endpoint ID; expected "
                "'<publisher>/<model>'."
            )
            raise RefusedError(self.google_error(request, 400, text))
        place = f"projects/{self.setting('project_number')}/locations/{region}/publishers/{publisher}/models/{own}"
        if model not in self.models or region != self.setting("region"):
            text = (
                f"Publisher Model `{place}` was not found or your project does not have access to it. Please ensure "
                "you are using a valid model version. For more information, see: "
                "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
            )
            raise RefusedError(self.google_error(request, 404, text))
        if self.quirk("vertex-not-enabled"):
            text = f"Project `{self.setting('project_number')}` is not allowed to use Publisher Model `{place}`"
            raise RefusedError(self.google_error(request, 400, text, name="FAILED_PRECONDITION"))

    # ── the control plane ──

    def _json(self, value: Mapping[str, Any]) -> Answer:
        headers = {"content-type": "application/json; charset=UTF-8", **self.google_headers()}
        return Answer(200, headers, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())

    def _publisher_models(self, request: RecordedRequest, publisher: str, model: str | None) -> Answer:
        # The list is the same whichever region is asked, also where a model can't be called.
        if model is None:
            wanted = [name for name in self.models if publisher in ("*", "-", name.partition("/")[0])]
            return self._json(page("publisherModels", [publisher_model(name) for name in wanted], request.query))
        name, _, version = model.partition("@")
        if f"{publisher}/{name}" not in self.models or version not in ("", "001"):
            text = f"Publisher Model `publishers/{publisher}/models/{model}` is not found."  # inferred
            return self.google_error(request, 404, text)
        return self._json(publisher_model(f"{publisher}/{name}"))

    def _endpoints(self, request: RecordedRequest, region: str, one: re.Match[str] | None) -> Answer:
        there: Mapping[str, Mapping[str, Any]] = self.setting("endpoints")
        if region != self.setting("region"):
            there = {}
        if one is None:
            found = [self._endpoint(request, name) for name in there]
            if wanted := request.query.get("filter"):
                match = _FILTER.fullmatch(wanted)
                if match is None:
                    return self.google_error(request, 400, f"The emulator knows no filter but display_name: {wanted}")
                found = [one for one in found if one["displayName"] == match["name"]]
            return self._json(page("endpoints", found, request.query))
        if one["id"] not in there:
            parent = f"projects/{self.setting('project_number')}/locations/{region}"
            text = f"The Endpoint does not exist: {parent}/endpoints/{one['id']}"  # inferred
            return self.google_error(request, 404, text)
        resource = self._endpoint(request, one["id"])
        if one["verb"] is None:
            return self._json(resource)
        dns = resource.get("dedicatedEndpointDns")
        if dns is None:
            text = "The emulator serves deployed models on dedicated endpoints only."
            return self.google_error(request, 501, text)
        text = (
            "Dedicated Endpoint cannot be accessed through the shared Vertex AI domain aiplatform.googleapis.com. "
            f"Please access the endpoint using its dedicated domain name '{dns}'"
        )
        return self.google_error(request, 400, text, name="FAILED_PRECONDITION")

    def _endpoint(self, request: RecordedRequest, endpoint: str) -> dict[str, Any]:
        changes = self.setting("endpoints")[endpoint]
        return endpoint_resource(self.endpoint_name(endpoint), self.dedicated_dns(request, endpoint), changes)

    # ── the request ──

    def read_body(self, request: RecordedRequest) -> dict[str, Any]:
        if len(request.body) > self.options.max_body:
            text = f"Request payload size exceeds the limit: {self.options.max_body} bytes."
            raise RefusedError(self.google_error(request, 400, text))
        return super().read_body(request)

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        return self.google_error(request, 400, "Invalid JSON payload received. Unexpected token.")

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        return str(body["model"])

    def check_types(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        """Types, ranges and messages are checked together, before anything is read from them."""
        found = problems(
            body,
            ranges=self.quirk("vertex-strict-ranges"),
            turns=self.quirk("vertex-strict-turns"),
            https=not self.quirk("vertex-https-images-refused"),
            detail=not self.quirk("vertex-image-detail-refused"),
            formats=not self.quirk("vertex-response-format-refused"),
        )
        if (first := next(found, None)) is not None:
            raise RefusedError(self.google_error(request, 400, first))

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        room = self.options.context.get(self.name) or _CONTEXT.get(str(body["model"]), self.context)
        if prompt.tokens > room:
            text = f"The input token count ({prompt.tokens}) exceeds the maximum number of tokens allowed ({room})."
            raise RefusedError(self.google_error(request, 400, text))

    # ── the answer ──

    async def chat(self, call: Call, body: dict[str, Any]) -> Answer:
        generate = call.generate
        limited = body.get("max_tokens") is not None or body.get("max_completion_tokens") is not None

        async def as_served(prompt: Prompt) -> AsyncIterator[Piece]:
            pieces = await generate(prompt)
            if not limited and self.quirk("vertex-empty-without-max-tokens"):
                return _nothing_said(pieces)
            tags = self.quirk("vertex-python-tags")
            scout = "scout" in str(body["model"]) and self.quirk("vertex-scout-tools-as-text")
            return _calls_as_text(pieces, tags=tags) if tags or scout else pieces

        call.generate = as_served
        return await super().chat(call, body)

    def completion_id(self) -> str:
        return new_id(22)

    def finish(self, turn: Turn, end: End, has_calls: bool) -> str:
        # The service's own spelling, seen with Llama Guard in front of Llama 3.x.
        return "content_filtered" if end.reason == "content_filter" else end.reason

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        return {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
            "total_tokens": total,
        }

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": whole.text or (None if whole.calls else "")}
        return {**message, "tool_calls": self.tool_calls(whole)} if whole.calls else message

    def choice(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        finish = self.finish(turn, whole.end, bool(whole.calls))
        return {"index": 0, "message": self.message(turn, whole), "finish_reason": finish, "logprobs": None}

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        head = {"id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model}
        return {
            **head,
            "system_fingerprint": "",
            "choices": [self.choice(turn, whole)],
            "usage": self.usage(whole.end),
        }

    # ── the stream ──

    def chunk(self, turn: Turn, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model}
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return {**head, "system_fingerprint": "", "choices": choices, **more}

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        ids: list[str] = []
        held: list[CallStart | CallArgs] = []
        first = True

        def delta(**fields: Any) -> dict[str, Any]:
            nonlocal first
            shown = not self.quirk("vertex-role-missing") and (first or self.quirk("vertex-role-in-every-delta"))
            first = False
            return {"role": "assistant", **fields} if shown else fields

        async for piece in pieces:
            match piece:
                case Text(text=text):
                    yield self.chunk(turn, delta(content=text))
                case CallStart() | CallArgs() if self.quirk("vertex-bare-tool-deltas"):
                    held.append(piece)
                    ids.append("")
                case CallStart(index=index, name=name):
                    ids.append(self.tool_id(index))
                    yield self.chunk(turn, delta(**self.call_delta(index, ids[index], name)))
                case CallArgs(index=index, text=text):
                    yield self.chunk(turn, delta(**self.args_delta(index, ids[index], text)))
                case End():
                    for tool_call in await _bare_calls(held):
                        yield self.chunk(turn, delta(tool_calls=[tool_call]))
                    if first and not self.quirk("vertex-one-chunk-empty"):
                        yield self.chunk(turn, delta(content=""))
                    yield self.chunk(turn, delta(content=""), self.finish(turn, piece, bool(ids)))
                    if turn.include_usage:
                        yield self.chunk(turn, None, usage=self.usage(piece))
        yield DONE

    # ── errors ──

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None,
    ) -> Answer:  # fmt: skip
        return self.google_error(request, status, message)

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        reasons = {401: "ACCESS_TOKEN_EXPIRED", 403: "IAM_PERMISSION_DENIED"}
        return self.google_error(request, status, message, name=code if isinstance(code, str) else None,
                                 reason=reasons.get(status))  # fmt: skip

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        # inferred: the route's errors are arrays, and so is one that comes late
        return [json.dumps(json.loads(self.error(request, status, message, code).body), ensure_ascii=False)]


async def _nothing_said(pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """An answer without a word, as the service gives it when the request sets no output limit."""
    async for piece in pieces:
        if isinstance(piece, End):
            yield End("stop", piece.prompt_tokens, 0)


async def _calls_as_text(pieces: AsyncIterator[Piece], *, tags: bool) -> AsyncIterator[Piece]:
    """Tool calls as the model wrote them, for want of a parser on the server."""
    held: list[CallStart | CallArgs] = []
    async for piece in pieces:
        match piece:
            case CallStart() | CallArgs():
                held.append(piece)
            case End(reason=reason):
                calls = (await _whole(held)).calls
                if calls:
                    named = (f'{{"name": {json.dumps(call.name)}, "parameters": {call.arguments}}}' for call in calls)
                    text = "\n".join(named)
                    yield Text(f"<|python_start|>{text}<|python_end|>" if tags else text)
                ended = "stop" if reason == "tool_calls" else reason
                yield End(ended, piece.prompt_tokens, piece.completion_tokens, piece.cached_tokens, piece.stop_sequence)
            case Text():
                yield piece


async def _whole(pieces: Sequence[Piece]) -> Whole:
    async def source() -> AsyncIterator[Piece]:
        for piece in pieces:
            yield piece

    return await collect(source())


async def _bare_calls(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """Whole calls in a form without id and index."""
    calls = (await _whole(pieces)).calls
    return [{"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
