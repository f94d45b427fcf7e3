"""The bodies that Workers AI answers with: native, in its variants, and OpenAI-shaped.

Sources: https://developers.cloudflare.com/ai/models/@cf/meta/llama-4-scout-17b-16e-instruct/, the fixtures and notes of
https://github.com/cloudflare/ai (packages/workers-ai-provider) and captures by users of the service.
"""

from __future__ import annotations

import itertools
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

from ..prompt import Prompt
from ..script import CallArgs, CallStart, End, Piece, Text, Whole, collect
from .base import DONE, Event, new_id

__all__ = ["Shapes"]

_HEX = "0123456789abcdef"
_PAD = "abdefghijklmnoprstuvxyz1234567890"


class Shapes:
    """Builds the bodies. The quirks choose between variants that were all seen:

    padding: `p` on every native event but the last (on by default).   random-padding: base-36 instead of the alphabet.
    empty-stream-with-tools: a native stream with tools whose answer is text comes as hybrid events without the text.
    flat-tool-calls: native calls as `{name, arguments: {...}}` (no id).   null-response: `response: null` with calls.
    native-openai-in-envelope: `result` holds a chat.completion.   response-object: JSON mode gives an object.
    number-response: an answer that is a number is a JSON number.   incremental-usage: usage on every event.
    null-usage: the counts are null.   stray-native-event: OpenAI streams end with a native usage event.
    usage-chunk: usage in a chunk without choices, not on the finish chunk.   empty-choices: `choices: []`.
    role-chunk: an OpenAI stream begins with a chunk that holds the role only.
    """

    quirks: ClassVar[Mapping[str, bool]] = {
        "padding": True, "random-padding": False, "empty-stream-with-tools": False, "flat-tool-calls": False,
        "null-response": False, "native-openai-in-envelope": False, "response-object": False, "number-response": False,
        "incremental-usage": False, "null-usage": False, "stray-native-event": False, "usage-chunk": False,
        "empty-choices": False, "role-chunk": False,
    }  # fmt: skip

    def __init__(self, quirk: Callable[[str], bool]) -> None:
        self._on = quirk

    # ── parts ──

    def _usage(self, end: End) -> dict[str, Any]:
        if self._on("null-usage"):
            return {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
        usage: dict[str, Any] = {
            "prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens,
            "total_tokens": end.prompt_tokens + end.completion_tokens,
        }  # fmt: skip
        if end.cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": end.cached_tokens}
        return usage

    def _padding(self) -> dict[str, str]:
        if not self._on("padding"):
            return {}
        length = random.randint(1, 48)
        if self._on("random-padding"):
            return {"p": new_id(length, "0123456789abcdefghijklmnopqrstuvwxyz")}
        return {"p": "".join(itertools.islice(itertools.cycle(_PAD), length))}

    def _value(self, prompt: Prompt, text: str) -> Any:
        if self._on("response-object") and (prompt.schema is not None or prompt.json_object):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return self._number(text)

    def _number(self, text: str) -> Any:
        if self._on("number-response"):
            for read in (int, float):
                try:
                    return read(text)
                except ValueError:
                    continue
        return text

    def _calls(self, whole: Whole) -> list[dict[str, Any]]:
        if self._on("flat-tool-calls"):
            return [{"name": called.name, "arguments": _object(called.arguments)} for called in whole.calls]
        return _vllm_calls(whole)

    # ── native ──

    def native(self, model: str, prompt: Prompt, whole: Whole) -> dict[str, Any]:
        """`result` of a native answer."""
        if self._on("native-openai-in-envelope"):
            return self.openai(model, int(time.time()), prompt, whole)
        usage = self._usage(whole.end)
        if whole.calls:
            head: dict[str, Any] = {"response": whole.text} if whole.text else {}
            if not whole.text and (self._on("null-response") or self._on("flat-tool-calls")):
                head = {"response": None}
            return {**head, "tool_calls": self._calls(whole), "usage": usage}
        return {"response": self._value(prompt, whole.text), "tool_calls": [], "usage": usage}

    async def native_events(self, model: str, prompt: Prompt, pieces: AsyncIterator[Piece]) -> AsyncIterator[Event]:
        """Events of a native stream."""
        if prompt.tools and (self._on("empty-stream-with-tools") or self._on("flat-tool-calls")):
            whole = await collect(pieces)
            for event in self._hybrid(whole) if not whole.calls else self._flat(whole):
                yield event
            yield DONE
            return
        counted = {"prompt_tokens": prompt.tokens, "completion_tokens": 1, "total_tokens": prompt.tokens + 1}
        every: dict[str, Any] = {"usage": counted} if self._on("incremental-usage") else {}
        started = False
        async for piece in pieces:
            match piece:
                case Text(text=text):
                    yield {"response": self._number(text), "tool_calls": [], **every, **self._padding()}
                case CallStart(index=index, name=name):
                    if not started:
                        yield {"response": "", "tool_calls": [], **every, **self._padding()}
                        started = True
                    call_id = "chatcmpl-tool-" + uuid.uuid4().hex
                    part = {"id": call_id, "type": "function", "index": index, "function": {"name": name}}
                    yield {"tool_calls": [part], **every, **self._padding()}
                case CallArgs(index=index, text=text):
                    part = {"index": index, "function": {"arguments": text}}
                    yield {"tool_calls": [part], **every, **self._padding()}
                case End():
                    if started:
                        nothing = {"name": None, "arguments": ""}
                        part = {"id": None, "type": None, "index": 0, "function": nothing}
                        yield {"tool_calls": [part], **self._padding()}
                        yield {"finish_reason": piece.reason, **self._padding()}
                    else:
                        yield {"response": "", "tool_calls": [], **self._padding()}
                    yield {"response": "", "usage": self._usage(piece)}
        yield DONE

    def _hybrid(self, whole: Whole) -> list[Event]:
        """The stream with tools that bills tokens and brings no text; the same body without `stream` brings it."""
        if not self._on("empty-stream-with-tools"):
            text: Event = {"response": whole.text, "tool_calls": [], **self._padding()}
            return [text, {"response": "", "usage": self._usage(whole.end)}]
        usage = self._usage(whole.end)
        usage.pop("total_tokens")
        return [
            {"choices": [{"delta": {"content": "", "role": "assistant"}}], "response": "", "tool_calls": []},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"response": "", "usage": usage},
        ]

    def _flat(self, whole: Whole) -> list[Event]:
        first: Event = {"response": "", "tool_calls": self._calls(whole), **self._padding()}
        return [first, {"response": "", "usage": self._usage(whole.end)}]

    # ── OpenAI's shape ──

    def openai(self, model: str, now: int, prompt: Prompt, whole: Whole) -> dict[str, Any]:
        """A chat.completion."""
        content: Any = self._value(prompt, whole.text) if whole.text or not whole.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if whole.calls:
            message["tool_calls"] = _vllm_calls(whole)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": whole.end.reason}
        body: dict[str, Any] = {
            "id": f"id-{time.time_ns() // 1_000_000}", "object": "chat.completion", "created": now, "model": model,
            "choices": [] if self._on("empty-choices") else [choice], "usage": self._usage(whole.end),
        }  # fmt: skip
        if isinstance(content, dict):
            del body["usage"]  # recorded: an object as content comes without usage
        return body

    async def openai_events(
        self, model: str, now: int, prompt: Prompt, pieces: AsyncIterator[Piece]
    ) -> AsyncIterator[Event]:
        """Chunks: no role-only chunk before a text and no null finish reasons (recorded); usage on the finish chunk."""
        head = {
            "id": f"id-{time.time_ns() // 1_000_000}", "object": "chat.completion.chunk", "created": now,
            "model": model,
        }  # fmt: skip

        def one(delta: Mapping[str, Any], **more: Any) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, "delta": delta, **more}]}

        if self._on("role-chunk"):
            yield one({"role": "assistant", "content": ""}, finish_reason=None)
        async for piece in pieces:
            match piece:
                case Text(text=text):
                    yield one({"content": text})
                case CallStart(index=index, name=name):
                    if index == 0 and not self._on("role-chunk"):
                        yield one({"role": "assistant", "content": ""}, finish_reason=None)
                    call_id = "chatcmpl-tool-" + uuid.uuid4().hex
                    function = {"name": name, "arguments": ""}
                    part = {"index": index, "id": call_id, "type": "function", "function": function}
                    yield one({"tool_calls": [part]}, finish_reason=None)
                case CallArgs(index=index, text=text):
                    part = {"index": index, "function": {"arguments": text}}
                    yield one({"tool_calls": [part]}, finish_reason=None)
                case End():
                    usage = self._usage(piece)
                    last = one({}, finish_reason=piece.reason)
                    if self._on("usage-chunk"):
                        yield last
                        yield {**head, "choices": [], "usage": usage}
                    else:
                        yield {**last, "usage": usage}
                    if self._on("stray-native-event"):
                        yield {"response": "", "usage": usage}
        yield DONE

    # ── discovery ──

    def batch_usage(self, responses: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """The sum over a finished batch."""
        total = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        for response in responses:
            for key in total:
                total[key] += (response.get("result") or {}).get("usage", {}).get(key) or 0
        return total

    def model(self, name: str, context: int) -> dict[str, Any]:
        """One entry of `models/search`."""
        prices = [
            {"unit": "per M input tokens", "price": 0.27, "currency": "USD"},
            {"unit": "per M output tokens", "price": 0.85, "currency": "USD"},
        ]
        sees = "true" if "llama-4" in name else "false"
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "source": 1, "name": name,
            "description": "A 17 billion parameter model with 16 experts that is natively multimodal.",
            "task": {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, "task")), "name": "Text Generation", "description": ""},
            "created_at": "2025-04-05 20:25:56.137", "tags": [],
            "properties": [
                {"property_id": "context_window", "value": str(context)},
                {"property_id": "price", "value": prices},
                {"property_id": "function_calling", "value": "true"},
                {"property_id": "vision", "value": sees},
                {"property_id": "async_queue", "value": "true"},
            ],
        }  # fmt: skip

    def schema(self) -> dict[str, Any]:
        """The part of the model's schema that callers look at: its defaults."""
        numbers = {"temperature": (0.15, 0, 5), "top_k": (None, 1, 50), "seed": (None, 1, 9_999_999_999)}
        properties: dict[str, Any] = {
            name: {"type": "number", "default": default, "minimum": low, "maximum": high}
            for name, (default, low, high) in numbers.items()
        }
        properties["max_tokens"] = {"type": "integer", "default": 256}
        return {"input": {"type": "object", "oneOf": [{"properties": properties}]}, "output": {"type": "object"}}


def _vllm_calls(whole: Whole) -> list[dict[str, Any]]:
    return [
        {
            "id": "chatcmpl-tool-" + uuid.uuid4().hex, "type": "function",
            "function": {"name": called.name, "arguments": called.arguments},
        }
        for called in whole.calls
    ]  # fmt: skip


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
