"""Hugging Face: the router of Inference Providers, and dedicated Inference Endpoints that scale to zero.

The router passes the chosen provider's body through as it is, so the shape depends on the provider: Together's and
Novita's follow recordings made through the router, Groq's follow recordings of its own host, nscale's is vLLM's
(inferred).
Routes and naming: https://huggingface.co/docs/inference-providers/index; endpoints:
https://huggingface.co/docs/inference-endpoints/autoscaling.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..prompt import Prompt
from ..script import End, Piece, Whole
from .base import Call, Event, Host, Options, new_id, request_uuid
from .openai import MAVERICK, SCOUT, OpenAIShaped, RefusedError, Turn
from .tgi import Tgi
from .vllm import Vllm

__all__ = ["Endpoint", "Router"]

_HEX = "0123456789abcdef"
_EXPOSED = (
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,"
    "X-Linked-Size,X-Linked-ETag,X-Xet-Hash"
)
# provider -> (path below the provider's name, the provider's own id for Scout, for Maverick or None)
_PROVIDERS: dict[str, tuple[str, str, str | None]] = {
    "together": ("v1/chat/completions", SCOUT, MAVERICK + "-FP8"),
    "nscale": ("v1/chat/completions", SCOUT, None),
    "groq": ("openai/v1/chat/completions", SCOUT.lower(), None),
    "novita": ("v3/openai/chat/completions", SCOUT.lower(), None),
}
_POLICIES = ("fastest", "cheapest", "preferred")
_PINNED = re.compile(r"/(?P<provider>[a-z-]+)/(?P<rest>.+)")


def _groq_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {**usage, "queue_time": 0.04, "prompt_time": 0.01, "completion_time": 0.05, "total_time": 0.06}


class Router(OpenAIShaped):
    """`router.huggingface.co`, under `/huggingface/v1`; without a suffix Together answers (the provider recorded)."""

    name = "huggingface"
    kind = "huggingface"
    default_key = "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"
    default_models = (SCOUT, MAVERICK)
    known_quirks: ClassVar[Mapping[str, bool]] = {
        "retry-after-on-200": True, "no-usage": False, "together-500-after-tool": False, "not-a-chat-model": False,
        "token-without-inference": False,
    }  # fmt: skip
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0, 2), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2), "top_p": (0, 1),
    }  # fmt: skip

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._vllm = Vllm(options)

    # ── routes ──

    def _pinned(self, request: RecordedRequest) -> str | None:
        match = _PINNED.fullmatch(request.path)
        if match is None or match["provider"] not in _PROVIDERS:
            return None
        return match["provider"] if match["rest"] == _PROVIDERS[match["provider"]][0] else None

    def is_inference(self, request: RecordedRequest) -> bool:
        return request.path == "/v1/chat/completions" or self._pinned(request) is not None

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        if request.method == "GET" and self.is_models(request):
            return self.model_list(request)  # readable without a token
        if request.method == "GET" and request.path.startswith("/api/models/"):
            return self._hub_model(request, request.path.removeprefix("/api/models/"))
        if request.method == "GET" and request.path == "/api/whoami-v2":
            return self._whoami(request)
        return None

    def _whoami(self, request: RecordedRequest) -> Answer:
        """The Hub's word on a token, as huggingface_hub's `whoami` reads it; without the quirk, a token that reads."""
        if not self.bearer_ok(request):
            return self._text_error(401, "Invalid credentials in Authorization header")
        rights: dict[str, Any] = {"displayName": "emulated", "role": "read", "createdAt": "2025-04-05T00:00:00.000Z"}
        if self.quirk("token-without-inference"):
            scope = {
                "entity": {"_id": "0" * 24, "type": "user", "name": "emulated"},
                "permissions": ["repo.content.read"],
            }
            fine = {"canReadGatedRepos": True, "global": ["discussion.write"], "scoped": [scope]}
            rights |= {"role": "fineGrained", "fineGrained": fine}
        return json_answer(200, {
            "type": "user", "id": "0" * 24, "name": "emulated", "fullname": "Emulated", "isPro": False, "orgs": [],
            "auth": {"type": "access_token", "accessToken": rights},
        })  # fmt: skip

    def _served_by(self, model: str) -> dict[str, str]:
        """Provider -> its own id, for a Hub id."""
        known = {SCOUT: 1, MAVERICK: 2}.get(model)
        if known is None:
            return dict.fromkeys(_PROVIDERS, model) if model in self.models else {}
        return {name: own for name, row in _PROVIDERS.items() if (own := row[known]) is not None}

    def _hub_model(self, request: RecordedRequest, model: str) -> Answer:
        if model not in self.models:
            return json_answer(401, {"error": "Repository not found"}, {"x-error-code": "RepoNotFound"})
        mapping = [
            {"provider": name, "providerId": own, "status": "live", "task": "conversational", "isModelAuthor": False}
            for name, own in self._served_by(model).items()
        ]
        return json_answer(200, {"_id": new_id(24, _HEX), "id": model, "inferenceProviderMapping": mapping})

    def model_item(self, model: str) -> dict[str, Any]:
        providers = [
            {
                "provider": name, "status": "live", "context_length": self.context,
                "pricing": {"input": 0.09, "output": 0.29}, "supports_tools": True, "supports_structured_output": True,
                "first_token_latency_ms": 400, "throughput": 90.5, "is_model_author": False,
            }
            for name in self._served_by(model)
        ]  # fmt: skip
        modalities = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
        return {
            "id": model, "object": "model", "created": 1743811200, "owned_by": model.partition("/")[0],
            "architecture": modalities, "providers": providers,
        }  # fmt: skip

    # ── errors: a string or an object under "error" ──

    def _text_error(self, status: int, text: str) -> Answer:
        return json_answer(status, {"error": text}, {**self.headers(None), "x-error-message": text})

    def _not_supported(self, request: RecordedRequest, text: str) -> Answer:
        return self.problem(request, 400, text, "invalid_request_error", "model", "model_not_supported")

    def unauthorized(self, request: RecordedRequest) -> Answer:
        sent = "authorization" in request.headers
        return self._text_error(
            401, "Invalid credentials in Authorization header" if sent else "Invalid username or password."
        )

    def not_found(self, request: RecordedRequest) -> Answer:
        return self._text_error(404, "Sorry, we can't find the page you are looking for.")

    def wrong_method(self, request: RecordedRequest) -> Answer:
        return self._text_error(404, "Sorry, we can't find the page you are looking for.")

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        return self._not_supported(
            request, f"The requested model '{model}' is not supported by any provider you have enabled."
        )

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        return self._text_error(400, "Invalid JSON in request body")

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        texts = {
            401: "Invalid credentials in Authorization header",
            402: "You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to get 20x "
            "more monthly included credits.",
            403: "This authentication method does not have sufficient permissions to call Inference Providers on "
            "behalf of user emulator",
            404: "Not Found",
            429: "Too Many Requests",
            500: "Internal Server Error",
            503: "Service Unavailable",
            504: "Gateway Timeout",
        }
        if code is not None or status not in texts:
            return self.problem(request, status, message or f"HTTP {status}", None, None, code)
        answer = self._text_error(status, message or texts[status])
        if status == 429:
            answer.headers |= {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}
        return answer

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        text = message or "Internal Server Error"
        return [{"error": {"message": text, "type": "server_error", "param": None, "code": code}}]

    def headers(self, request: RecordedRequest | None, provider: str | None = None) -> dict[str, str]:
        shown = {
            "access-control-allow-origin": "*", "access-control-expose-headers": _EXPOSED,
            "cross-origin-opener-policy": "same-origin", "referrer-policy": "strict-origin-when-cross-origin",
            "vary": "Origin", "x-powered-by": "huggingface-moon",
            "x-request-id": f"Root=1-{new_id(8, _HEX)}-{new_id(24, _HEX)};{request_uuid()}",
        }  # fmt: skip
        if provider is not None:
            shown |= {"x-inference-provider": provider, "inference-id": f"0-{request_uuid()}"}
            if provider == "together" and self.quirk("retry-after-on-200"):
                shown["retry-after"] = "2"
        return shown

    # ── the request ──

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            text = "Missing 'model' in request body"
            raise RefusedError(self.problem(request, 400, text, None, "model"))
        if (pinned := self._pinned(request)) is not None:
            own = {name for row in map(self._served_by, self.models) for which, name in row.items() if which == pinned}
            if model not in own:
                raise RefusedError(self._text_error(400, f"Model not supported by provider {pinned}"))
            return model
        hub_id, _, suffix = model.partition(":")
        if hub_id not in self.models:
            raise RefusedError(self.unknown_model(request, model))
        if self.quirk("not-a-chat-model"):
            raise RefusedError(self._not_supported(request, f"The requested model '{model}' is not a chat model."))
        if suffix and suffix not in _POLICIES and suffix not in self._served_by(hub_id):
            text = f"The requested model '{hub_id}' is not supported by provider '{suffix}'."
            raise RefusedError(self._not_supported(request, text))
        return self._served_by(hub_id)[self._provider(request, model)]

    def _provider(self, request: RecordedRequest, model: str) -> str:
        suffix = model.partition(":")[2]
        return self._pinned(request) or (suffix if suffix in _PROVIDERS else "together")

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        has_result = any(m.get("role") == "tool" for m in prompt.messages)
        together = self._provider(request, str(body.get("model"))) == "together"
        if has_result and together and self.quirk("together-500-after-tool"):
            raise RefusedError(self.problem(request, 500, "Internal server error", "server_error"))
        super().check(request, body, prompt)

    def bad_image(self, request: RecordedRequest, why: str) -> None:
        self.refuse(request, "One of the image(s) could not be processed (possibly corrupt)", None, None)

    # ── the answer, in the provider's shape ──

    def completion_id(self) -> str:
        return f"o{new_id(6)}-{new_id(6)}-{new_id(16, _HEX)}"

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        counts = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
        return {**counts, "total_tokens": total}

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        provider = self._provider_of(turn)
        reason = whole.end.reason
        if provider == "nscale":
            body = self._vllm.completion(turn, whole)
        elif provider == "together":
            message = {"role": "assistant", "content": whole.text, "reasoning": None, "tool_calls": self._calls(whole)}
            choice = {"index": 0, "finish_reason": reason, "logprobs": None, "seed": None, "message": message}
            body = {
                "id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model, "prompt": [],
                "choices": [choice], "metadata": {"weight_version": "default"}, "usage": self.usage(whole.end),
            }  # fmt: skip
        else:
            plain: dict[str, Any] = {"role": "assistant"}
            if whole.text or not whole.calls:
                plain["content"] = whole.text
            if whole.calls:
                plain["tool_calls"] = self.tool_calls(whole)
            choice = {"index": 0, "message": plain, "logprobs": None, "finish_reason": reason}
            body = {
                "id": f"chatcmpl-{request_uuid()}", "object": "chat.completion", "created": turn.created,
                "model": turn.model, "choices": [choice], "usage": self.usage(whole.end),
                "system_fingerprint": "fp_" + new_id(10, _HEX),
            }  # fmt: skip
            if provider == "groq":
                asked = {"id": "req_" + new_id(26), "seed": 841940204}
                body |= {"usage": _groq_usage(body["usage"]), "usage_breakdown": None, "x_groq": asked}
                body["service_tier"] = "on_demand"
        if self.quirk("no-usage"):
            body.pop("usage")
        return body

    def _provider_of(self, turn: Turn) -> str:
        return str(turn.body["_provider"])

    def _calls(self, whole: Whole) -> list[dict[str, Any]]:
        return [{"index": index, **called} for index, called in enumerate(self.tool_calls(whole))]

    async def chat(self, call: Call, body: dict[str, Any]) -> Answer:
        # The provider is kept beside the body, where the shape methods find it.
        return await super().chat(call, {**body, "_provider": self._provider(call.request, str(body.get("model")))})

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        provider = self._provider_of(turn)
        kind = "application/json; charset=utf-8" if provider == "together" else "application/json"
        return {**self.headers(request, provider), "content-type": kind}

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        provider = self._provider(request, str((request.json or {}).get("model")))
        return {**self.headers(request, provider), "cache-control": "no-cache"}

    def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        provider = self._provider_of(turn)
        if provider == "nscale":
            return self._vllm.events(turn, pieces)
        if provider == "novita":
            turn.id = new_id(32, _HEX)
        elif provider == "groq":
            turn.id = f"chatcmpl-{request_uuid()}"
        return super().events(turn, pieces)

    def first_delta(self, turn: Turn) -> dict[str, Any] | None:
        match self._provider_of(turn):
            case "novita":
                return {"role": "assistant"}
            case "groq":
                return {"role": "assistant", "content": None}
        return {"token_id": None, "role": "assistant", "content": "", "reasoning": None}

    def chunk(self, turn: Turn, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created}
        provider = self._provider_of(turn)
        if provider == "together":
            more.setdefault("usage", None)
            choices = []
            if delta is not None:
                text = delta.get("content") or ""
                shown = {"token_id": None, "role": "assistant", "content": "", "reasoning": None, **delta}
                choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "delta": shown}]
            return {**head, "choices": choices, "model": turn.model, **more}
        more = {key: value for key, value in more.items() if value is not None}
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if provider == "groq":
            choice["logprobs"] = None
            more["system_fingerprint"] = "fp_37da608fc1"
            if delta is not None and "role" in delta:
                more["x_groq"] = {"id": "req_" + new_id(26), "seed": 689520654}
        else:
            metrics = {"ttft_ms": 274, "ts_us": time.time_ns() // 1000}
            more |= {"system_fingerprint": "", "sla_metrics": metrics}
        return {**head, "model": turn.model, "choices": [] if delta is None else [choice], **more}

    def last_chunks(self, turn: Turn, end: End, has_calls: bool, nulls: dict[str, Any]) -> list[dict[str, Any]]:
        finish, usage = end.reason, self.usage(end)
        if self.quirk("no-usage"):
            return [self.chunk(turn, {}, finish)]
        if self._provider_of(turn) == "groq":
            usage = _groq_usage(usage)
            return [self.chunk(turn, {}, finish, usage=usage, x_groq={"id": "req_" + new_id(26), "usage": usage})]
        if self._provider_of(turn) == "novita":
            usage |= {"prompt_tokens_details": None, "completion_tokens_details": None}
        else:
            usage |= {"prompt_tokens_details": None, "reasoning_tokens": 0}
        # recorded: the usage comes whether or not it was asked for
        return [self.chunk(turn, {}, finish), self.chunk(turn, None, usage=usage)]


class Endpoint(Host):
    """A dedicated endpoint, under `/hf-endpoint`: a proxy that wakes a replica, and an engine (TGI or vLLM) behind it.

    While the replica starts (`Emulator(cold_start=seconds)`, from the first request on) the proxy answers 503, or
    holds the request when it carries `X-Scale-Up-Timeout: <seconds>`. The text of the 503 is not documented.
    """

    name = "hf-endpoint"
    kind = "huggingface"
    default_key = "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"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.engine = (Vllm if options.engine == "vllm" else Tgi)(options)
        self.engine.key = None
        if options.models.get(self.name):
            self.engine.models = self.models
        self.models = self.engine.models

    def provider(self, base_url: str) -> dict[str, Any]:
        settings = super().provider(base_url)
        settings["url"] = settings.pop("base_url")  # what a dedicated endpoint is called by
        return {**settings, "dialect": "tgi" if isinstance(self.engine, Tgi) else "openai"}

    def is_inference(self, request: RecordedRequest) -> bool:
        return self.engine.is_inference(request)

    async def handle(self, call: Call) -> Answer:
        request = call.request
        if not self.bearer_ok(request):
            return json_answer(401, {"error": "Invalid credentials in Authorization header"})  # inferred
        left = self.options.cold_start - self.seconds_since_first()
        if left > 0:
            try:
                patience = float(request.headers.get("x-scale-up-timeout", "0"))
            except ValueError:
                patience = 0.0
            await asyncio.sleep(min(left, patience))
            if patience < left:
                return json_answer(503, {"error": "503 Service Unavailable"})
        return await self.engine.handle(call)

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if status in (502, 503):
            return json_answer(status, {"error": message or f"{status} Service Unavailable"})
        return self.engine.error(request, status, message, code)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return self.engine.stream_error(request, status, message, code)
