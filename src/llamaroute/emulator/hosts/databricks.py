"""Databricks' Foundation Model APIs: one endpoint's invocations, the OpenAI-shaped route, and the AI Gateway.

https://docs.databricks.com/aws/machine-learning/foundation-model-apis/api-reference. Answers follow recordings of
Llama 3.3 on the OpenAI-shaped route (llamastack/llama-stack:tests/integration/recordings) and what is reported of
Maverick (getlago/lago-agent-sdk-python): the echoed name, and usage on every chunk that counts up. Paths are served
without the host's prefix, too: the vendor's SDK keeps nothing of a base URL but its address.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole, tokens
from .base import DONE, Call, Event, new_id, request_uuid
from .databricks_checks import MAX_BODY, BadRequestError, RateLimitError, check, check_turns
from .entra import CLIENT_ID, CLIENT_SECRET, DATABRICKS, TENANT, form_of, sent_bearer
from .openai import OpenAIShaped, RefusedError, Turn

__all__ = ["Databricks"]

MAVERICK = "databricks-llama-4-maverick"
_SERVED = {MAVERICK: "meta-llama-4-maverick-040225"}
_EMBEDDINGS = "databricks-gte-large-en"  # workspaces list endpoints of other tasks, too
_ORG = "1234567890123456"
_SCOPE = "all-apis"
_ARM = ("https://management.core.windows.net", "https://management.azure.com")
_INVOCATIONS = re.compile(r"/serving-endpoints/(?P<name>[^/]+)/invocations")
_OPENAI = "/serving-endpoints/chat/completions"
_GATEWAY = "/ai-gateway/mlflow/v1/chat/completions"
_METADATA = re.compile(r"/api/2\.0/serving-endpoints(?:/(?P<name>[^/]+))?")
_REASONS = {
    400: ("BAD_REQUEST", "Bad request"),
    403: ("PERMISSION_DENIED", "User does not have permission 'Query' on Endpoint {endpoint}"),
    404: ("ENDPOINT_NOT_FOUND", "The given endpoint does not exist, please retry after checking the specified model and version deployment exists."),  # noqa: E501
    500: ("INTERNAL_ERROR", "Internal error"),
    503: ("TEMPORARILY_UNAVAILABLE", "The service at /serving-endpoints/{endpoint}/invocations is temporarily unavailable. Please try again later."),  # noqa: E501
    504: ("DEADLINE_EXCEEDED", "Timed out while waiting for the endpoint {endpoint}"),
}  # fmt: skip


class Databricks(OpenAIShaped):
    """A workspace, under `/databricks` and at the root."""

    name = "databricks"
    base_path = ""
    kind = "databricks"
    default_key = "dapi00000000000000000000000000000000"
    default_models = (MAVERICK,)
    default_context = 128_000
    root_paths = ("serving-endpoints", "ai-gateway", "api", ".well-known", "oidc", "aad")
    known_settings: ClassVar[Mapping[str, Any]] = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    known_quirks: ClassVar[Mapping[str, bool]] = {
        "databricks-cumulative-usage": True,
        "databricks-null-usage": False,
        "databricks-role-on-every-chunk": False,
        "databricks-list-content": False,
        "databricks-stream-options": False,
        "databricks-unknown-fields": False,
        "databricks-roles-alternate": False,
        "databricks-limit-object": False,
    }

    # ── routes ──

    def is_inference(self, request: RecordedRequest) -> bool:
        return request.path in (_OPENAI, _GATEWAY) or _INVOCATIONS.fullmatch(request.path) is not None

    def is_models(self, request: RecordedRequest) -> bool:
        return _METADATA.fullmatch(request.path) is not None

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        match request.method, request.path:
            case "GET", "/.well-known/databricks-config":
                base = self._base(request)
                return json_answer(200, {"host": base, "workspace_id": _ORG, "oidc_endpoint": f"{base}/oidc"})
            case "GET", "/oidc/.well-known/oauth-authorization-server":
                base = self._base(request) + "/oidc"
                endpoints = {"authorization_endpoint": f"{base}/v1/authorize", "token_endpoint": f"{base}/v1/token"}
                return json_answer(200, {"issuer": base, **endpoints, "grant_types_supported": ["client_credentials"]})
            case "POST", "/oidc/v1/token":
                return self._token(request)
            case "GET", "/aad/auth":  # where a person logs in; the SDK learns the tenant from it
                url = f"https://login.microsoftonline.com/{TENANT}/oauth2/authorize?resource={DATABRICKS}"
                return Answer(302, {**self.headers(request), "location": url})
        return None

    def _base(self, request: RecordedRequest) -> str:
        """The workspace's address as the client wrote it: with the host's name in the path, or without."""
        prefix = f"/{self.name}" if request.target.startswith(f"/{self.name}/") else ""
        return f"http://{request.headers.get('host', '')}{prefix}"

    def model_list(self, request: RecordedRequest) -> Answer:
        asked = _METADATA.fullmatch(request.path)
        wanted = asked["name"] if asked else None
        names = (*self.models, _EMBEDDINGS)
        if wanted is None:
            return json_answer(200, {"endpoints": [self._endpoint(name) for name in names]}, self.headers(request))
        if wanted not in names:
            text = f"Endpoint with name '{wanted}' does not exist."
            return self.problem(request, 404, text, "RESOURCE_DOES_NOT_EXIST")
        return json_answer(200, self._endpoint(wanted), self.headers(request))

    def _endpoint(self, name: str) -> dict[str, Any]:
        short = name.removeprefix("databricks-")
        embeddings = name == _EMBEDDINGS
        model = {"name": f"system.ai.{short}", "display_name": short.replace("-", " ").title()}
        entity = {"name": short, "foundation_model": model}
        return {
            "name": name, "id": new_id(32, "0123456789abcdef"), "creator": "Databricks",
            "creation_timestamp": 1743811200000, "last_updated_timestamp": 1743811200000,
            "state": {"ready": "READY", "config_update": "NOT_UPDATING"}, "config": {"served_entities": [entity]},
            "task": "llm/v1/embeddings" if embeddings else "llm/v1/chat", "endpoint_type": "FOUNDATION_MODEL_API",
            "permission_level": "CAN_QUERY", "capabilities": {"function_calling": not embeddings},
        }  # fmt: skip

    # ── who asks ──

    def _token(self, request: RecordedRequest) -> Answer:
        """OAuth for machines (https://docs.databricks.com/aws/dev-tools/auth/oauth-m2m)."""
        form = form_of(request)
        if form.get("grant_type") != "client_credentials":
            return self._oauth_error(400, "unsupported_grant_type", "The grant type is not supported")
        known = (self.setting("client_id"), self.setting("client_secret"))
        if (form.get("client_id"), form.get("client_secret")) != known:
            return self._oauth_error(401, "invalid_client", "Client authentication failed")
        if _SCOPE not in form.get("scope", "").split():
            return self._oauth_error(400, "invalid_scope", "The requested scope is invalid")
        token = self.options.tokens.issue(_SCOPE, subject=form["client_id"], prefix="eyJ")
        answer = {"access_token": token.text, "scope": _SCOPE, "token_type": "Bearer", "expires_in": int(token.life)}
        return json_answer(200, answer, self.headers(request))

    def _oauth_error(self, status: int, error: str, text: str) -> Answer:
        return json_answer(status, {"error": error, "error_description": text, "error_id": request_uuid()})

    def bearer_ok(self, request: RecordedRequest) -> bool:
        token = sent_bearer(request)
        if token is None or not (super().bearer_ok(request) or self._token_ok(token)):
            return self.key is None
        management = request.headers.get("x-databricks-azure-sp-management-token")
        return management is None or any(self.options.tokens.valid(management, audience) for audience in _ARM)

    def _token_ok(self, token: str) -> bool:
        return any(self.options.tokens.valid(token, audience) for audience in (_SCOPE, DATABRICKS))

    def unauthorized(self, request: RecordedRequest) -> Answer:
        token = sent_bearer(request)
        if token is None:
            text = "Credential was not sent or was of an unsupported type for this API."  # inferred
            return self._numeric(request, 401, text)
        issued = self.options.tokens.find(token)
        if issued is not None and self.options.tokens.state(token, DATABRICKS) == "wrong-audience":
            # https://github.com/MicrosoftDocs/azure-docs/issues/83517; the words again, as BadRequest, in
            # https://github.com/databricks/databricks-sdk-py/issues/657
            was = next(iter(issued.audiences))
            return self._page(
                request,
                400,
                f"io.jsonwebtoken.IncorrectClaimException: Expected aud claim to be: {DATABRICKS}, but was: {was}.",
            )
        return self._numeric(request, 403, "Invalid access token.")

    def _numeric(self, request: RecordedRequest, status: int, text: str) -> Answer:
        """The workspace's front door: a number for a code, and the text once more in a header."""
        headers = self.headers(request)
        shown = f"{text} [ReqId: {headers['x-request-id']}]"
        headers["x-databricks-reason-phrase"] = shown
        return json_answer(status, {"error_code": status, "message": shown}, headers)

    def _page(self, request: RecordedRequest, status: int, text: str) -> Answer:
        title, shown = f"Error {status} {html.escape(text)}", html.escape(text)
        head = '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>'
        body = f"<html>\n<head>\n{head}\n<title>{title}</title>\n</head>\n<body><h2>HTTP ERROR {status}</h2>\n<p>Problem accessing {request.path}. Reason:\n<pre>    {shown}</pre></p>\n</body>\n</html>\n"  # noqa: E501
        return Answer(status, {**self.headers(request), "content-type": "text/html;charset=utf-8"}, body.encode())

    # ── the request ──

    def read_body(self, request: RecordedRequest) -> dict[str, Any]:
        if len(request.body) > MAX_BODY:  # status and words are made up; the limit is documented
            text = f"Request size cannot exceed {MAX_BODY} bytes. Your request size is {len(request.body)} bytes."
            raise RefusedError(self.problem(request, 413, text, "BAD_REQUEST"))
        return super().read_body(request)

    def endpoint(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        """The endpoint that is asked: of the path, or of the body."""
        if (named := _INVOCATIONS.fullmatch(request.path)) is not None:
            return named["name"]
        model = body.get("model")
        if not isinstance(model, str) or not model:
            self.refuse(request, "Missing required parameter: model", None, None)
        if request.path == _GATEWAY and str(model).startswith("system.ai."):
            return "databricks-" + str(model).removeprefix("system.ai.")
        return str(model)

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        endpoint = self.endpoint(request, body)
        if endpoint == _EMBEDDINGS:
            self.refuse(request, f"Endpoint {endpoint} does not support the task llm/v1/chat", None, None)
        if endpoint not in self.models:
            raise RefusedError(self.unknown_model(request, endpoint))
        return _SERVED.get(endpoint, endpoint.removeprefix("databricks-"))

    def check_types(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        tags = request.headers.get("databricks-ai-gateway-request-tags")
        if tags is not None and request.path == _GATEWAY and not _is_object(tags):
            self.refuse(request, "Databricks-Ai-Gateway-Request-Tags must be a JSON object", None, None)
        try:
            check(
                body, stream_options=self.quirk("databricks-stream-options"),
                lenient=self.quirk("databricks-unknown-fields"),
            )  # fmt: skip
        except BadRequestError as error:
            self.refuse(request, f"Bad request: {error}\n", None, None)
        except RateLimitError as error:
            raise RefusedError(self.rate_limited(request, str(error))) from None

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        if self.quirk("databricks-roles-alternate"):
            try:
                check_turns(prompt)
            except BadRequestError as error:
                self.refuse(request, f"Bad request: {error}\n", None, None)
        if prompt.tokens > self.context:  # vLLM's words: the host's own are not known
            text = f"This model's maximum context length is {self.context} tokens. However, your prompt contains {prompt.tokens} input tokens."  # noqa: E501
            self.refuse(request, f"Bad request: {text}\n", None, None)

    # ── the answer ──

    def completion_id(self) -> str:
        return f"chatcmpl_{request_uuid()}"

    def tool_id(self, index: int) -> str:
        return f"call_{request_uuid()}"

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        return {
            "prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens, "total_tokens": total,
        }  # fmt: skip

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        content: Any = whole.text or (None if whole.calls else "")
        if content and self.quirk("databricks-list-content"):
            content = [{"type": "text", "text": content}]
        calls = {"tool_calls": self.tool_calls(whole)} if whole.calls else {}
        return {"role": "assistant", "content": content, **calls}

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        return {
            "id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model,
            "choices": [self.choice(turn, whole)], "usage": self.usage(whole.end),
        }  # fmt: skip

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        produced = 0
        prompt_tokens = turn.prompt.tokens

        def one(delta: dict[str, Any], end: End | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": end.reason if end else None}
            chunk = {
                "id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model,
                "choices": [choice],
            }  # fmt: skip
            if end is not None:
                return {**chunk, "usage": self.usage(end)}
            if not self.quirk("databricks-cumulative-usage"):
                return chunk
            usage: dict[str, Any] = self.usage(End("", prompt_tokens, produced))
            if self.quirk("databricks-null-usage"):  # posit-dev/chatlas:tests/_vcr/test_provider_databricks (Claude)
                usage |= {"completion_tokens": None, "total_tokens": None}
            return {**chunk, "usage": usage}

        first, listed = True, self.quirk("databricks-list-content")
        ids: list[str] = []
        async for piece in pieces:
            role: dict[str, Any] = {"role": "assistant"}
            if not first and not self.quirk("databricks-role-on-every-chunk"):
                role = {}
            match piece:
                case Text(text=text):
                    if first and not listed:
                        yield one({**role, "content": ""})
                        role = role if self.quirk("databricks-role-on-every-chunk") else {}
                    produced += len(tokens(text))
                    parts = [{"type": "text", "text": text}]
                    yield one({**role, "content": parts if listed else text})
                case CallStart(index=index, name=name):
                    ids.append(self.tool_id(index))
                    function = {"name": name, "arguments": ""}
                    called = {"index": index, "id": ids[index], "type": "function", "function": function}
                    produced += 8
                    yield one({**role, "content": None, "tool_calls": [called]})
                case CallArgs(index=index, text=text):
                    produced += len(tokens(text))
                    yield one({**role, "tool_calls": [{"index": index, "function": {"arguments": text}}]})
                case End():
                    # Calls end with a piece of arguments that is empty.
                    empty = {"index": len(ids) - 1, "function": {"arguments": ""}}
                    rest: dict[str, Any] = {} if listed else {"content": ""}
                    yield one({**role, "tool_calls": [empty]} if ids else {**role, **rest}, piece)
            first = False
        yield DONE

    # ── headers ──

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        found = request_uuid()
        return {
            "x-request-id": found, "x-databricks-org-id": _ORG, "server": "databricks",
            "x-content-type-options": "nosniff",
            "server-timing": f'request_id;dur=0;desc="{found}", client_protocol;dur=0;desc="HTTP/1.1"',
            "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        }  # fmt: skip

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        return {**self.headers(request), "served-model-name": turn.model}

    # ── errors: code and message at the top ──

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None,
    ) -> Answer:  # fmt: skip
        usual = _REASONS.get(status, ("UNKNOWN", ""))[0]
        return json_answer(status, {"error_code": kind or usual, "message": message}, self.headers(request))

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        return self.problem(request, 400, f"Bad request: {error}\n", None)

    def not_found(self, request: RecordedRequest) -> Answer:
        text = f"No API found for '{request.method} {request.path}'"
        return self.problem(request, 404, text, "ENDPOINT_NOT_FOUND")

    def wrong_method(self, request: RecordedRequest) -> Answer:
        return self.not_found(request)

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        return self.problem(request, 404, _REASONS[404][1], None)

    def rate_limited(self, request: RecordedRequest, limit: str) -> Answer:
        """429 without a hint when to come back (https://github.com/n8n-io/n8n/pull/38642)."""
        if self.quirk("databricks-limit-object"):  # printed in a copy of the limits page, in no recording
            kind = limit.replace(" per ", "_per_").replace(" ", "_")
            error = {"message": f"Rate limit exceeded for {limit}", "type": "rate_limit_exceeded", "code": 429}
            limits = {"limit_type": kind, "limit": 200_000, "current": 200_150, "retry_after": 15}
            return json_answer(429, {"error": {**error, **limits}}, self.headers(request))
        text = f"REQUEST_LIMIT_EXCEEDED: Exceeded workspace {limit} rate limit for {self._asked(request)}."
        return self.problem(request, 429, text, "REQUEST_LIMIT_EXCEEDED")

    def _asked(self, request: RecordedRequest) -> str:
        """The endpoint's name for an error's text, whatever else is wrong with the request."""
        named = _INVOCATIONS.fullmatch(request.path)
        sent = request.json
        model = sent.get("model") if isinstance(sent, dict) else None
        return named["name"] if named else model if isinstance(model, str) else self.models[0]

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if status == 429 and message is None:
            return self.rate_limited(request, "input tokens per minute" if code is None else str(code))
        if status in (401, 403) and code is None:
            return self._numeric(request, status, message or "Invalid access token.")
        usual, text = _REASONS.get(status, ("UNKNOWN", f"HTTP {status}"))
        shown = message or text.format(endpoint=self._asked(request))
        body: dict[str, Any] = {"error_code": usual if code is None else code, "message": shown}
        headers = self.headers(request)
        if status == 403:  # https://github.com/databricks-demos/dbdemos/issues/218
            info = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": headers["x-request-id"]}
            body["details"] = [{**info, "serving_data": ""}]
        return json_answer(status, body, headers)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
