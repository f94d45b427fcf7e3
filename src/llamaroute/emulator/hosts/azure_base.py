"""What the emulated Azure hosts share: keys and tokens, the content filter, and the errors of the gateway and of the
backend behind it.

Sources as in `azure.py`; Foundry documents Llama 4 without tools and with text as its only format, so both are ignored
unless a quirk says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt
from ..script import Whole
from .azure_shapes import (
    MAVERICK,
    REGION,
    SCOUT,
    base_model,
    basic_headers,
    custom_headers,
    filter_results,
    prompt_filters,
    served_headers,
    window,
)
from .base import Call
from .entra import sent_bearer
from .openai import OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["AzureShaped", "quirks"]

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


def quirks(host: str, **change: bool) -> dict[str, bool]:
    """The common quirks under a host's own name, with its own defaults and additions."""
    known = {**_QUIRKS, **{name.replace("_", "-"): on for name, on in change.items()}}
    return {f"{host}-{name}": on for name, on in known.items()}


class AzureShaped(OpenAIShaped):
    """An emulated Azure host that answers chat requests."""

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
