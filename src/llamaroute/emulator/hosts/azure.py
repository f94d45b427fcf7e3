"""Azure AI Foundry: `/openai/v1`, the Model Inference API (`/models`), and serverless deployments of one model.

https://learn.microsoft.com/azure/foundry/foundry-models/concepts/endpoints and the specification in
https://github.com/Azure/azure-rest-api-specs (specification/ai/ModelInference). Foundry documents Llama 4 without tools
and with text as its only format, so both are ignored unless a quirk says otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole
from .azure_checks import SPEC_FIELDS, extra_problem, forbidden, problems
from .azure_control import project_deployments
from .azure_shapes import (
    MAVERICK,
    REGION,
    SCOUT,
    base_model,
    basic_headers,
    custom_headers,
    filter_results,
    prompt_filters,
    rate_headers,
    served_headers,
    window,
)
from .base import DONE, Call, Event, new_id
from .entra import sent_bearer
from .openai import OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["Azure", "AzureModels", "AzureServerless"]

_HEX = "0123456789abcdef"
_API_VERSIONS = ("2024-05-01-preview", "2025-04-01")
_V1_VERSIONS = ("v1", "preview", "latest")
_DEPLOYMENT = re.compile(r"/openai/deployments/(?P<name>[^/]+)/chat/completions")
_PROJECT = re.compile(r"/api/projects/(?P<project>[^/]+)/deployments(?:/(?P<name>[^/]+))?")
_POLICY = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)
_TOO_MANY_IMAGES = "At most 1 image(s) may be provided in one request."
# Quirks of all three hosts, without the host's name in front. docs/emulator.md says what each does.
_QUIRKS: dict[str, bool] = {
    "tools": False, "tools-refused": False, "formats": False, "many-images": False, "filters": True,
    "stream-filters": False, "filter-flat": False, "blocked-without-message": True, "usage-on-finish": False,
    "flat-backend-errors": False, "long-prompt-429": False, "retry-after-ms-zero": True,
}  # fmt: skip
_EXTRA_QUIRKS = {"stream-options-refused": False, "lenient-extra": False, "extra-forbidden": False}


def _quirks(host: str, **change: bool) -> dict[str, bool]:
    known = {**_QUIRKS, **{name.replace("_", "-"): on for name, on in change.items()}}
    return {f"{host}-{name}": on for name, on in known.items()}


class _AzureShaped(OpenAIShaped):
    """What the three hosts share: keys and tokens, filters, errors of the gateway and of the backend behind it."""

    base_path = ""
    kind = "azure"
    default_key = "emulatorAzureKey00000000000000000000"
    default_models: ClassVar[Sequence[str]] = (MAVERICK, SCOUT)
    audiences: ClassVar[Sequence[str]] = ()

    def own(self, quirk: str) -> bool:
        """Whether this host's quirk of that name is on."""
        return self.quirk(f"{self.name}-{quirk}")

    # ── who asks ──

    def bearer_ok(self, request: RecordedRequest) -> bool:
        sent = request.headers.get("api-key")
        if self.key is None or sent == self.key:
            return True
        token = sent_bearer(request)
        # A wrong api-key is not saved by a token beside it (inferred).
        return sent is None and token is not None and (token == self.key or self._token_ok(token))

    def _token_ok(self, token: str) -> bool:
        return any(self.options.tokens.valid(token, audience) for audience in self.audiences)

    def unauthorized(self, request: RecordedRequest) -> Answer:
        if "api-key" in request.headers or sent_bearer(request) is None:
            body: dict[str, Any] = {"error": {"code": "401", "message": _WRONG_KEY}}
        else:  # word for word in https://github.com/Azure/azure-sdk-for-python/issues/40260
            text = f"audience is incorrect ({self.audiences[0]}), or have expired."
            body = {"statusCode": 401, "message": f"Unauthorized. Access token is missing, invalid, {text}"}
        return json_answer(401, body, {"apim-request-id": basic_headers()["apim-request-id"]})

    # ── routes ──

    async def other_route(self, call: Call) -> Answer | None:
        if custom_headers(call.request) > 10:
            text = "The request has too many custom headers: at most 10 are passed on."  # inferred
            return self.gateway_error(431, "RequestHeaderFieldsTooLarge", text)
        return None

    def is_models(self, request: RecordedRequest) -> bool:
        return False

    def not_found(self, request: RecordedRequest) -> Answer:
        return self.gateway_error(404, "404", "Resource not found")

    def wrong_method(self, request: RecordedRequest) -> Answer:
        return self.not_found(request)

    # ── the request ──

    def deployment(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        """The name that the request is for; it is case-sensitive."""
        model = body.get("model")
        if not isinstance(model, str) or not model:
            # https://github.com/microsoft/AI-Red-Teaming-Playground-Labs/issues/14
            text = "No model specified in request. Please provide a model name in the request body or as a x-ms-model-mesh-model-name header."  # noqa: E501
            raise RefusedError(self.gateway_error(400, "no_model_name", text, detailed=True))
        return model

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        deployment = self.deployment(request, body)
        if deployment not in self.models:
            raise RefusedError(self.unknown_model(request, deployment))
        return base_model(deployment)

    def check_version(self, request: RecordedRequest) -> None:
        """Refuse an API version that does not exist."""
        raise NotImplementedError

    async def chat(self, call: Call, body: dict[str, Any]) -> Answer:
        request = call.request
        self.check_version(request)
        body = self.prepare(request, body)
        if body.get("tools") and body.get("tool_choice") in (None, "auto") and self.own("tools-refused"):
            # https://github.com/microsoft/semantic-kernel/issues/10221
            text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            raise RefusedError(self.backend_error(400, text))
        lacking = [] if self.own("tools") else ["tools", "tool_choice", "parallel_tool_calls"]
        lacking += [] if self.own("formats") else ["response_format"]
        return await super().chat(call, {name: value for name, value in body.items() if name not in lacking})

    def prepare(self, request: RecordedRequest, body: dict[str, Any]) -> dict[str, Any]:
        """The body as the model gets it; refuses what never reaches the model."""
        return body

    def check_images(self, request: RecordedRequest, message: Mapping[str, Any], index: int) -> None:
        """Images are the backend's business: see `check_context`."""

    def check_context(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        for part in content_parts(body):
            url = image_link(part) if part.get("type") == "image_url" else ""
            if url.startswith("data:") and ((seen := from_data_url(url)) is None or not seen.width):
                text = "cannot identify image file <_io.BytesIO object at 0x7f0000000000>"  # vLLM's (inferred)
                raise RefusedError(self.backend_error(400, text))
        model = self.served_model(request, body)
        if model == MAVERICK and len(prompt.images) > 1 and not self.own("many-images"):
            # https://github.com/meta-llama/llama-cookbook/issues/938 (May 2025); Scout took several
            raise RefusedError(self.backend_error(400, _TOO_MANY_IMAGES))
        limit = self.options.context.get(self.name) or window(model)
        asked = prompt.max_tokens or 0
        if prompt.tokens + asked > limit:
            if self.own("long-prompt-429"):
                raise RefusedError(self.rate_limited(request))
            text = (
                f"This model's maximum context length is {limit} tokens. However, you requested "
                f"{prompt.tokens + asked} tokens ({prompt.tokens} in the messages, {asked} in the completion). Please "
                "reduce the length of the messages or completion."
            )
            raise RefusedError(self.backend_error(400, text))

    # ── the answer ──

    def choice(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        choice = super().choice(turn, whole)
        blocked = whole.end.reason == "content_filter"
        if blocked and self.own("blocked-without-message") and not whole.text:
            del choice["message"]  # traceloop/openllmetry:packages/.../traces/cassettes/test_azure
        if self.own("filters"):
            choice["content_filter_results"] = filter_results(blocked)
        return choice

    def prompt_results(self) -> list[dict[str, Any]]:
        return [{"prompt_index": 0, "content_filter_results": prompt_filters()}]

    def prompt_chunk(self) -> dict[str, Any]:
        """The event before the first: nothing but the filter's view of the prompt."""
        return {
            "choices": [], "created": 0, "id": "", "model": "", "object": "",
            "prompt_filter_results": self.prompt_results(),
        }  # fmt: skip

    def annotate(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """The filter's view in a chunk: of a text, and of an answer that was stopped."""
        for choice in chunk["choices"]:
            blocked = choice.get("finish_reason") == "content_filter"
            said = bool(choice["delta"].get("content"))
            choice["content_filter_results"] = filter_results(blocked) if said or blocked else {}
        return chunk

    # ── headers ──

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        return basic_headers()

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        return {**self.headers(request), **served_headers(request)}

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        return {**self.headers(request), **served_headers(request)}

    # ── errors ──

    def gateway_error(self, status: int, code: str, message: str, *, detailed: bool = False) -> Answer:
        error = {"code": code, "message": message}
        return json_answer(status, {"error": {**error, "details": message} if detailed else error}, basic_headers())

    def backend_error(self, status: int, message: str) -> Answer:
        """vLLM's error; the gateway wraps it as text (llama-cookbook issue 938, as the vendor's SDK showed it)."""
        inner = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": status}
        if self.own("flat-backend-errors"):
            return json_answer(status, inner, basic_headers())
        return self.gateway_error(status, "Bad Request", json.dumps(inner, separators=(",", ":")))

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        # Mirascope/mirascope:python/tests/e2e/input/cassettes/test_model_not_found/azure_gpt_5_mini.yaml
        return self.gateway_error(400, "unknown_model", f"Unknown model: {model}", detailed=True)

    def rate_limited(self, request: RecordedRequest) -> Answer:
        sent = request.json
        model = sent.get("model") if isinstance(sent, dict) else None
        shown = model if isinstance(model, str) else self.models[0]
        text = f"Your requests to {shown} for {shown} in {REGION} have exceeded rate limit."
        answer = self.gateway_error(429, "RateLimitReached", text, detailed=True)
        answer.headers["retry-after"] = "1"
        if self.own("retry-after-ms-zero"):
            answer.headers["retry-after-ms"] = "0"
        return answer

    def blocked(self, message: str | None) -> Answer:
        """A prompt that the content filter stopped."""
        text = message or _POLICY
        if self.own("filter-flat"):
            # MicrosoftDocs/azure-ai-docs: .../model-inference/includes/code-manage-content-filtering.md
            flat = {"status": 400, "code": "content_filter", "message": text, "param": "messages", "type": None}
            return json_answer(400, flat, basic_headers())
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": prompt_filters(True)}
        error = {"message": text, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
        return json_answer(400, {"error": {**error, "innererror": inner}}, basic_headers())

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if code == "content_filter":
            return self.blocked(message)
        if status == 429 and message is None and code is None:
            return self.rate_limited(request)
        if status == 401 and message is None and code is None:
            return self.unauthorized(request)
        codes = {
            403: ("PermissionDenied", "Principal does not have access to API/Operation."),
            404: ("DeploymentNotFound", "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."),  # noqa: E501
            408: ("Timeout", "The operation was timeout."),
            500: ("InternalServerError", "The server had an error while processing your request. Sorry about that!"),
            503: ("ServiceUnavailable", "The service is temporarily unable to process your request. Please try again later."),  # noqa: E501
        }  # fmt: skip
        usual, text = codes.get(status, (str(status), f"HTTP {status}"))
        return self.gateway_error(status, str(usual if code is None else code), message or text)


class Azure(_AzureShaped):
    """A Foundry resource: `/openai/v1`, the older form with the deployment in the path, and a project's deployments."""

    name = "azure"
    # Older samples take a token for Cognitive Services here, newer ones for ai.azure.com.
    audiences = ("https://ai.azure.com", "https://cognitiveservices.azure.com")
    known_quirks: ClassVar[Mapping[str, bool]] = _quirks(
        "azure", stream_filters=True, deployment_not_found=False, strict_fields=False
    )

    def chat_paths(self) -> Sequence[str]:
        return ("/openai/v1/chat/completions",)

    def is_inference(self, request: RecordedRequest) -> bool:
        return super().is_inference(request) or _DEPLOYMENT.fullmatch(request.path) is not None

    def is_models(self, request: RecordedRequest) -> bool:
        return request.path == "/openai/v1/models" or request.path.startswith("/openai/v1/models/")

    def model_list(self, request: RecordedRequest) -> Answer:
        """The models of the catalog: deployments are not listed here."""
        wanted = request.path.removeprefix("/openai/v1/models").lstrip("/")
        items = [self.model_item(model) for model in dict.fromkeys(map(base_model, self.models))]
        if not wanted:
            return json_answer(200, {"object": "list", "data": items}, basic_headers())
        found = [item for item in items if item["id"] == wanted]
        return json_answer(200, found[0], basic_headers()) if found else self.not_found(request)

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        asked = _PROJECT.fullmatch(request.path)
        if asked is None or request.method != "GET":
            return await super().other_route(call)
        # A project takes tokens alone: https://learn.microsoft.com/rest/api/aifoundry/aiproject/deployments/list
        token = sent_bearer(request)
        if token is None or not self.options.tokens.valid(token, self.audiences[0]):
            return self.unauthorized(request)
        return project_deployments(request, asked["project"], asked["name"], self.models)

    def check_version(self, request: RecordedRequest) -> None:
        version = request.query.get("api-version")
        if _DEPLOYMENT.fullmatch(request.path):
            if version is None:
                raise RefusedError(self.not_found(request))
        elif version is not None and version not in _V1_VERSIONS:
            raise RefusedError(self.gateway_error(400, "BadRequest", "API version not supported"))  # inferred

    def deployment(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        named = _DEPLOYMENT.fullmatch(request.path)
        return named["name"] if named else super().deployment(request, body)

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        if self.own("deployment-not-found") or _DEPLOYMENT.fullmatch(request.path):
            return self.error(request, 404, None, None)
        return super().unknown_model(request, model)

    def prepare(self, request: RecordedRequest, body: dict[str, Any]) -> dict[str, Any]:
        surplus = [name for name in body if name not in _OPENAI_FIELDS]
        if surplus and self.own("strict-fields"):  # Azure OpenAI's words; what Llama refuses there is unknown
            self.refuse(request, f"Unrecognized request argument supplied: {surplus[0]}", None, None)
        return body

    def usage(self, end: End) -> dict[str, Any]:
        usage = super().usage(end)
        usage["completion_tokens_details"] |= {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        return usage

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        filters = {"prompt_filter_results": self.prompt_results()} if self.own("filters") else {}
        return {**super().completion(turn, whole), "system_fingerprint": None, **filters}

    def chunk(self, turn: Turn, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
        chunk = super().chunk(turn, delta, finish, **more)
        chunk["system_fingerprint"] = None
        return self.annotate(chunk) if self.own("stream-filters") else chunk

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        if self.own("stream-filters"):
            yield self.prompt_chunk()
        async for event in super().events(turn, pieces):
            yield event

    def last_chunks(self, turn: Turn, end: End, has_calls: bool, nulls: dict[str, Any]) -> list[dict[str, Any]]:
        if self.own("usage-on-finish"):
            return [self.chunk(turn, {}, self.finish(turn, end, has_calls), usage=self.usage(end))]
        return super().last_chunks(turn, end, has_calls, nulls)

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        return {**super().answer_headers(request, turn, whole), **rate_headers(self.deployment(request, turn.body))}

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        return {**super().stream_headers(request), **rate_headers(self.deployment(request, request.json))}


_OPENAI_FIELDS = SPEC_FIELDS | {
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "reasoning_effort",
    "service_tier", "store", "stream_options", "top_logprobs", "user", "verbosity", "web_search_options",
}  # fmt: skip


class _ModelsShaped(_AzureShaped):
    """The Model Inference API: its api-version, its specification, `extra-parameters`, and its two stream layouts."""

    audiences = ("https://cognitiveservices.azure.com",)

    def check_version(self, request: RecordedRequest) -> None:
        if request.query.get("api-version") not in _API_VERSIONS:
            raise RefusedError(self.not_found(request))

    def prepare(self, request: RecordedRequest, body: dict[str, Any]) -> dict[str, Any]:
        known = SPEC_FIELDS if self.own("stream-options-refused") else SPEC_FIELDS | {"stream_options"}
        surplus = [name for name in body if name not in known]
        setting = request.headers.get("extra-parameters")
        refusal = extra_problem(setting, surplus, lenient=self.own("lenient-extra"))
        if refusal is not None:
            raise RefusedError(json_answer(400, {"detail": refusal}, basic_headers()))
        if setting == "drop":
            body = {name: value for name, value in body.items() if name in known}
        elif surplus and self.own("extra-forbidden"):
            found = [forbidden(name, body[name]) for name in surplus]
            raise RefusedError(json_answer(422, {"detail": found}, basic_headers()))
        if found := problems(body):
            raise RefusedError(json_answer(422, {"detail": found}, basic_headers()))
        return body

    def check_messages(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        """Done in `prepare`."""

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        at = error.pos if isinstance(error, json.JSONDecodeError) else 0
        found = {"type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error", "input": {}}
        return json_answer(422, {"detail": [{**found, "ctx": {"error": str(error)}}]}, basic_headers())

    def completion_id(self) -> str:
        return new_id(32, _HEX)

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        counts = {"prompt_tokens": end.prompt_tokens, "total_tokens": total}
        return {**counts, "completion_tokens": end.completion_tokens}

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        calls = self.tool_calls(whole) if whole.calls else None
        return {"role": "assistant", "content": whole.text or (None if calls else ""), "tool_calls": calls}

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        return {
            "id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model,
            "choices": [self.choice(turn, whole)], "usage": self.usage(whole.end),
            "prompt_filter_results": self.prompt_results() if self.own("filters") else None,
        }  # fmt: skip

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model}
        on_finish = self.own("usage-on-finish")
        filtered = self.own("stream-filters")

        def one(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None}
            if finish is not None or on_finish:  # the other layout leaves the key out until it has a value
                choice["finish_reason"] = finish
            chunk = {**head, "choices": [choice], **more}
            return self.annotate(chunk) if filtered else chunk

        if filtered:
            yield self.prompt_chunk()
        role: dict[str, Any] = {"role": "assistant"}
        if on_finish:
            yield one({**role, "content": ""})
            role = {}
        called: dict[str, Any] | None = None  # a call comes whole, in one chunk
        async for piece in pieces:
            if called is not None and not isinstance(piece, CallArgs):
                yield one({**role, "content": None, "tool_calls": [called]})
                called, role = None, {}
            match piece:
                case Text(text=text):
                    yield one({**role, "content": text})
                    role = {}
                case CallStart(index=index, name=name):
                    function = {"name": name, "arguments": ""}
                    called = {"index": index, "id": self.tool_id(index), "type": "function", "function": function}
                case CallArgs(text=text):
                    assert called is not None
                    called["function"]["arguments"] += text
                case End(reason=reason):
                    if on_finish:
                        yield one({"content": ""}, reason, usage=self.usage(piece))
                    else:
                        yield one(dict(role), reason)
                        if turn.include_usage:
                            yield {**head, "choices": [], "usage": self.usage(piece)}
        yield DONE


class AzureModels(_ModelsShaped):
    """`*.services.ai.azure.com/models`: many deployments behind one path."""

    name = "azure-models"
    known_quirks: ClassVar[Mapping[str, bool]] = _quirks("azure-models", **{
        name.replace("-", "_"): on for name, on in _EXTRA_QUIRKS.items()
    })  # fmt: skip

    def chat_paths(self) -> Sequence[str]:
        return ("/models/chat/completions",)

    def provider(self, base_url: str) -> dict[str, Any]:
        return {**super().provider(base_url), "api": "models"}


class AzureServerless(_ModelsShaped):
    """`*.models.ai.azure.com`: one model, whatever name the request has for it."""

    name = "azure-serverless"
    default_key = "emulatorAzureServerlessKey0000000000"
    default_models = (SCOUT,)
    stream_type = "text/event-stream; charset=utf-8"
    audiences = ("https://ml.azure.com",)
    known_quirks: ClassVar[Mapping[str, bool]] = _quirks(
        "azure-serverless", filters=False, usage_on_finish=True, retry_after_ms_zero=False, stream_options_refused=True,
        lenient_extra=False, extra_forbidden=False,
    )  # fmt: skip

    def chat_paths(self) -> Sequence[str]:
        return ("/chat/completions",)

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        if request.path != "/info" or request.method != "GET":
            return await super().other_route(call)
        if not self.bearer_ok(request):
            return self.unauthorized(request)
        self.check_version(request)
        # Azure/azure-sdk-for-python: sdk/ai/azure-ai-inference/tests; the SDK's own enum spells it chat_completion.
        info = {"model_name": self.models[0], "model_type": "chat-completion", "model_provider_name": "Meta"}
        return json_answer(200, info, self.headers(request))

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        return base_model(self.models[0])

    def unauthorized(self, request: RecordedRequest) -> Answer:
        body = {"statusCode": 401, "message": "Auth token validation failed."}
        return json_answer(401, body, {**basic_headers(), "x-ms-error-reason": "Invalid JWT."})

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        end = whole.end
        counts = {"prompt_token_len": str(end.prompt_tokens), "sampling_token_len": str(end.completion_tokens)}
        return {**super().answer_headers(request, turn, whole), "azureml-model-group": "offer-emulated", **counts}

    def provider(self, base_url: str) -> dict[str, Any]:
        # Nothing in the emulator's address tells a serverless host, so the path does.
        return {**super().provider(f"{base_url}/chat/completions"), "api": "models"}
