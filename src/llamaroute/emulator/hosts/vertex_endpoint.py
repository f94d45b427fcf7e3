"""A model deployed from Vertex AI's Model Garden: the host of a dedicated endpoint, and vLLM in a container behind.

Routes: https://cloud.google.com/vertex-ai/docs/predictions/using-dedicated-endpoints and google-cloud-aiplatform's
`Endpoint`; forms of `:predict`: GoogleCloudPlatform/vertex-ai-samples, notebooks/community/model_garden
(model_garden_pytorch_llama4_deployment.ipynb, model_garden_llama_guard_deployment.ipynb).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..answer import Answer, RecordedRequest, dumps, json_answer
from ..prompt import read_prompt
from ..script import collect
from .base import Call, Event, Options
from .google_cloud import VERTEX_TOKEN, GoogleHost
from .openai import SCOUT
from .openai_checks import RefusedError
from .vertex_resources import DEPLOYED_MODEL, DEPLOYED_MODEL_ID
from .vllm import Vllm

__all__ = ["VertexEndpoint"]

_PATH = re.compile(
    r"/(?:v1|v1beta1)/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/endpoints/(?P<id>[^/:]+)"
    r"(?P<verb>:predict|:rawPredict|:streamRawPredict|/chat/completions"
    r"|(?:/deployedModels/(?P<deployed>[^/]+))?/invoke(?P<inner>/.*))"
)
_DEFAULT_TOKENS = 16  # of vLLM's `SamplingParams`, where the prompt form says nothing


class _Container(Vllm):
    """vLLM as Model Garden starts it: one model, which requests need not name."""

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        return super().served_model(request, {**body, "model": body.get("model") or None})

    async def other_route(self, call: Call) -> Answer | None:
        if (call.request.method, call.request.path) == ("POST", "/generate"):
            predictions = await self.predictions(call, self.read_body(call.request))
            return json_answer(200, {"predictions": predictions}, self.headers(call.request))
        return await super().other_route(call)

    async def predictions(self, call: Call, body: Mapping[str, Any]) -> Any:
        """What the predict route makes of its instances: texts, or (chat form) the completion itself."""
        request = call.request
        instances = body.get("instances", [body])
        if not isinstance(instances, list) or not instances:
            self.refuse(request, "instances: expected a list with at least one instance", None, None)  # inferred
        found: list[str] = []
        for instance in instances:
            if not isinstance(instance, dict):
                self.refuse(request, "instances: expected objects", None, None)  # inferred
            if instance.get("@requestFormat") == "chatCompletions":
                return await self._completion(call, instance)
            text = instance.get("prompt")
            if not isinstance(text, str):
                self.refuse(request, "instances: 'prompt' is required", None, None)  # inferred
            prompt = read_prompt({**instance, "messages": None}, default_max_tokens=_DEFAULT_TOKENS)
            whole = await collect(await call.generate(prompt))
            raw = instance.get("raw_response") is True
            found.append(whole.text if raw else f"Prompt:\n{text.strip()}\nOutput:\n{whole.text}")
        return found

    async def _completion(self, call: Call, instance: Mapping[str, Any]) -> Any:
        body = {name: value for name, value in instance.items() if name not in ("@requestFormat", "stream")}
        answer = await self.chat(call, body)
        return json.loads(answer.body)


class VertexEndpoint(GoogleHost):
    """`<endpoint>.<region>-<number>.prediction.vertexai.goog`, under `/vertex-endpoint`.

    The predict route of the container also takes a body with `messages`, as containers do whose predict route is
    the chat route.
    """

    name = "vertex-endpoint"
    kind = "vertex"
    default_key = VERTEX_TOKEN
    default_models = (SCOUT,)
    default_context = 1_310_720

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._container = _Container(options)
        self._container.key = None
        self._container.models = self.models
        self._container.context = self.context

    def provider(self, base_url: str) -> dict[str, Any]:
        endpoint = next(iter(self.setting("endpoints")), "")
        # Base URL is where the API is, which knows the endpoint; the endpoint's own host knows itself alone.
        root = f"{base_url.removesuffix(self.name)}vertex"
        settings = {"kind": self.kind, "api": "endpoint", "base_url": root, "dedicated_dns": base_url}
        settings |= {"project": self.setting("project"), "region": self.setting("region"), "endpoint_id": endpoint}
        settings |= {"model": self.models[0]}
        return settings if self.key is None else {**settings, "access_token": self.key}

    def rpc(self, request: RecordedRequest) -> str:
        match = _PATH.fullmatch(request.path)
        verb = match["verb"].lstrip(":") if match else ""
        method = {"/chat/completions": "ChatCompletions"}.get(verb) or verb[:1].upper() + verb[1:]
        version = request.path.split("/", 2)[1]
        return f"google.cloud.aiplatform.{version}.PredictionService.{'Invoke' if '/' in method else method}"

    def is_inference(self, request: RecordedRequest) -> bool:
        match = _PATH.fullmatch(request.path)
        return match is not None and match["inner"] in (None, "/v1/chat/completions", "/generate")

    async def handle(self, call: Call) -> Answer:
        request = call.request
        match = _PATH.fullmatch(request.path)
        if match is None or (match["inner"] is None and request.method != "POST"):
            return self.no_such_page(request)
        try:
            self.authenticate(request)
            self.check_quota_project(request)
            self._check_endpoint(request, match)
            if len(request.body) > self.options.max_body:
                text = f"Request payload size exceeds the limit: {self.options.max_body} bytes."
                return self.google_error(request, 400, text)
            return await self._route(call, match)
        except RefusedError as refused:
            return refused.answer

    def _check_endpoint(self, request: RecordedRequest, match: re.Match[str]) -> None:
        name = f"projects/{match['project']}/locations/{match['region']}/endpoints/{match['id']}"
        if not self.is_project(match["project"]):
            raise self.denied(request, "aiplatform.endpoints.predict", name)
        here = match["region"] == self.setting("region") and match["id"] in self.setting("endpoints")
        if not here or match["deployed"] not in (None, DEPLOYED_MODEL_ID):
            raise RefusedError(self.google_error(request, 404, f"The Endpoint does not exist: {name}"))  # inferred

    async def _route(self, call: Call, match: re.Match[str]) -> Answer:
        match match["verb"]:
            case "/chat/completions":
                return await self._inside(call, "/v1/chat/completions")
            case ":predict":
                return await self._predict(call)
            case ":rawPredict":
                return await self._raw_predict(call)
            case ":streamRawPredict":
                return await self._raw(call)
        return await self._inside(call, match["inner"])

    async def _inside(self, call: Call, path: str) -> Answer:
        """The container's own answer."""
        return await self._container.handle(replace(call, request=replace(call.request, path=path)))

    async def _raw(self, call: Call) -> Answer:
        body = call.request.json
        chat = isinstance(body, dict) and "messages" in body and "instances" not in body
        answer = await self._inside(call, "/v1/chat/completions" if chat else "/generate")
        answer.headers |= {
            "X-Vertex-AI-Deployed-Model-Id": DEPLOYED_MODEL_ID,
            "X-Vertex-AI-Model": self._model(),
            "X-Vertex-AI-Model-Version-Id": "1",
        }
        return answer

    async def _raw_predict(self, call: Call) -> Answer:
        """The body as it is, or (Google's generated REST client) inside the JSON form of `google.api.HttpBody`, which
        that client then expects of the answer, too; inferred."""
        body = call.request.json
        if not isinstance(body, dict) or not isinstance(body.get("httpBody"), dict):
            return await self._raw(call)
        try:
            inner = base64.b64decode(str(body["httpBody"].get("data", "")), validate=True)
        except ValueError:
            return self.google_error(call.request, 400)
        answer = await self._raw(replace(call, request=replace(call.request, body=inner)))
        if answer.status != 200 or answer.frames is not None:
            return answer
        kind = answer.headers["content-type"]
        shown = dumps({"contentType": kind, "data": base64.b64encode(answer.body).decode()})
        return Answer(200, {**answer.headers, "content-type": "application/json; charset=UTF-8"}, shown)

    async def _predict(self, call: Call) -> Answer:
        # The service reads this body as protobuf values, where every number is a double, and writes it anew.
        body = call.request.json
        written = call.request.body if body is None else dumps(_whole_numbers(body))
        answer = await self._inside(replace(call, request=replace(call.request, body=written)), "/generate")
        if answer.status != 200:
            # The service repeats in its own error what the container said.
            return self.google_error(call.request, answer.status, answer.body.decode())
        about = {
            "deployedModelId": DEPLOYED_MODEL_ID, "model": self._model(), "modelDisplayName": DEPLOYED_MODEL,
            "modelVersionId": "1",
        }  # fmt: skip
        headers = {"content-type": "application/json; charset=UTF-8", **self.google_headers()}
        return json_answer(200, {**json.loads(answer.body), **about}, headers)

    def _model(self) -> str:
        place = f"projects/{self.setting('project_number')}/locations/{self.setting('region')}"
        return f"{place}/models/{DEPLOYED_MODEL}"

    # ── errors: the container's are passed on, the front end has its own ──

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if status in (400, 500):
            return self._container.error(request, status, message, code)
        slow = "Took too long to respond when processing" if status == 503 else None
        reason = "ACCESS_TOKEN_EXPIRED" if status == 401 else None
        return self.google_error(request, status, message or slow, reason=reason)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return self._container.stream_error(request, status, message, code)


def _whole_numbers(value: Any) -> Any:
    """The value with 5 for 5.0, as protobuf writes a double in JSON."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole_numbers(part) for key, part in value.items()}
        case list():
            return [_whole_numbers(part) for part in value]
    return value
