"""Ollama's OpenAI route: a tool call in one chunk, the role on every chunk, plain text for unknown routes.

Bodies follow recordings (https://github.com/ollama/ollama openai/openai.go); error texts are from that source,
inferred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole
from .base import DONE, Call, Event, new_id
from .openai import OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["Ollama"]

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"


class Ollama(OpenAIShaped):
    """Ollama's OpenAI route, under `/ollama/v1`; takes any key."""

    name = "ollama"
    kind = "openai-compatible"
    default_models = ("llama4:scout", "llama4:maverick", "llama4", "llama-4-scout")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        match request.method, request.path:
            case "GET", "/":
                return Answer(200, {"content-type": "text/plain; charset=utf-8"}, b"Ollama is running")
            case "GET", "/api/version":
                return json_answer(200, {"version": "0.30.0"})
            case "GET", "/api/tags":
                return json_answer(200, {"models": [{"name": model, "model": model} for model in self.models]})
        return None

    def model_item(self, model: str) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": 1743811200, "owned_by": "library"}

    def not_found(self, request: RecordedRequest) -> Answer:
        return Answer(404, {"content-type": "text/plain"}, b"404 page not found")

    def wrong_method(self, request: RecordedRequest) -> Answer:
        return Answer(405, {"content-type": "text/plain"}, b"405 method not allowed")

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        return self.problem(request, 404, f"model '{model}' not found", "not_found_error")

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        return self.problem(request, 400, "unexpected EOF", "invalid_request_error")

    def wrong_type(self, request: RecordedRequest, name: str, value: Any, wanted: str) -> Answer:
        go = {"decimal": "float64", "integer": "int", "array": "[]openai.Message", "boolean": "bool"}.get(
            wanted, wanted
        )
        field = f"Go struct field ChatCompletionRequest.{name} of type {go}"
        text = f"json: cannot unmarshal {type(value).__name__} into {field}"
        return self.problem(request, 400, text, "invalid_request_error")

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        if not body.get("messages"):
            text = "[] is too short - 'messages'"
            raise RefusedError(self.problem(request, 400, text, "invalid_request_error"))
        for part in content_parts(body):
            url = image_link(part) if part.get("type") == "image_url" else None
            if url is not None and from_data_url(url) is None:
                raise RefusedError(self.problem(request, 400, "invalid image input", "invalid_request_error"))

    def completion_id(self) -> str:
        return "chatcmpl-" + new_id(3, "0123456789")

    def tool_id(self, index: int) -> str:
        return "call_" + new_id(8, _LOWER)

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        return {
            "prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens, "total_tokens": total
        }  # fmt: skip

    def tool_calls(self, whole: Whole) -> list[dict[str, Any]]:
        return [
            {
                "id": self.tool_id(index), "index": index, "type": "function",
                "function": {"name": called.name, "arguments": called.arguments},
            }
            for index, called in enumerate(whole.calls)
        ]  # fmt: skip

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": whole.text}
        if whole.calls:
            message["tool_calls"] = self.tool_calls(whole)
        reason = self.finish(turn, whole.end, bool(whole.calls))
        return {
            "id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model,
            "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": self.usage(whole.end),
        }  # fmt: skip

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        head = {
            "id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model,
            "system_fingerprint": "fp_ollama",
        }  # fmt: skip

        def one(more: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
            delta = {"role": "assistant", "content": "", **more}
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

        calls: list[dict[str, Any]] = []  # a call comes whole, in one chunk
        async for piece in pieces:
            match piece:
                case Text(text=text):
                    yield one({"content": text})
                case CallStart(index=index, name=name):
                    function = {"name": name, "arguments": ""}
                    calls.append({"index": index, "id": self.tool_id(index), "type": "function", "function": function})
                case CallArgs(index=index, text=text):
                    calls[index]["function"]["arguments"] += text
                case End():
                    for called in calls:
                        yield one({"tool_calls": [called]})
                    yield one({}, self.finish(turn, piece, bool(calls)))
                    if turn.include_usage:
                        yield {**head, "choices": [], "usage": self.usage(piece)}
        yield DONE
