"""Hugging Face's text-generation-inference: OpenAI's route with stricter and different rules.

Rules are read from the router's source, https://github.com/huggingface/text-generation-inference (router/src/*.rs,
3.3), the shapes from its own integration snapshots.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole, tokens
from .base import DONE, Call, Event
from .openai import SCOUT, OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["Tgi"]

_FINGERPRINT = "3.3.7-native"
_TYPES = {422: "validation", 424: "generation", 429: "overloaded", 500: "incomplete_generation", 503: "healthcheck"}


class Tgi(OpenAIShaped):
    """TGI, under `/tgi/v1`."""

    name = "tgi"
    kind = "openai-compatible"
    default_key = "tgi-emulator-key"
    default_models = (SCOUT,)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def provider(self, base_url: str) -> dict[str, Any]:
        return {**super().provider(base_url), "dialect": "tgi"}

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        vary = "origin, access-control-request-method, access-control-request-headers"
        return {"access-control-allow-origin": "*", "vary": vary}

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        if request.method == "GET" and request.path in ("/health", "/ping"):
            return Answer(200, self.headers(request))
        if (request.method, request.path) == ("GET", "/info"):
            if not self.bearer_ok(request):
                return self.unauthorized(request)
            info = {
                "model_id": self.models[0], "model_sha": None, "model_pipeline_tag": "image-text-to-text",
                "max_concurrent_requests": 128, "max_stop_sequences": 4, "max_input_tokens": self.context - 1,
                "max_total_tokens": self.context, "version": "3.3.7", "router": "text-generation-router",
            }  # fmt: skip
            return json_answer(200, info, self.headers(request))
        if (request.method, request.path) == ("POST", "/tokenize"):
            text = str(self.read_body(request).get("inputs", ""))
            found = [{"id": at, "text": part} for at, part in enumerate(tokens(text))]
            return json_answer(200, found, self.headers(request))
        return None

    # ── errors: {"error", "error_type"}; nothing at all for a wrong key; plain text for a body that does not parse ──

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None,
    ) -> Answer:  # fmt: skip
        kind = kind or _TYPES.get(status, "validation" if status < 500 else "incomplete_generation")
        return json_answer(status, {"error": message, "error_type": kind}, self.headers(request))

    messages: ClassVar[Mapping[int, tuple[str, str | None, str | None]]] = {
        422: ("Input validation error: invalid request", None, None),
        424: ("Request failed during generation: Server error: CUDA out of memory", None, None),
        429: ("Model is overloaded", None, None),
        500: ("Incomplete generation", None, None),
        503: ("unhealthy", None, None),
    }

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        return self.unauthorized(request) if status == 401 else super().error(request, status, message, code)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        text = message or "Request failed during generation: Server error: CUDA out of memory"
        return [{"error": {"message": text, "http_status_code": 424 if status == 500 else status}}, DONE]

    def unauthorized(self, request: RecordedRequest) -> Answer:
        return Answer(401, self.headers(request))

    def bearer_ok(self, request: RecordedRequest) -> bool:
        if self.key is None:
            return True
        return request.headers.get("authorization", "").lower() == f"bearer {self.key.lower()}"

    def not_found(self, request: RecordedRequest) -> Answer:
        return Answer(404, self.headers(request))

    def wrong_method(self, request: RecordedRequest) -> Answer:
        return Answer(405, {**self.headers(request), "allow": "POST" if self.is_inference(request) else "GET,HEAD"})

    def _unparsable(self, request: RecordedRequest, status: int, text: str) -> Answer:
        headers = {**self.headers(request), "content-type": "text/plain; charset=utf-8"}
        return Answer(status, headers, text.encode())

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        at = (
            f"line {error.lineno} column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "line 1 column 1"
        )
        text = f"Failed to parse the request body as JSON: EOF while parsing a value at {at}"  # axum's words: inferred
        return self._unparsable(request, 400, text)

    def wrong_type(self, request: RecordedRequest, name: str, value: Any, wanted: str) -> Answer:
        serde = {"decimal": "f32", "integer": "u32", "array": "a sequence", "object": "struct GrammarType"}
        got = f"string {json.dumps(value)}" if isinstance(value, str) else json.dumps(value)
        text = (
            f"Failed to deserialize the JSON body into the target type: {name}: invalid type: {got}, expected "
            f"{serde.get(wanted, wanted)} at line 1 column {len(request.body)}"
        )
        return self._unparsable(request, 422, text)

    def _invalid(self, request: RecordedRequest, text: str, kind: str = "validation") -> None:
        raise RefusedError(self.problem(request, 422, f"Input validation error: {text}", kind))

    # ── the request ──

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        asked = body.get("model")
        return self.models[0] if asked in (None, "tgi") else str(asked)

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        messages = body.get("messages")
        if messages is None:
            text = (
                "Failed to deserialize the JSON body into the target type: missing field `messages` at line 1 column "
            )
            raise RefusedError(self._unparsable(request, 422, text + str(len(request.body))))
        if isinstance(body.get("stop"), str):
            raise RefusedError(self.wrong_type(request, "stop", body["stop"], "array"))
        self._check_format(request, body)
        if len(body.get("stop") or ()) > 4:
            given = len(body["stop"])
            self._invalid(request, f"`stop` supports up to 4 stop sequences. Given: {given}")
        top_p = body.get("top_p")
        if top_p is not None and not 0 < top_p < 1:
            self._invalid(request, "`top_p` must be > 0.0 and < 1.0")
        temperature = body.get("temperature")
        if temperature is not None and temperature < 0:
            self._invalid(request, "`temperature` must be strictly positive")
        if (penalty := body.get("frequency_penalty")) is not None and not -2 <= penalty <= 2:
            self._invalid(request, "`frequency_penalty` must be >= -2.0 and <= 2.0")
        # presence_penalty is really a repetition penalty, shifted by two: only its lower end is refused
        if (penalty := body.get("presence_penalty")) is not None and penalty + 2.0 <= 0:
            self._invalid(request, "`repetition_penalty` must be strictly positive")
        if body.get("max_tokens", body.get("max_completion_tokens")) == 0:
            self._invalid(request, "`max_new_tokens` must be strictly positive")
        for part in content_parts(body):
            self._check_image(request, part)
        asked = min(prompt.max_tokens or 1024, 1024)
        if prompt.tokens + asked > self.context:
            text = (
                f"`inputs` tokens + `max_new_tokens` must be <= {self.context}. Given: {prompt.tokens} `inputs` tokens "
            )
            self._invalid(request, f"{text}and {asked} `max_new_tokens`")

    def _check_format(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        form = body.get("response_format")
        if form is None:
            return
        if not isinstance(form, Mapping) or form.get("type") not in ("json", "json_object", "json_schema", "regex"):
            shown = form.get("type") if isinstance(form, Mapping) else form
            text = f"unknown variant `{shown}`, expected one of `json`, `json_object`, `json_schema`, `regex`"
            raise RefusedError(self._unparsable(
                request, 422, f"Failed to deserialize the JSON body into the target type: response_format.type: {text}"
            ))  # fmt: skip
        if "value" not in form:
            text = "response_format: missing field `value`"
            raise RefusedError(self._unparsable(
                request, 422, f"Failed to deserialize the JSON body into the target type: {text}"
            ))  # fmt: skip
        if body.get("tools"):
            self._invalid(request, "Grammar and tools are mutually exclusive", "tool_error")

    def _check_image(self, request: RecordedRequest, part: Mapping[str, Any]) -> None:
        url = image_link(part) if part.get("type") == "image_url" else ""
        if not url.startswith("data:"):
            return
        if url.partition(",")[0].count(";") != 1:
            self._invalid(request, "invalid image data: exactly one ';' expected")
        if (seen := from_data_url(url)) is None or not seen.width:
            self._invalid(request, "invalid image: The image format could not be determined")

    # ── the answer ──

    def completion_id(self) -> str:
        return ""

    def tool_id(self, index: int) -> str:
        return str(index)

    def finish(self, turn: Turn, end: End, has_calls: bool) -> str:
        if has_calls and end.reason == "tool_calls":
            return "stop"
        return "stop_sequence" if end.stop_sequence is not None else end.reason

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        return {
            "prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens, "total_tokens": total
        }  # fmt: skip

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant"}
        if whole.calls:  # at most one, and no content beside it
            first = whole.calls[0]
            function = {"description": None, "name": first.name, "arguments": first.arguments}
            message["tool_calls"] = [{"id": self.tool_id(0), "type": "function", "function": function}]
        else:
            message["content"] = whole.text
        reason = self.finish(turn, whole.end, bool(whole.calls))
        return {
            "object": "chat.completion", "id": "", "created": turn.created, "model": turn.model,
            "system_fingerprint": _FINGERPRINT,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
            "usage": self.usage(whole.end),
        }  # fmt: skip

    def answer_headers(self, request: RecordedRequest, turn: Turn, whole: Whole) -> dict[str, str]:
        made, asked = whole.end.completion_tokens, whole.end.prompt_tokens
        return {
            **self.headers(request), "x-compute-type": "1-nvidia-h200", "x-compute-time": "0.25",
            "x-compute-characters": str(len(request.body)), "x-total-time": "250", "x-validation-time": "1",
            "x-queue-time": "0", "x-inference-time": "249", "x-time-per-token": str(249 // max(1, made)),
            "x-prompt-tokens": str(asked), "x-generated-tokens": str(made),
        }  # fmt: skip

    def stream_headers(self, request: RecordedRequest) -> dict[str, str]:
        return {
            **self.headers(request), "x-compute-type": "1-nvidia-h200", "x-accel-buffering": "no",
            "cache-control": "no-cache",
        }  # fmt: skip

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        head = {
            "object": "chat.completion.chunk", "id": "", "created": turn.created, "model": turn.model,
            "system_fingerprint": _FINGERPRINT,
        }  # fmt: skip

        def one(more: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
            delta = {"role": "assistant", **more}
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {**head, "choices": [choice], "usage": None}

        calls = 0
        name: str | None = None
        async for piece in pieces:
            match piece:
                case Text(text=text) if not calls:
                    yield one({"content": text})
                case CallStart():
                    calls += 1
                    name = piece.name if calls == 1 else None
                case CallArgs(index=0, text=text):
                    if name is not None:  # the first chunk carries the name and the opening brace
                        yield one(self._call(text[:1], name))
                        name, text = None, text[1:]
                    if text:
                        yield one(self._call(text, None))
                case End():
                    if not calls:  # recorded: a stream of a tool call has no finish reason at all
                        yield one({"content": ""}, self.finish(turn, piece, False))
                    if turn.include_usage:
                        yield {**head, "choices": [], "usage": self.usage(piece)}
        yield DONE

    @staticmethod
    def _call(text: str, name: str | None) -> dict[str, Any]:
        function = {"name": name, "arguments": text}
        return {"tool_calls": [{"index": 0, "id": "0", "type": "function", "function": function}]}
