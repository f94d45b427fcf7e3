"""Azure AI Foundry: `/openai/v1`, the Model Inference API (`/models`), and serverless deployments of one model.

https://learn.microsoft.com/azure/foundry/foundry-models/concepts/endpoints and the specification in
https://github.com/Azure/azure-rest-api-specs (specification/ai/ModelInference).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..script import CallArgs, CallStart, End, Piece, Text, Whole
from .azure_base import AzureShaped, quirks
from .azure_checks import SPEC_FIELDS, extra_problem, forbidden, problems
from .azure_control import project_deployments
from .azure_shapes import SCOUT, base_model, basic_headers, rate_headers
from .base import DONE, Call, Event, new_id
from .entra import sent_bearer
from .openai import RefusedError, Turn

__all__ = ["Azure", "AzureModels", "AzureServerless"]

_HEX = "0123456789abcdef"
_API_VERSIONS = ("2024-05-01-preview", "2025-04-01")
_V1_VERSIONS = ("v1", "preview", "latest")
_DEPLOYMENT = re.compile(r"/openai/deployments/(?P<name>[^/]+)/chat/completions")
_PROJECT = re.compile(r"/api/projects/(?P<project>[^/]+)/deployments(?:/(?P<name>[^/]+))?")


class Azure(AzureShaped):
    """A Foundry resource: `/openai/v1`, the older form with the deployment in the path, and a project's deployments."""

    name = "azure"
    # Older samples take a token for Cognitive Services here, newer ones for ai.azure.com.
    audiences = ("https://ai.azure.com", "https://cognitiveservices.azure.com")
    known_quirks: ClassVar[Mapping[str, bool]] = quirks(
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


class _ModelsShaped(AzureShaped):
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
    known_quirks: ClassVar[Mapping[str, bool]] = quirks(
        "azure-models", stream_options_refused=False, lenient_extra=False, extra_forbidden=False
    )

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
    known_quirks: ClassVar[Mapping[str, bool]] = quirks(
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
