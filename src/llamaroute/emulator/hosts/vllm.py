"""vLLM: OpenAI's format with nulls everywhere, its own error objects and tool ids.

Bodies follow recordings of vLLM 0.32 serving a Llama 4 (https://github.com/vllm-project/vllm,
vllm/entrypoints/openai/chat_completion/protocol.py). What no recording shows is marked "inferred".
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from ..images import from_data_url
from ..prompt import Prompt, read_prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole
from .base import DONE, Call, Event, new_id
from .openai import OpenAIShaped, RefusedError, Turn, content_parts, image_link

__all__ = ["Vllm"]

_HEX = "0123456789abcdef"


class Vllm(OpenAIShaped):
    """vLLM, under `/vllm/v1`. Llama 4 with `--enable-auto-tool-choice --tool-call-parser llama4_pythonic`."""

    name = "vllm"
    kind = "openai-compatible"
    default_key = "vllm-emulator-key"
    default_models = ("llama-4-scout", "llama-4-maverick")
    stream_type = "text/event-stream; charset=utf-8"
    known_quirks: ClassVar[Mapping[str, bool]] = {"auto-tools-refused": False}
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def headers(self, request: RecordedRequest) -> dict[str, str]:
        return {"server": "uvicorn", "vary": "Origin"}

    async def other_route(self, call: Call) -> Answer | None:
        request = call.request
        match request.method, request.path:
            case "GET", "/health" | "/ping":
                return Answer(200, {"server": "uvicorn"})
            case "GET", "/version":
                return json_answer(200, {"version": "0.32.0"}, self.headers(request))
            case "POST", "/tokenize":
                prompt = read_prompt(self.read_body(request))
                count = prompt.tokens
                answer = {"count": count, "max_model_len": self.context, "tokens": list(range(count))}
                return json_answer(200, {**answer, "token_strs": None}, self.headers(request))
        return None

    def model_item(self, model: str) -> dict[str, Any]:
        now = int(time.time())
        permission = {
            "id": "modelperm-" + new_id(16, _HEX), "object": "model_permission", "created": now,
            "allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True, "allow_search_indices": False,
            "allow_view": True, "allow_fine_tuning": False, "organization": "*", "group": None, "is_blocking": False,
        }  # fmt: skip
        return {
            "id": model, "object": "model", "created": now, "owned_by": "vllm", "root": "/repository", "parent": None,
            "max_model_len": self.context, "permission": [permission],
        }  # fmt: skip

    # ── errors: {"error": {..., "code": <int>}}; FastAPI's "detail" for routes; a string for the key ──

    def problem(
        self, request: RecordedRequest, status: int, message: str, kind: str | None,
        param: str | None = None, code: int | str | None = None,
    ) -> Answer:  # fmt: skip
        kinds = {
            404: "NotFoundError",
            429: "RateLimitError",
            500: "InternalServerError",
            503: "ServiceUnavailableError",
        }
        kind = kind or kinds.get(status, "BadRequestError" if status < 500 else "InternalServerError")
        error = {"message": message, "type": kind, "param": param, "code": status if code is None else code}
        return json_answer(status, {"error": error}, self.headers(request))

    messages: ClassVar[Mapping[int, tuple[str, str | None, str | None]]] = {
        400: ("Bad request", "BadRequestError", None),
        500: ("EngineCore encountered an issue. See stack trace (above) for the root cause.", None, None),
        503: ("The server is overloaded", "ServiceUnavailableError", None),
    }

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        return self.unauthorized(request) if status == 401 else super().error(request, status, message, code)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return [*super().stream_error(request, status, message, code), DONE]  # [DONE] after an error: inferred

    def not_found(self, request: RecordedRequest) -> Answer:
        return json_answer(404, {"detail": "Not Found"}, self.headers(request))

    def wrong_method(self, request: RecordedRequest) -> Answer:
        allow = "POST" if self.is_inference(request) else "GET"
        return json_answer(405, {"detail": "Method Not Allowed"}, {**self.headers(request), "allow": allow})

    def unauthorized(self, request: RecordedRequest) -> Answer:
        return json_answer(401, {"error": "Unauthorized"}, {"server": "uvicorn"})

    def unknown_model(self, request: RecordedRequest, model: str) -> Answer:
        text = f"The model `{model}` does not exist. Valid aliases: {', '.join(self.models)}."
        return self.problem(request, 404, text, None, "model")

    def bad_json(self, request: RecordedRequest, error: Exception) -> Answer:
        at = error.pos if isinstance(error, json.JSONDecodeError) else 0
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        shown = f"'<dict of 0 items>', 'ctx': {{'error': '{why}'}}"
        return self._invalid(request, "json_invalid", str(at), "JSON decode error", shown)

    def _invalid(self, request: RecordedRequest, kind: str, where: str, text: str, shown: str) -> Answer:
        found = f"{{'type': '{kind}', 'loc': 'body.{where}', 'msg': '{text}', 'input': {shown}}}"
        message = f"1 validation error:\n  {found}"
        return self.problem(request, 400, message, "Bad Request", f"body.{where}")

    def wrong_type(self, request: RecordedRequest, name: str, value: Any, wanted: str) -> Answer:
        kinds = {"decimal": ("float", "number"), "array": ("list", "list"), "integer": ("int", "integer")}
        kind, said = kinds.get(wanted, (wanted, wanted))
        if isinstance(value, str) and wanted in ("decimal", "integer"):
            text = f"Input should be a valid {said}, unable to parse string as a {said}"
            return self._invalid(request, f"{kind}_parsing", name, text, f"'{value}'")
        return self._invalid(request, f"{kind}_type", name, f"Input should be a valid {said}", repr(value))

    # ── the request ──

    def served_model(self, request: RecordedRequest, body: Mapping[str, Any]) -> str:
        if "messages" not in body:
            shown = f"'<dict of {len(body)} items>'"
            raise RefusedError(self._invalid(request, "missing", "messages", "Field required", shown))
        return self.models[0] if body.get("model") is None else super().served_model(request, body)

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        if not body.get("messages"):
            text = "Cannot apply chat template to an empty conversation. Provide at least one message."
            raise RefusedError(self.problem(request, 400, text, None))
        rules: dict[str, tuple[Callable[[float], bool], str]] = {
            "temperature": (lambda v: v >= 0, "must be non-negative"),
            "top_p": (lambda v: 0 < v <= 1, "must be in (0, 1]"),
            "frequency_penalty": (lambda v: -2 <= v <= 2, "must be in [-2, 2]"),
            "presence_penalty": (lambda v: -2 <= v <= 2, "must be in [-2, 2]"),
            "max_tokens": (lambda v: v >= 1, "must be at least 1"),
        }
        for name, (holds, text) in rules.items():
            value = body.get(name)
            if isinstance(value, int | float) and not holds(value):
                raise RefusedError(self.problem(
                    request, 400, f"{name} {text}, got {value}. (parameter={name}, value={value})", None, name
                ))  # fmt: skip
        if body.get("tools") and body.get("tool_choice", "auto") == "auto" and self.quirk("auto-tools-refused"):
            text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            raise RefusedError(self.problem(request, 400, text, None))
        self._check_parts(request, body)
        room = self.context - (prompt.max_tokens or 1)
        if prompt.tokens > self.context:
            text = (
                f"This model's maximum context length is {self.context} tokens. However, your prompt contains at least "
                f"{self.context + 1} input tokens, which exceeds this limit even without any output tokens. Please "
                f"reduce the length of the input prompt. (parameter=input_tokens, value={self.context + 1})"
            )
            raise RefusedError(self.problem(request, 400, text, None, "input_tokens"))
        if prompt.tokens > room:
            text = (
                f"This model's maximum context length is {self.context} tokens. However, you requested "
                f"{prompt.max_tokens} output tokens and your prompt contains {prompt.tokens} input tokens. Please "
                f"reduce the length of the input prompt or the number of requested output tokens. "
                f"(parameter=input_tokens, value={prompt.tokens})"
            )
            raise RefusedError(self.problem(request, 400, text, None, "input_tokens"))

    def _check_parts(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        for part in content_parts(body):
            kind = part.get("type")
            if kind == "input_audio":
                text = "At most 0 audio(s) may be provided in one prompt. (parameter=audio)"
                raise RefusedError(self.problem(request, 400, text, None, "audio"))
            if kind not in ("text", "image_url"):
                text = (
                    "8 validation errors for ValidatorIterator\n0.ChatCompletionContentPartTextParam.text\n  Field "
                    f"required [type=missing, input_value={dict(part)!r}, input_type=dict]"
                )
                raise RefusedError(self.problem(request, 400, text, None))
            url = image_link(part) if kind == "image_url" else ""
            if url.startswith("data:") and ((seen := from_data_url(url)) is None or not seen.width):
                text = "cannot identify image file <_io.BytesIO object at 0x7f0000000000>"  # inferred
                raise RefusedError(self.problem(request, 400, text, None))

    # ── the answer ──

    def completion_id(self) -> str:
        return "chatcmpl-" + new_id(16, _HEX)

    def tool_id(self, index: int) -> str:
        return "chatcmpl-tool-" + new_id(16, _HEX)

    def finish(self, turn: Turn, end: End, has_calls: bool) -> str:
        # A named tool choice ends with "stop", unlike "auto" and "required".
        return (
            "stop" if end.reason == "tool_calls" and isinstance(turn.body.get("tool_choice"), Mapping) else end.reason
        )

    def usage(self, end: End) -> dict[str, Any]:
        total = end.prompt_tokens + end.completion_tokens
        counts = {"prompt_tokens": end.prompt_tokens, "total_tokens": total, "completion_tokens": end.completion_tokens}
        return {**counts, "prompt_tokens_details": None, "completion_tokens_details": None}

    def message(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        named = isinstance(turn.body.get("tool_choice"), Mapping)
        content = whole.text or (None if whole.calls and not named else "")
        message: dict[str, Any] = {
            "role": "assistant", "content": content, "refusal": None, "annotations": None, "audio": None,
            "function_call": None,
        }  # fmt: skip
        if whole.calls:
            message["tool_calls"] = self.tool_calls(whole)
        return {**message, "reasoning": None}

    def choice(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        choice = super().choice(turn, whole)
        return {**choice, "stop_reason": whole.end.stop_sequence, "token_ids": None, "routed_experts": None}

    def completion(self, turn: Turn, whole: Whole) -> dict[str, Any]:
        return {
            "id": turn.id, "object": "chat.completion", "created": turn.created, "model": turn.model,
            "choices": [self.choice(turn, whole)], "service_tier": None, "system_fingerprint": "vllm-0.32.0-14132742",
            "usage": self.usage(whole.end), "prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None,
            "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None,
        }  # fmt: skip

    # ── the stream ──

    async def events(self, turn: Turn, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        options = turn.body.get("stream_options")
        every = isinstance(options, Mapping) and options.get("continuous_usage_stats") is True
        constrained = turn.body.get("tool_choice", "auto") not in ("auto", "none", None)
        head = {"id": turn.id, "object": "chat.completion.chunk", "created": turn.created, "model": turn.model}
        produced = 0

        def counts() -> dict[str, Any]:
            if not every:
                return {}
            usage = self.usage(End("", turn.prompt.tokens, produced))
            usage.pop("prompt_tokens_details")
            return {"usage": usage}

        def one(delta: dict[str, Any], finish: End | None = None, has_calls: bool = False) -> dict[str, Any]:
            choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            if finish is not None:
                reason = self.finish(turn, finish, has_calls)
                choice |= {"finish_reason": reason, "stop_reason": finish.stop_sequence}
            return {**head, "choices": [{**choice, "token_ids": None}], **counts()}

        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield {**head, "choices": [first], **counts(), "prompt_token_ids": None, "prompt_text": None}
        text: str | None = None  # held back: the last text chunk carries the finish reason
        opened: dict[str, Any] | None = None  # a call's first chunk already holds a piece of its arguments
        ids: list[str] = []
        async for piece in pieces:
            produced += 1
            if opened is not None and not isinstance(piece, CallArgs):
                yield one({"tool_calls": [opened]})
                opened = None
            match piece:
                case Text():
                    if text is not None:
                        yield one({"content": text})
                    text = piece.text
                case CallStart(index=index, name=name):
                    if text is not None:
                        yield one({"content": text})
                        text = None
                    ids.append(self.tool_id(index))
                    function = {"name": name, "arguments": ""}
                    opened = {"id": ids[index], "type": "function", "index": index, "function": function}
                case CallArgs(index=index, text=part):
                    if opened is not None:
                        opened["function"]["arguments"] = part
                        yield one({"tool_calls": [opened]})
                        opened = None
                    elif constrained:
                        yield one({"tool_calls": [{"index": index, "function": {"name": None, "arguments": part}}]})
                    else:
                        yield one({"tool_calls": [{"id": None, "index": index, "function": {"arguments": part}}]})
                case End():
                    produced = piece.completion_tokens
                    if ids and not constrained:
                        yield one({"content": ""})
                    delta = {} if ids and constrained else {"content": text or ""}
                    last = one(delta, piece, bool(ids))
                    if not turn.include_usage:  # the very last chunk tells the server's version
                        last["system_fingerprint"] = "vllm-0.32.0-14132742"
                    yield last
                    if turn.include_usage:
                        usage = self.usage(piece)
                        total = {key: usage[key] for key in ("prompt_tokens", "total_tokens", "completion_tokens")}
                        tail = {"choices": [], "usage": total, "system_fingerprint": "vllm-0.32.0-14132742"}
                        yield {**head, **tail}
        yield DONE
