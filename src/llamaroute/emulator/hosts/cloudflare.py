"""Cloudflare Workers AI (`api.cloudflare.com`) and the AI Gateway's own host (`gateway.ai.cloudflare.com`).

Routes: https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/ and
https://developers.cloudflare.com/ai-gateway/usage/providers/workersai/; errors:
https://developers.cloudflare.com/workers-ai/platform/errors/. The native shapes follow
https://developers.cloudflare.com/ai/models/@cf/meta/llama-4-scout-17b-16e-instruct/ and published captures, the
OpenAI-shaped ones a recording of December 2025.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..prompt import Prompt, read_prompt
from ..script import collect
from .base import Call, Event, Host, Options, new_id, request_uuid, strip_usage
from .cloudflare_checks import SCOUT, AiError, check, check_context
from .cloudflare_shapes import Shapes

__all__ = ["Cloudflare", "CloudflareGateway"]

_HEX = "0123456789abcdef"
_ACCOUNT = re.compile(r"/client/v4/accounts/(?P<account>[^/]+)/(?P<rest>.*)")
_GATEWAY = re.compile(r"/v1/(?P<account>[^/]+)/(?P<gateway>[^/]+)(?:/(?P<rest>.*))?")
_DEFAULT_MAX_TOKENS = 256
_FAULTS: dict[int, tuple[int, str]] = {
    400: (5006, "AiError: Bad input: Error: invalid request"),
    403: (10000, "Authentication error"),
    408: (3007, "AiError: AiError: Request timeout"),
    413: (3006, "Request is too large"),
    429: (3040, "AiError: Capacity temporarily exceeded, please try again."),
    500: (3030, "AiError: AiError: Internal server error"),
    502: (7009, "Upstream service unavailable"),
    503: (7009, "Upstream service unavailable"),
}
_CODES: dict[int, str] = {
    3036: "you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's Workers Paid "
    "plan if you would like to continue usage.",
    3008: "AiError: Request aborted",
    3023: "Account blocked",
    3041: "Account not allowed for private model",
    5018: "Account not allowed for private model",
    5035: "This model requires the Workers Paid plan",
    3042: "Invalid model ID",
}


class Cloudflare(Host):
    """`api.cloudflare.com`, under `/cloudflare/client/v4`.

    Quirks, beside the ones in `Shapes`: `http-200-error` (model errors come with status 200), `stream-json` (a native
    stream is answered with plain JSON), `scan-text` (a data URI in plain text is taken for a broken image).
    """

    name = "cloudflare"
    base_path = "/client/v4"
    kind: ClassVar[str] = "cloudflare"
    default_key = "cf-test-token"
    default_models = (SCOUT, "@cf/meta/llama-3.3-70b-instruct-fp8-fast", "@cf/meta/llama-3.1-8b-instruct")
    default_context = 131_000
    known_quirks: ClassVar[Mapping[str, bool]] = {
        **Shapes.quirks, "http-200-error": False, "stream-json": False, "scan-text": False,
    }  # fmt: skip

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.shapes = Shapes(self.quirk)
        self._queue: dict[str, tuple[str, list[Any], int]] = {}

    def provider(self, base_url: str) -> dict[str, Any]:
        return {**super().provider(base_url), "account_id": self.options.account_id}

    def is_inference(self, request: RecordedRequest) -> bool:
        match = _ACCOUNT.fullmatch(request.path)
        return match is not None and (match["rest"].startswith("ai/run") or match["rest"].startswith("ai/v1/"))

    # ── routes ──

    async def handle(self, call: Call) -> Answer:
        request = call.request
        match = _ACCOUNT.fullmatch(request.path)
        if match is None:
            if request.path == "/client/v4/user/tokens/verify":
                return self._verify(request)
            return self._no_route(request)
        if match["account"] != self.options.account_id:
            return self._no_route(request)  # a wrong account id is a wrong route, not a wrong key
        if not self.authorized(request):
            return self.api_error(request, 401, 10000, "Authentication error")
        if len(request.body) > self.options.max_body:
            return self.api_error(request, 413, 3006, "Request is too large")
        rest = match["rest"]
        if rest == "tokens/verify":
            return self._verify(request)
        if request.method == "GET":
            return self._read_only(request, rest)
        if request.method != "POST" or not self.is_inference(request):
            return self._no_route(request)
        return await self.infer(call, rest.removeprefix("ai/"))

    def authorized(self, request: RecordedRequest) -> bool:
        legacy = "x-auth-email" in request.headers and request.headers.get("x-auth-key") == self.key
        return legacy or self.bearer_ok(request)

    async def infer(self, call: Call, route: str) -> Answer:
        """Route below `.../ai/`: `run`, `run/<model>`, `v1/chat/completions`."""
        request = call.request
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return self.ai_error(request, AiError(400, 3003, "Incomplete request: missing or malformed body"))
        try:
            if route == "run":
                if "cf-aig-gateway-id" not in request.headers:
                    raise AiError(400, 3003, "Incomplete request: missing header cf-aig-gateway-id")
                inner = body.get("input")
                return await self.native(call, str(body.get("model")), inner if isinstance(inner, dict) else {})
            if route.startswith("run/"):
                model = route.removeprefix("run/")
                if request.query.get("queueRequest") == "true":
                    return await self._batch(call, model, body)
                return await self.native(call, model, body)
            if route == "v1/chat/completions":
                return await self.openai(call, body)
            if route in ("v1/responses", "v1/messages"):
                check({}, SCOUT)  # the model's schema knows neither `input` nor Anthropic's blocks
        except AiError as error:
            return self.ai_error(request, error)
        return self._no_route(request)

    async def native(self, call: Call, model: str, body: Mapping[str, Any]) -> Answer:
        """The model's own schema, answered in Cloudflare's envelope."""
        prompt = self._prompt(model, body)
        if prompt.stream and (prompt.schema or prompt.json_object):
            raise AiError(400, 5006, "Bad input: Error: JSON Mode does not support streaming")  # words inferred
        pieces = await call.generate(prompt)
        if prompt.stream and not self.quirk("stream-json"):
            headers = {**self.headers(call.request), "content-type": "text/event-stream"}
            return self.stream(call, self.shapes.native_events(model, prompt, pieces), headers)
        result = self.shapes.native(model, prompt, await collect(pieces))
        envelope = {"result": result, "success": True, "errors": [], "messages": []}
        shown = envelope if call.wants_usage else strip_usage(envelope)
        return json_answer(200, shown, self.headers(call.request))

    async def openai(self, call: Call, body: Mapping[str, Any]) -> Answer:
        """OpenAI's schema; the same validator stands behind it."""
        model = str(body.get("model", "")).removeprefix("workers-ai/")
        prompt = self._prompt(model, body)
        pieces = await call.generate(prompt)
        now = int(time.time())
        if prompt.stream:
            headers = {**self.headers(call.request), "content-type": "text/event-stream"}
            return self.stream(call, self.shapes.openai_events(model, now, prompt, pieces), headers)
        payload = self.shapes.openai(model, now, prompt, await collect(pieces))
        shown = payload if call.wants_usage else strip_usage(payload)
        return json_answer(200, shown, self.headers(call.request))

    def _prompt(self, model: str, body: Mapping[str, Any]) -> Prompt:
        if model not in self.models:
            raise AiError(400, 5007, f"No such model {model} or task")
        check(body, model)
        if self.quirk("scan-text") and "data:image/" in json.dumps([
            part for message in body.get("messages") or () for part in [message.get("content")] if isinstance(part, str)
        ]):  # fmt: skip
            raise AiError(400, 8006, "Invalid data for image - reason incorrect base64 data")
        prompt = read_prompt(body, default_max_tokens=_DEFAULT_MAX_TOKENS)
        check_context(prompt, self.context)
        return prompt

    async def _batch(self, call: Call, model: str, body: Mapping[str, Any]) -> Answer:
        """The asynchronous queue: submit, then poll; the first poll still says "running".

        https://developers.cloudflare.com/workers-ai/features/batch-api/
        """
        if (known := body.get("request_id")) is not None:
            if known not in self._queue:
                raise AiError(400, 5006, f"Bad input: Error: unknown request_id '{known}'")  # inferred
            queued_model, items, polls = self._queue[known]
            if polls == 0:
                self._queue[known] = (queued_model, items, 1)
                result: dict[str, Any] = {"status": "running", "request_id": known, "model": queued_model}
                return self._success(call.request, result)
            responses = [await self._batch_item(call, queued_model, index, item) for index, item in enumerate(items)]
            return self._success(call.request, {"responses": responses, "usage": self.shapes.batch_usage(responses)})
        submitted = body.get("requests")
        if not isinstance(submitted, list):
            raise AiError(400, 5006, "Bad input: Error: required properties at '/' are 'requests'")
        request_id = request_uuid()
        self._queue[request_id] = (model, submitted, 0)
        return self._success(call.request, {"status": "queued", "request_id": request_id, "model": model})

    async def _batch_item(self, call: Call, model: str, index: int, item: Any) -> dict[str, Any]:
        reference = {"external_reference": item["external_reference"]} if "external_reference" in item else {}
        try:
            prompt = self._prompt(model, item)
        except AiError as error:
            failure = {"message": error.text, "code": error.code}
            return {"id": index, "success": False, "error": failure, **reference}
        whole = await collect(await call.generate(prompt))
        return {"id": index, "result": self.shapes.native(model, prompt, whole), "success": True, **reference}

    def _read_only(self, request: RecordedRequest, rest: str) -> Answer:
        if rest == "ai/models/search":
            names = [name for name in self.models if request.query.get("search", "") in name]
            page, size = int(request.query.get("page", "1")), int(request.query.get("per_page", "50"))
            found = [self.shapes.model(name, self.context) for name in names[(page - 1) * size : page * size]]
            info = {"count": len(found), "page": page, "per_page": size, "total_count": len(names)}
            return self._success(request, found, result_info=info)
        if rest == "ai/models/schema":
            return self._success(request, self.shapes.schema())
        if self.is_inference(request):
            return self.api_error(request, 405, 7001, "Method GET not available for that URI.")
        return self._no_route(request)

    def _verify(self, request: RecordedRequest) -> Answer:
        if not self.bearer_ok(request):
            return self.api_error(request, 401, 1000, "Invalid API Token")
        said = [{"code": 10000, "message": "This API Token is valid and active", "type": None}]
        return self._success(request, {"id": new_id(32, _HEX), "status": "active"}, messages=said)

    # ── envelopes ──

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        shown = {
            "server": "cloudflare", "cf-ray": f"{new_id(16, _HEX)}-ORD", "vary": "Accept-Encoding",
            "api-version": "2026-11-23", "cf-auditlog-id": request_uuid(),
        }  # fmt: skip
        if "cf-aig-gateway-id" in request.headers:
            shown |= {"cf-aig-log-id": new_id(26), "cf-aig-run-id": request_uuid(), "cf-aig-step": "0"}
        return shown

    def _success(self, request: RecordedRequest, result: Any, **more: Any) -> Answer:
        envelope = {"result": result, "success": True, "errors": [], "messages": [], **more}
        return json_answer(200, envelope, self.headers(request))

    def ai_error(self, request: RecordedRequest, error: AiError) -> Answer:
        """An error of the model server: `result` is an object, the text has a prefix and a request id."""
        text = f"AiError: {error.text} ({request_uuid()})"
        body = {"errors": [{"message": text, "code": error.code}], "success": False, "result": {}, "messages": []}
        return json_answer(200 if self.quirk("http-200-error") else error.status, body, self.headers(request))

    def api_error(self, request: RecordedRequest, status: int, code: int, text: str, *more: tuple[int, str]) -> Answer:
        """An error of the API in front: `result` is null."""
        errors = [{"code": each, "message": said} for each, said in ((code, text), *more)]
        body = {"result": None, "success": False, "errors": errors, "messages": []}
        return json_answer(status, body, self.headers(request))

    def _no_route(self, request: RecordedRequest) -> Answer:
        text = (
            f"Could not route to {request.path.removeprefix('/client/v4')}, perhaps your object identifier is invalid?"
        )
        return self.api_error(request, 404, 7003, text, (7000, "No route for that URI"))

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if status == 401:
            return self.api_error(request, 401, 10000, message or "Authentication error")
        if status == 404 and code is None:
            return self._no_route(request)
        usual, text = _FAULTS.get(status, (3030, f"AiError: AiError: HTTP {status}"))
        number = usual if code is None else int(code)
        text = message or (text if number == usual else _CODES.get(number, text))
        if number in (7009, 10000):
            return self.api_error(request, status, number, text)
        body = {"errors": [{"message": text, "code": number}], "success": False, "result": {}, "messages": []}
        return json_answer(status, body, self.headers(request))

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        text = message or f"AiError: AiError: Request timeout ({request_uuid()})"
        return [{"error": {"code": code if code is not None else "invalid_prompt", "message": text}}]


class CloudflareGateway(Cloudflare):
    """`gateway.ai.cloudflare.com`, under `/cloudflare-gateway/v1`: native, OpenAI, unified (`compat`) and fallback
    routes.

    Quirk `authenticated-gateway`: `cf-aig-authorization: Bearer <key>` is needed beside the provider's own header.
    """

    name = "cloudflare-gateway"
    base_path = "/v1"
    kind = "openai-compatible"
    known_quirks: ClassVar[Mapping[str, bool]] = {**Cloudflare.known_quirks, "authenticated-gateway": False}

    def provider(self, base_url: str) -> dict[str, Any]:
        """The unified route, which is what a client of OpenAI's format is pointed at."""
        unified = f"{base_url}/{self.options.account_id}/default/compat"
        model = f"workers-ai/{next(iter(self.models))}"
        return {"kind": self.kind, "base_url": unified, "api_key": self.key, "model": model}

    def is_inference(self, request: RecordedRequest) -> bool:
        return _GATEWAY.fullmatch(request.path) is not None

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        gateway = {"cf-aig-log-id": new_id(26), "cf-aig-step": "0", "cf-aig-cache-status": "MISS"}
        return {**super().headers(request), **gateway}

    async def handle(self, call: Call) -> Answer:
        request = call.request
        match = _GATEWAY.fullmatch(request.path)
        if match is None or match["account"] != self.options.account_id or request.method != "POST":
            return self._no_route(request)
        if self.quirk("authenticated-gateway"):
            scheme, _, token = request.headers.get("cf-aig-authorization", "").partition(" ")
            if scheme.lower() != "bearer" or token != self.key:
                body = {
                    "success": False,
                    "result": [],
                    "messages": [],
                    "error": [{"code": 2009, "message": "Unauthorized"}],
                }
                return json_answer(401, body, self.headers(request))
        rest = match["rest"] or ""
        if not rest:
            return await self._fallbacks(call)
        if not self.authorized(request):
            return self.api_error(request, 401, 10000, "Authentication error")
        if rest == "compat/chat/completions":
            answer = await self.infer(call, "v1/chat/completions")
            return answer if answer.status == 200 else self._compat_error(request, answer)
        inner = rest.removeprefix("workers-ai/")
        if inner == rest:
            return self._no_route(request)
        if inner.startswith("@cf/"):
            inner = f"run/{inner}"
        return await self.infer(call, inner)

    def _compat_error(self, request: RecordedRequest, answer: Answer) -> Answer:
        first = json.loads(answer.body)["errors"][0]
        status = 404 if first["code"] == 5007 else answer.status
        return json_answer(
            status, {"error": {"type": "invalid_request_error", "message": first["message"]}}, self.headers(request)
        )

    async def _fallbacks(self, call: Call) -> Answer:
        """An array of requests: the first that succeeds answers, `cf-aig-step` tells which."""
        request = call.request
        steps = request.json
        answer = self.ai_error(request, AiError(400, 3003, "Incomplete request: missing or malformed body"))
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if not isinstance(step, Mapping) or step.get("provider") != "workers-ai":
                continue
            sent = {str(k).lower(): str(v) for k, v in dict(step.get("headers") or {}).items()}
            endpoint, query = str(step.get("endpoint")), step.get("query")
            if self.key is not None and sent.get("authorization") != f"Bearer {self.key}":
                answer = self.api_error(request, 401, 10000, "Authentication error")
                continue
            try:
                answer = await self.native(call, endpoint, query if isinstance(query, dict) else {})
            except AiError as error:
                answer = self.ai_error(request, error)
                continue
            answer.headers["cf-aig-step"] = str(index)
            break
        return answer
