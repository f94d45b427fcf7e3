"""llama.cpp's server: OpenAI's format with timings, errors that close the connection, and 503 while the model loads.

Bodies follow recordings of 2026 builds (https://github.com/ggml-org/llama.cpp tools/server).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt
from ..script import End, Whole, tokens
from .base import Call, Options, new_id
from .openai import OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["LlamaCpp"]


class LlamaCpp(OpenAIShaped):
    """llama.cpp's server, under `/llamacpp/v1`. It answers as its own model, whatever name was asked for."""

    name = "llamacpp"
    kind = "openai-compatible"
    default_key = "llamacpp-emulator-key"
    default_models = ("llama-4-scout",)
    known_quirks: ClassVar[Mapping[str, bool]] = {"no-mmproj": False}
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.loading = options.loading

    def chat_paths(self) -> Sequence[str]:
        return ("/v1/chat/completions", "/chat/completions")

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        kept = {"keep-alive": "timeout=5, max=100"}
        return {
            "server": "llama.cpp", "access-control-allow-origin": request.headers.get("origin", ""),
            "content-type": "application/json; charset=utf-8", **kept,
        }  # fmt: skip

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        return {**self.headers(request), "content-type": "text/event-stream", "x-accel-buffering": "no"}

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        known = request.path == "/health" or self.is_models(request) or self.is_inference(request)
        if self.loading and known and self.seconds_since_first() < self.loading:
            return self.problem(request, 503, "Loading model", "unavailable_error")
        match request.method, request.path:
            case "GET", "/health" | "/v1/health":
                return json_answer(200, {"status": "ok"}, self.headers(request))
            case "POST", "/tokenize":
                text = str(self.read_body(request).get("content", ""))
                return json_answer(200, {"tokens": list(range(len(tokens(text))))}, self.headers(request))
        return None

    def model_list(self, request: RecordedRequest) -> Answer:
        now = int(time.time())
        meta = {"vocab_type": 2, "n_vocab": 202048, "n_ctx_train": 10485760, "n_embd": 5120}
        items = [
            {"id": model, "object": "model", "created": now, "owned_by": "llamacpp", "meta": meta}
            for model in self.models
        ]
        return json_answer(200, {"object": "list", "data": items}, self.headers(request))

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None, **more: Any,
    ) -> Answer:  # fmt: skip
        kinds = {
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            501: "not_supported_error",
        }
        kinds |= {503: "unavailable_error"}
        kind = kind or kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"code": status if code is None else code, "message": message, "type": kind, **more}
        headers = self.headers(request)
        del headers["keep-alive"]
        return json_answer(status, {"error": error}, {**headers, "connection": "close"})  # errors end the connection

    messages: ClassVar[Mapping[int, tuple[str, str | None, str | None]]] = {
        401: ("Invalid API Key", None, None),
        404: ("File Not Found", None, None),
        503: ("Loading model", None, None),
    }

    def not_found(self, request: RecordedRequest) -> Answer:
        return self.problem(request, 404, "File Not Found", None)

    wrong_method = not_found

    def unauthorized(self, request: RecordedRequest) -> Answer:
        return self.problem(request, 401, "Invalid API Key", None)

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "line 1"
        text = f"[json.exception.parse_error.101] parse error at {where}: syntax error while parsing value - "
        return self.problem(request, 500, text + "unexpected end of input; expected '[', '{', or a literal", None)

    def wrong_type(self, request: RecordedRequest, name: str, value: Any, wanted: str) -> Answer:
        if name in ("messages", "tools"):
            return self.problem(request, 400, f"Expected '{name}' to be an array", None)
        said = {"decimal": "number", "integer": "number"}.get(wanted, wanted)  # words inferred
        text = f"[json.exception.type_error.302] type must be {said}, but is {type(value).__name__}"
        return self.problem(request, 500, text, None)

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        return self.models[0]

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        if "messages" not in body:
            raise RefusedError(self.problem(request, 400, "'messages' is required", None))
        if not isinstance(body["messages"], list):
            raise RefusedError(self.problem(request, 400, "Expected 'messages' to be an array", None))
        if isinstance(n := body.get("n"), int) and n != 1:
            text = f"Field 'n': Value must be between 1 <= value <= 1, but got {n}"
            raise RefusedError(self.problem(request, 400, text, None))
        for part in content_parts(body):
            if part.get("type") != "image_url":
                continue
            if self.quirk("no-mmproj"):
                hint = "hint: if this is unexpected, you may need to provide the mmproj"
                raise RefusedError(self.problem(request, 500, f"image input is not supported - {hint}", None))
            url = image_link(part)
            if url.startswith("data:") and ((seen := from_data_url(url)) is None or not seen.width):
                raise RefusedError(self.problem(request, 400, "Failed to load image or audio file", None))
        if prompt.tokens > self.context:
            text = (
                f"request ({prompt.tokens} tokens) exceeds the available context size ({self.context} tokens), "
                "try increasing it"
            )
            raise RefusedError(self.problem(
                request, 400, text, "exceed_context_size_error", n_prompt_tokens=prompt.tokens, n_ctx=self.context
            ))  # fmt: skip

    def completion_id(self) -> str:
        return "chatcmpl-" + new_id(32)

    def tool_id(self, index: int) -> str:
        return new_id(32)

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        counts = {"completion_tokens": end.completion_tokens, "prompt_tokens": end.prompt_tokens, "total_tokens": total}
        return {**counts, "prompt_tokens_details": {"cached_tokens": end.cached_tokens}}

    @staticmethod
    def _timings(end: End) -> dict[str, Any]:
        fresh = max(1, end.prompt_tokens - end.cached_tokens)
        made = max(1, end.completion_tokens)
        return {
            "cache_n": end.cached_tokens, "prompt_n": fresh, "prompt_ms": fresh * 0.5, "prompt_per_token_ms": 0.5,
            "prompt_per_second": 2000.0, "predicted_n": made, "predicted_ms": made * 2.0, "predicted_per_token_ms": 2.0,
            "predicted_per_second": 500.0,
        }  # fmt: skip

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": whole.text or (None if whole.calls else "")}
        if whole.calls:
            message["tool_calls"] = self.tool_calls(whole)
        return message

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        reason = self.finish(turn, whole.end, bool(whole.calls))
        return {
            "choices": [{"finish_reason": reason, "index": 0, "message": self.message(turn, whole)}],
            "created": turn.created, "model": turn.model, "system_fingerprint": "b1-0c1e570",
            "object": "chat.completion",
            "usage": self.usage(whole.end), "id": turn.id, "timings": self._timings(whole.end),
        }  # fmt: skip

    def chunk(self, turn: Turn, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
        more.pop("usage") if more.get("usage", 0) is None else None
        choices = [] if delta is None else [{"finish_reason": finish, "index": 0, "delta": delta}]
        head = {"choices": choices, "created": turn.created, "id": turn.id, "model": turn.model}
        return {**head, "system_fingerprint": "b1-0c1e570", "object": "chat.completion.chunk", **more}

    def first_delta(self, turn: Turn) -> dict[str, Any] | None:
        return {"role": "assistant", "content": None}

    def last_chunks(self, turn: Turn, end: End, has_calls: bool, nulls: dict[str, Any]) -> list[dict[str, Any]]:
        timings = self._timings(end)
        finish = self.finish(turn, end, has_calls)
        if turn.include_usage:
            return [self.chunk(turn, {}, finish), self.chunk(turn, None, usage=self.usage(end), timings=timings)]
        return [self.chunk(turn, {}, finish, timings=timings)]
