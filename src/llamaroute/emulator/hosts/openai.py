"""OpenAI's chat completions: the generic OpenAI-compatible host, and the base of every host that speaks this format.

Shapes: https://platform.openai.com/docs/api-reference/chat (object and stream chunk), error objects as in
https://platform.openai.com/docs/guides/error-codes. Servers that depart from it override single methods.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..prompt import Prompt, read_prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole, collect
from .base import DONE, Call, Event, new_id, strip_usage
from .openai_checks import Checks, RefusedError, content_parts, image_link

__all__ = ["LLAMA_4", "OpenAI", "OpenAIShaped", "RefusedError", "Turn", "content_parts", "image_link"]

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
MAVERICK = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"
LLAMA_4 = (
    "llama-4-scout",
    "llama-4-maverick",
    SCOUT,
    MAVERICK,
    MAVERICK + "-FP8",
    SCOUT.lower(),
    MAVERICK.lower(),
)
_HEX = "0123456789abcdef"
_STATUS_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(slots=True)
class Turn:
    """What stays the same over all chunks of one answer."""

    id: str
    created: int
    model: str
    body: Mapping[str, Any]
    prompt: Prompt

    @property
    def include_usage(self) -> bool:
        options = self.body.get("stream_options")
        return isinstance(options, Mapping) and options.get("include_usage") is True


class OpenAIShaped(Checks):
    """Routes and flow of an OpenAI-shaped host; what differs between servers is in the small methods."""

    base_path = "/v1"
    default_models: ClassVar[Sequence[str]] = LLAMA_4
    stream_type: ClassVar[str] = "text/event-stream"

    # ── routes ──

    def chat_paths(self) -> Sequence[str]:
        return (f"{self.base_path}/chat/completions",)

    def is_inference(self, request: RecordedRequest) -> bool:
        return request.path in self.chat_paths()

    async def handle(self, call: Call) -> Answer:
        request = call.request
        try:
            if (other := await self.other_route(call)) is not None:
                return other
            known = self.is_inference(request) or self.is_models(request)
            if not known:
                return self.not_found(request)
            if request.method not in (("POST",) if self.is_inference(request) else ("GET", "HEAD")):
                return self.wrong_method(request)
            if not self.bearer_ok(request):
                return self.unauthorized(request)
            if not self.is_inference(request):
                return self.model_list(request)
            body = self.read_body(request)
            return await self.chat(call, body)
        except RefusedError as refused:
            return refused.answer

    async def other_route(self, call: Call) -> Answer | None:
        """Routes of one server only, such as /health; also the place for "still loading"."""
        return None

    def is_models(self, request: RecordedRequest) -> bool:
        return request.path == f"{self.base_path}/models" or request.path.startswith(f"{self.base_path}/models/")

    def model_list(self, request: RecordedRequest) -> Answer:
        wanted = request.path.removeprefix(f"{self.base_path}/models").lstrip("/")
        items = [self.model_item(model) for model in self.models]
        if not wanted:
            return json_answer(200, {"object": "list", "data": items}, self.headers(request))
        for item in items:
            if item["id"] == wanted:
                return json_answer(200, item, self.headers(request))
        return self.unknown_model(request, wanted)

    def model_item(self, model: str) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": 1743811200, "owned_by": "meta"}

    # ── the request ──

    def read_body(self, request: RecordedRequest) -> dict[str, Any]:
        if len(request.body) > self.options.max_body:
            raise RefusedError(self.problem(request, 413, "Request body too large.", None))
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(self.bad_json(request, error)) from None
        if not isinstance(body, dict):
            raise RefusedError(self.bad_json(request, ValueError("not an object")))
        return body

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        """The model name in the answer; refuses unknown models."""
        model = body.get("model")
        if not isinstance(model, str) or not model:
            self.refuse(request, "you must provide a model parameter", None, None)
        if model not in self.models:
            raise RefusedError(self.unknown_model(request, str(model)))
        return str(model)

    # ── the answer ──

    async def chat(self, call: Call, body: dict[str, Any]) -> Answer:
        request = call.request
        model = self.served_model(request, body)
        self.check_types(request, body)
        prompt = read_prompt(body)
        self.check(request, body, prompt)
        pieces = await call.generate(prompt)
        turn = Turn(self.completion_id(), int(time.time()), model, body, prompt)
        if prompt.stream:
            headers = {"content-type": self.stream_type, **self.stream_headers(request)}
            return self.stream(call, self.events(turn, pieces), headers)
        whole = await collect(pieces)
        payload = self.completion(turn, whole)
        shown = payload if call.wants_usage else strip_usage(payload)
        return json_answer(200, shown, self.answer_headers(request, turn, whole))

    def completion_id(self) -> str:
        return "chatcmpl-" + new_id(29)

    def tool_id(self, index: int) -> str:
        return "call_" + new_id(24)

    def finish(self, turn: Turn, end: End, has_calls: bool) -> str:
        return end.reason

    def usage(self, end: End) -> dict[str, Any]:
        return {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
            "total_tokens": end.prompt_tokens + end.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": end.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def tool_calls(self, whole: Whole) -> list[dict[str, Any]]:
        return [
            {
                "id": self.tool_id(index),
                "type": "function",
                "function": {"name": called.name, "arguments": called.arguments},
            }
            for index, called in enumerate(whole.calls)
        ]

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": whole.text or (None if whole.calls else "")}
        if whole.calls:
            message["tool_calls"] = self.tool_calls(whole)
        return {**message, "refusal": None, "annotations": []}

    def choice(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        return {
            "index": 0,
            "message": self.message(turn, whole),
            "logprobs": None,
            "finish_reason": self.finish(turn, whole.end, bool(whole.calls)),
        }

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        return {
            "id": turn.id,
            "object": "chat.completion",
            "created": turn.created,
            "model": turn.model,
            "choices": [self.choice(turn, whole)],
            "usage": self.usage(whole.end),
            "service_tier": "default",
            "system_fingerprint": "fp_emulated",
        }

    # ── the stream ──

    def chunk(self, turn: Turn, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
        """One chunk; `delta` None gives the form without choices."""
        choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        chunk = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model}
        return {**chunk, "service_tier": "default", "system_fingerprint": "fp_emulated", "choices": choices, **more}

    def first_delta(self, turn: Turn) -> dict[str, Any] | None:
        return {"role": "assistant", "content": "", "refusal": None}

    def text_delta(self, text: str) -> dict[str, Any]:
        return {"content": text}

    def call_delta(self, index: int, call_id: str, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}

    def args_delta(self, index: int, call_id: str, text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        nulls: dict[str, Any] = {"usage": None} if turn.include_usage else {}
        ids: list[str] = []
        if (first := self.first_delta(turn)) is not None:
            yield self.chunk(turn, first, **nulls)
        async for piece in pieces:
            match piece:
                case Text(text=text):
                    yield self.chunk(turn, self.text_delta(text), **nulls)
                case CallStart(index=index, name=name):
                    ids.append(self.tool_id(index))
                    yield self.chunk(turn, self.call_delta(index, ids[index], name), **nulls)
                case CallArgs(index=index, text=text):
                    yield self.chunk(turn, self.args_delta(index, ids[index], text), **nulls)
                case End():
                    for chunk in self.last_chunks(turn, piece, bool(ids), nulls):
                        yield chunk
        yield DONE

    def last_chunks(self, turn: Turn, end: End, has_calls: bool, nulls: dict[str, Any]) -> list[dict[str, Any]]:
        finish = self.finish(turn, end, has_calls)
        if "usage-in-finish-chunk" in self.known_quirks and self.quirk("usage-in-finish-chunk"):
            return [self.chunk(turn, {}, finish, usage=self.usage(end))]
        last = [self.chunk(turn, {}, finish, **nulls)]
        if turn.include_usage:
            last.append(self.chunk(turn, None, usage=self.usage(end)))
        return last

    # ── headers ──

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        return {}

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        return self.headers(request)

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        return self.headers(request)

    # ── errors ──

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None,
    ) -> Answer:  # fmt: skip
        """The server's error body."""
        kind = kind or _STATUS_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": param, "code": code}
        return json_answer(status, {"error": error}, self.headers(request))

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        text = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP"
        return self.problem(request, 400, f"{text} library correctly. {error})", None)

    def not_found(self, request: RecordedRequest) -> Answer:
        return self.problem(request, 404, f"Invalid URL ({request.method} {request.path})", None)

    def wrong_method(self, request: RecordedRequest) -> Answer:
        text = f"Not allowed to {request.method} on {request.path}."
        return self.problem(request, 405, text, None, code="method_not_supported")

    def unauthorized(self, request: RecordedRequest) -> Answer:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        hint = "You can find your API key at https://platform.openai.com/account/api-keys."
        if not sent:
            return self.problem(request, 401, f"You didn't provide an API key. {hint}", None)
        masked = f"{sent[:4]}****{sent[-4:]}" if len(sent) > 8 else "****"
        return self.problem(request, 401, f"Incorrect API key provided: {masked}. {hint}", None, code="invalid_api_key")

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        text = f"The model `{model}` does not exist or you do not have access to it."
        return self.problem(request, 404, text, None, code="model_not_found")

    messages: ClassVar[Mapping[int, tuple[str, str | None, str | None]]] = {
        400: ("Invalid request.", "invalid_request_error", None),
        401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        403: ("You are not allowed to use this model.", "permission_error", None),
        404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
        429: ("Rate limit reached for requests", "requests", "rate_limit_exceeded"),
        500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
        503: ("The engine is currently overloaded, please try again later", "server_error", None),
    }

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        text, kind, usual = self.messages.get(status, (f"HTTP {status}", None, None))
        if code == "insufficient_quota":
            text, kind = "You exceeded your current quota, please check your plan and billing details.", str(code)
        return self.problem(request, status, message or text, kind, None, code if code is not None else usual)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return [json.loads(self.error(request, status, message, code).body)]

    def provider(self, base_url: str) -> dict[str, Any]:
        settings = super().provider(base_url)
        # A server of one's own has no catalogue rows: its table says what it serves.
        return {**settings, "model": next(iter(self.models))} if self.kind == "openai-compatible" else settings


class OpenAI(OpenAIShaped):
    """A generic OpenAI-compatible host with OpenAI's own bodies, under `/openai/v1`."""

    name = "openai"
    kind = "openai-compatible"
    default_key = "sk-emulator-openai-0000000000000000"
    known_quirks: ClassVar[Mapping[str, bool]] = {"usage-in-finish-chunk": False}

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        return {"x-request-id": "req_" + new_id(32, _HEX), "openai-processing-ms": "12", "openai-version": "2020-10-01"}
